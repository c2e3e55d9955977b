"""Held-out data -> how well the model predicts it, beside simple predictors of exactly the same
tokens.

    bits        per byte, of a cross entropy of the next byte or token of a text and of nothing
                else; the order-2 byte model, see baseline.py
    forecasts   of a series, a loss that reads the next point; the squared error of predicting the
                last value again, and the mean
    else        the loss alone

What is scored is the mean over the terms of one stream: what the text reports, or `loss`. It does
not depend on how many sequences are read together: lanes that have nothing left to read go on with
sequences that do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nldsl.core.nodes import Node
from nldsl.core.program import ENDS, REPORT, Program
from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import Lanes
from nldsl.step.reading import of_the_next
from nldsl.step.state import State
from nldsl.train.data.dataset import Cost, Dataset, Result, Tokens, slices
from nldsl.train.data.sequences import Flags, Places, Plan

SCORED = 1 << 17  # held-out tokens scored at the end of a long run; half of what a lane of a short
LEAST_SCORED = 1 << 12  # run read, but at least these: scoring should not take longer than training


def score(
    step: CompiledStep,
    state: State,
    data: Dataset,
    scored: Dataset,
    plan: Plan,
    length: int,
    piece: int,
    lanes: Lanes,
    beside: bool = True,
) -> tuple[Result, Lanes]:
    """Predict what `scored` holds out as planned, `piece` tokens at a time with the state carried.
    Documents begin with the memories of `lanes`; those at the end are returned too. The predictors
    `beside` are fitted on the training part of `data`.
    """
    lost: dict[int, float] = {}
    now, terms = lanes, 0
    held_out, boundary = scored.held_out, boundary_of(scored)
    for starts, begins, counts in zip(plan.starts, plan.begins, plan.counts, strict=True):
        now = {name: torch.where(chosen(begins, x), lanes[name], x) for name, x in now.items()}
        carry, sums = None, np.zeros(len(starts))
        for part in pieces(held_out, starts, length, piece):
            inputs = batch(step.program, part, boundary)
            values, carry = step.reading.evaluate(state, inputs, carry, now)
            sums = sums + values.double().sum(1).cpu().numpy()
            terms += values.shape[1] * int(counts.sum())
        assert carry is not None, "a sequence has tokens"
        now = {
            name: torch.where(chosen(counts, x), x, now[name])
            for name, x in step.reading.read_on(now, carry).items()
        }
        lost |= dict(zip(starts[counts].tolist(), sums[counts].tolist(), strict=True))
    total = math.fsum(lost[start] for start in sorted(lost))
    stream = step.reading.scored[1]
    absent = step.reading.extent(stream)
    places = plan.places(length, absent)
    assert terms == len(places), f"what is scored has {terms} terms at {len(places)} tokens"
    nats = in_nats(step.program, stream, REPORT, "loss")
    return data.compared(Cost(total, places, nats, absent[1]), scored, beside), now


def in_nats(program: Program, node: Node, *names: str) -> bool:
    """Is the stream the cross entropy of the next token and nothing else, so that it is a number of
    bits? The text says so where it gives it one of the `names`, the first that it has.
    """
    name = next((name for name in names if program.outputs.get(name) is node), "")
    return of_the_next(node) and name not in program.composed


def boundary_of(data: Dataset) -> int | None:
    """The token that ends a document."""
    return data.vocabulary.boundary if data.vocabulary else None


def chosen(begins: Flags, like: Tensor) -> Tensor:
    return torch.from_numpy(begins).to(like.device).reshape(-1, *[1] * (like.dim() - 1))


def batch(program: Program, tokens: Tokens, boundary: int | None) -> dict[str, Tensor]:
    """Tokens [lane, time, ..] as the program's inputs; where documents end, if it counts them."""
    ended = np.zeros(tokens.shape[:2], bool) if boundary is None else tokens == boundary
    ends = {ENDS: torch.from_numpy(ended)} if program.counts(ENDS) else {}
    return {
        name: torch.from_numpy(
            entries(tokens, name).astype(np.int64)
            if name in program.vocab
            else np.ascontiguousarray(entries(tokens, name))
        ).reshape(*tokens.shape[:2], *(a.size for a in node.shape))
        for name, node in program.inputs.items()
    } | ends


def entries(tokens: Tokens, name: str) -> Tokens:
    """What of the tokens is for an input: its field, where they are rows of several."""
    own: Tokens = tokens[name] if tokens.dtype.names else tokens
    return own


def pieces(tokens: Tokens, starts: Places, length: int, piece: int) -> Iterator[Tokens]:
    """Arrays [lanes, at most piece, ..] that make up tokens[start : start + length] of every
    lane.
    """
    for begin in range(0, length, piece):
        yield slices(tokens, starts[:, None] + np.arange(begin, min(begin + piece, length)))
