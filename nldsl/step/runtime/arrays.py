"""Constants, products and solves."""

from __future__ import annotations

import torch
from torch import Tensor


def full(like: Tensor, value: object, shape: tuple[int, ...]) -> Tensor:
    """A constant of the dtype and device of `like`; float64 beside whole numbers, as in a block
    that computes from labels alone.
    """
    dtype = like.dtype if like.is_floating_point() else torch.float64
    if isinstance(value, int | float):  # filled where it lies, not copied there
        return torch.full((), value, dtype=dtype, device=like.device).expand(shape)
    return torch.as_tensor(value, dtype=dtype, device=like.device).expand(shape)


def product(eq: str, *xs: Tensor) -> Tensor:
    """`torch.einsum` of numbers rounded to bfloat16, with a float32 result: the products of two
    that sum over an axis they share, each with an axis of its own, as matrices have. What sums over
    nothing scales (a gate near 1), an inner product of a vector is its norm, one of three weighs
    with decays, and one with `...` sums over tokens: those stay in float32."""
    given, _, out = eq.partition("->")
    axes = [set(one) & set(out) for one in given.split(",")]
    summed = set.intersection(*map(set, given.split(","))) - set(out)
    if len(xs) != 2 or "..." in eq or not summed or axes[0] <= axes[1] or axes[1] <= axes[0]:
        return torch.einsum(eq, *xs)
    return torch.einsum(eq, *(x.to(torch.bfloat16) for x in xs)).to(xs[0].dtype)


def truth(test: Tensor, like: Tensor) -> Tensor:
    """1 where it is true, else 0, of the dtype that constants have here."""
    return test.to(like.dtype if like.is_floating_point() else torch.float64)


def entry(x: Tensor, ids: Tensor, lead: int) -> Tensor:
    """x [lead.., n, ..] at the places ids [lead..] of its own n entries."""
    index = ids.reshape(*ids.shape, *[1] * (x.dim() - lead))
    return torch.take_along_dim(x, index, lead).squeeze(lead)


def root(x: Tensor, power: float) -> Tensor:
    """x ** power, with derivative 0 at 0."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** power)


def solve(b: Tensor, a: Tensor) -> Tensor:
    """b a^-1 for positive definite matrices a [.., n, n]; b [.., m, n]."""
    wide = torch.promote_types(a.dtype, torch.float32)
    root = torch.linalg.cholesky(a.to(wide))
    return torch.cholesky_solve(b.to(wide).mT, root).mT


def cross_entropy(x: Tensor, ids: Tensor) -> Tensor:
    """log sum exp x - x[ids] over the last axis, in the precision of x or float32, whichever is
    wider.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.logsumexp(wide, -1) - wide.expand(*ids.shape, wide.shape[-1]).gather(
        -1, ids.unsqueeze(-1)
    ).squeeze(-1)
