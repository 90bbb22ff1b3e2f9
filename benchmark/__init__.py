"""fmri-bench: fixed splits, one metrics module and generated leaderboards for fMRI decoding.

The names in ``EXPORTS`` are the public ones; they are imported when first used.
"""

import importlib

__version__ = "0.1.0"

EXPORTS = {
    "Method": "benchmark.api",
    "Reconstructor": "benchmark.api",
    "TrainSet": "benchmark.api",
    "Responses": "benchmark.api",
    "Stimuli": "benchmark.api",
    "Predictions": "benchmark.api",
    "DatasetInfo": "benchmark.api",
    "BenchError": "benchmark.errors",
}


def __getattr__(name: str):
    if name in EXPORTS:
        return getattr(importlib.import_module(EXPORTS[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
