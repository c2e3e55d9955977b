"""A PIECE OF A MEMORY -> one kernel for all pieces, forward, and one for its backward pass.

The functions of a piece, as they are emitted, stay the reference; a step on a GPU takes whole
pieces so where the memory fits, and what is left of a sequence by them.

    statements.py      a piece as emitted: what takes only streams, and what takes the memory
    tiles.py           the latter -> operations on the tiles of one lane and head
    adjoint.py         operations -> those of the backward pass
    code.py            operations -> lines of Triton
    source.py          -> the text of a kernel, the memory carried from piece to piece
    shares.py          of a larger memory -> the texts of a few kernels a piece, which share it
    operator.py        the operators of PyTorch that run the texts
    rolling.py         the recurrences of a step -> those that are taken so

Guarantees: no name of a system decides anything; values, states and gradients are those of the
interpreter, to 1e-5 in float32. A recurrence has a kernel where its statements are in the tables
(`WRITE`, `ADJOINT`), lanes and heads need nothing of each other, and no value of one of them has
three axes; an axis of equal memories may be picked from: it is written out. Memories of at most
`ROOM` numbers a head stay on the chip through all pieces; up to `MOST` programs share larger ones,
which pass through memory in each piece. It is told why one has none.

Decisions. Sizes and strides are numbers in the text: a step has few shapes, and the compiler knows
more. States before each piece are stored, not worked out backwards: a decay may be 0. What a piece
makes of its streams alone stays outside, where it is large products for all pieces at once.
"""
