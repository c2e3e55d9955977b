"""How the equations of a region are computed, where not as they are written.

turning.py     a memory that is asked over the axis before its last is turned
collecting.py  a tick is a sum in which each thing stands once
factoring.py   products with one matrix that are added are one product
weighing.py    a held matrix is weighed, where a weighed sum of its answers is taken
stacking.py    memories that obey the same equations are one, with an axis more
here           a state that nothing reads is worked out once, after the last token
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nldsl.core.build import Builder
from nldsl.core.nodes import Node, numel
from nldsl.core.ops import OPS
from nldsl.core.program import STATE
from nldsl.schedule.token_states import State


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A region's equations, rewritten. `members`: of a stacked state, those that it holds side by
    side along its axis `heads[name]`. `inside` and `outputs` stand for those of the region; `names`
    has what the text calls the new values. `late`: the equations of the states that nothing reads,
    over `rows`, of which the last token is handed on.
    """

    states: tuple[State, ...]
    inside: tuple[Node, ...]
    outputs: tuple[Node, ...]
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[Node, str] = field(default_factory=dict)
    late: Mapping[str, Node] = field(default_factory=dict)
    rows: tuple[Node, ...] = ()
    turned: frozenset[str] = frozenset()  # states that it holds the other way round

    @property
    def carried(self) -> tuple[State, ...]:
        """The states that a piece takes from the one before."""
        return tuple(s for s in self.states if s.name not in self.late)

    def described(self) -> str:
        """What the report says of it."""
        counts = dict.fromkeys(len(names) for names in self.members.values())
        return "".join(f", {count} equal memories as one" for count in counts)


def reached(roots: Sequence[Node], given: Collection[Node]) -> tuple[Node, ...]:
    """What the roots take, arguments first, up to what is given."""
    found: dict[Node, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            found[node] = None
        elif node not in found and node not in given:
            stack.append((node, True))
            stack += [(arg, False) for arg in reversed(node.args)]
    return tuple(found)


def by_name(states: Sequence[State], given: Collection[Node]) -> tuple[State, ...]:
    """What a memory has become is read from it, where another's equation repeats how."""
    al, made = Builder(OPS), {node: node for node in given}
    ticks = {s.after: s for s in states if s.after.args and s.after not in made}

    def taken(node: Node) -> Node:
        state = ticks.get(node)
        if state is None:
            return made[node]
        return al.make("now", type=state.type, memory=state.name)

    for node in reached([s.after for s in states], given):
        args = [taken(a) for a in node.args]
        same = all(a is b for a, b in zip(args, node.args, strict=True))
        made[node] = node if same else al.again(node, args)
    return tuple(replace(s, after=made[s.after]) for s in states)


def without_unread(of: Arrangement, given: Collection[Node]) -> Arrangement:
    """States that nothing reads, such as a momentum that has no past, leave the loop over pieces,
    where what they are made of is smaller than they are.
    """
    late: dict[str, Node] = {}
    rows: dict[Node, None] = {}
    moving = {s.name for s in of.states if not s.copies}
    for state in unread(of):
        parts = made_of(state.tick, given, numel(state.type))
        moved = (n for n in reached(parts, given) if n.op in STATE and n["memory"] in moving)
        if any(moved) or sum(numel(x.shape) for x in parts) * 2 > numel(state.type):
            continue
        late[state.name] = state.tick
        rows |= dict.fromkeys(x for x in parts if x not in given)
    if not late:
        return of
    return in_place(replace(of, late=late, rows=tuple(rows)), given)


def unread(of: Arrangement) -> list[State]:
    """Those of which only the value after a tick is taken, at every token."""
    read = {n["memory"] for n in of.inside if n.op == "read"} | {s.copies for s in of.states}
    return [
        s
        for s in of.states
        if s.name not in read and not s.copies and s.after is s.tick and left(s) and s.level
    ]


def left(state: State) -> bool:
    """Is what an instant leaves of it what its tick made?"""
    node = state.next
    while node.op == "when" and node["clock"].unit == "sequence":
        node = node.args[1]
    return node.op == "now" and node["memory"] == state.name


def made_of(node: Node, given: Collection[Node], size: int) -> list[Node]:
    """The values smaller than `size` of which operators that sum nothing make it."""
    met: dict[Node, bool] = {}  # in which order, and whether it is one of them
    stack = [node]
    while stack:
        top = stack.pop()
        if top.op != "const" and top not in met:
            cheap = OPS[top.op].elementwise or top.op in ("spread", "permute") or unsummed(top)
            met[top] = top in given or not cheap or not top.args or numel(top.shape) < size
            stack += [] if met[top] else reversed(top.args)
    return [x for x, found in met.items() if found]


def unsummed(node: Node) -> bool:
    """Is it a product that sums nothing?"""
    if node.op != "einsum":
        return False
    factors, out = node["eq"].split("->")
    return set(factors) - {","} <= set(out)


def in_place(of: Arrangement, given: Collection[Node]) -> Arrangement:
    """The equations with what a late state becomes in the place of its name."""
    al, made = Builder(OPS), {node: node for node in given}
    roots = [*of.outputs, *of.rows, *(x for s in of.states for x in (s.after, s.next))]
    order = reached([*roots, *of.late.values()], given)

    def anew(node: Node) -> Node:
        if node.op == "now" and node["memory"] in of.late:
            return made[of.late[node["memory"]]]
        args = [made[a] for a in node.args]
        same = all(a is b for a, b in zip(args, node.args, strict=True))
        return node if same else al.again(node, args)

    waiting = [*reversed(order)]
    while waiting:
        node = waiting[-1]
        after = of.late.get(node["memory"]) if node.op == "now" else None
        needs = [x for x in (*node.args, *([after] if after is not None else [])) if x not in made]
        if needs:
            waiting += needs
        else:
            made.setdefault(waiting.pop(), anew(node))
    states = tuple(
        s if s.name in of.late else replace(s, after=made[s.after], next=made[s.next])
        for s in of.states
    )
    outputs, rows = (tuple(made[x] for x in xs) for xs in (of.outputs, of.rows))
    kept = [x for s in states if s.name not in of.late for x in s.equations]
    return replace(
        of,
        states=states,
        inside=reached([*outputs, *rows, *kept], given),
        outputs=outputs,
        rows=rows,
        late={name: made[x] for name, x in of.late.items()},
        names={**of.names, **{made[n]: of.names[n] for n in made if n in of.names}},
    )
