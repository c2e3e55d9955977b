"""Causality: every value has its arguments at its instant, and no prediction sees what it
predicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

from nldsl.core.nodes import Met, Node, reach, walk
from nldsl.core.program import REPORT, STATE, Clock, Program
from nldsl.core.timing import lookahead
from nldsl.diagnostic import Diagnostic
from nldsl.rules.flow import beneath, knots, shortest_ring
from nldsl.rules.words import clock_name, head_of, said, short
from nldsl.source import Span


def cycles(program: Program) -> Iterator[Diagnostic]:
    """`l.M@after` is the value after this instant's tick, so the tick may not need a value that is
    computed from it.

    Cycles among definitions alone are met where names are looked up (N401); these pass through a
    tick.

        loss = cross_entropy(head(fast.F@after(h)), next(ids))   level fast .. minimize loss  # N402
        loss = cross_entropy(head(fast.F(h)), next(ids))         level fast .. minimize loss ..
    """

    def into(node: Node) -> Iterable[Node]:
        after = program.memories[node["memory"]].next if node.op == "now" else None
        return node.args if after is None else (after,)

    ticks = {
        memory.name: memory.next for memory in program.memories.values() if memory.next is not None
    }
    for knot in knots({node: tuple(into(node)) for node in reach(ticks.values(), into=into)}):
        memories = [name for name, after in ticks.items() if after in knot]
        needs: dict[str, list[str]] = {}
        ways: dict[tuple[str, str], list[Node]] = {}
        for name in memories:
            met = reach([ticks[name]])
            for node in met.nodes:
                if node.op == "now" and node["memory"] in memories:
                    needs.setdefault(name, []).append(node["memory"])
                    ways.setdefault((name, node["memory"]), met.way(node))
        ring = shortest_ring(needs)
        steps = [ways[a, b] for a, b in pairwise([*ring, ring[0]])]
        names: list[str] = []
        for memory, way in zip(ring, steps, strict=True):
            names += [
                f"this tick of `{_level(program, memory)}`",
                *(f"`{n}`" for n in dict.fromkeys(short(n.name) for n in way if n.name)),
            ]
        names = list(dict.fromkeys(names))
        chain = ", ".join(f"{a} needs {b}" for a, b in pairwise([*names, names[0]]))
        read = steps[0][-1]
        yield Diagnostic(
            "N402",
            f"a cycle at one instant: {chain}",
            read.span,
            "the value after the tick",
            help="leave out `@after`: the value before the tick",
        )


def _level(program: Program, memory: str) -> str:
    return short(program.root(program.levels[program.memories[memory].level]).name)


def reads_after_a_pending_tick(program: Program) -> Iterator[Diagnostic]:
    """A level whose objective looks at the next token ticks when that token has come: at its own
    instant there is no `@after`.

    level fast every token { .. minimize loss .. }   y = fast.F@after(h)  # N406: reads next(ids)
    level fast every token { .. minimize loss .. }   y = fast.F(h)
    """
    looks = beneath(
        [o for level in program.levels.values() for o in level.objectives],
        lambda node: node.op == "ahead",
    )
    late = {
        level.name
        for level in program.levels.values()
        if level.clock.unit == "token" and any(looks[o] for o in level.objectives)
    }
    if not late:
        return
    owners = {m.name: program.root(program.levels[m.level]).name for m in program.memories.values()}
    inside = set(
        reach(
            [
                m.next
                for m in program.memories.values()
                if m.next is not None and owners[m.name] in late
            ],
            into=lambda n: n.args[1:] if n.op == "grad" else n.args,
        )
    )
    inside |= set(
        walk(*(m.start for m in program.memories.values() if m.start is not None))
    )  # taken when the tick is done
    for node in walk(*program.roots()):
        if node.op == "now" and owners[node["memory"]] in late and node not in inside:
            level = program.levels[owners[node["memory"]]]
            yield Diagnostic(
                "N406",
                f"this tick of `{short(level.name)}` waits for the next token: its objective reads "
                "`next`",
                node.span,
                "the value after a tick that is yet to come",
                (("ticks late", head_of(level)),),
                "leave out `@after`: the value before the tick",
            )


def next_of_next(program: Program) -> Iterator[Diagnostic]:
    """A level within the sequence ticks when the next token has come, which reads it: its objective
    looks no further.

    level fast every token { .. minimize |F * x - next(next(x))|^2 .. }      # N409
    level fast every token { .. minimize |F * x - next(x)|^2 .. }
    """
    within = [level for level in program.levels.values() if program.root(level).clock.inner]
    lag = lookahead(*(objective for level in within for objective in level.objectives))
    for level in within:
        for objective in level.objectives:
            if lag[objective] > 1:
                node = next(n for n in reach([objective]).nodes if n.op == "ahead" and lag[n] > 1)
                name = short(level.name)
                yield Diagnostic(
                    "N409",
                    f"the objective of `{name}` looks {lag[objective]} tokens ahead, and the next "
                    "token reads what it learned",
                    node.span,
                    "not known when the next token comes",
                    (("within the sequence", head_of(level)),),
                    f"`{said(node.args[0])}` without a second `next`, or a level `every step`",
                )


def absent_values(program: Program) -> Iterator[Diagnostic]:
    """A stream `x@c` has no value before the first tick of c. An objective loses the term and a
    window passes over it; an equation cannot.

    M <- M + x@chunk                                                         # N403
    M <- M + mean(x over chunk)
    """

    def into(node: Node) -> Iterable[Node]:
        if node.op in ("fold", "window"):
            return ()
        if node.op == "grad":
            return node.args[1:]
        return node.args[:1] if node.op == "attend" else node.args

    seen: set[Node] = set()  # what an equation above has met is told there
    for memory in program.memories.values():
        met = reach([memory.next] if memory.next is not None else [], seen, into)
        fresh = [node for node in met.nodes if node not in seen]
        seen.update(fresh)
        for node in fresh:
            if node.op == "held_stream":
                clock = clock_name(node["clock"])
                yield Diagnostic(
                    "N403",
                    f"`{said(node.args[0])}@{clock}` has no value before the first tick of "
                    f"`{clock}`",
                    node.span,
                    f"in the equation of `{short(memory.name)}`",
                    help=f"`mean({said(node.args[0])} over {clock})`, or a memory that ticks at "
                    f"`{clock}` and is read with `@{clock}`",
                )


OF_AN_INSTANT = frozenset(
    "input plain held_stream tick ticks conv rope attend ahead fold window grad grad_stream".split()
)


def starts_from_streams(program: Program) -> Iterator[Diagnostic]:
    """A memory starts before the first instant of its life, when no stream has a value: from
    constants, weights and other memories.

    memory M: [e] = x                                                        # N407
    memory M: [e] = learned        M <- where(tick == 1, x, M + x)
    """
    for memory in program.memories.values():
        met = reach([memory.start] if memory.start is not None else [])
        node = next((n for n in met.nodes if n.op in OF_AN_INSTANT), None)
        if node is not None:
            named = next((n.name for n in met.way(node)[::-1] if n.name), "")
            yield Diagnostic(
                "N407",
                f"`{short(named) if named else said(node)}` has a value at each instant, "
                f"`{short(memory.name)}` starts before the first",
                memory.span,
                "starts from a stream",
                help="a constant, `learned`, `random`, `load(..)` or another memory; "
                "the first tick can take the stream: `M <- where(tick == 1, x, ..)`",
            )


def circular_starts(program: Program) -> Iterator[Diagnostic]:
    """Of two memories that start from each other neither has a start.

    memory A: [e] = slow.B   ..   memory B: [e] = fast.A                     # N408
    memory A: [e] = slow.B   ..   memory B: [e] = learned
    """
    takes = {
        memory.name: [
            node["memory"]
            for node in walk(*([memory.start] if memory.start is not None else []))
            if node.op in STATE
        ]
        for memory in program.memories.values()
    }
    for knot in knots(takes):
        ring = shortest_ring({name: takes[name] for name in takes if name in knot})
        chain = ", ".join(
            f"`{short(a)}` of `{_level(program, a)}` starts from `{short(b)}` of "
            f"`{_level(program, b)}`"
            for a, b in pairwise([*ring, ring[0]])
        )
        yield Diagnostic(
            "N408",
            f"a circle of starts: {chain}",
            program.memories[ring[0]].span,
            "has no first value",
            help="`learned`, `random` or a constant for one of them",
        )


def leaked_targets(program: Program) -> Iterator[Diagnostic]:
    """`next` may reach an objective alone: a model that reads its own target predicts nothing.

    x = embed(next(ids), [d])   loss = cross_entropy(f(x), next(ids))        # N404
    x = embed(ids, [d])         loss = cross_entropy(f(x), next(ids))
    """

    def onward(node: Node) -> Iterable[Node]:
        return () if node.op in ("grad", "grad_stream") else node.args

    objectives = {o for level in program.levels.values() for o in level.objectives}
    if REPORT in program.outputs:  # it judges predictions as they do
        objectives.add(program.outputs[REPORT])
    read = reach(objectives)
    heads = list(_blind(program, objectives, read))
    ahead = beneath([head for head, _ in heads], lambda node: node.op == "ahead", onward)
    for head, what in heads:
        if not ahead[head]:
            continue
        met = reach([head], into=onward)
        node = next(n for n in met.nodes if n.op == "ahead")
        way = met.way(node)
        chain = " <- ".join(
            f"`{name}`" for name in dict.fromkeys(short(n.name) for n in way if n.name)
        )
        reader = (
            way[-2]
            if len(way) > 1 and not _within(node.span, way[-2].span) and node in read
            else node
        )
        yield Diagnostic(
            "N404",
            f"{what} reads the next token" + (f": {chain}" if chain else ""),
            reader.span,
            "one token later",
            help=f"`{said(node.args[0])}` without `next`, or read it in an objective alone",
        )


def _within(inner: Span | None, outer: Span | None) -> bool:
    """Equal reads are one node, with the words of the first: do they belong to this reader?"""
    return (
        inner is None
        or outer is None
        or (inner.source == outer.source and outer.start <= inner.start and inner.end <= outer.end)
    )


def stale_reads(program: Program) -> Iterator[Diagnostic]:
    """A stale read knows nothing of the tokens since its chunk began; something local should, as
    wide as the chunk.

    `M@chunk` is up to a chunk old. Convolutions, attention and fresh memories on the way to the
    output are what sees the tokens since.

        y = recall.M@chunk(unit(linear(x, [head, e])))  # N405: one token, and what is a chunk old
        y = recall.M@chunk(q) + attend(rope(q), rope(k) -> v over 64 token)
    """
    outputs = list(program.outputs.values())
    width = widths(program, outputs)
    stale: list[tuple[Node, Span | None, int, float]] = []
    for output in outputs:
        met = reach([output], into=lambda n: () if n.op in ("grad", "grad_stream") else n.args)
        for node in met.nodes:
            if (age := _age(program, node)) > width[output]:
                stale.append((node, _outside(program, node, met.way(node)), age, width[output]))
    for node, span, age, seen in stale:
        tokens = f"{seen:g} token{'s' * (seen != 1)}"
        yield Diagnostic(
            "N405",
            f"`{said(node)}` can be up to {age} tokens old, and no other path to this output looks "
            f"back that far (widest: {tokens})",
            span,
            "a stale read",
            help=f"a local path as wide: `attend(q, k -> v over {age} token)`, a wider `conv`, or "
            f"{'a fresh read `@after`' if node.op == 'held' else 'a level that ticks every token'}"
            "; if it is meant, `# meant: N405` behind it",
            severity="warning",
        )


def _outside(program: Program, read: Node, way: list[Node]) -> Span | None:
    """The words of a read; of its reader, if they stand in the memory's own level."""
    level = program.levels[program.memories[read["memory"]].level].span
    return next(
        (node.span for node in reversed(way) if level is None or not _within(node.span, level)),
        read.span,
    )


def _age(program: Program, node: Node) -> int:
    """The greatest age, in tokens, of the value that a read sees; 0 of a fresh one."""
    if node.op == "held" and node["clock"].unit == "token":
        return int(node["clock"].period)
    if node.op in ("read", "now") and program.memories[node["memory"]].next is not None:
        clock = program.levels[program.memories[node["memory"]].level].clock
        return clock.period if clock.unit == "token" and clock.period > 1 else 0
    return 0


def _blind(program: Program, objectives: set[Node], read: Met) -> Iterator[tuple[Node, str]]:
    """The values that may not depend on the next token, each with its name."""
    for node in walk(*program.roots()):
        if node.op == "cross_entropy":
            yield node.args[0], "the prediction"
    for memory in program.memories.values():
        if memory.next is not None:
            yield memory.next, f"the equation of `{short(memory.name)}`"
    losses = beneath(
        program.outputs.values(), lambda node: node.op == "cross_entropy" or node in objectives
    )
    for name, node in program.outputs.items():
        if node not in read and not losses[node]:
            yield node, f"`{name}`, which is in no objective,"


def widths(program: Program, outputs: Iterable[Node]) -> dict[Node, float]:
    """Of each node, how many of the last tokens it sees by ways without a stale read."""
    found: dict[Node, float] = {}
    for node in walk(*outputs):
        widest = max((found[a] for a in node.args), default=0)
        found[node] = widest + _more(program, node, widest)
    return found


def _more(program: Program, node: Node, widest: float) -> float:
    if node.op == "input":
        return 1
    if node.op == "conv":
        return node.args[1].shape[0].size - 1
    if node.op == "window":
        return float(node["length"] - 1)
    if node.op == "fold":
        return _stretch(node["since"]) - 1
    if node.op == "attend":
        return max(
            (_stretch(span) - 1 for _, _, span in node["groups"] if span is not None), default=0
        )
    if node.op in ("read", "now") and not _age(program, node):
        clock = program.levels[program.memories[node["memory"]].level].clock
        return (
            math.inf
            if clock.unit == "token" and program.memories[node["memory"]].next is not None
            else 0
        )
    return 0


def _stretch(span: object) -> float:
    """Tokens in a window: a clock, a number, or what a pair of `attend` says."""
    if isinstance(span, tuple):
        span = span[1]
    if isinstance(span, Clock):
        return span.period if span.unit == "token" else math.inf
    return float(span) if isinstance(span, int | float) else math.inf


def attention_over_one_pair(program: Program) -> Iterator[Diagnostic]:
    """Attention over one pair gives its value: the softmax of one score is 1.

    attend(q, k -> v)                                                        # N410
    attend(q, k -> v over sequence)
    """
    for node in walk(*program.roots()):
        if node.op == "attend" and len(node["groups"]) == 1:
            scores, values, span = node["groups"][0]
            if span is None and set(scores.partition("->")[2]) <= set(values.partition("->")[2]):
                yield Diagnostic(
                    "N410",
                    "this attention sees the present token alone: a softmax over one pair is 1",
                    node.span,
                    f"is `{said(node.args[2])}`",
                    help="`over sequence`, or `over 64 token`",
                    severity="warning",
                )
