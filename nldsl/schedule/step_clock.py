"""The step clock of a program: what its levels hear, what a step must give them, and when.

heard   grad "W|loss"      the gradient of the sum of `loss` over the tokens of a step, in W
        sum "loss"         that sum
        terms "loss"       the number of its terms
kept    what such a thing adds up to over a stretch of more than one step, and copies of memories
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from nldsl.core.nodes import Node, Tree, Type, walk
from nldsl.core.program import STATE, Level, Memory, Program
from nldsl.core.timing import at_tokens
from nldsl.schedule.adjoints import Adjoint
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.ticks import Given, Ticks
from nldsl.schedule.timetable import Timetable, timetable_of


@dataclass(frozen=True, eq=False)
class StepClock:
    """`given`: what the equations of `ticks` take from a step or from its past. `streams`: the
    token streams whose sums a step needs, by name.
    """

    program: Program
    table: Timetable
    ticks: Ticks
    given: tuple[Given, ...]
    streams: dict[str, Node]
    owners: dict[str, tuple[Memory, str]] = field(repr=False)  # weight -> its memory and its leaf
    adjoints: tuple[Adjoint, ...] = ()  # of the levels that learn through the ticks of faster ones

    @property
    def hears(self) -> list[Given]:
        return [g for g in self.given if g.kind == "grad"]

    @property
    def taped(self) -> list[tuple[str, str]]:
        """Memories and streams whose gradients the tapes keep."""
        pairs = ((n, s) for a in self.adjoints for s in a.streams for n in a.targets)
        return list(dict.fromkeys(pairs))

    def reads(self, equations: Iterable[Node]) -> list[str]:
        """Names of what the step provides that the equations read."""
        return list(
            dict.fromkeys(
                n["memory"]
                for n in walk(*equations)
                if n.op == "read" and n["memory"] in self.ticks.given
            )
        )

    def needs(self, level: str) -> set[str]:
        """Numbers of terms without which a level, and what it calls, does not tick."""
        root = self.ticks.root_of(level)
        heard = [
            self.ticks.given[n]
            for n in self.reads(self.ticks.next[m] for m in self.ticks.memories(root))
        ]
        return {terms_of(g).name for g in heard if g.kind in ("grad", "sum")}

    def type_of(self, given: Given) -> Type:
        return (
            self.ticks.streams[given.stream].type
            if given.kind == "sum"
            else self.program.memories[given.memory].type
        )

    def keeps(self, given: Given) -> bool:
        """Does what a step adds have to wait for the end of a stretch?"""
        since = given.since
        clock = self.program.levels[since].clock if isinstance(since, str) else since
        return clock.unit == "step" and (clock.period > 1 or clock.phase > 0)

    def ordered(self, firing: list[str]) -> list[str]:
        """Memories that tick together, each behind those whose new values it reads."""
        done: list[str] = []

        def visit(name: str, path: tuple[str, ...] = ()) -> None:
            if name in done:
                return
            if name in path:
                raise Unsupported(f"`{name}` needs itself at one tick", self.ticks.next[name])
            for node in walk(self.ticks.next[name]):
                if node.op == "now" and node["memory"] in firing:
                    visit(node["memory"], (*path, name))
            done.append(name)

        for name in firing:
            visit(name)
        return done

    def order(self, fired: list[Level]) -> list[Level]:
        """Levels that read another's value after its tick come after it; else as they stand in the
        text.
        """
        done: list[Level] = []

        def visit(level: Level) -> None:
            if level not in done:
                needs = {
                    self.ticks.root_of(self.ticks.level_of(n["memory"]))
                    for name in self.ticks.memories(level.name)
                    for n in walk(self.ticks.next[name])
                    if n.op == "now"
                }
                for other in fired:
                    if other.name in needs - {level.name}:
                        visit(other)
                done.append(level)

        for level in fired:
            visit(level)
        return done

    def begun(self, levels: Iterable[str]) -> list[str]:
        """Memories that begin at one instant, in order: a start that reads another memory takes the
        newest value, of one that begins too if that is slower.
        """
        names = [m.name for m in self.program.memories.values() if m.level in levels]
        done: list[str] = []

        def pace(name: str) -> tuple[bool, int]:
            clock = self.program.levels[self.program.memories[name].level].clock
            return clock.unit == "never", clock.period

        def visit(name: str) -> None:
            if name not in done:
                for other in self._read_by(name):
                    if other in names and pace(other) >= pace(name):
                        visit(other)
                if name not in done:
                    done.append(name)

        for name in sorted(names, key=pace, reverse=True):
            visit(name)
        return done

    def _read_by(self, name: str) -> list[str]:
        start = self.program.memories[name].start
        return (
            []
            if start is None
            else [
                self.owners[n["name"]][0].name if n.op == "weight" else n["memory"]
                for n in walk(start)
                if n.op in ("weight", *STATE)
            ]
        )


def terms_of(given: Given) -> Given:
    """The number of terms of what is heard."""
    return Given("terms", stream=given.stream, since=given.since)


def step_clock(program: Program) -> StepClock:
    """Raises Unsupported for what a step cannot give its levels."""
    ticks = Ticks(program)
    owners = {
        slot: (m, path) for m in program.memories.values() for path, slot in (m.slots or {}).items()
    }
    bare = StepClock(program, _table(program), ticks, (), {}, owners)
    used = [ticks.given[name] for name in bare.reads(ticks.next.values())]
    terms = [terms_of(g) for g in used if g.kind in ("grad", "sum")]
    copies = [g for g in ticks.given.values() if g.kind == "copy"]
    given = tuple({g.name: g for g in (*used, *terms, *copies)}.values())
    heard = {g.stream for g in given}
    streams = {name: stream for name, stream in ticks.streams.items() if name in heard}
    if not streams:  # nothing learns once a step: what is said is still said
        streams = said(program)
    clock = replace(bare, given=given, streams=streams)
    adjoints = [Adjoint(clock, level) for level in ticks.roots]
    return replace(clock, adjoints=tuple(a for a in adjoints if a.moved))


def said(program: Program) -> dict[str, Node]:
    """The streams of a program from which no level learns: its loss, or all that have a value for
    each token.
    """
    found = {
        name: node
        for name, node in program.outputs.items()
        if not isinstance(node.type, Tree) and at_tokens(program, node)
    }
    return {"loss": found["loss"]} if "loss" in found else found


def _table(program: Program) -> Timetable:
    try:
        return timetable_of(program)
    except OverflowError as error:
        raise Unsupported(
            str(error),
            span=next(iter(program.levels.values())).span,
            help="periods that divide each other",
        ) from error
