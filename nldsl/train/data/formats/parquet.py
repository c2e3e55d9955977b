"""Parquet -> documents, those of its column `text` or of the one that is named; or a table of its
columns of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from nldsl.train import faults
from nldsl.train.data.formats import Columns, Table, needed, reads, reads_columns, reads_text
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Numbers

ROWS = 1024  # read at once


class Column(Protocol):
    """What is used of pyarrow, which has no types of its own."""

    type: object

    def to_pylist(self) -> list[str | None]: ...  # or lists of numbers

    def to_numpy(self, zero_copy_only: bool) -> Numbers: ...


class Batch(Protocol):
    def column(self, name: str) -> Column: ...


class Schema(Protocol):
    names: list[str]

    def field(self, name: str) -> Column: ...


class File(Protocol):
    schema_arrow: Schema

    def iter_batches(self, batch_size: int, *, columns: list[str]) -> Iterator[Batch]: ...


@reads_text(".parquet")
def documents(path: Path, given: Given) -> Iterator[bytes]:
    column, row = given.column(path), 0
    if given.encoding:
        raise faults.option_does_not_fit("--encoding", path, "the text of Parquet is UTF-8")
    types, file = needed("pyarrow").types, opened(path)
    has = file.schema_arrow
    if column not in has.names:
        raise faults.no_column(path, column, has.names)
    kind = has.field(column).type
    if types.is_dictionary(kind):
        kind = getattr(kind, "value_type", kind)
    if not any(is_so(kind) for is_so in (types.is_string, types.is_large_string)):
        raise faults.no_document(path, "its schema", column, str(kind))
    for batch in pieces(path, file, [column]):
        for text in batch.column(column).to_pylist():
            row += 1
            if text is None:
                raise faults.no_document(path, f"row {row}", column, "null")
            yield text.encode()


@reads(".parquet")
def table(path: Path, given: Given) -> Table:
    """The columns that are named, or all, in their order."""
    file = opened(path)
    names = list(given.columns) or file.schema_arrow.names
    for name in names:
        if name not in file.schema_arrow.names:
            raise faults.no_column(path, name, file.schema_arrow.names)
    found = [
        np.stack([numbers(path, batch.column(name), name, given) for name in names], 1)
        for batch in pieces(path, file, names)
    ]
    return np.concatenate(found) if found else np.zeros((0, len(names)))


@reads_columns(".parquet")
def columns(path: Path, names: list[str]) -> Iterator[Columns]:
    """Lists in a column are axes of its array."""
    file = opened(path)
    for name in names:
        if name not in file.schema_arrow.names:
            raise faults.no_column(path, name, file.schema_arrow.names)
    for batch in pieces(path, file, names):
        try:
            yield {name: np.array(batch.column(name).to_pylist()) for name in names}
        except ValueError:
            raise faults.no_table(path, "the lists of a column have different lengths") from None


def numbers(path: Path, column: Column, name: str, given: Given) -> Table:
    types = needed("pyarrow").types
    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind)):
        raise faults.no_table(path, f"its column `{name}` is {kind}")
    values: Table = column.to_numpy(zero_copy_only=False).astype(np.float64)
    if np.isinf(values).any() or not given.fill and np.isnan(values).any():
        raise faults.no_number(path, f"column `{name}`", "null, nan or inf")
    return values


def opened(path: Path) -> File:
    """Raises N754 for a file that is not Parquet, N890 without pyarrow."""
    arrow = needed("pyarrow.parquet")
    try:
        file: File = arrow.ParquetFile(path)
    except OSError as error:
        raise faults.unreadable(path, error) from None
    except needed("pyarrow").ArrowException as error:
        raise faults.damaged_data(path, "Parquet", str(error)) from None
    return file


def pieces(path: Path, file: File, columns: list[str]) -> Iterator[Batch]:
    try:
        yield from file.iter_batches(ROWS, columns=columns)
    except (OSError, needed("pyarrow").ArrowException) as error:
        raise faults.damaged_data(path, "Parquet", str(error)) from None
