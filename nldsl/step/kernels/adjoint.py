"""Operations of a piece -> those of its backward pass: each is followed, in reverse, by its
adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nldsl.step.kernels.tiles import Op, Piece, Sizes

Adjoint = Callable[["Backward", Op, int, int], tuple[int | None, ...]]


@dataclass
class Backward:
    """Operations of a piece, then of its backward pass; `states` and `streams` say where the
    gradients are, of those that have one. What comes in is a value too: "grad_new", the gradient in
    a state behind the piece, "grad_out" in what was handed on.
    """

    ops: list[Op]
    tiles: list[Sizes]
    states: dict[int, int] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    known: dict[Op, int] = field(default_factory=dict)

    def add(self, op: Op, tile: Sizes) -> int:
        if op not in self.known:
            self.known[op] = len(self.ops)
            self.ops.append(op)
            self.tiles.append(tile)
        return self.known[op]

    def alike(self, kind: str, args: Sequence[int], number: float = 1.0) -> int:
        """Entry by entry, of tiles of one shape."""
        tile = self.tiles[args[0]]
        letters = "abc"[: len(tile)]
        eq = f"{','.join([letters] * len(args))}->{letters}"
        return self.add(Op(kind, tuple(args), eq, number), tile)

    def times(self, *factors: int) -> int:
        found, *rest = factors
        for x in rest:
            found = self.alike("einsum", [found, x])
        return found


def backward(
    piece: Piece,
    streams: Collection[int],
    new: Collection[int],
    outs: Collection[int],
    kept: Sequence[int] = (),
) -> Backward:
    """The backward pass that gives the gradients in all states and in these streams; `new` and
    `outs` have a gradient that is not 0: all states do, but for the last piece. The values `kept`
    come in, too.
    """
    made = Backward([*piece.ops], [*piece.tiles])
    moved = moving(piece, streams)
    grads: dict[int, int] = {}

    def take(at: int, grad: int | None) -> None:
        if grad is not None and at in moved:
            grads[at] = grad if at not in grads else made.alike("add", [grads[at], grad])

    for kind, some, which in (("grad_new", piece.new, new), ("grad_out", piece.outs, outs)):
        for i in sorted(which):
            take(some[i].at, made.add(Op(kind, (), "", i), piece.tiles[some[i].at]))
    for at in reversed(range(len(piece.ops))):
        op = piece.ops[at]
        if at in grads and op.args:
            for x, grad in zip(op.args, ADJOINT[op.kind](made, op, at, grads[at]), strict=True):
                take(x, grad)
    for i, at in enumerate(kept):
        made.ops[at] = Op("kept", (), "", i)
    made.states = {i: grads[x.at] for i, x in enumerate(piece.states) if x.at in grads}
    made.streams = {i: grads[piece.streams[i].at] for i in streams if piece.streams[i].at in grads}
    return made


def moving(piece: Piece, streams: Collection[int]) -> set[int]:
    """Values that have a gradient to hand on."""
    found = {x.at for x in piece.states} | {piece.streams[i].at for i in streams}
    for at, op in enumerate(piece.ops):
        if op.kind != "stop" and found & {*op.args}:
            found.add(at)
    return found


def of_product(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    given, out = op.letters
    found = []
    for i, x in enumerate(op.args):
        rest = [(a, b) for j, (a, b) in enumerate(zip(given, op.args)) if j != i]
        eq = f"{','.join([out, *(a for a, _ in rest)])}->{given[i]}"
        one = Op("einsum", (grad, *(b for _, b in rest)), eq, 1.0, op.low)
        found.append(made.add(one, made.tiles[x]))
    return tuple(found)


def of_sum(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    given, out = op.letters
    signed = [grad, grad if op.number == 1 else made.alike("scale", [grad], op.number)]
    return tuple(
        g if letters == out else made.add(Op("einsum", (g,), f"{out}->{letters}"), made.tiles[x])
        for g, letters, x in zip(signed, given, op.args)
    )


def of_silu(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    """s (1 + x (1 - s)) with s the sigmoid of x."""
    (x,) = op.args
    s = made.alike("sigmoid", [x])
    rest = made.alike("shift", [made.alike("scale", [s], -1.0)], 1.0)
    return (made.times(grad, s, made.alike("shift", [made.times(x, rest)], 1.0)),)


def of_sigmoid(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    rest = made.alike("shift", [made.alike("scale", [at], -1.0)], 1.0)
    return (made.times(grad, at, rest),)


def of_inverse(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    return (made.alike("scale", [made.times(grad, at, at)], -1.0),)


def of_solve(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    """- X^T G X^T, below the diagonal."""
    tile = made.tiles[at]
    left = made.add(Op("einsum", (at, grad), "ba,bc->ac"), tile)
    both = made.add(Op("einsum", (left, at), "ac,dc->ad"), tile)
    below = made.add(Op("strict", (), "", tile[0]), tile)
    return (made.alike("scale", [made.times(both, below)], -1.0),)


def of_sqrt(made: Backward, op: Op, at: int, grad: int) -> tuple[int, ...]:
    return (made.alike("scale", [made.times(grad, made.alike("inverse", [at]))], 0.5),)


ADJOINT: Mapping[str, Adjoint] = {
    "einsum": of_product,
    "add": of_sum,
    "scale": lambda made, op, at, grad: (made.alike("scale", [grad], op.number),),
    "shift": lambda made, op, at, grad: (grad,),
    "stop": lambda made, op, at, grad: (None,),
    "exp": lambda made, op, at, grad: (made.times(grad, at),),
    "silu": of_silu,
    "sigmoid": of_sigmoid,
    "inverse": of_inverse,
    "sqrt": of_sqrt,
    "solve": of_solve,
}
