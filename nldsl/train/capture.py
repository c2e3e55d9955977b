"""When the step of a run is compiled.

`--capture auto` on a CPU runs the first steps as they are written, so that a loss is seen at once,
and compiles if the steps that are left then save more than compiling takes. The step from which on
it is compiled stands in run.json: a run that is resumed does the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train import metrics
from nldsl.train.display import Display
from nldsl.train.folder import compiled_from
from nldsl.train.loop import Interrupt, Log, Next
from nldsl.train.metrics import Journal
from nldsl.train.run import Run

AS_WRITTEN = 2  # the choice is made before the step after these, by what the last of them took
GAIN = 1.15  # a step as it is written takes so many times what a compiled one takes
NEVER = 0


class Capturing:
    """The choice of one run; `before` is asked before each step."""

    def __init__(
        self,
        run: Run,
        step: CompiledStep,
        journal: Journal,
        display: Display,
        interrupt: Interrupt,
    ) -> None:
        self.run, self.step, self.journal = run, step, journal
        self.display, self.interrupt = display, interrupt
        s = run.settings
        self.waits = s.capture == "auto" and step.capture == "split" and s.device == "cpu"
        self.chosen = run.record.compiled_from if self.waits else None
        self.told = False  # what a step takes

    def begin(self, state: State) -> None:
        """Compiles before the first step what needs no choice: what was asked for, what was chosen
        in an earlier run, and what is kept from one.
        """
        first = state.step + 1
        if self.waits and self.chosen is None and self.is_kept(first):
            self.choose(first)
        if not self.waits or self.chosen is not None and NEVER < self.chosen <= first:
            return self.compile(state)
        self.step.as_written(True)
        self.since = time.perf_counter()
        self.seconds = self.run.ranks.first(lambda: seconds_of(self.journal, state.step))
        self.choice = max(first, 1 + AS_WRITTEN) if self.seconds else first + AS_WRITTEN

    def is_kept(self, n: int) -> bool:
        """Is all that a step is compiled to kept from an earlier run?"""
        return self.run.ranks.first(lambda: self.step.is_kept(self.run.batches(n)[0]))

    def before(self, state: State, log: Log) -> None:
        n, now = state.step + 1, time.perf_counter()
        if not self.told and (memory := self.step.budget.described()):
            self.told = True
            if self.run.budget is not None:
                self.display.say(memory)
        if self.waits and self.chosen is None:
            if n == self.choice:
                log.drain()
                took = self.seconds or now - self.since
                self.weigh(n, self.run.ranks.first(lambda: took))
            self.since, self.seconds = now, None
        if n == self.chosen and self.step.is_as_written:
            log.drain()
            self.display.close()
            with self.interrupt.at_once("while compiling"):
                self.compile(state)
            self.display.training(state.step, self.run.settings.steps)

    def apart(self, work: Callable[[State, Log], Next], state: State, log: Log) -> Next:
        """Work between two steps, which a compiled step does not make shorter."""
        began = time.perf_counter()
        found = work(state, log)
        if self.waits and self.chosen is None:
            self.since += time.perf_counter() - began
        return found

    def weigh(self, n: int, seconds: float) -> None:
        """Chooses before step `n`, of steps that take so many seconds as they are written."""
        left = self.run.settings.steps - n + 1
        saves, takes = left * seconds * (1 - 1 / GAIN), self.step.predict("split")
        self.choose(n if saves > takes else NEVER)
        does = "compiled from here on" if saves > takes else "run as they are written"
        self.display.say(
            f"steps are {does}: compiling takes about {takes:.0f} s and saves about {saves:.0f} s "
            f"of {left:,} steps"
        )

    def choose(self, n: int) -> None:
        self.chosen = n
        if self.run.ranks.is_first:
            compiled_from(self.run.folder, self.run.record, n)

    def compile(self, state: State) -> None:
        s = self.run.settings
        self.display.compiling(f"{self.run.record.spec} for {s.device} in {s.precision}")
        began = time.perf_counter()
        self.step.as_written(False)
        self.told = False
        # as one graph, a step is taken on all ranks at once
        with self.run.ranks.leader_first() if self.step.capture == "split" else nullcontext():
            self.step.warm(state, self.run.batches(state.step + 1)[0], self.display.compiling)
        self.display.compiled()
        self.journal.write(
            "compiled", step=state.step, seconds=round(time.perf_counter() - began, 3)
        )


def seconds_of(journal: Journal, step: int) -> float | None:
    """What a step took in an earlier process, if the journal tells."""
    found = [e.get("seconds") for e in metrics.events(journal.path, "step") if e["step"] == step]
    return float(found[-1]) if found and found[-1] else None
