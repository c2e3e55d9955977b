"""A trained run, written for others: arrays by name, a graph."""

from __future__ import annotations

import json
import re
from pathlib import Path

import family
import pytest
import safetensors.torch
import torch
from commands import SMALL, done, nldsl

from nldsl import cli
from nldsl.api import Program
from nldsl.export import saved
from nldsl.step.decoding import Decoding, begun, growing
from nldsl.train import run as runs

torch.set_num_threads(1)
SETS = ("--set", "d=8", "--set", "head=2", "--set", "depth=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    (folder / "text.txt").write_text("the quick brown fox\n" * 200)
    spec, out = family.EXAMPLES / "hope.nl", folder / "run"
    done("train", spec, folder / "text.txt", *SETS, *SMALL, "--steps", 2, "--out", out)
    return out


def test_arrays_have_their_names_sizes_and_axes(run: Path, tmp_path: Path) -> None:
    done("export", run, "--as", "safetensors", "-o", tmp_path / "out")
    found = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    names = json.loads((tmp_path / "out" / "names.json").read_text())
    opened = runs.without_data(run)
    _, state = runs.trained(opened)
    assert found.keys() == names.keys() == state.views.keys() >= opened.program.weights.keys()
    for name, x in found.items():
        assert torch.equal(x, state.views[name]) and names[name]["sizes"] == list(x.shape)
    gate = names["loss.layer[0].continuum.ffn[1].F.gate"]
    assert gate["memory"] == "loss.layer[0].continuum.ffn[1].F" and gate["axes"] == ["4 * d", "d"]
    saved = safetensors.torch.load_file(run / "checkpoint.safetensors")
    assert all(torch.equal(saved[name], x) for name, x in found.items())


def test_a_graph_computes_what_the_module_does(run: Path, tmp_path: Path) -> None:
    done("export", run, "--as", "torch", "-o", tmp_path / "out")
    graph = torch.export.load(tmp_path / "out" / "model.pt2").module()
    opened = runs.without_data(run)
    _, state = runs.trained(opened)
    ids = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(graph(ids), Program(opened.program).module(state)(ids), atol=1e-12)


@pytest.mark.soak
def test_two_graphs_compute_what_the_module_does(run: Path, tmp_path: Path) -> None:
    """The state of any number of sequences goes on past chunks, and the copies made at them."""
    assert "step.pt2" in done("export", run, "--as", "program", "-o", tmp_path / "out")
    forward, step = (
        torch.export.load(tmp_path / "out" / f"{name}.pt2").module() for name in ("forward", "step")
    )
    opened = runs.without_data(run)
    _, state = runs.trained(opened)
    network = Program(opened.program).module(state)
    ids = torch.randint(0, 256, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(forward(ids[:1]), network(ids[:1]), rtol=0, atol=1e-12)
        start = safetensors.torch.load_file(tmp_path / "out" / "start.safetensors")
        for count in (1, 3):
            long = ids[:count].repeat(1, 5)
            carried = {
                name: x.expand(count, *x.shape[1:]).clone() if x.dim() else x
                for name, x in start.items()
            }
            whole = network(long)
            for t in range(80):
                scores, carried = step(carried, long[:, t : t + 1])
                assert torch.allclose(scores, whole[:, t], rtol=0, atol=1e-9)
            assert {n: x.shape[1:] for n, x in carried.items()} == {
                n: x.shape[1:] for n, x in start.items()
            }


DECODED = ["titans_mag", "transformer_swa", "lifelong", "atlas", "tnt"]
GROWING = {
    "transformer": "`loss.layer[0].mixer.k` is kept of every token that was read",
    "cms_tokens": "a memory learns while it reads from the loss of the whole network",
}


@pytest.mark.parametrize("name", DECODED)
def test_a_step_of_decoding_is_the_module_at_one_token(name: str) -> None:
    subject = family.subject(name)
    network = Program(subject.program).module(subject.step.init(1))
    ids = torch.randint(0, 5, (2, 13), generator=torch.Generator().manual_seed(0))
    assert growing(network) is None
    decoding, state = Decoding(network), begun(network, 2)
    with torch.no_grad():
        whole = network(ids)
        for t in range(13):
            ended = (ids[:, t : t + 1] == 0,) if network.stream.documents else ()
            scores, state = decoding(state, ids[:, t : t + 1], *ended)
            assert torch.allclose(scores, whole[:, t], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["transformer", "cms_tokens"])
def test_what_grows_is_named(name: str) -> None:
    subject = family.subject(name)
    network = Program(subject.program).module(subject.step.init(1))
    assert GROWING[name] in (growing(network) or "")


@pytest.mark.soak
@pytest.mark.parametrize("name", [n for n in family.SPECS if n not in family.FROM_FILES])
def test_each_system_is_exported_or_says_why_not(name: str, tmp_path: Path) -> None:
    subject = family.subject(name)
    if subject.step.reading.logits() is None:
        pytest.skip("it has no logits")
    network = Program(subject.program).module(subject.step.init(1))
    if growing(network) is not None:
        assert re.search("attention|learn", family.text(name))
        return
    ids = torch.randint(0, 5, (2, 13), generator=torch.Generator().manual_seed(0))
    state = begun(network, 2)
    (tmp_path / "step.pt2").write_bytes(saved(Decoding(network), (state, ids[:, :1]), None))
    step = torch.export.load(tmp_path / "step.pt2").module()
    with torch.no_grad():
        whole = network(ids)
        for t in range(13):
            scores, state = step(state, ids[:, t : t + 1])
            assert torch.allclose(scores, whole[:, t], rtol=0, atol=1e-9)


def test_a_state_that_grows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 200)
    spec, out = family.EXAMPLES / "transformer.nl", tmp_path / "run"
    done("train", spec, tmp_path / "text.txt", *SETS, *SMALL, "--steps", 1, "--out", out)
    status, _, err = nldsl("export", out, "--as", "program", "-o", tmp_path / "out")
    assert status == cli.RUN and "N762" in err and GROWING["transformer"] in err
    assert not (tmp_path / "out").exists()


def test_nothing_saved_is_nothing_to_export(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for file in run.iterdir():
        if file.name != "checkpoint.safetensors":
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    status, _, err = nldsl("export", tmp_path / "run", "--as", "torch", "-o", tmp_path / "out")
    assert status == cli.RUN and "N716" in err and not (tmp_path / "out").exists()
