"""Which level is slower, and how far it sees through the ticks of another (language, section 6)."""

from __future__ import annotations

from nldsl.core.equations import Clock, Level, Node, Program, walk

UNITS = ("token", "sequence", "document", "step", "never")


def root(program: Program, level: Level) -> Level:
    """An update level has the period, and the `bptt`, of the level whose equation calls it."""
    while level.parent is not None:
        level = program.levels[level.parent]
    return level


def slower(program: Program, a: Level, b: Level) -> bool:
    def pace(level: Level) -> tuple[int, int]:
        clock = root(program, level).clock
        return UNITS.index(clock.unit), clock.period

    return pace(a) > pace(b)


def depth(program: Program, viewer: Level, level: Level) -> str | Clock:
    """How far `viewer` sees through the ticks of `level`; what is not said is not seen."""
    if not slower(program, viewer, level):
        return "none"
    said = root(program, level).bptt
    return next(
        iter(
            [b.depth for b in said if b.viewer == viewer.name]
            or [b.depth for b in said if b.viewer is None]
        ),
        "none",
    )


def sight(program: Program, level: Level) -> str | Clock | None:
    """How far the learners of the step clock see through the ticks of a level; None if not all as
    far. Who has no way through them does not count.
    """
    met = sources(program, level)
    slow = [
        x
        for x in program.levels.values()
        if x.clock.unit == "step" and x.parent is None and x.objectives
    ]
    moved = {x.name: sources(program, x) for x in slow if not met.isdisjoint(x.memories)}

    def has_a_way(
        learner: Level,
    ) -> bool:  # its own memories, or through the ticks of levels that it sees through
        return learner.name in moved or any(
            depth(program, learner, program.levels[name]) != "none"
            and not by.isdisjoint(learner.memories)
            for name, by in moved.items()
        )

    learners = [x for x in slow if has_a_way(x)]
    found = {depth(program, learner, level) for learner in learners} or {"none"}
    return found.pop() if len(found) == 1 else None


def sources(program: Program, level: Level) -> set[str]:
    """The memories that reach an update of the level: by streams, through other memories, or as the
    start of one.
    """
    found: set[str] = set()
    stack: list[Node | None] = [
        node
        for name in level.memories
        for node in (program.memories[name].next, program.memories[name].start)
    ]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen or node.op == "stop":
            continue
        seen.add(id(node))
        stack.extend(node.args)
        if node.op == "weight" and (owner := program.weights[node["name"]].owner) is not None:
            found.add(owner)
        if node.op in ("read", "now", "held", "plain"):
            found.add(node["memory"])
            memory = program.memories[node["memory"]]
            if program.levels[memory.level].clock.unit == "token":
                stack += [memory.start, memory.next]
    return found


def reaches(program: Program, node: Node) -> bool:
    """Does the objective of a `grad` meet reads of its memory outside the level: directly, or in
    the past or start of a faster memory?
    """
    memory = node["memory"]
    owner = program.levels[program.memories[memory].level]
    seen: set[int] = {id(c) for c in node["context"] if c.op != "input"}
    stack = [node.args[0]]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        stack.extend(part.args)
        if part.op not in ("read", "now", "held"):
            continue
        if part["memory"] == memory:
            if part.op == "read":
                return True
            continue
        other = program.memories[part["memory"]]
        if other.next is not None and slower(program, owner, program.levels[other.level]):
            stack.append(other.next)
            if other.start is not None and any(n["memory"] == memory for n in takes(other.start)):
                return True
    return False


def takes(start: Node) -> list[Node]:
    """What a start is taken from that other levels move."""
    return [n for n in walk(start) if n.op in ("read", "now", "held")]
