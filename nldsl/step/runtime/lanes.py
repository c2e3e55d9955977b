"""What outlives a sequence, at the start of the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nldsl.step.runtime.recurrence import lanewise

if TYPE_CHECKING:
    from nldsl.step.runtime.emitted import LANES


def empty(count: int, like: Tensor) -> dict[str, Tensor]:
    """Lanes that have read nothing, one for each sequence of a batch."""
    lanes = {name: like.new_zeros((count, *sizes)) for name, sizes in LANES.items()}
    return lanes | {"sequences": torch.zeros(count, dtype=torch.int64, device=like.device)}


def resumed(
    carry: dict[str, Tensor],
    lanes: dict[str, Tensor],
    lasting: dict[str, tuple[str, tuple[int, int], tuple[int, int], str]],
) -> dict[str, Tensor]:
    """The carry of the sequence that each lane reads next. What outlives a sequence goes on in its
    lane; it starts in a lane that has read nothing, after so many sequences, and where a document
    ended with the last token. `lasting`: name -> (the memory that it is or is a copy of, the two
    clocks, what holds that it did).
    """
    n = lanes["sequences"]
    for name, (memory, life, copied, ended) in lasting.items():
        anew = (n == 0) | completed(n, *life)
        carry[name] = lanewise(
            anew | (lanes[ended] != 0) if ended else anew, carry[name], lanes[name]
        )
        carry[name] = lanewise(completed(n, *copied), carry[memory], carry[name])
    return carry


def completed(n: Tensor, period: int, phase: int) -> Tensor:
    """Does a clock tick at the n-th of its units? Period 0 never does."""
    return (
        (n > phase) & ((n - phase) % period == 0)
        if period
        else torch.zeros_like(n, dtype=torch.bool)
    )
