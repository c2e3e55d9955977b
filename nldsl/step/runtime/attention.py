"""Softmax attention over rows kept.

A group of pairs is (k, v, score_eq, value_eq, heads, span, first): with span None its pairs are
those of the token itself or, learned, of all tokens; else k, v are [B, S, ..], rows as `visible`
has them. `heads` is the number of dimensions of a score that are no pairs, in which q has all its
axes but the last. At a token before all groups begin everything is seen: nobody is shown the
result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nldsl.step.runtime.time import covers, visible

Group = tuple[Tensor, Tensor, str, str, int, tuple[str, int, int] | None, int]


def attend(
    q: Tensor,
    pairs: tuple[Group, ...],
    scale: float,
    t: Tensor,
) -> Tensor:
    """Softmax over all pairs of all groups at once, written out: it has derivatives of any order.
    q [B, T, ..], t [T].
    """
    scores = []
    nothing = t < min(g[6] for g in pairs)
    for k, v, score_eq, value_eq, heads, span, first in pairs:
        s = torch.einsum(score_eq, q, k) * scale
        shape = [1] * s.dim()
        if span is not None:
            seen = visible(t, k.shape[1], span, first) | nothing[:, None]
            shape[1], shape[-1] = seen.shape
            s = s.masked_fill(~seen.reshape(shape), float("-inf"))
        elif first:
            shape[1] = len(t)
            s = s.masked_fill(~((t >= first) | nothing).reshape(shape), float("-inf"))
        scores.append(s)
    flat = [s.flatten(g[4]) if s.dim() > g[4] else s.unsqueeze(-1) for s, g in zip(scores, pairs)]
    weights = torch.cat(flat, -1).softmax(-1)
    parts, at = [], 0
    for (k, v, score_eq, value_eq, *_), s, f in zip(pairs, scores, flat):
        part = weights[..., at : at + f.shape[-1]].reshape(s.shape)
        parts.append(torch.einsum(value_eq, part, v))
        at += f.shape[-1]
    return sum(parts[1:], parts[0])


def attention(q: Tensor, pairs: tuple[Group, ...], scale: float, t: Tensor) -> Tensor:
    """`attend` by PyTorch's fused kernel, which keeps no scores and has a first derivative alone;
    no group has pairs of the token itself.
    """
    nothing = t < min(g[6] for g in pairs)
    whole = len(pairs) == 1 and covers(t, pairs[0][0].shape[1], *pairs[0][5:])
    keys, values, seen = [], [], []
    for k, v, score_eq, value_eq, heads, span, first in pairs:
        query, key = score_eq.partition("->")[0].split(",")
        value, out = value_eq.partition(",")[2].split("->")
        lead, pair = "B" + query[2:-1], value_eq[heads : value_eq.index(",")]
        rest = "".join(c for c in out if c not in query)
        sizes = dict(zip(key + query + value, (*k.shape, *q.shape, *v.shape)))
        keys.append(arranged(k, key, lead, pair, query[-1], sizes))
        values.append(arranged(v, value, lead, pair, rest, sizes))
        if not whole:
            here = (t >= first)[:, None] if span is None else visible(t, k.shape[1], span, first)
            here = (here | nothing[:, None]).unsqueeze(1)
            seen.append(here.expand(-1, keys[-1].shape[2] // here.shape[2], -1).flatten(1))
    y = F.scaled_dot_product_attention(
        q.flatten(2, -2).transpose(1, 2) if q.dim() > 3 else q.unsqueeze(1),
        torch.cat(keys, 2),
        torch.cat(values, 2),
        attn_mask=None if whole else torch.cat(seen, 1),
        is_causal=whole,
        scale=scale,
    )
    return y.transpose(1, 2).reshape(*q.shape[:-1], *(sizes[c] for c in rest))


def arranged(
    x: Tensor, letters: str, lead: str, pair: str, rest: str, sizes: dict[str, int]
) -> Tensor:
    """x, whose axes are `letters`, as [B, heads, pairs, rest], repeated along axes that it
    lacks."""
    order = lead + pair + rest
    x = x.permute([letters.index(c) for c in order if c in letters])
    for i, c in enumerate(order):
        if c not in letters:
            x = x.unsqueeze(i)
    x = x.expand([sizes[c] for c in order])
    shape = x.shape
    count = [shape[0], *(1, 1, 1)]
    for i, c in enumerate(order[1:], 1):
        count[1 if c in lead else 2 if c in pair else 3] *= shape[i]
    return x.reshape(count)


def rounded_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """PyTorch's fused kernel of operands rounded to bfloat16; scores and weights are float32
    within.
    """
    low = torch.bfloat16
    return F.scaled_dot_product_attention(
        q.to(low), k.to(low), v.to(low), attn_mask=attn_mask, is_causal=is_causal, scale=scale
    ).to(q.dtype)
