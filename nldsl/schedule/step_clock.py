"""The step clock of a program: what its levels hear, what one step leaves of its states, and when.

heard   grad W|loss            the gradient of the sum of `loss` over the tokens of a step, in W
        sum loss               that sum
        terms loss             the number of its terms
        grad W|loss|training   what such a thing adds up to over a stretch of more than one step
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from nldsl.core.nodes import Node, Tree
from nldsl.core.program import Memory, Program, by_worker
from nldsl.core.timing import at_tokens
from nldsl.schedule.adjoints import Adjoint
from nldsl.schedule.named import Copy, Heard, Input, Total, input_of, taken, terms_of
from nldsl.schedule.step_states import StepStates, step_states
from nldsl.schedule.ticks import Ticks, ticks
from nldsl.schedule.timetable import Timetable, timetable_of


@dataclass(frozen=True, eq=False)
class StepClock:
    """`heard`: what the equations of `ticks` take of one step or of a stretch of them. `needs`: of
    each level that no other calls, the numbers of terms without which it, and what it calls, does
    not tick. `streams`: the token streams whose sums a step needs, by name.
    """

    program: Program
    table: Timetable
    ticks: Ticks
    states: StepStates
    heard: tuple[Heard, ...]
    needs: Mapping[str, Collection[Heard]]
    streams: Mapping[str, Node]
    owners: Mapping[str, tuple[Memory, str]] = field(repr=False)  # weight -> its memory, its leaf
    adjoints: tuple[Adjoint, ...] = ()  # of the levels that learn through the ticks of faster ones

    @property
    def hears(self) -> list[Input]:
        """The gradients that a step gives."""
        found = dict.fromkeys(map(input_of, self.heard))
        return [given for given in found if given.what == "grad"]

    @property
    def taped(self) -> list[tuple[str | Copy, str]]:
        """Memories, copies and streams whose gradients the tapes keep."""
        pairs = ((n, s) for a in self.adjoints for s in a.streams for n in a.targets)
        return list(dict.fromkeys(pairs))


def step_clock(program: Program) -> StepClock:
    """The states of the step clock, and what their ticks hear of a step."""
    made, table = ticks(program), timetable_of(program)
    used = taken(made.next.values())
    heard = tuple(dict.fromkeys([*used, *terms_of(used)]))
    moved = {level.name: made.memories(level.name) for level in made.roots}
    needs = {name: terms_of(taken(made.next[m] for m in moved[name])) for name in moved}
    states = step_states(made, table, needs, [h for h in heard if isinstance(h, Total)])
    wanted = {input_of(h).stream for h in heard}
    streams = {name: node for name, node in made.streams.items() if name in wanted}
    owners = {
        slot: (m, path) for m in program.memories.values() for path, slot in (m.slots or {}).items()
    }
    clock = StepClock(program, table, made, states, heard, needs, streams or said(program), owners)
    assert not any(
        program.horizon(viewer, level) != "none" and (by_worker(viewer) or by_worker(level))
        for level in made.roots
        for viewer in made.roots
        if viewer.objectives
    ), "limits, workers_seen_through"
    adjoints = [Adjoint(clock, level) for level in made.roots]
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
