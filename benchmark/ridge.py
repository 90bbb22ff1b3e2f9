"""Exact multi-target ridge regression: one Gram matrix, one Cholesky factor per penalty.

The dual form (n x n) serves wide responses, the primal form (p x p) tall ones. Predictions never need
weights: the small test smoother K_test (K + aI)^-1 meets the targets, tile by tile.

Precision: responses and targets stay in the dtype they come in (float32). The Gram matrix and its factors
are float64 up to a size of 2048, where that costs under a second, and
float32 above, where penalties of the size of the kernel's diagonal keep the system well conditioned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import BenchError

if TYPE_CHECKING:
    import torch

PENALTIES = tuple(float(f"{10.0**e:.4g}") for e in np.arange(-2, 3.5, 0.5))
FLOAT64_UP_TO = 2048
TILE = 4096


@dataclass(frozen=True)
class RidgeModel:
    """A fitted ridge; it keeps references to the arrays it was fitted on, not copies.

    Attributes
    ----------
    penalties : mapping of str to float
        Chosen penalty by target, in units of the kernel's mean diagonal where ``relative``.
    errors : mapping of str to ndarray
        Leave-out mean squared error of every penalty offered, the largest penalty first; empty where
        there was nothing to choose.
    mean, scale : ndarray of shape (p,)
        Statistics of the training responses.
    x : ndarray of shape (n, p) or None
        Training responses in the dual form; the primal form does without.
    targets : mapping of str to (right, centre, mean)
        ``right - centre`` is what (gram + aI)^-1 is applied to: the centred targets (n, t) in the dual
        form, X'Y (p, t) in the primal one.
    factors : mapping of float to Tensor
        Cholesky factor by penalty.
    """

    penalties: Mapping[str, float]
    errors: Mapping[str, np.ndarray]
    mean: np.ndarray
    scale: np.ndarray
    x: np.ndarray | None
    targets: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    factors: Mapping[float, torch.Tensor]
    device: str

    def predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Predict every target.

        Parameters
        ----------
        x : ndarray of shape (m, p)

        Returns
        -------
        dict of str to ndarray of shape (m, t)
            In the dtype of the training targets.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise BenchError(f"ridge: expected responses of shape (n, {len(self.mean)}), got {x.shape}.")
        import torch

        dtype = next(iter(self.factors.values())).dtype
        probe = _probe(x, self.x, (self.mean, self.scale), dtype, self.device)
        smoothers: dict[float, torch.Tensor] = {}
        predictions = {}
        for name, (right, centre, mean) in self.targets.items():
            penalty = self.penalties[name]
            factor = self.factors[penalty]
            t = right.shape[1]
            if t > len(x) and penalty not in smoothers:
                smoothers[penalty] = torch.cholesky_solve(probe.T, factor).T
            out = np.empty((len(x), t), right.dtype)
            for s in _slices(t):
                tile = _tensor(right[:, s] - centre[s], right.dtype, self.device)
                if t > len(x):  # the smaller side is the one that is solved for
                    part = smoothers[penalty].to(tile.dtype) @ tile
                else:
                    part = probe @ torch.cholesky_solve(tile.to(dtype), factor)
                out[:, s] = part.cpu().numpy() + mean[s]
            predictions[name] = out
        return predictions


def fit(
    x: np.ndarray,
    targets: Mapping[str, np.ndarray],
    penalties: Sequence[float] = PENALTIES,
    *,
    groups: np.ndarray | None = None,
    standardise: bool = True,
    relative: bool = True,
    device: str = "cpu",
    precision: str = "auto",
) -> RidgeModel:
    """Fit min ||Y - XW - b||^2 + a ||W||^2 for several groups of targets at once.

    Where several penalties are offered, each target group takes the one with the least leave-out mean
    squared error on the training rows. The leave-out residuals are exact, from one fit a penalty: with the
    hat matrix H, those of the left-out rows g are (I - H_gg)^-1 (Y - HY)_g.

    Parameters
    ----------
    x : ndarray of shape (n, p)
        Training responses; float32 or float64, may be a memory map.
    targets : mapping of str to ndarray of shape (n, t)
        Target groups by name; each gets its own penalty.
    penalties : sequence of float
        Candidates, all positive. ``relative`` penalties are multiplied by trace(K) / n, so that they
        mean the same at every size.
    groups : ndarray of shape (n,), optional
        Rows with one label are left out together (training subjects, stimuli, or folds). Default:
        one row at a time. With fewer than two groups nothing can be left out and the largest is taken.
    standardise : bool
        Divide every column by its training standard deviation; constant columns stay zero.
    device : str
        ``"mps"`` computes on the CPU: it has neither float64 nor the factorisations.
    precision : str
        ``"auto"``, ``"float32"`` or ``"float64"``, of the Gram matrix and its factors.

    Raises
    ------
    BenchError
        On non-finite input, wrong shapes or penalties that are not positive.
    """
    import torch

    device = "cpu" if device == "mps" else device
    n, p = _check(x, targets, penalties, groups)
    primal = p < n
    if precision == "auto":
        precision = "float64" if min(n, p) <= FLOAT64_UP_TO else "float32"
    dtype = getattr(torch, precision)
    scaler = _moments(x, standardise)
    if not (np.isfinite(scaler[0]).all() and np.isfinite(scaler[1]).all()):
        raise BenchError("ridge: the training responses contain NaN or infinity; expected finite values.")
    centred = {name: (y, y.mean(0, dtype=np.float64).astype(y.dtype)) for name, y in targets.items()}
    for name, (_, mean) in centred.items():
        if not np.isfinite(mean).all():
            raise BenchError(f"ridge: the target {name!r} contains NaN or infinity; expected finite values.")

    gram = _gram(x, scaler, dtype, device, primal)
    unit = (float(gram.diagonal().sum()) / n or 1.0) if relative else 1.0
    candidates = np.sort(np.asarray(penalties, np.float64))[::-1]  # ties go to the stronger penalty
    groups = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    if len(candidates) == 1 or groups.max() == 0:
        chosen, errors = dict.fromkeys(targets, float(candidates[0])), {}
    else:
        errors = _errors(gram, x, scaler, primal, centred, candidates * unit, groups)
        chosen = {k: float(candidates[np.argmin(e)]) for k, e in errors.items()}
    factors = {a: _factor(gram, a * unit) for a in set(chosen.values())}
    if primal:
        right = {
            name: (_project(x, y, mean, scaler, dtype, device), np.zeros_like(mean), mean)
            for name, (y, mean) in centred.items()
        }
    else:
        right = {name: (y, mean, mean) for name, (y, mean) in centred.items()}
    return RidgeModel(chosen, errors, *scaler, None if primal else x, right, factors, device)


def _check(x, targets, penalties, groups) -> tuple[int, int]:
    if x.ndim != 2 or 0 in x.shape:
        raise BenchError(f"ridge: expected responses of shape (rows, voxels) with at least one of each, got {x.shape}.")
    if not targets:
        raise BenchError("ridge: expected at least one target.")
    for name, y in targets.items():
        if y.ndim != 2 or len(y) != len(x):
            raise BenchError(f"ridge: expected {len(x)} rows in the target {name!r}, got shape {y.shape}.")
        if y.dtype not in (np.float32, np.float64):
            raise BenchError(f"ridge: expected float32 or float64 in the target {name!r}, got {y.dtype}.")
    values = np.asarray(penalties, np.float64)
    if values.size == 0 or not (np.isfinite(values) & (values > 0)).all():
        raise BenchError(f"ridge: expected finite penalties above zero, got {penalties}.")
    if groups is not None and np.shape(groups) != (len(x),):
        raise BenchError(f"ridge: expected one group label for each of {len(x)} rows, got shape {np.shape(groups)}.")
    return x.shape


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + TILE) for start in range(0, n, TILE))


def _tensor(a: np.ndarray, dtype, device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(a, dtype=str(dtype).removeprefix("torch."))).to(device)


def _scaled(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, dtype, device: str) -> torch.Tensor:
    out = _tensor(x, dtype, device)
    return out.sub_(_tensor(mean, dtype, device)).div_(_tensor(scale, dtype, device))


def _moments(x: np.ndarray, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = np.empty(x.shape[1]), np.ones(x.shape[1])
    for s in _slices(x.shape[1]):
        tile = np.asarray(x[:, s], np.float64)
        mean[s] = tile.mean(0)
        if standardise:  # by range: the standard deviation of a constant column can be 1e-17 instead of 0
            scale[s] = np.where(np.ptp(tile, axis=0) == 0, 1.0, tile.std(0))
    return mean, scale


def _gram(x, scaler, dtype, device, primal: bool) -> torch.Tensor:
    import torch

    gram = torch.zeros((min(x.shape),) * 2, dtype=dtype, device=device)
    for s in _slices(len(x) if primal else x.shape[1]):
        tile = (
            _scaled(x[s], *scaler, dtype, device).T
            if primal
            else _scaled(x[:, s], scaler[0][s], scaler[1][s], dtype, device)
        )
        gram.addmm_(tile, tile.T)
    return gram


def _probe(x, train, scaler, dtype, device) -> torch.Tensor:
    """Return what multiplies (gram + aI)^-1 from the left: K_test, or the test rows in the primal form."""
    import torch

    if train is None:
        return _scaled(x, *scaler, dtype, device)
    cross = torch.zeros((len(x), len(train)), dtype=dtype, device=device)
    for s in _slices(x.shape[1]):
        part = (scaler[0][s], scaler[1][s], dtype, device)
        cross.addmm_(_scaled(x[:, s], *part), _scaled(train[:, s], *part).T)
    return cross


def _project(x, y, mean, scaler, dtype, device) -> np.ndarray:
    """Return X'Y of the centred data, shape (p, t), in the dtype of the targets."""
    import torch

    out = torch.zeros((x.shape[1], y.shape[1]), dtype=dtype, device=device)
    for s in _slices(len(x)):
        out.addmm_(_scaled(x[s], *scaler, dtype, device).T, _tensor(y[s] - mean, dtype, device))
    return out.cpu().numpy().astype(y.dtype, copy=False)


def _factor(gram: torch.Tensor, penalty: float) -> torch.Tensor:
    import torch

    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor, info = torch.linalg.cholesky_ex(shifted)
    if info.item():
        raise BenchError(
            f"ridge: the kernel with penalty {penalty:.3g} is not positive definite; expected a larger penalty."
        )
    return factor


def _errors(gram, x, scaler, primal: bool, centred, penalties, groups) -> dict[str, np.ndarray]:
    """Return the leave-group-out mean squared error of every penalty, by target."""
    import torch

    totals = {name: np.zeros(len(penalties)) for name in centred}
    batches = _batches(groups)
    problems = {name: _problem(y, mean, gram) for name, (y, mean) in centred.items()}
    design = _scaled(x, *scaler, gram.dtype, gram.device) if primal else None
    for i, penalty in enumerate(penalties):
        inverse = torch.cholesky_inverse(_factor(gram, penalty))
        for name, (target, weight) in problems.items():
            for left in _left_out(inverse, penalty, design, target, batches):
                squares = left.square() if weight is None else (left @ weight) * left
                totals[name][i] += float(squares.sum())
    return {name: total / centred[name][0].size for name, total in totals.items()}


def _problem(y, mean, gram) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the centred targets, or None and their n x n products where that is less.

    ||E Y||^2 = <E YY', E> needs wide targets only once, however many penalties there are.
    """
    import torch

    n, t = y.shape
    if t <= n:
        return _tensor(y - mean, gram.dtype, gram.device), None
    weight = torch.zeros((n, n), dtype=gram.dtype, device=gram.device)
    for s in _slices(t):
        tile = _tensor(y[:, s] - mean[s], gram.dtype, gram.device)
        weight.addmm_(tile, tile.T)
    return None, weight


def _batches(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of every group, groups of one size together, at most 64 rows of it at a time."""
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    batches = []
    for size in np.unique(sizes):
        rows = order[np.repeat(sizes == size, sizes)].reshape(-1, size)
        batches += [rows] if size <= 64 else list(rows[:, None])
    return batches


def _left_out(inverse, penalty: float, design, target, batches):
    """Yield, for each batch of groups, their residuals when they are left out.

    With H the hat matrix and the intercept in it, I - H is a(K + aI)^-1 - 11'/n in the dual form and
    I - X(X'X + aI)^-1X' - 11'/n in the primal one. Without a target the residuals of the identity.
    """
    import torch

    if design is None:
        n, smooth = len(inverse), None
        residual = penalty * (inverse if target is None else inverse @ target)
    else:
        n, smooth = len(design), design @ inverse
        fitted = smooth @ (design.T if target is None else design.T @ target)
        residual = (torch.eye(n, dtype=fitted.dtype, device=fitted.device) if target is None else target) - fitted
    for rows in batches:
        index = torch.from_numpy(rows).to(inverse.device)
        if design is None:
            block = penalty * inverse[index[:, :, None], index[:, None, :]]
        else:
            eye = torch.eye(rows.shape[1], dtype=inverse.dtype, device=inverse.device)
            block = eye - smooth[index] @ design[index].mT
        # Batched torch.linalg.solve was seen to return wrong numbers with several threads; the block is
        # positive definite anyway.
        factor = torch.linalg.cholesky(block - 1 / n)
        yield torch.cholesky_solve(residual[index], factor).flatten(0, 1)
