"""Records of the metrics that look through networks, and of the published protocols.

A metric is a name and a protocol: the same name in another protocol is another column. The arrays come from
``benchmark.pretrained.perceptual``, which has each protocol's resize path and weights; here stands what people read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from metrics import identification, images, protocols, vectors
from metrics.base import Metric

PIXEL_TIES = "correlation with a picture of one constant value is 0, counted in the record"
_STRICT = "a tie counts as a failure (correlations within 1e-12 tie); correlation with a vector of zero variance is 0"
_DISTANCE = "distance to features of zero variance is 1, counted in the record"
_BENCH_PATH = "reconstruction at the stimuli's size, then shorter side to {size} (bicubic, antialiased) and centre crop"


@dataclass(frozen=True)
class Network:
    """A network as metrics name it: what it is, and its weights and side in pixels by protocol."""

    what: str
    weights: Mapping[str, str]
    sides: Mapping[str, int]


def _sides(bench: int, mindeye: int) -> dict[str, int]:
    return {"bench-1": bench, "brain-diffuser": 224, "mindeye": mindeye}


def _same(weights: str) -> dict[str, str]:
    return dict.fromkeys(("bench-1", "brain-diffuser", "mindeye"), weights)


NETWORKS = {
    "alexnet2": Network(
        "AlexNet's ReLU after the second convolution (torchvision, features[4])",
        _same("IMAGENET1K_V1"),
        _sides(224, 256),
    ),
    "alexnet5": Network(
        "AlexNet's ReLU after the fifth convolution (torchvision, features[11])",
        _same("IMAGENET1K_V1"),
        _sides(224, 256),
    ),
    "inception": Network(
        "Inception v3's average pooling (torchvision, 2048 values)", _same("IMAGENET1K_V1"), _sides(299, 342)
    ),
    "clip": Network("CLIP ViT-L/14's image embedding (768 values, float32)", _same("OpenAI"), _sides(224, 224)),
    "effnet_b": Network(
        "EfficientNet-B1's average pooling (torchvision, 1280 values)",
        {"bench-1": "IMAGENET1K_V2", "brain-diffuser": "IMAGENET1K_V1", "mindeye": "IMAGENET1K_V2"},
        _sides(240, 255),
    ),
    "swav": Network(
        "the average pooling of SwAV's ResNet-50 (2048 values)", _same("swav_800ep_pretrain"), _sides(224, 224)
    ),
}
PATHS = {
    "bench-1": _BENCH_PATH,
    "brain-diffuser": "PIL bilinear resize of the 8-bit picture to {size} x {size}",
    "mindeye": "float pictures, bilinear without antialiasing to 256 x 256, then so to {size} x {size}",
}
SOURCES = {
    "bench-1": "this benchmark's choice of preprocessing, after ",
    "brain-diffuser": "public evaluation scripts of ",
    "mindeye": "public evaluation script of Scotti et al. 2023, arXiv:2305.18274 (MindEye), after ",
}
_BRAIN_DIFFUSER = "Ozcelik & VanRullen 2023, doi:10.1038/s41598-023-42891-8"
_TWO_WAY = ("alexnet2", "alexnet5", "inception", "clip")
_DISTANCES = ("effnet_b", "swav")


def records(two_way: Metric, cosine_centred: Metric, note: str) -> tuple[Metric, ...]:
    """Return the records.

    Parameters
    ----------
    two_way, cosine_centred : Metric
        What theirs are made of.
    note : str
        The caveat of columns that look through the network that methods are guided by.
    """
    found = [_lpips(), _centred(cosine_centred, note)]
    for protocol in PATHS:
        # the product's own CLIP columns stand in the main table: their network has the profile's size
        names = [name for name in _TWO_WAY if (name, protocol) != ("clip", "bench-1")]
        found += [_two_way(two_way, name, protocol, note) for name in names]
        found += [_distance(name, protocol) for name in _DISTANCES]
    found += [_pixcorr("brain-diffuser"), _pixcorr("mindeye"), _ssim("brain-diffuser"), _ssim("mindeye")]
    return tuple(found)


def _named(name: str, protocol: str) -> str:
    return name if protocol == "bench-1" else f"{name}[{protocol}]"


def _seen(name: str, protocol: str) -> str:
    network = NETWORKS[name]
    path = PATHS[protocol].format(size=network.sides[protocol])
    return f"{network.what}, weights {network.weights[protocol]}; {path}."


def _two_way(base: Metric, name: str, protocol: str, note: str) -> Metric:
    own = protocol == "bench-1"
    return replace(
        base,
        name=_named(f"{name}_two_way", protocol),
        function=base.function if own else identification.two_way_strict,
        features=_named(name, protocol),
        protocol=protocol,
        ties=base.ties if own else _STRICT,
        note=note if name == "clip" else "",
        definition=f"Two-way identification of the reconstruction by {_seen(name, protocol)}",
        source=SOURCES[protocol] + _BRAIN_DIFFUSER,
    )


def _distance(name: str, protocol: str) -> Metric:
    return Metric(
        name=_named(name, protocol),
        version=1,
        function=vectors.correlation_distance,
        kind="vectors",
        lower=0,
        upper=2,
        higher_is_better=False,
        ties=_DISTANCE,
        degenerate=identification.zero_variance_items,
        features=_named(name, protocol),
        protocol=protocol,
        definition=f"1 - Pearson correlation of picture and reconstruction in {_seen(name, protocol)}",
        source=SOURCES[protocol] + _BRAIN_DIFFUSER,
    )


def _lpips() -> Metric:
    return Metric(
        name="lpips",
        version=1,
        function=vectors.squared_distance,
        kind="vectors",
        lower=0,
        upper=inf,
        higher_is_better=False,
        features="lpips",
        definition="LPIPS version 0.1 on AlexNet: weighted squared distance of unit-normalised activations after the "
        "five ReLUs, mean over positions; reconstruction at the stimuli's size, then shorter side to 128 (bicubic, "
        "antialiased) and centre crop.",
        source="Zhang et al. 2018, arXiv:1801.03924, with this benchmark's choice of preprocessing",
    )


def _centred(base: Metric, note: str) -> Metric:
    return replace(
        base,
        name="clip_similarity_centred",
        features="clip",
        note=note,
        definition="Cosine similarity of CLIP's pooled image embeddings of picture and reconstruction after the mean "
        "over the fold's true test pictures is taken from both: CLIP's large common component does not count.",
    )


def _pixcorr(protocol: str) -> Metric:
    function = protocols.pixcorr_brain_diffuser if protocol == "brain-diffuser" else protocols.pixcorr_mindeye
    return Metric(
        name=_named("pixcorr", protocol),
        version=1 if protocol == "brain-diffuser" else 2,  # 0 for constant pictures, where it was of rounding
        function=function,
        kind="images",
        lower=-1,
        upper=1,
        higher_is_better=True,
        ties=PIXEL_TIES,
        degenerate=images.constant_pictures,
        protocol=protocol,
        definition=f"Pearson correlation over all pixel values (541,875 of a colour picture): {_SIZES[protocol]}.",
        source=SOURCES[protocol] + _BRAIN_DIFFUSER,
    )


def _ssim(protocol: str) -> Metric:
    columns = protocol == "brain-diffuser"
    window = (
        "one-dimensional window down each pixel column, as scikit-image 0.17 computes what the script asks for"
        if columns
        else "two-dimensional window"
    )
    return Metric(
        name=_named("ssim", protocol),
        version=1,
        function=protocols.ssim_brain_diffuser if columns else protocols.ssim_mindeye,
        kind="images",
        lower=-1,
        upper=1,
        higher_is_better=True,
        protocol=protocol,
        definition=f"Structural similarity of the grey pictures, {window} (Gaussian, sigma 1.5, 11 taps, population "
        f"covariance, data range 1): {_SIZES[protocol]}.",
        source=SOURCES[protocol] + _BRAIN_DIFFUSER,
    )


_SIZES = {
    "brain-diffuser": "8-bit pictures of 425 x 425 pixels (PIL bicubic resize where they are of another size)",
    "mindeye": "float pictures, bilinear without antialiasing to 256 x 256, then so to 425 x 425",
}
