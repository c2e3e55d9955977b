"""A trained run, written for others: arrays by name, a graph."""

from __future__ import annotations

import json
from pathlib import Path

import family
import pytest
import safetensors.torch
import torch
from commands import SMALL, done, nldsl

from nldsl import cli
from nldsl.api import Program
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


def test_nothing_saved_is_nothing_to_export(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for file in run.iterdir():
        if file.name != "checkpoint.safetensors":
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    status, _, err = nldsl("export", tmp_path / "run", "--as", "torch", "-o", tmp_path / "out")
    assert status == cli.RUN and "N716" in err and not (tmp_path / "out").exists()
