"""What a step of two ranks loses to a network that carries one message at a time and takes some
time for each: Hope with the periods 1, 4, 16 and 64, and with gradients of each level after every
step, in a message each or all in one.

    torchrun --nproc-per-node 2 -m benchmarks.slow_network

Steps on a fast network and on slow ones are taken in turns, so that what else a machine does falls
on all of them. `lost` is the median, over rounds, of what a step takes longer than the one beside
it; `waited` is what it stood still for messages, which other work on the machine lengthens least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from nldsl import pipeline
from nldsl.schedule.named import Input
from nldsl.step.batches import Batch
from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.step.updates import Updates
from nldsl.train.bench import random_batch

HOPE = Path(__file__).parent.parent / "examples/hope.nl"
SIZES = {"d": "32", "head": "2", "depth": "1", "near": "16"}
DELAYS = (0.0, 0.05, 0.2)  # seconds of a message
STEPS, ROUNDS = 16, 3


class Network:
    """`delay`: seconds of a message; `waited`: seconds that were stood still for them."""

    def __init__(self, delay: float) -> None:
        self.delay, self.carrier = delay, ThreadPoolExecutor(1)
        self.waited = 0.0

    def over_ranks(self, x: Tensor, ranks: int) -> Tensor:
        total = x.detach().clone()
        found = torch.Tensor._make_subclass(OnItsWay, total)
        found.network, found.future = self, self.carrier.submit(self.carry, total)
        return found

    def carry(self, x: Tensor) -> None:
        time.sleep(self.delay)
        dist.all_reduce(x)

    def wait(self, future: Future[None]) -> None:
        began = time.perf_counter()
        future.result()
        self.waited += time.perf_counter() - began


class OnItsWay(Tensor):
    """A sum over ranks that is waited for when it is read."""

    network: Network
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
    x.network.wait(x.future)
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(Tensor)


def made(rate: str) -> CompiledStep:
    """Hope whose blocks learn at this rate."""
    text = HOPE.read_text(encoding="utf-8").replace("every p step", rate)
    program = pipeline.load_text(text, str(HOPE), SIZES)
    return pipeline.compile_program(
        program, capture="eager", ranks=dist.get_world_size(), rank=dist.get_rank()
    )


def after_every_step() -> CompiledStep:
    """Nothing is sent before a step is worked out."""
    nothing: cached_property[frozenset[Input]] = cached_property(lambda self: frozenset())
    nothing.__set_name__(Updates, "early")
    with patch.object(Updates, "early", nothing):
        return made("every step")


def one_by_one(step: CompiledStep) -> CompiledStep:
    """Each gradient is a message."""

    def sums_over_ranks(own: dict[str, Tensor], ranks: int) -> dict[str, Tensor]:
        return {name: step.module["over_ranks"](x, ranks) for name, x in own.items()}

    step.module["sums_over_ranks"] = sums_over_ranks
    return step


class Taken(NamedTuple):
    """Seconds of a step, and those of them that it waited."""

    seconds: float
    waited: float


class System:
    """A step on each of the networks."""

    def __init__(self, step: CompiledStep) -> None:
        self.step, self.networks = step, [Network(delay) for delay in DELAYS]
        self.batch: Batch = random_batch(step.program, 2, 64, "cpu")
        self.rounds: list[list[list[Taken]]] = []  # of each, of each step, on each network

    def round(self) -> None:
        states = [self.step.init(0) for _ in DELAYS]
        self.rounds.append(
            [
                [self.taken(*on) for on in zip(states, self.networks, strict=True)]
                for _ in range(STEPS)
            ]
        )

    def taken(self, state: State, network: Network) -> Taken:
        self.step.module["over_ranks"] = network.over_ranks
        dist.barrier()
        began, before = time.perf_counter(), network.waited
        self.step(state, [self.batch])
        return Taken(time.perf_counter() - began, network.waited - before)

    def lost(self, at: int) -> Taken:
        """In the mean step on the network `at`, against the fast one."""
        steps = [
            [Taken(*(a - b for a, b in zip(step[at], step[0], strict=True))) for step in some]
            for some in zip(*self.rounds, strict=True)
        ]
        seconds, waited = (
            mean(median(one[what] for one in some) for some in steps) for what in (0, 1)
        )
        return Taken(seconds, waited)


def main() -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    systems = {
        "each level at its own clock, as they come": System(made("every p step")),
        "after every step, a message each": System(one_by_one(after_every_step())),
        "after every step, all in one message": System(after_every_step()),
    }
    for system in systems.values():
        system.taken(system.step.init(0), system.networks[0])
    for _ in range(ROUNDS):
        for system in systems.values():
            system.round()
    if dist.get_rank() == 0:
        report(systems)
    dist.barrier()
    dist.destroy_process_group()


def report(systems: Mapping[str, System]) -> None:
    for at, delay in enumerate(DELAYS[1:], 1):
        print(f"{1000 * delay:.0f} ms a message, {STEPS} steps, {ROUNDS} rounds; ms of a step")
        own, each, *_ = found = [system.lost(at) for system in systems.values()]
        for name, lost in zip(systems, found, strict=True):
            print(f"  {name}: lost {1000 * lost.seconds:.0f}, waited {1000 * lost.waited:.0f}")
        shares = own.seconds / each.seconds, own.waited / each.waited
        print("  of a message each: lost {:.2f}, waited {:.2f}".format(*shares))


if __name__ == "__main__":
    main()
