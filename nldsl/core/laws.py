"""The laws of the core: what each op asks of the shapes of its arguments.

Verified after each stage in tests.
"""

from __future__ import annotations

from nldsl.core.nodes import Node, Shape, Tree, Type, numel
from nldsl.core.ops import ELEMENTWISE
from nldsl.core.program import Program

SAME = frozenset({"held_stream", "softmax", "rope", "ahead", "fold", "window", "stop"})


def sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(axis.size for axis in shape)


def check_program(program: Program) -> None:
    """Raise AssertionError at the first node that breaks a law."""
    for node in program.nodes():
        check_node(node)
    for memory in program.memories.values():
        for node in (memory.start, memory.next):
            assert node is None or node.type == memory.type, memory.name
        assert memory.start is not None or memory.slots is not None, memory.name
        for path, name in (memory.slots or {}).items():
            assert (
                isinstance(memory.type, Tree)
                and memory.type.shape(path) == program.weights[name].shape
            ), name
            assert program.weights[name].owner == memory.name, name
    for level in program.levels.values():
        assert all(not isinstance(node.type, Tree) for node in level.objectives), level.name


def check_node(node: Node) -> None:
    assert lawful(node), f"{node!r}: {node.type} of {[arg.type for arg in node.args]}"


def lawful(node: Node) -> bool:
    op, out, types = node.op, node.type, [arg.type for arg in node.args]
    if op in ELEMENTWISE:
        return out == joint(types)
    if op in SAME:
        return out == types[0]
    if op == "leaf":
        return isinstance(types[0], Tree) and out == types[0].shape(node["path"])
    if op == "tree":
        return isinstance(out, Tree) and [shape for _, shape in out.leaves] == types
    if op == "total":
        return isinstance(types[0], Tree) and all(
            shape[: node["keep"]] == out for _, shape in types[0].leaves
        )
    if op == "grad":
        return out == types[1] and not isinstance(types[0], Tree)
    if op == "grad_stream":
        return out == types[1] and types[0] is not None
    if any(
        isinstance(type_, Tree)
        for type_ in (
            *types,
            *([out] if op not in ("read", "now", "held", "plain", "load") else []),
        )
    ):
        return False
    return arrays(node, types)


def joint(types: list[Type]) -> Type | None:
    """The type of an elementwise result; None if the arguments do not fit."""
    trees = [type_ for type_ in types if isinstance(type_, Tree)]
    if trees:
        tree = trees[0]
        fits = all(
            type_ == tree
            or (
                not isinstance(type_, Tree)
                and all(shape[: len(type_)] == type_ for _, shape in tree.leaves)
            )
            for type_ in types
        )
        return tree if fits else None
    full = next((type_ for type_ in types if type_), ())
    return full if all(type_ in ((), full) for type_ in types) else None


def arrays(node: Node, types: list[Shape]) -> bool:
    op, out = node.op, node.type
    if op in ("sum", "mean", "amax"):
        return out == tuple(axis for i, axis in enumerate(types[0]) if i not in node["dims"])
    if op == "spread":
        return len(node["dims"]) == len(types[0]) and [out[d] for d in node["dims"]] == list(
            types[0]
        )
    if op == "permute":
        return list(out) == [types[0][d] for d in node["dims"]]
    if op == "reshape":
        return numel(out) == numel(types[0])
    if op == "einsum":
        return einsum(node["eq"], types, out)
    if op == "select":
        return (
            out == tuple(axis for i, axis in enumerate(types[0]) if i != node["dim"])
            and node["index"] < types[0][node["dim"]].size
        )
    if op == "stack":
        return out[node["dim"]].size == len(types) and all(
            type_ == out[: node["dim"]] + out[node["dim"] + 1 :] for type_ in types
        )
    if op == "join":
        return out[node["dim"]].size == sum(type_[node["dim"]].size for type_ in types)
    if op == "solve":
        return out == types[0] and sizes(types[1]) == (*sizes(out[:-2]), out[-1].size, out[-1].size)
    if op == "diag":
        return out == (*types[0], types[0][-1])
    if op == "gather":
        return out == types[0][1:] and types[1] == ()
    if op == "cross_entropy":
        return out == types[0][:-1] and types[1] == ()
    if op == "conv":
        return out == types[0] and sizes(types[1][1:]) == sizes(types[0])
    if op == "attend":
        return all(
            attended(group, types[0], types[1 + 2 * i], types[2 + 2 * i], out)
            for i, group in enumerate(node["groups"])
        )
    return not types


def einsum(eq: str, types: list[Shape], out: Shape) -> bool:
    left, _, right = eq.partition("->")
    bound: dict[str, int] = {}
    for letters, type_ in zip((*left.split(","), right), (*types, out), strict=True):
        if len(letters) != len(type_) or len(set(letters)) != len(letters):
            return False
        if any(
            bound.setdefault(letter, axis.size) != axis.size
            for letter, axis in zip(letters, type_, strict=True)
        ):
            return False
    return set(right) <= set(left)


def attended(group: tuple[str, str, object], q: Shape, k: Shape, v: Shape, out: Shape) -> bool:
    scores, _, letters = group[0].partition("->")
    one = dict(zip(scores.replace(",", ""), (*q, *k), strict=True))
    between = tuple(one[letter] for letter in letters)
    return einsum(group[0], [q, k], between) and einsum(group[1], [between, v], out)
