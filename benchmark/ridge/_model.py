"""Fit, predict, out-of-fold statistics and weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from benchmark.errors import BenchError
from benchmark.ridge import _kernel, _tiles
from benchmark.ridge._kernel import Kernel, slices
from benchmark.ridge._plan import PENALTIES, Plan, choose

TEST_ROWS = 1000  # what a fit leaves room for; more are predicted in turns where memory is limited


@dataclass(frozen=True)
class OutOfFold:
    """Statistics per target column, in the shape of one target.

    Attributes
    ----------
    mean, std : ndarray
        Of the predictions of training rows by fits that did not see them.
    target_mean, target_std : ndarray
        Of the training targets.
    rows : int
        Training rows predicted.
    """

    mean: np.ndarray
    std: np.ndarray
    target_mean: np.ndarray
    target_std: np.ndarray
    rows: int


@dataclass(frozen=True)
class RidgeModel:
    """A fitted ridge; it keeps references to the arrays it was fitted on, not copies.

    Attributes
    ----------
    penalties : mapping of str to float
        Chosen penalty by target, in units of the kernel's mean diagonal where ``relative``.
    errors : mapping of str to ndarray
        Error on the training rows of every penalty offered, the largest penalty first; only targets for which there
        was something to choose.
    mean, scale : ndarray of shape (p,)
        Statistics of the training responses.
    targets : mapping of str to ndarray of shape (n, ...)
        The training targets as given.
    plan : Plan
        What was planned for the fit.
    seconds : dict of str to float
        Time spent so far by stage; ``waited`` is the time in which targets were read and nothing else was done.
    """

    penalties: Mapping[str, float]
    errors: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    kernel: Kernel
    plan: Plan
    budget: int | None
    tile: int | None
    device: str
    groups: np.ndarray | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> np.ndarray:
        return self.kernel.mean

    @property
    def scale(self) -> np.ndarray:
        return self.kernel.scale

    def predict(
        self, x: np.ndarray, out: str | PathLike | Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Predict every target.

        Parameters
        ----------
        x : ndarray of shape (m, p)
        out : path of a folder or mapping of str to ndarray, optional
            Where predictions go: files ``<target>.npy`` that appear once they are whole, or arrays by target (memory
            maps of shape (m, ...) in the targets' dtype). Default: new arrays in memory.

        Returns
        -------
        dict of str to ndarray of shape (m, ...)
            In the shape and dtype of the training targets; read-only memory maps where ``out`` is a folder.

        Raises
        ------
        BenchError
            On another number of voxels, on NaN or infinity in the responses or in a memory-mapped target.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise BenchError(f"ridge: expected responses of shape (n, {len(self.mean)}), got {x.shape}.")
        todo = self._plan(self.targets, len(x))
        shapes = {name: (len(x), *y.shape[1:]) for name, y in self.targets.items()}
        with _tiles.outputs(out, shapes, {name: y.dtype for name, y in self.targets.items()}) as arrays:
            for rows in slices(len(x), max(1, todo.rows)):
                self._predict(x[rows], {name: _tiles.flat(a)[rows] for name, a in arrays.items()}, todo)
            with self._clock("written"):
                _tiles.flush(arrays)
        return arrays

    def out_of_fold(
        self, name: str, *, folds: int = 10, rows: int | None = 1000, groups: np.ndarray | None = None, seed: int = 0
    ) -> OutOfFold:
        """Mean and standard deviation of predictions for training rows that were left out, by target column.

        Folds are random and keep groups whole. The predictions are those of a refit (same penalty, same scaling of the
        responses, own intercept) on the other folds, computed without one.

        Parameters
        ----------
        name : str
            Target.
        folds : int
            As many as there are groups at most.
        rows : int or None
            Random training rows to predict; None predicts all of them. The cost of a row is that of a test row.
        groups : ndarray of shape (n,), optional
            Rows with one label are left out together; default: the groups of the fit.
        seed : int
            Of the folds.

        Raises
        ------
        BenchError
            Where there is nothing to leave out, or where the rows do not fit the memory limit.
        """
        import torch

        y, penalty = self.targets[name], self.penalties[name]
        n = len(y)
        groups = self.groups if groups is None else np.asarray(groups)
        held = _folds(groups, n, folds, n if rows is None else rows, seed)
        count, most = sum(take for _, take in held), max(len(rows) for rows, _ in held)
        todo = self._plan({name: y}, max(count, most), "fold")
        like = torch.empty(0, dtype=getattr(torch, str(y.dtype)))
        with self._clock("out of fold"):
            smoother = torch.empty((count + 1, n), dtype=like.dtype, device=self.device)
            smoother[-1] = 1 / n  # the mean of the targets comes with the same product
            done = 0
            for fold, take in held:
                smoother[done : done + take] = self.kernel.left_out(fold, penalty)[:take]
                done += take
        found = np.empty((4, _tiles.flat(y).shape[1]), y.dtype)
        for s, tile, shift in _tiles.read(y, todo.tile, self.device, self.seconds):
            with self._clock("multiplied"):
                part = smoother @ tile
                std, mean = torch.std_mean(part[:-1], 0, correction=0)
                centre = part[-1].double()
                spread = torch.linalg.vector_norm(tile, dim=0).double().square() / n - centre.square()
                values = torch.stack([mean.double(), std.double(), centre, spread.clamp_min(0).sqrt()]).cpu().numpy()
            values[[0, 2]] += shift
            found[:, s] = _tiles.finite(values, name)
        return OutOfFold(*found.reshape(4, *y.shape[1:]), rows=count)

    def weights(self, name: str, out: str | PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and intercepts for responses as they come, tile by tile.

        Parameters
        ----------
        name : str
            Target.
        out : path of a folder, optional
            The weights go to ``<name>-weights.npy`` there and come back as a read-only memory map.

        Returns
        -------
        weights : ndarray of shape (p, ...)
            ``x @ weights + intercept`` are the predictions.
        intercept : ndarray
        """
        y, x = self.targets[name], self.kernel.x
        todo = self._plan({name: y}, 0, "weights")
        key = f"{name}-weights"
        intercept = np.empty(_tiles.flat(y).shape[1], y.dtype)
        with _tiles.outputs(out, {key: (x.shape[1], *y.shape[1:])}, {key: y.dtype}) as arrays:
            w = _tiles.flat(arrays[key])
            for s, tile, mean in _tiles.centred(y, name, todo.tile, self.kernel.gram, self.seconds):
                with self._clock("multiplied"):
                    solved = self.kernel.solve(self.kernel.project(tile), self.penalties[name])
                    at_mean = np.zeros(len(mean))
                    for columns in slices(x.shape[1], todo.step):
                        z = solved[columns] if self.kernel.primal else self.kernel.scaled(x, columns).T @ solved
                        part = z.cpu().numpy() / self.scale[columns, None]
                        at_mean += self.mean[columns] @ part
                        w[columns, s] = part
                intercept[s] = mean - at_mean
            _tiles.flush(arrays)
        return arrays[key], intercept.reshape(y.shape[1:])

    def _predict(self, x: np.ndarray, out: Mapping[str, np.ndarray], todo: Plan) -> None:
        import torch

        with self._clock("kernel"):
            probe = self.kernel.probe(x)
            if not torch.isfinite(probe).all():
                raise BenchError("ridge: the test responses contain NaN or infinity; expected finite values.")
        for penalty in dict.fromkeys(self.penalties.values()):
            names = [name for name, chosen in self.penalties.items() if chosen == penalty]
            smoother = None
            # The smaller side is the one that is solved for.
            if sum(_tiles.flat(out[name]).shape[1] for name in names) >= len(x):
                with self._clock("factors"):
                    self.kernel.factor(penalty)
                with self._clock("smoothers"):
                    smoother = self.kernel.smoother(probe, penalty)
            for name in names:
                self._apply(name, probe, smoother, out[name], todo)

    def _apply(self, name: str, probe, smoother, out: np.ndarray, todo: Plan) -> None:
        """Write the predictions of one target."""
        import torch

        y = self.targets[name]
        if smoother is None:
            for s, tile, mean in _tiles.centred(y, name, todo.tile, self.kernel.gram, self.seconds):
                part = probe @ self.kernel.solve(self.kernel.project(tile), self.penalties[name])
                out[:, s] = part.cpu().numpy() + mean
            return
        full = torch.empty((len(probe) + 1, len(y)), dtype=getattr(torch, str(y.dtype)), device=self.device)
        full[:-1] = smoother
        full[:-1] -= full[:-1].mean(1, keepdim=True)  # rows sum to zero, but for rounding: means drop out
        full[-1] = 1 / len(y)  # the mean of the targets comes with the same product
        buffer = full.new_empty((len(full), todo.tile))
        for s, tile, shift in _tiles.read(y, todo.tile, self.device, self.seconds):
            with self._clock("multiplied"):
                part = torch.mm(full, tile, out=buffer[:, : tile.shape[1]])
                centre = _tiles.finite(part[-1].double().cpu().numpy() + shift, name)
                part = part[:-1].add_(torch.from_numpy(centre).to(part)).cpu().numpy()
            with self._clock("written"):
                out[:, s] = part

    def _plan(self, targets: Mapping[str, np.ndarray], rows: int, work: str = "predict") -> Plan:
        return choose(
            *self.kernel.x.shape, _widths(targets), rows, penalties=len(set(self.penalties.values())), select=None,
            memory_limit=self.budget, tile=self.tile, precision=self.plan.precision,
            itemsize=max(y.itemsize for y in targets.values()), work=work, keeps=(self.kernel.keep,),
            steps=(self.kernel.step,),
        )  # fmt: skip

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def fit(
    x: np.ndarray,
    targets: Mapping[str, np.ndarray],
    penalties: Sequence[float] | Mapping[str, float | Sequence[float]] = PENALTIES,
    *,
    select: str = "leave-out",
    groups: np.ndarray | None = None,
    standardise: bool = True,
    relative: bool = True,
    device: str = "cpu",
    precision: str = "auto",
    memory_limit: int | None = None,
    tile: int | None = None,
) -> RidgeModel:
    """Fit min ||Y - XW - b||^2 + a ||W||^2 for several groups of targets at once.

    Where several penalties are offered, each target group takes the one with the least error on the training rows. The
    leave-out residuals are exact, from one fit a penalty: with the hat matrix H, those of the left-out rows g
    are (I - H_gg)^-1 (Y - HY)_g.

    Parameters
    ----------
    x : ndarray of shape (n, p)
        Training responses; float32 or float64, may be a memory map.
    targets : mapping of str to ndarray of shape (n, t) or (n, tokens, d)
        Target groups by name; each gets its own penalty. Memory maps are read when they are needed, in column
        tiles, and checked for NaN and infinity then.
    penalties : sequence of float, or mapping of str to float or sequence of float
        Candidates, all positive, for all targets or by target. ``relative`` penalties are multiplied by trace(K) / n,
        so that they mean the same at every size.
    select : {"leave-out", "gcv"}
        How penalties are chosen: by the leave-out mean squared error, or by generalised cross-validation.
    groups : ndarray of shape (n,), optional
        Rows with one label are left out together (training subjects, stimuli, or folds). Default:
        one row at a time. With fewer than two groups nothing can be left out and the largest is taken.
    standardise : bool
        Divide every column by its training standard deviation; constant columns stay zero.
    device : str
        ``"mps"`` computes on the CPU: it has neither float64 nor the factorisations.
    precision : {"auto", "float32", "float64"}
        Of the Gram matrix and its factors. ``"float32"``, which is the choice above a size of 2048, loses about the
        digits by which the largest eigenvalue of the kernel exceeds the penalty.
    memory_limit : int, optional
        Bytes of anonymous and shared memory that the process may hold, with what it holds already; pages of mapped
        files do not count. Where the system does not tell (macOS), what it holds already counts as nothing.
    tile : int, optional
        Columns of the targets at once, instead of what ``plan`` picks.

    Raises
    ------
    BenchError
        On non-finite input, wrong shapes, penalties that are not positive, or a memory limit that cannot be kept.
    """
    import torch

    from benchmark.ridge import _select

    device = "cpu" if device == "mps" else device
    candidates = _candidates(targets, penalties)
    n, p = _check(x, targets, candidates, groups, select)
    labels = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    open_ = {k: v for k, v in candidates.items() if len(v) > 1 and labels.max() > 0}
    budget = None if memory_limit is None else int(memory_limit) - _held()
    todo = choose(
        n, p, _widths(targets), min(n, TEST_ROWS), penalties=len(_select.union(candidates)),
        select=select if open_ else None, memory_limit=budget, tile=tile, precision=precision,
        itemsize=max(y.itemsize for y in targets.values()),
    )  # fmt: skip
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    moments = _kernel.statistics(x, standardise)
    for name, y in targets.items():
        if not isinstance(y, np.memmap):
            _tiles.finite(y.mean(0, dtype=np.float64), name)
    seconds["statistics"] = time.perf_counter() - start
    start = time.perf_counter()
    dtype = getattr(torch, todo.precision)
    kernel = _kernel.build(x, moments, dtype, device, relative=relative, step=todo.step, keep=todo.keep)
    seconds["kernel"] = time.perf_counter() - start
    start = time.perf_counter()
    if not open_:
        errors = {}
    elif select == "gcv":
        errors = _select.generalised(kernel, targets, open_, todo.tile, seconds)
    else:
        errors = _select.leave_out(kernel, targets, open_, labels, todo.tile, seconds)
    chosen = {k: float(v[np.argmin(errors[k])] if k in errors else v[0]) for k, v in candidates.items()}
    seconds["selection"] = time.perf_counter() - start
    return RidgeModel(chosen, errors, dict(targets), kernel, todo, budget, tile, device, groups, seconds)


def _widths(targets: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: int(np.prod(y.shape[1:])) for name, y in targets.items()}


def _candidates(targets, penalties) -> dict[str, np.ndarray]:
    """Return the penalties offered by target, the strongest first: ties go to it."""
    if isinstance(penalties, Mapping):
        missing = [name for name in targets if name not in penalties]
        if missing:
            raise BenchError(f"ridge: expected a penalty for the target {missing[0]!r}, got {list(penalties)}.")
    else:
        penalties = dict.fromkeys(targets, penalties)
    found = {}
    for name in targets:
        values = np.atleast_1d(np.asarray(penalties[name], np.float64))
        if values.size == 0 or not (np.isfinite(values) & (values > 0)).all():
            raise BenchError(f"ridge: expected finite penalties above zero, got {penalties[name]}.")
        found[name] = np.unique(values)[::-1]
    return found


def _check(x, targets, candidates, groups, select) -> tuple[int, int]:
    if x.ndim != 2 or 0 in x.shape:
        raise BenchError(f"ridge: expected responses of shape (rows, voxels) with at least one of each, got {x.shape}.")
    if not targets:
        raise BenchError("ridge: expected at least one target.")
    for name, y in targets.items():
        if y.ndim < 2 or len(y) != len(x):
            raise BenchError(f"ridge: expected {len(x)} rows in the target {name!r}, got shape {y.shape}.")
        if y.dtype not in (np.float32, np.float64):
            raise BenchError(f"ridge: expected float32 or float64 in the target {name!r}, got {y.dtype}.")
    if groups is not None and np.shape(groups) != (len(x),):
        raise BenchError(f"ridge: expected one group label for each of {len(x)} rows, got shape {np.shape(groups)}.")
    if select not in ("leave-out", "gcv"):
        raise BenchError(f"ridge: expected 'leave-out' or 'gcv' as select, got {select!r}.")
    return x.shape


def _folds(groups, n: int, folds: int, rows: int, seed: int) -> list[tuple[np.ndarray, int]]:
    """Return random folds with whole groups and how many of their (shuffled) rows to predict."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    if len(labels) != n or labels.max() == 0 or folds < 2 or rows < 1:
        raise BenchError(
            f"ridge: out-of-fold statistics need two folds, two groups of the {n} training rows and one row or more."
        )
    order = rng.permutation(labels.max() + 1)
    sizes = np.bincount(labels)[order]
    middles = np.cumsum(sizes) - sizes / 2  # groups go to folds by the place of their middle row
    fold = np.empty(len(order), int)
    fold[order] = middles * min(folds, len(order)) // n
    shuffled = rng.permutation(n)
    found = []
    for f in np.unique(fold):
        if rows > 0:
            held = shuffled[fold[labels[shuffled]] == f]
            found.append((held, min(len(held), rows)))
            rows -= len(held)
    return found


def _held() -> int:
    """Bytes of anonymous and shared memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = [line.split() for line in status if line.startswith(("RssAnon:", "RssShmem:"))]
    except OSError:
        return 0
    return sum(int(line[1]) for line in lines) * 1024
