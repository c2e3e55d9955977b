"""All that a token writes at one key is one write, whatever gates its parts have: one product with
the inverse of a piece, and one in a read.
"""

from __future__ import annotations

import pytest
import torch
from recurrences import HEAD, TAIL, holds, memory

from nldsl.pipeline import compile_program, load_text

torch.set_num_threads(1)

OBJECTIVE = "        minimize |M * k - v|^2 / 2\n"

# What a memory has at key k from the text, and what it answered there.
UPDATES = {
    "one gate": "M <- M - rate * (M * k - v) * k^T",
    "a decay first": "M <- keep * M\n        M <- M - rate * (M * k - v) * k^T",
    "a decay beside": "M <- keep * M - rate * (M * k - v) * k^T",
    "an erase alone": "M <- M * (I - rate * k * k^T)",
    "an unlike write": "M <- M * (keep * I - rate * k * k^T) - keep * v * k^T",
    "two writes": "M <- M * (keep * I - rate * k * k^T) + rate * v * k^T - keep * q * k^T",
    "no gate": "M <- M * (keep * I - 0.5 * k * k^T) + v * k^T",
    "a write apart": "M <- M * (keep * I - rate * k * k^T) + rate * v * q^T",
    "a negative gate": "M <- M * (keep * I + (0.5 - keep) * k * k^T) + (keep - 1) * v * k^T",
}
PRODUCTS = dict.fromkeys(UPDATES, 2) | {"a write apart": 4}  # what k finds of it, and what q does


@pytest.mark.parametrize("name", UPDATES)
def test_writes_at_a_key_are_one(name: str) -> None:
    body = memory("matrix", UPDATES[name]).replace(OBJECTIVE, "")
    program = load_text(HEAD + body + TAIL, sets={"d": "8"})
    holds(program)
    source = compile_program(program, capture="eager").source
    piece = source[source.index("def still_1(") : source.index("def region_1(")]
    assert piece.count("TJ,BJ") == PRODUCTS[name]
