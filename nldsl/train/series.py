"""DATA -> a real-valued series: a .csv or .npy file of [time, channel], or one made here.

Each channel is scaled by its mean and deviation over the training part, the first nine tenths; the rest is held out. Without
DATA, the series is the Lorenz-96 system: dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + 8, a standard test of forecasting, the same
on every machine up to rounding and chaotic, so that no value repeats (Lorenz 1996, "Predictability: a problem partly solved", Eq. 1).
"""
from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldsl.train import faults
from nldsl.train.data import content, places

HELD_OUT = 1 / 10                                  # of the time, the end of it
POINTS, DELTA, FORCING, WARM = 20_000, 0.05, 8.0, 500
LEAST_COUPLED = 4                                  # channels that the system needs


@dataclass(frozen=True, eq=False)
class Series:
    """`train` and `held_out` are float64 [time, channel], scaled."""

    name: str
    train: np.ndarray
    held_out: np.ndarray
    scale: tuple[np.ndarray, np.ndarray]           # mean and deviation [channel] that it was scaled by
    sha256: str                                    # of the values as given
    unit: str = "points"

    def batch(self, seed: int, step: int, micro: int, batch: int, length: int, onward: bool = False) -> np.ndarray:
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
        return {"name": self.name, "points": len(self.train) + len(self.held_out), "channels": self.train.shape[1],
                "mean": self.scale[0].tolist(), "deviation": self.scale[1].tolist(), "sha256": self.sha256}

    def describe(self) -> str:
        return (f"{self.name}: {len(self.train) + len(self.held_out):,} points of {self.train.shape[1]} channels, each scaled by its training mean "
                f"and deviation; the last {len(self.held_out):,} points held out\nsha256 {self.sha256}")


def load(path: Path | None, channels: int) -> Series:
    """Raises N701, N702 as for text; N706 another number of channels, N707 what is no finite number, N708 rows of different length, N709 no table."""
    if path is None:
        return series(f"Lorenz-96 system made by nldsl, time step {DELTA}", lorenz(channels))
    if not path.is_file():
        raise faults.missing(path)
    values = from_csv(path) if path.suffix == ".csv" else from_npy(path) if path.suffix == ".npy" else None
    if values is None or values.ndim != 2:
        raise faults.no_table(path, "neither .csv nor .npy" if values is None else f"an array of {values.ndim} axes")
    if values.shape[1] != channels:
        raise faults.other_channels(path, values.shape[1], channels)
    return series(str(path), values)


def from_csv(path: Path) -> np.ndarray:
    """A first row without a number is a heading; empty lines are nothing."""
    rows = [(n, row) for n, row in enumerate(csv.reader(content(path).decode("utf-8", errors="replace").splitlines()), 1) if row]
    if rows and not any(is_number(cell) for cell in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise faults.no_table(path, "without a row of numbers")
    width = len(rows[0][1])
    for n, row in rows:
        if len(row) != width:
            raise faults.ragged(path, n, len(row), width)
        for cell in row:
            if not is_number(cell) or not np.isfinite(float(cell)):
                raise faults.no_number(path, f"line {n}", cell.strip())
    return np.array([[float(cell) for cell in row] for _, row in rows])


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


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


def series(name: str, values: np.ndarray) -> Series:
    cut = len(values) - round(len(values) * HELD_OUT)
    mean, deviation = values[:cut].mean(0), values[:cut].std(0)
    scale = mean, np.where(deviation > 0, deviation, 1.0)
    scaled = (values - scale[0]) / scale[1]
    return Series(name, scaled[:cut], scaled[cut:], scale, hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())


def lorenz(channels: int) -> np.ndarray:
    """float64 [POINTS, channels]: the first channels of a ring of at least LEAST_COUPLED, by Runge-Kutta of fourth order."""
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
