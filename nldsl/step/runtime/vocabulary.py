"""The cross entropy of a large vocabulary, whose logits are never there for all tokens at once."""

from __future__ import annotations

import torch
from torch import Tensor

from nldsl.step.runtime.arrays import cross_entropy


def cross_entropy_of(x: Tensor, table: Tensor, ids: Tensor, most: int) -> Tensor:
    """`cross_entropy` of the logits x [B, T, K] times table [V, K]. Where they are more than `most`
    numbers it is computed in pieces of tokens: of so many, or of a sixteenth of all.
    """
    tokens = max(1, most // table.shape[0], (ids.numel() + 15) // 16)
    if tokens >= ids.numel():
        return cross_entropy(torch.einsum("BTk,vk->BTv", x, table), ids)
    flat = x.flatten(0, 1), table, ids.flatten(), tokens
    loss: Tensor = InPieces.apply(*flat)  # type: ignore[no-untyped-call]
    return loss.view(ids.shape)


class InPieces(torch.autograd.Function):
    """The same over tokens x [N, K], so many at a time; the way back works out logits again."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, table: Tensor, ids: Tensor, tokens: int
    ) -> Tensor:
        ctx.save_for_backward(x, table, ids)
        ctx.tokens = tokens  # type: ignore[attr-defined]
        pieces = zip(torch.split(x, tokens), torch.split(ids, tokens))
        return torch.cat(
            [cross_entropy(torch.einsum("nk,vk->nv", rows, table), i) for rows, i in pieces]
        )

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, bar: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        x, table, ids = ctx.saved_tensors  # type: ignore[attr-defined]
        tokens = ctx.tokens  # type: ignore[attr-defined]
        slopes, total = [], torch.zeros_like(table)
        for rows, i, b in zip(*(torch.split(given, tokens) for given in (x, ids, bar))):
            logits = torch.einsum("nk,vk->nv", rows, table)
            shares = logits.to(torch.promote_types(x.dtype, torch.float32)).softmax(-1)
            right = torch.full_like(shares[:, :1], -1.0)
            errors = b.unsqueeze(1) * shares.scatter_add(1, i.unsqueeze(1), right)
            slopes.append(torch.einsum("nv,vk->nk", errors, table))
            total = total + torch.einsum("nv,nk->vk", errors, rows)
        return torch.cat(slopes), total, None, None
