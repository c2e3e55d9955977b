"""A def as a memory's type: its weights are the memory, and calling the memory inlines the def on
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.nodes import Shape
from nldsl.core.program import Fill
from nldsl.diagnostic import Edit
from nldsl.frontend import syntax
from nldsl.graph.axes import see
from nldsl.graph.calls import (
    MappedAxes,
    arguments,
    bind_letter,
    body,
    declare,
    declared_axes,
    frame,
)
from nldsl.graph.elaborator import LEAF
from nldsl.graph.evaluate import array, as_array, called, evaluate
from nldsl.graph.names import join
from nldsl.graph.scope import Scope, Site, Thunk, show_axes
from nldsl.graph.values import Array, Definition, Hidden, Items, MemoryValue, Value, shape_text
from nldsl.source import Span


@dataclass(frozen=True)
class Leaf:
    """A weight of a def that is a memory's type."""

    path: str
    shape: Shape
    init: str
    scale: float
    fill: Fill


@dataclass(frozen=True, eq=False)
class Template:
    """A def as a memory's type: the axes of the input that it sees, its other arguments, its
    weights. Of a tree input, `parts` is one for each leaf.
    """

    definition: Definition
    input: Shape
    bound: dict[str, Thunk[Value]]
    leaves: tuple[Leaf, ...]
    parts: tuple[tuple[str, Template], ...] = ()


def template(callee: Definition, kind: syntax.Kind, site: Site) -> Template:
    """The weights of a def, found by inlining it once on an input of the given shape."""
    elaborator, text = site.elaborator, callee.syntax
    if not text.params:
        elaborator.fail(
            "N207",
            f"`{text.name.text}` has no parameter for the input of a memory",
            kind.span,
            help=f"give it one: `def {text.name.text}(x: [d]) = ..`",
            notes=[("defined here", text.name.span)],
        )
    args, first = list(kind.args or ()), text.params[0]
    given = None
    if args and not isinstance(args[0], syntax.Named | syntax.Window):
        value = evaluate(args[0], site)
        if isinstance(value, Items):
            given, args = value, args[1:]
    bound = arguments(text, tuple(args), site, kind.span, skip=1)
    if given is not None and given.paths is not None:
        return template_of_tree(callee, given.paths, given, bound, site, kind)
    if given is not None:
        return shaped_template(
            callee, tuple(elaborator.axis(n, kind.span) for n in given.items), bound, site, kind
        )
    axes = declared_axes(first.shape, callee.scope) if first.shape is not None else ()
    if first.shape is None or any(isinstance(axis, str) for axis in axes):
        known = list(elaborator.dims)
        axis = known[0] if known else "d"
        said = ", ".join([f"[{axis}]", *(arg.span.text() for arg in args)])
        elaborator.fail(
            "N207",
            f"the axes of the input of `{text.name.text}` are not known here",
            kind.span,
            notes=[("declared here", first.span)],
            help=f"say them: `{text.name.text}({said})`, or `{first.name.text}: [{axis}]` in the "
            "def",
            fix=(Edit(kind.span, f"{text.name.text}({said})"),) if len(known) == 1 else (),
        )
    known_axes = tuple(axis for axis in axes if not isinstance(axis, str))
    return shaped_template(callee, known_axes, bound, site, kind)


def template_of_tree(
    callee: Definition,
    paths: tuple[str, ...],
    given: Items,
    bound: dict[str, Thunk[Value]],
    site: Site,
    kind: syntax.Kind,
) -> Template:
    """One template for each leaf of a tree input."""
    axis = site.elaborator.axis
    shapes = [
        tuple(axis(size) for size in leaf.items) for leaf in given.items if isinstance(leaf, Items)
    ]
    parts = tuple(
        (path, shaped_template(callee, shape, bound, site, kind))
        for path, shape in zip(paths, shapes, strict=True)
    )
    leaves = tuple(
        Leaf(join(path, leaf.path), leaf.shape, leaf.init, leaf.scale, leaf.fill)
        for path, part in parts
        for leaf in part.leaves
    )
    return Template(callee, (), bound, leaves, parts)


def shaped_template(
    callee: Definition, shape: Shape, bound: dict[str, Thunk[Value]], site: Site, kind: syntax.Kind
) -> Template:
    """The template of a def for an input with these axes. Fails with N207 if it has no weights."""
    elaborator = site.elaborator
    leaves: list[Leaf] = []

    def record(_: Site, path: str, axes: Shape, init: str, scale: float, fill: Fill) -> Array:
        if path not in [leaf.path for leaf in leaves]:
            leaves.append(Leaf(path, axes, init, scale, fill))
        return Array(elaborator.node("weight", type=axes, name=path))

    scope = frame(callee, kind, site, "")
    scope.weights, scope.template, scope.hidden, scope.leaf = record, True, (), ""
    stand_in = Array(elaborator.node("input", type=shape, name="template"))
    seen = enter(callee, scope, stand_in, None, bound, MappedAxes(site), kind.span)
    body(callee, scope)
    if not leaves:
        elaborator.fail(
            "N207",
            f"`{callee.syntax.name.text}` has no weights",
            kind.span,
            notes=[("defined here", callee.syntax.name.span)],
            help="a memory is its weights: give it one by `linear(x, [d])` or `weight([d])`, or "
            "write a shape: `memory M: [d] = 0`",
        )
    return Template(callee, seen, bound, tuple(leaves))


def enter(
    callee: Definition,
    scope: Scope,
    x: Array,
    given: Shape | None,
    bound: dict[str, Thunk[Value]],
    mapping: MappedAxes,
    span: Span,
) -> Shape:
    """Bind the input of a memory's def and its other parameters; the axes that the def sees, which
    are `given` where they are known.
    """
    first = callee.syntax.params[0]
    declare(scope, callee, {**bound, first.name.text: x})
    own = (
        declared_axes(first.shape, scope)
        if first.shape is not None
        else x.seen
        if given is None
        else given
    )
    scope.names[first.name.text].base, axes = mapping.see(
        x, own if given is None else given, first.name.text, span
    )
    for letter, axis in zip(own, axes, strict=True):
        if isinstance(letter, str):
            bind_letter(scope, letter, axis)
    return axes


@called.register(MemoryValue)
def call_memory(value: MemoryValue, expr: syntax.Call, site: Site) -> Value:
    """`M(x)`: the def of the memory's type on its weights."""
    elaborator = site.elaborator
    kind = value.memory.type.force().template
    if kind is None or value.path:
        elaborator.fail(
            "N202",
            "only a memory of a def's weights can be called",
            expr.callee.span,
            help="`M * k` for a matrix",
        )
    if len(expr.args) != 1 or isinstance(expr.args[0], syntax.Named | syntax.Window):
        elaborator.fail(
            "N107",
            "a memory is called with its input alone; the other arguments stand in its type",
            expr.span,
            help="`M(x)`",
        )
    x = array(expr.args[0], site)
    weights = value.memory.read(value)
    if not kind.parts:
        return apply(kind, weights, x, expr, site)
    if not x.is_tree or x.node.tree.paths() != tuple(path for path, _ in kind.parts):
        elaborator.fail(
            "N203",
            "this memory has weights for each leaf of a tree, the argument is another tree or an "
            "array",
            expr.args[0].span,
            help="a tree of the weights that stand in its type",
        )
    shapes = elaborator.shapes
    results = []
    for path, part in kind.parts:
        below = [(leaf.path, shapes.leaf(weights, join(path, leaf.path))) for leaf in part.leaves]
        results.append((path, apply(part, shapes.tree(below), shapes.leaf(x, path), expr, site)))
    return shapes.tree([(path, as_array(value, site, expr.span)) for path, value in results])


def apply(kind: Template, weights: Array, x: Array, expr: syntax.Call, site: Site) -> Value:
    """The def's body with these weights.

    Axes of the memory itself meet those of the argument, or the result gains them.
    """
    elaborator, mapping, said = site.elaborator, MappedAxes(site), expr.args[0].span
    if x.is_tree:
        elaborator.fail(
            "N203", "this memory takes an array, the argument is a tree", said, help=LEAF
        )
    shape = kind.leaves[0].shape
    own = elaborator.shapes.leaf(weights, kind.leaves[0].path).seen
    own = own[: len(own) - len(shape)]
    mapped = [x.seen[i] for i in see(kind.input, x.seen).mapped]
    among: list[Hidden] = []
    for axis in [*(axis for axis in own if axis not in mapped), *mapped]:
        mapping.key(axis, among)
    taken: list[Hidden] = []
    for axis in own:
        key = mapping.key(axis, taken)
        tree = weights.is_tree
        weights = lead(weights, key, site) if tree else elaborator.shapes.absorb(weights, key, 0)
    scope = frame(kind.definition, expr, site, "")

    def leaf(_: Site, path: str, axes: Shape, init: str, scale: float, fill: Fill) -> Array:
        found = elaborator.shapes.leaf(weights, path)
        if found.seen != axes:
            elaborator.fail(
                "N204",
                f"the weight `{path}` of this memory is {shape_text(found.seen)}, this input asks "
                f"for {shape_text(axes)}",
                expr.span,
                help="an input with the axes of the one in its type",
            )
        return found

    scope.weights, scope.template = leaf, True
    enter(kind.definition, scope, x, kind.input, kind.bound, mapping, said)
    keys = tuple(sorted(mapping.keys, key=lambda h: h.order))
    scope.hidden = (*scope.hidden, *keys)
    return show_axes(elaborator, body(kind.definition, scope), keys)


def lead(weights: Array, key: Hidden, site: Site) -> Array:
    """The first visible axis of every leaf becomes hidden."""
    shapes = site.elaborator.shapes
    if not weights.hidden or weights.hidden[-1].order < key.order:
        return Array(weights.node, (*weights.hidden, key))
    return shapes.tree(
        [(path, shapes.absorb(leaf, key, 0)) for path, leaf in shapes.leaves(weights)]
    )
