"""Nodes: one equation each, over arrays with named axes.

A node is `x = op(args)` at every instant of its rate. Shapes are positional tuples of `Axis`; batch
and time are never written. A level `per head` and every mapped axis stand in front of the axes that
the text shows. A tree (the weights of a definition, `weights`) is one value with a shape per leaf;
elementwise operators act on it leaf by leaf.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from nldsl.core.theirs import Theirs
from nldsl.source import Span

if TYPE_CHECKING:
    from nldsl.core.program import Clock


@dataclass(frozen=True)
class Axis:
    """A named axis with its size; two axes are equal if both are. `parts`: the processes that have
    so many entries each, where it is divided among them (schedule/shares.py).
    """

    name: str
    size: int
    parts: int = 1

    @property
    def whole(self) -> int:
        """The entries on all processes, which a sum or a mean is over."""
        return self.size * self.parts

    def __str__(self) -> str:
        return self.name if self.name == str(self.size) else f"{self.name}={self.size}"


Shape = tuple[Axis, ...]


@dataclass(frozen=True)
class Tree:
    """The type of a tree value: path of each leaf and its shape, in the order of definition."""

    leaves: tuple[tuple[str, Shape], ...]

    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.leaves)

    def shape(self, path: str) -> Shape:
        return dict(self.leaves)[path]


Type = Shape | Tree


def has(type: Type, axis: Axis) -> bool:
    """Is it an axis of an array, or of a leaf of a tree?"""
    shapes = [shape for _, shape in type.leaves] if isinstance(type, Tree) else [type]
    return any(axis in shape for shape in shapes)


def resized(type: Type, was: Axis, now: Axis) -> Type:
    """The type with one axis in the place of another."""
    if isinstance(type, Tree):
        return Tree(tuple((p, tuple(now if a == was else a for a in s)) for p, s in type.leaves))
    return tuple(now if a == was else a for a in type)


Constant: TypeAlias = "float | tuple[Constant, ...]"  # a number, or one for each entry
# since the last tick of a clock, or of a level by its name; or the last tokens
Stretch: TypeAlias = "tuple[Literal['since'], Clock | str] | tuple[Literal['last'], int]"
Groups: TypeAlias = "tuple[tuple[str, str, Stretch | None], ...]"  # of `attend`


@dataclass(frozen=True, eq=False)
class Node:
    """One equation. Nodes are interned: equal op, args and attrs are the same object, which is its
    own key in a dict.
    """

    op: str
    args: tuple[Node, ...]
    attrs: tuple[tuple[str, Hashable], ...]
    type: Type
    span: Span | None = None
    # iterations of the `for` loops outside levels, outermost first: ("layer[2]", "p[16]")
    iteration: tuple[str, ...] = ()
    name: str = ""  # qualified name of the definition it is the value of, if any

    # One line for each type that attributes have; core/ops.py says which operator has which.
    @overload
    def __getitem__(
        self, attr: Literal["memory", "name", "level", "path", "how", "eq", "file"]
    ) -> str: ...
    @overload
    def __getitem__(self, attr: Literal["key"]) -> Theirs: ...
    @overload
    def __getitem__(
        self, attr: Literal["dim", "index", "keep", "length", "first", "late", "part"]
    ) -> int: ...
    @overload
    def __getitem__(self, attr: Literal["scale", "base"]) -> float: ...
    @overload
    def __getitem__(self, attr: Literal["value"]) -> Constant: ...
    @overload
    def __getitem__(self, attr: Literal["dims"]) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, attr: Literal["names", "learners"]) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, attr: Literal["clock"]) -> Clock: ...
    @overload
    def __getitem__(self, attr: Literal["clocks"]) -> tuple[Clock, ...]: ...
    @overload
    def __getitem__(self, attr: Literal["since"]) -> Clock | str: ...
    @overload
    def __getitem__(self, attr: Literal["context"]) -> tuple[Node, ...]: ...
    @overload
    def __getitem__(self, attr: Literal["groups"]) -> Groups: ...
    def __getitem__(self, attr: str) -> object:
        return dict(self.attrs)[attr]

    @property
    def shape(self) -> Shape:
        """The axes of an array."""
        assert not isinstance(self.type, Tree), self
        return self.type

    @property
    def tree(self) -> Tree:
        """The leaves of a tree."""
        assert isinstance(self.type, Tree), self
        return self.type

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v}" for k, v in self.attrs)
        return f"{self.op}({', '.join(a.name or a.op for a in self.args)}{extra})"


class Interner:
    """Makes nodes; equal equations become one object."""

    def __init__(self) -> None:
        self._table: dict[tuple[object, ...], Node] = {}

    def __call__(
        self,
        op: str,
        *args: Node,
        type: Type,
        span: Span | None = None,
        iteration: tuple[str, ...] = (),
        called: str = "",
        **attrs: Hashable,
    ) -> Node:
        items = tuple(sorted(attrs.items()))
        key = (op, args, items, type)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = Node(op, args, items, type, span, iteration, called)
        return found


def walk(*roots: Node) -> Iterator[Node]:
    """Every node reachable from roots through `args`, arguments first, each once.

    No recursion: programs are deep.
    """
    seen: set[Node] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(arg, False) for arg in reversed(node.args) if arg not in seen]


def reach(
    start: Iterable[Node],
    stop: Collection[Node] = (),
    into: Callable[[Node], Iterable[Node]] | None = None,
) -> Met:
    """The nodes met from `start` breadth first, each with the node that led to it.

    Those in `stop` are met and not passed.
    """
    into = into or (lambda node: node.args)
    came = Met({node: None for node in start})
    kept = list(came)
    for node in kept:  # grows while it is read
        if node in stop:
            continue
        for arg in into(node):
            if arg not in came:
                came[arg] = node
                kept.append(arg)
    return came


class Met(dict[Node, Node | None]):
    """The answer of `reach`, in the order in which the nodes were met."""

    @property
    def nodes(self) -> list[Node]:
        return list(self)

    def way(self, to: Node) -> list[Node]:
        """The shortest way from a start to the node, both included."""
        path = [to]
        while (before := self[path[-1]]) is not None:
            path.append(before)
        return path[::-1]


def unmade(
    root: Node, made: Callable[[Node], object | None], needs: Callable[[Node], Iterable[Node]]
) -> Iterator[Node]:
    """The nodes below a root that are not made yet, each after what it needs; who takes one makes
    it before the next.
    """
    stack = [root]
    while stack:
        top = stack[-1]
        if made(top) is not None:
            stack.pop()
        elif waiting := [a for a in needs(top) if made(a) is None]:
            stack.extend(reversed(waiting))
        else:
            yield top
            stack.pop()


def numel(shape: Shape) -> int:
    """Entries of an array."""
    return math.prod(axis.size for axis in shape)
