"""Names of what frozen models make of pictures. Apart, so that data code need not import the models."""

# Target spaces that a frozen model makes of the stimuli's images: model and output.
SPACES = {"clip": ("clip", "encode_image")}

# Networks that metrics look through and nothing else does: published ones, whatever the profile of the methods.
MEASURES = ("alexnet", "inception", "effnet-b1-v1", "effnet-b1-v2", "swav", "clip-l14", "lpips")


def _seen(path: str, effnet: str, *more: tuple) -> dict[str, tuple]:
    """Return the features of a protocol: model, output of a picture, options."""
    rows = (
        ("alexnet2", "alexnet", "features.4"),
        ("alexnet5", "alexnet", "features.11"),
        ("inception", "inception", "avgpool"),
        ("effnet_b", effnet, "avgpool"),
        ("swav", "swav", "avgpool"),
        *more,
    )
    suffix = "" if path == "bench-1" else f"[{path}]"
    return {f"{name}{suffix}": (model, "features", {"layer": layer, "path": path}) for name, model, layer in rows}


_CLIP = ("clip", "clip-l14", "")

# What metrics compare instead of pixels: model, output of a picture and its options.
FEATURES = {
    "clip": ("clip", "encode_image", {}),
    "judge": ("judge", "features", {}),
    "judge-read": ("judge", "read", {}),
    "lpips": ("lpips", "features", {}),
    **_seen("bench-1", "effnet-b1-v2"),
    **_seen("brain-diffuser", "effnet-b1-v1", _CLIP),
    **_seen("mindeye", "effnet-b1-v2", _CLIP),
}
