"""REGION -> TORCH CODE: how memories that learn while they are read are computed, a piece of tokens
at a time.

Takes the equations of a region, gives the lines of a function from its state and the streams of a
piece to the new state and what is read. Guaranteed: the same numbers as token by token, and no
quantity of a later token in any of them. The form is chosen from the algebra of the update alone; a
region that fits none is computed token by token, and the report says why.

    affine.py, forms.py    the memory at every token as a few terms, where its update is affine in itself
    piece.py, reads.py     gates and kernels of a piece; what a read of those terms is, as products
    temporal.py, past.py   convolution, attention, windows, positions; what they remember of earlier tokens
    body.py                the function of one piece, by products or of one token

Decisions. Products of decays are the inverse of a bidiagonal matrix: a division by a cumulative
product overflows as soon as a gate closes, and differences of cumulative logs have no slope at a
gate that is exactly 0. Erases are solved in the WY form of products of Householder-like factors
(delta rules; 2512.24695v1, Eqs. 88, 90), once for all memories that share keys and gates. One
affine form serves decay, momentum and erases: a kernel for each named rule would be as many places
for a mistake.
"""
