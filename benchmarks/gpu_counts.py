"""What a training step would launch on an H100 that is not there, beside a plain transformer of
PyTorch; the times are predictions.

The transformer has the widths of transformer.nl. It is compiled as one graph under autocast; its
gradients are clipped, and its optimizer is the fused one, as PyTorch does both for a GPU. The
compiler is set as for specs: the gradient of an embedding is a call of a library.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.systems import EXAMPLES, Attention, LanguageModel
from benchmarks.table import head, line
from nldsl import pipeline
from nldsl.step.functions import compiling
from nldsl.target.absent import require_triton
from nldsl.target.devices import GPUS
from nldsl.target.lower import Lowered
from nldsl.target.predict import Launched, launched, step_seconds, sums
from nldsl.target.rehearse import Host, Part, Rehearsal, kept_in, rehearsed
from nldsl.target.report import assumed, cells, named, times, told

H100 = GPUS["h100"]
BATCH, LENGTH, VOCAB = 8, 1024, 256
SIZES = {"d": 512, "head": 8, "depth": 4}
PRECISION = "bfloat16"
PLAIN = "plain transformer"
NAMES = (PLAIN, "transformer.nl", "deltanet.nl", "titans.nl", "hope.nl")
COLUMNS = ("step", "launches", "kernels", "library", "GB", "TFLOP")
PARTS = ("part", "calls", "kernels", "library", "MB", "GFLOP")


def page(names: Sequence[str]) -> list[str]:
    """Raises Diagnostics (N806) without Triton."""
    require_triton()
    made = {name: step(name) for name in names}
    hows = [f"ms {how}" for how in step_seconds(next(iter(made.values())), H100)]
    sizes = ", ".join(f"{key} {value}" for key, value in SIZES.items())
    found = [
        f"# Predicted for one {H100.name}",
        "",
        "Nothing was measured: `python -m benchmarks gpu --out benchmarks/GPU.md` lowers the steps "
        f"and counts what they launch. {sizes}; {BATCH} sequences of {LENGTH} tokens; {PRECISION}; "
        f"torch {torch.__version__}.",
        "",
        "Assumed: " + assumed(H100),
        *head(*COLUMNS, *hows),
        *(row(name, one) for name, one in made.items()),
    ]
    for name, one in made.items():
        found += ["", f"## {name}", *parts(one), ""]
        found += [f"- {what}: {said}" for what, said in told(one, H100).items() if said]
    return found


def step(name: str) -> Rehearsal:
    if name == PLAIN:
        return plain()
    program = pipeline.load(EXAMPLES / name, {key: str(value) for key, value in SIZES.items()})
    return rehearsed(program, H100, BATCH, LENGTH, PRECISION)


def row(name: str, made: Rehearsal) -> str:
    kernels, library, size, flops = sums(launched(made))
    counts = (times(n) for n in (kernels + library, kernels, library))
    seconds = (f"{1000 * s:.1f}" for s in step_seconds(made, H100).values())
    return line(name, *counts, f"{size / 1e9:.1f}", f"{flops / 1e12:.2f}", *seconds)


def parts(made: Rehearsal) -> list[str]:
    """All of one call of each graph."""
    rows: list[tuple[str, str, Launched]] = [
        (named(part, made.source), times(part.times), [(x, 1.0) for x in part.graph.launches])
        for part in made.parts
    ]
    rows.append(("between them", "1", made.eager.items()))
    return [*head(*PARTS), *(line(name, n, *cells(some)) for name, n, some in rows)]


def plain() -> Rehearsal:
    """PyTorch's own transformer, and its step."""
    d, heads, depth = SIZES.values()
    with FakeTensorMode():
        attention = partial(Attention, d, heads, LENGTH)
        model = LanguageModel(attention, 4 * d, d, depth)
        weights = [*model.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.1, fused=True)
        ids, network = torch.zeros(BATCH, LENGTH, dtype=torch.long), Lowered(model, H100)
        with torch.autocast("cpu", torch.bfloat16), compiling(again=False):
            network.lower(ids)
            learn(network(ids), weights, optimizer)  # the optimizer makes what it keeps
        found = Rehearsal("", [Part(PLAIN, graph, 1.0) for graph in network.graphs])
        with Host() as host, torch.autocast("cpu", torch.bfloat16):
            found.kept = kept_in(lambda: learn(network(ids), weights, optimizer))
    found.add(host, 1.0)
    return found


def learn(loss: object, weights: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Gradients clipped to length 1, in a few launches for all of them; then AdamW."""
    assert isinstance(loss, torch.Tensor)
    grads = torch.autograd.grad(loss, weights)
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (1.0 / (total + 1e-6)).clamp(max=1.0))
    for weight, grad in zip(weights, grads):
        weight.grad = grad
    optimizer.step()
