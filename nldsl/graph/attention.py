"""`attend(q, k -> v over w, ..)`: softmax over all pairs of all arguments.

q [head, e], K * P -> V * P [head, e, p]:   scores "ac,acd->ad", values "ad,ace->.."
        (a head, c the axis of q, d the pairs)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nldsl.core.nodes import Axis, Shape
from nldsl.frontend import syntax
from nldsl.graph.axes import fits
from nldsl.graph.elaborator import LEAF
from nldsl.graph.evaluate import array
from nldsl.graph.scope import Site
from nldsl.graph.values import Array, shape_text
from nldsl.graph.windows import span_of_pairs

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def attend(call: syntax.Call, site: Site) -> Array:
    """`attend(q, k1 -> v1, ..)`; the pairs of all arguments share one softmax."""
    elaborator = site.elaborator
    if site.scope.template:
        elaborator.fail(
            "N208",
            "a def that is a memory's type holds no `attend`",
            call.span,
            help="`attend` in the equation around: the memory is called on its value",
        )
    if len(call.args) < 2 or isinstance(call.args[0], syntax.Named | syntax.Window):
        elaborator.fail(
            "N107",
            "`attend` takes a query and pairs `key -> value`",
            call.span,
            help="`attend(q, k -> v)`",
        )
    q = plain_array(call.args[0], site)
    if not q.seen:
        elaborator.fail(
            "N204",
            "the query of `attend` has no axis",
            call.args[0].span,
            help="a query with the axis of its keys: `attend(linear(x, [e]), k -> v)`",
        )
    pairs = [pair(arg, site) for arg in call.args[1:]]
    return attended(q, pairs, call, site)


def attended(
    q: Array, pairs: list[tuple[Array, Array, object]], call: syntax.Call, site: Site
) -> Array:
    """One einsum a pair for the scores, one for what they weigh: letters of hidden axes stand in
    front, those of the query next.
    """
    elaborator, shapes = site.elaborator, site.elaborator.shapes
    hidden = shapes.union([q.hidden, *(array.hidden for k, v, _ in pairs for array in (k, v))])
    query = shapes.expand(q, hidden, q.seen)
    front = LETTERS[: len(hidden)]
    letters = iter(LETTERS[len(hidden) :])
    own = [next(letters) for _ in q.seen]
    nodes, groups = [query], []
    result: Shape | None = None
    for (k, v, span), arg in zip(pairs, call.args[1:], strict=True):
        with elaborator.at(arg.span, site.scope.iteration):
            spare = iter(LETTERS[len(hidden) + len(q.seen) :])
            key, among = letters_of_key(k, q, own, spare, site)
            value, left = letters_of_value(v, k, q, own, key, among, spare, site)
        kept = front + "".join(own[:-1])
        scores, out = kept + "".join(among), kept + "".join(letter for letter, _ in left)
        groups.append(
            (
                f"{front}{''.join(own)},{front}{''.join(key)}->{scores}",
                f"{scores},{front}{''.join(value)}->{out}",
                span,
            )
        )
        nodes += [shapes.expand(k, hidden, k.seen), shapes.expand(v, hidden, v.seen)]
        shape = tuple(axis for _, axis in left)
        result = shape if result is None else result
        if [a.size for a in shape] != [a.size for a in result]:
            elaborator.fail(
                "N204",
                f"the values of this pair are {shape_text(shape)}, those of the first "
                f"{shape_text(result)}",
                arg.span,
                help="values of the same axes in every pair",
            )
    assert result is not None
    type_ = (*(h.axis for h in hidden), *q.seen[:-1], *result)
    node = elaborator.node(
        "attend", *nodes, type=type_, groups=tuple(groups), scale=1 / math.sqrt(q.seen[-1].size)
    )
    return Array(node, hidden)


def plain_array(expr: syntax.Expr, site: Site) -> Array:
    value = array(expr, site)
    if value.is_tree:
        site.elaborator.fail("N203", "`attend` takes arrays, this is a tree", expr.span, help=LEAF)
    return value


def pair(arg: syntax.Arg, site: Site) -> tuple[Array, Array, object]:
    over = arg.stretch if isinstance(arg, syntax.Window) else None
    both = arg.value if isinstance(arg, syntax.Window) else arg
    if not isinstance(both, syntax.Pair):
        site.elaborator.fail(
            "N203", "a pair `key -> value` is needed here", arg.span, help="`attend(q, k -> v)`"
        )
    return plain_array(both.key, site), plain_array(both.value, site), span_of_pairs(over, site)


def letters_of_key(
    k: Array, q: Array, own: list[str], spare: Iterator[str], site: Site
) -> tuple[list[str], list[str]]:
    """Letters of the key's axes, and those among them that count further pairs."""
    places = [i for i, axis in enumerate(k.seen) if fits(axis, q.seen[-1])]
    if not places:
        site.elaborator.fail(
            "N204",
            f"the key {shape_text(k.seen)} lacks the last axis of the query, `{q.seen[-1].name}`",
            help="keys with the axis of the query: `linear(x, [e])` for both",
        )
    contracted = next((i for i in reversed(places) if k.seen[i] == q.seen[-1]), places[-1])
    batch = dict(zip(q.seen[:-1], own[:-1], strict=True))
    key, among = [], []
    for i, axis in enumerate(k.seen):
        if i == contracted:
            key.append(own[-1])
        elif axis in batch:
            key.append(batch.pop(axis))
        else:
            key.append(next(spare))
            among.append(key[-1])
    return key, among


def letters_of_value(
    v: Array,
    k: Array,
    q: Array,
    own: list[str],
    key: list[str],
    among: list[str],
    spare: Iterator[str],
    site: Site,
) -> tuple[list[str], list[tuple[str, Axis]]]:
    """Letters of the value's axes, and the axes of the value proper."""
    batch = dict(zip(q.seen[:-1], own[:-1], strict=True))
    further = {axis: letter for axis, letter in zip(k.seen, key, strict=True) if letter in among}
    value: list[str] = []
    left: list[tuple[str, Axis]] = []
    for axis in v.seen:
        if axis in batch:
            value.append(batch.pop(axis))
        elif axis in further:
            value.append(further.pop(axis))
        else:
            value.append(next(spare))
            left.append((value[-1], axis))
    if further:
        site.elaborator.fail(
            "N204",
            f"axis `{next(iter(further)).name}` of the key is neither in the query nor in the "
            "value",
            help="a query or values with this axis too, or a key without it",
        )
    return value, left
