"""What an `einsum` is to a memory: every decision that is made on its letters.

hi,hj -> hij     outer product: one rank-one matrix for each head
hij,hj -> hi     a matrix answers a vector, over its last axis (its keys)
hij,hi -> hj     the same over the axis before (its values)
"""

from __future__ import annotations

from nldsl.core.nodes import Node


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
