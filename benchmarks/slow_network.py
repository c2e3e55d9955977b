"""What a step of two ranks loses to a network that carries one message at a time, 50 ms each: Hope
with the periods 1, 4, 16 and 64, and with a gradient of each level after every step.

    torchrun --nproc-per-node 2 -m benchmarks.slow_network
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from nldsl import pipeline
from nldsl.step.compile import CompiledStep
from nldsl.step.updates import Updates
from nldsl.train.bench import random_batch

HOPE = Path(__file__).parent.parent / "examples/hope.nl"
SIZES = {"d": "64", "head": "2", "depth": "2", "near": "16"}
DELAY = 0.05  # seconds
STEPS = 16


class OnItsWay(Tensor):
    """A sum over ranks that is waited for when it is read."""

    future: Future[None]

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        return func(*map(there, args), **(kwargs or {}))


def there(x: object) -> object:
    if isinstance(x, list | tuple):
        return type(x)(map(there, x))
    if not isinstance(x, OnItsWay):
        return x
    x.future.result()
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(Tensor)


class Network:
    """`delay`: seconds of a message."""

    def __init__(self, delay: float) -> None:
        self.delay, self.carrier = delay, ThreadPoolExecutor(1)

    def over_ranks(self, x: Tensor, ranks: int) -> Tensor:
        total = x.detach().clone()
        found = torch.Tensor._make_subclass(OnItsWay, total)
        found.future = self.carrier.submit(self.carry, total)
        return found

    def carry(self, x: Tensor) -> None:
        time.sleep(self.delay)
        dist.all_reduce(x)


def made(rate: str) -> CompiledStep:
    """Hope whose blocks learn at this rate."""
    text = HOPE.read_text(encoding="utf-8").replace("every p step", rate)
    program = pipeline.load_text(text, str(HOPE), SIZES)
    return pipeline.compile_program(
        program, capture="eager", ranks=dist.get_world_size(), rank=dist.get_rank()
    )


def seconds(step: CompiledStep, delay: float) -> float:
    """Of a step, the mean of `STEPS` from the first on."""
    state, batch = step.init(0), random_batch(step.program, 2, 64, "cpu")
    step.module["over_ranks"] = Network(delay).over_ranks
    step(step.init(0), [batch])
    found = []
    for _ in range(STEPS):
        dist.barrier()
        begun = time.perf_counter()
        step(state, [batch])
        found.append(time.perf_counter() - begun)
    return mean(found)


def main() -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    nothing: cached_property[frozenset[str]] = cached_property(lambda self: frozenset())
    nothing.__set_name__(Updates, "early")
    with patch.object(Updates, "early", nothing):
        alike = made("every step")
    steps = {"each at its own clock, as they come": made("every p step"), "after every step": alike}
    lost = {}
    for name, step in steps.items():
        fast, slow = (seconds(step, delay) for delay in (0.0, DELAY))
        lost[name] = slow - fast
        if dist.get_rank() == 0:
            print(f"{name}: {1000 * fast:.0f} ms, on the slow network {1000 * slow:.0f} ms")
    if dist.get_rank() == 0:
        own, each = lost.values()
        print(f"lost: {1000 * own:.0f} ms of {1000 * each:.0f} ms, {own / each:.2f} of it")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
