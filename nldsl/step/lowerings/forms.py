"""What a memory is at every token of a piece, written down without a tensor for each token.

phi_t S                       a state S at the start of the piece, scaled
sum_j K[t, j] u_j z_j^T       writes of this piece, rank one each and kept factored, or any array d_j in the place of u_j z_j^T
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from nldsl.core.nodes import Node, Shape
from nldsl.step.source import Ref


class NotAffine(Exception):
    """The update is not affine with scalar gates; `cell` names a memory that could be tried with a
    gate per entry.
    """

    def __init__(self, why: str, cell: str = "") -> None:
        super().__init__(why)
        self.cell = cell


@dataclass(frozen=True)
class Rows:
    """A number for each token (and head): text of a tensor [B, P.., T], or [B, P.., in, T] in a
    wide run, or a literal.
    """

    text: str
    literal: float | None = None


ONE, NONE = Rows("1.0", 1.0), Rows("0.0", 0.0)


@dataclass(frozen=True)
class Carry:
    phi: Rows
    state: Ref  # [B, P.., rest]


@dataclass(frozen=True)
class Write:
    """sum_j K[t, j] x_j.

    `kernel` is None where K is diagonal, then `gate` is its diagonal. x_j is u_j z_j^T, or u_j if z
    is None.
    """

    kernel: str | None
    gate: Rows
    u: Ref  # [B, T, P.., out] or [B, T, P.., rest]
    z: Ref | None  # [B, T, P.., in]


@dataclass(frozen=True)
class Run:
    """A value for each token of the piece, unmaterialised. `own` is the coefficient of the memory
    being solved, at t - 1.

    `wide`: its gates, and the kernels made of them, have the last axis of the memory too (a decay
    for each channel of the keys).
    """

    shape: Shape
    prefix: int
    terms: tuple[Carry | Write, ...] = ()
    own: Rows | None = None
    erases: tuple[tuple[Rows, Ref, Ref], ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Vec:
    """sum of gate_t (X_{t-1} a_t) + rest_t: what a memory being solved answers to a key."""

    shape: Shape
    reads: tuple[tuple[Rows, Ref], ...]
    rest: Ref | None


Value = Ref | Run | Vec
P = "pqrs"  # letters of the prefix axes


def factored(node: Node, given: Container[int]) -> bool:
    """Is this X times a square matrix that is a sum of gate * I, gate * a b^T and gate * diag(a),
    of which `given` is no part?
    """
    left, out = node["eq"].split("->")
    la, lb = left.split(",")
    return (
        len(la) >= 2
        and len(lb) == len(la)
        and lb[:-1] == la[:-2] + la[-1]
        and out == la[:-1] + lb[-1]
        and matrix_terms(node.args[1], given) is not None
    )


def matrix_terms(node: Node, given: Container[int]) -> list[tuple[list[Node], Node | None]] | None:
    """A square matrix as a sum of gate * I, gate * a b^T and gate * diag(a): [(gates, None or the
    outer product or diagonal)], or None.
    """
    if id(node) in given:  # of one entry: no smaller for being taken apart
        return None
    if node.op in ("add", "sub"):
        a, b = (matrix_terms(x, given) for x in node.args)
        if a is None or b is None:
            return None
        return a + ([(g + [MINUS], o) for g, o in b] if node.op == "sub" else b)
    if node.op == "neg":
        inner = matrix_terms(node.args[0], given)
        return None if inner is None else [(g + [MINUS], o) for g, o in inner]
    if node.op == "mul":
        for x, g in (node.args, node.args[::-1]):
            inner = matrix_terms(x, given)
            if inner is not None:
                return [(gates + [g], o) for gates, o in inner]
        return None
    if node.op == "eye" or (node.op == "spread" and node.args[0].op == "eye"):
        return [([], None)]
    if node.op == "diag":
        return [([], node)]
    if node.op == "einsum":
        left, out = node["eq"].split("->")
        la, lb = left.split(",")
        if out == la + lb[-1] and lb[:-1] == la[:-1]:
            return [([], node)]
    return None


MINUS = Node("const", (), (("value", -1.0),), ())
