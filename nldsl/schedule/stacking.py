"""EQUAL MEMORIES OF ONE REGION -> ONE MEMORY with an axis more.

    M_k.M    after  add(mul(keep, read(M_k.M)), .. read(M_k.M@near) ..)       n lanes, equal but
    M_v.M    after  add(mul(keep, read(M_v.M)), .. read(M_v.M@near) ..)       for their own names
    M        after  add(mul(keep, read(M)), .. read(M@near) ..)               [head, n, ..]

A lane is what one level and those within it hold. Lanes are stacked where their equations are the
same up to names and none reads what another holds at the same instant (a held copy it may). What
they compute alike is computed once, for all of them, also where the text reads it lane by lane;
what differs and moves no lane is put side by side. The axis stands behind the axes of `per`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from nldsl.core.build import Builder
from nldsl.core.nodes import Axis, Node, Shape
from nldsl.core.ops import OPS
from nldsl.core.program import STATE, Program
from nldsl.core.timing import LOOKS_BACK
from nldsl.schedule.arrangement import Arrangement, reached, unsummed
from nldsl.schedule.token_states import State

Lane = tuple[State, ...]
Key = tuple[Hashable, ...]


def stacked(program: Program, of: Arrangement, given: Sequence[Node]) -> Arrangement | None:
    """A region with its equal memories as one, or None where it has none. `given` are values that
    were computed before.
    """
    states, names = of.states, of.names
    known, lanes = frozenset(given), lanes_of(program, states)
    shared = taken_by_several(lanes, known)
    groups = [g for g in alike(lanes, known, shared) if apart(g, states, known)]
    if not groups:
        return None
    found = Stacking(program, groups, known, shared, names).region(states, of.outputs)
    return found and replace(found, names={**names, **found.names}, turned=of.turned)


# -- which lanes are equal


def lanes_of(program: Program, states: Sequence[State]) -> list[Lane]:
    lanes: dict[str, list[State]] = {}
    for state in states:
        if state.level:
            lanes.setdefault(program.root(program.levels[state.level]).name, []).append(state)
    return [tuple(lane) for lane in lanes.values()]


def taken_by_several(lanes: Sequence[Lane], given: frozenset[Node]) -> frozenset[Node]:
    """What the equations of more than one lane take, but for states as they are."""
    counts: Counter[Node] = Counter()
    for lane in lanes:
        counts.update(reached([x for s in lane for x in (s.after, s.next)], given))
    return frozenset(n for n, count in counts.items() if count > 1 and n.op not in STATE)


def alike(
    lanes: Sequence[Lane], given: frozenset[Node], shared: frozenset[Node]
) -> list[list[Lane]]:
    """Lanes, by what they compute."""
    groups: dict[Key, list[Lane]] = {}
    known: dict[Key, int] = {}
    for lane in lanes:
        groups.setdefault(pattern(lane, given, shared, known), []).append(lane)
    return [group for group in groups.values() if len(group) > 1]


def pattern(
    lane: Lane, given: frozenset[Node], shared: frozenset[Node], known: dict[Key, int]
) -> Key:
    """What a lane computes, its own states counted and all that takes none of them left open.
    `known`: equations met in any lane, each with its number.
    """
    places = {s.name: i for i, s in enumerate(lane)}
    keys: dict[Node, int] = {}  # of what takes the lane's states, which key

    def of(node: Node) -> Hashable:
        return keys.get(node, node.type)

    for node in reached([x for s in lane for x in (s.after, s.next)], given):
        own = node.op in STATE and node["memory"] in places
        if own or node not in shared and any(a in keys for a in node.args):
            attrs = (places[node["memory"]],) if own else node.attrs
            key = (node.op, attrs, node.type, *map(of, node.args))
            keys[node] = known.setdefault(key, len(known))
    return tuple((s.type, s.at, places.get(s.copies, -1), of(s.after), of(s.next)) for s in lane)


def apart(group: Sequence[Lane], states: Sequence[State], given: frozenset[Node]) -> bool:
    """Does no lane take what another holds within the same instant?"""
    after = {s.name: s.after for s in states}
    home = {s.name: i for i, lane in enumerate(group) for s in lane if not s.copies}
    for i, lane in enumerate(group):
        met = {s.name for s in lane}
        waiting = [s.after for s in lane if not s.copies]
        while waiting:
            for node in reached([waiting.pop()], given):
                if node.op not in STATE or node["memory"] in met:
                    continue
                if home.get(node["memory"], i) != i:
                    return False
                met.add(node["memory"])
                if node.op == "now":
                    waiting.append(after[node["memory"]])
    return True


def common(names: Sequence[str]) -> str:
    """What several names have in common: their first parts, and their last."""
    rows = [name.split(".") for name in names]
    first = in_front(rows)
    last = in_front([row[len(first) :][::-1] for row in rows])[::-1]
    return ".".join([*first, *last])


def in_front(rows: Sequence[Sequence[str]]) -> list[str]:
    return [parts[0] for parts in takewhile(lambda x: len(set(x)) == 1, zip(*rows))]


# -- the equations over all lanes


@dataclass
class Stacking:
    """Makes the equations of stacked lanes.

    lifted    a value and its siblings, one a lane, are one value with an axis for the lanes
    alone     a value on its own: a place of that axis, if it has siblings
    beside    values, one a lane, side by side: by one equation where they have the same one
    """

    program: Program
    groups: Sequence[Sequence[Lane]]
    given: frozenset[Node]
    shared: frozenset[Node]
    names: Mapping[Node, str]
    al: Builder = field(default_factory=lambda: Builder(OPS))
    copies: set[str] = field(default_factory=set)
    places: dict[str, tuple[Key, int, int]] = field(default_factory=dict)  # key, group, lane
    called: dict[Key, str] = field(default_factory=dict)  # of the states of a group, the new name
    kin: dict[Node, tuple[Key, int, int]] = field(default_factory=dict)
    rows: dict[Key, dict[int, Node]] = field(default_factory=dict)  # by lane
    made: dict[Key, Node] = field(default_factory=dict)
    alone: dict[Node, Node] = field(default_factory=dict)
    moving: dict[Node, bool] = field(default_factory=dict)  # takes a lane's state, not a copy?

    def region(self, states: Sequence[State], outputs: Sequence[Node]) -> Arrangement | None:
        self.copies = {s.name for s in states if s.copies}
        for g, group in enumerate(self.groups):
            for parts in zip(*group, strict=True):
                key: Key = (g, common([s.name for s in parts]))
                self.called[key] = str(key[1])
                self.places |= {s.name: (key, g, i) for i, s in enumerate(parts)}
        if len(set(self.called.values()) | {s.name for s in states}) != len(self.called) + len(
            states
        ):
            return None
        self.relate([*outputs, *(x for s in states for x in (s.after, s.next))])
        return self.rewritten(states, outputs)

    def rewritten(self, states: Sequence[State], outputs: Sequence[Node]) -> Arrangement | None:
        members, heads, made = {}, {}, {}
        for g, group in enumerate(self.groups):
            for parts in zip(*group, strict=True):
                state = self.state(g, parts)
                made[parts[0].name] = state
                members[state.name] = tuple(s.name for s in parts)
                heads[state.name] = self.at(g, parts[0].type)
        whole = []
        for s in states:
            if s.name in made:
                whole.append(made[s.name])
            elif s.name not in self.places:
                after, then = self.alone[s.after], self.alone[s.next]
                whole.append(replace(s, after=after, next=then))
        wanted = tuple(self.alone[x] for x in outputs)
        equations = (x for s in whole for x in s.equations)
        inside = reached([*wanted, *equations], self.given)
        if any(n.op in (*LOOKS_BACK, "replay") for old, n in self.alone.items() if n is not old):
            return None  # what is kept of a stream is kept by its name
        if any(self.taken_apart(n) for n in inside):
            return None
        return Arrangement(tuple(whole), inside, wanted, members, heads, self.spoken())

    def state(self, g: int, parts: tuple[State, ...]) -> State:
        first = parts[0]
        key = self.places[first.name][0]
        copies = self.called[self.places[first.copies][0]] if first.copies else ""
        return State(
            self.called[key],
            self.wide(g, first.type),
            first.level,
            self.side_by_side(g, [s.start for s in parts]),
            self.beside(g, [s.after for s in parts]),
            self.beside(g, [s.next for s in parts]),
            first.memory,
            copies,
            first.at,
        )

    def taken_apart(self, node: Node) -> bool:
        """Is it one lane of what matrices are as they tick, and not of what they answered?"""
        if node.op != "select" or not self.moving.get(node.args[0]):
            return False
        stack = [node.args[0]]
        while stack:
            part = stack.pop()
            if part.op in STATE and self.moving.get(part) and len(part.shape) > node["dim"] + 2:
                return True
            if part.op != "einsum":
                stack.extend(part.args)
        return False

    def spoken(self) -> dict[Node, str]:
        """What the text calls the new values: what the first lane is called."""
        found = {}
        for key, row in self.rows.items():
            if key in self.made and row[min(row)] in self.names:
                found[self.made[key]] = self.names[row[min(row)]]
        for old, new in self.alone.items():
            if old in self.names and new is not old:
                found.setdefault(new, self.names[old])
        return found

    # -- siblings, in dependence order

    def relate(self, roots: Sequence[Node]) -> None:
        """Finds the values that are the same of each lane, then makes all values anew."""
        order = reached(roots, self.given)
        for node in order:
            if (found := self.kind(node)) is not None:
                self.kin[node] = found
                self.rows.setdefault(found[0], {})[found[2]] = node
        self.kin = {
            n: k for n, k in self.kin.items() if len(self.rows[k[0]]) == len(self.groups[k[1]])
        }
        self.alone = {node: node for node in self.given}
        for node in order:
            self.alone[node] = self.anew(node)

    def kind(self, node: Node) -> tuple[Key, int, int] | None:
        """What a value has in common with its siblings, of which group, and its own lane."""
        if node.op in STATE:
            found = self.places.get(node["memory"])
            return None if found is None else ((node.op, *found[0]), *found[1:])
        own = self.own(node)
        places = {self.kin[a][1:] for a, lane in zip(node.args, own) if lane}
        if len(places) != 1:
            return None
        ((g, lane),) = places
        if not self.fits(g, node, own):
            return None
        args = [self.kin[a][0] if lane else a for a, lane in zip(node.args, own)]
        return (node.op, node.attrs, node.type, *args), g, lane

    def own(self, node: Node) -> list[bool]:
        """Which arguments of a value are its lane's: not what other lanes take as it is."""
        return [a in self.kin and (a not in self.shared or node in self.shared) for a in node.args]

    def fits(self, g: int, node: Node, lanes: Sequence[bool]) -> bool:
        """Is there one equation for all lanes, if these arguments have one each?"""
        if node.op == "reshape":
            old, new = node.args[0].shape, node.shape
            at = self.at(g, new)
            return self.at(g, old) == at and old[:at] == new[:at]
        if node.op == "when":
            return not any(lanes[2:])
        return OPS[node.op].elementwise or node.op in LIFTED

    def anew(self, node: Node) -> Node:
        """A value on its own."""
        if node in self.kin:
            key, g, lane = self.kin[node]
            if key not in self.made:
                self.made[key] = self.lifted(node, key, g)
            found = self.al.make(
                "select", self.made[key], type=node.type, dim=self.at(g, node.shape), index=lane
            )
            self.moving[found] = self.moving.get(self.made[key], False)
            return found
        args = [self.alone[a] for a in node.args]
        same = all(a is b for a, b in zip(args, node.args, strict=True))
        return node if same else self.al.again(node, args)

    def lifted(self, node: Node, key: Key, g: int) -> Node:
        """A value and its siblings as one."""
        if node.op in STATE:
            name = self.called[self.places[node["memory"]][0]]
            made = self.al.again(node, (), self.wide(g, node.shape), memory=name)
            self.moving[made] = node["memory"] not in self.copies
            return made
        lanes = self.own(node)
        args = [
            self.made[self.kin[a][0]] if lane else self.alone[a]
            for a, lane in zip(node.args, lanes, strict=True)
        ]
        return self.over_lanes(g, node, args, lanes)

    def beside(self, g: int, nodes: Sequence[Node]) -> Node:
        """Values, one a lane, as one."""
        made: dict[tuple[Node, ...], Node] = {}
        stack = [tuple(nodes)]
        while stack:
            row = stack[-1]
            parts = self.equation(g, row)
            waiting = [x for x in parts or () if len(set(x)) > 1 and x not in made]
            if waiting:
                stack.extend(waiting)
                continue
            made[stack.pop()] = self.put_beside(g, row, parts, made)
        return made[tuple(nodes)]

    def siblings(self, g: int, row: tuple[Node, ...]) -> Key | None:
        """What the values of a row are called as one."""
        key = self.kin.get(row[0], ((),))[0]
        same = all(self.kin.get(x) == (key, g, i) for i, x in enumerate(row))
        return key if same else None

    def equation(self, g: int, row: tuple[Node, ...]) -> list[tuple[Node, ...]] | None:
        """The arguments of the one equation that all values of a row have, if they have."""
        first = row[0]
        told = {(x.op, x.attrs, x.type) for x in row}
        if len(set(row)) == 1 or len(told) > 1 or not first.args or self.siblings(g, row):
            return None
        args = list(zip(*(x.args for x in row)))
        fits = self.fits(g, first, [len(set(x)) > 1 for x in args])
        return args if fits and self.given.isdisjoint(row) else None

    def put_beside(
        self,
        g: int,
        row: tuple[Node, ...],
        parts: list[tuple[Node, ...]] | None,
        made: Mapping[tuple[Node, ...], Node],
    ) -> Node:
        first = row[0]
        if (key := self.siblings(g, row)) is not None:
            return self.made[key]
        if len(set(row)) == 1:
            return self.broad(g, self.alone[first])
        if parts is None:
            return self.side_by_side(g, [self.alone[x] for x in row])
        lanes = [len(set(x)) > 1 for x in parts]
        args = [made[x] if lane else self.alone[x[0]] for x, lane in zip(parts, lanes)]
        return self.over_lanes(g, first, args, lanes)

    def side_by_side(self, g: int, row: Sequence[Node]) -> Node:
        shape = row[0].shape
        return self.al.make("stack", *row, type=self.wide(g, shape), dim=self.at(g, shape))

    # -- one equation for all lanes

    def at(self, g: int, shape: Shape) -> int:
        """Where the axis for the lanes stands."""
        per = self.program.levels[self.groups[g][0][0].level].per
        return int(per is not None and shape[:1] == (per,))

    def wide(self, g: int, shape: Shape, at: int | None = None) -> Shape:
        """A shape with the axis for the lanes."""
        size = len(self.groups[g])
        at = self.at(g, shape) if at is None else at
        return (*shape[:at], Axis(str(size), size), *shape[at:])

    def over_lanes(self, g: int, node: Node, args: Sequence[Node], lanes: Sequence[bool]) -> Node:
        lift = LIFTED.get(node.op, _entrywise)
        made = lift(Lifting(self, g, node, lanes), list(args))
        self.moving[made] = any(self.moving.get(a, False) for a in made.args)
        return made

    def broad(self, g: int, x: Node) -> Node:
        """A value that all lanes share; what is broadcast has the axes that it is broadcast over
        behind those it has.
        """
        at = self.at(g, x.shape)
        shape = self.wide(g, x.shape)
        if x.op == "spread" and x.args[0].op not in ("const", "eye"):
            if any(d >= at for d in x["dims"]):
                inner = self.broad(g, x.args[0])
                return self.spread_over(g, x, inner)
        return self.al.spread(x, shape, [d + (d >= at) for d in range(len(x.shape))])

    def spread_over(self, g: int, node: Node, x: Node) -> Node:
        """A broadcast of a value that has the axis for the lanes."""
        at, q = self.at(g, node.shape), self.at(g, node.args[0].shape)
        dims = [d + (d >= at) for d in node["dims"]]
        dims.insert(q, at)
        return self.al.make("spread", x, type=self.wide(g, node.shape), dims=tuple(dims))


@dataclass(frozen=True)
class Lifting:
    """An equation of one lane, to be made of all. `lanes`: which arguments have the new axis."""

    of: Stacking
    g: int
    node: Node
    lanes: Sequence[bool]

    def at(self, i: int | None = None) -> int:
        """Where the new axis stands in an argument, or in the result."""
        node = self.node if i is None else self.node.args[i]
        return self.of.at(self.g, node.shape)

    def shared(self, args: Sequence[Node]) -> list[Node]:
        """All arguments with the new axis."""
        return [
            a if lane else self.of.broad(self.g, a)
            for a, lane in zip(args, self.lanes, strict=True)
        ]

    def made(self, args: Sequence[Node], at: int, **changed: Hashable) -> Node:
        """The equation, whose result has the new axis at `at`, with that axis where it belongs."""
        al, p = self.of.al, self.at()
        shape = self.of.wide(self.g, self.node.shape, at)
        found = al.again(self.node, args, shape, **changed)
        if at == p:
            return found
        order = [d for d in range(len(shape)) if d != at]
        order.insert(p, at)
        return al.permute(found, order)


def _entrywise(x: Lifting, args: list[Node]) -> Node:
    of, shape, p = x.of, x.of.wide(x.g, x.node.shape), x.at()
    full = []
    for i, a in enumerate(args):
        own = x.node.args[i].shape
        if own == x.node.shape:
            full.append(a if x.lanes[i] else of.broad(x.g, a))
        elif x.lanes[i]:
            full.append(of.al.spread(a, shape, (p,)))
        else:
            full.append(a)
    return of.al.again(x.node, full, shape)


def _einsum(x: Lifting, args: list[Node]) -> Node:
    left, out = x.node["eq"].split("->")
    letters = left.split(",")
    lane = next(c for c in "nmltrsuvwxyzabcdefghijkopq" if c not in left)
    moving = any(x.of.moving.get(a, False) for a in args)
    wide = [*x.lanes]
    for i in (0, 1):
        if not wide[i] and (moving or unsummed(x.node)):
            wide[i] = True
            args[i] = x.of.broad(x.g, args[i])
    put = [s[: x.at(i)] + lane + s[x.at(i) :] if wide[i] else s for i, s in enumerate(letters)]
    out = out[: x.at()] + lane + out[x.at() :]
    return x.of.al.make(
        "einsum", *args, type=x.of.wide(x.g, x.node.shape), eq=f"{','.join(put)}->{out}"
    )


def _spread(x: Lifting, args: list[Node]) -> Node:
    return x.of.spread_over(x.g, x.node, args[0])


def _permute(x: Lifting, args: list[Node]) -> Node:
    q, p = x.at(0), x.at()
    dims = [d + (d >= q) for d in x.node["dims"]]
    dims.insert(p, q)
    return x.made(args, p, dims=tuple(dims))


def _reduced(x: Lifting, args: list[Node]) -> Node:
    q, dims = x.at(0), x.node["dims"]
    return x.made(args, q - sum(d < q for d in dims), dims=tuple(d + (d >= q) for d in dims))


def _same(x: Lifting, args: list[Node]) -> Node:
    return x.made([*x.shared(args[:2]), *args[2:]] if len(args) > 1 else args, x.at())


def _softmax(x: Lifting, args: list[Node]) -> Node:
    q, d = x.at(0), x.node["dim"] % len(x.node.shape)
    return x.made(args, q, dim=d + (d >= q))


def _select(x: Lifting, args: list[Node]) -> Node:
    q, d = x.at(0), x.node["dim"] % len(x.node.args[0].shape)
    return x.made(args, q - (d < q), dim=d + (d >= q))


def _diag(x: Lifting, args: list[Node]) -> Node:
    return x.made(args, x.at(0))


LIFTED: dict[str, Callable[[Lifting, list[Node]], Node]] = {
    "einsum": _einsum,
    "spread": _spread,
    "permute": _permute,
    "reshape": _same,
    "sum": _reduced,
    "mean": _reduced,
    "amax": _reduced,
    "softmax": _softmax,
    "select": _select,
    "diag": _diag,
    "stop": _same,
    "when": _same,
}
