"""What an `einsum` is to a memory: every decision that is made on its letters.

hi,hj -> hij     outer product: one rank-one matrix for each head
hij,hj -> hi     a matrix answers a vector, over its last axis (its keys)
hij,hi -> hj     the same over the axis before (its values)
hij,hjk -> hik   a matrix times a square one: a right factor, taken apart if it is a sum of
                 gate * I, gate * a b^T and gate * diag(a)
"""

from __future__ import annotations

from collections.abc import Container

from nldsl.core.nodes import Node

MINUS = Node("const", (), (("value", -1.0),), ())
Part = tuple[list[Node], Node | None]  # gates, and an outer product, a diagonal or None for I


def letters(node: Node) -> tuple[str, str, str]:
    """The letters of both arguments and of the result."""
    left, out = node["eq"].split("->")
    a, b = left.split(",")
    return a, b, out


def outer_product(node: Node) -> bool:
    """u z^T for each head."""
    a, b, out = letters(node)
    return out == a + b[-1:] and b[:-1] == a[:-1] and b[-1:] not in a


def answer_axis(matrix: str, vector: str, out: str, heads: int) -> str:
    """The letter over which a matrix for each head is summed with a vector; "" if it is another
    product.
    """
    if len(matrix) != heads + 2:
        return ""
    summed = set(matrix) & set(vector) - set(out)
    return summed.pop() if len(summed) == 1 and summed <= set(matrix[-2:]) else ""


def by_key(matrix: str, vector: str, out: str, heads: int) -> bool:
    """Is the vector a key: hij,hj -> hi?"""
    head, value, key = matrix[:heads], matrix[-2], matrix[-1]
    return vector == head + key and out == head + value


def right_factor(node: Node, given: Container[Node]) -> list[Part] | None:
    """The parts of the square matrix that the first argument is multiplied with from the right, or
    None if this is another product or the matrix is no such sum; `given` are values to be taken as
    they are.
    """
    a, b, out = letters(node)
    if len(a) < 2 or len(b) != len(a) or b[:-1] != a[:-2] + a[-1] or out != a[:-1] + b[-1]:
        return None
    return matrix_parts(node.args[1], given)


def matrix_parts(node: Node, given: Container[Node]) -> list[Part] | None:
    """A square matrix as a sum of gate * I, gate * a b^T and gate * diag(a), or None."""
    if node in given:  # of one entry: no smaller for being taken apart
        return None
    if node.op in ("add", "sub"):
        a, b = (matrix_parts(x, given) for x in node.args)
        if a is None or b is None:
            return None
        return a + ([(gates + [MINUS], x) for gates, x in b] if node.op == "sub" else b)
    if node.op == "neg":
        inner = matrix_parts(node.args[0], given)
        return None if inner is None else [(gates + [MINUS], x) for gates, x in inner]
    if node.op == "mul":
        for x, gate in (node.args, node.args[::-1]):
            if (inner := matrix_parts(x, given)) is not None:
                return [(gates + [gate], part) for gates, part in inner]
        return None
    if node.op == "eye" or (node.op == "spread" and node.args[0].op == "eye"):
        return [([], None)]
    if node.op == "diag" or (node.op == "einsum" and outer_product(node)):
        return [([], node)]
    return None
