"""examples/hope.nl written by hand: its equations in PyTorch, as one would who has no compiler.

Equations are those of arXiv 2512.24695, secs. 7 and 8, as the spec reads them, with one chunk for
all memories (`near` is `span`). The five memories of a head lie side by side, so that a chunk is a
few batched products: M_k, M_v, M_eta, M_alpha, M_mem in this order.

Shapes: B sequences, T tokens, N = B * heads, C tokens a chunk, E numbers a head, H = 4 * E hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEMORIES = ("M_k", "M_v", "M_eta", "M_alpha", "M_mem")
PERIODS = (1, 4, 16, 64)
KEEPS = 6.0  # the argument of the sigmoid at which retention starts (hole 4)


class Hope(nn.Module):
    def __init__(
        self,
        d: int = 256,
        heads: int = 4,
        depth: int = 6,
        span: int = 64,
        vocab: int = 256,
        periods: Sequence[int] = PERIODS,
    ) -> None:
        super().__init__()
        self.embed = drawn(vocab, d, scale=0.02)
        self.layers = nn.ModuleList(Layer(d, heads, span, periods) for _ in range(depth))
        self.norm, self.head = nn.Parameter(torch.ones(d)), drawn(vocab, d, scale=d**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """The mean loss of the next token; ids [B, T], T a multiple of the chunk."""
        x = F.embedding(ids, self.embed)
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(rmsnorm(x, self.norm), self.head)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


class Layer(nn.Module):
    """Self-modifying Titans, then a continuum of memories (Eqs. 94, 97)."""

    def __init__(self, d: int, heads: int, span: int, periods: Sequence[int]) -> None:
        super().__init__()
        e, hidden, kinds, self.span = d // heads, 4 * d // heads, len(MEMORIES), span
        self.norm, self.inner_norm = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(e))
        self.maps = drawn(2, heads, e, d, scale=d**-0.5)  # of z and of q
        self.taps = drawn(4, 2, heads, e, scale=0.5)
        self.first = drawn(heads, e, kinds, hidden, scale=e**-0.5)  # W2 of Eq. 89, transposed
        self.second = drawn(heads, kinds, hidden, e, scale=hidden**-0.5)  # W1, transposed
        self.gates = drawn(2, heads, e, scale=e**-0.5)  # of eta and of alpha (hole 9)
        self.out = drawn(d, heads, e, scale=d**-0.5)
        self.continuum = nn.ModuleDict({str(p): SwiGLU(d, 4 * d) for p in periods})

    def forward(self, x: Tensor) -> Tensor:
        z, q = F.linear(rmsnorm(x, self.norm), self.maps.flatten(0, 2)).chunk(2, -1)
        zq = torch.stack([z, q], 2).view(*x.shape[:2], *self.gates.shape)
        z, q = convolved(zq, self.taps).unbind(2)
        y = self_modifying(z, unit(q), self.first, self.second, self.gates, self.span)
        x = x + F.linear(rmsnorm(y, self.inner_norm).flatten(2), self.out.flatten(1))
        for memory in self.continuum.values():
            x = x + memory(x)
        return x


class SwiGLU(nn.Module):
    """One memory of the continuum and the norm before it (Eq. 70)."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(d))
        self.gate_up = drawn(2, hidden, d, scale=d**-0.5)
        self.down = drawn(d, hidden, scale=hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = F.linear(rmsnorm(x, self.norm), self.gate_up.flatten(0, 1)).chunk(2, -1)
        return F.linear(F.silu(gate) * up, self.down)


def self_modifying(
    z: Tensor, q: Tensor, first: Tensor, second: Tensor, gates: Tensor, span: int
) -> Tensor:
    """z and q [B, T, heads, E] -> what M_mem says of q, as it stood when the chunk began. What the
    last chunk would write is read by nobody.
    """
    sequences, length, heads, e = z.shape
    assert length % span == 0, f"{length} tokens are no whole number of chunks of {span}"
    z, q = (x.transpose(1, 2).reshape(-1, length // span, span, e) for x in (z, q))
    first = first.flatten(2).repeat(sequences, 1, 1)
    second = second.repeat(sequences, 1, 1, 1)
    gates = gates.transpose(0, 1).repeat(sequences, 1, 1)
    said = []
    for chunk in range(length // span):
        hidden = F.silu(torch.bmm(q[:, chunk], first[..., -second.shape[2] :]))
        said.append(q[:, chunk] + torch.bmm(hidden, second[:, -1]))
        if len(said) < length // span:
            first, second = written(z[:, chunk], first, second, gates, span)
    return torch.stack(said, 1).reshape(sequences, heads, length, e).transpose(1, 2)


def written(
    z: Tensor, first: Tensor, second: Tensor, gates: Tensor, span: int
) -> tuple[Tensor, Tensor]:
    """The memories after a chunk (Eqs. 83-90): z [N, C, E], first [N, E, 5 H], second [N, 5, H, E],
    gates [N, 2, E].
    """
    k, v, rate, log_keep = read(z, first, second, gates, span)
    decay = log_keep.cumsum(-1)
    kept = F.pad(decay, (1, -1)).exp()  # of the memory before the chunk, when a token comes
    passed = decays(decay)
    keys, values = torch.bmm(k, first), torch.bmm(v, first)
    gate = torch.sigmoid(keys)
    active = split(keys * gate, second)
    error = torch.matmul(active - split(F.silu(values), second), second) + (k - v)[:, None]
    slope = merged(torch.matmul(error, second.mT)) * (gate * (1 + keys * (1 - gate)))
    seen = F.pad(passed, (0, 0, 1, -1)) * torch.bmm(k, k.mT) * rate[:, None]
    erased = torch.bmm(inverse(seen), slope + kept[..., None] * keys)  # WY form
    weight = (rate * passed[:, -1])[..., None]
    whole = decay[:, -1].exp()[:, None, None]
    first = whole * first - torch.bmm((weight * k).mT, erased)
    second = whole[..., None] * second - torch.matmul(active.mT, weight[:, None] * error)
    return first, second


def read(
    z: Tensor, first: Tensor, second: Tensor, gates: Tensor, span: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """k, v [N, C, E], rate and the logarithm of keep [N, C] (Eq. 83). A gate is a number: the last
    product of its memory is one with a vector.
    """
    hidden = split(F.silu(torch.bmm(z, first[..., : 4 * second.shape[2]])), second)
    k, v = unit(z[:, None] + torch.matmul(hidden[:, :2], second[:, :2])).unbind(1)
    heads = torch.matmul(second[:, 2:4], gates[..., None]).mT  # [N, 2, 1, H]
    rate, keep = ((hidden[:, 2:] * heads).sum(-1) + torch.matmul(gates, z.mT)).unbind(1)
    return k, v, torch.sigmoid(rate) / span, F.logsigmoid(keep + KEEPS)


def split(x: Tensor, second: Tensor) -> Tensor:
    """[N, C, M H] -> [N, M, C, H]."""
    return x.reshape(*x.shape[:2], -1, second.shape[2]).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """[N, M, C, H] -> [N, C, M H]."""
    return x.transpose(1, 2).flatten(2)


def decays(decay: Tensor) -> Tensor:
    """Logarithms [N, C] of the product of keep up to each token -> [N, C, C], the product behind
    token j up to t, 0 above the diagonal.
    """
    above = torch.ones(decay.shape[-1], decay.shape[-1], dtype=torch.bool).triu(1)
    return (decay[:, :, None] - decay[:, None]).masked_fill(above, -math.inf).exp()


def inverse(below: Tensor) -> Tensor:
    """Of I + `below`, which is strictly lower [N, C, C]."""
    eye = torch.eye(below.shape[-1], dtype=below.dtype)
    found: Tensor = torch.linalg.solve_triangular(
        eye + below, eye.expand_as(below), upper=False, unitriangular=True
    )
    return found


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def rmsnorm(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """Depthwise and causal: x [B, T, ..], taps [width, ..]."""
    width, length = len(taps), x.shape[1]
    rows = torch.cat([x.new_zeros(len(x), width - 1, *x.shape[2:]), x], 1)
    y = taps[0] * rows[:, :length]
    for j in range(1, width):
        y = y + taps[j] * rows[:, j : j + length]
    return y


def drawn(*sizes: int, scale: float) -> nn.Parameter:
    return nn.Parameter(scale * torch.randn(sizes))


class Training:
    """A step of every level that is due: AdamW over the gradient of its period, clipped to 1 for
    each memory (Eqs. 71, 105).
    """

    def __init__(self, hope: Hope, steps: int = 1000) -> None:
        self.steps, self.done = steps, 0
        self.memories: dict[int, list[list[nn.Parameter]]] = {}
        for name, part in hope.named_modules():
            if isinstance(part, SwiGLU):
                period = int(name.rpartition(".")[2])
                self.memories.setdefault(period, []).append([part.gate_up, part.down])
        owned = {p: [w for memory in parts for w in memory] for p, parts in self.memories.items()}
        known = {id(w) for weights in owned.values() for w in weights}
        self.rest = [w for w in hope.parameters() if id(w) not in known]
        self.outer = adamw(self.rest, 3e-3)
        self.inner = {p: adamw(weights, 1e-3) for p, weights in owned.items()}

    def step(self) -> None:
        """Takes the gradients of a mean loss, and leaves those of levels that are not due."""
        self.done += 1
        self.outer.param_groups[0]["lr"] = 3e-3 * cosine(self.done / self.steps)
        nn.utils.clip_grad_norm_(self.rest, 1.0)
        self.outer.step()
        self.outer.zero_grad()
        for period, optimizer in self.inner.items():
            if self.done % period == 0:
                for memory in self.memories[period]:
                    for weight in memory:
                        assert weight.grad is not None
                        weight.grad /= period
                    nn.utils.clip_grad_norm_(memory, 1.0)
                optimizer.step()
                optimizer.zero_grad()


def adamw(weights: Sequence[nn.Parameter], rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(weights, lr=rate, weight_decay=0.1, fused=True)


def cosine(share: float, warmup: float = 0.02) -> float:
    """Of the peak, at this share of the run."""
    if share <= warmup:
        return share / warmup
    return (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2
