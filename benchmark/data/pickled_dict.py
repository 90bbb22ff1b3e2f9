"""A dict kept in a ``.npy`` file, which NumPy can only store as a pickle, read without running anything of it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import BenchError

MAX_BYTES = 1 << 16  # a mapping of a few labels; more is something else
_EXPECTED = "a dict of whole numbers to texts, as np.save writes it"
_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),  # before NumPy 2
    ("numpy._core.multiarray", "_reconstruct"),
}


class _Inert:
    """Stands for whatever NumPy would build: it keeps the state it is given and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        if (module, name) in _NAMES:
            return _Inert
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickled_dict(path: Path) -> dict[int, str]:
    """Return the dict of whole numbers to texts that a ``.npy`` file holds.

    Parameters
    ----------
    path : Path
        An array of no dimension and type object, as ``np.save(path, {1: "V1v"})`` writes it.

    Raises
    ------
    BenchError
        For anything else: no name of the pickle is ever looked up, so nothing in it can run.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise BenchError(f"{path}: more than {MAX_BYTES} bytes, expected {_EXPECTED}")
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read(file)
            if shape != () or dtype.kind != "O":
                raise BenchError(f"{path}: {dtype} array of shape {shape}, expected {_EXPECTED}")
            found = _Unpickler(file).load()
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file, expected {_EXPECTED}") from None
    except pickle.UnpicklingError as error:
        raise BenchError(f"{path}: refused ({error}), expected {_EXPECTED}") from None
    except BenchError:
        raise
    except Exception as error:  # damaged bytes raise whatever they lead the parsers to
        raise BenchError(f"{path}: damaged ({type(error).__name__}), expected {_EXPECTED}") from None
    state = found.state if isinstance(found, _Inert) else None
    items = state[-1] if isinstance(state, tuple) and state else None
    value = items[0] if isinstance(items, list) and len(items) == 1 else None
    # types themselves: True is an int too
    if type(value) is not dict or any(type(k) is not int or type(v) is not str for k, v in value.items()):
        raise BenchError(f"{path}: holds something else, expected {_EXPECTED}")
    return value
