"""Names of what frozen models make of pictures. Apart, so that data code need not import the models."""

# Target spaces that a frozen model makes of the stimuli's images: model and output.
SPACES = {"clip": ("clip", "encode_image")}

# What metrics compare instead of pixels: model and output of a picture.
FEATURES = {"clip": ("clip", "encode_image"), "judge": ("judge", "features"), "judge-read": ("judge", "read")}
