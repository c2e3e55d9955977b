"""A learned optimizer, a step at a time; arXiv 2512.24695, sec. 3.3.

Between two of its ticks the slower level sees weights as functions of its rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from references.attention import attention
from references.layers import Weights, under
from references.network import losses as network
from references.optimizers import Tensors, Update, adam, remembering

RULE = "inner.generated.rule"


def losses(w: Weights, ids: Tensor, window: int) -> Tensor:
    named = {name.replace("model.", "loss.", 1): x for name, x in w.items()}
    return network(named, ids, lambda x, mine: attention(x, under(mine, "attention"), window))


def rule(s: Tensor, w: Weights) -> Tensor:
    hidden = torch.tanh(s @ w["hidden"].T + w["hidden.bias"])
    out = hidden @ w["out"].T + w["out.bias"]
    return out[..., 0] * torch.exp(0.1 * out[..., 1])


def generated(g: Tensor, past: Tensors, n: int, w: Weights) -> Tensor:
    past["v"] = 0.9 * past.get("v", torch.zeros_like(g)) - 0.1 * g
    scale = adam(torch.zeros_like(g), g, past, n, 1.0)
    return 3e-3 * scale + 1e-3 * rule(torch.stack([g, past["v"], scale], -1), w)


def learned(unroll: int) -> Update:
    meta, past = remembering(lambda w, g, m, n: adam(w, g, m, n, 1e-3), clip=True), {}
    run: dict[str, object] = {"heard": 0.0}

    @torch.enable_grad()
    def update(W: Tensors, G: Tensors, n: int) -> Tensors:
        model = [name for name in W if name.startswith("model.")]
        if n % unroll == 1:  # sec. 3.3: what went before is constant
            run.update(
                heard=0.0,
                O={name: x.detach().requires_grad_() for name, x in W.items() if name not in model},
                W={name: W[name].detach() for name in model},
            )
        run["heard"] = run["heard"] + sum((G[name] * run["W"][name]).sum() for name in model)
        run["W"] = {
            name: run["W"][name]
            + generated(G[name], past.setdefault(name, {}), n, under(run["O"], RULE))
            for name in model
        }
        rules = {name: x.detach() for name, x in run["O"].items()}
        if n % unroll == 0:
            slopes = torch.autograd.grad(run["heard"] / unroll, list(run["O"].values()))
            rules = meta(rules, dict(zip(rules, slopes, strict=True)), n // unroll)
        return {name: run["W"][name].detach() if name in model else rules[name] for name in W}

    return update
