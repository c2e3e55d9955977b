"""Softmax attention over rows kept."""

from __future__ import annotations

import torch
from torch import Tensor

from nldsl.step.runtime.time import visible


def attend(
    q: Tensor,
    pairs: tuple[tuple[Tensor, Tensor, str, str, int, tuple[str, int, int] | None, int], ...],
    scale: float,
    t: Tensor,
) -> Tensor:
    """Softmax over all pairs of all groups at once. q [B, T, ..]. A group is (k, v, score_eq,
    value_eq, heads, span, first): with span None its pairs are those of the token itself, else k, v
    are [B, S, ..], rows as `visible` has them. `heads` is the number of dimensions of a score that
    are no pairs. At a token before all groups begin everything is seen: nobody is shown the result.
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
