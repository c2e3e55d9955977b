"""Memories during elaboration: their types, reads, starts and versions."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nldsl.core.nodes import Node, Shape, Tree, Type
from nldsl.core.program import Clock
from nldsl.frontend import syntax
from nldsl.graph import foreign, prox, starts
from nldsl.graph.elaborator import LEAF, did_you_mean
from nldsl.graph.evaluate import as_array, axis_of, evaluate, field, identity
from nldsl.graph.names import join
from nldsl.graph.scope import Bound, Place, Site, Thunk
from nldsl.graph.templates import Template, template
from nldsl.graph.values import Array, Definition, Expose, Eye, Hidden, MemoryValue, kind_of
from nldsl.source import Span

if TYPE_CHECKING:
    from nldsl.graph.levels import LevelInstance


@dataclass(frozen=True)
class MemoryType:
    """`core` is the type with the hidden axes in front."""

    core: Type
    hidden: tuple[Hidden, ...]
    template: Template | None = None

    @property
    def seen(self) -> Shape:
        assert not isinstance(self.core, Tree)
        return self.core[len(self.hidden) :]

    @property
    def tree(self) -> Tree:
        assert isinstance(self.core, Tree)
        return self.core


class MemoryInstance(Bound):
    """A memory of a level instance: thunks for type and start, and its versions in the order of the
    text.
    """

    def __init__(self, level: LevelInstance, text: syntax.Memory, site: Site) -> None:
        self.level, self.text, self.site, self.elaborator = level, text, site, site.elaborator
        self.name = join(level.name, text.name.text)
        self.versions: list[tuple[Place, Thunk[Node]]] = []
        self.type = Thunk(self.elaborator, self._type, text.name.text, text.type.span)
        self.start = Thunk(
            self.elaborator,
            lambda: starts.start(self),
            text.name.text,
            (text.start or text.type).span,
        )
        self.restart = Thunk(
            self.elaborator, lambda: level.restart(self), text.name.text, text.type.span
        )
        self.slots: dict[str, str] | None = None

    def _type(self) -> MemoryType:
        kind, elaborator, hidden = self.text.type, self.elaborator, self.level.scope.hidden
        front = tuple(h.axis for h in hidden)
        with elaborator.at(kind.span, self.site.scope.iteration):
            if isinstance(kind, syntax.Shape):
                axes = tuple(axis_of(axis, self.site) for axis in kind.axes)
                return MemoryType((*front, *axes), hidden)
            if isinstance(kind, syntax.Like):
                like = as_array(evaluate(kind.name, self.site), self.site, kind.span)
                if like.is_tree:
                    leaves = tuple(
                        (path, (*front, *leaf.seen))
                        for path, leaf in elaborator.shapes.leaves(like)
                    )
                    return MemoryType(Tree(leaves), hidden)
                return MemoryType((*front, *like.seen), hidden)
            if isinstance(kind, syntax.Weights):
                worker = self.level.worker
                if worker is not None:
                    return MemoryType(elaborator.owners.lend(self, worker.axis), (worker,))
                return MemoryType(elaborator.owners.claim(self), ())
            callee = (
                evaluate(kind.place.names[0], self.site) if len(kind.place.names) == 1 else None
            )
            if not isinstance(callee, Definition):
                elaborator.fail(
                    "N202",
                    f"a memory's type is a shape, `like x`, `weights` or a def, `{kind.place}` is "
                    f"{kind_of(callee)}",
                    kind.span,
                    help="`memory M: [a, b] = 0`, or the name of a def",
                )
            made = template(callee, kind, self.site)
            return MemoryType(
                Tree(tuple((leaf.path, (*front, *leaf.shape)) for leaf in made.leaves)),
                hidden,
                made,
            )

    def read_at(self, site: Site) -> MemoryValue:
        """The memory by its bare name, in its own level."""
        if site.scope.start is not None:
            return MemoryValue(self, None, "start")
        return MemoryValue(
            self, bisect_left(self.versions, site.place, key=lambda version: version[0])
        )

    def read(self, value: MemoryValue) -> Array:
        """The node of a read, with the changes of hidden axes on the way."""
        type_, elaborator = self.type.force(), self.elaborator
        if value.at == "start":
            node = self.start.force()
            if node is None:
                elaborator.fail(
                    "N209",
                    f"the start of `{self.text.name.text}` is not a value: its weights are drawn",
                    help="a start that is said, or one that is `learned`",
                )
        elif isinstance(value.at, Clock):
            node = elaborator.node("held", type=type_.core, memory=self.name, clock=value.at)
        elif value.at == "after":
            node = elaborator.node("now", type=type_.core, memory=self.name)
        elif value.version is None:
            node = elaborator.node("read", type=type_.core, memory=self.name)
        else:
            node = elaborator.node("plain", type=type_.core, memory=f"{self.name}#{value.version}")
        array = Array(node, type_.hidden)
        for name in value.path.split("/") if value.path else ():
            array = elaborator.shapes.field(array, name)
        for view in value.views:
            if isinstance(view, Expose):
                array = elaborator.shapes.expose(array, view.axes)
            elif view.axis not in array.hidden:
                array = elaborator.shapes.absorb(array, view.axis)
        return array

    def part(self, value: MemoryValue, name: syntax.Name) -> MemoryValue:
        """`M.W2`: a read of one leaf, or of the leaves below a name."""
        tree = self.type.force().core
        prefix = ".".join([*(value.path.split("/") if value.path else []), name.text])
        paths = tree.paths() if isinstance(tree, Tree) else ()
        if not any(path == prefix or path.startswith(prefix + ".") for path in paths):
            foreign_to = (
                foreign.transposed(name)
                if name.text in foreign.TRANSPOSED
                else {"help": did_you_mean(prefix, paths)}
            )
            self.elaborator.fail(
                "N101",
                f"`{self.text.name.text}` has no weight `{prefix}`"
                + (f": {', '.join(paths)}" if paths else ""),
                name.span,
                **foreign_to,
            )
        found = replace(value, path=f"{value.path}/{name.text}" if value.path else name.text)
        self.elaborator.heard(name.span, found)
        return found

    def add_version(self, text: syntax.Update, site: Site) -> None:
        """`M <- e` or `M.W2 <- e`: a version from this place on."""
        count = len(self.versions)

        def run() -> Node:
            node = self._version(text, site, count)
            self.elaborator.versions[f"{self.name}#{count + 1}"] = node
            return node

        self.versions.append(
            (site.place, Thunk(self.elaborator, run, text.place.names[0].text, text.span))
        )

    def _version(self, text: syntax.Update, site: Site, count: int) -> Node:
        elaborator, type_ = self.elaborator, self.type.force()
        if (
            isinstance(text.value, syntax.Call)
            and isinstance(text.value.callee, syntax.Name)
            and text.value.callee.text == "prox"
        ):
            value = prox.closed_form(self, text, site)
        else:
            value = self.value_of(text.value, site)
        with elaborator.at(text.value.span, site.scope.iteration):
            if len(text.place.names) == 1:
                return self.conform(value, f"`{text.place}`")
            path = ".".join(name.text for name in text.place.names[1:])
            paths = type_.core.paths() if isinstance(type_.core, Tree) else ()
            if path not in paths:
                elaborator.fail(
                    "N101",
                    f"`{text.place.names[0].text}` has no weight `{path}`"
                    + (f": {', '.join(paths)}" if paths else ""),
                    text.place.span,
                    help=did_you_mean(path, paths),
                )
            if value.is_tree:
                elaborator.fail(
                    "N203", f"`{text.place}` is an array, the value is a tree", help=LEAF
                )
            before = self.read(MemoryValue(self, count))
            shape = type_.tree.shape(path)[len(type_.hidden) :]
            new = Array(
                elaborator.shapes.conform(value, type_.hidden, shape, f"`{text.place}`"),
                type_.hidden,
            )
            return elaborator.shapes.tree(
                [(p, new if p == path else leaf) for p, leaf in elaborator.shapes.leaves(before)]
            ).node

    def value_of(self, expression: syntax.Expr, site: Site) -> Array:
        """The right side of `<-` or a start as an array; `I` alone takes the axes of the memory."""
        elaborator, type_ = self.elaborator, self.type.force()
        value = evaluate(expression, site)
        if isinstance(value, Eye) and not isinstance(type_.core, Tree):
            with elaborator.at(expression.span, site.scope.iteration):
                return identity(
                    value,
                    Array(
                        elaborator.shapes.expand(
                            elaborator.shapes.const(0), type_.hidden, type_.seen
                        ),
                        type_.hidden,
                    ),
                    site,
                )
        return as_array(value, site, expression.span)

    def conform(self, value: Array, what: str) -> Node:
        """The value as one of this memory's type."""
        elaborator, type_ = self.elaborator, self.type.force()
        shapes = elaborator.shapes
        elaborator.arrays.numbers(value)
        if not isinstance(type_.core, Tree):
            if value.is_tree:
                elaborator.fail("N203", f"{what} is an array, the value is a tree", help=LEAF)
            return shapes.conform(value, type_.hidden, type_.seen, what)
        if value.node.type == type_.core and value.hidden == type_.hidden:
            return value.node
        if value.is_tree and value.node.tree.paths() != type_.core.paths():
            elaborator.fail(
                "N203",
                f"{what} and its value are trees with different weights",
                help="a value with the weights of this memory",
            )
        k = len(type_.hidden)
        parts = dict(shapes.leaves(value)) if value.is_tree else {}
        if not value.is_tree and not value.is_scalar:
            elaborator.fail(
                "N203",
                f"{what} is a tree of weights, the value an array",
                help="`M.W <- ..` moves one array of it",
            )
        leaves = [
            (path, parts.get(path, value), shape[k:], f"{what}, weight `{path}`,")
            for path, shape in type_.core.leaves
        ]
        return shapes.tree(
            [
                (path, Array(shapes.conform(part, type_.hidden, seen, said), type_.hidden))
                for path, part, seen, said in leaves
            ]
        ).node


@as_array.register(MemoryValue)
def read(value: MemoryValue, site: Site, span: Span | None = None) -> Array:
    return value.memory.read(value)


@field.register(MemoryValue)
def part(value: MemoryValue, expr: syntax.Field, site: Site) -> MemoryValue:
    return value.memory.part(value, expr.name)
