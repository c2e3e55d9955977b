"""Held-out data -> how well the model predicts it, beside simple predictors of exactly the same
tokens.

    bits        per byte, of a cross entropy of the next byte and of nothing else; the order-2 byte
                model, see baseline.py
    forecasts   of a series, a loss that reads the next point; the squared error of predicting the
                last value again, and the mean
    else        the loss alone

What is scored is the mean over the terms of one stream: what the text reports, or `loss`. It does
not depend on how many sequences are read together: lanes that have nothing left to read go on with
what counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldsl.core.nodes import Node
from nldsl.core.program import ENDS, REPORT, Program
from nldsl.step.reading import of_the_next
from nldsl.train import baseline
from nldsl.train.data import BOUNDARY, BYTES, Corpus, readings, windows
from nldsl.train.series import Series

SCORED = 1 << 17  # held-out tokens scored at the end of a long run; half of what a lane of a short
LEAST_SCORED = 1 << 12  # run read, but at least these: scoring should not take longer than training


@dataclass(frozen=True)
class Score:
    """All in bits per byte over the same `terms` held-out bytes; `order0` is the entropy of the
    training bytes.
    """

    model: float
    order2: float | None  # None: the training text is not at hand
    order0: float | None
    terms: int

    def describe(self) -> str:
        if self.order2 is None or self.order0 is None:
            return (
                f"held out: {self.model:.3f} bits per byte ({self.terms:,} bytes scored); "
                "the training text is not at hand, so no byte model stands beside it"
            )
        return (
            f"held out: {self.model:.3f} bits per byte; order-2 byte model {self.order2:.3f}, "
            f"order-0 entropy {self.order0:.3f}"
            f" ({self.terms:,} bytes scored)"
        )

    def event(self) -> dict[str, float | None]:
        return {
            "bits": self.model,
            "order2": self.order2,
            "order0": self.order0,
            "terms": self.terms,
        }

    @property
    def line(self) -> tuple[str, float]:
        """What the curve is to be below."""
        return f"order-2 byte model {self.order2:.3f}", self.order2


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

    def event(self) -> dict[str, float]:
        return {"loss": self.model, "last": self.last, "mean": self.mean, "terms": self.terms}

    @property
    def line(self) -> tuple[str, float]:
        return f"the last value {self.last:.4f}", self.last


@dataclass(frozen=True)
class Loss:
    """The mean of a stream that nothing simple stands beside, over `terms` held-out bytes or
    points.
    """

    model: float
    terms: int
    unit: str

    line = None

    def describe(self) -> str:
        return f"held out: loss {self.model:.4f} ({self.terms:,} {self.unit} scored)"

    def event(self) -> dict[str, float]:
        return {"loss": self.model, "terms": self.terms}


@dataclass(frozen=True)
class Plan:
    """What is read: starts [round, lane] of sequences, which of them begin a document, and which
    count; each lane reads its column downwards.
    """

    starts: np.ndarray
    begins: np.ndarray
    counts: np.ndarray

    @property
    def lanes(self) -> int:
        return self.starts.shape[1]

    def places(self, length: int, absent: tuple[int, int]) -> np.ndarray:
        """Positions of the tokens that have a term: all of a sequence but the first and last
        `absent` ones.
        """
        return (
            self.starts[self.counts].reshape(-1, 1) + np.arange(absent[0], length - absent[1])
        ).reshape(-1)


def planned(
    data: Corpus | Series,
    held_out: np.ndarray,
    batch: int,
    length: int,
    limit: int,
    onward: bool,
    shared: int = 1,
) -> Plan:
    """Sequences each from the start state; `onward`, whole documents, sequence after sequence in
    one lane. `shared` tokens at the end of a sequence have no term in it.
    """
    ends = data.extents(held_out)
    if onward:
        return Plan(*readings(ends, batch, length, limit))
    starts = windows(ends, length, limit, shared)
    counts = np.arange(-(-len(starts) // batch) * batch) < len(starts)
    starts = np.resize(starts, len(counts)).reshape(-1, batch)
    return Plan(starts, np.ones_like(starts, dtype=bool), counts.reshape(-1, batch))


def score(
    step: Any,
    state: Any,
    data: Corpus | Series,
    held_out: np.ndarray,
    plan: Plan,
    length: int,
    piece: int,
    lanes: dict[str, Tensor],
    beside: bool = True,
) -> tuple[Score | Forecast | Loss, dict[str, Tensor]]:
    """Predict `held_out` as planned, `piece` tokens at a time with the state carried. Documents
    begin with what `lanes` hold; what the lanes hold in the end is returned too. The predictors
    `beside` are fitted on the training part of `data`.
    """
    now, lost, terms = lanes, {}, 0
    for starts, begins, counts in zip(plan.starts, plan.begins, plan.counts, strict=True):
        now = {name: torch.where(chosen(begins, x), lanes[name], x) for name, x in now.items()}
        carry, sums = None, np.zeros(len(starts))
        for part in pieces(held_out, starts, length, piece):
            values, carry = step.evaluate(state, batch(step.program, part), carry, now)
            sums, terms = (
                sums + values.double().sum(1).cpu().numpy(),
                terms + values.shape[1] * int(counts.sum()),
            )
        now = {
            name: torch.where(chosen(counts, x), x, now[name])
            for name, x in step.read_on(now, carry).items()
        }
        lost |= dict(zip(starts[counts].tolist(), sums[counts].tolist(), strict=True))
    total = math.fsum(lost[start] for start in sorted(lost))
    return compared(
        step, data, held_out, plan.places(length, step.extent(step.scored[1])), total, terms, beside
    ), now


def compared(
    step: Any,
    data: Corpus | Series,
    held_out: np.ndarray,
    places: np.ndarray,
    total: float,
    terms: int,
    beside: bool,
) -> Score | Forecast | Loss:
    """The sum of `terms` at `places`, beside the predictors of the same tokens that fit its
    kind.
    """
    assert terms == len(places), f"what is scored has {terms} terms at {len(places)} tokens"
    mean = total / terms if terms else math.nan
    if terms and in_bits(step.program, step.scored[1], REPORT, "loss"):
        if not beside:
            return Score(baseline.bits(total, terms), None, None, terms)
        simple = baseline.fit(data.train)
        order2 = float(simple.nats(held_out, places + 1).sum())
        return Score(
            baseline.bits(total, terms), baseline.bits(order2, terms), simple.order0_bits(), terms
        )
    if terms and isinstance(data, Series) and step.extent(step.scored[1])[1] == 1:
        errors = (
            float(((held_out[places + 1] - guess) ** 2).sum() / terms)
            for guess in (held_out[places], data.train.mean(0))
        )
        return Forecast(mean, *errors, terms)
    return Loss(mean, terms, data.unit)


def in_bits(program: Program, node: Node, *names: str) -> bool:
    """Is the stream what a text's next byte costs and nothing else, so that it is a number of bits?
    The text says so where it gives it one of the `names`, the first that it has.
    """
    name = next((name for name in names if program.outputs.get(name) is node), "")
    return (
        of_the_next(node)
        and name not in program.composed
        and program.vocab[node.args[1].args[0]["name"]] == BYTES
    )


def chosen(begins: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(begins).to(like.device).reshape(-1, *[1] * (like.dim() - 1))


def batch(program: Any, tokens: np.ndarray) -> dict[str, Tensor]:
    """Tokens [lane, time, ..] as the program's only input; where documents end, if it counts
    them.
    """
    ends = {ENDS: torch.from_numpy(tokens == BOUNDARY)} if program.counts(ENDS) else {}
    return {
        name: torch.from_numpy(
            tokens.astype(np.int64) if name in program.vocab else tokens
        ).reshape(*tokens.shape[:2], *(a.size for a in node.type))
        for name, node in program.inputs.items()
    } | ends


def pieces(tokens: np.ndarray, starts: np.ndarray, length: int, piece: int) -> Iterator[np.ndarray]:
    """Arrays [lanes, at most piece, ..] that make up tokens[start : start + length] of every
    lane.
    """
    for begin in range(0, length, piece):
        yield tokens[starts[:, None] + np.arange(begin, min(begin + piece, length))]
