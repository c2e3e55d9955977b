"""What a memory is at every token of a piece, as text, without a tensor for each token.

decay_t S                     the state S at the start of the piece, scaled
sum_j mask[t, j] u_j z_j^T    writes of this piece, of rank one and kept as two factors; or any
                              array d_j in the place of u_j z_j^T

B lanes, T tokens (J where they are summed), P.. heads. An axis that a gate has for each channel of
the keys stands before T.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.nodes import Shape
from nldsl.step.source import Ref


@dataclass(frozen=True)
class Gate:
    """A number for each token and head: a tensor [B, P.., T], with channels [B, P.., in, T], or a
    number for all.
    """

    text: str
    literal: float | None = None


ONE, ZERO = Gate("1.0", 1.0), Gate("0.0", 0.0)


@dataclass(frozen=True)
class InitialTerm:
    decay: Gate
    state: Ref  # [B, P.., rest]


@dataclass(frozen=True)
class KernelTerm:
    """sum_j mask[t, j] x_j, with x_j = u_j z_j^T, or u_j if z is None.

    `mask` [B, P.., T, J] is None where it is diagonal; then `gate` is its diagonal. `solved` is
    there if nothing but the last token takes the u_j: they are its matrix [B, P.., T, J] times its
    tensor [B, T, P.., out].
    """

    mask: str | None
    gate: Gate
    u: Ref  # [B, T, P.., out] or [B, T, P.., rest]
    z: Ref | None  # [B, T, P.., in]
    solved: tuple[str, Ref] | None = None


Term = InitialTerm | KernelTerm


@dataclass(frozen=True)
class Householder:
    """gate_t (X_{t-1} key_t) write_t^T: the memory answers a key, and is written with the answer
    (products of Householder-like factors, 2512.24695v1, Eqs. 88, 90).
    """

    gate: Gate
    key: Ref  # [B, T, P.., in]
    write: Ref  # [B, T, P.., in]


@dataclass(frozen=True)
class AffineState:
    """A value for each token of the piece: terms, and a part in the memory that is being solved, at
    the token before. The first `heads` axes are apart from each other.

    `channels`: its gates, and the masks made of them, have the memory's last axis too.
    """

    shape: Shape
    heads: int
    terms: tuple[Term, ...] = ()
    self_gate: Gate | None = None
    householder: tuple[Householder, ...] = ()
    channels: bool = False


@dataclass(frozen=True)
class Readout:
    """sum of gate_t (X_{t-1} key_t) + rest_t: what a memory being solved answers.

    reads: (gate, key [B, T, P.., in]); rest: [B, T, P.., out]
    """

    shape: Shape
    reads: tuple[tuple[Gate, Ref], ...]
    rest: Ref | None


Value = Ref | AffineState | Readout
HEADS = "pqrs"  # letters of the axes of heads


def present(state: AffineState) -> list[Term]:
    """The terms, but a start that is weighed with the number 0."""
    return [t for t in state.terms if not isinstance(t, InitialTerm) or t.decay.literal != 0]
