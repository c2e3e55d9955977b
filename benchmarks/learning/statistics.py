"""When a difference is one: intervals and standard errors, and what is said of a claim."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

SEEN, NOT_SEEN, TOO_SMALL = "*seen here*", "*not seen here*", "*too small to tell*"
RESAMPLES, SEED = 10_000, 0
SURE = 0.99


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error; that of one value is not known, and NaN."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Of the mean of [seed, document]: what 99 % of the means lie within if seeds and documents are
    drawn again, each with replacement.
    """
    rng = np.random.default_rng(SEED)
    seeds, documents = differences.shape
    drawn = [
        differences[rng.integers(seeds, size=seeds)][:, rng.integers(documents, size=documents)]
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile([one.mean() for one in drawn], [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def verdict(low: float, high: float) -> str:
    """Of a claim that a difference is above 0, by an interval of it."""
    if low > 0:
        return SEEN
    return NOT_SEEN if high < 0 else TOO_SMALL
