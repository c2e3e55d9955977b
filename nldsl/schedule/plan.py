"""CHECKED PROGRAM -> SCHEDULE: what is computed in what order.

streams   array equations over all tokens at once (embed, projections, norms, head)
regions   memories that tick within a sequence, with the streams that run through them; computed
          chunk by chunk
blocks    runs of streams that belong to one turn of the outermost `for` (one layer), or one region
learners  step-clock levels with the fold of the objective that they hear
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import networkx as nx

from nldsl.core.flow import takes
from nldsl.core.nodes import Node, numel, walk
from nldsl.core.ops import OPS
from nldsl.core.program import STATE, Clock, Program
from nldsl.core.timing import LOOKS_BACK
from nldsl.schedule.cells import Cell, Cells, Unsupported
from nldsl.schedule.documents import mark_ends
from nldsl.schedule.online import Online, begin, divide, families
from nldsl.schedule.step_clock import StepClock, step_clock
from nldsl.schedule.timetable import Timetable

FREE_CHUNK = 64  # tokens per piece where nothing in the text fixes a chunk


@dataclass(eq=False)
class Region:
    """Cells that tick within a sequence and all equations that lie between them."""

    cells: list[Cell]
    inside: list[Node]  # in dependence order: the equations of the cells and what is read from them
    inputs: list[Node]  # token streams computed before
    statics: list[Node]  # values without a time computed before
    outputs: list[Node]  # token streams handed on
    holds: list[tuple[str, Clock]]  # copies (cell, clock) that some read sees
    chunk: int  # tokens per piece
    fixed: bool  # does the text fix the chunk (a clock is read or resets), or the compiler?
    turn: tuple[str, ...] = ()
    name: str = ""


@dataclass(eq=False)
class Block:
    key: str
    items: list[Node | Region]
    inputs: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)
    online: bool = False  # run piece by piece, between ticks of memories that learn from it


@dataclass(frozen=True, eq=False)
class Forward:
    """What some streams take: every stream, and every memory of the token clock, in order."""

    program: Program
    cells: Cells
    outputs: dict[str, Node]  # array form of what the forward pass returns
    regions: list[Region]
    blocks: list[Block]
    online: Online | None = None


@dataclass(frozen=True, eq=False)
class Schedule:
    """Both clocks: what a step computes token by token, and what it does with it at its end."""

    program: Program
    forward: Forward
    steps: StepClock

    @property
    def table(self) -> Timetable:
        return self.steps.table


def moving(roots: Iterable[Node]) -> set[int]:
    """Ids of the nodes that have a value for each token: they reach an input or a token-clock
    memory, or look back.
    """
    ids: set[int] = set()
    for node in walk(*roots):
        if (
            node.op == "input"
            or node.op in LOOKS_BACK
            or node.op in STATE
            or any(id(a) in ids for a in node.args)
        ):
            ids.add(id(node))
    return ids


def schedule(program: Program) -> Schedule:
    """The whole schedule of a checked program. Raises Unsupported for what has no order."""
    steps = step_clock(program)
    return Schedule(program, plan(program, steps.streams), steps)


def plan(program: Program, outputs: Mapping[str, Node]) -> Forward:
    """The forward schedule that computes `outputs` (named nodes of the program) and every memory
    that they read.
    """
    cells = Cells(program)
    roots = {name: cells.array(node) for name, node in outputs.items()}
    online: Online | None = begin(cells, roots, families(cells))
    wanted = {**roots, **online.rows}
    _keep_reached(cells, wanted, {c.name for f in online.families for c in f.cells})
    for cell in (c for family in online.families for c in family.cells if c.ends):
        raise Unsupported(
            "a memory that learns from the loss of the whole network and starts anew where "
            "documents end",
            cell.next,
            "`reset every sequence`",
        )
    mark_ends(cells, wanted.values())
    links: list[tuple[str, str]] = []
    while True:
        regions, conflict = _regions(cells, wanted, links)
        if conflict is None:
            break
        links.append(conflict)
    if not divide(online, cells, wanted, regions):
        online = None
    blocks = _blocks(cells, wanted, regions, online)
    return Forward(program, cells, roots, regions, blocks, online)


def _keep_reached(cells: Cells, roots: Mapping[str, Node], ticking: set[str]) -> None:
    """Sums that only the objectives of task losses speak of are not memories of their own.

    Those in `ticking` tick between pieces.
    """
    kept: set[str] = set()
    frontier = [*roots.values()]
    while frontier:
        names = (
            {n["memory"] for n in walk(*frontier) if n.op in STATE and n["memory"] in cells.cells}
            - kept
            - ticking
        )
        kept |= names
        frontier = [x for name in names for x in (cells.cells[name].next, cells.cells[name].start)]
    cells.between = {name: c for name, c in cells.cells.items() if name in ticking}
    cells.cells = {name: c for name, c in cells.cells.items() if name in kept}


def _family(program: Program, level: str) -> str:
    while level in program.levels and program.levels[level].parent:
        level = program.levels[level].parent  # type: ignore[assignment]
    return level


def _regions(
    cells: Cells, roots: Mapping[str, Node], links: list[tuple[str, str]]
) -> tuple[list[Region], tuple[str, str] | None]:
    live = cells.cells
    everything = list(walk(*roots.values(), *(c.next for c in live.values())))
    graph: nx.DiGraph = nx.DiGraph()
    for node in everything:
        graph.add_node(id(node))
        graph.add_edges_from((id(node), id(a)) for a in node.args)
        if node.op in STATE and node["memory"] in live:
            graph.add_edge(id(node), node["memory"])
    families: dict[str, list[str]] = {}
    for cell in live.values():
        graph.add_edge(cell.name, id(cell.next))
        families.setdefault(_family(cells.program, cell.level), []).append(cell.name)
    pairs = (
        [(a, b) for names in families.values() for a, b in zip(names, names[1:])]
        + links
        + _begun_from(live)
    )
    graph.add_edges_from(pairs + [(b, a) for a, b in pairs])

    home: dict[int, int] = {}  # node id -> index of the component that holds a cell
    groups: list[list[Cell]] = []
    for component in nx.strongly_connected_components(graph):
        members = [live[m] for m in component if isinstance(m, str)]
        if members:
            members.sort(key=lambda c: list(live).index(c.name))
            for m in component:
                if not isinstance(m, str):
                    home[m] = len(groups)
            groups.append(members)
    for node in everything:  # what a replay evaluates again stands where it stands
        if node.op == "replay" and id(node) in home:
            home |= dict.fromkeys(again(node), home[id(node)])
    of_cell = {c.name: i for i, cs in enumerate(groups) for c in cs}
    token = moving([n for n in everything])
    attached = _attach(everything, home, of_cell)
    regions: list[Region] = []
    for i, members in enumerate(groups):
        wanted = {id(n) for n in walk(*(c.next for c in members))}
        inside = [
            n
            for n in everything
            if home.get(id(n)) == i
            and (id(n) in wanted or n.op in STATE)
            or attached.get(id(n)) == i
        ]
        ids = {id(n) for n in inside}
        for c in members:  # a next that does not depend on the memory itself
            if id(c.next) not in ids and c.next.op in (*STATE, "ended"):
                inside.append(c.next)
                ids.add(id(c.next))
        args = {id(a): a for n in inside for a in n.args if id(a) not in ids}
        args |= {id(c.next): c.next for c in members if id(c.next) not in ids}
        args |= {id(n): n for c in members for n in fixed_parts(c.start)}
        args = {id(f): f for a in args.values() for f in narrow(a, token, ids)}
        holds = sorted(
            {(n["memory"], n["clock"]) for n in inside if n.op == "held"},
            key=lambda h: (h[0], h[1].period, h[1].phase),
        )
        clocks = [c for _, c in holds if c.unit == "token"] + [
            c.clock for c in members if c.clock.period > 1 or c.clock.phase
        ]
        clocks += [c.reset for c in members if c.reset.unit == "token"] + [
            c.cut for c in members if c.cut is not None
        ]
        spans = [x for c in clocks for x in (c.period, c.phase) if x]
        turn = next((n.turn for n in inside if n.turn), ())
        name = _family(cells.program, members[0].level)
        regions.append(
            Region(
                members,
                inside,
                [a for a in args.values() if id(a) in token],
                [a for a in args.values() if id(a) not in token and a.op not in ("const", "eye")],
                [],
                holds,
                math.gcd(*spans) if spans else FREE_CHUNK,
                bool(spans),
                turn,
                name,
            )
        )
    _handed_on(regions, roots)
    return regions, _conflict(regions, everything)


def _begun_from(live: Mapping[str, Cell]) -> list[tuple[str, str]]:
    """A memory that starts within a sequence from what another holds by then is computed with
    it.
    """
    found = [
        (cell, node)
        for cell in live.values()
        if cell.reset.unit == "token"
        for node in takes(cell.start)
    ]
    for cell, node in found:
        if node["memory"] not in live:
            raise Unsupported(
                f"a start of `{cell.name}` from `{node['memory']}`, which learns from the loss of "
                "the network",
                cell.start,
                "an objective for both that reads `next`, or a learned start",
            )
    return [(cell.name, node["memory"]) for cell, node in found]


def fixed_parts(start: Node) -> list[Node]:
    """Of a start that is taken from another memory: the largest parts that are not."""
    if not takes(start):
        return []
    return [x for a in start.args for x in (fixed_parts(a) if takes(a) else [a])]


def _handed_on(regions: list[Region], roots: Mapping[str, Node]) -> None:
    """Outputs of each region: its values that a stream outside or another region takes."""
    place = {id(n): r for r in regions for n in r.inside}
    seen: set[int] = set()
    stack = [*roots.values(), *(n for r in regions for n in r.inputs)]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in place:
            place[id(node)].outputs.append(node)
        else:
            stack.extend(node.args)
    for region in regions:
        order = {id(n): i for i, n in enumerate(region.inside)}
        region.outputs.sort(key=lambda n: order[id(n)])


def again(node: Node) -> set[int]:
    """Of a replay: ids of what depends on the memories, and is evaluated again."""
    found: set[int] = set()
    for part in walk(node.args[0]):
        if part.op == "plain" or any(id(a) in found for a in part.args):
            found.add(id(part))
    return found


def narrow(node: Node, token: set[int], inside: set[int]) -> list[Node]:
    """The smallest values from which cheap operators make the node: a region takes `k` and `rate`,
    not `rate * k * k^T`.
    """
    return _narrow(node, token, inside)[0]


def _narrow(node: Node, token: set[int], inside: set[int]) -> tuple[list[Node], bool]:
    """And whether it is a matrix that a memory is multiplied with in parts: one with a diagonal."""
    if id(node) in inside:
        return [], False
    cheap = (
        OPS[node.op].elementwise
        or node.op in ("spread", "permute", "reshape", "diag", "eye", "const")
        or (
            node.op == "einsum"
            and set(node["eq"].split("->")[0]) - {","} <= set(node["eq"].split("->")[1])
        )
    )
    if not cheap:
        return [node], False
    below = [_narrow(a, token, inside) for a in node.args]
    parts = {id(f): f for found, _ in below for f in found}
    diagonal = node.op in ("diag", "eye") or any(d for _, d in below)
    size = sum(numel(f.type) for f in parts.values() if id(f) in token)
    if (
        diagonal
        or node.op == "const"
        or size < numel(node.type)
        or size == numel(node.type)
        and node.op == "spread"
    ):  # over axes of size 1
        return list(parts.values()), diagonal
    return [node], False


def _attach(
    everything: list[Node], home: dict[int, int], of_cell: dict[str, int]
) -> dict[int, int]:
    """Reads that belong to a region though its memories do not need them: everything from a read of
    the state up to the last operator that consumes a value of the state, so that no per-token state
    leaves the region.
    """
    state: dict[int, int] = {}  # value made of one region's state (and of nothing that moves)
    depends: dict[
        int, set[int]
    ] = {}  # regions whose state is reached without crossing another region
    consumer: dict[int, int] = {}
    for node in everything:
        if id(node) in home and node.op not in STATE:
            depends[id(node)] = {home[id(node)]}
            continue
        if node.op in STATE:
            owner = of_cell.get(node["memory"])
            if owner is not None:
                state[id(node)], depends[id(node)] = owner, {owner}
            continue
        near: set[int] = (
            set().union(*(depends.get(id(a), set()) for a in node.args)) if node.args else set()
        )
        depends[id(node)] = near
        owners = {state[id(a)] for a in node.args if id(a) in state}
        if owners:
            index = min(owners)
            consumer[id(node)] = index
            if (
                all(id(a) in state or a.op in ("const", "weight", "eye") for a in node.args)
                and len(owners) == 1
            ):
                state[id(node)] = index
                del consumer[id(node)]
    attached: dict[int, int] = {i: r for i, r in consumer.items() if i not in home}
    needed: dict[int, set[int]] = {}
    for node in reversed(everything):
        goal = needed.setdefault(id(node), set())
        if id(node) in attached:
            goal.add(attached[id(node)])
        elif goal & depends.get(id(node), set()) and id(node) not in home and id(node) not in state:
            attached[id(node)] = min(goal & depends[id(node)])
            goal = {attached[id(node)]}
        for arg in node.args:
            if id(arg) not in home or arg.op in STATE:
                needed.setdefault(id(arg), set()).update(goal)
    for node in everything:  # the reads themselves, and values made of state alone
        if id(node) in state and id(node) not in home:
            attached[id(node)] = state[id(node)]
    return attached


def _conflict(regions: list[Region], everything: list[Node]) -> tuple[str, str] | None:
    """Two regions that need each other within one instant must become one; None when the regions
    are ordered.
    """
    place = {id(n): r for r in regions for n in r.inside}
    graph: nx.DiGraph = nx.DiGraph()
    for node in everything:
        graph.add_node(place.get(id(node), id(node)))
        for arg in node.args:
            a, b = place.get(id(node), id(node)), place.get(id(arg), id(arg))
            if a is not b and a != b:
                graph.add_edge(a, b)
    for region in regions:
        for cell in region.cells:
            target = place.get(id(cell.next), id(cell.next))
            if target is not region:
                graph.add_edge(region, target)
    for component in nx.strongly_connected_components(graph):
        found = [m for m in component if isinstance(m, Region)]
        if len(found) > 1:
            return found[0].cells[0].name, found[1].cells[0].name
        if found and len(component) > 1:
            raise Unsupported(
                f"a stream between two reads of `{found[0].cells[0].name}` cannot be ordered",
                found[0].inside[0],
            )
    return None


def _blocks(
    cells: Cells, roots: Mapping[str, Node], regions: list[Region], online: Online | None
) -> list[Block]:
    """Dependence order cut into regions and runs of streams of one outermost turn; values without a
    time are left to where they are used.
    """
    order = list(
        walk(
            *roots.values(),
            *(c.next for c in cells.cells.values()),
            *(c.start for c in cells.cells.values()),
        )
    )
    token = moving(order)
    place: dict[int, Region] = {id(n): r for r in regions for n in r.inside}
    items: dict[int, Node | Region] = {}
    needs: dict[int, set[int]] = {}

    ids = online.ids if online else set[int]()
    given = {id(n) for n in order if online and (id(n) in online.held or n.op == "ahead")}

    def late(item: Node | Region) -> bool:
        return any(id(n) in ids for n in (item.inside if isinstance(item, Region) else [item]))

    def handle(node: Node) -> int | None:
        region = place.get(id(node))
        if region is not None:
            return id(region)
        return id(node) if id(node) in token and id(node) not in given else None

    wanted: set[int] = {id(n) for n in walk(*roots.values())}
    for region in regions:
        wanted |= {id(n) for x in region.inputs for n in walk(x)}
    for node in order:
        if (
            id(node) in place
            or id(node) not in token
            or id(node) not in wanted
            or id(node) in given
        ):
            continue
        items[id(node)] = node
        needs[id(node)] = {h for a in node.args if (h := handle(a)) is not None}
    for region in regions:
        items[id(region)] = region
        needs[id(region)] = {h for a in region.inputs if (h := handle(a)) is not None}
    users: dict[int, list[int]] = {}
    for key, before in needs.items():
        for b in before:
            users.setdefault(b, []).append(key)
    left = {key: len(before) for key, before in needs.items()}
    ready = [key for key in items if left[key] == 0]
    blocks: list[Block] = []
    while ready:  # streams of the current turn, then its regions, then the next turn
        current = blocks[-1].key if blocks else ""
        keys = {k: (items[k].turn[:1] or ("",))[0] for k in ready}
        pick = min(
            ready,
            key=lambda k: (
                late(items[k]),
                keys[k] != current,
                isinstance(items[k], Region),
                keys[k] == "",
            ),
        )
        alone, part = isinstance(items[pick], Region), late(items[pick])
        if (
            not blocks
            or alone
            or keys[pick] != current
            or isinstance(blocks[-1].items[-1], Region)
            or blocks[-1].online != part
        ):
            blocks.append(Block(keys[pick], [], online=part))
        blocks[-1].items.append(items[pick])
        ready.remove(pick)
        for user in users.get(pick, []):
            left[user] -= 1
            if left[user] == 0:
                ready.append(user)
    _interfaces(blocks, [*roots.values(), *(online.given if online else [])], place)
    return blocks


def _interfaces(blocks: list[Block], roots: list[Node], place: dict[int, Region]) -> None:
    made: dict[int, int] = {}
    for i, block in enumerate(blocks):
        for item in block.items:
            for node in item.outputs if isinstance(item, Region) else [item]:
                made[id(node)] = i
    for i, block in enumerate(blocks):
        used: dict[int, Node] = {}
        for item in block.items:
            for node in item.inputs if isinstance(item, Region) else item.args:
                used[id(node)] = node
        block.inputs = [n for n in used.values() if id(n) in made and made[id(n)] != i]
        for node in block.inputs:
            source = blocks[made[id(node)]]
            if node not in source.outputs:
                source.outputs.append(node)
    for root in roots:
        if id(root) in made and root not in blocks[made[id(root)]].outputs:
            blocks[made[id(root)]].outputs.append(root)
