"""What a task is: a law that sequences are drawn from, and the tests that are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

TRAINING, VALIDATION, TESTING = range(3)
Ids = NDArray[np.int64]


class Sequence(NamedTuple):
    """Of one lane: what is read, what is to be said after each token, and where that counts."""

    ids: Ids
    target: Ids
    mask: NDArray[np.bool_]


def after(tokens: Ids, counts: NDArray[np.bool_] | None = None) -> Sequence:
    """The target is the next token; `counts` says which of the tokens count as targets."""
    whole = np.ones(len(tokens), bool) if counts is None else counts
    return Sequence(tokens[:-1], tokens[1:], whole[1:])


Draw = Callable[[Generator, float], Sequence]  # a sequence at a share of the run, 0 to 1
DrawTest = Callable[[Generator, int], Sequence]  # the n-th of a test


@dataclass(frozen=True)
class Test:
    """`count` sequences, the same for all systems and seeds, each a document of its own."""

    draw: DrawTest
    count: int

    def sequences(self, part: int = TESTING) -> list[Sequence]:
        return [self.draw(np.random.default_rng([part, n]), n) for n in range(self.count)]


@dataclass(frozen=True)
class Task:
    """`phases` are how often its law changes; tests are scored before the first and after each.
    `reads_on` gives the sequence of a seed, a lane and a step where a lane goes on with what it
    read; else `draw` draws each anew.
    """

    name: str
    systems: tuple[str, ...]
    vocab: int
    length: int
    lanes: int
    steps: int
    draw: Draw
    validation: Test
    tests: Mapping[str, Test]
    phases: int = 1
    data: str = "generated"
    reads_on: Callable[[int, int, int], Sequence] | None = None

    def batch(self, seed: int, step: int, steps: int) -> dict[str, Tensor]:
        """Of a run of `steps`: a function of the seed, the step and the lane alone. `mask` has the
        mean 1, so the loss is a mean over what counts.
        """
        lanes = range(self.lanes)
        if self.reads_on is not None:
            return batch([self.reads_on(seed, lane, step) for lane in lanes])
        drawn = [
            self.draw(np.random.default_rng([TRAINING, seed, step, lane]), step / steps)
            for lane in lanes
        ]
        return batch(drawn)


def batch(sequences: list[Sequence]) -> dict[str, Tensor]:
    ids, target, mask = (torch.from_numpy(np.stack(part)) for part in zip(*sequences))
    counted = mask.float()
    return {"ids": ids, "target": target, "mask": counted / counted.mean()}


def of_part(choices: list[Ids], part: int) -> list[Ids]:
    """Every eighth is for validation, every eighth for tests."""
    kept = {VALIDATION: (6,), TESTING: (7,)}.get(part, range(6))
    return [one for n, one in enumerate(choices) if n % 8 in kept]
