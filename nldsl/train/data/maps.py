"""Arrays in files: they take the memory of the page cache alone, whatever their size.

text = Growing(np.uint8)
text.append(piece)
text.array()                    # mapped; its file has no name and goes with the process

kept("3f8a..", make)            # a folder of the user's cache, made once
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from weakref import finalize

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nldsl import writing
from nldsl.train import faults

UNUSED = 30 * 24 * 3600  # seconds until what is kept and not used is removed
Numbers = NDArray[Any]  # of the kind that the array was made with


class Growing:
    """An array that is appended to, in a file: `path`, or one without a name."""

    def __init__(self, kind: DTypeLike, path: Path | None = None) -> None:
        self.kind, self.folder = np.dtype(kind), path or cache()
        try:
            self._file: IO[bytes] = (
                tempfile.TemporaryFile(dir=self.folder) if path is None else path.open("w+b")
            )
        except OSError as error:
            raise faults.cannot_write(self.folder, error) from None
        finalize(self, self._file.close)

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._file.tell() // self.kind.itemsize

    def append(self, values: Numbers | bytes) -> None:
        """Raises N713 if the disk is full."""
        try:
            if isinstance(values, bytes):
                self._file.write(values)
            else:
                self._file.write(np.ascontiguousarray(values, self.kind).data)
        except OSError as error:
            raise faults.cannot_write(self.folder, error) from None

    def array(self) -> Numbers:
        """All that was appended, mapped; nothing more can be."""
        try:
            self._file.flush()
        except OSError as error:
            raise faults.cannot_write(self.folder, error) from None
        found = mapped(self._file, self.kind)
        self._file.close()
        return found


def mapped(file: IO[bytes], kind: DTypeLike, skip: int = 0) -> Numbers:
    """The file from byte `skip` on, read-only. Raises OSError."""
    kind, size = np.dtype(kind), os.fstat(file.fileno()).st_size
    if size <= skip:
        return np.zeros(0, kind)
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(pages, kind, (size - skip) // kind.itemsize, skip)


def cache() -> Path:
    """Where such files lie: on a disk, since /tmp may be memory."""
    return writing.home() or Path(tempfile.gettempdir())


def kept(key: str, make: Callable[[Path], None]) -> Path:
    """The folder `key`, filled by `make` if it is not there: whole or not at all. What was not used
    for long is removed.
    """
    folder = cache() / "data" / key
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            for other in folder.parent.iterdir():
                with suppress(FileNotFoundError):  # where another process was sooner
                    if time.time() - other.stat().st_mtime > UNUSED:
                        shutil.rmtree(other, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="draft-") as draft:
                (Path(draft) / key).mkdir()
                make(Path(draft) / key)
                if not folder.is_dir():  # else another process was sooner
                    os.replace(Path(draft) / key, folder)
        os.utime(folder)
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
    return folder
