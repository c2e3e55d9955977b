"""FILE -> TEXT, TOKENS, A TABLE, COLUMNS: a format is one file of this folder, which registers the
suffixes that it reads, and as what.

    @reads(".npy")
    def from_npy(path: Path) -> Table: ...

    @reads_text(".jsonl")
    def from_jsonl(path: Path, given: Given) -> Iterator[bytes]: ...

    separated.py   .csv and .tsv: a row for each time; a column of documents
    npz.py         .npz: an array for each of several inputs
    npy.py         .npy: a NumPy array, of numbers or of tokens
    binary.py      .bin: tokens as nanoGPT and llm.c write them
    jsonl.py       .jsonl: a document in each line
    parquet.py     .parquet: a column of documents, or columns of numbers
    saved.py       data sets of Hugging Face: a folder, or a name of the hub

Guarantee: a table is float64 [time, channel] of finite numbers, or has another number of axes,
which `table.load` refuses; documents are UTF-8; tokens are mapped, not read. What is not of the
format is told at its place (N707 to N709, N751 to N758). A package that a format needs is imported
where it is used (N890).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nldsl.extras import needs
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Numbers

Table = NDArray[np.float64]  # [time, channel]
Ids = NDArray[np.integer]  # [token]
TableReader = Callable[[Path, Given], Table]
TextReader = Callable[[Path, Given], Iterator[bytes]]  # document after document
TokensReader = Callable[[Path], Ids]
Columns = dict[str, Numbers]  # [row, ..] of each column
ColumnsReader = Callable[[Path, list[str]], Iterator[Columns]]  # of these names, piece by piece
R = TypeVar("R")
Registered = Callable[[R], R]

_TABLES: dict[str, TableReader] = {}
_TEXTS: dict[str, TextReader] = {}
_TOKENS: dict[str, TokensReader] = {}
_COLUMNS: dict[str, ColumnsReader] = {}


def reads(*suffixes: str) -> Registered[TableReader]:
    """Register a reader for files whose names end so, in lower case and with the dot."""
    return registering(_TABLES, suffixes)


def reads_text(*suffixes: str) -> Registered[TextReader]:
    return registering(_TEXTS, suffixes)


def reads_tokens(*suffixes: str) -> Registered[TokensReader]:
    return registering(_TOKENS, suffixes)


def reads_columns(*suffixes: str) -> Registered[ColumnsReader]:
    return registering(_COLUMNS, suffixes)


def registering(known: dict[str, R], suffixes: tuple[str, ...]) -> Registered[R]:
    def register(reader: R) -> R:
        known.update(dict.fromkeys(suffixes, reader))
        return reader

    return register


def table_readers() -> Mapping[str, TableReader]:
    """Suffix -> reader, of every file of this folder and of all others that have registered."""
    return found(_TABLES)


def text_readers() -> Mapping[str, TextReader]:
    return found(_TEXTS)


def tokens_readers() -> Mapping[str, TokensReader]:
    return found(_TOKENS)


def columns_readers() -> Mapping[str, ColumnsReader]:
    return found(_COLUMNS)


def found(known: dict[str, R]) -> Mapping[str, R]:
    registered()
    return known


@cache
def registered() -> None:
    for file in pkgutil.iter_modules(__path__, f"{__name__}."):
        import_module(file.name)


def needed(module: str) -> ModuleType:
    """A module of a package that nldsl does not require. Raises N890 if it is not installed."""
    with needs("data"):
        return import_module(module)
