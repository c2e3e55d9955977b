"""A data set of Hugging Face -> documents: a folder that `save_to_disk` wrote, which is mapped, or
`hf:NAME` of the hub, which is streamed.

Its split `train` is for training, `validation` or `test` is held out; a data set without splits, or
with one, is divided as a text is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from nldsl.train import faults
from nldsl.train.data.formats import Columns, needed
from nldsl.train.data.given import Given

HUB = "hf:"  # before the name of a data set of the hub
MARKS = ("dataset_dict.json", "state.json")  # of a folder of `save_to_disk`
HELD_OUT = ("validation", "test")
ROWS = 1024  # read at once


class Split(Protocol):
    """What is used of a split, mapped or streamed."""

    column_names: list[str] | None

    def select_columns(self, names: list[str]) -> Split: ...

    def with_format(self, name: str) -> Split: ...

    def iter(self, batch_size: int) -> Iterator[Columns]: ...

    def __iter__(self) -> Iterator[dict[str, object]]: ...


def is_saved(path: Path) -> bool:
    return str(path).startswith(HUB) or any((path / mark).is_file() for mark in MARKS)


def splits(path: Path) -> dict[str, Split]:
    """By name; the only one of a data set without splits is `train`. Raises N890 without the
    package, N754 if it cannot be read.
    """
    datasets = needed("datasets")
    try:
        found = (
            datasets.load_dataset(str(path).removeprefix(HUB), streaming=True)
            if str(path).startswith(HUB)
            else datasets.load_from_disk(str(path))
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise faults.damaged_data(path, "a data set", " ".join(str(error).split())) from None
    return dict(found) if isinstance(found, dict) else {"train": found}


def parts(path: Path, given: Given) -> tuple[Iterator[bytes], Iterator[bytes] | None]:
    """The documents for training, and those that are held out if it says which."""
    if given.encoding:
        raise faults.option_does_not_fit("--encoding", path, "its text is UTF-8")
    train, held_out = both(splits(path))
    own = None if held_out is None else documents(path, given, held_out)
    return documents(path, given, train), own


def both(every: dict[str, Split]) -> tuple[Split, Split | None]:
    """The split for training, and the one that is held out."""
    train = "train" if "train" in every else next(iter(every))
    names = [name for name in HELD_OUT if name in every and name != train]
    return every[train], every[names[0]] if names else None


def rows(path: Path, names: list[str]) -> tuple[Iterator[Columns], Iterator[Columns] | None]:
    """The columns of these names, in the same parts."""
    train, held_out = both(splits(path))
    own = None if held_out is None else columns(path, held_out, names)
    return columns(path, train, names), own


def columns(path: Path, split: Split, names: list[str]) -> Iterator[Columns]:
    has = split.column_names or list(next(iter(split), {}))
    for name in names:
        if name not in has:
            raise faults.no_column(path, name, has)
    for piece in split.select_columns(names).with_format("numpy").iter(ROWS):
        yield {name: np.asarray(piece[name]) for name in names}


def documents(path: Path, given: Given, split: Split) -> Iterator[bytes]:
    column = given.column(path)
    names = split.column_names or list(next(iter(split), {}))
    if column not in names:
        raise faults.no_column(path, column, names)
    for row, found in enumerate(split.select_columns([column]), 1):
        text = found[column]
        if not isinstance(text, str):
            raise faults.no_document(path, f"row {row}", column, repr(text)[:20])
        yield text.encode()
