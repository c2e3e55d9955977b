"""Memories that learn from what comes one token later, while a sequence is read; arXiv 2512.23675;
arXiv 2512.24695, Eqs. 70, 71, 74.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.attention import attention
from references.layers import Weights, mul, norm, under
from references.network import scored, swiglu

Net = dict[str, Tensor]


def born(w: Weights, lanes: int) -> Net:
    """A net for each lane: [B, out, in]."""
    return {name: w[name].expand(lanes, -1, -1) for name in ("gate", "up", "down")}


def feed(x: Tensor, f: Net) -> Tensor:
    return mul(f["down"], F.silu(mul(f["gate"], x)) * mul(f["up"], x))


def descended(f: Net, loss: Tensor, rate: float) -> Net:
    slopes = torch.autograd.grad(loss, list(f.values()), create_graph=True)
    return {name: x - rate * g for (name, x), g in zip(f.items(), slopes, strict=True)}


def attended(x: Tensor, of: Weights, window: int) -> Tensor:
    return x + attention(norm(x, of["rmsnorm"]), under(of, "attention"), window)


def learned_on_the_way(
    w: Weights,
    ids: Tensor,
    nets: dict[int, Net],
    y: Callable[[int, dict[int, Net]], Tensor],
    rate: float,
    mean: bool,
) -> Tensor:
    """`y(t, nets)` is what token t says. The net of period p moves once the target of the last of p
    tokens has come, by the slope of their losses in itself: all that other nets did is constant.
    What is learned before the sequence sees through everything.
    """

    def loss(t: int, held: dict[int, Net]) -> Tensor:
        said = norm(y(t, held), w["loss.rmsnorm"]) @ w["loss.linear"].T
        return scored(torch.stack([said, said], 1), ids[:, t : t + 2])[:, 0]

    past, out = [], []
    for t in range(ids.shape[1] - 1):
        past.append(nets)
        out.append(loss(t, nets))
        moved = {}
        for p in [p for p in nets if (t + 1) % p == 0]:
            own = {name: a.clone() for name, a in nets[p].items()}
            total = sum(loss(i, past[i] | {p: own}).sum() for i in range(t + 1 - p, t + 1))
            moved[p] = descended(own, total / p if mean else total, rate)
        nets = nets | moved
    return torch.stack(out, 1)


def ttt_e2e(w: Weights, ids: Tensor, b: int, window: int, plain: int = 3) -> Tensor:
    """Sec. 2: plain blocks, then one with a second net that takes a step after each b tokens."""
    x = w["loss.x"][ids]
    for at in [*(f"loss.layer[{n}].plain" for n in range(plain)), "loss.layer[0].adaptive"]:
        of = under(w, at)
        x = attended(x, of, window)
        x = x + swiglu(norm(x, of["rmsnorm2"]), under(of, "swiglu"))
    z, nets = norm(x, of["rmsnorm3"]), {b: born(under(of, "fast.F.start"), ids.shape[0])}
    return learned_on_the_way(
        w, ids, nets, lambda t, held: x[:, t] + feed(z[:, t], held[b]), 0.1, mean=True
    )


def cms(w: Weights, ids: Tensor, spans: list[int], window: int, chain: bool = False) -> Tensor:
    of = under(w, "loss.layer[0]")
    x = attended(w["loss.x"][ids], of, window)
    nets = {p: born(under(of, f"cms.p[{p}].block.ffn.F.start"), ids.shape[0]) for p in spans}

    def y(t: int, held: dict[int, Net]) -> Tensor:
        total = x[:, t]
        for p in spans:  # Eq. 70 reads what the blocks before said, Eq. 74 does not
            said = feed(norm(total if chain else x[:, t], of[f"cms.p[{p}].block.rmsnorm"]), held[p])
            total = total + (said if chain else of[f"cms.p[{p}].weight"] * said)
        return total

    return learned_on_the_way(w, ids, nets, y, 0.01, mean=False)
