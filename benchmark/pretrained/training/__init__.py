"""Training of the ``mini`` models on scenes that no built-in dataset shows; see ``python -m benchmark.pretrained.training``."""
