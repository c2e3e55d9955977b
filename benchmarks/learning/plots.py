"""The pictures of the report, each from the runs alone; one that has no runs is not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.learning import charts
from benchmarks.learning.charts import Curve, Shades
from benchmarks.learning.protocol import BINS, Record, mean
from benchmarks.learning.runs import (
    LONGER,
    Score,
    forgetting,
    last,
    matrix,
    of,
    systems_of,
    throughout,
)
from benchmarks.learning.statistics import mean_and_error
from benchmarks.learning.systems import MAIN
from benchmarks.learning.tasks.continual import METHODS, STREAMS

Point = tuple[float, float, float]
# A system has one colour in all pictures; the last has that of the first, dashed.
LOOKS = (
    "transformer",
    "gla",
    "gated_deltanet",
    "ttt_linear",
    "atlas",
    "titans",
    "hope",
    "hope_attention",
    "transformer_swa",
)
# Periods in the order of a picture, and the system and change that have them.
SLOWER = {
    1.0: ("1, 1, 1, 1", "all_one", ""),
    2.0: ("1, 2, 4, 8", "spectrum", "periods 1 2 4 8"),
    3.0: ("1, 4, 16, 64", "spectrum", ""),
    4.0: ("1, 8, 64, 512", "spectrum", "periods 1 8 64 512"),
}
MORE = {
    1.0: ("1", "spectrum", "periods 1"),
    2.0: ("1, 4", "spectrum", "periods 1 4"),
    3.0: ("1, 4, 16", "spectrum", "periods 1 4 16"),
    4.0: ("1, 4, 16, 64", "spectrum", ""),
}


def point(x: float, values: list[float | None]) -> Point | None:
    """A mean over seeds and its standard error; none where a value is no number."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or len(known) < len(values):
        return None
    middle, error = mean_and_error(known)
    return x, middle, error if math.isfinite(error) else 0.0


def curve(name: str, look: int, points: list[Point | None]) -> Curve | None:
    kept = [one for one in points if one is not None]
    return Curve(name, kept, look) if kept else None


def drawn(
    title: str,
    across: str,
    up: str,
    found: list[Curve | None],
    marks: dict[float, str] | None = None,
) -> str:
    kept = [one for one in found if one is not None]
    most = 1 if up.startswith("accuracy") else math.inf
    return charts.curves(title, across, up, kept, marks, most) if kept else ""


def main_systems(runs: list[Record], task: str) -> list[str]:
    return [name for name in systems_of(runs, task) if name in MAIN]


def text(runs: list[Record]) -> str:
    """Without what is scored before training."""
    found = []
    for name in main_systems(runs, "text"):
        points = zip(*(run["curve"][1:] for run in of(runs, "text", name)))
        dots = [point(each[0][0], [bits for _, bits in each]) for each in points]
        found.append(curve(name, LOOKS.index(name), dots))
    return drawn("What more tokens bring", "tokens of training", "bits per byte", found)


def lengths(runs: list[Record]) -> str:
    found = []
    for name in main_systems(runs, "text"):
        every = [run["phases"][-1][LONGER]["positions"] for run in of(runs, "text", name)]
        dots = [point(n + 1, [one[n] for one in every]) for n in range(BINS)]
        found.append(curve(name, LOOKS.index(name), dots))
    marks = {n + 1.0: str(n + 1) for n in range(BINS)}
    across = "position in the text, in lengths of training"
    return drawn("Longer than in training", across, "bits per byte", found, marks)


def mqar(runs: list[Record]) -> str:
    found, marks = [], {}
    for name in main_systems(runs, "mqar"):
        every = of(runs, "mqar", name)
        tests = list(every[0]["phases"][-1])
        marks = {float(n): test.partition(" ")[0] for n, test in enumerate(tests)}
        scores = [[mean(last(test, "accuracy")(run)) for run in every] for test in tests]
        dots = [point(n, one) for n, one in enumerate(scores)]
        found.append(curve(name, LOOKS.index(name), dots))
    return drawn("MQAR", "pairs to be recalled", "accuracy", found, marks)


def stream(task: str) -> Callable[[list[Record]], str]:
    """After each phase, the accuracy in each."""

    def picture(runs: list[Record]) -> str:
        tables = [
            Shades(name, np.mean([matrix(run) for run in of(runs, task, name)], 0).tolist())
            for name in METHODS
            if of(runs, task, name)
        ]
        if not tables:
            return ""
        phases = len(tables[0].values[0])
        down = ["before", *(f"after {n + 1}" for n in range(phases))]
        title = f"{task}: accuracy in each phase, before and after each"
        return charts.shades(title, down, [str(n + 1) for n in range(phases)], tables)

    return picture


def spectra(
    title: str, across: str, up: str, score: Score, places: dict[float, tuple[str, str, str]]
) -> Callable[[list[Record]], str]:
    """A mean over documents against the periods, a curve for each stream."""

    def picture(runs: list[Record]) -> str:
        found, marks = [], {}
        for look, task in enumerate(STREAMS):
            dots = []
            for place, (periods, system, change) in places.items():
                if every := of(runs, task, system, change):
                    marks[place] = periods
                    dots.append(point(place, [mean(score(run)) for run in every]))
            found.append(curve(task, look, dots))
        return drawn(title, across, up, found, marks)

    return picture


# Name of the file -> what draws it.
PICTURES: dict[str, Callable[[list[Record]], str]] = {
    "text": text,
    "lengths": lengths,
    "mqar": mqar,
    **{task: stream(task) for task in STREAMS},
    "periods": spectra(
        "Slower blocks, and what is forgotten",
        "periods of the four blocks, in steps",
        "average forgetting",
        forgetting,
        SLOWER,
    ),
    "levels": spectra(
        "More levels, and what is kept",
        "periods of the blocks, in steps",
        "accuracy in all phases at the end",
        throughout("accuracy"),
        MORE,
    ),
}
