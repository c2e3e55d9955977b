"""A text of rows -> a table: `.csv` and `.tsv`, a row for each time."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np

from nldsl.train import faults
from nldsl.train.data import filetype
from nldsl.train.data.encodings import content
from nldsl.train.data.formats import Columns, Table, reads, reads_columns, reads_text
from nldsl.train.data.given import Given

MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "nan", "nil", "none", "null", "missing", "-", "--", "?", ".")
)  # said of a value that is not there


@reads(".csv", ".tsv")
def from_csv(path: Path, given: Given) -> Table:
    """A first row of names is a heading.

    A row for each time: an empty line between rows is a gap.
    """
    values, width, empty, chosen, heading = array("d"), 0, 0, None, []
    for line, row in rows(path, given):
        if not any(cell.strip() for cell in row) and len(row) <= 1:
            empty = empty or line
            continue
        if not width and (given.columns or is_heading(row)):
            empty, width = 0, len(row)
            heading, chosen = row, places(path, row, given.columns)
            continue
        if empty and width:
            raise faults.no_number(
                path,
                f"line {empty}",
                "",
                "`--fill` fills gaps in rows; if no time is missing there, remove the empty line",
            )
        empty, width = 0, width or len(row)
        if len(row) != width:
            raise faults.ragged(path, line, len(row), width)
        for cell in row if chosen is None else [row[place] for place in chosen]:
            if given.fill and cell.strip().lower() in MISSING:
                values.append(math.nan)
            elif (number := number_of(cell)) is None:
                help = instead(cell) or leaving_out(heading, row)
                raise faults.no_number(path, f"line {line}", cell.strip(), help)
            else:
                values.append(number)
    if not values:
        raise faults.no_table(path, "without a row of numbers")
    return np.array(values).reshape(-1, width if chosen is None else len(chosen))


@reads_text(".csv", ".tsv")
def documents(path: Path, given: Given) -> Iterator[bytes]:
    """The cells of the column that is named, below a heading."""
    width = place = 0
    for line, row in rows(path, given):
        if not width:
            width, (place,) = len(row), places(path, row, (given.column(path),))
        elif len(row) != width:
            raise faults.ragged(path, line, len(row), width)
        else:
            yield row[place].encode()


@reads_columns(".csv", ".tsv")
def columns(path: Path, names: list[str]) -> Iterator[Columns]:
    """Below a heading: the column `x` is one number, columns `x0`, `x1`, .. (or `x_0`, `x.0`) are
    several.
    """
    heading = next((row for _, row in rows(path, Given(path)) if any(row)), [])
    chosen = {name: alike([cell.strip() for cell in heading], name) for name in names}
    for name, found in chosen.items():
        if not found:
            raise faults.no_column(path, name, heading)
    every = tuple(name for found in chosen.values() for name in found)
    table, first = from_csv(path, Given(path, every)), 0
    made = {}
    for name, found in chosen.items():
        values = table[:, first : (first := first + len(found))]
        made[name] = values.astype(np.int64) if (values % 1 == 0).all() else values
    yield made


def alike(heading: list[str], name: str) -> list[str]:
    """The column of this name, or those of it and a number."""
    if name in heading:
        return [name]
    return [cell for cell in heading if re.fullmatch(re.escape(name) + r"[._]?\d+", cell)]


def places(path: Path, heading: list[str], names: tuple[str, ...]) -> list[int]:
    """Where the columns stand that are named; without names, all of them."""
    has = [cell.strip() for cell in heading]
    for name in names:
        if name not in has:
            raise faults.no_column(path, name, has)
    return [has.index(name) for name in names] or list(range(len(has)))


def rows(path: Path, given: Given) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row.

    The separator is a comma; a semicolon or a tabulator if the first line has one.
    """
    data = content(path, given.encoding)
    text = data.tobytes().decode(errors="replace")
    if found := filetype.seems(data):
        raise faults.no_table(path, f"it seems to be {found.name}")
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=next((mark for mark in ";\t" if mark in first), ","),
        strict=True,
    )
    line = 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise faults.no_table(
            path,
            f"line {line} has a quote that does not close, or a letter behind one that does "
            f"({error})",
        ) from None


def is_heading(row: list[str]) -> bool:
    """Does it name columns? A mark for a missing value is not a name."""
    return not any(is_number(cell) for cell in row) and any(
        cell.strip().lower() not in MISSING for cell in row
    )


def number_of(cell: str) -> float | None:
    """The number in a cell; None if it does not hold a finite number."""
    return float(cell) if is_number(cell) and math.isfinite(float(cell)) else None


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def instead(cell: str) -> str:
    if "," in cell and is_number(cell.replace(",", ".", 1)):
        return "a number has a decimal point: `" + cell.strip().replace(",", ".") + "`"
    if len(cell.split()) > 1 and all(is_number(part) for part in cell.split()):
        return "commas between the values of a row"
    return ""


def leaving_out(heading: list[str], row: list[str]) -> str:
    """How to choose the columns of a row that are numbers, where names stand above them."""
    has = [name.strip() for name, cell in zip(heading, row, strict=False) if is_number(cell)]
    return (
        "choose the columns of numbers: " + " ".join(f"`--column {name}`" for name in has[:4])
        if has and any(cell.strip() and not is_number(cell) for cell in row)
        else ""
    )
