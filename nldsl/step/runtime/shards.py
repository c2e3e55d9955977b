"""Arrays of which each rank holds a part. They are flat, in parts of one size: what is missing in
the last ones is filled up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.step.runtime.emitted import GATHERED, RANKS, fresh_of_wholes


def from_ranks(part: Tensor, sizes: list[int], ranks: int) -> Tensor:
    """An array of these sizes from the part of it, [n], that each rank holds."""
    return filled(every_part(part, ranks), sizes)


def filled(parts: Tensor, sizes: list[int]) -> Tensor:
    """An array from all its parts, in their order."""
    n = 1
    for size in sizes:
        n *= size
    return parts.reshape(-1)[:n].view(sizes)


def every_part(part: Tensor, ranks: int) -> Tensor:
    """What each rank holds, [rank, n]. The gradient of a part is the sum over all ranks of what
    they found for it.
    """
    from torch.distributed import _functional_collectives as collectives

    newer = hasattr(collectives, "all_gather_single")  # from torch 2.13 on
    name = "all_gather_single" if newer else "all_gather_tensor_autograd"
    found = getattr(collectives, name)(part.contiguous(), 0, "0")
    here: Tensor = collectives.wait_tensor(found)  # type: ignore[no-untyped-call]
    return here.view(ranks, -1)


def at_rank(x: Tensor, ranks: int, rank: Tensor) -> Tensor:
    """The part, [n], of an array that a rank holds; `rank` [1] is data, so that all ranks have one
    program.
    """
    n = -(-x.numel() // ranks)
    even = F.pad(x.reshape(-1), (0, ranks * n - x.numel()))
    return even.view(ranks, n).index_select(0, rank).view(-1)


def without_rest(x: Tensor, numbers: list[int], ranks: int, rank: Tensor) -> Tensor:
    """What a rank holds of arrays with so many numbers, with zeros for what is filled up."""
    parts = []
    for n in numbers:
        part = -(-n // ranks)
        parts.append(torch.arange(part, device=x.device) + rank * part < n)
    return torch.where(torch.cat(parts), x, 0.0)


def fresh_of_parts(
    W: dict[str, Tensor], inputs: dict[str, Tensor], mode: str, lanes: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]:
    """`fresh` with arrays of which W has the parts of this rank. Those that a block reads are
    gathered together, before what reads them.
    """
    whole = dict(W)
    for group in GATHERED:
        rows = every_part(torch.cat([W[name] for name in group]), RANKS)
        columns = rows.split_with_sizes([len(W[name]) for name in group], 1)
        for (name, sizes), x in zip(group.items(), columns):
            whole[name] = filled(x, sizes)
    return fresh_of_wholes(whole, inputs, mode, lanes)
