"""Reading MATLAB 5 files with every fault named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

Shape = tuple[int | None, ...]


def read_mat5(path: Path, layout: Mapping[str, Shape]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return numeric variables of a MATLAB 5 file and what is wrong with them.

    Parameters
    ----------
    path : Path
    layout : mapping of str to tuple
        Shape of every variable asked for; None stands for any length.

    Returns
    -------
    arrays : dict of str to ndarray
        The variables that are sound.
    faults : list of str
        One sentence per fault, naming the file.
    """
    from scipy.io import loadmat

    if not path.is_file():
        return {}, [f"{path}: no such file, expected a MATLAB 5 file with {', '.join(layout)}"]
    try:
        content = loadmat(path, variable_names=list(layout))
    except Exception as error:  # scipy raises whatever the damaged bytes lead it to
        return {}, [f"{path}: cannot be read as MATLAB 5 ({type(error).__name__}: {error}), expected a whole file"]
    arrays, faults = {}, []
    for name, shape in layout.items():
        fault = array_fault(content.get(name), name, shape)
        if fault:
            faults.append(f"{path}: {fault}")
        else:
            arrays[name] = content[name]
    return arrays, faults


def array_fault(value: np.ndarray | None, name: str, shape: Shape) -> str | None:
    """Return what is wrong with a variable's type, shape or values, or None."""
    expected = " x ".join("any" if n is None else str(n) for n in shape)
    if value is None:
        return f"variable {name} is missing, expected {expected} numbers"
    if value.dtype.kind not in "fiu":
        return f"{name} is of type {value.dtype}, expected {expected} numbers"
    fits = value.ndim == len(shape) and all(want in (None, n) for n, want in zip(value.shape, shape, strict=True))
    if not fits or not value.size:
        return f"{name} is {' x '.join(map(str, value.shape))}, expected {expected}"
    if not np.isfinite(value).all():
        return f"{name} holds NaN or infinity, expected numbers"
    return None
