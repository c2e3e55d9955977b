"""Optimizers as torch would write them, a step at a time.

Each makes a function (weights, slopes, number of the step) -> weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from references.omega import orthogonal

Tensors = dict[str, Tensor]
Update = Callable[[Tensors, Tensors, int], Tensors]
Step = Callable[[Tensor, Tensor, Tensors, int], Tensor]


def clipped(G: Tensors, limit: float = 1.0) -> Tensors:
    length = torch.sqrt(sum((g * g).sum() for g in G.values()))
    return {name: g * min(1.0, limit / (float(length) + 1e-6)) for name, g in G.items()}


def cosine(n: int, peak: float = 3e-3, warmup: float = 0.02, planned: int = 1000) -> float:
    s = n / planned
    fall = torch.tensor(torch.pi * (s - warmup) / (1 - warmup), dtype=torch.float64)
    return peak * (s / warmup if s <= warmup else (1 + fall.cos().item()) / 2)


def remembering(step: Step, clip: bool = False) -> Update:
    """`step(w, g, memory, n)` -> the new w; one memory for each weight."""
    memories: dict[str, Tensors] = {}

    def update(W: Tensors, G: Tensors, n: int) -> Tensors:
        G = {name: G[name] for name in W}
        G = clipped(G) if clip else G
        return {name: step(w, G[name], memories.setdefault(name, {}), n) for name, w in W.items()}

    return update


def momentum(lr: float, decay: float, ahead: bool = False) -> Step:
    def step(w: Tensor, g: Tensor, m: Tensors, n: int) -> Tensor:
        m["m"] = decay * m.get("m", torch.zeros_like(g)) - lr * g  # 2512.24695 Eq. 33
        return w + (decay * m["m"] - lr * g if ahead else m["m"])

    return step


def adam(w: Tensor, g: Tensor, m: Tensors, n: int, rate: float, decay: float = 0.0) -> Tensor:
    m["m"] = 0.9 * m.get("m", torch.zeros_like(g)) + 0.1 * g
    m["s"] = 0.999 * m.get("s", torch.zeros_like(g)) + 0.001 * g * g
    return (
        w
        - rate * (m["m"] / (1 - 0.9**n)) / ((m["s"] / (1 - 0.999**n)).sqrt() + 1e-8)
        - rate * decay * w
    )


def adagrad(w: Tensor, g: Tensor, m: Tensors, n: int) -> Tensor:
    m["H"] = m.get("H", 0) + g * g  # Eq. 102
    return w - 0.02 * g / (m["H"].sqrt() + 1e-10)


def muon(w: Tensor, g: Tensor, m: Tensors, n: int) -> Tensor:
    m["m"] = 0.95 * m.get("m", torch.zeros_like(g)) - g
    return w + 0.02 * orthogonal(m["m"])  # Eq. 42


def delta_momentum(w: Tensor, g: Tensor, m: Tensors, n: int) -> Tensor:
    old = m.get("m", torch.zeros_like(g))
    m["m"] = 0.9 * old - 0.2 * (old @ g.mT @ g + g)  # Eq. 49, the values the identity
    return w + m["m"]


def m3(w: Tensor, g: Tensor, m: Tensors, n: int) -> Tensor:
    if n % 4 == 1:  # Alg. 1: the slow one takes the last block
        m["slow"] = m.get("slow", torch.zeros_like(g)) + m.get("block", torch.zeros_like(g))
        m["block"] = torch.zeros_like(g)
    m["block"], m["fast"], m["V"] = m["block"] + g, m.get("fast", 0) + g, m.get("V", 0) + g * g
    return w - cosine(n, 0.01) * (orthogonal(m["fast"]) + 0.5 * orthogonal(m["slow"])) / (
        m["V"].sqrt() + 0.1
    )
