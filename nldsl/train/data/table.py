"""DATA -> a real-valued series: a .csv or .npy file of [time, channel], or one made here.

Each channel is scaled by its mean and deviation over the training part, the first nine tenths; the
rest is held out. Without DATA, the series is the Lorenz-96 system: dx_i/dt = (x_{i+1} - x_{i-2})
x_{i-1} - x_i + 8, a standard test of forecasting, the same on every machine up to rounding and
chaotic, so that no value repeats (Lorenz 1996, "Predictability: a problem partly solved", Eq. 1).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nldsl.core.nodes import numel
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, counted
from nldsl.train import faults
from nldsl.train.data.dataset import Cost, Dataset, Line, Loss, Result, Tokens
from nldsl.train.data.formats import Table, table_readers
from nldsl.train.data.given import Given
from nldsl.train.data.sequences import Extent, Places
from nldsl.train.data.text import require
from nldsl.train.records import Data

HELD_OUT = 1 / 10  # of the time, the end of it
POINTS, DELTA, FORCING, WARM = 20_000, 0.05, 8.0, 500
ROUNDING = 1e-13  # of a deviation, against the largest number of its column
LEAST_COUPLED = 4  # channels that the system needs


Channels = NDArray[np.float64]  # [channel]


def recorded(name: str, points: int, scale: tuple[Channels, Channels], sha256: str) -> Data:
    """What run.json keeps of numbers; `scale` is their mean and deviation [channel]."""
    mean, deviation = (x.tolist() for x in scale)
    channels = len(mean) or None
    return Data(
        name=name, points=points, channels=channels, mean=mean, deviation=deviation, sha256=sha256
    )


@dataclass(frozen=True)
class Forecast:
    """Means over the same `terms` held-out points: the model's loss; the squared error, summed over
    channels, of two predictors.
    """

    model: float
    last: float
    mean: float
    terms: int

    def describe(self) -> str:
        return (
            f"held out: loss {self.model:.4f}; squared error of predicting the last value "
            f"{self.last:.4f}, the training mean {self.mean:.4f}"
            f" ({self.terms:,} points scored)"
        )

    def event(self) -> dict[str, float | None]:
        return {"loss": self.model, "last": self.last, "mean": self.mean, "terms": self.terms}

    @property
    def line(self) -> Line:
        return f"the last value {self.last:.4f}", self.last


@dataclass(frozen=True, eq=False)
class Series:
    """`train` and `held_out` are float64 [time, channel], scaled."""

    name: str
    train: Table
    held_out: Table
    scale: tuple[Channels, Channels]  # mean and deviation [channel] that it was scaled by
    sha256: str  # of the values as given
    unit: str = "points"
    findings: tuple[Diagnostic, ...] = ()  # warnings
    vocabulary: None = None
    gaps: int = 0  # values that were filled in

    def given(self) -> Table:
        """The values as they were given, up to rounding."""
        scaled: Table = np.concatenate([self.train, self.held_out])
        return scaled * self.scale[1] + self.scale[0]

    def extents(self, tokens: Tokens) -> list[Extent]:
        return [(0, len(tokens))]

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` points fits in both parts."""
        require(self.name, "training", len(self.train), length, self.unit)
        require(self.name, "held-out", len(self.held_out), length, self.unit)

    def record(self) -> Data:
        return recorded(self.name, len(self.train) + len(self.held_out), self.scale, self.sha256)

    def opening(self) -> Tokens:
        return self.held_out[:0]

    def spelled(self, places: Places) -> None:
        return None

    def compared(self, cost: Cost, scored: Dataset, beside: bool) -> Result:
        tokens = scored.held_out
        if not cost.terms or cost.ahead != 1:
            return Loss(cost.mean, cost.terms, self.unit)
        wanted = tokens[cost.places + 1]
        last, mean = (
            float(((wanted - guess) ** 2).sum() / cost.terms)
            for guess in (tokens[cost.places], self.train.mean(0))
        )
        return Forecast(cost.mean, last, mean, cost.terms)

    def describe(self) -> str:
        filled = f", {counted(self.gaps, 'gap')} filled" if self.gaps else ""
        return (
            f"{self.name}: {len(self.train) + len(self.held_out):,} points of "
            f"{self.train.shape[1]} channels{filled}, each scaled by its training mean "
            f"and deviation; the last {len(self.held_out):,} points held out\nsha256 {self.sha256}"
        )


def takes(program: Program) -> bool:
    """Numbers, as the only input: one, or a row of channels."""
    inputs = list(program.inputs.values())
    return len(inputs) == 1 and not program.vocab and len(inputs[0].shape) <= 1


def of(program: Program, given: Given) -> Series:
    (rows,) = program.inputs.values()
    return load(given, numel(rows.shape))


def whole(program: Program, given: Given, trained: Data) -> Series:
    mean, deviation = np.array(trained.mean), np.array(trained.deviation)
    table = load(given, len(mean))
    return replace(
        table,
        train=np.zeros((1, len(mean))),
        held_out=(table.given() - mean) / deviation,
        scale=(mean, deviation),
    )


def load(given: Given, channels: int) -> Series:
    """Raises N701, N702 as for text; N706 another number of channels, N707 what is not a finite
    number, N708 rows of different length, N709 no table.
    """
    path = given.path
    if path is None:
        return series(f"Lorenz-96 system made by nldsl, time step {DELTA}", lorenz(channels))
    if path.is_dir():
        raise faults.no_table(path, "a folder")
    if not path.is_file():
        raise faults.missing(path)
    readers = table_readers()
    if path.suffix.lower() not in readers:
        raise faults.no_table(path, f"its name ends in none of {', '.join(sorted(readers))}")
    values = readers[path.suffix.lower()](path, given)
    if values.ndim != 2:
        raise faults.no_table(path, f"an array of {values.ndim} axes")
    if values.shape[1] != channels:
        raise faults.other_channels(path, values.shape[1], channels)
    gaps = int(np.isnan(values).sum())
    return replace(series(str(path), filled(path, values, given.fill)), gaps=gaps)


def filled(path: Path, values: Table, how: str | None) -> Table:
    """Each gap as its column's last value, on the line from that to the next one, or a number.
    Raises N707 where the column has none on that side.
    """
    gaps = np.isnan(values)
    if how is None or not gaps.any():
        return values
    if how not in ("last", "linear"):
        return np.where(gaps, float(how), values)
    times = np.arange(len(values))
    before = np.maximum.accumulate(np.where(gaps, -1, times[:, None]), 0)
    behind = np.minimum.accumulate(np.where(gaps, len(values), times[:, None])[::-1], 0)[::-1]
    for open_, side in ((before < 0, "before"), (behind == len(values), "behind")):
        if open_.any() and (side == "before" or how == "linear"):
            row, column = np.argwhere(open_)[0].tolist()
            raise faults.open_gap(path, row + 1, column + 1, side)
    last = np.take_along_axis(values, before, 0)
    if how == "last":
        return last
    next_ = np.take_along_axis(values, behind, 0)
    share = (times[:, None] - before) / np.maximum(behind - before, 1)
    return np.where(gaps, last + share * (next_ - last), values)


def series(name: str, values: Table) -> Series:
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


def spread_of(values: Table) -> tuple[tuple[Channels, Channels], list[int]]:
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


def lorenz(channels: int) -> Table:
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


def slope(x: Channels) -> Channels:
    return (np.roll(x, -1) - np.roll(x, 2)) * np.roll(x, 1) - x + FORCING
