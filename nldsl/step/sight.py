"""Which memories of faster levels a level of the step clock learns through.

O  ->  update of W reads O, or W starts from O  ->  W  ->  a stream that O hears
        W is moved by O
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.core.nodes import Node, walk
from nldsl.core.ops import active
from nldsl.core.program import Clock, Level
from nldsl.schedule.cells import Unsupported

if TYPE_CHECKING:
    from nldsl.step.ticks import Given
    from nldsl.step.updates import Updates


class Sight:
    """One viewer.

    `targets`: memories that its streams read; `moved`: those and all that carry a derivative
    between them.
    """

    def __init__(self, updates: Updates, viewer: Level) -> None:
        self.updates, self.viewer, self.program = updates, viewer, updates.program
        self.heard = [
            g
            for g in updates.given
            if g.kind == "grad" and self.program.memories[g.memory].level == viewer.name
        ]
        self.streams = list(dict.fromkeys(g.stream for g in self.heard))
        self.levels = [
            level for level in updates.ticks.roots if level.clock.pace < viewer.clock.pace
        ]
        self._second: dict[
            str, Given
        ] = {}  # updates that read a gradient which depends on the viewer in turn
        candidates = self.depending()
        streams = [updates.ticks.streams[s] for s in self.streams]
        self.targets = [n for n in candidates if any(self.reaches(s, {n}) for s in streams)]
        self.moved = self.carrying(candidates)
        if self.moved:
            self.refuse()

    def depth(self, level: Level) -> str | Clock:
        return next((b.depth for b in level.clauses(self.viewer)), "none")

    def level_of(self, name: str) -> str:
        return self.updates.ticks.level_of(name)

    def root(self, name: str) -> Level:
        return self.program.levels[self.updates.ticks.root_of(self.level_of(name))]

    def owner(self, node: Node) -> str | None:
        return self.program.owner(node)

    def depending(self) -> list[str]:
        """Memories of faster levels whose value is a function of what the viewer holds, by their
        updates or starts.
        """
        found: set[str] = set()
        names = [n for level in self.levels for n in self.updates.ticks.memories(level.name)]
        while True:
            known = found | set(self.viewer.memories)
            new = {
                n
                for n in names
                if n not in found
                and (self.starts_from(n, known) or self.sees(n) and self.read(n, known))
            }
            if not new:
                return [n for n in names if n in found]
            found |= new

    def sees(self, name: str) -> bool:
        return self.depth(self.root(name)) != "none"

    def starts_from(self, name: str, known: set[str]) -> bool:
        memory = self.program.memories.get(name)
        return (
            memory is not None
            and memory.start is not None
            and any(self.owner(n) in known for n in walk(memory.start))
        )

    def read(self, name: str, known: set[str]) -> bool:
        """Has the update a derivative in what is known to depend on the viewer?"""
        seen: set[int] = set()
        stack, hit = [self.updates.ticks.next[name]], False
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            given = self.updates.ticks.given.get(node["memory"]) if node.op == "read" else None
            if (
                given is not None
                and given.kind in ("grad", "sum")
                and self.reaches(self.updates.ticks.streams[given.stream], known)
            ):
                self._second.setdefault(name, given)
                hit = True
            hit = hit or self.owner(node) in known
            stack.extend(active(node))
        return hit

    def reaches(self, stream: Node, names: set[str]) -> bool:
        """Does a stream read one of the memories, directly or in the past of a memory on the token
        clock?
        """
        seen: set[int] = set()
        stack = [stream]
        while stack:
            node = stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                stack.extend(node.args)
                owner = self.owner(node)
                if owner in names:
                    return True
                memory = self.program.memories.get(owner or "")
                if memory is not None and self.program.levels[memory.level].clock.inner:
                    stack.extend(n for n in (memory.next, memory.start) if n is not None)
        return False

    def carrying(self, candidates: list[str]) -> list[str]:
        """Of the candidates, those from whose values the targets follow."""
        out = set(self.targets)
        while True:
            new = {
                n
                for n in candidates
                if n not in out
                and any(self.owner(x) == n for m in out for x in walk(self.updates.ticks.next[m]))
            }
            if not new:
                return [n for n in candidates if n in out]
            out |= new

    def refuse(self) -> None:
        short, known = self.viewer.name.rsplit(".", 1)[-1], {*self.moved, *self.viewer.memories}
        for name in self.moved:
            if (
                self.sees(name)
                and self.read(name, known)
                and (given := self._second.get(name)) is not None
            ):
                after = self.program.memories[given.memory or name].next
                node = next(
                    (
                        n
                        for n in walk(*[after] if after else [])
                        if n.op == "grad" and n["memory"] == given.memory
                    ),
                    after,
                )
                raise Unsupported(
                    f"a second derivative of the whole network, by which `{short}` would see "
                    "through this update",
                    node,
                    "`stop(grad(..))` for the first order, or `bptt none`",
                )
            if name in self.updates.ticks.folds:
                raise Unsupported(
                    f"a fold over ticks that `{short}` sees through",
                    self.updates.ticks.next[name],
                    "`bptt none`",
                )
        if any(g.since != self.viewer.name for g in self.heard):
            raise Unsupported(
                f"`{short}` sees through faster ticks over another stretch than its own period",
                span=self.viewer.span,
                help="over period",
            )
