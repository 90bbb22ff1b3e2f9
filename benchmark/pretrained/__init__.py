"""Frozen pretrained models: one code path, two profiles (``mini`` ships with the package, ``full`` is published)."""
