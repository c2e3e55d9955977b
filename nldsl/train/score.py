"""Held-out data -> how well the model predicts it, beside simple predictors of exactly the same tokens.

    bytes     bits per byte; the order-2 byte model, see baseline.py
    series    the loss; the squared error of predicting the last value again, and of predicting the mean
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldsl.graph.equations import ENDS, counted
from nldsl.train import baseline
from nldsl.train.data import BOUNDARY, Corpus, readings, windows
from nldsl.train.series import Series

SCORED = 1 << 17                                   # held-out tokens scored at the end of a long run; an eighth of a short run's tokens,
LEAST_SCORED = 1 << 12                             # but at least these: scoring should not take longer than training


@dataclass(frozen=True)
class Score:
    """All in bits per byte over the same `terms` held-out bytes; `order0` is the entropy of the training bytes."""

    model: float
    order2: float | None                           # None: the training text is not at hand
    order0: float | None
    terms: int

    def describe(self) -> str:
        if self.order2 is None or self.order0 is None:
            return (f"held out: {self.model:.3f} bits per byte ({self.terms:,} bytes scored); "
                    "the training text is not at hand, so no byte model stands beside it")
        return (f"held out: {self.model:.3f} bits per byte; order-2 byte model {self.order2:.3f}, order-0 entropy {self.order0:.3f}"
                f" ({self.terms:,} bytes scored)")

    def event(self) -> dict[str, float | None]:
        return {"bits": self.model, "order2": self.order2, "order0": self.order0, "terms": self.terms}

    @property
    def line(self) -> tuple[str, float]:
        """What the curve is to be below."""
        return f"order-2 byte model {self.order2:.3f}", self.order2


@dataclass(frozen=True)
class Forecast:
    """Means over the same `terms` held-out points: the model's loss; the squared error, summed over channels, of two predictors."""

    model: float
    last: float
    mean: float
    terms: int

    def describe(self) -> str:
        return (f"held out: loss {self.model:.4f}; squared error of predicting the last value {self.last:.4f}, the training mean {self.mean:.4f}"
                f" ({self.terms:,} points scored)")

    def event(self) -> dict[str, float]:
        return {"loss": self.model, "last": self.last, "mean": self.mean, "terms": self.terms}

    @property
    def line(self) -> tuple[str, float]:
        return f"the last value {self.last:.4f}", self.last


@dataclass(frozen=True)
class Plan:
    """What is read: starts [round, lane] of sequences, and which of them begin a document; each lane reads its column downwards."""

    starts: np.ndarray
    begins: np.ndarray

    @property
    def lanes(self) -> int:
        return self.starts.shape[1]

    def places(self, length: int) -> np.ndarray:
        """Positions of the tokens that are predicted: all of a sequence but its first."""
        return (self.starts.reshape(-1, 1) + np.arange(1, length)).reshape(-1)


def planned(data: Corpus | Series, held_out: np.ndarray, batch: int, length: int, limit: int, onward: bool) -> Plan:
    """Sequences each from the start state, as many as fill batches; `onward`, whole documents, sequence after sequence in one lane."""
    ends = data.extents(held_out)
    if onward:
        return Plan(*readings(ends, batch, length, limit))
    starts = windows(ends, length, limit)
    lanes = min(batch, len(starts))
    starts = starts[:len(starts) // lanes * lanes].reshape(-1, lanes)
    return Plan(starts, np.ones_like(starts, dtype=bool))


def score(step: Any, state: Any, data: Corpus | Series, held_out: np.ndarray, plan: Plan, length: int, piece: int,
          lanes: dict[str, Tensor], beside: bool = True) -> tuple[Score | Forecast, dict[str, Tensor]]:
    """Predict `held_out` as planned, `piece` tokens at a time with the state carried. Documents begin with what `lanes` hold; what
    the lanes hold in the end is returned too. The predictors `beside` are fitted on the training part of `data`."""
    now, total, terms = lanes, 0.0, 0
    for starts, begins in zip(plan.starts, plan.begins, strict=True):
        now = {name: torch.where(chosen(begins, x), lanes[name], x) for name, x in now.items()}
        carry = None
        for part in pieces(held_out, starts, length, piece):
            loss, count, carry = step.evaluate(state, batch(step.program, part), carry, now)
            total, terms = total + float(loss), terms + int(count)
        now = step.read_on(now, carry)
    places = plan.places(length)
    assert terms == len(places), f"the loss has {terms} terms where {len(places)} tokens have one before them"
    if isinstance(data, Series):
        errors = (float(((held_out[places] - guess) ** 2).sum() / terms) for guess in (held_out[places - 1], data.train.mean(0)))
        return Forecast(total / terms, *errors, terms), now
    if not beside:
        return Score(baseline.bits(total, terms), None, None, terms), now
    order2 = float(baseline.fit(data.train).nats(held_out)[places].sum())
    return Score(baseline.bits(total, terms), baseline.bits(order2, terms), baseline.order0_bits(data.train), terms), now


def chosen(begins: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(begins).to(like.device).reshape(-1, *[1] * (like.dim() - 1))


def batch(program: Any, tokens: np.ndarray) -> dict[str, Tensor]:
    """Tokens [lane, time, ..] as the program's only input; where documents end, if it counts them."""
    ends = {ENDS: torch.from_numpy(tokens == BOUNDARY)} if counted(program, ENDS) else {}
    return {name: torch.from_numpy(tokens.astype(np.int64) if name in program.vocab else tokens).reshape(*tokens.shape[:2], *(a.size for a in node.type))
            for name, node in program.inputs.items()} | ends


def pieces(tokens: np.ndarray, starts: np.ndarray, length: int, piece: int) -> Iterator[np.ndarray]:
    """Arrays [lanes, at most piece, ..] that make up tokens[start : start + length] of every lane."""
    for begin in range(0, length, piece):
        yield tokens[starts[:, None] + np.arange(begin, min(begin + piece, length))]
