"""Titans' memory alone, as a gate, as a layer and as context, one token at a time; arXiv
2501.00663, secs. 3 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, project, under, unit

State = list[list[Tensor]]


def net(M: list[Tensor], z: Tensor) -> Tensor:
    return mul(M[0], F.silu(mul(M[1], z)))  # sec. 3.1: M = (W_1, W_2)


def born(w: Weights, lanes: int) -> State:
    M = [w[f"recall.M.start.{n}"].expand(lanes, -1, -1, -1) for n in ("W1", "W2")]
    return [M, [torch.zeros_like(m) for m in M]]


def write(state: State, anchor: list[Tensor], k: Tensor, v: Tensor, gates: list[Tensor]) -> State:
    """One token; theta, eta, alpha are [B, H]."""
    theta, eta, alpha = (g[..., None, None] for g in gates)
    at = [a.clone() for a in anchor]
    slopes = torch.autograd.grad(
        (net(at, k) - v).square().sum(), at, create_graph=True
    )  # Eq. 12, at the chunk's start
    S = [eta * s - theta * g for s, g in zip(state[1], slopes, strict=True)]  # Eqs. 14, 18
    return [[(1 - alpha) * m + s for m, s in zip(state[0], S, strict=True)], S]  # Eq. 13


def gates_of(x: Tensor, w: Weights) -> list[Tensor]:
    """theta, eta, alpha."""
    decay = torch.sigmoid(gate(x, w, "decay"))
    rate = 0.01 * (1 - decay) * torch.sigmoid(gate(x, w, "rate"))
    return [rate, decay, torch.sigmoid(gate(x, w, "forget") - 6)]


def reads(x: Tensor, w: Weights, chunk: int, carried: list[State] | None = None) -> Tensor:
    """[B, T, H, e]; `carried` holds what an earlier sequence left, and takes what this one
    leaves.
    """
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    gates, state, out = gates_of(x, w), carried.pop() if carried else born(w, x.shape[0]), []
    for t in range(x.shape[1]):
        if t % chunk == 0:
            anchor = state[0]
        state = write(state, anchor, k[:, t], v[:, t], [g[:, t] for g in gates])
        out.append(net(state[0], q[:, t]))  # Eq. 15
    if carried is not None:
        carried.append([[m.detach().requires_grad_() for m in part] for part in state])
    return torch.stack(out, 1)


def memory(x: Tensor, w: Weights, chunk: int, carried: list[State] | None = None) -> Tensor:
    return joined(norm(reads(x, w, chunk, carried), w["rmsnorm"]), w["linear"])


def gated(x: Tensor, w: Weights, chunk: int) -> Tensor:
    """The memory alone as the layer, with the norm and the gate of sec. 4.4."""
    y = norm(reads(x, w, chunk), w["rmsnorm"])
    return joined(y * torch.sigmoid(heads(x, w["linear2"])), w["linear"])


def softmax_read(q: Tensor, sources: list[Tensor], w: Weights) -> Tensor:
    """q is [B, H, e]; sources are [B, n, d], keyed and valued by one map."""
    seen = torch.cat(sources, 1)
    k, v = heads_of(w["K"], seen), heads_of(w["V"], seen)
    weights = torch.softmax(torch.einsum("bhe,bnhe->bhn", q, k) / q.shape[-1] ** 0.5, -1)
    return torch.einsum("bhn,bnhe->bhe", weights, v)


def heads_of(weight: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("hed,bnd->bnhe", weight, x)


def sliding(x: Tensor, w: Weights, window: int) -> Tensor:
    q, P = heads(x, w["q"]), w["P"].expand(x.shape[0], -1, -1)
    rows = [
        softmax_read(q[:, t], [P, x[:, max(0, t + 1 - window) : t + 1]], w)
        for t in range(x.shape[1])
    ]
    return joined(torch.stack(rows, 1), w["linear"])


def mag(x: Tensor, w: Weights, chunk: int, window: int) -> Tensor:
    y, m = (
        sliding(x, under(w, "y"), window),
        memory(x, under(w, "neural_memory"), chunk),
    )  # Eqs. 26, 27
    return norm(y, w["rmsnorm"]) * F.silu(norm(m, w["rmsnorm2"]))  # Eq. 28


def mal(x: Tensor, w: Weights, chunk: int, window: int) -> Tensor:
    return sliding(
        memory(x, under(w, "y"), chunk), under(w, "persistent_attention"), window
    )  # Eqs. 29 to 31
