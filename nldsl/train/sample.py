"""Prompts -> tokens that the model goes on with; its token-clock levels go on learning from what
they write.

What is kept while it writes does not grow: what sequences carry, and which tokens each has seen. A
prompt of any length is read in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import Lanes
from nldsl.step.reading import Carried
from nldsl.step.state import State
from nldsl.train.data.vocabulary import BOUNDARY
from nldsl.train.drawing import Manner, drawn, generator, likelihoods

LENGTH = 256  # tokens of the sample after training
PIECE = 1024  # tokens of a prompt that are read at once

# is told the sequence and its next token; does the sequence go on?
Hears = Callable[[int, int], bool]


def sample(
    step: CompiledStep,
    state: State,
    prompt: Sequence[int],
    n: int,
    seed: int,
    how: Manner | None = None,
    lanes: Lanes | None = None,
    freeze: bool = False,
    boundary: int = BOUNDARY,
) -> tuple[list[int], Lanes]:
    """`n` tokens after `prompt` (at least one), and the memories of the only lane of `lanes` then;
    `freeze` stops learning; `boundary` ends a document. Raises FloatingPointError if a token is
    scored with a number that is not finite.
    """
    found: list[int] = []

    def hears(_: int, token: int) -> bool:
        found.append(token)
        return len(found) < n

    after = go_on(step, state, [prompt], seed, how or Manner(), hears, lanes, freeze, boundary)
    return found, after


def go_on(
    step: CompiledStep,
    state: State,
    prompts: Sequence[Sequence[int]],
    seed: int,
    how: Manner,
    hears: Hears,
    lanes: Lanes | None = None,
    freeze: bool = False,
    boundary: int = BOUNDARY,
) -> Lanes:
    """Goes on with each prompt, of at least one token, until `hears` wants no more of it; those of
    one length are read together. Gives what its lane in `lanes` holds once all of it was read.

    What is written after a prompt depends on it and on the seed, and on no other prompt; one that
    is given again draws other tokens. Raises FloatingPointError.
    """
    times = [prompts[:i].count(prompt) for i, prompt in enumerate(prompts)]
    generators = [generator(seed, time) for time in times]
    seats, learns = lanes or {}, bool(lanes) and not freeze
    after = {name: x.clone() for name, x in seats.items()}
    for size in sorted({len(prompt) for prompt in prompts}):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == size]
        ids = torch.tensor([[*prompts[i]] for i in rows])
        group = Group(step, state, freeze, boundary, rows, seats)
        group.read(ids)
        while group.rows:
            tokens = drawn(group.likelihoods(how), [generators[i] for i in group.rows])
            going = [hears(row, token) for row, token in zip(group.rows, tokens, strict=True)]
            new = torch.tensor(tokens)[:, None]
            if learns:
                group.read(new)
                group.leave(going, after)
            else:
                group.leave(going)
                group.read(new[going])
    return after


class Group:
    """Sequences that have read the same number of tokens: `rows` says which of the prompts."""

    def __init__(
        self,
        step: CompiledStep,
        state: State,
        freeze: bool,
        boundary: int,
        rows: list[int],
        lanes: Lanes,
    ) -> None:
        self.step, self.state, self.rows = step, state, rows
        self.freeze, self.boundary = freeze, boundary
        self.lanes = {name: x[rows] for name, x in lanes.items()}
        self.carry: Carried | None = None
        self.scores = self.seen = torch.empty(len(rows), 0)

    def read(self, ids: Tensor) -> None:
        """The next tokens of each sequence, [sequence, token]."""
        for piece in torch.split(ids, PIECE, 1) if self.rows else ():
            self.scores, self.carry = self.step.reading.predict(
                self.state, piece, self.carry, self.lanes, self.freeze, self.boundary
            )
        if not self.seen.shape[1]:
            self.seen = torch.zeros(self.scores.shape, dtype=torch.bool)
        self.seen.scatter_(1, ids, True)

    def likelihoods(self, how: Manner) -> Tensor:
        """Of the next token of each sequence."""
        return likelihoods(self.scores, self.seen, how)

    def leave(self, going: list[bool], after: Lanes | None = None) -> None:
        """Parts with the sequences that do not go on; `after` gets what their lanes hold."""
        if all(going):
            return
        assert self.carry is not None, "a sequence has tokens"
        kept, gone = ([i for i, x in enumerate(going) if x is goes] for goes in (True, False))
        left = self.step.reading.read_on(self.lanes, self.carry) if after else {}
        for name, x in left.items():
            assert after is not None
            after[name][[self.rows[i] for i in gone]] = x[gone]
        tensors, position = self.carry
        self.carry = {n: x if x is None else x[kept] for n, x in tensors.items()}, position
        self.lanes = {name: x[kept] for name, x in self.lanes.items()}
        self.scores, self.seen = self.scores[kept], self.seen[kept]
        self.rows = [self.rows[i] for i in kept]
