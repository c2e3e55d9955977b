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
    return parts.reshape(-1)[:n].contiguous().view(sizes)


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


def gathered(W: dict[str, Tensor], group: dict[str, list[int]]) -> dict[str, Tensor]:
    """Arrays of these sizes, by name, in one message; W has the parts of this rank."""
    if not group:
        return {}
    parts = [W[name] for name in group]
    columns = every_part(torch.cat(parts), RANKS).split_with_sizes([*map(len, parts)], 1)
    return {name: filled(x, sizes) for (name, sizes), x in zip(group.items(), columns)}


class Wholes(dict[str, Tensor]):
    """The arrays of a pass, from their parts. Those of a block are gathered when one of them is
    asked for, and given up when those of the next are. What the backward pass reads of them is
    gathered again there, but for the last block's, where it begins.
    """

    def __init__(self, parts: dict[str, Tensor]) -> None:
        super().__init__(parts)
        self.parts = parts
        self.group = {name: i for i, group in enumerate(GATHERED) for name in group}
        self.staying = gathered(parts, GATHERED[0])
        self.at, self.learns = 0, False
        self.there: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}  # of what is there, by its address

    def __getitem__(self, name: str) -> Tensor:
        i = self.group.get(name)
        if i is None:
            return self.parts[name]
        return self.staying[name] if i == 0 else self.block(i, torch.is_grad_enabled())[name]

    def block(self, i: int, learns: bool) -> dict[str, Tensor]:
        """The arrays of a block; if it `learns`, with a way back to their parts."""
        if self.at != i or learns > self.learns:
            self.there, self.names = {}, {}
            self.at, self.learns, self.there = i, learns, gathered(self.parts, GATHERED[i])
            self.names = {x.untyped_storage().data_ptr(): name for name, x in self.there.items()}
        return self.there

    def pack(self, x: Tensor) -> Tensor | tuple[str, list[int], list[int], int]:
        """What is kept of a tensor for the backward pass."""
        name = self.names.get(x.untyped_storage().data_ptr())
        return x if name is None else (name, [*x.shape], [*x.stride()], int(x.storage_offset()))

    def unpack(self, kept: Tensor | tuple[str, list[int], list[int], int]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        name, sizes, strides, offset = kept
        with torch.no_grad():
            x = self.block(self.group[name], learns=False)[name]
            return x.as_strided(sizes, strides, offset)


def fresh_of_parts(
    W: dict[str, Tensor], inputs: dict[str, Tensor], mode: str, lanes: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]:
    """`fresh` with arrays of which W has the parts of this rank. A step that is one graph gathers
    all of them before what reads them: when they are given up is the compiler's to say.
    """
    if torch.compiler.is_compiling() or len(GATHERED) == 1:
        whole = dict(W)
        for group in GATHERED:
            whole |= gathered(W, group)
        return fresh_of_wholes(whole, inputs, mode, lanes)
    wholes = Wholes(W)
    with torch.autograd.graph.saved_tensors_hooks(wholes.pack, wholes.unpack):
        return fresh_of_wholes(wholes, inputs, mode, lanes)
