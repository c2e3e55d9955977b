"""Calls: a def is inlined, its parameters see the axes they declare, all other axes and the leaves
of trees are mapped over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from nldsl.core.nodes import Axis, Shape
from nldsl.diagnostic import counted
from nldsl.frontend import syntax
from nldsl.graph.axes import fits, see
from nldsl.graph.built_in import FUNCTIONS, name_of
from nldsl.graph.elaborator import DEEPEST, OVER, meant
from nldsl.graph.evaluate import as_array, axis_of, called, evaluate, form, instantiate
from nldsl.graph.names import join
from nldsl.graph.scope import Scope, Site, Thunk, show_axes
from nldsl.graph.values import (
    Array,
    Definition,
    Hidden,
    MemoryValue,
    Num,
    Value,
    shape_text,
)
from nldsl.source import Span

# the arguments of a call by parameter: not yet worked out, or one leaf of them
Bindings = Mapping[str, "Thunk[Value] | Array"]


@form.register(syntax.Call)
def call(expr: syntax.Call, site: Site) -> Value:
    if isinstance(expr.callee, syntax.Name) and expr.callee.text in FUNCTIONS:
        return FUNCTIONS[expr.callee.text](expr, site)
    return called(evaluate(expr.callee, site), expr, site)


# ---- arguments


def arguments(
    callee: syntax.Def, args: Sequence[syntax.Arg], site: Site, span: Span, skip: int = 0
) -> dict[str, Thunk[Value]]:
    """The given arguments by parameter, the first `skip` parameters left out."""
    elaborator, params = site.elaborator, [param.name.text for param in callee.params][skip:]
    free = iter(params)
    bound: dict[str, Thunk[Value]] = {}
    for arg in args:
        if isinstance(arg, syntax.Window):
            elaborator.fail(
                "N107", "`over` stands only in `sum`, `mean` and `attend`", arg.span, help=OVER
            )
        if isinstance(arg, syntax.Named):
            name, value = arg.name.text, arg.value
            if name not in params:
                elaborator.fail(
                    "N107",
                    f"`{callee.name.text}` has no parameter `{name}`",
                    arg.name.span,
                    **meant(arg.name, params)
                    or {"help": f"it has {', '.join(f'`{p}`' for p in params)}"},
                )
        else:
            name, value = next(free, ""), arg
            if not name:
                misfit(f"takes {counted(len(params), 'argument')}", callee, site, arg.span)
        if name in bound:
            elaborator.fail(
                "N107",
                f"the parameter `{name}` is given twice",
                arg.span,
                help="once, by its place or by its name",
            )
        bound[name] = Thunk(elaborator, partial(evaluate, value, site), "", value.span, value, site)
    for param in callee.params[skip:]:
        if param.default is None and param.name.text not in bound:
            misfit(f"lacks its argument `{param.name.text}`", callee, site, span)
    return bound


def misfit(said: str, callee: syntax.Def, site: Site, span: Span) -> NoReturn:
    """Fails with N107, beside the place where the def stands and how a call of it looks."""
    site.elaborator.fail(
        "N107",
        f"`{callee.name.text}` {said}",
        span,
        notes=[("defined here", callee.name.span)],
        help=signature(callee),
    )


def frame(callee: Definition, expr: syntax.Syntax, site: Site, path: str) -> Scope:
    """The scope of a call: it sees the file of the def, not that of the caller. Fails with N108 on
    recursion, N212 on too many calls.
    """
    elaborator = site.elaborator
    callers = site.scope.home().callers
    elaborator.count_call(expr.span)
    elaborator.called.add(callee)
    if callee.syntax in callers or len(callers) >= DEEPEST:
        elaborator.fail(
            "N108",
            f"`{callee.syntax.name.text}` calls itself: a def is inlined, so this has no end",
            expr.span,
            help="`for` repeats a known number of times; a level goes on from token to token",
        )
    scope = Scope(elaborator, "def", callee.scope, path)
    scope.callers = (*callers, callee.syntax)
    scope.called = site.scope.home().called or expr.span
    scope.iteration, scope.hidden, scope.leaf = (
        site.scope.iteration,
        site.scope.hidden,
        site.scope.leaf,
    )
    scope.weights, scope.template = site.scope.weights, site.scope.template
    scope.update = site.scope.level or site.scope.update
    return scope


def declare(scope: Scope, callee: Definition, bound: Bindings) -> None:
    """Parameters as names of the frame; a default reads the frame."""
    for param in callee.syntax.params:
        value = bound.get(param.name.text)
        if value is None:
            default, site = param.default, Site(scope, ())
            assert default is not None
            run = partial(evaluate, default, site)
            value = Thunk(scope.elaborator, run, "", default.span, default, site)
        scope.define(param.name, value)


def declared_axes(shape: syntax.Shape, scope: Scope) -> tuple[Axis | str, ...]:
    """A name bound nowhere is a letter."""
    found: list[Axis | str] = []
    for axis in shape.axes:
        if isinstance(axis, syntax.Name) and scope.find(axis.text) is None:
            found.append(axis.text)
        else:
            found.append(axis_of(axis, Site(scope, ())))
    return tuple(found)


class MappedAxes:
    """The axes that one call maps over; index i of one argument meets index i of another."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.keys: list[Hidden] = []

    def key(self, axis: Axis, among: list[Hidden]) -> Hidden:
        found = next((k for k in self.keys if k.axis == axis and k not in among), None)
        if found is None:
            found = self.site.elaborator.hide(axis)
            self.keys.append(found)
        among.append(found)
        return found

    def see(
        self, value: Array, declared: tuple[Axis | str, ...], what: str, span: Span
    ) -> tuple[Array, Shape]:
        """The argument as the parameter sees it, and the axes that it sees."""
        elaborator = self.site.elaborator
        found = see(declared, value.seen)
        if found.missing is not None:
            near = next((axis for axis in value.seen if axis.size == found.missing.size), None)
            elaborator.fail(
                "N201" if near else "N204",
                f"`{what}` sees the axis `{found.missing.name}`, the argument has "
                f"{shape_text(value.seen)}",
                span,
                help=f"`{near.name}` has the same size, but is another axis" if near else "",
            )
        if found.short:
            want = ", ".join(axis if isinstance(axis, str) else axis.name for axis in declared)
            at = f", the leaf `{self.site.scope.leaf}`," if self.site.scope.leaf else ""
            elaborator.fail(
                "N205",
                f"`{what}` sees `[{want}]`, this argument{at} has only {shape_text(value.seen)}",
                span,
                help=f"`weights [{want}]` owns the weights that have these axes"
                if at
                else f"`{what}: [{want.split(', ')[-1]}]` takes one axis",
            )
        among: list[Hidden] = []
        places = {place: self.key(value.seen[place], among) for place in found.mapped}
        order = sorted(
            (
                *((h.order, i, h) for i, h in enumerate(value.hidden)),
                *((h.order, len(value.hidden) + place, h) for place, h in places.items()),
            ),
            key=lambda item: item[:2],
        )
        dims = [i for _, i, _ in order] + [len(value.hidden) + place for place in found.places]
        node = elaborator.shapes.permute(value.node, dims)
        seen = Array(node, tuple(h for _, _, h in order), value.vocab)
        axes = tuple(
            own if isinstance(axis, str) else axis
            for axis, own in zip(declared, seen.seen, strict=True)
        )
        return elaborator.shapes.rename(seen, axes), axes


# ---- defs


@called.register(Definition)
def call_def(callee: Definition, expr: syntax.Call, site: Site) -> Value:
    """Inlines a def. An argument that is a tree and meets a parameter with axes is mapped over its
    leaves, and all trees with the same leaves along with it.
    """
    elaborator = site.elaborator
    named = isinstance(expr.callee, syntax.Name)
    component = site.scope.components.get(id(expr), name_of(expr) if named else "")
    path = join(site.scope.path, component)
    bound = arguments(callee.syntax, expr.args, site, expr.span)
    shaped = {
        p.name.text: value
        for p in callee.syntax.params
        if p.shape is not None
        and p.name.text in bound
        and (value := as_array(bound[p.name.text].force(), site, bound[p.name.text].span))
        is not None
    }
    tree = next((value for value in shaped.values() if value.is_tree), None)
    if tree is None:
        return inline(callee, expr, site, path, bound, shaped)
    paths = tree.tree.paths()
    results: list[tuple[str, Array]] = []
    alike = {n: tree_of(shaped.get(n) or thunk, paths) for n, thunk in bound.items()}
    trees = {name: value for name, value in alike.items() if value is not None}
    for leaf in paths:
        inner = Site(leaf_scope(site.scope, leaf), site.place)
        picked = {name: elaborator.shapes.leaf(value, leaf) for name, value in trees.items()}
        result = inline(
            callee,
            expr,
            inner,
            path,
            bound,
            {**shaped, **{n: v for n, v in picked.items() if n in shaped}},
            alike={n: v for n, v in picked.items() if n not in shaped},
        )
        results.append((leaf, as_array(result, site, expr.span)))
    return elaborator.shapes.tree(results)


def tree_of(value: Value | Thunk[Value], paths: tuple[str, ...]) -> Array | None:
    """The value if it is a tree with these leaves: then it is mapped along with the others."""
    value = value.force() if isinstance(value, Thunk) else value
    value = value.memory.read(value) if isinstance(value, MemoryValue) else value
    return (
        value
        if isinstance(value, Array) and value.is_tree and value.node.tree.paths() == paths
        else None
    )


def leaf_scope(scope: Scope, leaf: str) -> Scope:
    inner = Scope(scope.elaborator, "iteration", scope, scope.path)
    inner.components, inner.leaf = scope.components, join(scope.leaf, leaf)
    inner.start = scope.start
    return inner


def inline(
    callee: Definition,
    expr: syntax.Call,
    site: Site,
    path: str,
    bound: Mapping[str, Thunk[Value]],
    shaped: Mapping[str, Array],
    alike: Mapping[str, Array] | None = None,
) -> Value:
    """The value of a call. `shaped` are the arguments whose parameters declare axes, `alike` one
    leaf of the others, where the call maps over the leaves of a tree.
    """
    scope, mapping, alike = frame(callee, expr, site, path), MappedAxes(site), alike or {}
    declare(scope, callee, {**bound, **alike})
    for param in callee.syntax.params:
        name = param.name.text
        if name in shaped and param.shape is not None:
            declared = declared_axes(param.shape, scope)
            before = shaped[name]
            scope.names[name].base, axes = mapping.see(
                before,
                declared,
                name,
                bound[name].span or expr.span,
            )
            for letter, axis in zip(declared, axes, strict=True):
                if isinstance(letter, str):
                    bind_letter(scope, letter, axis)
            for other, leaf in alike.items():
                if leaf.seen == before.seen:
                    scope.names[other].base, _ = mapping.see(leaf, declared, other, expr.span)
        elif param.shape is not None and name not in bound:
            default = scope.names[name].base
            assert isinstance(default, Thunk)
            value = as_array(default.force(), Site(scope, ()))
            scope.names[name].base, _ = mapping.see(
                value, declared_axes(param.shape, scope), name, param.span
            )
    keys = tuple(sorted(mapping.keys, key=lambda h: h.order))
    scope.hidden = (*scope.hidden, *keys)
    return show_axes(site.elaborator, body(callee, scope), keys)


def signature(callee: syntax.Def) -> str:
    """How a call of a def looks, without what has a default."""
    needed = [param.name.text for param in callee.params if param.default is None]
    return f"`{callee.name.text}({', '.join(needed)})`"


def bind_letter(scope: Scope, letter: str, axis: Axis) -> None:
    from nldsl.graph.scope import Entry

    if letter not in scope.names:
        scope.names[letter] = Entry(Num(axis.size, axis.name))


def body(callee: Definition, scope: Scope) -> Value:
    """The value that a def returns in this frame."""
    elaborator, text = scope.elaborator, callee.syntax
    if isinstance(text.body, syntax.Block):
        instantiate(text.body.statements, scope)
        if scope.result is None:
            elaborator.fail(
                "N203",
                f"`{text.name.text}` returns nothing",
                text.name.span,
                help="`return ..` as its last statement",
            )
        expr, site = scope.result
        for thunk in scope.pending:
            thunk.force()
        value = evaluate(expr, site)
    else:
        scope.components = elaborator.naming.components((text.body,), scope)
        site = Site(scope, (0,))
        value = evaluate(text.body, site)
    if not scope.template:
        elaborator.later(scope.settle)
    return (
        check_shape(value, text.result, Site(scope, site.place), f"`{text.name.text}`")
        if text.result is not None
        else value
    )


def check_shape(value: Value, shape: syntax.Shape, site: Site, what: str) -> Array:
    """The value with the axes that the text declares for it; an axis without a name takes the
    declared one.
    """
    elaborator = site.elaborator
    found = as_array(value, site, shape.span)
    declared = tuple(axis_of(axis, site) for axis in shape.axes)
    if (
        found.is_tree
        or len(found.seen) != len(declared)
        or not all(fits(a, b) for a, b in zip(found.seen, declared, strict=True))
    ):
        said = "a tree" if found.is_tree else shape_text(found.seen)
        elaborator.fail(
            "N204",
            f"{what} is declared with {shape_text(declared)}, its value has {said}",
            shape.span,
            help="the axes that the value has, or a value with those that are declared",
        )
    return elaborator.shapes.rename(found, declared)
