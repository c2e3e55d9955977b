"""REGION -> TORCH CODE: how memories that learn while they are read are computed, a piece of tokens
at a time.

Takes the equations of a region, gives the lines of a function from its state and the streams of a
piece to the new state and what is read. Guaranteed: the same numbers as token by token, and no
quantity of a later token in any of them. The form is chosen from the algebra of the update alone; a
region that fits none is computed token by token, and the report says why and where.

    affine.py              recurrence -> its affine form, or the first obstacle; nothing is written
    forms.py               what a form is: the kind of each value, the rule of each node
    patterns.py            what an einsum is to a memory: every decision on its letters
    lowering.py, table.py  the lowerings, best first; a new one is a file and a row
    per_period.py, stale.py, dual.py, chunked.py, token_scan.py
                           a lowering each: when it applies, its name, its code
    piece.py, chunk.py     all tokens of a piece by the rules of a form
    terms.py, gates.py     a memory at every token as a few terms; gates and masks
    reads.py               what a read of those terms is, as products
    temporal.py, past.py   convolution, attention, windows, positions; the earlier tokens they need
    vocabulary.py          a cross entropy without its logits, of streams
    order.py, body.py      the order within a token; the function of one piece, its end
    still.py               the lines of a piece that need no memory, which all pieces share

Decisions. Products of decays are the inverse of a bidiagonal matrix: a division by a cumulative
product overflows as soon as a gate closes, and differences of cumulative logs have no slope at a
gate that is exactly 0. Erases are solved in the WY form of products of Householder-like factors
(delta rules; 2512.24695v1, Eqs. 88, 90), once for all memories that share keys and gates. One
affine form serves decay, momentum and erases: a kernel for each named rule would be as many places
for a mistake.
"""
