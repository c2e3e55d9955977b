"""The meaning of a program: the value of every equation at every instant, computed on demand and
kept.

    value(read(M), line, i)   M after instant i - 1
    value(now(M), line, i)    M after its own tick at i

Nothing here runs a schedule. A value asks for the values that its equation names, at this instant
or another, and the order of an instant (ticks, pending ticks, resets, copies) is the order in which
they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from torch import Tensor

from nldsl.core.initial import initial, normal
from nldsl.core.nodes import Node, Tree
from nldsl.core.program import Clock, Level, Memory, Program
from nldsl.oracle.files import taken
from nldsl.oracle.lines import Facts, Inside, Line, cut, mark
from nldsl.oracle.operators import ABSENT, APPLY, Value, conform, each
from nldsl.oracle.time import TIME

T = TypeVar("T")


class Meaning:
    """The values of one program on its time lines."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Tensor],
        seed: int,
        planned: int,
        files: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        self.program, self.facts = program, Facts(program)
        self.initial, self.seed, self.planned, self.files = dict(weights), seed, planned, files
        self.steps = Line("step", tables=[{}])
        self.streams: list[list[tuple[Line, range]]] = [[]]  # by step: the tokens that belong to it
        self.paths = {
            slot: path for m in program.memories.values() for path, slot in (m.slots or {}).items()
        }

    # -- clocks

    def fires(self, clock: Clock, line: Line, i: int) -> bool:
        """Does a clock tick at instant i of a line?"""
        if clock.unit == "never":
            return False
        if line.unit == "step":
            return clock.unit != "step" or clock.ticks(i + 1)
        if clock.unit == "token":
            return clock.ticks(line.position(i) + 1)
        if clock.unit == "document":
            return line.ended(i) and clock.ticks(sum(map(line.ended, range(i + 1))))
        if clock.unit == "sequence":
            return line.ends(i) and clock.ticks(sum(line.first[j] == j for j in range(i + 1)))
        return (
            i + 1 < len(line) and line.step[i + 1] != line.step[i] and clock.ticks(line.step[i] + 1)
        )

    def resets(self, level: Level, line: Line, i: int) -> bool:
        """A reset after so many tokens is also one at the end of the sequence in which they are
        counted.
        """
        return (
            self.fires(level.reset, line, i)
            or line.unit == "token"
            and level.reset.unit == "token"
            and line.ends(i)
        )

    def restarts(self, memory: Memory, line: Line, i: int) -> bool:
        """Does a memory go back to its start, with its level or apart from it?"""
        if memory.reset is not None:
            return self.fires(memory.reset, line, i)
        return self.resets(self.program.levels[memory.level], line, i)

    def begins(self, level: Level, line: Line, i: int) -> bool:
        """Does any memory of a level restart?"""
        return any(self.restarts(self.program.memories[m], line, i) for m in level.memories)

    def performed(self, level: Level, line: Line, i: int) -> bool:
        """Does the level tick at i? Not if its caller does not, nor if none of its objectives has a
        term.
        """
        if level.parent is not None and not self.performed(
            self.program.levels[level.parent], line, i
        ):
            return False
        if not self.fires(level.clock, line, i):
            return False
        if not level.objectives or any(j not in self.facts.may_lack for j in level.objectives):
            return True
        return self._once(
            "performed",
            level.name,
            line,
            i,
            lambda: any(self.value(j, line, i) is not ABSENT for j in level.objectives),
        )

    def last_tick(self, level: Level, line: Line, i: int) -> int:
        """The instant before i of the level's last tick or reset; -1 if there was none."""
        return next(
            (
                j
                for j in range(i - 1, -1, -1)
                if self.performed(level, line, j) or self.begins(level, line, j)
            ),
            -1,
        )

    def ticks(self, level: Level, line: Line, i: int) -> int:
        """Ticks since the reset, that of i included."""
        if i < 0:
            return 0
        before = (
            0
            if i > 0 and self.resets(level, line, i - 1)
            else self._once(
                "ticks", level.name, line, i - 1, lambda: self.ticks(level, line, i - 1)
            )
        )
        return before + self.performed(level, line, i)

    def _once(self, kind: str, name: str, line: Line, i: int, make: Callable[[], T]) -> T:
        """Kept, but for the last token known so far: its tick can be pending, its sequence may end
        there or go on.
        """
        key = (kind, name, i)
        if key in line.memo:
            return cast(T, line.memo[key])  # of one kind, all are of one type
        made = make()
        if line.unit == "step" or i + 1 < len(line):
            line.memo[key] = made
        return made

    # -- memories

    def home(self, level: Level, line: Line, i: int) -> tuple[Line, int]:
        if self.facts.unit(level) == line.unit:
            return line, i
        assert line.unit == "token", (
            f"{level.name} ticks with the tokens: a step reaches it through a window"
        )
        return self.steps, line.step[i]

    def after(self, memory: Memory, line: Line, i: int) -> Value:
        """The value after the tick of instant i: what `now` reads."""
        level = self.program.levels[memory.level]
        if memory.next is None or not self.performed(level, line, i):
            return self.settled(memory, line, i - 1)
        return self._once(
            "after", memory.name, line, i, lambda: self._ticked(memory, level, line, i)
        )

    def _ticked(self, memory: Memory, level: Level, line: Line, i: int) -> Value:
        assert memory.next is not None
        new = self.value(memory.next, line, i)
        if new is ABSENT:
            return self.settled(memory, line, i - 1)
        return self._hide(level, conform(new, memory.type), lambda depth: depth == "none")

    def _hide(self, level: Level, value: Value, ends: Callable[[str | Clock], bool]) -> Value:
        """A constant from here on for the learners whose sight ends here."""
        depths = self.facts.depths(level)
        blind = frozenset(name for name, depth in depths.items() if ends(depth))
        if all(name in blind or depth == "none" for name, depth in depths.items()):
            return each(Tensor.detach, value)
        return cut(value, blind) if blind else value

    def settled(self, memory: Memory, line: Line, i: int) -> Value:
        """The value when instant i is finished: what the next instant reads and what copies taken
        at i hold.
        """
        level = self.program.levels[memory.level]
        if i < 0 or self.restarts(memory, line, i):
            return self._once(
                "settled", memory.name, line, i, lambda: self._start(memory, level, line, i)
            )
        # `none` hides a tick at once, from `now` too; blocks of `n c` end with their last instant.
        return self._once(
            "settled",
            memory.name,
            line,
            i,
            lambda: (
                self._hide(
                    level,
                    self.after(memory, line, i),
                    lambda depth: isinstance(depth, Clock) and self.fires(depth, line, i),
                )
                if any(isinstance(b.depth, Clock) for b in self.facts.root(level).bptt)
                else self.after(memory, line, i)
            ),
        )

    def held(self, memory: Memory, clock: Clock, line: Line, i: int) -> Value:
        level = self.program.levels[memory.level]
        last = next(
            (
                j
                for j in range(i - 1, -1, -1)
                if self.fires(clock, line, j) or self.restarts(memory, line, j)
            ),
            -1,
        )
        return self._cut_since(level, self.settled(memory, line, last), line, last, i)

    def read(self, memory: Memory, line: Line, i: int) -> Value:
        """The value before the tick of instant i, as its learner meets it: one object from tick to
        tick, cut for others since then.
        """
        if memory.name not in self.facts.learners:
            return self.settled(memory, line, i - 1)
        level = self.program.levels[memory.level]
        return self._cut_since(
            level, self.marked(memory, line, i), line, self.last_tick(level, line, i), i
        )

    def marked(self, memory: Memory, line: Line, i: int) -> Value:
        """The object that the learner differentiates in: all its reads since the last tick come
        from it, whatever others see of them.
        """
        since = self.last_tick(self.program.levels[memory.level], line, i)
        return self._once(
            "read",
            memory.name,
            line,
            since,
            lambda: mark(self.settled(memory, line, since), line.lanes),
        )

    def _cut_since(self, level: Level, value: Value, line: Line, since: int, i: int) -> Value:
        """A value that is kept since an instant, a constant for the learners that a cut before
        instant i hides it from.
        """
        blind = frozenset(
            name
            for name, depth in self.facts.depths(level).items()
            if isinstance(depth, Clock)
            and any(self.fires(depth, line, j) for j in range(since + 1, i))
        )
        return cut(value, blind) if blind else value

    def weight(self, name: str, step: int) -> Value:
        owner = self.program.weights[name].owner
        if owner is None:
            return self.initial[name].unsqueeze(0)
        value = self.read(self.program.memories[owner], self.steps, step)
        return value[self.paths[name]] if isinstance(value, dict) else value

    def entry(self, name: str, line: Line, step: int) -> Value:
        """The weight as the lanes of a step read it: each the entry of its worker, who has one n-th
        of them.
        """
        worker = self.program.weights[name].worker
        if not line.learns or worker is None:
            return self.weight(name, step)
        value = self.read(self.program.memories[worker], self.steps, step)
        whole = value[name] if isinstance(value, dict) else value
        assert line.lanes % whole.shape[1] == 0, f"{line.lanes} lanes, {whole.shape[1]} workers"
        return whole[0].repeat_interleave(line.lanes // whole.shape[1], 0)

    def _start(self, memory: Memory, level: Level, line: Line, i: int) -> Value:
        """The start, after the ticks of instant i; `number` counts the resets in the life of this
        memory. A level that is not slower does not see what it is made of.
        """
        first = line.first[min(i + 1, len(line) - 1)] if line.unit == "token" else 0
        number = sum(self.restarts(memory, line, j) for j in range(first, i + 1))
        if memory.start is None:
            assert memory.slots is not None, memory.name
            drawn = {
                path: (
                    initial(self.program.weights[slot], self.seed, number)
                    if number
                    else self.initial[slot]
                ).unsqueeze(0)
                for path, slot in memory.slots.items()
            }
            return drawn if isinstance(memory.type, Tree) else drawn[""]
        value = conform(self._start_value(memory.start, level, line, i, number), memory.type)
        viewers = self.program.levels.items()
        return cut(value, frozenset(n for n, x in viewers if not self.facts.slower(x, level)))

    def _start_value(self, node: Node, level: Level, line: Line, i: int, number: int) -> Value:
        step = i + 1 if line.unit == "step" else line.step[min(i + 1, len(line) - 1)]
        if node.op == "weight":
            return self.entry(node["name"], line, step)
        if node.op in (
            "read",
            "now",
            "held",
        ):  # the newest; of two resets at one instant the slow one comes first
            other = self.program.memories[node["memory"]]
            theirs = self.program.levels[other.level]
            if self.facts.unit(theirs) != line.unit:
                return self.read(other, self.steps, step)
            if i >= 0 and self.facts.slower(level, theirs) and self.restarts(other, line, i):
                return self.after(other, line, i)
            return self.read(other, line, i + 1)
        if node.op == "random":
            name, shapes = (
                node["name"],
                node.type.leaves if isinstance(node.type, Tree) else (("", node.type),),
            )
            drawn = {
                path: normal(
                    self.seed,
                    f"{name}.{path}" if path else name,
                    [a.size for a in shape],
                    node["scale"],
                    number,
                ).unsqueeze(0)
                for path, shape in shapes
            }
            return drawn if isinstance(node.type, Tree) else drawn[""]
        if node.op == "load":
            sizes = [a.size for a in node.shape]
            return taken(node["key"], self.files[node["file"]], sizes)[None]
        return APPLY[node.op](
            node, *(self._start_value(a, level, line, i, number) for a in node.args)
        )

    # -- values

    def value(self, node: Node, line: Line, i: int, inside: Inside | None = None) -> Value:
        while inside is not None and node not in inside.touched:
            inside = inside.outer
        if inside is not None:
            key = (id(line), i, node)
            if key not in inside.table:
                inside.table[key] = self._compute(node, line, i, inside)
            return inside.table[key]
        if line.unit == "token" and node not in self.facts.by_token:
            line, i = self.steps, line.step[i]  # does not depend on the token: once a step
        if node not in line.tables[i]:
            line.tables[i][node] = self._compute(node, line, i, None)
        return line.tables[i][node]

    def _compute(self, node: Node, line: Line, i: int, inside: Inside | None) -> Value:
        if inside is not None and (node, i) in inside.fixed:
            return inside.fixed[node, i]
        if inside is not None and node in inside.context:
            constant = self.value(node, line, i, inside.outer)
            return constant if constant is ABSENT else cut(constant, frozenset([inside.viewer]))
        if node.op in TIME:
            return TIME[node.op](self, node, line, i, inside)
        args = [self.value(a, line, i, inside) for a in node.args]
        for arg in args:
            if arg is ABSENT:
                return ABSENT
        return APPLY[node.op](node, *args)
