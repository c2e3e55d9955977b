"""A product of three matrices is made in the order that costs less: what a memory becomes behind a
piece, of which nothing else is read, and what a held memory answers, of which a weighed sum is
taken. Values, states and gradients are those of the interpreter.
"""

from __future__ import annotations

import pytest
import torch
from recurrences import holds, model

from nldsl.core.program import Program
from nldsl.pipeline import compile_program

torch.set_num_threads(1)
STALE = """
    level recall per head every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2 / 2
        S = grad(M@chunk)
        M.W2 <- M.W2 * (keep * I - rate * k * k^T) - rate * S.W2
        M.W1 <- keep * M.W1 - rate * S.W1
        bptt full
    }
"""
LEFT = "    return linear(rmsnorm(recall.M@chunk(q)), [d])"
READ = "    return linear(rmsnorm(recall.M@after(q)), [d])"
GATED = (
    STALE.replace("keep * M.W1", "gate * M.W1")
    + """
    a = recall.M@chunk(q)
    gate = sigmoid(READ)
    return linear(rmsnorm(recall.M@chunk(v)), [d])"""
)
# what is read of a held memory, and how many vectors it answers with in all
READS = {
    "a sum": ("sum(weight([head, e]) .* a, e)", 2),
    "one weight": ("sum(a .* weight([e]), e)", 2),
    "a difference": ("sum(weight([head, e]) .* (v - a), e)", 2),
    "the other sign": ("-sum(a .* weight([head, e]), e) + sum(k .* v, e)", 2),
    "of each token": ("sum(k .* a, e)", 3),
    "what something else takes": ("sum(weight([head, e]) .* a, e) + sum(a .* k, e)", 3),
    "a matrix": ("sum(silu(linear(a, [head, e])), e)", 3),
    "a memory that moves": ("sum(weight([head, e]) .* recall.M(q), e)", 2),
}


def spec(read: str) -> Program:
    return model(STALE + read)


@pytest.mark.parametrize("read", [LEFT, READ])
def test_a_solved_write_of_which_no_token_reads(read: str) -> None:
    """Its keys are solved, which are no longer than what is written at them."""
    found = spec(read)
    holds(found)
    source = compile_program(found, capture="eager").source
    solved_keys, solved_writes = '"BpTJ,BTpv->BJpv"', '"BpTJ,BJpo->BTpo"'
    assert (solved_keys in source, solved_writes in source) == (read is LEFT, read is READ)


def test_a_longer_key_is_not_solved() -> None:
    body = STALE.replace("M.W2 * (keep * I - rate * k * k^T)", "keep * M.W2").replace(
        "<- keep * M.W1 -", "<- M.W1 * (keep * I - rate * h * h^T) -"
    )
    found = model("    h = linear(x, [head, 2 * e])\n" + body + LEFT)
    holds(found)
    source = compile_program(found, capture="eager").source
    assert '"BpTJ,BJpo->BTpo"' in source and '"BpTJ,BTpv->BJpv"' not in source


def answers(program: Program) -> int:
    """Products of a held matrix and a vector of each token, as long as a value."""
    (of,) = compile_program(program, capture="eager").schedule.forward.arranged.values()
    copies = {s.name for s in of.states if s.copies}
    found = 0
    for node in of.inside:
        held = any(a.op == "read" and a["memory"] in copies for a in node.args)
        fixed = any(a.op == "weight" for a in node.args)
        found += node.op == "einsum" and held and not fixed and node.shape[-1].size == 2
    return found


@pytest.mark.parametrize("name", READS)
def test_a_weighed_sum_of_answers_is_one_of_the_matrix(name: str) -> None:
    read, count = READS[name]
    found = model(GATED.replace("READ", read))
    holds(found)
    assert answers(found) == count
