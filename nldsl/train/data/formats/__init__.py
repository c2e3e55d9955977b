"""FILE -> TABLE: a format is one file of this folder, which registers the suffixes that it reads.

    @reads(".npy")
    def from_npy(path: Path) -> Table: ...

    separated.py   .csv and .tsv: text, a row for each time
    npy.py         .npy: a NumPy array

Guarantee: what a reader returns is float64 [time, channel] of finite numbers, or has another number
of axes, which `table.load` refuses; what is not a table is told at its place (N707 to N709).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]  # [time, channel]
Reader = Callable[[Path], Table]
_READERS: dict[str, Reader] = {}


def reads(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register a reader for files whose names end so, in lower case and with the dot."""

    def registered(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(suffixes, reader))
        return reader

    return registered


def readers() -> dict[str, Reader]:
    """Suffix -> reader, of every file of this folder and of all others that have registered."""
    for file in pkgutil.iter_modules(__path__, f"{__name__}."):
        import_module(file.name)
    return dict(_READERS)
