"""Training of the ``mini`` models, ``python -m benchmark.pretrained.training``, on scenes that no dataset shows."""
