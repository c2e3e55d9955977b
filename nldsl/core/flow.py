"""Reachability: which memories affect a value, through streams, starts and the ticks of other
levels.
"""

from __future__ import annotations

from nldsl.core.nodes import Node, reach, walk
from nldsl.core.program import READS, STATE, Clock, Level, Memory, Program


def seen_by_learners(program: Program, level: Level) -> str | Clock | None:
    """The depth to which the learners of the step clock see through the ticks of a level; None
    where they differ. A learner with no path through them does not count.
    """
    found = {program.horizon(x, level) for x in learners_through(program, level)} or {"none"}
    return found.pop() if len(found) == 1 else None


def learners_through(program: Program, level: Level) -> list[Level]:
    """The learners of the step clock whose memories reach an update of the level: by themselves, or
    by the ticks of levels that they see through.
    """
    met = sources(program, level)
    slow = [
        x
        for x in program.levels.values()
        if x.clock.unit == "step" and x.parent is None and x.objectives
    ]
    moved = {x.name: sources(program, x) for x in slow if not met.isdisjoint(x.memories)}

    def has_a_way(learner: Level) -> bool:
        return learner.name in moved or any(
            program.horizon(learner, program.levels[name]) != "none"
            and not by.isdisjoint(learner.memories)
            for name, by in moved.items()
        )

    return [x for x in slow if has_a_way(x)]


def sources(program: Program, level: Level) -> set[str]:
    """The memories that reach an update of the level: by streams, through other memories, or as the
    start of one.
    """
    found: set[str] = set()
    stack = [node for name in level.memories for node in program.memories[name].equations[::-1]]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen or node.op == "stop":
            continue
        seen.add(node)
        stack.extend(node.args)
        owner = node["memory"] if node.op == "plain" else program.owner(node)
        if owner is None:
            continue
        found.add(owner)
        if node.op != "weight" and program.level(owner).clock.unit == "token":
            stack += program.memories[owner].equations
    return found


class AtSteps:
    """Is a value of an update made at ticks of the step clock, not at every token?"""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: dict[Node, bool] = {}

    def __call__(self, root: Node) -> bool:
        for node in walk(root) if root not in self.found else ():
            if node not in self.found:
                self.found[node] = self._of(node)
        return self.found[root]

    def _of(self, node: Node) -> bool:
        if node.op == "fold" and self.program.since(node["since"]).unit == "step":
            return True
        at_tokens = node.op in ("input", "ahead", "rope") or (
            node.op in READS and not self.program.slow(node["memory"])
        )
        return not at_tokens and all(self.found[a] for a in node.args)

    def pulse(self, root: Node) -> set[str]:
        """The levels at whose ticks a value is made; "" if at every step."""

        def into(node: Node) -> tuple[Node, ...]:
            if self._beat(node) is not None:
                return ()
            return node.args[:1] if node.op == "grad" else node.args

        beats = map(self._beat, reach([root], into=into))
        return {beat for beat in beats if beat is not None}

    def _beat(self, node: Node) -> str | None:
        """The level at whose ticks a value is made; None if whenever its arguments are."""
        if node.op in STATE:
            return self.program.level(node["memory"]).name
        if node.op == "fold" and isinstance(node["since"], str):
            return node["since"]
        return "" if node.op == "fold" and not self(node.args[0]) else None


def reaches(program: Program, node: Node) -> bool:
    """Does the objective of a `grad` meet reads of its memory outside the level: directly, or in
    the past or start of a faster memory?
    """
    memory = node["memory"]
    owner = program.level(memory)
    seen = {c for c in node["context"] if c.op != "input"}
    stack = [node.args[0]]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        stack.extend(part.args)
        if part.op not in STATE:
            continue
        if part["memory"] == memory:
            if part.op == "read":
                return True
            continue
        other = program.memories[part["memory"]]
        if other.next is not None and program.slower(owner, program.levels[other.level]):
            stack.append(other.next)
            if other.start is not None and any(n["memory"] == memory for n in takes(other.start)):
                return True
    return False


def takes(start: Node) -> list[Node]:
    """The memories of other levels from which a start is made."""
    return [n for n in walk(start) if n.op in STATE]


def followed(program: Program, memory: Memory) -> str | None:
    """The memory of weights that a memory is, or that it follows as an average does: like it and
    read by its equation, both on the step clock. What an optimizer keeps follows none.
    """
    level = program.level(memory.name)
    if level.clock.inner or level.parent is not None:
        return None
    if memory.slots is not None:
        return memory.name
    read = {str(n["memory"]) for n in walk(*memory.equations) if n.op in STATE}
    found = [
        other.name
        for other in program.memories.values()
        if other.name in read and other.slots is not None and other.type == memory.type
    ]
    return found[0] if len(found) == 1 and program.slow(found[0]) else None
