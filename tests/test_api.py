"""The package from Python: modules, gradients, streams and batches, for the systems of the
examples.
"""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path

import family
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nldsl
from nldsl import api
from nldsl.testing import data

torch.set_num_threads(1)
BAR = 1e-9  # of max(1, |expected|), in float64
WRITERS = [name for name in family.SPECS if name != "series"]


def ready(name: str) -> tuple[api.Program, api.Step, dict[str, Tensor]]:
    """A system in float64, and two sequences for it."""
    program = api.Program(family.tiny(name))
    step = program.compile(precision="float64", capture="eager")
    return program, step, data(program.checked, 2, 9, seed=1)


def far(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > BAR * max(1.0, float(b.abs().max())))


def text_loss(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits: Tensor = model(**batch)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["ids"][:, 1:].flatten())


@pytest.mark.parametrize("name", WRITERS)
def test_autograd_finds_the_gradients_of_the_step(name: str) -> None:
    program, step, batch = ready(name)
    state = step.init(0)
    model = program.module(state)
    loss = text_loss(model, batch)
    loss.backward()
    assert not far(loss.detach(), step.losses(state, batch)["loss"])
    given, learned = dict(model.named_parameters()), step.gradients(state, batch)
    assert {n for n, p in given.items() if p.requires_grad} <= learned.keys()
    for array, slope in learned.items():
        if array in given:  # a copy of a memory is none of a module's parameters
            found = given[array].grad
            assert not far(torch.zeros_like(slope) if found is None else found, slope), array
    assert model.state_dict().keys() >= program.weights.keys()
    assert all(tuple(model.state_dict()[n].shape) == size for n, size in program.weights.items())


def test_an_optimizer_of_ones_own_takes_the_steps_of_the_text() -> None:
    text = (
        family.text("titans")
        .replace("cosine(3e-3, 0.02)", "3e-3")
        .replace("decay = 0.1", "decay = 0")
    )
    program = api.Program(family.tiny("titans", text.replace("clip(grad(W), 1)", "grad(W)")))
    step, batch = program.compile(precision="float64", capture="eager"), ready("titans")[2]
    state = step.init(0)
    model = program.module(state)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(5):
        optimizer.zero_grad()
        text_loss(model, batch).backward()
        optimizer.step()
        step(state, batch)
    for name, x in model.state_dict().items():
        assert not far(x, state.arrays[name]), name


def test_a_module_is_saved_copied_and_swapped_like_any_other() -> None:
    program, step, batch = ready("titans")
    model = program.module(step.init(0))
    expected = model(batch["ids"])
    other = program.module(step.init(1))
    assert not torch.equal(other(batch["ids"]), expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(batch["ids"]), expected)
    assert torch.equal(copy.deepcopy(model)(batch["ids"]), expected)
    arrays = {name: x.detach() for name, x in model.named_parameters()}
    blank = program.module(step.init(2))
    assert torch.equal(torch.func.functional_call(blank, arrays, batch["ids"]), expected)
    assert model.float()(batch["ids"]).dtype == torch.float32


def test_a_sequence_is_read_in_pieces() -> None:
    program, step, batch = ready("titans")
    model, ids = program.module(step.init(0)), batch["ids"]
    carry, parts = None, []
    for piece in ids.split([1, 3, 5], 1):
        values, carry = model.read({"ids": piece}, carry)
        parts.append(values)
    assert not far(torch.cat(parts, 1).detach(), model(ids).detach())


@pytest.mark.parametrize("name", ["titans", "hope", "lifelong"])
def test_streams_are_those_of_the_interpreter(name: str) -> None:
    program, step, batch = ready(name)
    state = step.init(0)
    meant = program.interpret(batch, seed=0)
    seen = step.streams(state, batch, *meant)
    assert meant.keys() == seen.keys() and not any(far(seen[n], meant[n]) for n in meant)
    twice = step.streams(state, [batch, batch], "loss")["loss"]
    assert torch.equal(twice, torch.cat([seen["loss"]] * 2))


def test_a_stream_inside_a_layer_has_its_qualified_name() -> None:
    program, step, batch = ready("titans")
    k = step.streams(step.init(0), batch, "loss.layer[0].mixer.k")["loss.layer[0].mixer.k"]
    head, e = (program.checked.dims[name] for name in ("head", "e"))
    assert k.shape == (2, 9, head, e)
    assert (k.norm(dim=-1) < 1 + BAR).all()  # `k = unit(..)`
    with pytest.raises(nldsl.Diagnostics) as found:
        step.streams(step.init(0), batch, "loss.layer[0].mixer.kk")
    assert found.value.diagnostics[0].help == "did you mean `loss.layer[0].mixer.k`?"


def test_what_is_looked_at_stays() -> None:
    _, step, batch = ready("lifelong")
    state = step.init(0)
    step(state, batch)
    held = {name: x.clone() for name, x in {**state.arrays, **state.lanes}.items()}
    step.losses(state, batch), step.gradients(state, batch), step.streams(state, batch, "loss")
    assert state.step == 1
    assert all(torch.equal(x, held[n]) for n, x in {**state.arrays, **state.lanes}.items())


def test_numbers_and_another_stream() -> None:
    program, step, batch = ready("series")
    state = step.init(0)
    with pytest.raises(nldsl.Diagnostics, match="N761"):
        program.module(state)
    loss = program.module(state, "loss")(batch["x"])
    assert not far(loss.mean().detach(), step.losses(state, batch)["loss"])
    loss.mean().backward()


BATCHES = {
    "the batch has no `ids`": {},
    "`ids` of the batch is [4]": {"ids": torch.zeros(4, dtype=torch.long)},
    "`ids` of the batch holds float32": {"ids": torch.zeros(2, 4)},
    "`ids` of the batch holds 5": {"ids": torch.full((2, 4), 5)},
    "`ids` of the batch holds -1": {"ids": torch.full((2, 4), -1)},
    "the program has no input `idss`": {"ids": torch.zeros(2, 4).long(), "idss": torch.zeros(1)},
}


@pytest.mark.parametrize("message", BATCHES)
def test_a_batch_is_what_the_inputs_say(message: str) -> None:
    program, step, _ = ready("titans")
    state = step.init(0)
    for take in (lambda x: step(state, x), lambda x: step.losses(state, x), program.interpret):
        with pytest.raises(nldsl.Diagnostics) as found:
            take(BATCHES[message])
        (finding,) = found.value.diagnostics
        assert (finding.code, finding.message) == ("N760", message)
        assert (finding.span is None) == ("no input" in message)


def test_loading_and_compiling_refuse_with_reasons(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        nldsl.load(tmp_path / "nothing.nl")
    program = nldsl.load(family.EXAMPLES / "hope.nl", depth=1, periods=[1, 2], d=8)
    assert program.checked.dims["d"] == 8
    with pytest.raises(nldsl.Diagnostics, match="N802"):
        program.compile(device="cuda:99")
    with pytest.raises(nldsl.Diagnostics, match="N112"):
        nldsl.load(family.EXAMPLES / "hope.nl", width=8)
    with pytest.raises(AttributeError, match="lode"):
        getattr(nldsl, "lode")  # noqa: B009


def test_a_notebook_draws_programs_and_steps() -> None:
    program, step, _ = ready("titans")
    assert program._repr_svg_().startswith("<svg") and step._repr_svg_() == program._repr_svg_()
    assert "fastest first" in program._repr_html_() and "<svg" in program._repr_html_()
    assert "parameters; state of the run" in step._repr_html_() and "<svg" in step._repr_html_()
    assert repr(program) == "<nldsl.Program titans.nl: 4 levels, 5 memories>"


def test_loading_a_text_loads_no_torch() -> None:
    code = (
        f"import sys, nldsl; nldsl.load({str(family.EXAMPLES / 'titans.nl')!r}, d=64); "
        "print(sorted({'torch', 'networkx', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
