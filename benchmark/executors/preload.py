"""What the forkserver imports once, so that a run's process starts with it.

Concrete classes, not packages: lazily importing packages would pay in every child. Importing starts
no threads, so forking afterwards is safe.
"""

import importlib

MODULES = (
    "benchmark.scoring",
    "benchmark.worker",
    "jsonschema",
    "numpy",
    "open_clip.model",
    "pandas",
    "pyarrow.parquet",
    "safetensors.torch",
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.spatial.distance",
    "scipy.stats",
    "skimage.color",
    "skimage.metrics",
    "sklearn.decomposition",
    "torch",
    "torch._dynamo",
    "torch.nn.functional",
    "torch.optim.adam",
)

for _module in MODULES:
    importlib.import_module(_module)

complete = True
