"""The training responses' Gram matrix and everything that is solved with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import BenchError

if TYPE_CHECKING:
    import torch

BLOCK = 1024  # rows of a symmetric product computed at once
MOMENT_VALUES = 2**20  # values of a tile of responses in float64, 8 MB


@dataclass(frozen=True)
class Kernel:
    """Centred and scaled training responses Z with their Gram matrix: ZZ' (dual) or Z'Z (primal, p < n).

    Attributes
    ----------
    x : ndarray of shape (n, p)
        Training responses as given; may be a memory map.
    mean, scale : ndarray of shape (p,)
        Statistics of the training responses, float64.
    gram : Tensor of shape (k, k)
        k = min(n, p).
    unit : float
        What relative penalties are multiplied with.
    step : int
        Columns (primal: rows) of ``x`` handled at once.
    keep : bool
        Whether factors are kept for the next use.
    """

    x: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    gram: torch.Tensor
    unit: float
    step: int
    keep: bool
    factors: dict[float, torch.Tensor] = field(default_factory=dict)

    @property
    def primal(self) -> bool:
        return self.x.shape[1] < self.x.shape[0]

    def scaled(self, x: np.ndarray, columns: slice = slice(None)) -> torch.Tensor:
        return scaled(x[:, columns], self.mean[columns], self.scale[columns], self.gram)

    def probe(self, x: np.ndarray) -> torch.Tensor:
        """Return what (gram + aI)^-1 is multiplied with from the left: K_test, or the test rows in the primal form."""
        if self.primal:
            return self.scaled(x)
        cross = self.gram.new_zeros((len(x), len(self.x)))
        for s in slices(self.x.shape[1], self.step):
            cross.addmm_(self.scaled(x, s), self.scaled(self.x, s).T)
        return cross

    def factor(self, penalty: float) -> torch.Tensor:
        """Return the Cholesky factor for a penalty, relative ones in units of the kernel's mean diagonal."""
        if penalty in self.factors:
            return self.factors[penalty]
        factor = cholesky(self.gram, penalty * self.unit)
        if self.keep:
            self.factors[penalty] = factor
        return factor

    def smoother(self, probe: torch.Tensor, penalty: float) -> torch.Tensor:
        """Return what the centred targets are multiplied with, of shape (m, n), for a probe of shape (m, k)."""
        half = self.solve(probe.T, penalty).T
        if not self.primal:
            return half
        out = half.new_empty((len(half), len(self.x)))
        for s in slices(len(self.x), self.step):
            out[:, s] = half @ self.scaled(self.x[s]).T
        return out

    def solve(self, right: torch.Tensor, penalty: float) -> torch.Tensor:
        """Return (gram + aI)^-1 right."""
        return _solve(self.factor(penalty), right.clone())

    def project(self, tile: torch.Tensor) -> torch.Tensor:
        """Return the right-hand side that belongs to centred targets: themselves, or Z'Y in the primal form."""
        if not self.primal:
            return tile
        out = self.gram.new_zeros((len(self.gram), tile.shape[1]))
        for s in slices(len(self.x), self.step):
            out.addmm_(self.scaled(self.x[s]).T, tile[s])
        return out

    def left_out(self, rows: np.ndarray, penalty: float) -> torch.Tensor:
        """Return the smoother (len(rows), n) that predicts training rows from a fit on all the others.

        With the hat matrix H, intercept included, and B = I - H, the left-out predictions of the rows g are
        Y_g - (B_gg)^-1 (B Y)_g.
        """
        import torch

        n, index = len(self.x), torch.from_numpy(rows).to(self.gram.device)
        eye = self.gram.new_zeros((len(rows), n))
        eye[torch.arange(len(rows)), index] = 1
        if self.primal:
            residual = eye - self.smoother(self.scaled(self.x[rows]), penalty)
        else:
            residual = self.solve(eye.T, penalty).T.mul_(penalty * self.unit)
        residual -= 1 / n
        block = torch.linalg.cholesky(residual[:, index])
        out = _solve(block, residual.contiguous()).neg_()
        out[:, index] = 0  # I - I: the rows' own targets play no part
        return out


def build(x: np.ndarray, moments, dtype, device: str, *, relative: bool, step: int, keep: bool) -> Kernel:
    """Compute the Gram matrix of the centred and scaled responses, its lower triangle first."""
    import torch

    n, p = x.shape
    gram = torch.zeros((min(n, p),) * 2, dtype=dtype, device=device)
    for s in slices(n if p < n else p, step):
        tile = scaled(x[s], *moments, gram).T if p < n else scaled(x[:, s], moments[0][s], moments[1][s], gram)
        add_lower(gram, tile)
        del tile  # before the next one is made
    mirror(gram)
    unit = (float(gram.diagonal().sum(dtype=torch.float64)) / n or 1.0) if relative else 1.0
    return Kernel(x, *moments, gram, unit, step, keep)


def statistics(x: np.ndarray, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of every column in float64; the scale of constant columns is 1."""
    import torch

    mean, scale = np.empty(x.shape[1]), np.ones(x.shape[1])
    for s in slices(x.shape[1], max(1, MOMENT_VALUES // len(x))):
        tile = torch.from_numpy(np.array(x[:, s], np.float64))
        mean[s] = centre = tile.mean(0)
        if standardise:  # by range: the standard deviation of a constant column can be 1e-17 instead of 0
            low, high = torch.aminmax(tile, dim=0)
            spread = torch.linalg.vector_norm(tile.sub_(centre), dim=0) / len(x) ** 0.5
            scale[s] = torch.where(low == high, 1.0, spread)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise BenchError("ridge: the training responses contain NaN or infinity; expected finite values.")
    return mean, scale


def slices(n: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def tensor(a: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return a copy as a tensor with the dtype and device of another."""
    import torch

    return torch.from_numpy(np.array(a, dtype=str(like.dtype).removeprefix("torch."))).to(like.device)


def scaled(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return tensor(x, like).sub_(tensor(mean, like)).div_(tensor(scale, like))


def add_lower(gram: torch.Tensor, tile: torch.Tensor) -> None:
    """Add tile @ tile.T to the lower block triangle, which is half the work of the whole."""
    for s in slices(len(gram), BLOCK):
        gram[s, : s.stop].addmm_(tile[s], tile[: s.stop].T)


def mirror(gram: torch.Tensor) -> None:
    """Copy the lower block triangle onto the upper one."""
    for s in slices(len(gram), BLOCK):
        gram[: s.start, s] = gram[s, : s.start].T


def cholesky(gram: torch.Tensor, shift: float) -> torch.Tensor:
    """Return the lower factor of gram + shift I without a second copy of the Gram matrix."""
    import torch

    diagonal = gram.diagonal()
    kept = diagonal.clone()
    try:
        diagonal.add_(shift)
        factor, info = torch.linalg.cholesky_ex(gram)
    finally:
        diagonal.copy_(kept)
    if info.item():
        raise BenchError(
            f"ridge: the kernel with penalty {shift:.3g} is not positive definite in {gram.dtype}; "
            "expected a larger penalty or precision='float64'."
        )
    return factor


def _solve(factor: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Overwrite ``right`` by (LL')^-1 right: ``torch.cholesky_solve`` would copy the factor."""
    import torch

    torch.linalg.solve_triangular(factor, right, upper=False, out=right)
    return torch.linalg.solve_triangular(factor.T, right, upper=True, out=right)
