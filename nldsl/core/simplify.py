"""Simplifications of elementwise operators: `f(build, args)` returns a shorter node, or None.

x + 0 -> x    x + x -> 2 x    1 * x -> x    2 * (3 * x) -> 6 x    x ^ 0 -> 1
"""

from __future__ import annotations

from collections.abc import Sequence

from nldsl.core.build import Builder, number, rank, widest
from nldsl.core.nodes import Node


def as_wide(a: Node, b: Node) -> bool:
    """Has a the shape of an elementwise result of both?"""
    return rank(a.type) >= rank(b.type)


def add(build: Builder, args: Sequence[Node]) -> Node | None:
    """0 + b -> b, a + 0 -> a, a + a -> 2 a"""
    a, b = args
    if number(a) == 0 and as_wide(b, a):
        return b
    if number(b) == 0 and as_wide(a, b):
        return a
    return build.mul(build.const(2), a) if a is b else None


def sub(build: Builder, args: Sequence[Node]) -> Node | None:
    """a - 0 -> a, 0 - b -> -b"""
    a, b = args
    if number(b) == 0 and as_wide(a, b):
        return a
    return build.neg(b) if number(a) == 0 and as_wide(b, a) else None


def neg(build: Builder, args: Sequence[Node]) -> Node | None:
    """-0 -> 0, -(-x) -> x"""
    (a,) = args
    return a if number(a) == 0 else a.args[0] if a.op == "neg" else None


def mul(build: Builder, args: Sequence[Node]) -> Node | None:
    """0 x -> 0, 1 x -> x, -1 x -> -x, 2 (3 x) -> 6 x"""
    for x, y in (args, args[::-1]):
        value = number(x)
        if value == 0:
            return build.const(0, widest(*args))
        if value == 1 and as_wide(y, x):
            return y
        if value == -1 and as_wide(y, x):
            return build.neg(y)
        if value is not None and y.op == "mul" and y.type == widest(x, y):
            for p, q in (y.args, y.args[::-1]):  # two numbers are one
                if (inner := number(p)) is not None:
                    return build.mul(build.const(value * inner), q)
    return None


def div(build: Builder, args: Sequence[Node]) -> Node | None:
    """0 / b -> 0, a / 1 -> a"""
    a, b = args
    if number(a) == 0:
        return build.const(0, widest(a, b))
    return a if number(b) == 1 and as_wide(a, b) else None


def pow(build: Builder, args: Sequence[Node]) -> Node | None:
    """a ^ 1 -> a, a ^ 0 -> 1"""
    a, b = args
    value = number(b)
    if value == 1 and as_wide(a, b):
        return a
    return build.const(1, widest(a, b)) if value == 0 else None


def where(build: Builder, args: Sequence[Node]) -> Node | None:
    """0 if both branches are 0"""
    _, a, b = args
    return build.const(0, widest(*args)) if number(a) == 0 and number(b) == 0 else None
