"""DATA -> a real-valued series: a .csv or .npy file of [time, channel], or one made here.

Each channel is scaled by its mean and deviation over the training part, the first nine tenths; the
rest is held out. Without DATA, the series is the Lorenz-96 system: dx_i/dt = (x_{i+1} - x_{i-2})
x_{i-1} - x_i + 8, a standard test of forecasting, the same on every machine up to rounding and
chaotic, so that no value repeats (Lorenz 1996, "Predictability: a problem partly solved", Eq. 1).
"""

from __future__ import annotations

import csv
import hashlib
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from nldsl.diagnostic import Diagnostic
from nldsl.source import decoded
from nldsl.train import faults, filetype
from nldsl.train.data import content, places

HELD_OUT = 1 / 10  # of the time, the end of it
POINTS, DELTA, FORCING, WARM = 20_000, 0.05, 8.0, 500
MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "nan", "nil", "none", "null", "missing", "-", "--", "?", ".")
)  # said of a value that is not there
ROUNDING = 1e-13  # of a deviation, against the largest number of its column
LEAST_COUPLED = 4  # channels that the system needs


@dataclass(frozen=True, eq=False)
class Series:
    """`train` and `held_out` are float64 [time, channel], scaled."""

    name: str
    train: np.ndarray
    held_out: np.ndarray
    scale: tuple[np.ndarray, np.ndarray]  # mean and deviation [channel] that it was scaled by
    sha256: str  # of the values as given
    unit: str = "points"
    findings: tuple[Diagnostic, ...] = ()  # warnings

    def batch(
        self, seed: int, step: int, micro: int, batch: int, length: int, onward: bool = False
    ) -> np.ndarray:
        """float64 [batch, length, channel], see `data.places`."""
        return self.train[places(len(self.train), seed, step, micro, batch, length, onward)]

    def given(self) -> np.ndarray:
        """The values as they were given, up to rounding."""
        return np.concatenate([self.train, self.held_out]) * self.scale[1] + self.scale[0]

    def extents(self, values: np.ndarray) -> list[tuple[int, int]]:
        return [(0, len(values))]

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` points fits in both parts."""
        for part, values in (("training", self.train), ("held-out", self.held_out)):
            if len(values) < length:
                raise faults.too_short(self.name, part, len(values), length, self.unit)

    def numbers(self) -> dict[str, object]:
        return {
            "name": self.name,
            "points": len(self.train) + len(self.held_out),
            "channels": self.train.shape[1],
            "mean": self.scale[0].tolist(),
            "deviation": self.scale[1].tolist(),
            "sha256": self.sha256,
        }

    def describe(self) -> str:
        return (
            f"{self.name}: {len(self.train) + len(self.held_out):,} points of "
            f"{self.train.shape[1]} channels, each scaled by its training mean "
            f"and deviation; the last {len(self.held_out):,} points held out\nsha256 {self.sha256}"
        )


def load(path: Path | None, channels: int) -> Series:
    """Raises N701, N702 as for text; N706 another number of channels, N707 what is no finite
    number, N708 rows of different length, N709 no table.
    """
    if path is None:
        return series(f"Lorenz-96 system made by nldsl, time step {DELTA}", lorenz(channels))
    if path.is_dir():
        raise faults.no_table(path, "a folder")
    if not path.is_file():
        raise faults.missing(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise faults.no_table(path, "neither .csv nor .npy")
    values = reader(path)
    if values.ndim != 2:
        raise faults.no_table(path, f"an array of {values.ndim} axes")
    if values.shape[1] != channels:
        raise faults.other_channels(path, values.shape[1], channels)
    return series(str(path), values)


def from_csv(path: Path) -> np.ndarray:
    """A first row of names is a heading.

    A row for each time: an empty line between rows is a gap.
    """
    values, width, empty = array("d"), 0, 0
    for line, row in rows(path):
        if not any(cell.strip() for cell in row) and len(row) <= 1:
            empty = empty or line
            continue
        if not width and is_heading(row):
            empty, width = 0, len(row)
            continue
        if empty and width:
            raise faults.no_number(
                path,
                f"line {empty}",
                "",
                "fill the gap; if no time is missing there, remove the empty line",
            )
        empty, width = 0, width or len(row)
        if len(row) != width:
            raise faults.ragged(path, line, len(row), width)
        for cell in row:
            if (number := number_of(cell)) is None:
                raise faults.no_number(path, f"line {line}", cell.strip(), instead(cell))
            values.append(number)
    if not values:
        raise faults.no_table(path, "without a row of numbers")
    return np.array(values).reshape(-1, width)


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row.

    The separator is a comma; a semicolon or a tabulator if the first line has one.
    """
    data = content(path)
    text = decoded(data.tobytes())
    if (found := filetype.seems(data)) and found.name not in ("UTF-16 text", "UTF-32 text"):
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
    """Does it name columns? What stands for a value that is missing names nothing."""
    return not any(is_number(cell) for cell in row) and any(
        cell.strip().lower() not in MISSING for cell in row
    )


def number_of(cell: str) -> float | None:
    """What a cell holds; None for what is no finite number."""
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


def from_npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise faults.no_table(path, str(error)) from None
    except OSError as error:
        raise faults.unreadable(path, error) from None
    if values.dtype.kind not in "fiu":
        raise faults.no_table(path, f"an array of {values.dtype}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise faults.no_number(path, f"index {tuple(bad[0].tolist())}", str(values[tuple(bad[0])]))
    return values.astype(np.float64)


READERS = {".csv": from_csv, ".tsv": from_csv, ".npy": from_npy}


def series(name: str, values: np.ndarray) -> Series:
    cut = len(values) - round(len(values) * HELD_OUT)
    scale, still = spread_of(values[:cut])
    scaled = (values - scale[0]) / scale[1]
    return Series(
        name,
        scaled[:cut],
        scaled[cut:],
        scale,
        hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest(),
        findings=faults.constant(name, still).diagnostics if still else (),
    )


def spread_of(values: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], list[int]]:
    """Mean and deviation of each column, and the columns that are one number but for rounding:
    their deviation is said to be 1.
    """
    largest = np.maximum(
        np.abs(values).max(0, initial=0), np.finfo(float).tiny
    )  # so that no square is too large
    mean, deviation = (
        (values / largest).mean(0) if len(values) else largest * 0,
        (values / largest).std(0) if len(values) else largest * 0,
    )
    still = deviation <= ROUNDING
    return (mean * largest, np.where(still, 1.0, deviation * largest)), np.flatnonzero(
        still
    ).tolist()


def lorenz(channels: int) -> np.ndarray:
    """float64 [POINTS, channels]: the first channels of a ring of at least LEAST_COUPLED, by
    Runge-Kutta of fourth order.
    """
    x = np.full(max(channels, LEAST_COUPLED), FORCING)
    x[0] += 0.01
    found = np.empty((POINTS, channels))
    for t in range(-WARM, POINTS):
        a = slope(x)
        b = slope(x + DELTA / 2 * a)
        c = slope(x + DELTA / 2 * b)
        x = x + DELTA / 6 * (a + 2 * b + 2 * c + slope(x + DELTA * c))
        if t >= 0:
            found[t] = x[:channels]
    return found


def slope(x: np.ndarray) -> np.ndarray:
    return (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + FORCING
