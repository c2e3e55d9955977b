"""OBJECTIVE -> ITS CURVATURE in one memory, where it is the square of an output that is linear in
it.

c |W k - v|^2   ->   factor c, key k            its gradient is 2 c (W k - v) k^T
c |W K - V|^2   ->   factor c, keys K           its gradient is 2 c (W K - V) K^T
c |W - v|^2     ->   factor c, no key           its gradient is 2 c (W - v)
c sum(|W k - v|^2 over a stretch)               factor c, key k, and the stretch of which it is the
                                                sum
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, walk


@dataclass(frozen=True)
class Quadratic:
    """factor * |W key - ..|^2, or factor * |W - ..|^2 without a key; `several` keys are the columns
    of a matrix, `stretch` is the fold or window of the first, if it is one.
    """

    factor: float
    key: Node | None
    several: bool = False
    stretch: Node | None = None


def quadratic(goal: Node, memory: str) -> Quadratic | None:
    """The form of an objective, if it is one of those above; terms without the memory do not
    count.
    """
    factor = 1.0
    while goal.op in ("mul", "div", "neg", "add", "sub"):
        learned = [reads(arg, memory) for arg in goal.args]
        if goal.op in ("add", "sub"):
            if learned not in ([True, False], [False, True]) or (goal.op == "sub" and learned[1]):
                return None
            goal = goal.args[learned.index(True)]
            continue
        numbers = [number(arg) for arg in goal.args]
        if (
            goal.op == "neg"
            or (goal.op == "div" and numbers[1] is None)
            or numbers.count(None) != 1
        ):
            return None
        known = next(n for n in numbers if n is not None)
        if known == 0:
            return None
        factor = factor / known if goal.op == "div" else factor * known
        goal = goal.args[numbers.index(None)]
    if goal.op in ("fold", "window"):
        inside = quadratic(goal.args[0], memory)
        if (
            inside is None
            or inside.key is None
            or inside.several
            or inside.stretch is not None
            or factor <= 0
        ):
            return None
        return Quadratic(factor * inside.factor, inside.key, stretch=goal)
    if (
        goal.op not in ("sum", "total")
        or goal.args[0].op != "mul"
        or goal.args[0].args[0] is not goal.args[0].args[1]
        or factor <= 0
    ):
        return None
    return of_error(goal.args[0].args[0], factor, memory)


def of_error(error: Node, factor: float, memory: str) -> Quadratic | None:
    """The form of `factor |error|^2`: M itself, or M times a key, with or without a target."""
    output = error
    if error.op in ("sub", "add"):
        output, target = error.args if reads(error.args[0], memory) else error.args[::-1]
        if reads(target, memory):
            return None
    if is_memory(output, memory):
        return Quadratic(factor, None)
    if (
        output.op == "einsum"
        and is_memory(output.args[0], memory)
        and not reads(output.args[1], memory)
    ):
        left, right = output["eq"].partition("->")[0].split(",")
        if isinstance(output.args[0].type, Tree):
            return None
        if left[-1:] == right[-1:] and right == left[:-2] + left[-1:]:
            return Quadratic(factor, output.args[1])
        if (
            left[-1:] in right
            and set(left) & set(right) == {*left[:-2], left[-1]}
            and output["eq"].partition("->")[2].startswith(left[:-1])
        ):
            return Quadratic(factor, output.args[1], several=True)
    return None


def is_memory(node: Node, memory: str) -> bool:
    """Also before versions are put in the place of reads: `plain(M#k)`."""
    return node.op == "plain" and node["memory"].partition("#")[0] == memory


def reads(node: Node, memory: str) -> bool:
    return any(is_memory(inner, memory) for inner in walk(node))
