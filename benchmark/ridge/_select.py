"""Penalties chosen on the training rows: leave-group-out errors and generalised cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmark.ridge._kernel import BLOCK, Kernel, add_lower, cholesky, mirror, slices
from benchmark.ridge._tiles import centred, flat

EIGEN_FROM = 20  # penalties from which one eigendecomposition costs less than their inverses


def leave_out(kernel: Kernel, targets, candidates, groups, width: int, seconds) -> dict[str, np.ndarray]:
    """Return the leave-group-out mean squared error of every penalty offered, by target.

    Parameters
    ----------
    candidates : mapping of str to ndarray
        Penalties by target.
    groups : ndarray of shape (n,)
        Labels 0 ... of the rows left out together.
    """
    totals: dict[str, list[float]] = {name: [] for name in candidates}
    batches = _batches(groups)
    problems = {name: _problem(kernel, targets[name], name, width, seconds) for name in candidates}
    design = kernel.scaled(kernel.x) if kernel.primal else None
    for penalty in union(candidates):
        shift = penalty * kernel.unit
        inverse = torch.cholesky_inverse(cholesky(kernel.gram, shift))
        for name, (target, weight) in problems.items():
            if penalty in candidates[name]:
                squares = 0.0
                for left in _left_out(inverse, shift, design, target, batches):
                    squares += float(((left @ weight).mul_(left) if target is None else left.square()).sum())
                totals[name].append(squares / targets[name].size)
    return {name: np.array(total) for name, total in totals.items()}


def generalised(kernel: Kernel, targets, candidates, width: int, seconds) -> dict[str, np.ndarray]:
    """Return the generalised cross-validation error ``||(I - H)Y||^2 / (nt) / (1 - tr(H) / n)^2``, by target.

    H is the hat matrix, intercept included (Golub, Heath and Wahba 1979, Technometrics 21(2)).
    """
    n, k, shifts = len(kernel.x), len(kernel.gram), {a: a * kernel.unit for a in union(candidates)}
    if len(shifts) >= EIGEN_FROM:
        values, vectors = torch.linalg.eigh(kernel.gram)
        values = values.double().clamp_min_(0).cpu().numpy()
        parts = {name: _spectrum(kernel, vectors, targets[name], name, width, seconds) for name in candidates}
        del vectors
    else:
        parts = {name: _problem(kernel, targets[name], name, width, seconds, project=True) for name in candidates}
    found: dict[str, list[float]] = {name: [] for name in candidates}
    totals = {name: _total(targets[name], name, width, kernel, seconds) for name in candidates if kernel.primal}
    for penalty, shift in shifts.items():
        if len(shifts) >= EIGEN_FROM:
            trace = float((values / (values + shift)).sum())
        else:
            inverse = torch.cholesky_inverse(cholesky(kernel.gram, shift))
            trace = k - shift * float(inverse.diagonal().sum(dtype=torch.float64))
        for name in candidates:
            if penalty not in candidates[name]:
                continue
            if len(shifts) >= EIGEN_FROM:  # <E, A> and <E^2, A> of the inverse E and the products A
                once, twice = (float((parts[name] / (values + shift) ** power).sum()) for power in (1, 2))
            else:
                once, twice = _forms(inverse, *parts[name])
            residual = totals[name] - once - shift * twice if kernel.primal else shift**2 * twice
            free = max(1 - (trace + 1) / n, np.finfo(float).tiny)
            found[name].append(max(residual, 0.0) / targets[name].size / free**2)
    return {name: np.array(errors) for name, errors in found.items()}


def union(candidates: Mapping[str, np.ndarray]) -> list[float]:
    return sorted({float(a) for offered in candidates.values() for a in offered}, reverse=True)


def _problem(kernel: Kernel, y, name, width, seconds, project=False) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the centred targets (n, t), or None and their n x n products where that is less.

    ||E Y||^2 = <E YY', E> needs wide targets only once, however many penalties there are. With ``project``
    the primal form takes Z'Y instead of Y.
    """
    y = flat(y)
    side = len(kernel.gram) if project else len(y)
    wide = y.shape[1] > side
    out = kernel.gram.new_zeros((side, side if wide else y.shape[1]))
    for s, tile, _ in centred(y, name, width, kernel.gram, seconds):
        tile = kernel.project(tile) if project else tile
        if wide:
            add_lower(out, tile)
        else:
            out[:, s] = tile
    if wide:
        mirror(out)
    return (None, out) if wide else (out, None)


def _forms(inverse: torch.Tensor, target, weight) -> tuple[float, float]:
    """Return <E, A> and <E^2, A> for the products A = YY' of a target, or A itself."""
    if target is None:
        once, twice = inverse, inverse @ weight
        return float((once * weight).sum(dtype=torch.float64)), float((twice * inverse).sum(dtype=torch.float64))
    half = inverse @ target
    return float((half * target).sum(dtype=torch.float64)), float(half.square().sum(dtype=torch.float64))


def _spectrum(kernel: Kernel, vectors, y, name, width, seconds) -> np.ndarray:
    """Return the squared length of the targets along every eigenvector, shape (k,), float64."""
    total = torch.zeros(len(kernel.gram), dtype=torch.float64, device=vectors.device)
    for _, tile, _ in centred(flat(y), name, width, kernel.gram, seconds):
        total += (vectors.T @ kernel.project(tile)).square().sum(1, dtype=torch.float64)
    return total.cpu().numpy()


def _total(y, name, width, kernel, seconds) -> float:
    """Return ||Y||^2 of the centred targets."""
    tiles = centred(flat(y), name, width, kernel.gram, seconds)
    return sum(float(tile.square_().sum(dtype=torch.float64)) for _, tile, _ in tiles)


def _batches(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of every group, groups of one size together, at most about a block of rows at a time."""
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    batches = []
    for size in np.unique(sizes):
        rows = order[np.repeat(sizes == size, sizes)].reshape(-1, size)
        batches += [rows[s] for s in slices(len(rows), max(1, BLOCK // size) if size <= 64 else 1)]
    return batches


def _left_out(inverse, shift: float, design, target, batches) -> Iterator[torch.Tensor]:
    """Yield, for each batch of groups, their residuals when they are left out.

    With H the hat matrix and the intercept in it, I - H is a(K + aI)^-1 - 11'/n in the dual form and
    I - X(X'X + aI)^-1X' - 11'/n in the primal one. Without a target the residuals of the identity.
    """
    if design is None:
        n, smooth = len(inverse), None
        residual = inverse if target is None else inverse @ target
    else:
        n, smooth = len(design), design @ inverse
        fitted = smooth @ (design.T if target is None else design.T @ target)
        residual = (torch.eye(n, dtype=fitted.dtype, device=fitted.device) if target is None else target) - fitted
    factor = 1.0 if design is not None else shift
    for rows in batches:
        index = torch.from_numpy(rows).to(inverse.device)
        if design is None:
            block = shift * inverse[index[:, :, None], index[:, None, :]]
        else:
            eye = torch.eye(rows.shape[1], dtype=inverse.dtype, device=inverse.device)
            block = eye - smooth[index] @ design[index].mT
        # Batched torch.linalg.solve was seen to return wrong numbers with several threads; the block is
        # positive definite anyway.
        lower = torch.linalg.cholesky(block - 1 / n)
        yield torch.cholesky_solve(residual[index], lower).mul_(factor).flatten(0, 1)
