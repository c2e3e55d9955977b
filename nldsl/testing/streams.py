"""Draws streams: expressions over the layer's input whose axes are given.

Values stay near 1, and no kink lies where they are likely to be, so that a program made of them is
steady.
"""

from __future__ import annotations

from nldsl.testing.page import Page


def even(p: Page, axes: str) -> bool:
    """Can the last of the axes be halved?"""
    last = axes.split(", ")[-1]
    return p.dims.get(last, last) in ("2", "4")


def stream(p: Page, axes: str, source: str = "x", depth: int = 1) -> str:
    """An expression with the axes "d", "e" or "head, e", made of `source`: [d]."""
    if depth == 0 or not p.maybe(3):
        return simple(p, axes, source)
    a = stream(p, axes, source, depth - 1)
    form = p.pick(
        "sum", "product", "window", "attend", "bounded", "convolved", "chosen", "pairs", "share"
    )
    if form == "window":
        return f"{p.pick('mean', 'sum')}({a} over {p.span()})"
    if form == "bounded":
        return p.pick(
            f"standardise({a})",
            f"min(max({a}, -9), 9)",
            f"where(9 >= {a}, {a}, 0 * {a})",
            f"-{a} / 2",
            f"rmsnorm({a})",
        )
    if form == "convolved":
        return f"conv({a}, {p.pick('2', '3')})" if p.maybe(2) or not even(p, axes) else f"rope({a})"
    b = stream(p, axes, source, depth - 1)
    if form == "sum":
        return p.pick(f"{a} + {b}", f"{a} - 0.5 * {b}", f"({a} + {b}) / 2")
    if form == "product":
        return p.pick(f"tanh({a}) .* {b}", f"{a} ./ (1 + exp({b}))", f"{a} * sigmoid(mean({b}))")
    if form == "chosen":
        return p.pick(
            f"stack({a}, {b})[1]",
            f"[{a}, 0 * {b}, {b}][floor(1 / 2)]",
            f"sum([{a}, {b}], 2)" if "2" not in p.dims.values() else f"stack({a}, {b})[0]",
        )
    if form == "pairs":
        return f"attend({a}, {b} -> {a} over {p.span()}, {a} -> {b})"
    if form == "share" and "head" in axes:
        return f"mean(attend(linear({source}, [head, 5, e]), {a} -> {b} over {p.span()}), 5)"
    return f"attend({a}, {b} -> {simple(p, axes, source)} over {p.span()})"


def simple(p: Page, axes: str, source: str) -> str:
    made = f"linear({source}, [{axes}])"
    forms = [
        made,
        f"conv({made}, 2)",
        f"tanh({made})",
        f"project({source}, [{axes}])",
        f"affine({source}, [{axes}])",
        f"softmax({made})",
        f"stop({made})",
        f"standardise({made})",
        f"cos({made})",
        f"log(1 + exp({made}))",
        f"sqrt(1 + {made} .^ 2)",
        f"{made} ./ (1 + abs({made}))",
        f"({made} + 0.1 * sign({made}))",
        f"weight([{axes}])",
        f"gelu({made})",
        f"softplus({made})",
        *([f"rope({made})", f"rope({made}, base = 100)"] if even(p, axes) else []),
    ]
    return p.pick(*forms)


def used(p: Page, text: str) -> str:
    """Imports the definitions of layers.nl that the text calls."""
    for name in ("unit", "rmsnorm", "standardise", "project", "swiglu"):
        if f"{name}(" in text:
            p.use("layers", name)
    return text


def projection(p: Page, axes: str, unit: bool, source: str = "x") -> str:
    text = stream(p, axes, source) if p.maybe(2) else simple(p, axes, source)
    return used(p, f"unit({text})" if unit else text)


def gate(p: Page, per: bool, peak: str, bias: str, source: str = "x") -> str:
    """One number at a token, for each head if `per`, between 0 and `peak`."""
    axes = "head" if per else ""
    if p.edges and p.maybe():
        return edge(p, axes, peak, source)
    if p.maybe(6):
        p.define(
            p.pick(
                "def opening() {\n    return weight([])\n}",
                "def opening() = weight([])",
                "def opening() -> [] = weight([])",
            ),
            movable=True,
        )
        return f"{peak} * sigmoid(opening() + {bias})"
    return p.pick(
        f"{peak} * sigmoid(affine({source}, [{axes}]) + {bias})",
        f"{peak} * sigmoid(weight([{axes}], init = {bias}))",
        f"{peak} * sigmoid(linear(tanh(linear({source}, [3])), [{axes}]))",
        f"{peak} * min(max(sigmoid(affine({source}, [{axes}])), 0.001), 0.999)",
    )


def edge(p: Page, axes: str, peak: str, source: str) -> str:
    """A gate that is exactly 0 or 1, negative or tiny at some tokens or at all, with a slope of its
    own; or at a kink.
    """
    soft, of = f"sigmoid(affine({source}, [{axes}]))", f"affine({source}, [{axes}])"
    opened = f"where(mean({source}) >= 0, 1, 0)"
    hard = p.pick(
        f"weight([{axes}], init = 1) * {opened}",
        f"where({of} >= 0, {soft}, 0)",
        f"min(max({of}, 0), 1)",
        f"({soft} + stop({opened} - {soft}))",
        f"max({opened}, 0) * {soft}",
        f"weight([{axes}], init = 0)",
        f"max(weight([{axes}], init = 0), 0)",
        f"max(0, weight([{axes}], init = 0))",
        f"min(1, weight([{axes}], init = 1))",
        f"abs(weight([{axes}], init = 0))",
        f"abs({of}) ./ (1 + abs({of}))",
        f"weight([{axes}], init = -0.5)",
        f"tanh({of})",
        f"-{soft}",
        f"1e-30 * {soft}",
        f"1e-160 * tanh({of})",
        f"sqrt(max(tanh({of}), 0))",
        f"max({of}, {of}) / 4",
    )
    return hard if peak == "1" else f"{peak} * {hard}"
