"""Exact multi-target ridge regression in bounded memory: one Gram matrix, one Cholesky factor per penalty.

The dual form (n x n) serves wide responses, the primal form (p x p) tall ones. Predictions never need weights: the
small test smoother K_test (K + aI)^-1 meets the targets in column tiles, read from and written to memory-mapped files.

Precision: responses and targets stay in the dtype they come in (float32). The Gram matrix and its factors are float64
up to a size of 2048, where that costs under a second, and float32 above, where penalties of the size of the kernel's
diagonal keep the system well conditioned. Means and standard deviations are float64.
"""

from benchmark.ridge._model import OutOfFold, RidgeModel, fit
from benchmark.ridge._plan import PENALTIES, Plan, plan

__all__ = ["PENALTIES", "OutOfFold", "Plan", "RidgeModel", "fit", "plan"]
