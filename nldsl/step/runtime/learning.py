"""One step of the optimizer before its ticks: the streams that levels hear, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nldsl.step.runtime.emitted import HEARD, LASTING, LEARNERS, SLOTS, forward, start


def weights(S: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves for differentiation that share the storage of the flat state."""
    return {
        name: S[owner].view(-1)[at:end].view(sizes).detach().requires_grad_()
        for name, (owner, at, end, sizes) in SLOTS.items()
    }


def fresh(
    W: dict[str, Tensor], inputs: dict[str, Tensor], mode: str, lanes: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]:
    """Over sequences from their first token: sums and numbers of terms of every stream that a level
    hears, and what outlives them. Where nothing does, no memory is worked out behind the last
    token.
    """
    like = next(
        (x for x in (*W.values(), *inputs.values()) if x.is_floating_point()), torch.empty(())
    )
    batch = next(iter(inputs.values())).shape[0]
    rolled = "last" if mode == "loop" and not LASTING else mode
    outputs, new = forward(W, inputs, start(W, batch, like, lanes), 0, rolled)
    sums = {name: outputs[name].sum((0, 1)) for name in HEARD}
    terms = {name: outputs[name].shape[0] * outputs[name].shape[1] for name in HEARD}
    return sums, terms, {name: new[name].detach() for name in LASTING}


def gradients(
    W: dict[str, Tensor],
    sums: dict[str, Tensor],
    derive: Callable[[str, Tensor, list[Tensor]], list[Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Gradient of each heard stream's sum in each memory, laid out as the memory. `derive`: what
    gives the derivatives of a stream's sum in arrays, in the place of `slopes`.
    """
    G = {}
    for stream, owners in LEARNERS.items():
        names = [name for leaves, _ in owners.values() for name in leaves]
        total = sums[stream].sum()
        arrays = [W[name] for name in names]
        parts = derive(stream, total, arrays) if derive else slopes(total, arrays)
        at = dict(zip(names, parts))
        for owner, (leaves, flat) in owners.items():
            first = at[leaves[0]]
            G[owner + "|" + stream] = (
                torch.cat([at[name].reshape(-1) for name in leaves])
                if flat
                else first.view(first.shape or (1,))
            )
    return G


def slopes(total: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Gradient of a number in each leaf, 0 in those that it does not depend on."""
    found = (
        torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=len(LEARNERS) > 1)
        if total.requires_grad
        else [None] * len(leaves)
    )
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found)]
