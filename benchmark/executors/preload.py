"""What the forkserver imports once, so that a run's process starts with it.

Concrete classes, not packages: lazily importing packages would pay in every child. Importing starts
no threads, so forking afterwards is safe.
"""

import importlib

MODULES = (
    "benchmark.scoring",
    "benchmark.worker",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.transformers.dual_transformer_2d",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddim",
    "jsonschema",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
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
