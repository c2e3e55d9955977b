"""A run -> whether a token changes what stands before it, or a sequence what stands beside it. No
bit may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nldsl.audit.opened import Opened, moved
from nldsl.core.program import ENDS, Program

PLACES = 8  # tokens that are changed, one after the other
SEQUENCES = 4


@dataclass(frozen=True)
class Law:
    """`broken` says where, for each place; `says` what was tried."""

    name: str
    says: str
    broken: tuple[str, ...]


def causality(opened: Opened) -> Law:
    """Changes one token at a time: the streams before it stay as they are, and something from it on
    moves.
    """
    batch = opened.part(SEQUENCES, opened.tokens)
    before, _ = read(opened, batch)
    step, last = opened.step, opened.tokens - 1
    nodes = dict([step.reading.scored])
    logits = step.reading.logits()
    places = sorted({1 + (last - 1) * i // (PLACES - 1) for i in range(PLACES)})
    broken, silent = [], []
    for at in places:
        after, _ = read(opened, changed(opened.program, batch, slice(None), slice(at, at + 1)))
        tails = []
        for name, x in before.items():
            late, ahead = step.reading.extent(nodes.get(name) or logits or nodes[name])
            rows = max(0, at - ahead - late)  # those of tokens that cannot know of it
            if moved(x[:, :rows], after[name][:, :rows]):
                first = differs_at(x, after[name]) + late
                broken.append(f"token {at} moves `{name}` at token {first}")
            tails.append(moved(x[:, rows:], after[name][:, rows:]))
        if not any(tails):
            silent.append(str(at))
    says = f"one token of {opened.tokens} changed, at {len(places)} places"
    if silent:
        says += f"; nothing at all moves with token {', '.join(silent)}"
    return Law("causality", says, tuple(broken))


def independence(opened: Opened) -> Law:
    """Changes all sequences but the first, whose streams and memories stay as they are."""
    batch = opened.part(SEQUENCES, opened.tokens)
    count = len(next(iter(batch.values())))
    before, left = read(opened, batch)
    after, now = read(opened, changed(opened.program, batch, slice(1, None), slice(None)))
    pairs = {name: (x, after[name]) for name, x in before.items()}
    pairs |= {name: (x, now[name]) for name, x in left.items()}
    broken = [
        f"the other sequences move `{name}` of the first"
        for name, (x, y) in pairs.items()
        if moved(x[:1], y[:1])
    ]
    return Law("independence", f"{count - 1} of {count} sequences changed", tuple(broken))


def read(
    opened: Opened, batch: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The streams, and what the sequences carry at their end."""
    reading, module = opened.step.reading, opened.streams()
    count = len(next(iter(batch.values())))
    views = opened.state.views
    with torch.no_grad():
        carry = module["start"](views, count, reading.like(), reading.seats(count))
        streams, left = module["forward"](views, batch, carry, 0, "loop")
    return streams, {name: x for name, x in left.items() if x is not None}


def changed(
    program: Program, batch: Mapping[str, Tensor], sequences: slice, tokens: slice
) -> dict[str, Tensor]:
    """The batch with other values there: each token is another one, each number moves by 1."""
    found = {name: x.clone() for name, x in batch.items()}
    for name, x in found.items():
        part = x[sequences, tokens]
        if name in program.vocab:
            x[sequences, tokens] = (part + max(1, program.vocab[name] // 3)) % program.vocab[name]
        elif name != ENDS:
            x[sequences, tokens] = part + 1
    return found


def differs_at(a: Tensor, b: Tensor) -> int:
    """The first row of [sequence, token, ..] that is not the same."""
    rows = (a != b).flatten(2).any(-1).any(0) if a.dim() > 2 else (a != b).any(0)
    return int(rows.long().argmax())
