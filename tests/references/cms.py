"""Continuum memory systems on the step clock, a step at a time; arXiv 2512.24695, Eqs. 70 to 73."""

from __future__ import annotations

from torch import Tensor

from references.attention import attention
from references.layers import Weights, norm, under
from references.network import predict, swiglu
from references.optimizers import Tensors, Update, adam, cosine, remembering


def adamw(rate: float | None) -> Update:
    """Clipped, with decay 0.1; by the cosine without a rate."""
    return remembering(
        lambda w, g, m, n: adam(w, g, m, n, cosine(n) if rate is None else rate, 0.1), clip=True
    )


class Block:
    """Weights that move at every `period`-th step, by the mean of the slopes since they moved last:

    Eq. 71.
    """

    def __init__(self, at: str, period: int, update: Update) -> None:
        self.at, self.period, self.update, self.heard = f"{at}.", period, update, []

    def tick(self, W: Tensors, G: Tensors, n: int) -> Tensors:
        mine = {name: w for name, w in W.items() if self.at in name}
        self.heard.append({name: G[name] for name in mine})
        if n % self.period:
            return mine
        mean = {name: sum(g[name] for g in self.heard) / self.period for name in mine}
        self.heard = []
        return self.update(mine, mean, n // self.period)


def sequential(periods: list[int]) -> Update:
    blocks, rest = [Block(f"ffn[{p}].F", p, adamw(1e-3)) for p in periods], adamw(None)

    def update(W: Tensors, G: Tensors, n: int) -> Tensors:
        moved = {name: w for block in blocks for name, w in block.tick(W, G, n).items()}
        return W | moved | rest({name: w for name, w in W.items() if name not in moved}, G, n)

    return update


def nested(periods: list[int]) -> Update:
    """A start hears what its block heard over the whole run, for a step of the block does not
    depend on where it began: first order.
    """

    def descent(W: Tensors, G: Tensors, n: int) -> Tensors:
        return {name: w - 0.01 * G[name] for name, w in W.items()}

    below = [
        (
            Block(f"ffn[{s}].F", periods[s], descent),
            Block(f"start[{s}].S", periods[s + 1], adamw(1e-3)),
        )
        for s in range(3)
    ]
    top, rest = Block("slowest.F", periods[3], adamw(1e-3)), adamw(None)

    def update(W: Tensors, G: Tensors, n: int) -> Tensors:
        moved = top.tick(W, G, n)
        for s, (fast, start) in enumerate(below):
            runs = {
                name.replace(f"ffn[{s}].F", f"start[{s}].S"): g
                for name, g in G.items()
                if fast.at in name
            }
            began = start.tick(W, G | runs, n)
            ended = n % start.period == 0  # Eq. 72: the block begins again at its new start
            moved |= began | fast.tick(W, G, n)
            moved |= {
                name.replace(f"start[{s}].S", f"ffn[{s}].F"): w
                for name, w in began.items()
                if ended
            }
        return W | moved | rest({name: w for name, w in W.items() if name not in moved}, G, n)

    return update


def losses(w: Weights, ids: Tensor, window: int) -> Tensor:
    """The chain of the nested form: Eq. 70."""
    x, of = w["loss.x"][ids], under(w, "loss.layer[0]")
    x = x + attention(norm(x, of["rmsnorm"]), under(of, "attention"), window)
    for s in range(3):
        x = x + swiglu(norm(x, of[f"cms.s[{s}].rmsnorm"]), under(of, f"cms.ffn[{s}].F"))
    return predict(x + swiglu(norm(x, of["cms.rmsnorm"]), under(of, "cms.slowest.F")), w, ids)


def independent(w: Weights, ids: Tensor, periods: list[int], window: int) -> Tensor:
    """All blocks hear one input: Eq. 74."""
    x, of = w["loss.x"][ids], under(w, "loss.layer[0]")
    x = x + attention(norm(x, of["rmsnorm"]), under(of, "attention"), window)
    each = {
        p: swiglu(
            norm(x, of[f"cms.p[{p}].continuum.p[{p}].rmsnorm"]),
            under(of, f"cms.p[{p}].continuum.ffn[{p}].F"),
        )
        for p in periods
    }
    return predict(x + sum(of[f"cms.p[{p}].weight"] * y for p, y in each.items()), w, ids)
