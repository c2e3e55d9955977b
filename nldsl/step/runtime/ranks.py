"""Sums over the lanes of one process -> sums over those of all."""

from __future__ import annotations

import torch
from torch import Tensor


def over_ranks(x: Tensor, ranks: int) -> Tensor:
    """The sum over all ranks of what each of them has; `x` stays what it is.

    Nothing waits for it until it is read, so that several are on their way at once.
    """
    from torch.distributed._functional_collectives import all_reduce

    if ranks == 1:
        return x
    total: Tensor = all_reduce(x, "sum", "0")  # type: ignore[arg-type]
    return total


def sums_over_ranks(own: dict[str, Tensor], ranks: int) -> dict[str, Tensor]:
    """The sums over all ranks of what each of them has, in one message."""
    total = over_ranks(torch.cat([x.reshape(-1) for x in own.values()]), ranks)
    parts = total.split_with_sizes([x.numel() for x in own.values()])
    return {name: part.view(x.shape) for (name, x), part in zip(own.items(), parts)}
