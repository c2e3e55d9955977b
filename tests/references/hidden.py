"""Matrices by one rule and all else by AdamW, as torch would write it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from references.optimizers import Step, Tensors, Update, adam, cosine, remembering


def hidden_by(step: Step) -> Callable[[int], Update]:
    """The matrices between embedding and head by `step`, each as the matrix with the axis of size d
    on one side; the rest by AdamW.
    """

    def of(d: int) -> Update:
        def matrix(x: Tensor) -> Tensor:
            return x.reshape(-1, d) if x.shape[-1] == d else x.reshape(d, -1)

        others, memories = remembering(lambda w, g, m, n: adam(w, g, m, n, cosine(n))), {}

        def update(W: Tensors, G: Tensors, n: int) -> Tensors:
            mine = {name for name, w in W.items() if name.startswith("hidden.") and w.dim() > 1}
            rest = {name: w for name, w in W.items() if name not in mine}
            new = others(rest, G, n) if rest else {}
            for name in mine:
                moved = step(matrix(W[name]), matrix(G[name]), memories.setdefault(name, {}), n)
                new[name] = moved.reshape(W[name].shape)
            return {name: new[name] for name in W}

        return update

    return of
