"""What looks back in time: rows kept of earlier tokens, and which of them a token sees."""

from __future__ import annotations

import torch
from torch import Tensor


def conv(rows: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise causal convolution. rows [B, n - 1 + T, ..]: the inputs and the n - 1 before them,
    kernel [n, ..].
    """
    width = kernel.shape[0]
    length = rows.shape[1] - width + 1
    y = kernel[0] * rows[:, :length]
    for j in range(1, width):
        y = y + kernel[j] * rows[:, j : j + length]
    return y


def times(like: Tensor, position: int) -> Tensor:
    """[1, T]: tokens of the sequence before each token of like [B, T, ..]."""
    return torch.arange(position, position + like.shape[1], device=like.device).unsqueeze(0)


def rope(x: Tensor, base: float, t: Tensor) -> Tensor:
    """Rotates the halves of the last axis of x [B, T, .., 2m] by t * base^(-i/m); t [T]."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = (t.to(x.dtype)[:, None] * rates).reshape(x.shape[1], *([1] * (x.dim() - 3)), half)
    # a compiler that fuses would work them out again for each lane and head
    cos, sin = (y.as_strided(y.shape, y.stride()) for y in (angle.cos(), angle.sin()))
    u, w = x[..., :half], x[..., half:]
    return torch.cat([u * cos - w * sin, u * sin + w * cos], -1)


def rope_of_part(x: Tensor, part: int, base: float, t: Tensor) -> Tensor:
    """The same of the first `part` entries of the last axis; the others stay."""
    return torch.cat([rope(x[..., :part], base, t), x[..., part:]], -1)


def joined(tail: Tensor, x: Tensor) -> Tensor:
    """The rows kept [B, n, ..] and those of this call [B, T, ..]."""
    return torch.cat([tail, x.to(tail.dtype)], 1)


def written(rows: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """rows [B, S, ..], one a token of the sequence, with x [B, T, ..] at the tokens t [T]."""
    return rows.index_copy(1, t, x.to(rows.dtype))


def visible(t: Tensor, rows: int, span: tuple[str, int, int], first: int) -> Tensor:
    """[T, S]: does token t see row j? The rows are the last S tokens up to the last of t or, where
    `span` is ("all", 0, 0), all of the sequence from its first on; those before the token `first`
    are not there.
    """
    j = torch.arange(rows, device=t.device)
    since = torch.zeros_like(t)
    if span[0] != "all":
        j = j + (t[-1] + 1 - rows)
        since = oldest(t, span).clamp_min(0)
    return (j[None, :] <= t[:, None]) & (j[None, :] >= since[:, None].clamp_min(first))


def covers(t: Tensor, rows: int, span: tuple[str, int, int] | None, first: int) -> bool:
    """Do the tokens t [T] see themselves and all before them, and are these all the rows?"""
    if span is None or first or rows != len(t):
        return False
    return span[0] == "all" or span[1] == 0 or span[0] == "last" and span[1] >= rows


def band(
    like: Tensor, t: Tensor, rows: int, span: tuple[str, int, int], first: int, mean: bool
) -> Tensor:
    """`visible` as weights of a sum, or of a mean."""
    seen = visible(t, rows, span, first).to(like.dtype)
    return seen / seen.sum(-1, keepdim=True).clamp_min(1) if mean else seen


def sampled(rows: Tensor, t: Tensor, period: int, phase: int) -> Tensor:
    """For each token t [T] the row at the last tick of a clock before it, of rows [B, S, ..] up to
    the last of t; before the first tick, where there is no value, the row of t itself.
    """
    last = phase + torch.div(t - phase, period, rounding_mode="floor") * period - 1
    return rows[:, torch.where(last >= phase, last, t) - (t[-1] + 1 - rows.shape[1])]


def begun(rows: Tensor, t: Tensor, first: int) -> Tensor:
    """rows [B, S, ..] up to the last of t [T], with zero before the token `first`."""
    j = torch.arange(rows.shape[1], device=t.device) + (t[-1] + 1 - rows.shape[1])
    return rows * (j >= first).to(rows.dtype).reshape(-1, *[1] * (rows.dim() - 2))


def present(x: Tensor, begin: int, first: int) -> Tensor:
    """x [B, T, ..], whose first row is the token `begin`, from the token `first` on."""
    return x[:, max(0, first - begin) :]


def behind(x: Tensor, before: Tensor | None, by: int) -> Tensor:
    """x [B, T, ..] so many tokens late: what stood that many tokens before. `before` is what
    `latest` gave in the previous call, None in the first: then the first tokens have no such
    predecessor.
    """
    x = x if before is None else torch.cat([before, x], 1)
    return x[:, : max(0, x.shape[1] - by)]


def latest(x: Tensor, before: Tensor | None, by: int) -> Tensor:
    """The last so many tokens that have come, for the next call."""
    return (x if before is None else torch.cat([before, x], 1))[:, -by:]


def newest(x: Tensor, before: Tensor | None) -> Tensor:
    """x [B, T, ..] one token later, at the tokens that have a next one: all but the sequence's
    first.
    """
    return x[:, 1:] if before is None or before.shape[1] == 0 else x


def oldest(t: Tensor, span: tuple[str, int, int]) -> Tensor:
    """First token that token t (from 0) sees: ("last", n, 0) a sliding window, ("since", period,
    phase) the stretch after the last tick strictly before t; period 0 is the sequence.
    """
    if span[0] == "last":
        return t - (span[1] - 1)
    if span[1] == 0:
        return torch.zeros_like(t)
    ticks = torch.div(t - span[2], span[1], rounding_mode="floor").clamp_min(0)
    return torch.where(ticks > 0, span[2] + ticks * span[1], torch.zeros_like(t))
