"""What a piece of a recurrence makes of its streams alone is made for all pieces at once, or with
each: the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load
from nldsl.step.compile import CompiledStep
from nldsl.step.lowerings.still import parted
from nldsl.testing.captures import traced
from nldsl.train.bench import random_batch

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {"d": "8", "head": "2", "depth": "1"}
SPECS = {
    "deltanet.nl": {},
    "gated_deltanet.nl": {},
    "gla.nl": {},
    "titans.nl": {"chunk": "4"},
    "hope.nl": {"near": "4", "span": "8"},
}


def small(name: str, at_once: bool) -> CompiledStep:
    program = load(EXAMPLES / name, SMALL | SPECS[name])
    return compile_program(program, precision="float64", capture="eager", at_once=at_once)


def watched(step: CompiledStep) -> list[str]:
    """The functions of pieces that are called."""
    called: list[str] = []
    for name in [x for x in step.module if x.startswith(("still_", "moving_", "region_"))]:

        def run(*args: object, name: str = name, function=step.module[name]) -> object:
            called.append(name)
            return function(*args)

        step.module[name] = run
    return called


def trained(step: CompiledStep, length: int) -> dict[str, Tensor]:
    state = step.init(0)
    batch = random_batch(step.program, 3, length, "cpu")
    losses = [step(state, [batch])["loss"] for _ in range(2)]
    return {"losses": torch.stack(losses), **state.tensors}


@pytest.mark.parametrize("length", [16, 19])
@pytest.mark.parametrize("name", SPECS)
def test_made_at_once_or_with_each(name: str, length: int) -> None:
    one, other = small(name, False), small(name, True)
    called = watched(other)
    for found, wanted in zip(
        trained(other, length).values(), trained(one, length).values(), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    assert not [x for x in called if x.startswith("region_") and x in other.emitted.apart]


def test_it_is_called_once_for_all_whole_pieces() -> None:
    step = small("titans.nl", True)
    called = watched(step)
    step(step.init(0), [random_batch(step.program, 2, 16, "cpu")])
    assert called == ["still_1", *["moving_1"] * 4]
    called.clear()
    step(step.init(0), [random_batch(step.program, 2, 18, "cpu")])
    assert called == ["still_1", *["moving_1"] * 4, "still_1", "moving_1"]


@pytest.mark.parametrize(
    ("lanes", "length", "at_once"), [(2, 64, True), (2, 60, False), (8, 64, False)]
)
def test_few_matrices_in_many_pieces_are_made_at_once(
    lanes: int, length: int, at_once: bool
) -> None:
    """On a CPU, which else makes them with each piece."""
    program = load(EXAMPLES / "titans.nl", SMALL | SPECS["titans.nl"])
    step = compile_program(program, precision="float64", capture="eager")
    called = watched(step)
    step(step.init(0), [random_batch(program, lanes, length, "cpu")])
    pieces = length // 4
    one, each = ["still_1", *["moving_1"] * pieces], ["region_1"] * pieces
    assert called == (one if at_once else each)


def test_the_tokens_of_a_head_lie_side_by_side() -> None:
    """On a CPU, so that a piece takes products of its streams and copies none of them."""
    program = load(EXAMPLES / "titans.nl", SMALL | SPECS["titans.nl"])
    step = compile_program(program, precision="float64", capture="eager")
    piece, given = step.module["region_1"], list[Tensor]()

    def run(state: object, streams: tuple[Tensor, ...], *rest: object) -> object:
        given.extend(x for x in streams if x.dim() == 4)
        return piece(state, streams, *rest)

    step.module["region_1"] = run
    step(step.init(0), [random_batch(step.program, 2, 16, "cpu")])
    assert len(given) == 4 * 3  # q, k, v
    for x in given:
        torch.einsum("BTpi->BpTi", x).view(-1, *x.shape[1::2])


def test_one_graph_writes_out_every_piece() -> None:
    program = load(EXAMPLES / "deltanet.nl", SMALL | {"vocab": "8"})
    whole, _ = traced(program, "whole", at_once=True)
    plain = compile_program(program, precision="float64", capture="eager")
    few = 2 * min(whole.emitted.rolled)
    for found, wanted in zip(
        trained(whole, few).values(), trained(plain, few).values(), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    with pytest.raises(Diagnostics, match="N806") as error:
        trained(whole, 33 * min(whole.emitted.rolled))
    assert "33 pieces" in str(error.value)


def test_lines_are_parted() -> None:
    lines = [
        "a1 = w1 * 2",
        "a2 = decay_kernel(x1)",
        "a3 = a2 * a1",
        "a4 = x1 + 1",
        "a5 = c1 * a4",
        'a6 = torch.einsum("BJa,BJb->Bab", a3, a5)',
        "a7 = a4 * t1",
    ]
    found = parted(lines, ["x1"], ["w1"], ["c1", "t1"], ["a6", "a7"])
    assert found.made == ["a3"]
    assert found.still == lines[:3]
    assert found.moving == lines[3:]
