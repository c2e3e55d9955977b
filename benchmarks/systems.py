"""What is measured: name -> a training step over random bytes, the optimizer in it.

`TABLES` says what stands beside each spec, all with as many parameters as it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.hope_by_hand import Hope, Training
from nldsl import pipeline
from nldsl.core.nodes import numel
from nldsl.core.program import Program
from nldsl.train.bench import random_batch

EXAMPLES = Path(__file__).parent.parent / "examples"
BATCH, LENGTH, VOCAB = 4, 512, 256
SIZES = {"d": 256, "depth": 4, "head": 4}
CHUNK = 64
NEAR = 0.01  # two systems have as many parameters if they differ by no more than this share
PEAK = 2048  # rows of the two square matrices whose product says what the machine can do


@dataclass(frozen=True)
class System:
    """`step` trains once over `BATCH` sequences of `LENGTH` bytes; `plain` does so without the
    compiler.
    """

    parameters: int
    step: Callable[[], object]
    plain: Callable[[], object]

    def flops(self) -> int:
        """Of the matrix products of a step, forward and backward; attention over all pairs."""
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.plain()
        return int(counter.get_total_flops())


def loaded(name: str) -> Program:
    """A shipped spec, at the sizes of the benchmark."""
    sizes = SIZES | CHUNKS.get(name, {})
    return pipeline.load(EXAMPLES / name, {key: str(value) for key, value in sizes.items()})


def parameters_of(program: Program) -> int:
    return sum(numel(weight.shape) for weight in program.weights.values())


def spec(name: str) -> System:
    program = loaded(name)
    step = pipeline.compile_program(program, capture="split")
    state, batch = step.init(0), random_batch(program, BATCH, LENGTH, "cpu")
    step.warm(state, batch)

    def plain() -> None:
        eager = pipeline.compile_program(program, capture="eager")
        eager(eager.init(0), [batch])

    return System(parameters_of(program), lambda: step(state, [batch]), plain)


class SwiGLU(nn.Module):
    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(d, hidden, bias=False), nn.Linear(d, hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class Attention(nn.Module):
    """Causal, with rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, d: int, heads: int, length: int = LENGTH) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        half = d // heads // 2
        angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k = (turned(x.transpose(1, 2), self.cos, self.sin) for x in (q, k))
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        z: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return z


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class LanguageModel(nn.Module):
    """Layers of a mixer, then SwiGLU; RMS norms before each."""

    def __init__(
        self,
        mixer: Callable[[], nn.Module],
        hidden: int,
        d: int = SIZES["d"],
        depth: int = SIZES["depth"],
    ) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCAB, d), nn.RMSNorm(d)
        self.parts = nn.ModuleList(
            part for _ in range(depth) for part in (mixer(), SwiGLU(d, hidden))
        )
        self.norms = nn.ModuleList(nn.RMSNorm(d) for _ in self.parts)
        self.head = nn.Linear(d, VOCAB, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for part, norm in zip(self.parts, self.norms):
            x = x + part(norm(x))
        logits = self.head(self.norm(x))[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def fitted(make: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """The model whose width gives it the number of parameters that is nearest."""

    @cache
    def count(width: int) -> int:
        with torch.device("meta"):
            return count_of(make(width))

    low, high = 8, 16
    while count(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    torch.manual_seed(0)
    return make(min(low, high, key=lambda width: abs(count(width) - parameters)))


def count_of(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def transformer(parameters: int) -> System:
    """PyTorch's own, compiled, as wide between its layers as it takes."""
    attention = partial(Attention, SIZES["d"], SIZES["head"])
    model = fitted(partial(LanguageModel, attention), parameters)
    return trained(model, [model])


def by_hand(parameters: int) -> System:
    """Hope; a layer is compiled once and serves for all. It has the widths of the spec."""
    torch.manual_seed(0)
    hope = Hope(SIZES["d"], SIZES["head"], SIZES["depth"], CHUNK, VOCAB)
    return learning(hope, Training(hope).step, [*hope.layers])


def trained(model: nn.Module, compiled: Sequence[nn.Module]) -> System:
    """Under the optimizer that PyTorch has for it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return learning(model, update, compiled)


def learning(model: nn.Module, update: Callable[[], None], compiled: Sequence[nn.Module]) -> System:
    """A step of a model from bytes to their loss; some of its parts are compiled."""
    ids = bytes_read()
    for part in compiled:
        part.compile(dynamic=False)

    def step() -> float:
        loss = model(ids)
        loss.backward()
        update()
        return float(loss.detach())

    def plain() -> None:
        with torch.compiler.set_stance("force_eager"):
            model(ids).backward()

    step()
    return System(count_of(model), step, plain)


def bytes_read() -> Tensor:
    """At random, the same for every system."""
    return torch.randint(0, VOCAB, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def product(parameters: int) -> System:
    """What the machine can do: one product of square matrices, again and again."""
    a, b = torch.randn(2, PEAK, PEAK)
    return System(0, lambda: a @ b, lambda: a @ b)


def named(name: str) -> Callable[[int], System]:
    """A system that is given a number of parameters; a spec has its own. At one of the works of
    sweep.py: `train hope.nl 512`.
    """
    from benchmarks import peers, sweep

    if " " in name and name.split()[0] in sweep.WORKS:
        work, spec_name, length = name.split()
        return lambda parameters: sweep.system(spec_name, work, int(length))
    if name.endswith(".nl"):
        return lambda parameters: spec(name)
    return {TRANSFORMER: transformer, BY_HAND: by_hand, PRODUCT: product, **peers.SYSTEMS}[name]


TRANSFORMER, BY_HAND, PRODUCT = "transformer", "Hope by hand", "matrix product"
CHUNKS = {
    "titans.nl": {"chunk": CHUNK},
    "titans_mac.nl": {"segment": CHUNK},
    "hope.nl": {"near": CHUNK},
}
TABLES: dict[str, tuple[str, ...]] = {
    "transformer.nl": (),
    "deltanet.nl": (),
    "gated_deltanet.nl": (),
    "titans.nl": ("titans-pytorch, NeuralMemory",),
    "titans_mac.nl": ("titans-pytorch, MAC",),
    "hope.nl": (BY_HAND, "nested-learning, Hope"),
}
