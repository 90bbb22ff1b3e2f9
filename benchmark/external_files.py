"""Files of predictions as other pipelines write them: read without unpickling, every row tied to a test item."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.errors import BenchError
from benchmark.spec import digest

PICTURES = (".png", ".jpg", ".jpeg")
TENSORS = (".npy", ".npz", ".pt", ".pth")
READ_VERSION = 1  # raise whenever the same files are read as something else
_EXPECTED = "expected a folder of pictures, or .npy, .npz or .pt"


@dataclass(frozen=True)
class Files:
    """What was given on the command line.

    Attributes
    ----------
    paths : tuple of Path
        Pictures or vectors, one path per track.
    ids : Path or None
        Ids of the test items in the order of rows.
    in_order : bool
        Whether rows are said to be in the split's order.
    key : str or None
        Which array of a file with several.
    """

    paths: tuple[Path, ...]
    ids: Path | None = None
    in_order: bool = False
    key: str | None = None


@dataclass(frozen=True, eq=False)
class Given:
    """The content of one path: rows, and what says which item each belongs to.

    Attributes
    ----------
    path : Path
    rows : ndarray of shape (n, d), (n, height, width, channels) or (n, channels, height, width)
    names : list of str or None
        Names of picture files.
    ids : list of str or None
        Ids within the file.
    """

    path: Path
    rows: np.ndarray
    names: list[str] | None = None
    ids: list[str] | None = None

    @property
    def pictures(self) -> bool:
        """Whether the rows are pictures, by their number of axes."""
        if self.rows.ndim not in (2, 4):
            raise BenchError(
                f"{self.path}: shape {self.rows.shape}, expected vectors (n, d) or pictures (n, height, width, "
                "channels) or (n, channels, height, width)"
            )
        return self.rows.ndim == 4


def read(path: Path, key: str | None = None) -> Given:
    """Read predictions as other pipelines write them; nothing is unpickled.

    Parameters
    ----------
    path : Path
        Folder of PNG or JPEG pictures, ``.npy``, ``.npz`` (an array ``ids`` in it names the rows), or ``.pt`` with a
        tensor or a dictionary of tensors.
    key : str, optional
        Which array of a file with several.

    Raises
    ------
    BenchError
        A path that is not there, is damaged, or holds something else.
    """
    from benchmark.data.files import Pictures, read_array

    if path.is_dir():
        names = _pictures(path)
        if not names:
            raise BenchError(f"{path}: holds no picture, {_EXPECTED}")
        for name in names:
            _refuse_alpha(path / name)
        pictures = Pictures(path, names)
        first = pictures[0]
        rows = np.empty((len(names), *first.shape), np.uint8)
        for row in range(len(names)):  # files are opened one by one
            rows[row] = pictures[row]
        return Given(path, rows, names=names)
    if not path.is_file() or path.suffix not in TENSORS:
        raise BenchError(f"{path}: {'unknown kind of file' if path.is_file() else 'no such file'}, {_EXPECTED}")
    if path.suffix == ".npy":
        return Given(path, _numbers(path, read_array(path.parent, path.name, "predictions")))
    arrays = _archive(path) if path.suffix == ".npz" else _tensors(path)
    ids = arrays.pop("ids", None)
    name = key or (next(iter(arrays)) if len(arrays) == 1 else None)
    if not arrays:
        raise BenchError(f"{path}: holds no array at its top level, expected one with a row for every test item")
    if name not in arrays:
        raise BenchError(f"{path}: holds {', '.join(arrays)}, expected --key to name one of its arrays")
    return Given(path, _numbers(path, arrays[name]), ids=None if ids is None else [str(value) for value in ids])


def read_ids(path: Path) -> list[str]:
    """Return the ids in a JSON list, in lines of text, or in the column ``stimulus_id`` (or the only one) of a CSV."""
    from benchmark.data.files import read_json, read_table

    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, list) or not all(isinstance(v, (str, int)) for v in values):
            raise BenchError(f"{path}: expected a list of stimulus ids in the order of rows")
        return [str(value) for value in values]
    if path.suffix == ".csv":
        columns = read_table(path.parent, path.name).columns
        name = "stimulus_id" if "stimulus_id" in columns else next(iter(columns))
        if name != "stimulus_id" and len(columns) > 1:
            raise BenchError(f"{path}: columns are {', '.join(columns)}, expected one named stimulus_id")
        return columns[name].tolist()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}), expected stimulus ids, one per line") from None
    return [line.strip() for line in lines if line.strip()]


def row_of_item(given: Given, items: Sequence[str], listed: Sequence[str], files: Files) -> np.ndarray:
    """Return the row of every test item; every way the ids could be wrong is refused.

    Parameters
    ----------
    given : Given
        Numbered pictures in the order of their numbers.
    items : sequence of str
        Id of every test item, each once.
    listed : sequence of str
        The same ids in the split's order.
    files : Files
    """
    path, n = given.path, len(given.rows)
    if n != len(items):
        raise BenchError(f"{path}: {n} predictions, expected {len(items)}, one per test item")
    where = path
    if given.names is not None and (named := _ids_in_names(path, given.names, items, files)):
        ids = named
    elif files.in_order:
        ids = list(listed)
    elif files.ids:
        ids, where = read_ids(files.ids), files.ids
    elif given.ids is not None:
        ids = given.ids
    else:
        raise BenchError(
            f"{path}: its rows have no ids, expected --ids FILE with the stimulus id of every row, or --order split to "
            "say that they are in the split's order (bench score --show-ids prints it)"
        )
    if len(ids) != n:
        raise BenchError(f"{where}: {len(ids)} ids, expected {n}, one for every prediction")
    place = {value: row for row, value in enumerate(ids)}
    if len(place) < n:
        twin = next(value for row, value in enumerate(ids) if place[value] != row)
        raise BenchError(f"{where}: id {twin!r} is there twice, expected the id of every test item once")
    known = set(items)
    if strange := [value for value in ids if value not in known]:
        missing = next(value for value in listed if value not in place)
        raise BenchError(
            f"{where}: {len(strange)} of its ids are no test item's, the first is {strange[0]!r}, expected {missing!r} "
            "among them (bench score --show-ids prints all)"
        )
    return np.array([place[value] for value in items])


def as_pictures(path: Path, rows: np.ndarray, channels: int) -> np.ndarray:
    """Return pictures as uint8 (n, height, width, channels).

    Floats must lie in [0, 1] and are rounded to 255 steps; whole numbers must be uint8. Channels may come first; grey
    is repeated for a colour dataset; colour is taken as grey only where all channels are equal.
    """
    last, first = rows.shape[-1] in (1, 3), rows.shape[1] in (1, 3)
    if last == first:
        what = "channels could be the second or the last axis" if last else "no axis of 1 or 3 channels (no alpha)"
        raise BenchError(f"{path}: shape {rows.shape}, {what}, expected (n, height, width, 1 or 3)")
    rows = rows if last else np.moveaxis(rows, 1, -1)
    if rows.dtype.kind == "f":
        low, high = rows.min(), rows.max()
        if low < 0 or high > 1:
            raise BenchError(f"{path}: pixels from {low:g} to {high:g}, expected floats in [0, 1] or uint8")
        if high <= 1 / 255:  # divided by 255 twice
            raise BenchError(f"{path}: no pixel is above {high:g}, expected floats from 0 to 1")
        rows = np.rint(rows * np.float32(255)).astype(np.uint8)
    elif rows.dtype != np.uint8:
        raise BenchError(f"{path}: pixels of type {rows.dtype}, expected floats in [0, 1] or uint8")
    elif rows.max() <= 1:
        raise BenchError(f"{path}: no pixel is above {rows.max()}, expected uint8 pixels from 0 to 255")
    if rows.shape[-1] < channels:
        rows = rows.repeat(channels, axis=-1)
    elif rows.shape[-1] > channels:
        if (rows != rows[..., :1]).any():
            raise BenchError(f"{path}: coloured pictures, expected grey ones as the dataset's are")
        rows = rows[..., :1]
    return np.ascontiguousarray(rows)


def _numbers(path: Path, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "fiu" or values.size == 0:
        raise BenchError(f"{path}: {values.dtype} of shape {values.shape}, expected numbers")
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if values.dtype.kind == "f" and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise BenchError(f"{path}: NaN or infinity, expected numbers")
    return values


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own errors for a damaged archive
        raise BenchError(f"{path}: cannot be read ({type(error).__name__}), expected plain arrays") from None


def _tensors(path: Path) -> dict[str, np.ndarray]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no archive of tensors makes the reader raise
        raise BenchError(f"{path}: cannot be read as plain tensors ({type(error).__name__}), expected some") from None
    found = found if isinstance(found, dict) else {"": found}
    ids = found.get("ids")
    tensors = {str(k): v.detach() for k, v in found.items() if isinstance(v, torch.Tensor)}
    arrays = {k: (v.float() if v.dtype in (torch.bfloat16, torch.float16) else v).numpy() for k, v in tensors.items()}
    return arrays | ({"ids": list(ids)} if isinstance(ids, (list, tuple)) else {})


def _refuse_alpha(path: Path) -> None:
    """Refuse a picture that is transparent somewhere: what would be seen depends on the ground."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            opaque = "A" not in file.getbands() or file.getchannel("A").getextrema()[0] == 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return  # said where it is read
    if not opaque:
        raise BenchError(f"{path}: transparent pixels, expected an opaque picture")


def _ids_in_names(path: Path, names: Sequence[str], expected: Sequence[str], files: Files) -> list[str]:
    """Return the test item's id that each file name carries, as a whole word.

    Names that carry the id of every test item are believed before anything else; otherwise, where another order is
    stated, the result is empty.
    """
    known = set(expected)
    words = "|".join(re.escape(value) for value in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])")
    found = []
    for name in names:
        stem = Path(name).stem
        ids = {stem} if stem in known else set(pattern.findall(stem))
        if len(ids) != 1 and (files.ids or files.in_order):
            return []
        if len(ids) != 1:
            what = f"carries the ids {' and '.join(sorted(ids))}" if ids else "carries no test item's id"
            raise BenchError(
                f"{path / name}: its name {what}, expected one such as {expected[0]!r}, or --ids FILE or --order split "
                "for pictures numbered in that order"
            )
        found.append(ids.pop())
    return found if len(set(found)) == len(known) or not (files.ids or files.in_order) else []


def numbered(given: Given, items: Sequence[str], files: Files) -> Given:
    """Return pictures in the order of the one number in each name, where that is what their order hangs on."""
    if given.names is None or not (files.ids or files.in_order):
        return given
    if _ids_in_names(given.path, given.names, items, files):
        return given
    numbers = [re.findall(r"\d+", Path(name).stem) for name in given.names]
    for name, found in zip(given.names, numbers, strict=True):
        if len(found) != 1:
            raise BenchError(f"{given.path / name}: {len(found)} numbers in its name, expected the one of its place")
    places = np.array([int(found[0]) for found in numbers])
    if len(np.unique(places)) < len(places):
        raise BenchError(f"{given.path}: two pictures have the same number, expected each once")
    order = np.argsort(places)
    return dataclasses.replace(given, rows=given.rows[order], names=[given.names[i] for i in order])


def checksum(files: Files) -> str:
    """Return the checksum of everything that the predictions come of."""
    from benchmark.data.files import hash_files

    def sums(path: Path) -> list:
        if not path.is_dir():
            return list(hash_files(path.parent, [path.name], None).values())
        return sorted(hash_files(path, _pictures(path), None).items())

    ids = sums(files.ids) if files.ids else None
    return digest([READ_VERSION, [sums(path) for path in files.paths], ids, files.in_order, files.key], 64)


def _pictures(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
