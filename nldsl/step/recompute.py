"""FUNCTIONS OF A STEP, BYTES -> WHICH OF THEIR CALLS RUN AGAIN IN THE BACKWARD PASS.

A call keeps what its backward pass reads, or only what it was given, and then runs again there
(activation checkpointing, arXiv 1604.06174); the numbers are the same bit for bit. The first step
measures what calls keep and how long they take; the steps after it keep what saves the most time
for its bytes, as far as the budget goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.step.functions import Kind, kind_of
from nldsl.step.room import count_anew, give_back, held, memory_of, peak, said

Run = Callable[..., Any]
SHARE = 0.5  # of the device, for what the first step keeps where no budget is given


class Cost(NamedTuple):
    """Of a call: bytes that it keeps beyond what it is given and hands on, and seconds."""

    kept: int
    seconds: float


class Calls:
    """Those of an emitted function in a pass, of which the first `again` run again."""

    def __init__(self, run: Run, budget: Budget) -> None:
        self.run, self.budget = run, budget
        self.calls, self.again = 0, 0
        self.met: list[Kind] = []  # of the calls of a pass, while they are measured

    def __call__(self, *args: object) -> object:
        if not torch.is_grad_enabled():
            return self.run(*args)
        self.calls += 1
        if self.budget.measures:
            return self.budget.first(self, args)
        return self.kept(args) if self.calls > self.again else self.anew(args)

    def kept(self, args: tuple[object, ...]) -> object:
        return self.within(*args)

    def anew(self, args: tuple[object, ...]) -> object:
        return checkpoint(
            self.within,
            *args,
            use_reentrant=False,
            preserve_rng_state=False,
            determinism_check="none",
        )

    def within(self, *args: object) -> object:
        self.budget.hold()
        return self.run(*args)


class Budget:
    """Bytes that a step may take beside what is held before it; `asked` None: what the device has.

    Its functions run within `step`, each micro-batch after `begin`.
    """

    def __init__(self, device: str, asked: int | None) -> None:
        self.device, self.asked = device, asked
        self.functions: dict[str, Calls] = {}
        self.sizes: object = None
        self.forget()

    def function(self, name: str, run: Run) -> Calls:
        found = self.functions[name] = Calls(run, self)
        return found

    def forget(self) -> None:
        """Measures anew: functions or what they are given have become others."""
        self.measures, self.sizes = True, None
        self.known: dict[tuple[Calls, Kind], Cost] = {}
        self.spent = self.least = self.predicted = self.measured = 0
        self.room = int(SHARE * memory_of(self.device)) if self.asked is None else 0
        for function in self.functions.values():
            function.met = []

    @property
    def bytes(self) -> int:
        return memory_of(self.device) if self.asked is None else self.asked

    def begin(self) -> None:
        self.spent = 0
        for function in self.functions.values():
            function.calls = 0
            if self.measures:
                function.met = []

    def hold(self) -> None:
        """Before a call that runs again: memory that is free goes back to the system where the
        budget is near, and in the step that is measured.
        """
        if self.asked is not None and self.device == "cpu":
            most = max((cost.kept for cost in self.known.values()), default=0)
            if self.measures or held(self.device) - self.before + 2 * most > self.asked:
                give_back()

    @contextmanager
    def step(self, sizes: object) -> Iterator[None]:
        """Around a step of inputs of such sizes. Raises N804 after the first one if the budget is
        less than the least that it takes.
        """
        if sizes != self.sizes:
            self.forget()
            if self.asked is not None:
                give_back()
            self.sizes, self.before = sizes, held(self.device)
        count_anew(self.device)
        yield
        taken = peak(self.device) - self.before
        if self.measures:
            self.least, self.measures = taken - self.spent, False
            self.divide()
        else:
            self.measured = max(self.measured, taken)

    def first(self, function: Calls, args: tuple[object, ...]) -> object:
        """A call of the first step: kept while there is room, measured in any case."""
        key = function, kind_of(args)
        made = None
        if key not in self.known:
            made, self.known[key] = counted(function.run, args)
        function.met.append(key[1])
        if self.spent + self.known[key].kept <= self.room:
            self.spent += self.known[key].kept
            return function.kept(args) if made is None else made
        made = None
        began = perf_counter()
        made = function.anew(args)
        took = perf_counter() - began
        self.known[key] = Cost(self.known[key].kept, min(took, self.known[key].seconds))
        return made

    def divide(self) -> None:
        """Keeps what fits beside the least that a step takes, the slowest for their bytes first."""
        room = self.bytes - self.least
        if self.asked is not None and room < 0:
            raise too_small(self.asked, self.least)
        self.predicted = self.least
        costs = {f: [self.known[f, kind] for kind in f.met] for f in self.functions.values()}
        for function in sorted(costs, key=lambda f: worth(costs[f]), reverse=True):
            function.again = len(function.met)
            for cost in reversed(costs[function]):
                if cost.kept > room:
                    break
                function.again -= 1
                room -= cost.kept
                self.predicted += cost.kept

    def described(self) -> str:
        """What a step takes, and what it computes again; nothing before that was measured."""
        if not self.measured:
            return ""
        again = [
            f"{function.again} of {len(function.met)} calls of `{name}`"
            for name, function in self.functions.items()
            if function.again
        ]
        return (
            f"a step takes {said(self.measured)} beside what is held before it "
            f"({said(self.predicted)} predicted, budget {said(self.bytes)}); "
            + (
                f"computed again for the backward pass: {', '.join(again)}"
                if again
                else "all is kept for the backward pass"
            )
        )


def worth(costs: Sequence[Cost]) -> float:
    """Seconds saved for a byte that is kept."""
    return sum(cost.seconds for cost in costs) / max(1, sum(cost.kept for cost in costs))


def counted(run: Run, args: tuple[object, ...]) -> tuple[object, Cost]:
    """What a call gives, and what it costs; what it keeps is kept as for any other."""
    saved: dict[int, int] = {}
    keep, give = _top_saved_tensors_default_hooks(False) or (lambda x: x, lambda x: x)

    def pack(x: Tensor) -> object:
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return keep(x)

    began = perf_counter()
    with saved_tensors_hooks(pack, give):
        made = run(*args)
    seconds = perf_counter() - began
    for x in tree_leaves((args, made)):
        if isinstance(x, Tensor):
            saved.pop(x.untyped_storage().data_ptr(), None)
    return made, Cost(sum(saved.values()), seconds)


def too_small(asked: int, least: int) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N804",
                f"a step takes {said(least)} at the least, the budget is {said(asked)}",
                help="a larger `--budget`; or a smaller `--batch`, with `--accumulate` for as many "
                "sequences a step",
            )
        ]
    )


def unbounded(where: str) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N805",
                f"{where}, what is kept for the backward pass is not bounded",
                help="without `--budget`; `--capture split` for a step that is one graph",
            )
        ]
    )
