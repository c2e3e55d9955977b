"""A net that forecasts a real-valued stream and learns from each value when it has come."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, mul, norm, under, unit
from references.network import swiglu


def net(M: list[Tensor], z: Tensor) -> Tensor:
    return mul(M[0], F.gelu(mul(M[1], z), approximate="tanh"))


def series(w: Weights, x: Tensor, chunk: int) -> Tensor:
    z, T = x @ w["loss.h"].T + w["loss.h.bias"], x.shape[1]
    h = sum(
        w["loss.h.conv"][3 - j] * torch.cat([torch.zeros_like(z[:, :j]), z[:, : T - j]], 1)
        for j in range(min(4, T))
    )
    h = unit(h + swiglu(norm(h, w["loss.rmsnorm"]), under(w, "loss.swiglu")))
    of = under(w, "loss.forecaster")
    rate, keep = (
        torch.sigmoid(h @ of[name] + of[f"{name}.bias"] + plus)[..., None, None]
        for name, plus in (("rate", 0), ("keep", 6))
    )
    M, out = [of[f"online.M.start.{n}"].expand(x.shape[0], -1, -1) for n in ("W1", "W2")], []
    for t in range(T - 1):
        if t % chunk == 0:
            anchor = M
        out.append(
            (net(M, h[:, t]) - x[:, t + 1]).square().sum(-1)
        )  # before the tick of this token
        at = [a.clone() for a in anchor]
        slopes = torch.autograd.grad(
            (net(at, h[:, t]) - x[:, t + 1]).square().sum() / 2, at, create_graph=True
        )
        M = [keep[:, t] * m - rate[:, t] / chunk * g for m, g in zip(M, slopes, strict=True)]
    return torch.stack(out, 1)
