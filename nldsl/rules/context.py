"""Context: what a level learns from is listed, all of it and nothing else; and somebody reads what it learned."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.diagnostic import Diagnostic
from nldsl.frontend import syntax
from nldsl.graph.equations import Level, Node, Program, walk
from nldsl.rules.flow import SHAPE_ONLY, constants_of, in_every_instance, reach
from nldsl.rules.words import context_names, head_of, place_of, said, short
from nldsl.source import Span


def closure(program: Program) -> Iterator[Diagnostic]:
    """An objective meets the data only through `context`.

    The context of a level is its data: constants for its own gradient, and the edges of the level graph. Followed back from the objective,
    every definition ends in a context stream, a memory or a constant.

        context k      minimize |M(k) - v|^2                                     # N610: v comes from an input
        context k, v   minimize |M(k) - v|^2
    """
    def judge(level: Level) -> Iterable[Diagnostic]:
        data = constants_of(level.context)
        for objective in level.objectives if level.context else ():
            met = reach([objective], data)
            for node in met.nodes:
                if node.op != "input" or id(node) in data:
                    continue
                way = list(dict.fromkeys(said(n) for n in met.way(node) if n.name or n is node))
                chain = " <- ".join(f"`{name}`" for name in way)
                listed = ", ".join(dict.fromkeys([*(name for name, _ in context_names(level)), way[0]]))
                yield Diagnostic("N610", f"the objective reaches `{node['name']}`" + (f": {chain}" if len(way) > 1 else ""),
                                 place_of(level, syntax.Minimize), "reads data that is not its context",
                                 (("the context", place_of(level, syntax.Context)),), f"`context {listed}`")
                break

    yield from in_every_instance(program, judge)


def unused(program: Program) -> Iterator[Diagnostic]:
    """A context stream is met by an objective. What the equation alone reads (rates, gates) is no data and is not listed.

        context k, v, q   minimize |M(k) - v|^2                                  # N611: q
        context k, v      minimize |M(k) - v|^2
    """
    def judge(level: Level) -> Iterable[Diagnostic] | None:
        names = context_names(level)
        if not level.objectives or len(names) != len(level.context):      # called with a constant, or with one stream twice
            return None
        met = reach(level.objectives, constants_of(level.context))
        return [found(level, name, span) for stream, (name, span) in zip(level.context, names, strict=True)
                if not any(id(form) in met for form in _forms(stream))]

    def found(level: Level, name: str, span: Span | None) -> Diagnostic:
        return Diagnostic("N611", f"the objective never meets `{name}`", span, "learned from by nothing",
                          (("the objective", place_of(level, syntax.Minimize)),), f"leave out `{name}`")

    yield from in_every_instance(program, judge)


def _forms(stream: Node) -> Iterator[Node]:
    """The stream, and what it is before changes of shape."""
    yield stream
    while stream.op in SHAPE_ONLY:
        stream = stream.args[0]
        yield stream


def dead(program: Program) -> Iterator[Diagnostic]:
    """A memory is read outside its level: by a stream, by another level, or by the start of one.

        level recall every token { memory M .. M <- M + k }   y = k              # N613: nobody reads M
        level recall every token { memory M .. M <- M + k }   y = recall.M@now * q
    """
    if not program.outputs:
        return
    used: dict[str, set[str]] = {}                                # memory -> the levels in whose equations it is read
    for root, reader in _readers(program):
        for node in walk(root):
            if node.op in ("read", "now", "held", "plain"):
                used.setdefault(node["memory"], set()).add(reader)
            elif node.op == "weight" and (owner := program.weights[node["name"]].owner):
                used.setdefault(owner, set()).add(reader)

    def judge(level: Level) -> Iterable[Diagnostic]:
        family = {level.name} | {child.name for child in program.levels.values() if child.parent == level.name}
        unread = [name for name in level.memories if not used.get(name, set()) - family]
        if len(unread) == len(level.memories):
            for name in unread:
                memory = program.memories[name]
                yield Diagnostic("N613", f"nothing outside the level reads `{short(name)}`", memory.span or head_of(level), "learns for nobody",
                                 help=f"read `{short(level.name)}.{short(name)}`, or leave the level out", severity="warning")

    yield from in_every_instance(program, judge)


def _readers(program: Program) -> Iterator[tuple[Node, str]]:
    for node in program.outputs.values():
        yield node, ""
    for memory in program.memories.values():
        if memory.start is not None:
            yield memory.start, f"start of {memory.name}"
        if memory.next is not None:
            yield memory.next, memory.level


