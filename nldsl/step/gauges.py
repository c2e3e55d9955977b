"""COMPILED STEP -> what each level does at its ticks: its learning rate, the norm of its gradient,
the size of its update.

    rate        what the step is multiplied by in the update: `lr` of W + lr * adam(g) - .., of an
                optimizer that is linear in the gradient the rate within it; a number, or not told
    gradient    |grad(M)| over all memories M of the level, as its update reads it
    update      |M after the tick - M before|

They stay on the device. A gauge stands around the ticks of a step, which compute what they compute
without it; one graph for a whole step has no ticks to stand around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor

from nldsl.core.build import number
from nldsl.core.nodes import Node, numel, walk
from nldsl.schedule.named import Total
from nldsl.schedule.step_states import At
from nldsl.schedule.timetable import Kind
from nldsl.step import reductions
from nldsl.step.compile import CompiledStep
from nldsl.step.runtime.shards import without_rest
from nldsl.step.shards import RANK, arrays
from nldsl.step.updates import KEPT, VIEWS, block, counts, given

RATE, GRADIENT, UPDATE = "rate", "gradient", "update"
THROUGH = (*VIEWS, "constant_for", "neg")  # what changes no size
Said = tuple[str, str]  # a level, and which of the three


@dataclass
class Readings:
    """What was measured at the last tick: a row of `names`, numbers on the device. On ranks those
    of what one of them holds: the number of all is the root of the sum, over ranks, of `shares` of
    their squares.
    """

    names: list[Said]
    values: Tensor
    shares: list[float]

    @property
    def squares(self) -> list[Tensor]:
        """What a rank adds to the squares of the numbers of all."""
        return [x**2 * share for x, share in zip(self.values.double(), self.shares, strict=True)]


class Gauges:
    """`last`: what the newest step gave."""

    def __init__(self, step: CompiledStep) -> None:
        self.step, self.last = step, Readings([], torch.empty(0), [])
        self.parted = step.updates.divided.keys() | reductions.entries(step.updates).keys()
        self.rates = {n: x for n in self.memories() if (x := self.rate(n)) is not None}
        for i, kind in enumerate(step.schedule.table.events, 1):
            self.surround(i, kind)

    def memories(self, fired: frozenset[str] | None = None) -> Iterator[str]:
        """Of the levels that no other calls."""
        program = self.step.program
        for level in program.levels.values():
            told = level.clock.unit == "step" and level.parent is None
            if told and (fired is None or level.name in fired):
                yield from level.memories

    # -- rates

    def rate(self, memory: str) -> Node | None:
        """What multiplies the step in the update of a memory: a number, or None."""
        ticks = self.step.schedule.steps.ticks
        grad, found = ticks.grads.get(memory), []
        for factors, kernel in self.terms(ticks.next[memory], memory):
            inner = None
            if kernel is not grad and kernel.op in KEPT and kernel["memory"] in ticks.next:
                inner = self.rate(str(kernel["memory"]))
            factors = [*factors, *([inner] if inner is not None else [])]
            found.append((kernel is grad, reduce(ticks.al.mul, factors, ticks.al.const(1.0))))
        told = next((x for own, x in found if own), found[0][1] if found else None)
        return told if told is not None and told.type == () else None

    def terms(self, node: Node, memory: str) -> Iterator[tuple[list[Node], Node]]:
        """The terms of a sum that hold the gradient or an optimizer: factors, and what is
        multiplied.
        """
        al = self.step.schedule.steps.ticks.al
        args = node.args
        if not self.steps(node, memory):
            return
        grad = self.step.schedule.steps.ticks.grads.get(memory)
        if node is not grad and node.op in ("add", "sub"):
            yield from (t for arg in args for t in self.terms(arg, memory))
        elif node is not grad and node.op in THROUGH:
            yield from self.terms(args[0], memory)
        elif node is not grad and node.op in ("mul", "div"):
            factor = next((x for x in args if not self.steps(x, memory)), None)
            if factor is None or node.op == "div" and factor is args[0]:
                yield [], node
                return
            rest = next(x for x in args if x is not factor)
            while factor.op == "spread":
                factor = factor.args[0]
            if node.op == "div":
                factor = al.div(al.const(1.0), factor) if factor.type == () else factor
            yield from (([factor, *more], kernel) for more, kernel in self.terms(rest, memory))
        else:
            yield [], node

    def steps(self, node: Node, memory: str) -> bool:
        """Does a value hold the gradient of a memory, or what its optimizer makes of it?"""
        program, ticks = self.step.program, self.step.schedule.steps.ticks
        own = program.memories[memory].level
        grad = ticks.grads.get(memory)
        return any(
            n is grad
            or n.op in KEPT
            and isinstance(name := n.attrs and dict(n.attrs).get("memory"), str)
            and name in program.memories
            and program.levels[program.memories[name].level].parent == own
            for n in walk(node)
        )

    # -- around a tick

    def surround(self, i: int, kind: Kind) -> None:
        """Has the tick of a kind measure what it does."""
        module, fired = self.step.module, frozenset(kind.fired)
        names = list(self.memories(fired))
        read = self.function(i, kind, names)
        levels = {name: self.step.program.memories[name].level for name in names}
        apart = {level for name, level in levels.items() if name in self.parted}
        tick = module[f"tick_{i}"]

        def call(S: Mapping[str, Tensor], *given: Mapping[str, Tensor]) -> object:
            gradients, rates = read(S, *given)
            size = partial(self.size, rank=given[-1].get(RANK))
            before = {name: S[name].clone() for name in names}
            done = tick(S, *given)
            found: dict[Said, list[Tensor]] = {}
            for name, level in levels.items():
                if name in rates:
                    found.setdefault((level, RATE), [rates[name].abs()])
                if name in gradients:
                    found.setdefault((level, GRADIENT), []).append(size(name, gradients[name]))
                found.setdefault((level, UPDATE), []).append(size(name, S[name] - before[name]))
            values = [norm(torch.stack(parts)) for parts in found.values()]
            alike = 1 / self.step.ranks
            shares = [1.0 if what != RATE and level in apart else alike for level, what in found]
            made = torch.stack(values) if values else torch.empty(0)
            self.last = Readings([*found], made, shares)
            return done

        module[f"tick_{i}"] = call

    def size(self, name: str, x: Tensor, rank: Tensor | None) -> Tensor:
        """The norm of what this rank holds of an array of a memory."""
        updates = self.step.updates
        if rank is not None and name in updates.divided:
            numbers = [numel(shape) for shape in arrays(updates.divided[name])]
            x = without_rest(x.reshape(-1), numbers, updates.ranks, rank)
        return norm(x)

    def function(self, i: int, kind: Kind, names: list[str]) -> Callable[..., tuple[Found, Found]]:
        """What reads gradients and rates, before the totals of the step have moved."""
        updates, ticks = self.step.updates, self.step.schedule.steps.ticks
        at, known = At(self.step.schedule.steps.states, kind), len(updates.texts)
        moved = {name for name in at.moved if isinstance(name, Total) and not counts(name)}
        updates.taken, updates.meets = {}, []

        def text(node: Node) -> str | None:
            name = node["memory"] if node.op == "now" else None
            found = updates.text(node)
            if isinstance(name, Total) and name in moved and name not in updates.taken:
                return f"({found} + {given(name.input)})"
            return found

        def readable(node: Node) -> bool:
            return all("new[" not in (text(n) or "") for n in walk(node))

        lines, results = [], []
        for what, nodes in (("gradients", ticks.grads), ("rates", self.rates)):
            own = {n: nodes[n] for n in names if n in nodes and readable(nodes[n])}
            lines.append(f"{what} = {{}}")
            for name, node in own.items():
                value = number(node)
                call = updates.function("gauge", {f"{what} of {name}": node}, text)
                like = f'S["{name}"]'
                made = f"{like}.new_tensor({value!r})" if value is not None else f"{call}[0]"
                lines.append(f'{what}["{name}"] = {made}')
            results.append(what)
        lines.append(f"return {', '.join(results)}")
        lines = [*updates.together({n: given(n.input) for n in moved}), *lines]
        source = block(f"gauges_{i}(S, G, V, N, D, planned)", lines)
        module = self.step.module
        exec(
            compile("\n\n".join([*updates.texts[known:], source]), "<nldsl gauges>", "exec"), module
        )
        run: Callable[..., tuple[Found, Found]] = torch.no_grad()(module[f"gauges_{i}"])
        return run


Found = Mapping[str, Tensor]


def norm(x: Tensor) -> Tensor:
    """Of all numbers of a tensor, in float32 or more."""
    found: Tensor = (x if x.dtype is torch.float64 else x.float()).norm()
    return found
