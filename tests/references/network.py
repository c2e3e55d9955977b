"""The network around a sequence layer: embedding, residual blocks, next-token losses.

Weights by qualified name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.attention import attention
from references.layers import Weights, norm, standardise, under

Mixer = Callable[[Tensor, Weights], Tensor]


def swiglu(x: Tensor, w: Weights) -> Tensor:
    return (F.silu(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T


def scored(logits: Tensor, ids: Tensor) -> Tensor:
    """[B, T - 1]: the loss of each token that has a successor."""
    return torch.logsumexp(logits[:, :-1], -1) - logits[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]


def predict(x: Tensor, w: Weights, ids: Tensor, gain: str = "loss.rmsnorm") -> Tensor:
    return scored(norm(x, w[gain]) @ w["loss.linear"].T, ids)


def losses(w: Weights, ids: Tensor, mixer: Mixer, depth: int = 1) -> Tensor:
    x = w["loss.x"][ids]
    for layer in range(depth):
        of = under(w, f"loss.layer[{layer}]")
        x = x + mixer(norm(x, of["rmsnorm"]), under(of, "mixer"))
        x = x + swiglu(norm(x, of["rmsnorm2"]), under(of, "swiglu"))
    return predict(x, w, ids)


def continuum(
    w: Weights, ids: Tensor, mixer: Mixer, name: str, periods: list[int], depth: int = 1
) -> Tensor:
    """A chain of feed-forward blocks after each sequence layer (2512.24695, Eqs. 70, 94, 97)."""
    x = w["loss.x"][ids]
    for layer in range(depth):
        of = under(w, f"loss.layer[{layer}]")
        x = x + mixer(norm(x, of["rmsnorm"]), under(of, name))
        for p in periods:
            x = x + swiglu(
                norm(x, of[f"continuum.p[{p}].rmsnorm"]), under(of, f"continuum.ffn[{p}].F")
            )
    return predict(x, w, ids)


IN_ONE = ("loss.x", "loss", "loss.linear")
APART = ("x", "hidden", "loss")


def bare(
    w: Weights, ids: Tensor, window: int, depth: int = 1, names: tuple[str, str, str] = IN_ONE
) -> Tensor:
    """A transformer without gains, so that every weight is a matrix; `names` of its embedding, its
    layers, its head.
    """
    first, hidden, last = names
    x = w[first][ids]
    for layer in range(depth):
        of = under(w, f"{hidden}.layer[{layer}]")
        x = x + attention(standardise(x), under(of, "attention"), window)
        x = x + swiglu(standardise(x), under(of, "swiglu"))
    return scored(standardise(x) @ w[last].T, ids)


def between(w: Weights, ids: Tensor, window: int, depth: int = 1) -> Tensor:
    """A transformer whose layers stand apart from its embedding and its head."""
    x = w["x"][ids]
    for layer in range(depth):
        of = under(w, f"hidden.layer[{layer}]")
        x = x + attention(norm(x, of["rmsnorm"]), under(of, "attention"), window)
        x = x + swiglu(norm(x, of["rmsnorm2"]), under(of, "swiglu"))
    return predict(x, w, ids, "loss")
