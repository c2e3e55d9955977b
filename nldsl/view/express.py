"""CORE EQUATIONS -> SHORT TEXT in the names of the spec.

    sub(mul(keep, eye), mul(rate, einsum(k, k)))     ->     keep I - rate k k^T

What a definition names is called by its name; a number that follows from the count of ticks alone
is `f(tick)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nldsl.core.nodes import Node, Tree, Type, numel
from nldsl.core.program import READS, Clock, Level

SUM, PRODUCT, SIGN, POWER, ATOM = range(5)  # how tightly a text holds together
WIDEST = 60
DEEPEST = 6
SILENT = ("spread", "permute", "reshape")
SIGNS = {"add": "+", "sub": "-", "le": "<=", "ge": ">=", "eq": "=="}
Names = Mapping[Node, str]
NONE: Names = {}


def path(name: str) -> list[str]:
    """The parts of a qualified name; what stands in brackets may be one itself:
    velocity[loss.layer[0].q].
    """
    parts, open_ = [""], 0
    for letter in name:
        open_ += (letter == "[") - (letter == "]")
        if letter == "." and not open_:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def last(name: str) -> str:
    return path(name)[-1]


def flows(level: Level) -> dict[Node, str]:
    """The names in the text of the streams that a level learns from; the leaves of a tree have its
    name.
    """
    return {
        part: name
        for node, name in zip(level.context, level.flows, strict=True)
        for part in (*(node.args if node.op == "tree" else ()), node)
    }


def called(node: Node, widest: int = WIDEST, names: Names = NONE) -> str:
    """The name of a value in the text, else its equation at the greatest depth that fits, else the
    values that it depends on. `names` gives some nodes other names.
    """
    for depth in range(DEEPEST, 0, -1):
        text = _text(node, depth, names)[1]
        if len(text) <= widest and ".." not in text:
            return text
    return f"f({', '.join(made_of(node, names)) or '..'})"


def made_of(node: Node, names: Names = NONE) -> list[str]:
    """The named values, states and streams that an equation is made of, weights and constants left
    out.
    """
    found: dict[str, None] = {}
    seen: set[Node] = set()
    stack = [*reversed(node.args)]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        if (
            part in names
            or part.op in ("grad", "input", *READS)
            or (part.name and part.op not in ("weight", "const"))
        ):
            found[_text(part, 1, names)[1]] = None
        else:
            stack.extend(reversed(part.args))
    return list(found)


def clock_text(clock: Clock) -> str:
    """`chunk`, `token`, `4 token`"""
    return (
        clock.name
        if clock.name.isidentifier()
        else clock.unit
        if clock.period == 1
        else f"{clock.period} {clock.unit}"
    )


def within(text: tuple[int, str], tightness: int) -> str:
    return text[1] if text[0] >= tightness else f"({text[1]})"


def _text(node: Node, depth: int, names: Names = NONE) -> tuple[int, str]:
    """Tightness and text."""
    if node in names:
        return ATOM, names[node]
    if node.name and node.op not in READS:
        return ATOM, last(node.name)
    leaf = _leaf(node)
    if leaf is not None:
        return leaf
    if node.op in SILENT or (node.op in ("stop", "ahead") and depth == 0):
        return _text(node.args[0], depth, names)
    if node.op == "leaf":
        return ATOM, f"{within(_text(node.args[0], depth, names), ATOM)}.{last(node['path'])}"
    if node.type == () and scheduled(node):
        return ATOM, "f(tick)"
    if depth == 0:
        return ATOM, ".."
    return _operator(node, depth, names)


def _leaf(node: Node) -> tuple[int, str] | None:
    if node.op == "const":
        value = node["value"]
        return (ATOM, f"{value:g}") if isinstance(value, int | float) else (ATOM, "[..]")
    if node.op in ("input", "weight"):
        return ATOM, last(node["name"])
    if node.op in READS:
        return ATOM, last(node["memory"]) + (
            f"@{clock_text(node['clock'])}" if node.op == "held" else ""
        )
    if node.op in ("tick", "ticks"):
        return ATOM, node.op
    if node.op == "eye":
        return ATOM, "I"
    if node.op == "random":
        return ATOM, "random"
    if node.op == "load":
        return ATOM, f'load("{node["file"]}")'
    return None


def scheduled(node: Node) -> bool:
    """A number of the count of ticks alone, longer than a name."""
    seen: set[Node] = set()
    ticks, stack = False, [node]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        ticks = ticks or part.op in ("tick", "ticks")
        if not part.args and part.op not in ("tick", "ticks", "const"):
            return False
        stack.extend(part.args)
    return ticks and len(seen) > 5


def _operator(node: Node, depth: int, names: Names) -> tuple[int, str]:
    def part(arg: Node, tightness: int = SUM) -> str:
        return within(_text(arg, depth - 1, names), tightness)

    op, args = node.op, node.args
    if op in SIGNS:
        right = part(args[1], PRODUCT if op == "sub" else SUM)
        if op == "add" and right.startswith("-"):
            return SUM, f"{part(args[0])} - {right[1:]}"
        return SUM, f"{part(args[0])} {SIGNS[op]} {right}"
    if op == "neg":
        return SIGN, f"-{part(args[0], PRODUCT)}"
    if op in ("mul", "einsum"):
        if args[0] is args[1] and op == "mul":
            return POWER, f"{part(args[0], ATOM)}^2"
        right = part(args[1], PRODUCT)
        if right.startswith("-"):
            right = f"({right})"
        transposed = "^T" if op == "einsum" and outer(node["eq"]) else ""
        return (
            PRODUCT,
            f"{part(args[0], PRODUCT)} {part(args[1], ATOM) if transposed else right}{transposed}",
        )
    if op == "div":
        return PRODUCT, f"{part(args[0], PRODUCT)} / {part(args[1], POWER)}"
    if op == "pow":
        return POWER, f"{part(args[0], ATOM)}^{part(args[1], ATOM)}"
    if (op == "sum" or op == "total") and args[0].op == "mul":
        a, b = args[0].args
        return (POWER, f"|{part(a)}|^2") if a is b else (ATOM, f"<{part(a)}, {part(b)}>")
    if (
        op == "sqrt"
        and args[0].op in ("sum", "total")
        and args[0].args[0].op == "mul"
        and len(set(args[0].args[0].args)) == 1
    ):
        return ATOM, f"|{part(args[0].args[0].args[0])}|"
    return ATOM, _call(node, part)


def _call(node: Node, part: Callable[..., str]) -> str:
    """An operator that is written as a call, an index or an instant."""
    op, args = node.op, node.args
    if op in ("fold", "window"):
        return f"{node['how']}({part(args[0])} over {_stretch(node)})"
    if op == "grad":
        return f"grad({part(args[1])})"
    if op == "gather":
        return f"{part(args[0], ATOM)}[{part(args[1])}]"
    if op == "select":
        return f"{part(args[0], ATOM)}[{node['index']}]"
    if op == "tree":
        return " | ".join(dict.fromkeys(part(arg) for arg in args))
    if op == "held_stream":
        return f"{part(args[0], ATOM)}@{clock_text(node['clock'])}"
    if op == "attend":
        pairs = ", ".join(f"{part(args[i])} -> {part(args[i + 1])}" for i in range(1, len(args), 2))
        return f"attend({part(args[0])}, {pairs})"
    words = {"ahead": "next", "amax": "max", "grad_stream": "grad", "total": "sum"}
    return f"{words.get(op, op)}({', '.join(part(arg) for arg in args)})"


def _stretch(node: Node) -> str:
    if node.op == "window":
        return f"{node['length']} token"
    return "period" if isinstance(node["since"], str) else clock_text(node["since"])


def outer(eq: str) -> bool:
    """Does a product sum nothing and keep axes of both sides apart?"""
    left, right = eq.partition("->")[0].split(",")
    result = eq.partition("->")[2]
    return (
        set(left) | set(right) == set(result)
        and bool(set(left) - set(right))
        and bool(set(right) - set(left))
    )


def type_text(type_: Type) -> str:
    """The shape of an array, or the parts of a tree."""
    if isinstance(type_, Tree):
        paths = [last(path) for path in type_.paths()]
        return "net of " + ", ".join(paths) if len(paths) <= 4 else f"{len(paths)} tensors"
    return "[" + ", ".join(map(str, type_)) + "]"


def numbers(type_: Type) -> int:
    return (
        sum(numel(shape) for _, shape in type_.leaves) if isinstance(type_, Tree) else numel(type_)
    )
