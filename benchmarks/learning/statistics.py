"""When a difference is one: means, standard errors, intervals, and the one rule of all verdicts.

A difference is [seed, document], paired: the same seed and document of both that are compared. It
is above 0 where it is as a claim says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEEN, NOT_SEEN, TOO_SMALL = "*seen here*", "*not seen here*", "*too small to tell*"
RESAMPLES, SEED = 10_000, 0
SURE = 0.99
ERRORS = 2
RULE = f"""A claim is a difference that should be above 0, of the same seeds and documents. It is
{SEEN} if the mean lies at least {ERRORS} standard errors above 0 and so does the whole
interval that holds {SURE * 100:.0f} % of the means when seeds and documents are drawn again;
{NOT_SEEN} if it lies below 0 by the same measure; otherwise, and where not all seeds ran, it is
{TOO_SMALL}. The interval of three seeds is rough, hence the errors too. A quick run
tells nothing. Where a claim has a condition, what breaks it by this measure is {NOT_SEEN}.
"""


@dataclass(frozen=True)
class Difference:
    """`error` is the standard error of the mean; `low` and `high` are the ends of the interval."""

    mean: float
    error: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"

    @property
    def interval(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error; that of one value is not known, and NaN."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def error_of(differences: np.ndarray) -> float:
    """The standard error of the mean of [seed, document] if both are drawn: variances of seeds and
    of documents, less what both count of the rest. That of one seed is not known, and NaN.
    """
    seeds, documents = differences.shape
    if seeds == 1:
        return math.nan
    rows, columns = differences.mean(1), differences.mean(0)
    of_rows = rows.var(ddof=1) / seeds
    if documents == 1:
        return math.sqrt(of_rows)
    rest = differences - rows[:, None] - columns + differences.mean()
    of_rest = (rest**2).sum() / ((seeds - 1) * (documents - 1)) / differences.size
    return math.sqrt(max(of_rows + columns.var(ddof=1) / documents - of_rest, of_rest))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Of the mean of [seed, document]: what 99 % of the means lie within if seeds and documents are
    drawn again, each with replacement (the pigeonhole bootstrap, Owen 2007).
    """
    rng = np.random.default_rng(SEED)
    seeds, documents = (
        rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) for size in differences.shape
    )
    means = ((seeds @ differences) * documents).sum(1) / differences.size
    low, high = np.quantile(means, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def difference(differences: np.ndarray) -> Difference:
    return Difference(float(differences.mean()), error_of(differences), *interval(differences))


def verdict(found: Difference) -> str:
    """By the rule. An error that is not known decides nothing."""
    if found.low > 0 and found.mean >= ERRORS * found.error:
        return SEEN
    if found.high < 0 and found.mean <= -ERRORS * found.error:
        return NOT_SEEN
    return TOO_SMALL
