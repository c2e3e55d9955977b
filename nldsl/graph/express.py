"""Core equations as short text, and the two numbers that say what an update does.

For `M <- E(M, g)` with g the gradient, dE/dM is the level's *retention* and -dE/dg its *step size*: the four-choice row of
2504.13173v1 read off the equation instead of declared.
"""
from __future__ import annotations

from nldsl.graph.equations import Node

INFIX = {"add": " + ", "sub": " - ", "mul": " * ", "div": " / ", "pow": "^", "le": " <= ", "ge": " >= ", "eq": " == "}
LOOSE = ("add", "sub")
WIDEST = 60


def express(node: Node, depth: int = 6) -> str:
    """The equation in the user's names, cut at `depth` operators."""
    if node.name and depth < 6:
        return node.name.rsplit(".", 1)[-1]
    if node.op == "const":
        return f"{node['value']:g}" if isinstance(node["value"], (int, float)) else "[..]"
    if node.op in ("input", "weight"):
        return str(node["name"]).rsplit(".", 1)[-1]
    if node.op in ("read", "now", "held", "plain"):
        return node["memory"].rsplit(".", 1)[-1]
    if node.op in ("tick", "ticks"):
        return node.op
    if depth == 0:
        return ".."
    args = [express(a, depth - 1) for a in node.args]
    if node.op in ("spread", "permute", "reshape", "leaf", "total", "stop", "tree"):
        return args[0] if args else node.op
    if node.op in INFIX:
        texts = [f"({t})" if a.op in LOOSE and not a.name and (node.op not in LOOSE or (node.op == "sub" and i == 1)) else t
                 for i, (a, t) in enumerate(zip(node.args, args))]
        return INFIX[node.op].join(texts)
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "einsum":
        return f"{args[0]} {args[1]}"
    if node.op == "eye":
        return "I"
    return f"{node.op}({', '.join(args)})"


def short(node: Node) -> str:
    text = express(node)
    return text if len(text) <= WIDEST else text[:WIDEST - 2] + ".."


def coefficient(node: Node, of: str, kind: str) -> str | None:
    """What multiplies `of` in a sum of products: "" for 1, None where it does not occur. kind "read": a memory; "grad": its gradient."""
    if (node.op == kind and node["memory"] == of) or (kind == "grad" and node.op == "now" and node["memory"] == of):
        return ""
    if node.op in ("spread", "permute", "leaf", "stop"):
        return coefficient(node.args[0], of, kind)
    if node.op == "neg":
        inner = coefficient(node.args[0], of, kind)
        return None if inner is None else f"-{inner or '1'}"
    if node.op in ("add", "sub"):
        left, right = (coefficient(a, of, kind) for a in node.args)
        if right is None:
            return left
        sign = "-" if node.op == "sub" else ""
        right = f"{sign}({right})" if sign and any(c in right for c in "+-") else f"{sign}{right or '1'}"
        return (right if sign else right.removeprefix("+")) if left is None else f"{left or '1'} {'-' if sign else '+'} {right.lstrip('-')}"
    if node.op in ("mul", "einsum", "div"):
        for x, other in (node.args, node.args[::-1]):
            inner = coefficient(x, of, kind)
            if inner is not None:
                text = express(other, 5)
                text = f"({text})" if other.op in LOOSE and not other.name and inner else text
                if node.op == "div":
                    text = f"1 / {text}"
                return f"{inner} {text}".strip() if inner else text
    if node.op == "tree":
        parts = dict.fromkeys(c for c in (coefficient(a, of, kind) for a in node.args) if c is not None)
        return " | ".join(p or "1" for p in parts) if parts else None
    return None
