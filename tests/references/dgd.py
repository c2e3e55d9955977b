"""Delta gradient descent: a layer that regresses on its own error signal; arXiv 2512.24695, Eqs. 56
to 58.
"""

from __future__ import annotations

import torch
from torch import Tensor

from references.attention import attention
from references.layers import Weights, mul, outer, standardise, under, unit
from references.network import scored


def losses(w: Weights, ids: Tensor, window: int) -> Tensor:
    x, of = w["loss.x"][ids], under(w, "loss.layer[0]")
    x = x + attention(standardise(x), under(of, "attention"), window)
    W, rows = w["random:loss.layer[0].dgd_linear.layer.W"].detach().expand(ids.shape[0], -1, -1), []
    for t in range(ids.shape[1]):
        z = unit(x[:, t])
        rows.append(mul(W, z))
        if t + 1 < ids.shape[1]:  # the target of t is known before t + 1 is read
            with torch.enable_grad():
                y = rows[-1].detach().requires_grad_()
                logits = standardise(x[:, t].detach() + y) @ w["loss.linear"].detach().T
                u = -torch.autograd.grad(
                    scored(torch.stack([logits, logits], 1), ids[:, t : t + 2]).sum(), y
                )[0]
            z = z.detach()
            rate = (
                0.1 / (1 + 0.1 * (z * z).sum(-1))[:, None, None]
            )  # Eq. 57, of a key of any length
            W = (W - rate * outer(mul(W, z) - u, z)).detach()  # nobody sees through it
    return scored(standardise(x + torch.stack(rows, 1)) @ w["loss.linear"].T, ids)
