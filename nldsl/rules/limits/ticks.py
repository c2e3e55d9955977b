"""Limits of what is computed at ticks of the step clock."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from nldsl.core.nodes import Node, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import ENDS, Clock, Level, by_worker
from nldsl.core.timing import LOOKS_BACK
from nldsl.diagnostic import Diagnostic
from nldsl.rules.limits.facts import Facts, is_number, unbound
from nldsl.rules.limits.streams import refused
from nldsl.rules.words import short

ELSEWHERE = ("input", "random", "load", "grad_stream", "ahead")


def stream_in_update(facts: Facts) -> Iterator[Diagnostic]:
    """An operator of streams in the update of a level of the step clock."""
    for node in facts.ticking:
        if node.op in ELSEWHERE or node.op in LOOKS_BACK:
            yield refused(
                f"`{node.op}` in the update of a level on the step clock",
                node.span,
                "a stream, and a stretch of it: `mean(.. over period)`",
            )


def copy_in_update(facts: Facts) -> Iterator[Diagnostic]:
    """A copy that is taken within a sequence, read by a level of the step clock."""
    for node in facts.ticking:
        if node.op == "held" and (
            node["clock"].unit != "step" or not facts.program.slow(node["memory"])
        ):
            yield refused(
                "a level on the step clock reads a copy taken within a sequence",
                node.span,
                "a stretch of a stream that reads it: `mean(.. over period)`",
            )


def stretch_of_several(facts: Facts) -> Iterator[Diagnostic]:
    """A stretch on the step clock of a value that is not made at the ticks of one level."""
    program = facts.program
    for node in facts.ticking:
        if node.op == "fold" and facts.local(node.args[0]) and not _waits(node):
            pulse = facts.local.pulse(node.args[0])
            roots = {program.root(program.levels[p]).name for p in pulse - {""}}
            if "" in pulse or len(roots) != 1:
                yield refused(
                    "a stretch on the step clock of a value that is not made at the ticks of one "
                    "level",
                    node.span,
                    "a stretch for each of them",
                )


def stretch_without_tick(facts: Facts) -> Iterator[Diagnostic]:
    """A stretch on the step clock of another level's value, in which that level may not tick."""
    for node, name in facts.ticking.items():
        if node.op != "fold" or not facts.local(node.args[0]) or _waits(node):
            continue
        levels = [facts.program.levels[p] for p in facts.local.pulse(node.args[0]) if p]
        made = min((level.clock for level in levels), key=lambda c: c.period, default=None)
        own = facts.level(name).clock
        if (
            made is None
            or first_tick(made) <= first_tick(own)
            and (
                isinstance(node["since"], str)
                and made.period <= own.period
                or own.period % made.period == (own.phase - made.phase) % made.period == 0
            )
        ):
            continue
        yield refused(
            "a stretch of a value of another level, which may not tick in it",
            node.span,
            "the memory itself, read without a stretch",
        )


def first_tick(clock: Clock) -> int:
    return clock.phase + clock.period


def _waits(fold: Node) -> bool:
    return any(n.op == "plain" for n in reach(fold.args, into=unbound))


def _gradients(facts: Facts) -> list[Node]:
    return [n for n in facts.ticking if n.op == "grad" and facts.program.slow(n["memory"])]


def _stretched(facts: Facts, node: Node) -> list[Node]:
    """The stretches on which the objective of a gradient depends."""
    into = lambda n: () if n.op == "fold" else active(n)  # noqa: E731
    return [n for n in reach([node.args[0]], set(node["context"]), into) if n.op == "fold"]


def curved_in_its_stretch(facts: Facts) -> Iterator[Diagnostic]:
    """An objective that is not a linear function of its stretch of ticks."""
    for node in _gradients(facts):
        for fold in _stretched(facts, node):
            if facts.local(fold.args[0]) and _waits(fold) and not _linear(node.args[0], fold):
                yield refused(
                    "an objective that is not a linear function of its stretch of ticks",
                    node.span,
                    "the stretch of the whole objective: `mean(.. over period)`",
                )


def _linear(root: Node, fold: Node) -> bool:
    way = {fold}
    for node in walk(root):
        if any(a in way for a in node.args):
            way.add(node)
            mine = [a for a in node.args if a in way]
            if node.op in ("mul", "einsum") and len(mine) > 1:
                return False
            if node.op == "div" and node.args[1] in way:
                return False
            if node.op not in LINEAR:
                return False
    return True


LINEAR = {"add", "sub", "neg", "mul", "div", "einsum", "sum", "mean", "spread", "permute"}
LINEAR |= {"reshape", "select", "stack", "join", "leaf", "tree", "total"}


def weighed_apart(facts: Facts) -> Iterator[Diagnostic]:
    """An objective that weighs the numbers of a stretched stream differently."""
    for node in _gradients(facts):
        for fold in _stretched(facts, node):
            waits = not facts.local(fold.args[0]) or _waits(fold)
            if waits and fold.args[0].type != () and not _alike(node.args[0], fold):
                yield refused(
                    "an objective that weighs the numbers of a stretched stream differently",
                    node.span,
                    "a stretch of one number: `mean(sum(..) over period)`",
                )


def _alike(root: Node, fold: Node) -> bool:
    way = {fold}
    for node in walk(root):
        if any(a in way for a in node.args):
            way.add(node)
            rest = [a for a in node.args if a not in way]
            if node.op in ("mul", "div"):
                if len(rest) != 1 or node.args[-1] in way and node.op == "div":
                    return False
                if not is_number(rest[0]):
                    return False
            elif node.op not in ("add", "sub", "neg", "sum", "mean", "permute", "total", "reshape"):
                return False
    return True


# What a slower level sees of faster ones


@lru_cache(maxsize=1)
def _open(facts: Facts) -> list[str]:
    """The memories that some level may see through: by `bptt`, or since they start from another."""

    def begun(name: str) -> bool:
        start = facts.program.memories[name].start
        return start is not None and any(facts.owner(n) for n in walk(start))

    return [
        name
        for name in facts.updates
        if begun(name) or any(b.depth != "none" for b in facts.root_of(name).bptt)
    ]


class Sight:
    """The memories and equations that one learner of the step clock sees through the ticks of
    faster ones.
    """

    def __init__(self, facts: Facts, viewer: Level) -> None:
        self.facts, self.viewer = facts, viewer
        self.learned_from = [
            (grad, fold)
            for grad in _gradients(facts)
            if grad["memory"] in viewer.memories
            for fold in _stretched(facts, grad)
            if not facts.local(fold.args[0])
        ]
        faster = {x.name for x in facts.learners if x.clock.pace < viewer.clock.pace}
        self.names = [n for n in _open(facts) if facts.root_of(n).name in faster]
        self.second: dict[str, Node] = {}
        self._met: dict[Node, set[str]] = {}

    def sees(self, name: str) -> bool:
        depth = next((b.depth for b in self.facts.root_of(name).clauses(self.viewer)), "none")
        return depth != "none"

    def stream(self, fold: Node) -> set[str]:
        """The memories that a stretched stream reads, at once or in the past."""
        term = fold.args[0]
        if term not in self._met:
            self._met[term] = {n for x in reach([term], into=self._into) if (n := self._read(x))}
        return self._met[term]

    def _into(self, node: Node) -> tuple[Node, ...]:
        memory = self.facts.program.memories.get(self._read(node) or "")
        if memory is None or self.facts.program.slow(memory.name):
            return node.args
        return (*node.args, *(n for n in (memory.next, memory.start) if n is not None))

    def _read(self, node: Node) -> str | None:
        return node["memory"] if node.op == "plain" else self.facts.owner(node)

    def starts_from(self, name: str, known: set[str]) -> bool:
        start = self.facts.program.memories[name].start
        return start is not None and any(self.facts.owner(n) in known for n in walk(start))

    def reads(self, name: str, known: set[str]) -> bool:
        """Has the update a derivative in a memory that is known to depend on the viewer?"""
        met, hit = reach([self.facts.updates[name]], into=self._slopes), False
        for node in met:
            if self._waits(node) and self.stream(node) & known:
                way = [n for n in met.way(node) if n.op == "grad"]
                self.second.setdefault(name, way[-1] if way else node)
                hit = True
            hit = hit or self.facts.owner(node) in known
        return hit

    def _slopes(self, node: Node) -> tuple[Node, ...]:
        return () if self._waits(node) else active(node)

    def _waits(self, node: Node) -> bool:
        return node.op == "fold" and not self.facts.local(node.args[0])

    def depending(self) -> list[str]:
        found: set[str] = set()
        while True:
            known = found | set(self.viewer.memories)
            new = {
                n
                for n in self.names
                if n not in found
                and (self.starts_from(n, known) or self.sees(n) and self.reads(n, known))
            }
            if not new:
                return [n for n in self.names if n in found]
            found |= new

    def moved(self) -> list[str]:
        """The faster memories that the viewer learns through, and their followers."""
        candidates = self.depending() if self.learned_from else []
        streams = [self.stream(fold) for _, fold in self.learned_from]
        out = {n for n in candidates if any(n in s for s in streams)}
        while new := {
            n
            for n in candidates
            if n not in out
            and any(
                self.facts.owner(x) == n
                for m in out
                for x in self.facts.near(self.facts.updates[m])
            )
        }:
            out |= new
        return [n for n in candidates if n in out]


def second_derivative(facts: Facts) -> Iterator[Diagnostic]:
    """A second derivative of the whole network, by which a slower level would see through the
    update of a faster one.
    """
    for sight, moved in _sights(facts):
        known = {*moved, *sight.viewer.memories}
        for name in moved:
            if sight.sees(name) and sight.reads(name, known) and name in sight.second:
                yield refused(
                    f"a second derivative of the whole network, by which "
                    f"`{short(sight.viewer.name)}` would see through this update",
                    sight.second[name].span,
                    "`stop(grad(..))` for the first order, or `bptt none`",
                )


@lru_cache(maxsize=1)
def _sights(facts: Facts) -> list[tuple[Sight, list[str]]]:
    """The learners that see something through faster ticks."""
    if not _open(facts):
        return []
    found = [(sight, sight.moved()) for sight in (Sight(facts, v) for v in facts.learners)]
    return [(sight, moved) for sight, moved in found if moved]


# Workers, and restarts of single memories


def workers_at_documents(facts: Facts) -> Iterator[Diagnostic]:
    """Workers in a program that counts documents: one may have terms where another has none."""
    level = next((x for x in facts.program.levels.values() if by_worker(x)), None)
    if level is not None and facts.program.counts(ENDS):
        yield refused(
            "a level per worker beside documents that are counted",
            level.rate,
            "`reset every sequence`",
        )


def workers_seen_through(facts: Facts) -> Iterator[Diagnostic]:
    """A learner of the step clock that sees through the ticks of a level per worker, or is one."""
    if not any(map(by_worker, facts.learners)):
        return
    for level in facts.learners:
        for viewer in facts.learners:
            depth = facts.program.horizon(viewer, level)
            if depth != "none" and viewer.objectives and (by_worker(level) or by_worker(viewer)):
                yield refused(
                    f"`{short(viewer.name)}` that sees through the ticks of `{short(level.name)}`, "
                    "where workers have entries of their own",
                    level.bptt[0].span or level.rate,
                    "`bptt none`",
                )


def restart_apart(facts: Facts) -> Iterator[Diagnostic]:
    """`reset M every ..` of a memory that ticks within a sequence, or starts from a draw."""
    for memory in facts.program.memories.values():
        if memory.reset is None:
            continue
        level = facts.level(memory.name)
        drawn = memory.start is None or any(n.op == "random" for n in walk(memory.start))
        if not (level.clock.inner or drawn):
            continue
        why = "ticks within a sequence" if level.clock.inner else "starts from a draw"
        yield refused(
            f"`reset {short(memory.name)} ..` of one memory that {why}",
            next((c.span for c in level.said if c.word == "reset"), memory.span),
            "`reset every ..` of the whole level",
        )
