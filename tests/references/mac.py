"""Titans' memory as context, one token at a time; arXiv 2501.00663, sec. 4.1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, heads, joined, norm, unit
from references.titans import born, gates_of, net, softmax_read, write


def conv(past: list[Tensor], kernel: Tensor) -> Tensor:
    return sum(kernel[3 - j] * past[-1 - j] for j in range(min(4, len(past))))


def mac(x: Tensor, w: Weights, segment: int) -> Tensor:
    lanes, P = x.shape[0], w["P"].expand(x.shape[0], -1, -1)
    state, hs, out = born(w, lanes), [], []
    past: dict[str, list[Tensor]] = {"k": [], "v": []}
    for t in range(x.shape[1]):
        if t % segment == 0:
            anchor, hs, begin = state[0], [], t  # Eq. 21: M before the segment
        hs.append(joined(net(anchor, unit(heads(x[:, t], w["h"]))), w["h.linear2"]))
        sources = [P, torch.stack(hs, 1), x[:, begin : t + 1]]  # Eq. 22: what this token may see
        y = joined(softmax_read(heads(x[:, t], w["q"]), sources, w), w["y"])  # Eq. 23
        for n in "kv":
            past[n].append(F.silu(heads(y, w[f"{n}.linear"])))
        k, v = (conv(past[n], w[f"{n}.conv"]) for n in "kv")
        state = write(state, anchor, unit(k), v, gates_of(y, w))  # Eq. 24
        g = joined(net(state[0], unit(heads(y, w["g"]))), w["g.linear2"])
        out.append(
            (norm(y, w["rmsnorm"]) * F.silu(norm(g, w["rmsnorm2"]))) @ w["linear"].T
        )  # Eq. 25
    return torch.stack(out, 1)
