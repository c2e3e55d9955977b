"""What outlives a sequence, one of it for each lane of the batch: the memories that a text resets
never, or after several sequences.

    lanes = seat(emitted, 8, "cpu", torch.float64)        eight lanes that have read nothing yet
    start(W, batch, like, lanes)                          (emitted) the carry of the sequence that
                                                          each lane reads next
    lanes <- onward(lanes, carry)                         after it

Lanes are no part of the weights: what was learned while reading is saved, loaded and handed on
apart from what reads. Inside a step the carried values are constants, since no learner sees further
back than its own last tick.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nldsl.step.emit import Emitted

READ = "sequences"  # how many sequences each lane has read, int64 [lanes]
Lanes = dict[str, Tensor]


def seat(emitted: Emitted, count: int, device: str, dtype: torch.dtype) -> Lanes:
    """`count` lanes that have read nothing; empty if nothing outlives a sequence."""
    if not emitted.lasting:
        return {}
    lanes = {
        name: torch.zeros(
            (count, *(a.size for a in emitted.carries[name][0])), dtype=dtype, device=device
        )
        for name in emitted.lasting
    }
    lanes[READ] = torch.zeros(count, dtype=torch.int64, device=device)
    return lanes


def part(lanes: Mapping[str, Tensor], micro: int, count: int) -> Lanes:
    """The lanes of one micro-batch of `count` sequences."""
    return {name: x[micro * count : (micro + 1) * count] for name, x in lanes.items()}


def onward(lanes: Mapping[str, Tensor], carry: Mapping[str, Tensor]) -> Lanes:
    """What the lanes hold after a sequence that ended with `carry`."""
    return {name: x + 1 if name == READ else carry[name].detach() for name, x in lanes.items()}


def keep(lanes: Mapping[str, Tensor], new: Mapping[str, Tensor], micro: int, count: int) -> None:
    """Write what the lanes of one micro-batch hold now, in place."""
    with torch.no_grad():
        for name, x in part(lanes, micro, count).items():
            x.copy_(new[name])
