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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nldsl.core.flow import seen_by_learners, takes
from nldsl.core.nodes import Node, walk
from nldsl.core.ops import OPS
from nldsl.core.program import NEVER, STATE, TOKEN, Clock, Level, Program
from nldsl.core.timing import LOOKS_BACK
from nldsl.schedule.cells import Cell, Cells, Slope, Unsupported

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
    cells: list[Cell]
    waits: bool  # does its tick need the next token?
    first: int  # the first token at which it may tick
    slopes: list[int] = field(default_factory=list)
    tick: Formula = field(default_factory=Formula)
    copies: list[tuple[str, Clock]] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return self.level.clock

    @property
    def reset(self) -> Clock:
        return self.level.reset if self.level.reset.unit == "token" else NEVER

    def marks(self) -> list[Clock]:
        """Clocks at whose ticks something of the family changes."""
        resets = [c.reset for c in self.cells if c.reset.unit == "token"]
        return [
            self.clock,
            self.reset,
            *resets,
            *(c for _, c in self.copies),
            *(c.cut for c in self.cells if c.cut is not None),
        ]


@dataclass(eq=False)
class Online:
    families: list[Family]
    slopes: list[Slope]
    sees: list[list[int]]  # by slope: faster families through whose ticks its learner sees
    objectives: list[Formula]
    rows: dict[str, Node]
    folds: dict[
        int, tuple[Node, str, Clock | str | int]
    ]  # what stands for a stretch of an objective -> term, sum or mean, stretch
    held: dict[int, str] = field(default_factory=dict)  # node -> memory or copy that it reads
    given: list[Node] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    steady: set[int] = field(default_factory=set)  # change between pieces only
    pending: set[str] = field(
        default_factory=set
    )  # other cells whose last tick waits for the next token

    def clocks(self) -> list[Clock]:
        found = [c for f in self.families for c in f.marks()] + [
            TOKEN for s in self.slopes if s.streams
        ]
        return list(dict.fromkeys(c for c in found if c.period))


def families(cells: Cells) -> list[Family]:
    """The levels whose equations take a slope, with their children."""
    program = cells.program
    atoms = {id(a): i for i, s in enumerate(cells.slopes) for a in s.atoms.values()}
    used = {
        c.name: {atoms[id(n)] for n in walk(c.next) if id(n) in atoms} for c in cells.cells.values()
    }
    homes = {c.name: program.root(program.levels[c.level]) for c in cells.cells.values() if c.level}
    out = []
    for level in dict.fromkeys(level.name for name, level in homes.items() if used[name]):
        mine = {
            c.name: c
            for c in cells.cells.values()
            if c.name in homes and homes[c.name].name == level
        }
        mine = {
            n: c
            for n, c in mine.items()
            if n not in cells.terms
            or used[n]
            or any(x.op == "now" and x["memory"] in mine for x in walk(c.next))
        }
        slopes = sorted(set().union(*(used[n] for n in mine)))
        home = program.levels[level]
        for i in slopes:
            if (name := cells.slopes[i].level) and program.levels[name].clock != home.clock:
                raise Unsupported(
                    "the gradient of a task loss on another clock than that of the level around",
                    cells.slopes[i].span,
                )
        out.append(
            Family(
                home,
                list(mine.values()),
                any(n.op == "ahead" for n in walk(*home.objectives)),
                cells.first_tick(level),
                slopes,
            )
        )
    if stray := next((c for c in cells.cells.values() if used[c.name] and not c.level), None):
        raise Unsupported(
            "a stretch of the gradient of a task loss since the tick of a clock",
            stray.next,
            "over period",
        )
    return sorted(
        out, key=lambda f: -f.clock.period
    )  # of two that start at one instant the slow one comes first


def begin(cells: Cells, roots: Mapping[str, Node], found: list[Family]) -> Online:
    """The families with what their ticks and gradients take.

    `ids` and `given` follow once regions are known: see `divide`.
    """
    owned = {c.name: f for f in found for c in f.cells}
    for cell, node in (
        (c, n) for f in found for c in f.cells for n in takes(c.start) if n["memory"] not in owned
    ):
        raise Unsupported(
            f"a start of `{cell.name}` from `{node['memory']}`, which does not learn from the loss "
            "of the network",
            cell.start,
            "an objective for both that reads the loss, or a learned start",
        )
    slopes = cells.slopes
    everything = list(
        walk(
            *roots.values(),
            *(c.next for c in cells.cells.values()),
            *(x for s in slopes for x in (s.objective, *s.streams.values())),
        )
    )
    atoms = {id(a) for s in slopes for a in s.atoms.values()}
    for name, node in roots.items():
        if any(id(n) in atoms for n in walk(node)):
            raise Unsupported(
                f"`{name}` takes the derivative of a stream, which only ticks of memories know",
                node,
            )
    streaming = _streaming(everything, atoms, owned)
    online = Online(found, slopes, [], [], {}, {})
    for node in everything:
        if node.op in STATE and node["memory"] in owned:
            family = owned[node["memory"]]
            if node.op == "held":
                online.held[id(node)] = (
                    f"{node['memory']}@{node['clock'].name or node['clock'].period}"
                )
                if (node["memory"], node["clock"]) not in family.copies:
                    family.copies.append((node["memory"], node["clock"]))
            elif node.op == "read":
                online.held[id(node)] = node["memory"]
    for slope in slopes:
        online.objectives.append(_objective(cells, slope, streaming, online))
        online.sees.append(_seen(cells.program, slope, found))
    _share(cells, online)
    for family in found:
        own = {c.name for c in family.cells}
        late = _above(
            [c.next for c in family.cells],
            lambda n: id(n) in atoms or n.op == "now" and n["memory"] in own,
        )
        taken = {
            id(n)
            for n in everything
            if id(n) in atoms or id(n) in online.held and (n["memory"] not in own or n.op == "held")
        }
        family.tick = _formula([c.next for c in family.cells], late, taken, streaming)
        for node in family.tick.inside:
            if node.op == "now" and node["memory"] in owned and node["memory"] not in own:
                raise Unsupported(
                    f"`{node['memory']}` at the tick of another level",
                    node,
                    "read it without `@after`",
                )
        for node in family.tick.rows:
            online.rows.setdefault(_row(online, node), node)
    for stream in (x for slope in online.slopes for x in slope.streams.values()):
        online.rows.setdefault(_row(online, stream), stream)
    online.steady = (
        {
            id(n)
            for n in everything
            if id(n) not in streaming and any(id(p) in online.held for p in walk(n))
        }
        if found
        else set()
    )
    return online


def _share(cells: Cells, online: Online) -> None:
    """One derivative for all memories that hear one objective over one window: levels that tick
    together are constants for each other.
    """
    signs: dict[tuple, int] = {}

    def sign(slope: Slope) -> int:
        made: dict[int, int] = {}
        for node in walk(slope.objective):
            key: tuple = (node.op, *(made[id(a)] for a in node.args), node.attrs, node.type)
            if id(node) in online.folds:
                term, how, span = online.folds[id(node)]
                key = ("stretch", id(term), how, "" if span == slope.level else span)
            made[id(node)] = signs.setdefault(key, len(signs))
        return made[id(slope.objective)]

    first: dict[tuple, int] = {}
    place: list[int] = []
    for i, slope in enumerate(online.slopes):
        level = cells.program.levels.get(slope.level)
        key = (
            sign(slope),
            tuple(online.sees[i]),
            level and (level.clock, level.reset, cells.first_tick(level.name)),
        )
        place.append(first.setdefault(key, i))
    for i, j in enumerate(place):
        if i != j:
            online.slopes[j].atoms.update(online.slopes[i].atoms)
            online.slopes[j].streams.update(online.slopes[i].streams)
    kept = sorted(set(place))
    for family in online.families:
        family.slopes = sorted({kept.index(place[i]) for i in family.slopes})
    online.slopes, online.objectives, online.sees = (
        [xs[i] for i in kept] for xs in (online.slopes, online.objectives, online.sees)
    )


def _row(online: Online, node: Node) -> str:
    return next(
        (name for name, known in online.rows.items() if known is node),
        f"row {len(online.rows) + 1}",
    )


def _streaming(
    everything: Iterable[Node], atoms: set[int], owned: Mapping[str, Family]
) -> set[int]:
    """Ids of the nodes that have a value for each token between two ticks."""
    ids: set[int] = set()
    for node in everything:
        if (
            node.op == "input"
            and id(node) not in atoms
            or node.op in LOOKS_BACK
            or any(id(a) in ids for a in node.args)
            or node.op in STATE
            and node["memory"] not in owned
        ):
            ids.add(id(node))
    return ids


def _above(roots: Iterable[Node], is_source: Callable[[Node], bool]) -> set[int]:
    ids: set[int] = set()
    for node in walk(*roots):
        if is_source(node) or any(id(a) in ids for a in node.args):
            ids.add(id(node))
    return ids


def _formula(
    roots: Iterable[Node], late: set[int], taken: set[int], streaming: set[int]
) -> Formula:
    """Walks down from what a tick computes: cheap operators are computed at the tick, of anything
    else its stream is taken.
    """
    out, seen = Formula(), set[int]()
    stack = [(node, False) for node in roots]
    while stack:
        node, ready = stack.pop()
        if ready:
            out.inside.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        moving = id(node) in late or id(node) in streaming or any(n.op in STATE for n in walk(node))
        cheap = node.args and (
            OPS[node.op].elementwise or node.op in ("spread", "permute", "reshape")
        )
        if id(node) in taken:
            out.taken.append(node)
        elif not moving and node.op not in ("const", "eye"):
            out.statics.append(node)
        elif id(node) in streaming and id(node) not in late and not cheap:
            out.rows.append(node)
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))
    return out


def _objective(cells: Cells, slope: Slope, streaming: set[int], online: Online) -> Formula:
    """The objective at its tick, from the terms of its stretches."""
    stretches: dict[int, tuple[Node, str, Clock | str | int]] = {}
    # in a stream, a stretch is what the network gives
    for node in walk(slope.objective) if slope.level else ():
        if node.op == "now" and node["memory"] in cells.terms:
            term, level, clock = cells.terms[node["memory"]]
            stretches[id(node)] = term, "sum", level if level == slope.level else clock
        elif node.op in ("fold", "window"):
            stretches[id(node)] = (
                node.args[0],
                node["how"],
                node["length"] if node.op == "window" else node["since"],
            )
    online.folds |= stretches
    late = _above([slope.objective], lambda n: id(n) in stretches)
    formula = _formula([slope.objective], late, set(stretches) | set(online.held), streaming)
    for node in formula.taken:
        if id(node) in stretches and id(stretches[id(node)][0]) in streaming:
            online.rows.setdefault(_row(online, stretches[id(node)][0]), stretches[id(node)][0])
    for node in formula.rows:
        online.rows.setdefault(_row(online, node), node)
    return formula


def _seen(program: Program, slope: Slope, found: list[Family]) -> list[int]:
    if not slope.level:
        return []
    learner, out, homes = (
        program.levels[slope.level],
        [],
        {c.name: f.level.name for f in found for c in f.cells},
    )
    for i, family in enumerate(found):
        far = program.horizon(learner, family.level)
        if far == "full":
            if seen_by_learners(program, family.level) != "full":
                raise Unsupported(
                    f"a level that differentiates through the updates of `{family.level.name}`, as "
                    f"`{learner.name}` does, where the step-clock levels do not",
                    span=family.level.span,
                    help="`bptt full`",
                )
            out.append(i)
        elif starts := next(
            (
                c
                for c in family.cells
                if any(homes[n["memory"]] == learner.name for n in takes(c.start))
            ),
            None,
        ):
            raise Unsupported(
                f"`{starts.name}`, which starts from `{learner.name}`, with `bptt` that hides its "
                "ticks from there",
                span=family.level.span,
                help=f"`bptt full by {learner.name.rsplit('.', 1)[-1]}`",
            )
        elif far != "none":
            raise Unsupported(
                f"`bptt` that lets `{learner.name}` see a part of the ticks of "
                f"`{family.level.name}`",
                span=family.level.span,
                help=f"`bptt full by {learner.name.rsplit('.', 1)[-1]}`, or `none`",
            )
    return out


def tick_cells(family: Family) -> list[Cell]:
    """The cells at a tick of the family: resets, copies and cuts come after it."""
    every = TOKEN
    return [
        replace(
            c, clock=every if c.clock == family.clock else c.clock, reset=NEVER, cut=None, first=0
        )
        for c in family.cells
    ]


def divide(online: Online, cells: Cells, roots: Mapping[str, Node], regions: list[Region]) -> bool:
    """What has to be run piece by piece, to `ids`, and what it takes from the rest, to `given`.

    False if nothing has to.
    """
    everything = list(walk(*roots.values(), *(c.next for r in regions for c in r.cells)))
    place = {id(n): r for r in regions for n in r.inside}
    ahead = [n for n in everything if n.op == "ahead"]
    after = _above(everything, lambda n: n.op == "ahead")
    late = {
        id(r)
        for r in regions
        if any(id(n) in after for n in [*r.inside, *r.inputs, *(c.next for c in r.cells)])
    }
    if not online.families and not late:
        return False
    seeds = (
        set(online.held)
        | {id(x) for s in online.slopes for x in s.streams.values()}
        | {id(n) for n in ahead}
    )
    ids, found = set(seeds), set(late)
    while True:
        before = len(ids) + len(found)
        for node in everything:
            if id(place.get(id(node))) in found or any(id(a) in ids for a in node.args):
                ids.add(id(node))
        for region in regions:
            if any(id(n) in ids for n in [*region.inside, *region.inputs]):
                found.add(id(region))
        if len(ids) + len(found) == before:
            break
    for node in ahead:
        if any(n.op == "ahead" for n in walk(node.args[0])):
            raise Unsupported(
                "`next` of `next` beside a memory that learns from a loss within the sequence",
                node,
                "`next` once",
            )
        if id(node.args[0]) in ids:
            raise Unsupported(
                "`next` of what a memory made that ticks by the gradient of a loss",
                node,
                "next of an input",
            )
    online.ids = ids
    taken: dict[int, Node] = {id(n.args[0]): n.args[0] for n in ahead} | {
        id(n): n for n in online.rows.values()
    }
    for item in [
        *(n for n in everything if id(n) in ids and id(n) not in place and n.op != "ahead"),
        *(r for r in regions if id(r) in found),
    ]:
        for node in item.inputs if not isinstance(item, Node) else item.args:
            taken[id(node)] = node
    moving = _streaming(everything, set(), {})
    online.given = [n for n in taken.values() if id(n) not in ids and id(n) in moving]
    program = cells.program
    _as_seen_by_all(online, cells, [r for r in regions if id(r) in found])
    online.pending = {
        c.name
        for r in regions
        if id(r) in found
        for c in r.cells
        if c.level
        and any(n.op == "ahead" for n in walk(*program.root(program.levels[c.level]).objectives))
    }
    return True


def _as_seen_by_all(online: Online, cells: Cells, regions: list[Region]) -> None:
    """A memory within a piece ticks in the one run that the families and the learners of the step
    clock differentiate.
    """
    program = cells.program
    fresh = {n["memory"] for r in regions for n in r.inside if n.op == "now"} - set(cells.terms)
    for cell in (c for r in regions for c in r.cells if c.level and c.name not in cells.terms):
        level = program.levels[cell.level]
        for family in online.families:
            if not program.slower(family.level, level):
                if (
                    level.clock.period % family.clock.period
                    or level.clock.phase % family.clock.period != family.clock.phase
                ):
                    raise Unsupported(
                        f"ticks of `{level.name}` between those of `{family.level.name}`, which is "
                        "faster",
                        span=level.span,
                        help=f"a multiple of {family.clock.period} tokens",
                    )
                if cell.name in fresh and family.slopes:
                    raise Unsupported(
                        f"a read after the tick of `{level.name}`, which `{family.level.name}` is "
                        "too fast to see through",
                        span=level.span,
                        help="read it without `@after`",
                    )
            elif program.horizon(family.level, level) != seen_by_learners(program, level):
                raise Unsupported(
                    f"`{family.level.name}` sees less of the ticks of `{level.name}` than a step "
                    "does",
                    span=level.span,
                    help="one `bptt` for all learners",
                )
