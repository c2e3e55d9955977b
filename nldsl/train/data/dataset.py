"""The interface of data, text or table, that a step reads and a score is taken of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nldsl.diagnostic import Diagnostic
from nldsl.train.data.sequences import Extent, Places, places
from nldsl.train.data.vocabulary import Vocabulary
from nldsl.train.records import Data

Tokens = NDArray[Any]  # integers [token] of a text, float64 [time, channel] of a table
Spelled = tuple[NDArray[np.uint8], Places]  # a text, and places in it
Line = tuple[str, float]  # the name of a predictor and its loss, a dashed line in the curve


class Result(Protocol):
    """The score of a model on `terms` tokens, beside predictors of exactly the same tokens."""

    @property
    def model(self) -> float:
        """The mean over the terms, in bits per byte or as the loss is."""

    @property
    def terms(self) -> int: ...

    @property
    def line(self) -> Line | None:
        """A dashed line that the curve should end below."""

    def describe(self) -> str: ...

    def event(self) -> dict[str, float | None]:
        """The entry of the journal."""


@dataclass(frozen=True)
class Cost:
    """The cost of a stream to a model: `total` over the tokens at `places` [term] of a text or
    table.

    `in_nats`: it is the cross entropy of the next token and nothing else; `ahead`: how many tokens
    later the predicted token stands.
    """

    total: float
    places: Places
    in_nats: bool
    ahead: int

    @property
    def terms(self) -> int:
        return len(self.places)

    @property
    def mean(self) -> float:
        return self.total / self.terms if self.terms else float("nan")


@dataclass(frozen=True)
class Loss:
    """The mean of a stream that nothing simple stands beside, over `terms` held-out bytes or
    points.
    """

    model: float
    terms: int
    unit: str

    @property
    def line(self) -> None:
        return None

    def describe(self) -> str:
        return f"held out: loss {self.model:.4f} ({self.terms:,} {self.unit} scored)"

    def event(self) -> dict[str, float | None]:
        return {"loss": self.model, "terms": self.terms}


class Dataset(Protocol):
    """A text or a table, in a part for training and a part that is held out."""

    @property
    def name(self) -> str: ...

    @property
    def train(self) -> Tokens: ...

    @property
    def held_out(self) -> Tokens: ...

    @property
    def sha256(self) -> str: ...

    @property
    def unit(self) -> str:
        """The name of its tokens: `bytes`, `tokens`, `points`."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What its tokens stand for; None of numbers that stand for themselves."""

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """Warnings about the files."""

    def extents(self, tokens: Tokens) -> list[Extent]:
        """[begin, end) of each document of either part."""

    def require(self, length: int) -> None:
        """Raise N704 unless a sequence of `length` tokens fits in both parts."""

    def record(self) -> Data:
        """The record that run.json keeps."""

    def describe(self) -> str: ...

    def opening(self) -> Tokens:
        """The tokens from which a model goes on, to show its writing; none for data without
        text.
        """

    def spelled(self, places: Places) -> Spelled | None:
        """A text, and the places in it of the bytes that held-out tokens stand for."""

    def compared(self, cost: Cost, scored: Dataset, beside: bool) -> Result:
        """The cost of a model on the held-out part of `scored`, beside that of simple predictors on
        the same terms. These are fitted on the training part, and left out unless `beside`.
        """


def sequences_of(
    tokens: Tokens,
    seed: int,
    step: int,
    micro: int,
    batch: int,
    length: int,
    stateful: bool = False,
    once: int = 0,
) -> Tokens:
    """What a micro-batch reads of them, [batch, length, ..]; see `sequences.places`."""
    return slices(tokens, places(len(tokens), seed, step, micro, batch, length, stateful, once))


def slices(tokens: Tokens, places: Places) -> Tokens:
    """tokens[places], [lane, time, ..]."""
    found: Tokens = np.take(tokens, places, axis=0)
    return found
