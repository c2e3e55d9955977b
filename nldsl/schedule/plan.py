"""CHECKED PROGRAM -> SCHEDULE: what is computed in what order.

streams   array equations over all tokens at once (embed, projections, norms, head)
regions   memories that tick within a sequence, with the streams that run through them; computed
          chunk by chunk
blocks    runs of streams that belong to one iteration of the outermost `for` (one layer), or one
          region
learners  step-clock levels with the fold of the objective that they hear
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import networkx as nx

from nldsl.core.flow import takes
from nldsl.core.nodes import Node, numel, unmade, walk
from nldsl.core.ops import OPS
from nldsl.core.program import STATE, Program
from nldsl.core.timing import LOOKS_BACK, ValidFrom
from nldsl.schedule.arrangement import Arrangement, by_name, reached, unsummed, without_unread
from nldsl.schedule.collecting import collected
from nldsl.schedule.factoring import factored
from nldsl.schedule.online import Online, begin, divide, families
from nldsl.schedule.stacking import stacked
from nldsl.schedule.step_clock import StepClock
from nldsl.schedule.timetable import Timetable
from nldsl.schedule.token_states import State, States, seen_by_steps, states
from nldsl.schedule.turning import turned
from nldsl.schedule.weighing import weighed

FREE_CHUNK = 64  # tokens per piece where nothing in the text fixes a chunk


@dataclass(eq=False)
class Region:
    """States that move within a sequence and all equations that lie between them."""

    states: list[State]  # copies are the last
    inside: list[Node]  # in dependence order: the states' equations and what is read from them
    inputs: list[Node]  # token streams computed before
    statics: list[Node]  # values without a time computed before
    outputs: list[Node]  # token streams handed on
    chunk: int  # tokens per piece
    fixed: bool  # does the text fix the chunk (a clock is read or resets), or the compiler?
    iteration: tuple[str, ...] = ()
    name: str = ""

    @property
    def ticking(self) -> list[State]:
        """Those that tick: all but copies."""
        return [state for state in self.states if not state.copies]

    @property
    def copies(self) -> frozenset[str]:
        """Names of the others, which stand still in a piece."""
        return frozenset(state.name for state in self.states if state.copies)


Item = Node | Region


@dataclass(eq=False)
class Block:
    key: str
    items: list[Item]
    inputs: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)
    online: bool = False  # run piece by piece, between ticks of memories that learn from it


@dataclass(frozen=True, eq=False)
class Forward:
    """What some streams take: every stream, and every memory of the token clock, in order."""

    program: Program
    states: Mapping[str, State]  # those that a stream reaches, computed in regions
    between: Mapping[str, State]  # those that tick between runs of the network, not in one
    outputs: Mapping[str, Node]  # array form of what the forward pass returns
    regions: list[Region]
    blocks: list[Block]
    names: Mapping[Node, str]  # what the text calls a value
    valid_from: ValidFrom
    arranged: Mapping[Region, Arrangement]  # where it is not computed as it is written
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


def moving(roots: Iterable[Node]) -> set[Node]:
    """Ids of the nodes that have a value for each token: they reach an input or a token-clock
    memory, or look back.
    """
    ids: set[Node] = set()
    for node in walk(*roots):
        if (
            node.op == "input"
            or node.op in LOOKS_BACK
            or node.op in STATE
            or any(a in ids for a in node.args)
        ):
            ids.add(node)
    return ids


def schedule(made: States, steps: StepClock) -> Schedule:
    """The whole schedule of a program's states."""
    return Schedule(made.program, forward(made), steps)


def plan(program: Program, outputs: Mapping[str, Node]) -> Forward:
    """The forward schedule that computes `outputs` (named nodes of the program) and every memory
    that they read.
    """
    return forward(states(program, outputs))


def forward(made: States) -> Forward:
    """The forward schedule of the outputs of these states."""
    seen = seen_by_steps(made)
    online = begin(made, seen, families(made, seen))
    wanted = {**made.outputs, **online.rows}
    between = {s.name: s for f in online.families for s in (*f.states, *f.copies)}
    live = _reached(seen, wanted, between)
    links: list[tuple[str, str]] = []
    while True:
        regions, conflict = _regions(made.program, live, wanted, links)
        if conflict is None:
            break
        links.append(conflict)
    divided = online if divide(online, made, live, wanted, regions) else None
    blocks = _blocks(live, wanted, regions, divided)
    arranged = {r: found for r in regions if (found := _arranged(made, r)) is not None}
    names = {node: name for found in arranged.values() for node, name in found.names.items()}
    return Forward(
        made.program,
        live,
        between,
        made.outputs,
        regions,
        blocks,
        {**names, **made.names},
        made.valid_from,
        arranged,
        divided,
    )


def _arranged(made: States, region: Region) -> Arrangement | None:
    """How a region is computed, if not as it is written."""
    given = [*region.inputs, *region.statics]
    known = frozenset(given)
    equations = by_name(region.states, known)
    roots = [*region.outputs, *(x for s in equations for x in (s.after, s.next))]
    taken = [*region.outputs, *(s.after for s in equations)]
    once = {x: x for x in given}
    types = {s.type for s in region.states}
    once |= collected(reached(roots, known), taken, types, region.inputs)
    of = factored(reached([once[x] for x in roots], known), [once[x] for x in taken])
    of = {node: of.get(made, made) for node, made in once.items()}
    again = reached([of[x] for x in roots], known), [of[x] for x in taken]
    heads = weighed(*again, region.statics, region.copies)
    of = {node: heads.get(made, made) for node, made in of.items()}
    states = tuple(replace(s, after=of[s.after], next=of[s.next]) for s in equations)
    outputs = tuple(of[x] for x in region.outputs)
    names = {**made.names, **{of[n]: made.names[n] for n in of if n in made.names}}
    inside = reached([*outputs, *(x for s in states for x in s.equations)], known)
    plain = turned(Arrangement(states, inside, outputs, names=names), known)
    found = stacked(made.program, plain, given) or plain
    found = without_unread(found, known)
    same = all(new is old for old, new in of.items()) and all(
        s.after is own.after for s, own in zip(states, region.states)
    )
    rewritten = found.members or found.late or found.turned
    return None if same and not rewritten else found


def _reached(
    states: Mapping[str, State], roots: Mapping[str, Node], between: Mapping[str, State]
) -> dict[str, State]:
    """The states that the roots read, in their order. Sums that only the objectives of task losses
    speak of are not memories of their own, and what ticks between pieces is not among them.
    """
    kept: set[str] = set()
    frontier = [*roots.values()]
    while frontier:
        read = {n["memory"] for n in walk(*frontier) if n.op in STATE and n["memory"] in states}
        read |= {states[name].copies for name in read} - {""}
        read -= kept | set(between)
        kept |= read
        frontier = [x for name in read for x in (*states[name].equations, states[name].start)]
    return {name: state for name, state in states.items() if name in kept}


def _root(program: Program, level: str) -> str:
    while level in program.levels and program.levels[level].parent:
        level = program.levels[level].parent  # type: ignore[assignment]
    return level


def _regions(
    program: Program,
    live: Mapping[str, State],
    roots: Mapping[str, Node],
    links: list[tuple[str, str]],
) -> tuple[list[Region], tuple[str, str] | None]:
    """Regions, and two that must become one, if there are such."""
    everything = list(walk(*roots.values(), *(x for s in live.values() for x in s.equations)))
    groups, home = _needing_each_other(program, live, everything, links)
    of_state = {s.name: i for i, members in enumerate(groups) for s in members}
    token, attached = moving(everything), _attach(everything, home, of_state)
    regions = []
    for i, members in enumerate(groups):
        wanted = set(walk(*(x for s in members for x in s.equations)))
        inside = [
            n
            for n in everything
            if home.get(n) == i and (n in wanted or n.op in STATE) or attached.get(n) == i
        ]
        regions.append(_region(program, members, inside, token))
    _handed_on(regions, roots)
    return regions, _conflict(regions, everything)


def _needing_each_other(
    program: Program,
    live: Mapping[str, State],
    everything: Iterable[Node],
    links: list[tuple[str, str]],
) -> tuple[list[list[State]], dict[Node, int]]:
    """Groups of states that need each other within an instant, or belong together as memories of
    one level, sums outside levels of one iteration, copies, or what is linked; and of a node on the
    way between them, which group.
    """
    graph: nx.DiGraph[Node | str] = nx.DiGraph()
    for node in everything:
        graph.add_node(node)
        graph.add_edges_from((node, a) for a in node.args)
        if node.op in STATE and node["memory"] in live:
            graph.add_edge(node, node["memory"])
    levels: dict[str, list[str]] = {}
    for state in live.values():
        graph.add_edges_from((state.name, x) for x in state.equations)
        place = _root(program, state.level) or str(state.after.iteration[:1])
        levels.setdefault(place, []).append(state.name)
    pairs = [(a, b) for names in levels.values() for a, b in zip(names, names[1:])]
    pairs += [*links, *_begun_from(live)]
    pairs += [(state.name, state.copies) for state in live.values() if state.copies]
    graph.add_edges_from(pairs + [(b, a) for a, b in pairs])

    home: dict[Node, int] = {}
    groups: list[list[State]] = []
    order = {name: i for i, name in enumerate(live)}
    for component in nx.strongly_connected_components(graph):
        if members := sorted((m for m in component if isinstance(m, str)), key=order.__getitem__):
            home |= dict.fromkeys((m for m in component if isinstance(m, Node)), len(groups))
            groups.append([live[m] for m in members])
    for node in [n for n in home if n.op == "replay"]:  # what is evaluated again stands there too
        home |= dict.fromkeys(again(node), home[node])
    return groups, home


def _region(program: Program, members: list[State], inside: list[Node], token: set[Node]) -> Region:
    own = set(inside)
    for state in members:  # a tick that does not depend on the memory itself
        if not state.copies and state.tick not in own and state.tick.op in STATE:
            inside.append(state.tick)
            own.add(state.tick)
    args = [a for n in inside for a in n.args if a not in own]
    args += [x for s in members for x in s.equations if x not in own]
    args += [n for s in members if s.restarts and takes(s.start) for n in fixed_parts(s.start)]
    starts = [s.start for s in members if s.restarts and not takes(s.start)]
    taken = narrow(args, token, own)
    fixed = [a for a in taken if a not in token and a.op not in ("const", "eye")]
    used = {n["memory"] for n in inside if n.op in STATE}
    copies = [s for s in members if s.copies and s.name in used]
    copies.sort(key=lambda s: (s.copies, s.at.period, s.at.phase))
    states = [*(s for s in members if not s.copies), *copies]
    spans = [x for s in states for c in s.instants for x in (c.period, c.phase) if x]
    return Region(
        states,
        inside,
        [a for a in taken if a in token],
        [*dict.fromkeys([*fixed, *starts])],
        [],
        math.gcd(*spans) if spans else FREE_CHUNK,
        bool(spans),
        next((n.iteration for n in inside if n.iteration), ()),
        _root(program, members[0].level) or members[0].name,
    )


def _begun_from(live: Mapping[str, State]) -> list[tuple[str, str]]:
    """A memory that starts within a sequence from what another holds by then is computed with
    it.
    """
    found = [
        (state, node) for state in live.values() if state.restarts for node in takes(state.start)
    ]
    for state, node in found:
        assert node["memory"] in live, "limits, task_starts"
    return [(state.name, node["memory"]) for state, node in found]


def fixed_parts(start: Node) -> list[Node]:
    """The largest parts of a start that are not taken from another memory."""
    return [x for a in start.args for x in fixed_parts(a)] if takes(start) else [start]


def _handed_on(regions: list[Region], roots: Mapping[str, Node]) -> None:
    """Outputs of each region: its values that a stream outside or another region takes."""
    place = {n: r for r in regions for n in r.inside}
    seen: set[Node] = set()
    stack = [*roots.values(), *(n for r in regions for n in r.inputs)]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in place:
            place[node].outputs.append(node)
        else:
            stack.extend(node.args)
    for region in regions:
        order = {n: i for i, n in enumerate(region.inside)}
        region.outputs.sort(key=lambda n: order[n])


def again(node: Node) -> set[Node]:
    """Of a replay: ids of what depends on the memories, and is evaluated again."""
    found: set[Node] = set()
    for part in walk(node.args[0]):
        if part.op == "plain" or any(a in found for a in part.args):
            found.add(part)
    return found


def narrow(nodes: Iterable[Node], token: set[Node], inside: set[Node]) -> list[Node]:
    """The smallest values from which cheap operators make the nodes: a region takes `k` and `rate`,
    not `rate * k * k^T`.
    """
    found: dict[Node, list[Node]] = {}
    asked = dict.fromkeys(nodes)

    def parts(x: Node) -> tuple[Node, ...]:
        return x.args if x not in inside and _cheap(x) else ()

    for top in (x for node in asked for x in unmade(node, found.get, parts)):
        below = [*dict.fromkeys(x for a in parts(top) for x in found[a])]
        size, whole = sum(numel(x.shape) for x in below if x in token), numel(top.shape)
        one = size == whole and top.op == "spread"  # over axes of size 1
        less = _cheap(top) and (top.op == "const" or size < whole or one)
        found[top] = [] if top in inside else below if less else [top]
    return [*dict.fromkeys(x for node in asked for x in found[node])]


def _cheap(node: Node) -> bool:
    apart = ("spread", "permute", "reshape", "diag", "eye", "const")
    return OPS[node.op].elementwise or node.op in apart or unsummed(node)


def _attach(
    everything: list[Node], home: Mapping[Node, int], of_state: Mapping[str, int]
) -> dict[Node, int]:
    """Reads that belong to a region though its memories do not need them: everything from a read of
    the state up to the last operator that consumes a value of the state, so that no per-token state
    leaves the region.
    """
    state: dict[Node, int] = {}  # a value made of one region's state, and of nothing that moves
    depends: dict[Node, set[int]] = {}  # regions whose state is reached, crossing no other region
    attached: dict[Node, int] = {}
    whole: dict[Node, int] = {}  # of those, a state whose entries something weighs
    states = ChainMap(whole, state)
    for node in everything:
        if node in home and node.op not in STATE:
            depends[node] = {home[node]}
        elif node.op in STATE:
            owner = of_state.get(node["memory"])
            if owner is not None:
                state[node], depends[node] = owner, {owner}
        else:
            depends[node] = {r for a in node.args for r in depends.get(a, ())}
            owners = {state[a] for a in node.args if a in state}
            still = all(a in state or a.op in ("const", "weight", "eye") for a in node.args)
            if len(owners) == 1 and still:
                state[node] = min(owners)
            elif owners := owners or {whole[a] for a in node.args if _less(node, a, whole)}:
                attached[node] = min(owners)
                whole |= {node: min(owners)} if _weighed(node, states) else {}
    needed: dict[Node, set[int]] = {}
    for node in reversed(everything):
        goal = needed.setdefault(node, set())
        near = goal & depends.get(node, set())
        if node in attached:
            goal.add(attached[node])
        elif near and node not in home and node not in state:
            attached[node] = min(near)
            goal = {attached[node]}
        for arg in node.args:
            if arg not in home or arg.op in STATE:
                needed.setdefault(arg, set()).update(goal)
    # the reads themselves, and values made of state alone
    return attached | {n: r for n, r in state.items() if n not in home}


def _weighed(node: Node, states: Collection[Node]) -> bool:
    """Is it one of these states, weighed by what has fewer entries?"""
    others = [a for a in node.args if a not in states]
    return OPS[node.op].elementwise and all(a.op == "spread" or not a.type for a in others)


def _less(node: Node, arg: Node, states: Collection[Node]) -> bool:
    """Does a stream make one of these states smaller, or weigh it?"""
    smaller = numel(node.shape) < numel(arg.shape) and all(a.op != "weight" for a in node.args)
    return arg in states and (smaller or _weighed(node, states))


def _conflict(regions: list[Region], everything: list[Node]) -> tuple[str, str] | None:
    """Two regions that need each other within one instant must become one; None when the regions
    are ordered.
    """
    place = {n: r for r in regions for n in r.inside}
    graph: nx.DiGraph[Item] = nx.DiGraph()
    for node in everything:
        graph.add_node(place.get(node, node))
        for arg in node.args:
            a, b = place.get(node, node), place.get(arg, arg)
            if a is not b and a != b:
                graph.add_edge(a, b)
    for region in regions:
        for equation in (x for s in region.states for x in s.equations):
            target = place.get(equation, equation)
            if target is not region:
                graph.add_edge(region, target)
    for component in nx.strongly_connected_components(graph):
        found = [m for m in component if isinstance(m, Region)]
        if len(found) > 1:
            return found[0].states[0].name, found[1].states[0].name
        assert not found or len(component) == 1, found[0].states[0].name
    return None


def _blocks(
    live: Mapping[str, State],
    roots: Mapping[str, Node],
    regions: list[Region],
    online: Online | None,
) -> list[Block]:
    """Dependence order cut into regions and runs of streams of one outermost iteration; values
    without a time are left to where they are used.
    """
    moved = (x for s in live.values() for x in (*s.equations, s.start))
    order = list(walk(*roots.values(), *moved))
    place = {n: r for r in regions for n in r.inside}
    late = online.ids if online else set[Node]()
    given = {n for n in order if online and (n in online.held or n.op == "ahead")}
    streams = moving(order) - given

    def made_by(nodes: Iterable[Node]) -> set[Item]:
        return {place.get(n) or n for n in nodes if n in place or n in streams}

    wanted = set(walk(*roots.values(), *(x for r in regions for x in r.inputs)))
    items = [n for n in order if n in streams and n in wanted and n not in place]
    needs: dict[Item, set[Item]] = {n: made_by(n.args) for n in items}
    needs |= {r: made_by(r.inputs) for r in regions}
    blocks: list[Block] = []
    for item in _by_iteration(needs, late):
        part, iteration = _is_late(item, late), _iteration(item)
        if (
            not blocks
            or isinstance(item, Region)
            or iteration != blocks[-1].key
            or isinstance(blocks[-1].items[-1], Region)
            or blocks[-1].online != part
        ):
            blocks.append(Block(iteration, [], online=part))
        blocks[-1].items.append(item)
    _interfaces(blocks, [*roots.values(), *(online.given if online else [])])
    return blocks


def _by_iteration(needs: Mapping[Item, set[Item]], late: set[Node]) -> Iterator[Item]:
    """Streams of the current iteration, then its regions, then the next iteration; the late ones
    last.
    """
    users: dict[Item, list[Item]] = {}
    for item, before in needs.items():
        for other in before:
            users.setdefault(other, []).append(item)
    left = {item: len(before) for item, before in needs.items()}
    ready = [item for item in needs if left[item] == 0]
    current = ""
    while ready:
        pick = min(
            ready,
            key=lambda item: (
                _is_late(item, late),
                _iteration(item) != current,
                isinstance(item, Region),
                _iteration(item) == "",
            ),
        )
        yield pick
        current = _iteration(pick)
        ready.remove(pick)
        for user in users.get(pick, []):
            left[user] -= 1
            if left[user] == 0:
                ready.append(user)


def _iteration(item: Item) -> str:
    return item.iteration[0] if item.iteration else ""


def _is_late(item: Item, late: set[Node]) -> bool:
    return any(n in late for n in (item.inside if isinstance(item, Region) else [item]))


def _interfaces(blocks: list[Block], roots: list[Node]) -> None:
    made = {
        node: i
        for i, block in enumerate(blocks)
        for item in block.items
        for node in (item.outputs if isinstance(item, Region) else [item])
    }
    for i, block in enumerate(blocks):
        used = dict.fromkeys(
            node
            for item in block.items
            for node in (item.inputs if isinstance(item, Region) else item.args)
        )
        block.inputs = [n for n in used if n in made and made[n] != i]
        for node in block.inputs:
            source = blocks[made[node]]
            if node not in source.outputs:
                source.outputs.append(node)
    for root in roots:
        if root in made and root not in blocks[made[root]].outputs:
            blocks[made[root]].outputs.append(root)
