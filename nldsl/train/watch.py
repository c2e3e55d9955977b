"""COMPILED STEP -> the part that is computed at each instant of it.

Forward it is the function that runs, or in the step as it is written the statement; backward it is
the part in whose forward a derivative was recorded: autograd numbers them in order.
"""

from __future__ import annotations

import ast
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle

import torch
from torch import Tensor

from nldsl.step.compile import CompiledStep, Run
from nldsl.step.reading import load_module
from nldsl.step.state import State
from nldsl.train.parts import NOBODY, Parts, Statement
from nldsl.train.recorded import derivatives, kept

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"
UPDATES = ("hear_", "before_", "tick_", "after_")  # functions of the step clock
MARK = "part_begins"  # what is called where another part begins, in the step as it is written
Instant = float | torch.cuda.Event


class Watch:
    """Stands between the functions of a step. `spans`: what was computed, in which phase, from when
    till when; `kept`: bytes.
    """

    def __init__(self, step: CompiledStep) -> None:
        self.cuda = step.device.startswith("cuda")
        self.parts = Parts(step)
        self.at, self.phase, self.since = NOBODY, "", self.now()
        self.spans: list[tuple[Statement, str, Instant, Instant]] = []
        self.recorded: list[tuple[int, Statement]] = []  # and the number of its first derivative
        self.kept: Counter[Statement] = Counter()
        self.known: set[int] = set()  # places in memory, while it is counted what is kept
        self.weights: dict[int, str] = {}  # by id, while it is noted what functions are given
        self.marks: list[Statement] = []
        if step.capture == "eager":
            step.module = load_module(self.marked(), "watched")
            step.module[MARK] = self.begins
        module = step.module
        for name in self.parts.entries:
            module[name] = self.followed(name, module[name])
        module["slopes"] = self.backward(module["slopes"])

    # -- time

    def now(self) -> Instant:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def turn(self, at: Statement, phase: str) -> None:
        """From now on another part is computed; in no phase nothing is counted."""
        if (at, phase) == (self.at, self.phase):
            return
        now = self.now()
        if self.phase:
            self.spans.append((self.at, self.phase, self.since, now))
        self.at, self.phase, self.since = at, phase, now
        if phase == FORWARD:
            self.recorded.append((torch._C._autograd._get_sequence_nr(), at))

    def follow(self, run: Callable[[], object]) -> None:
        """Counts what a step takes."""
        self.recorded.clear()
        self.turn(NOBODY, FORWARD)
        run()
        self.turn(NOBODY, "")

    def seconds(self) -> Iterator[tuple[Statement, str, float]]:
        if self.cuda:
            torch.cuda.synchronize()
        for at, phase, begin, end in self.spans:
            if isinstance(begin, float) and isinstance(end, float):
                yield at, phase, end - begin
            elif isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                yield at, phase, begin.elapsed_time(end) / 1000

    # -- functions

    def followed(self, name: str, run: Run) -> Run:
        """One whose statements are marked says itself what it begins with."""
        whole = () if any(at.function == name for at in self.marks) else (Statement(name),)
        own = [Statement(name, levels=part) for part in self.parts.regions.get(name, ())] or whole
        turns, update = cycle(own), name.startswith(UPDATES)

        def call(*args: object) -> object:
            if self.weights:
                self.parts.given(name, args, self.weights)
            before, phase = self.at, UPDATE if update and self.phase else self.phase
            self.turn(next(turns, before), phase)
            done = run(*args)
            self.turn(before, phase)
            return done

        return call

    def marked(self) -> str:
        """The step as it is written, with a mark wherever another part begins."""
        for name in self.parts.entries:
            said = dict(self.parts.statements(name))
            for body in bodies(self.parts.functions[name]) if said else ():
                body[:] = self.with_marks(body, said)
        return ast.unparse(ast.fix_missing_locations(self.parts.tree))

    def with_marks(
        self, body: list[ast.stmt], said: dict[ast.stmt, Statement]
    ) -> Iterator[ast.stmt]:
        last = None
        for statement in body:
            at = said.get(statement, last)
            if at is not None and at != last:
                self.marks.append(at)
                yield ast.parse(f"{MARK}({len(self.marks) - 1})").body[0]
            yield statement
            last = at

    def begins(self, mark: int) -> None:
        self.turn(self.marks[mark], self.phase)

    # -- the way back

    def backward(self, slopes: Run) -> Run:
        """Has each derivative say whose it is."""

        def call(total: Tensor, leaves: list[Tensor]) -> object:
            if not self.phase:
                return slopes(total, leaves)
            self.turn(NOBODY, "")
            numbers = [number for number, _ in self.recorded]
            for node in derivatives(total):
                at = self.recorded[max(0, bisect_right(numbers, node._sequence_nr()) - 1)][1]
                node.register_prehook(self.turner(at))
                if self.known:
                    self.count(at, kept(node))
            self.turn(NOBODY, BACKWARD)
            found = slopes(total, leaves)
            self.turn(NOBODY, BACKWARD)
            return found

        return call

    def turner(self, at: Statement) -> Callable[[object], None]:
        return lambda _: self.turn(at, BACKWARD)

    def count(self, at: Statement, tensors: Iterable[Tensor]) -> None:
        """Memory that is kept, once, but for what is there anyway."""
        for storage in (x.untyped_storage() for x in tensors):
            if storage.data_ptr() not in self.known:
                self.known.add(storage.data_ptr())
                self.kept[at] += storage.nbytes()

    def learn(self, state: State, inputs: Iterable[Tensor], run: Callable[[], object]) -> None:
        """From a step that is not timed: which weights functions are given, and what is kept."""
        there = [*state.tensors.values(), *state.views.values(), *inputs]
        self.known = {x.untyped_storage().data_ptr() for x in there}
        self.weights = {id(x): name for name, x in state.views.items()}
        self.follow(run)
        self.weights, self.known = {}, set()
        self.spans.clear()


def bodies(function: ast.FunctionDef) -> list[list[ast.stmt]]:
    """Its lists of statements, and those of its loops."""
    return [x.body for x in ast.walk(function) if isinstance(x, ast.FunctionDef | ast.For)]
