"""What is read off runs: the scores of their tests, by document, phase and place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.learning.protocol import RUN, Record, mean
from benchmarks.learning.systems import SYSTEMS

HELD_OUT, LONGER = "held out", "8 times as long"
Values = list[float | None]
Score = Callable[[Record], Values]  # of a run, one number for each document


def ended(records: Iterable[Record]) -> list[Record]:
    """Runs in full that worked."""
    return [one for one in records if one["purpose"] == RUN and "failed" not in one]


def of(runs: list[Record], task: str, system: str, change: str = "") -> list[Record]:
    """A run for each seed."""
    asked = task, system, change
    found = [run for run in runs if (run["task"], run["system"], run.get("change", "")) == asked]
    return sorted(found, key=lambda run: run["seed"])


def systems_of(runs: list[Record], task: str) -> list[str]:
    return [name for name in SYSTEMS if of(runs, task, name)]


def last(test: str, what: str) -> Score:
    """At the end of a run."""
    return lambda run: run["phases"][-1][test][what]


def without(test: str, what: str) -> Score:
    """At the end of a run, with memories of the token clock that learn nothing."""
    return lambda run: run["off"][test][what]


def throughout(what: str) -> Score:
    """At the end of a run, in all its tests."""
    return lambda run: [value for test in run["phases"][-1].values() for value in test[what]]


def newest(run: Record) -> Values:
    """Accuracy at the end in what was learned last."""
    found: Values = [*run["phases"][-1].values()][-1]["accuracy"]
    return found


def matrix(run: Record) -> np.ndarray:
    """Accuracy [before all phases and after each, phase tested]."""
    rows = [[mean(test["accuracy"]) for test in one.values()] for one in run["phases"]]
    return np.array(rows, float)


def forgetting(run: Record) -> Values:
    """Average forgetting (arXiv 1801.10112): of each phase but the last, the best accuracy that its
    test had after any phase before the last, less the one at the end.
    """
    after = matrix(run)[1:, :-1]
    return [float((after[:-1].max(0) - after[-1]).mean())]


def transfer(run: Record) -> Values:
    """Forward transfer (arXiv 1706.08840): of each phase but the first, the accuracy that its test
    had before it was trained, less the one before all training.
    """
    found = matrix(run)
    before = np.diag(found[1:-1, 1:])
    return [float((before - found[0, 1:]).mean())]


def lengthening(run: Record) -> Values:
    """Bits per byte in the last eighth of a long text, less those in its first."""
    first, *_, end = run["phases"][-1][LONGER]["positions"]
    return [None if first is None or end is None else end - first]
