"""What learns within a sequence from a run of the network: from the task loss, or from what comes
one token later.

families   levels that tick by such a gradient, with the optimizers they call: held between ticks,
           one value for each lane
rows       streams whose values at the tokens of a window the gradients and the ticks need
given      streams that are computed before, over all tokens at once
ids        all that depends on the rest: run piece by piece, since its memories tick between the
           pieces
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nldsl.core.build import Builder
from nldsl.core.flow import seen_by_learners, takes
from nldsl.core.nodes import Node, walk
from nldsl.core.ops import OPS
from nldsl.core.program import ENDS, STATE, TOKEN, Clock, Level, Program
from nldsl.core.timing import LOOKS_BACK, first_tick
from nldsl.schedule.objectives import Slope
from nldsl.schedule.token_states import State, States

if TYPE_CHECKING:
    from nldsl.schedule.plan import Region


@dataclass(eq=False)
class Formula:
    """Equations that are evaluated at a tick, in dependence order, and what they take:

    `rows` stand for their last token.
    """

    inside: list[Node] = field(default_factory=list)
    taken: list[Node] = field(default_factory=list)  # gradients, folds, and values held by others
    rows: list[Node] = field(default_factory=list)
    statics: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Family:
    level: Level
    states: list[State]
    waits: bool  # does its tick need the next token?
    first: int  # the first token at which it may tick
    slopes: list[int] = field(default_factory=list)
    tick: Formula = field(default_factory=Formula)
    copies: list[State] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return self.level.clock

    def marks(self) -> list[Clock]:
        """Clocks at whose ticks something of the family changes."""
        return [self.clock, *(c for s in (*self.states, *self.copies) for c in s.settles)]


@dataclass(eq=False)
class Online:
    families: list[Family]
    slopes: list[Slope]
    sees: list[list[int]]  # by slope: faster families through whose ticks its learner sees
    objectives: list[Formula]
    rows: dict[str, Node]
    folds: dict[
        Node, tuple[Node, str, Clock | str | int]
    ]  # what stands for a stretch of an objective -> term, sum or mean, stretch
    held: dict[Node, str] = field(default_factory=dict)  # node -> memory or copy that it reads
    given: list[Node] = field(default_factory=list)
    ids: set[Node] = field(default_factory=set)
    steady: set[Node] = field(default_factory=set)  # change between pieces only
    pending: set[str] = field(
        default_factory=set
    )  # other cells whose last tick waits for the next token

    def clocks(self) -> list[Clock]:
        found = [c for f in self.families for c in f.marks()] + [
            TOKEN for s in self.slopes if s.streams
        ]
        return list(dict.fromkeys(c for c in found if c.period))


def families(made: States, states: Mapping[str, State]) -> list[Family]:
    """The levels whose equations take a slope, with their children."""
    program = made.program
    atoms = {a: i for i, s in enumerate(made.slopes) for a in s.atoms.values()}
    ticking = {name: s for name, s in states.items() if not s.copies}
    used = {name: {atoms[n] for n in walk(s.tick) if n in atoms} for name, s in ticking.items()}
    homes = {n: program.root(program.levels[s.level]) for n, s in ticking.items() if s.level}
    out = []
    for level in dict.fromkeys(home.name for name, home in homes.items() if used[name]):
        mine = {n: ticking[n] for n, home in homes.items() if home.name == level}
        mine = {
            n: s
            for n, s in mine.items()
            if n not in made.sums
            or used[n]
            or any(x.op == "now" and x["memory"] in mine for x in walk(s.tick))
        }
        slopes = sorted(set().union(*(used[n] for n in mine)))
        home = program.levels[level]
        for i in slopes:
            name = made.slopes[i].level
            assert not name or program.levels[name].clock == home.clock, name
        assert all(s.life.unit != ENDS for s in mine.values()), level  # limits, task_at_documents
        first = first_tick(program, made.valid_from, home)
        waits = _waits(program, level)
        out.append(Family(home, list(mine.values()), waits, first, slopes))
    assert all(s.level for name, s in ticking.items() if used[name]), "limits, task_stretch"
    # of two that start at one instant the slow one comes first
    return sorted(out, key=lambda f: -f.clock.period)


def begin(made: States, states: Mapping[str, State], found: list[Family]) -> Online:
    """The families with what their ticks and gradients take.

    `ids` and `given` follow once regions are known: see `divide`.
    """
    owned = {s.name: f for f in found for s in f.states}
    owned |= {n: owned[s.copies] for n, s in states.items() if s.copies in owned}
    slopes = list(made.slopes)
    everything = list(
        walk(
            *made.outputs.values(),
            *(x for s in states.values() for x in s.equations),
            *(x for s in slopes for x in (s.objective, *s.streams.values())),
        )
    )
    atoms = {a for s in slopes for a in s.atoms.values()}
    _only_within(made, found, owned, atoms)
    streaming = _streaming(everything, atoms, owned)
    online = Online(found, slopes, [], [], {}, {})
    for node in everything:
        if node.op == "read" and node["memory"] in owned:
            online.held[node] = node["memory"]
            copy, family = states[node["memory"]], owned[node["memory"]]
            if copy.copies and copy not in family.copies:
                family.copies.append(copy)
    for slope in slopes:
        online.objectives.append(_objective(made, slope, streaming, online))
        online.sees.append(_seen(made.program, slope, found))
    _share(made, online)
    for family in found:
        _take(online, family, everything, atoms, streaming, owned)
    for stream in (x for slope in online.slopes for x in slope.streams.values()):
        online.rows.setdefault(_row(online, stream), stream)
    if found:
        held = _above(everything, lambda n: n in online.held)
        online.steady = held - streaming
    return online


def _only_within(
    made: States, found: list[Family], owned: Mapping[str, Family], atoms: set[Node]
) -> None:
    """Starts are taken from what learns from the loss, too, and no output from a gradient."""
    for state in (s for f in found for s in f.states):
        for node in takes(state.start):
            assert node["memory"] in owned, "limits, task_starts"
    for name, node in made.outputs.items():
        assert not any(n in atoms for n in walk(node)), "limits, task_read_outside"


def _take(
    online: Online,
    family: Family,
    everything: list[Node],
    atoms: set[Node],
    streaming: set[Node],
    owned: Mapping[str, Family],
) -> None:
    """What the tick of a family takes: gradients, what is held, and streams."""
    own, ticks = {s.name for s in family.states}, [s.tick for s in family.states]
    late = _above(ticks, lambda n: n in atoms or n.op == "now" and n["memory"] in own)
    taken = {n for n in everything if n in atoms or n in online.held and n["memory"] not in own}
    family.tick = _formula(ticks, late, taken, streaming)
    for node in family.tick.inside:
        assert not (node.op == "now" and node["memory"] in owned and node["memory"] not in own), (
            "limits, task_at_tick"
        )
    for node in family.tick.rows:
        online.rows.setdefault(_row(online, node), node)


def _share(made: States, online: Online) -> None:
    """One derivative for all memories that hear one objective over one window: levels that tick
    together are constants for each other.
    """
    signs: dict[Hashable, int] = {}

    def sign(slope: Slope) -> int:
        found: dict[Node, int] = {}
        for node in walk(slope.objective):
            key: Hashable = (node.op, *(found[a] for a in node.args), node.attrs, node.type)
            if node in online.folds:
                term, how, span = online.folds[node]
                key = ("stretch", term, how, "" if span == slope.level else span)
            found[node] = signs.setdefault(key, len(signs))
        return found[slope.objective]

    first: dict[Hashable, int] = {}
    place: list[int] = []
    for i, slope in enumerate(online.slopes):
        level = made.program.levels.get(slope.level)
        first_of = first_tick(made.program, made.valid_from, level)
        key = (
            sign(slope),
            tuple(online.sees[i]),
            level and (level.clock, level.reset, first_of),
        )
        place.append(first.setdefault(key, i))
    for i, j in enumerate(place):
        if i != j:
            one, other = online.slopes[j], online.slopes[i]
            online.slopes[j] = replace(
                one, atoms=one.atoms | other.atoms, streams=one.streams | other.streams
            )
    kept = sorted(set(place))
    for family in online.families:
        family.slopes = sorted({kept.index(place[i]) for i in family.slopes})
    online.slopes = [online.slopes[i] for i in kept]
    online.objectives = [online.objectives[i] for i in kept]
    online.sees = [online.sees[i] for i in kept]


def _row(online: Online, node: Node) -> str:
    return next(
        (name for name, known in online.rows.items() if known is node),
        f"row {len(online.rows) + 1}",
    )


def _streaming(
    everything: Iterable[Node], atoms: set[Node], owned: Mapping[str, Family]
) -> set[Node]:
    """The nodes that have a value for each token between two ticks."""
    ids: set[Node] = set()
    for node in everything:
        if (
            node.op == "input"
            and node not in atoms
            or node.op in LOOKS_BACK
            or any(a in ids for a in node.args)
            or node.op in STATE
            and node["memory"] not in owned
        ):
            ids.add(node)
    return ids


def _above(roots: Iterable[Node], is_source: Callable[[Node], bool]) -> set[Node]:
    ids: set[Node] = set()
    for node in walk(*roots):
        if is_source(node) or any(a in ids for a in node.args):
            ids.add(node)
    return ids


def _formula(
    roots: Iterable[Node], late: set[Node], taken: set[Node], streaming: set[Node]
) -> Formula:
    """Walks down from what a tick computes: cheap operators are computed at the tick, of anything
    else its stream is taken.
    """
    out, seen = Formula(), set[Node]()
    stack = [(node, False) for node in roots]
    while stack:
        node, ready = stack.pop()
        if ready:
            out.inside.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        moving = node in late or node in streaming or any(n.op in STATE for n in walk(node))
        cheap = node.args and (
            OPS[node.op].elementwise or node.op in ("spread", "permute", "reshape")
        )
        if node in taken:
            out.taken.append(node)
        elif not moving and node.op not in ("const", "eye"):
            out.statics.append(node)
        elif node in streaming and node not in late and not cheap:
            out.rows.append(node)
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))
    return out


def _objective(made: States, slope: Slope, streaming: set[Node], online: Online) -> Formula:
    """The objective at its tick, from the terms of its stretches."""
    stretches: dict[Node, tuple[Node, str, Clock | str | int]] = {}
    # in a stream, a stretch is what the network gives
    for node in walk(slope.objective) if slope.level else ():
        if node.op == "now" and node["memory"] in made.sums:
            sums = made.sums[node["memory"]]
            since = sums.level if sums.level == slope.level else sums.clock
            stretches[node] = sums.term, "sum", since
        elif node.op in ("fold", "window"):
            stretches[node] = (
                node.args[0],
                node["how"],
                node["length"] if node.op == "window" else node["since"],
            )
    online.folds |= stretches
    late = _above([slope.objective], lambda n: n in stretches)
    formula = _formula([slope.objective], late, set(stretches) | set(online.held), streaming)
    for node in formula.taken:
        if node in stretches and stretches[node][0] in streaming:
            online.rows.setdefault(_row(online, stretches[node][0]), stretches[node][0])
    for node in formula.rows:
        online.rows.setdefault(_row(online, node), node)
    return formula


def _seen(program: Program, slope: Slope, found: list[Family]) -> list[int]:
    """The families through whose ticks the learner of a slope sees."""
    if not slope.level:
        return []
    learner, out = program.levels[slope.level], []
    homes = {s.name: f.level.name for f in found for s in f.states}
    for i, family in enumerate(found):
        far = program.horizon(learner, family.level)
        if far == "full":
            assert seen_by_learners(program, family.level) == "full", "limits, task_sight"
            out.append(i)
        else:
            assert far == "none", "limits, task_sight"
            begun = (n for s in family.states for n in takes(s.start))
            assert all(homes[n["memory"]] != learner.name for n in begun), "limits, task_sight"
    return out


def at_a_tick(family: Family) -> list[State]:
    """The states at a tick of the family: cuts, resets and copies come after it."""
    al = Builder(OPS)
    return [
        replace(
            s,
            after=s.tick if s.clock in (family.clock, TOKEN) else s.after,
            next=al.make("now", type=s.type, memory=s.name),
        )
        for s in family.states
    ]


def divide(
    online: Online,
    made: States,
    live: Mapping[str, State],
    roots: Mapping[str, Node],
    regions: list[Region],
) -> bool:
    """What has to be run piece by piece, to `ids`, and what it takes from the rest, to `given`.

    False if nothing has to.
    """
    everything = list(walk(*roots.values(), *(x for s in live.values() for x in s.equations)))
    ahead = [n for n in everything if n.op == "ahead"]
    late = _after_the_next(everything, regions)
    if not online.families and not late:
        return False
    ids, found = _moved(online, everything, ahead, regions, late)
    _known_ahead(ahead, ids)
    place = {n for r in regions for n in r.inside}
    taken = dict.fromkeys([*(n.args[0] for n in ahead), *online.rows.values()])
    for node in everything:
        if node in ids and node not in place and node.op != "ahead":
            taken |= dict.fromkeys(node.args)
    for region in found:
        taken |= dict.fromkeys(region.inputs)
    streams = _streaming(everything, set(), {})
    online.ids = ids
    online.given = [n for n in taken if n not in ids and n in streams]
    _as_seen_by_all(online, made, found)
    online.pending = {
        s.name for r in found for s in r.ticking if s.level and _waits(made.program, s.level)
    }
    return True


def _after_the_next(everything: list[Node], regions: list[Region]) -> set[Region]:
    """The regions that wait for the next token."""
    after = _above(everything, lambda n: n.op == "ahead")
    return {
        r
        for r in regions
        if any(n in after for n in (*r.inside, *r.inputs))
        or any(x in after for s in r.states for x in s.equations)
    }


def _known_ahead(ahead: list[Node], ids: set[Node]) -> None:
    """What comes one token later is given before the pieces are run."""
    for node in ahead:
        assert not any(n.op == "ahead" for n in walk(node.args[0])), "limits, next_of_next"
        assert node.args[0] not in ids, "limits, next_of_next"


def _moved(
    online: Online,
    everything: list[Node],
    ahead: list[Node],
    regions: list[Region],
    late: set[Region],
) -> tuple[set[Node], list[Region]]:
    """All nodes, and regions, that follow from what is held between ticks, from streams that are
    differentiated in and from what is one token ahead."""
    place = {n: r for r in regions for n in r.inside}
    ids, found = {*online.held, *ahead}, set(late)
    ids |= {x for s in online.slopes for x in s.streams.values()}
    while True:
        before = len(ids) + len(found)
        for node in everything:
            if place.get(node) in found or any(a in ids for a in node.args):
                ids.add(node)
        found |= {r for r in regions if any(n in ids for n in (*r.inside, *r.inputs))}
        if len(ids) + len(found) == before:
            return ids, [r for r in regions if r in found]


def _waits(program: Program, level: str) -> bool:
    """Does the tick of a level wait for the next token?"""
    objectives = program.root(program.levels[level]).objectives
    return any(n.op == "ahead" for n in walk(*objectives))


def _as_seen_by_all(online: Online, made: States, regions: list[Region]) -> None:
    """A memory within a piece ticks in the one run that the families and the learners of the step
    clock differentiate.
    """
    program = made.program
    fresh = {n["memory"] for r in regions for n in r.inside if n.op == "now"} - set(made.sums)
    for state in (s for r in regions for s in r.ticking if s.level and s.name not in made.sums):
        level = program.levels[state.level]
        for family in online.families:
            if program.slower(family.level, level):
                seen = seen_by_learners(program, level)
                assert program.horizon(family.level, level) == seen, "limits, task_beside"
            else:
                apart = level.clock.phase % family.clock.period != family.clock.phase
                assert not apart, "limits, task_beside"
                assert not level.clock.period % family.clock.period, "limits, task_beside"
                assert state.name not in fresh or not family.slopes, "limits, task_beside"
