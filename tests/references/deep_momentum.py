"""Momentum whose memory is a network for each weight; arXiv 2512.24695, Eq. 50 with an L2
objective.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights
from references.optimizers import Update, cosine


def read(net: list[Tensor], u: Tensor) -> Tensor:
    return F.gelu(u @ net[1].mT, approximate="tanh") @ net[0].mT


def deep_momentum(starts: dict[str, list[Tensor]]) -> Update:
    """`starts`: the two layers of each weight's network, the outer first."""
    nets = {
        name: [x.detach().clone().requires_grad_() for x in net] for name, net in starts.items()
    }

    def update(W: Weights, G: Weights, n: int) -> Weights:
        out = {}
        for name, net in nets.items():
            u = G[name] / torch.sqrt(
                (G[name] ** 2).sum(-1, keepdim=True) + 1e-12
            )  # each row at unit length
            with torch.enable_grad():
                slopes = torch.autograd.grad(
                    ((read(net, u) + u) ** 2).sum() / 2, net
                )  # to the value -u
            net[:] = [
                (0.99 * x - 0.003 * d).detach().requires_grad_()
                for x, d in zip(net, slopes, strict=True)
            ]
            out[name] = (W[name] + cosine(n, 0.05) * read(net, u)).detach()  # W + m(u)
        return out

    return update
