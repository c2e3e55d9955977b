"""What memories would hold behind the last token is worked out only where something reads it."""

from __future__ import annotations

import pytest
import torch

from nldsl.pipeline import compile_program, load_text
from nldsl.step.compile import CompiledStep
from nldsl.train.bench import random_batch

TEXT = """nldsl 1
import layers
dim d = 6, vocab = 8
clock chunk = 4 token
input ids: index(vocab)

def recurrent(x: [d]) -> [d] {
    k = unit(linear(x, [d]))
    level recall every token {
        memory M: [d, d] = 0
        context k, x
        LASTS
        minimize |M * k - x|^2
        bptt full
        M <- 0.9 * M - 0.1 * grad(M@chunk)
    }
    return recall.M@chunk * k
}
loss = cross_entropy(linear(recurrent(embed(ids, [d])), [vocab]), next(ids))

level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""


def watched(lasts: str) -> tuple[CompiledStep, list[bool]]:
    """A step, and whether each piece has to say what it leaves."""
    step = compile_program(load_text(TEXT.replace("LASTS", lasts)), capture="eager")
    left: list[bool] = []
    piece = step.module["region_1"]

    def run(*args: object) -> object:
        assert isinstance(args[-1], bool)
        left.append(args[-1])
        state, outputs = piece(*args)
        assert bool(state) == args[-1]
        return state, outputs

    step.module["region_1"] = run
    return step, left


@pytest.mark.parametrize(("length", "pieces"), [(12, 3), (10, 3), (3, 1)])
def test_the_last_piece_of_a_training_step_leaves_nothing(length: int, pieces: int) -> None:
    step, left = watched("")
    step(step.init(0), [random_batch(step.program, 2, length, "cpu")])
    assert left == [*[True] * (pieces - 1), False]


def test_what_outlives_a_sequence_is_left() -> None:
    step, left = watched("reset never")
    step(step.init(0), [random_batch(step.program, 2, 12, "cpu")])
    assert left == [True] * 3


def test_a_score_goes_on_from_what_is_left() -> None:
    step, left = watched("")
    state, batch = step.init(0), random_batch(step.program, 2, 12, "cpu")
    whole, _ = step.reading.evaluate(state, batch)
    first, carry = step.reading.evaluate(state, {"ids": batch["ids"][:, :8]})
    rest, _ = step.reading.evaluate(state, {"ids": batch["ids"][:, 8:]}, carry)
    assert all(left)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
