"""What is measured: name -> a training step over random bytes, the optimizer in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldsl import pipeline
from nldsl.core.nodes import numel
from nldsl.train.bench import random_batch

EXAMPLES = Path(__file__).parent.parent / "examples"
BATCH, LENGTH, VOCAB = 4, 512, 256
SIZES = {"d": 256, "depth": 4, "head": 4}
NEAR = 0.01  # two systems have as many parameters if they differ by no more than this share


@dataclass(frozen=True)
class System:
    """`step` trains once over `BATCH` sequences of `LENGTH` bytes."""

    parameters: int
    step: Callable[[], object]


def spec(name: str, **sets: int) -> System:
    """A shipped spec, at the sizes of the benchmark."""
    given = {key: str(value) for key, value in (SIZES | sets).items()}
    program = pipeline.load(EXAMPLES / f"{name}.nl", given)
    step = pipeline.compile_program(program, capture="split")
    state, batch = step.init(0), random_batch(program, BATCH, LENGTH, "cpu")
    step.warm(state, batch)
    return System(
        sum(numel(weight.shape) for weight in program.weights.values()),
        lambda: step(state, [batch]),
    )


class Block(nn.Module):
    """Attention with rotary positions, then SwiGLU; RMS norms before each."""

    def __init__(self, d: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.RMSNorm(d), nn.RMSNorm(d)])
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate, self.up = nn.Linear(d, hidden, bias=False), nn.Linear(d, hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k = (turned(z.transpose(1, 2), cos, sin) for z in (q, k))
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        z = self.norms[1](x)
        return x + self.down(F.silu(self.gate(z)) * self.up(z))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Transformer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        d, heads = SIZES["d"], SIZES["head"]
        self.embed, self.norm = nn.Embedding(VOCAB, d), nn.RMSNorm(d)
        self.blocks = nn.ModuleList(Block(d, heads, hidden) for _ in range(SIZES["depth"]))
        self.head = nn.Linear(d, VOCAB, bias=False)
        half = d // heads // 2
        angle = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x))[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def transformer(parameters: int) -> System:
    """PyTorch's own, compiled, as wide between its layers as it takes to have so many."""
    d, depth = SIZES["d"], SIZES["depth"]
    rest = 2 * VOCAB * d + d + depth * (4 * d * d + 2 * d)
    hidden = max(8, round((parameters - rest) / (3 * d * depth)))
    torch.manual_seed(0)
    return trained(Transformer(hidden))


def trained(model: nn.Module) -> System:
    run = torch.compile(model, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    ids = torch.randint(0, VOCAB, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))

    def step() -> float:
        loss = run(ids)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    step()
    return System(sum(p.numel() for p in model.parameters()), step)


SPECS = {
    "transformer.nl": lambda: spec("transformer"),
    "deltanet.nl": lambda: spec("deltanet"),
    "gated_deltanet.nl": lambda: spec("gated_deltanet"),
    "titans.nl": lambda: spec("titans", chunk=64),
    "hope.nl": lambda: spec("hope", near=64),
}
TRANSFORMER = "transformer"
