"""The nested continuum memory system on the token clock, a token at a time; arXiv 2512.24695, Eqs.
70 to 72.
"""

from __future__ import annotations

import torch
from torch import Tensor

from references.layers import Weights, norm, under
from references.network import scored
from references.online import Net, attended, born, descended, feed


def losses(w: Weights, ids: Tensor, spans: list[int], window: int, rate: float = 0.01) -> Tensor:
    """Block s moves after each spans[s] tokens and begins anew, after spans[s + 1], at a start that
    has moved by the slope of the losses of that whole run in it, the run's own steps included. All
    else that moved meanwhile is constant.
    """
    of, lanes = under(w, "loss.layer[0]"), ids.shape[0]
    x, top = attended(w["loss.x"][ids], of, window), len(spans) - 1
    starts = {s: born(under(of, f"cms.start[{s}].S.start"), lanes) for s in range(top)}
    blocks = starts | {top: born(under(of, "cms.block.ffn.F.start"), lanes)}
    scales = [*(of[f"cms.s[{s}].rmsnorm"] for s in range(top)), of["cms.block.rmsnorm"]]

    def loss(t: int, held: dict[int, Net]) -> Tensor:
        y = x[:, t]
        for s, scale in enumerate(scales):  # Eq. 70
            y = y + feed(norm(y, scale), held[s])
        said = norm(y, w["loss.rmsnorm"]) @ w["loss.linear"].T
        return scored(torch.stack([said, said], 1), ids[:, t : t + 2])[:, 0]

    def run(s: int, net: Net, first: int, stop: int) -> tuple[Tensor, Net]:
        """The losses of tokens first.. of block s if it is `net` before them, and what it is after
        them: Eq. 71.
        """
        total = 0
        for begin in range(first, stop, spans[s]):
            part = sum(loss(i, past[i] | {s: net}).sum() for i in range(begin, begin + spans[s]))
            total, net = total + part, descended(net, part, rate)
        return total, net

    past, out = [], []
    for t in range(ids.shape[1] - 1):
        past.append(blocks)
        out.append(loss(t, blocks))
        own = {s: {name: a.clone() for name, a in net.items()} for s, net in blocks.items()}
        moved = {
            s: run(s, own[s], t + 1 - p, t + 1)[1] for s, p in enumerate(spans) if (t + 1) % p == 0
        }
        for s in [s for s in starts if (t + 1) % spans[s + 1] == 0]:  # Eq. 72
            begun = {name: a.clone() for name, a in starts[s].items()}
            moved[s] = starts[s] = descended(
                begun, run(s, begun, t + 1 - spans[s + 1], t + 1)[0], rate
            )
        blocks = blocks | moved
    return torch.stack(out, 1)
