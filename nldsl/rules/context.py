"""Context: a level lists exactly the streams that it learns from, and some reader uses what it
learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.core.flow import followed
from nldsl.core.nodes import Met, Node, reach, walk
from nldsl.core.program import Level, Program
from nldsl.diagnostic import Diagnostic
from nldsl.rules.flow import SHAPE_ONLY, constants_of, in_every_instance, terms
from nldsl.rules.words import context_names, head_of, place_of, said, short
from nldsl.source import Span


class Meeting:
    """The nodes of an objective down to its data, and the inputs among them; once for all levels
    that share both.
    """

    def __init__(self) -> None:
        self.known: dict[object, tuple[Met, list[Node]]] = {}

    def __call__(self, objective: Node, data: set[Node]) -> tuple[Met, list[Node]]:
        start = (objective,) if objective in data else terms(objective)
        key = (start, frozenset(data))
        if key not in self.known:
            met = reach(start, data)
            self.known[key] = met, [node for node in met if node.op == "input"]
        return self.known[key]


def missing_context(program: Program) -> Iterator[Diagnostic]:
    """An objective meets the data only through `context`.

    The context of a level is its data: constants for its own gradient, and the edges of the level
    graph. Followed back from the objective, every definition ends in a context stream, a memory or
    a constant.

        context k      minimize |M(k) - v|^2  # N610: v comes from an input
        context k, v   minimize |M(k) - v|^2
    """
    meeting = Meeting()

    def judge(level: Level) -> Iterable[Diagnostic]:
        data = constants_of(level.context)
        for objective in level.objectives if level.context else ():
            met, inputs = meeting(objective, data)
            for node in inputs:
                if node in data:
                    continue
                way = list(dict.fromkeys(said(n) for n in met.way(node) if n.name or n is node))
                chain = " <- ".join(f"`{name}`" for name in way)
                listed = ", ".join(
                    dict.fromkeys([*(name for name, _ in context_names(level)), way[0]])
                )
                yield Diagnostic(
                    "N610",
                    f"the objective reaches `{node['name']}`"
                    + (f": {chain}" if len(way) > 1 else ""),
                    place_of(level, "minimize"),
                    "reads data that is not its context",
                    (("the context", place_of(level, "context")),),
                    f"`context {listed}`",
                )
                break

    yield from in_every_instance(program, judge)


def unused_context(program: Program) -> Iterator[Diagnostic]:
    """A context stream is met by an objective. Streams that the equation alone reads (rates, gates)
    are not data and are not listed.

    context k, v, q   minimize |M(k) - v|^2                                  # N611: q
    context k, v      minimize |M(k) - v|^2
    """
    meeting = Meeting()

    def judge(level: Level) -> Iterable[Diagnostic] | None:
        names = context_names(level)
        if not level.objectives or len(names) != len(
            level.context
        ):  # called with a constant, or with one stream twice
            return None
        met = [meeting(objective, constants_of(level.context))[0] for objective in level.objectives]
        return [
            found(level, name, span)
            for stream, (name, span) in zip(level.context, names, strict=True)
            if not any(form in one for form in _forms(stream) for one in met)
        ]

    def found(level: Level, name: str, span: Span | None) -> Diagnostic:
        return Diagnostic(
            "N611",
            f"the objective never meets `{name}`",
            span,
            "not used by the objective",
            (("the objective", place_of(level, "minimize")),),
            f"leave out `{name}`",
        )

    yield from in_every_instance(program, judge)


def _forms(stream: Node) -> Iterator[Node]:
    """The stream, and its values before changes of shape."""
    yield stream
    while stream.op in SHAPE_ONLY:
        stream = stream.args[0]
        yield stream


def _used(program: Program, readers: Iterable[tuple[Node, int]]) -> dict[str, int]:
    """Memory -> the readers of its value, as bits of a number; `readers` are given with their
    roots.
    """
    reading: dict[Node, int] = {}  # the readers that a node is worked out for
    for root, reader in readers:
        reading[root] = reading.get(root, 0) | reader
    used: dict[str, int] = {}
    for node in reversed(list(walk(*reading))):  # who needs a node comes before it
        own = reading[node]
        for arg in node.args:
            reading[arg] = reading.get(arg, 0) | own
        memory = node["memory"] if node.op == "plain" else program.owner(node)
        if memory is not None:
            used[memory] = used.get(memory, 0) | own
    return used


def unread_memories(program: Program) -> Iterator[Diagnostic]:
    """A memory is read outside its level: by a stream, by another level, or by the start of one.
    An average of weights is there for whoever uses the model.

    level recall every token { memory M .. M <- M + k }   y = k              # N613: nobody reads M
    level recall every token { memory M .. M <- M + k }   y = recall.M@after * q
    """
    if not program.outputs:
        return
    readers = list(_readers(program))
    bit = {
        reader: 1 << i for i, reader in enumerate(dict.fromkeys(reader for _, reader in readers))
    }
    used = _used(program, [(root, bit[reader]) for root, reader in readers])
    family = {name: bit.get(name, 0) for name in program.levels}
    for child in program.levels.values():
        if child.parent in family:
            family[child.parent] |= bit.get(child.name, 0)

    def judge(level: Level) -> Iterable[Diagnostic]:
        memories = [program.memories[name] for name in level.memories]
        if all(followed(program, memory) not in (None, memory.name) for memory in memories):
            return
        if all(not used.get(name, 0) & ~family[level.name] for name in level.memories):
            for name in level.memories:
                memory = program.memories[name]
                yield Diagnostic(
                    "N613",
                    f"nothing outside the level reads `{short(name)}`",
                    memory.span or head_of(level),
                    "never read",
                    help=f"read `{short(level.name)}.{short(name)}`, or leave the level out",
                    severity="warning",
                )

    yield from in_every_instance(program, judge)


def _readers(program: Program) -> Iterator[tuple[Node, str]]:
    for node in program.outputs.values():
        yield node, ""
    for memory in program.memories.values():
        if memory.start is not None:
            yield memory.start, f"start of {memory.name}"
        if memory.next is not None:
            yield memory.next, memory.level
