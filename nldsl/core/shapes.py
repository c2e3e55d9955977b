"""Type laws of the operators: each is a predicate on a node."""

from __future__ import annotations

from collections.abc import Callable

from nldsl.core.nodes import Node, Shape, Tree, Type, numel

Law = Callable[[Node], bool]


def sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(axis.size for axis in shape)


def of_arrays(law: Callable[[Node, list[Shape], Shape], bool]) -> Law:
    """The law of an operator that takes arrays and gives one."""

    def check(node: Node) -> bool:
        types = [arg.type for arg in node.args]
        if isinstance(node.type, Tree) or any(isinstance(type_, Tree) for type_ in types):
            return False
        return law(node, [type_ for type_ in types if not isinstance(type_, Tree)], node.type)

    return check


def constant(node: Node) -> bool:
    """A number is []; nested tuples have the sizes of the axes."""
    value, found = node["value"], []
    while isinstance(value, tuple):
        found.append(len(value))
        value = value[0]
    return not isinstance(node.type, Tree) and tuple(found) == sizes(node.type)


def elementwise(node: Node) -> bool:
    return node.type == joint([arg.type for arg in node.args])


def joint(types: list[Type]) -> Type | None:
    """The type of an elementwise result; None if the arguments do not fit."""
    tree = next((type_ for type_ in types if isinstance(type_, Tree)), None)
    if tree is not None:
        return tree if all(type_ == tree or prefix(type_, tree) for type_ in types) else None
    full = next((type_ for type_ in types if type_), ())
    return full if all(type_ in ((), full) for type_ in types) else None


def prefix(type_: Type, tree: Tree) -> bool:
    """Does every leaf begin with the axes of the array?"""
    return not isinstance(type_, Tree) and all(
        shape[: len(type_)] == type_ for _, shape in tree.leaves
    )


def same(node: Node) -> bool:
    return node.type == node.args[0].type


def stretch(node: Node) -> bool:
    """As its term, or one of it for each worker."""
    term = node.args[0].type
    widest = node.type.leaves[0][1] if isinstance(node.type, Tree) else node.type
    return same(node) or node.type == behind(widest[:1], term)


def behind(axes: Shape, type_: Type) -> Type:
    """The type with these axes in front of every array."""
    if isinstance(type_, Tree):
        return Tree(tuple((path, (*axes, *shape)) for path, shape in type_.leaves))
    return (*axes, *type_)


def leaf(node: Node) -> bool:
    tree = node.args[0].type
    return isinstance(tree, Tree) and node.type == tree.shape(node["path"])


def tree(node: Node) -> bool:
    return isinstance(node.type, Tree) and [shape for _, shape in node.type.leaves] == [
        arg.type for arg in node.args
    ]


def total(node: Node) -> bool:
    tree = node.args[0].type
    return isinstance(tree, Tree) and all(
        shape[: node["keep"]] == node.type for _, shape in tree.leaves
    )


def gradient(node: Node) -> bool:
    """Of a number or an array, in a value of any type."""
    return node.type == node.args[1].type and not isinstance(node.args[0].type, Tree)


def terms(node: Node) -> bool:
    """A sum over time of the first argument, which memories give the others."""
    return node.type == node.args[0].type and len(node.args) == 1 + len(node["names"])


def when(node: Node) -> bool:
    """Two values of one type; of a clock of documents, a flag [] beside them."""
    values, flags = node.args[:2], node.args[2:]
    return (
        len(flags) <= 1
        and all(a.type == node.type for a in values)
        and all(f.type == () for f in flags)
    )


def spread(node: Node) -> bool:
    """Axis i of the argument is axis dims[i] of the result, or of each leaf."""
    inner, out, dims = node.args[0].type, node.type, node["dims"]
    if isinstance(inner, Tree):
        return False
    if isinstance(out, Tree):
        return tuple(dims) == tuple(range(len(inner))) and prefix(inner, out)
    return len(dims) == len(inner) and [out[d] for d in dims] == list(inner)


reduced = of_arrays(
    lambda node, types, out: (
        out == tuple(a for i, a in enumerate(types[0]) if i not in node["dims"])
    )
)
permute = of_arrays(lambda node, types, out: list(out) == [types[0][d] for d in node["dims"]])
reshape = of_arrays(lambda node, types, out: numel(out) == numel(types[0]))
einsum = of_arrays(lambda node, types, out: product(node["eq"], types, out))
select = of_arrays(
    lambda node, types, out: (
        out == tuple(a for i, a in enumerate(types[0]) if i != node["dim"])
        and node["index"] < types[0][node["dim"]].size
    )
)
stack = of_arrays(
    lambda node, types, out: (
        out[node["dim"]].size == len(types)
        and all(type_ == out[: node["dim"]] + out[node["dim"] + 1 :] for type_ in types)
    )
)
join = of_arrays(
    lambda node, types, out: (
        out[node["dim"]].size == sum(type_[node["dim"]].size for type_ in types)
    )
)
solve = of_arrays(
    lambda node, types, out: (
        out == types[0] and sizes(types[1]) == (*sizes(out[:-2]), out[-1].size, out[-1].size)
    )
)
eye = of_arrays(lambda node, types, out: len(out) == 2 and out[0].size == out[1].size)
diag = of_arrays(lambda node, types, out: out == (*types[0], types[0][-1]))
gather = of_arrays(lambda node, types, out: out == types[0][1:] and types[1] == ())
cross_entropy = of_arrays(lambda node, types, out: out == types[0][:-1] and types[1] == ())
conv = of_arrays(
    lambda node, types, out: out == types[0] and sizes(types[1][1:]) == sizes(types[0])
)
attend = of_arrays(
    lambda node, types, out: all(
        attended(group, types[0], types[1 + 2 * i], types[2 + 2 * i], out)
        for i, group in enumerate(node["groups"])
    )
)
array = of_arrays(lambda node, types, out: not types)
number = of_arrays(lambda node, types, out: out == ())


def product(eq: str, types: list[Shape], out: Shape) -> bool:
    """Do the letters of an einsum fit the axes, one size a letter, and no letter twice in one
    operand?
    """
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
    """Do the einsums of one pair of `attend` fit query, key, value and result?"""
    scores, _, letters = group[0].partition("->")
    one = dict(zip(scores.replace(",", ""), (*q, *k), strict=True))
    between = tuple(one[letter] for letter in letters)
    return product(group[0], [q, k], between) and product(group[1], [between, v], out)
