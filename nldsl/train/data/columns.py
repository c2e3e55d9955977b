"""DATA -> ROWS: what a program of several inputs reads, of each row the column of an input's name.

A token is a row: both parts are structured arrays [row] with a field for each input, which lie in
files that are mapped. Numbers are scaled as those of a table are, each entry by its mean and
deviation over the training part, the first nine tenths or the data's own; an index is not.

    input image: [28, 28]           a column of 784 numbers, or of 28 lists of 28
    input label: index(10)          a column of integers below 10
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldsl.core.nodes import numel
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic
from nldsl.train import faults
from nldsl.train.data.dataset import Cost, Dataset, Loss, Result, Tokens
from nldsl.train.data.formats import Columns, columns_readers, saved
from nldsl.train.data.given import Given
from nldsl.train.data.maps import Growing, Numbers
from nldsl.train.data.sequences import Extent, Places
from nldsl.train.data.table import HELD_OUT, Channels, recorded
from nldsl.train.data.text import require
from nldsl.train.records import Data

PIECE = 1 << 12  # rows looked at at once


@dataclass(frozen=True, eq=False)
class Rows:
    """`scale` is the mean and deviation [entry] of the numbers, input after input."""

    name: str
    train: Numbers
    held_out: Numbers
    scale: tuple[Channels, Channels]
    sha256: str  # of the values as given
    unit: str = "rows"
    findings: tuple[Diagnostic, ...] = ()
    vocabulary: None = None

    def extents(self, tokens: Tokens) -> list[Extent]:
        return [(0, len(tokens))]

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` rows fits in both parts."""
        require(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", len(self.held_out), length, self.unit)

    def record(self) -> Data:
        return recorded(self.name, len(self.train) + len(self.held_out), self.scale, self.sha256)

    def opening(self) -> Tokens:
        return self.held_out[:0]

    def spelled(self, places: Places) -> None:
        return None

    def compared(self, cost: Cost, scored: Dataset, beside: bool) -> Result:
        return Loss(cost.mean, cost.terms, self.unit)

    def describe(self) -> str:
        names = ", ".join(self.train.dtype.names or ())
        return (
            f"{self.name}: {len(self.train) + len(self.held_out):,} rows of {names}; "
            f"{len(self.held_out):,} held out\nsha256 {self.sha256}"
        )


def takes(program: Program) -> bool:
    """Several inputs, or one of more than one axis."""
    return len(program.inputs) > 1 or any(len(x.shape) > 1 for x in program.inputs.values())


def of(program: Program, given: Given) -> Rows:
    """Raises N701, N705 without DATA or for an index that is too large, N706 another size, N707 no
    finite number, N709 no such format, N751 no such column.
    """
    values, place = read(program, given)
    return scaled(program, str(given.path), values, place, None)


def whole(program: Program, given: Given, trained: Data) -> Rows:
    values, place = read(program, given)
    scale = np.array(trained.mean or []), np.array(trained.deviation or [])
    own = place if saved.is_saved(given.path or Path()) and place < len(values) else 0
    return scaled(program, str(given.path), values[own:], 0, scale)


def read(program: Program, given: Given) -> tuple[Numbers, int]:
    """The rows as given, and where those that are held out begin."""
    path, names = given.path, list(program.inputs)
    if path is None:
        raise faults.other_inputs(program.inputs)
    options = {"--column": given.columns, "--encoding": given.encoding, "--fill": given.fill}
    for option, said in options.items():
        if said:
            raise faults.option_does_not_fit(option, path, "its columns are those of the inputs")
    values = Growing(kind_of_rows(program))
    if saved.is_saved(path):
        train, held_out = saved.rows(path, names)
        fill(values, program, path, train)
        place = values.size if held_out else last(values.size)
        fill(values, program, path, held_out or iter(()))
        return values.array(), place
    if not path.is_file():
        raise faults.missing(path)
    readers = columns_readers()
    if path.suffix.lower() not in readers:
        known = ", ".join(sorted(readers))
        raise faults.no_table(path, f"several inputs are read of {known}, or of a data set")
    fill(values, program, path, readers[path.suffix.lower()](path, names))
    place = last(values.size)
    return values.array(), place


def last(size: int) -> int:
    return size - round(size * HELD_OUT)


def kind_of_rows(program: Program) -> np.dtype[np.void]:
    kinds = {name: np.int64 if name in program.vocab else np.float64 for name in program.inputs}
    sizes = {name: tuple(a.size for a in x.shape) for name, x in program.inputs.items()}
    return np.dtype([(name, kind, sizes[name]) for name, kind in kinds.items()])


def fill(values: Growing, program: Program, path: Path, pieces: Iterator[Columns]) -> None:
    """Append rows, each value looked at."""
    for piece in pieces:
        rows = np.empty(len(next(iter(piece.values()))), values.kind)
        for name, node in program.inputs.items():
            column = piece[name]
            size = numel(node.shape)
            if column.dtype.kind not in ("iu" if name in program.vocab else "fiub"):
                raise faults.other_column(path, name, str(column.dtype), name in program.vocab)
            if column[:1].size != size * len(column[:1]):
                raise faults.other_size(path, name, column[:1].size, size)
            rows[name] = column.reshape(rows[name].shape)
            if name in program.vocab:
                inside(program, path, name, rows[name])
            elif not np.isfinite(rows[name]).all():
                raise faults.no_number(path, f"column `{name}`", "nan")
        values.append(rows)


def inside(program: Program, path: Path, name: str, indices: Numbers) -> None:
    size = program.vocab[name]
    for index in (indices.min(initial=0), indices.max(initial=0)):
        if not 0 <= index < size:
            raise faults.more_tokens(program.inputs[name], name, size, str(path), int(index))


def scaled(
    program: Program,
    name: str,
    values: Numbers,
    place: int,
    scale: tuple[Channels, Channels] | None,
) -> Rows:
    """Both parts, with numbers scaled by what the training part has, or by `scale`."""
    numbers = [name for name in program.inputs if name not in program.vocab]
    mean, deviation = scale or spread(values[:place], numbers)
    parts = []
    for begin, end in ((0, place), (place, len(values))):
        made = Growing(values.dtype)
        for at in range(begin, end, PIECE):
            rows, first = values[at : min(end, at + PIECE)].copy(), 0
            for number in numbers:
                flat = rows[number].reshape(len(rows), -1)
                own = slice(first, first := first + flat.shape[1])
                flat = (flat - mean[own]) / deviation[own]
                rows[number] = flat.reshape(rows[number].shape)
            made.append(rows)
        parts.append(made.array())
    digest = hashlib.sha256(values.tobytes() if not len(values) else values.data)
    digest.update(str(place).encode())
    return Rows(name, parts[0], parts[1], (mean, deviation), digest.hexdigest())


def spread(values: Numbers, numbers: list[str]) -> tuple[Channels, Channels]:
    """Mean and deviation of each entry, summed piece by piece."""
    count, means, squares = 0, np.zeros(0), np.zeros(0)
    for at in range(0, len(values), PIECE):
        rows = values[at : at + PIECE]
        flat = np.concatenate(
            [np.zeros((len(rows), 0)), *(rows[n].reshape(len(rows), -1) for n in numbers)], 1
        )
        mean, size = flat.mean(0), len(rows)
        if not count:
            means, squares = np.zeros_like(mean), np.zeros_like(mean)
        apart = mean - means
        squares = squares + flat.var(0) * size + apart**2 * count * size / (count + size)
        means = means + apart * size / (count + size)
        count += size
    deviation = np.sqrt(squares / max(1, count))
    still = deviation <= 1e-13 * np.maximum(np.abs(means), np.finfo(float).tiny)
    return means, np.where(still, 1.0, deviation)
