"""The order within one instant, for every clock: ticks, then cuts, then resets, then copies.

    settled   when(reset, start, cut(now(M)))                      the value that the instant leaves
    copied    when(c, settled(M), when(reset, settled(M), M@c))    a copy holds what has restarted
    begun     a start takes what slower memories hold by then, and what faster ones have ticked to
    grown     add(read(total), term)                               a total, or a count, ticks

`when(clock, a, b)` is made by who knows what the clock is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from nldsl.core.build import Builder
from nldsl.core.laws import check_node
from nldsl.core.nodes import Node, Type, walk
from nldsl.core.program import STATE, Clock

N = TypeVar("N", bound=Hashable)
When = Callable[[Clock, Node, Node], Node]


@dataclass(frozen=True, eq=False)
class State(Generic[N]):
    """`after`: its value after this instant's tick, which `now` reads; `next`: its value when the
    instant is finished, which the next instant reads. Before the first instant it is `start`.
    It moves with `level`.
    """

    name: N
    type: Type
    level: str
    start: Node
    after: Node
    next: Node


def check(states: Collection[State[N]], roots: Iterable[Node], gone: Collection[str]) -> None:
    """Raise AssertionError at the first equation that breaks a law: an operator that must be gone,
    a read of what is not a state, types that do not fit.
    """
    types: dict[object, Type] = {state.name: state.type for state in states}
    for node in walk(*roots):
        check_node(node)
        assert node.op not in gone, f"{node!r} is left"
        if node.op in STATE:
            assert node["memory"] in types, node
            assert node.type == types[node["memory"]], node
    for state in states:
        for value in (state.start, state.after, state.next):
            assert value.type == state.type, str(state.name)


def settled(ticked: Node, restarts: Iterable[Clock], start: Callable[[], Node], when: When) -> Node:
    """What an instant leaves of a memory that has ticked, and is cut, to `ticked`."""
    value = ticked
    for clock in restarts:
        value = when(clock, start(), value)
    return value


def copied(left: Node, before: Node, restarts: Iterable[Clock], clock: Clock, when: When) -> Node:
    """What an instant leaves of the copy `before` of a memory of which it leaves `left`."""
    value = before
    for at in (*restarts, clock):
        value = when(at, left, value)
    return value


def begun(al: Builder, start: Node, newest: Callable[[Node], Node]) -> Node:
    """A start that takes the newest value of each memory and weight that it reads."""
    read = [n for n in walk(start) if n.op in (*STATE, "weight")]
    return substituted(al, start, {n: newest(n) for n in read})


def grown(al: Builder, total: N, term: Node) -> Node:
    """What a total has ticked to: what it was, and the term of this instant."""
    return al.add(al.make("read", type=term.type, memory=total), term)


def over_stretch(al: Builder, how: str, term: Node, total: Callable[[Node], Node]) -> Node:
    """The sum, or the mean, of the terms of a stretch; `total` keeps what it is asked for."""
    return total(term) if how == "sum" else al.div(total(term), total(al.const(1)))


def substituted(al: Builder, root: Node, bind: Mapping[Node, Node]) -> Node:
    """The equation with some nodes replaced, made anew as it stands."""
    done: dict[Node, Node] = {}
    for node in walk(root):
        args = [done[a] for a in node.args]
        done[node] = bind.get(node) or al.again(node, args, node.type)
    return done[root]


def behind(names: Collection[N], needs: Callable[[N], Iterable[N]]) -> list[N]:
    """Each behind those that it needs, as far as they do not need it in turn; else as they
    stand."""
    done: dict[N, None] = {}
    begun: set[N] = set()

    def visit(name: N) -> None:
        if name not in begun:
            begun.add(name)
            for other in needs(name):
                if other in names:
                    visit(other)
            done[name] = None

    for name in names:
        visit(name)
    return list(done)


def together(
    names: Collection[N], needs: Mapping[N, Collection[N]], group: Callable[[N], str]
) -> list[list[N]]:
    """Names that stand behind those that they need, by group; a group is divided only where another
    must come between.
    """
    left, out = dict.fromkeys(names), []
    whole: dict[str, list[N]] = {}
    for name in names:
        whole.setdefault(group(name), []).append(name)
    order = behind(whole, lambda one: [group(x) for name in whole[one] for x in needs[name]])
    while left:
        before = len(left)
        for one in order:
            batch: list[N] = []
            while ready := [n for n in left if group(n) == one and not left.keys() & needs[n]]:
                batch += ready
                left = {n: None for n in left if n not in ready}
            out += [batch] if batch else []
        assert len(left) < before, f"{next(iter(left))} needs itself at one instant"
    return out
