"""Files of a dataset in a folder or behind an fsspec URL, on disk one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmark.errors import BenchError


class Source:
    """A folder, or a URL such as ``s3://bucket`` or ``https://host/folder``.

    Parameters
    ----------
    place : str
        Remote options (credentials, anonymous access) come from fsspec's own configuration.

    Raises
    ------
    BenchError
        For a folder that is not there, a protocol fsspec does not know or lacks a package for.
    """

    def __init__(self, place: str | Path) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.place = str(place).rstrip("/") or "/"
        try:
            self.fs, self.root = url_to_fs(self.place, **_options(self.place))
        except (ValueError, ImportError) as error:
            raise BenchError(f"{self.place}: cannot be opened ({error}), expected a folder or an fsspec URL") from None
        self.is_local = isinstance(self.fs, LocalFileSystem)
        if self.is_local and not Path(self.root).is_dir():
            raise BenchError(f"{self.place}: no such folder, expected a folder or an fsspec URL")

    def name(self, path: str) -> str:
        """Return what to call a file in messages."""
        return str(Path(self.root) / path) if self.is_local else f"{self.place}/{path}"

    def has(self, path: str) -> bool:
        """Return whether a file is there."""
        return self._try(path, lambda: self.fs.isfile(self._path(path)))

    @contextmanager
    def file(self, path: str, scratch: Path) -> Iterator[Path]:
        """Give a file as one on this disk: itself, or a download below ``scratch`` that is deleted after use."""
        if self.is_local:
            yield Path(self.root) / path
            return
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            local = Path(folder) / Path(path).name
            self._try(path, lambda: self.fs.get_file(self._path(path), str(local)))
            yield local

    def open(self, path: str) -> IO[bytes]:
        """Open a file to read parts of it; nothing is read ahead."""
        if self.is_local:
            return self._try(path, lambda: open(Path(self.root) / path, "rb"))
        return self._try(path, lambda: self.fs.open(self._path(path), "rb", cache_type="none"))

    def _path(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}"

    def _try(self, path: str, action) -> Any:
        try:
            return action()
        except FileNotFoundError:
            raise BenchError(f"{self.name(path)}: no such file") from None
        except Exception as error:  # every protocol has errors of its own
            text = str(error) or type(error).__name__
            raise BenchError(f"{self.name(path)}: cannot be fetched ({text}); the same command goes on there") from None


def _options(place: str) -> dict[str, Any]:
    if not place.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    # aiohttp gives a whole download five minutes, too little for a session; a silent server still ends it
    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=60, sock_read=120)}}
