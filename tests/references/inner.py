"""Optimizers that move a matrix memory once a token; arXiv 2512.24695, secs. 4.2, 4.4.

Gradients are taken at the start of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from references.layers import Weights, joined, mul, norm, outer, project, unit
from references.omega import orthogonal

Rule = Callable[[Tensor, dict[str, Tensor], int], Tensor]


def momentum(g: Tensor, m: dict[str, Tensor], n: int) -> Tensor:
    m["m"] = 0.8 * m.get("m", 0) - 0.2 * g  # Eq. 33
    return m["m"]


def nesterov(g: Tensor, m: dict[str, Tensor], n: int) -> Tensor:
    return 0.8 * momentum(g, m, n) - 0.2 * g


def adam(g: Tensor, m: dict[str, Tensor], n: int) -> Tensor:
    m["m"], m["s"] = 0.9 * m.get("m", 0) + 0.1 * g, 0.999 * m.get("s", 0) + 0.001 * g * g
    return -0.05 * (m["m"] / (1 - 0.9**n)) / ((m["s"] / (1 - 0.999**n)).sqrt() + 1e-8)  # Eq. 105


def adagrad(g: Tensor, m: dict[str, Tensor], n: int) -> Tensor:
    m["H"] = m.get("H", 0) + g * g  # Eq. 102
    return -0.1 * g / (m["H"].sqrt() + 1e-10)


def muon(g: Tensor, m: dict[str, Tensor], n: int) -> Tensor:
    m["m"] = 0.8 * m.get("m", 0) - g
    return 0.1 * orthogonal(m["m"])  # Eq. 42


RULES: dict[str, Rule] = {
    "y": momentum,
    "y.recalled2": nesterov,
    "y.recalled3": adam,
    "y.recalled4": adagrad,
    "y.recalled5": muon,
}


def inner(x: Tensor, w: Weights, chunk: int) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    out = 0
    for name, rule in RULES.items():
        M, memory, rows = w[f"{name}.recall.M.start"].expand(x.shape[0], -1, -1, -1), {}, []
        held = M
        for t in range(x.shape[1]):
            held = M if t % chunk == 0 else held
            M = M + rule(outer(mul(held, k[:, t]) - v[:, t], k[:, t]), memory, t + 1)
            rows.append(mul(M, q[:, t]))
        out = out + torch.stack(rows, 1)
    return joined(norm(out, w["rmsnorm"]), w["linear"])
