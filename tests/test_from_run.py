"""Runs that begin with the weights of another: what has the same name and sizes is taken, what has
not is drawn and said.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import SMALL, done, nldsl
from torch import Tensor

from nldsl import cli
from nldsl.pipeline import compile_program, load_text
from nldsl.train import checkpoint, results
from nldsl.train import run as runs

torch.set_num_threads(1)
EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = ("--set", "d=8", "--set", "head=2", "--set", "depth=1")


def arrays(run: Path) -> dict[str, Tensor]:
    """The weights that a run has saved."""
    manifest = checkpoint.manifest(run)
    assert manifest is not None
    saved = checkpoint.tensors_of(run / checkpoint.FILE)
    return {name: saved[name] for name in manifest.weights}


def begins(run: Path) -> dict[str, Tensor]:
    """Everything that a run holds before its first step."""
    (run / checkpoint.FILE).unlink()
    return runs.compiled(runs.reopen(run))[1].arrays


def inherited(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["inherited"]


@pytest.fixture(scope="module", autouse=True)
def short_samples() -> Iterator[None]:
    """A finished run writes little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "LENGTH", 4)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two texts, and a transformer that was trained on the first."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "old.txt").write_text("a cat sat on a mat\n" * 200)
    (folder / "new.txt").write_text("the dog lay in the fog\n" * 200)
    train = ("train", EXAMPLES / "transformer.nl", folder / "old.txt", *SIZES, *SMALL)
    done(*train, "--steps", 3, "--out", folder / "run")
    return folder


def test_new_data_and_a_run_are_one_command(base: Path, tmp_path: Path) -> None:
    """Spec and settings are those of the run, where none are given; its optimizers are not."""
    out = done("train", base / "new.txt", "--from", base / "run", "--steps", 1, "--out", tmp_path)
    assert f"begins from {base / 'run' / checkpoint.FILE}, after step 3: " in out
    old, new = (json.loads((run / "run.json").read_text()) for run in (base / "run", tmp_path))
    assert new["texts"] == old["texts"] and new["dims"] == old["dims"]
    for name, value in old["settings"].items():
        given = {"data": str(base / "new.txt"), "steps": 1, "source": str(base / "run")}
        assert new["settings"][name] == given.get(name, value), name
    weights, began = arrays(base / "run"), begins(tmp_path)
    assert inherited(tmp_path)["carried"] == list(weights)
    for name, x in began.items():
        wanted = weights.get(name, torch.zeros_like(x))
        assert torch.equal(x, wanted), name
    assert began.keys() > weights.keys()


def test_what_the_changed_text_shares_is_taken_and_the_rest_is_drawn(
    base: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "own.json"
    done("tokenizer", "train", base / "old.txt", "--vocab", 270, "--out", tokens)
    sizes = ("--set", "d=8", "--set", "head=2", "--set", "depth=2", "--set", "vocab=270")
    train = ("train", EXAMPLES / "transformer.nl", base / "old.txt", *sizes, *SMALL, "--steps", 1)
    train = (*train, "--tokenizer", tokens)
    _, out, err = nldsl(*train, "--from", base / "run", "--out", tmp_path / "from")
    assert "warning[N736]" in err and "other tokens" in err
    done(*train, "--out", tmp_path / "alone")
    weights, known = arrays(base / "run"), inherited(tmp_path / "from")
    began, alone = begins(tmp_path / "from"), begins(tmp_path / "alone")
    same = {n for n in weights if n in alone and weights[n].shape == alone[n].shape}
    assert {*known["carried"]} == same and known["left"] == []
    assert {*known["resized"]} == {n for n in weights if n not in same} != set()
    assert all(n.startswith("loss.layer[1]") for n in known["new"]) and known["new"]
    for name, x in began.items():
        assert torch.equal(x, weights[name] if name in same else alone[name]), name
    name = next(iter(known["resized"]))
    assert f"{len(known['new'])} new, and drawn: {known['new'][0]}" in out
    assert f"of other sizes, and drawn: {name} {list(weights[name].shape)} -> " in out


def test_what_starts_from_a_memory_that_is_given_follows_it() -> None:
    program = load_text(
        """nldsl 1
        input x: []
        level slow every step {
            memory P: [] = 1
            memory Q: [] = 2
            P <- P + mean(x over period)
            Q <- Q + mean(x over period)
        }
        level late every 2 step {
            memory R: [] = 3 * slow.P
            memory T: [] = slow.Q
            R <- R + mean(x over period)
            T <- T + mean(x over period)
        }
        y = slow.P + slow.Q + late.R + late.T
        """
    )
    step = compile_program(program, precision="float64", capture="eager")
    state = step.init(0, {"slow.P": torch.tensor(10.0)})
    held = {name: float(state.arrays[f"{name}"]) for name in ("slow.P", "late.R", "late.T")}
    assert held == {"slow.P": 10, "late.R": 30, "late.T": 2}


def test_a_memory_that_outlives_a_sequence_stays_where_it_fits(base: Path, tmp_path: Path) -> None:
    spec = EXAMPLES / "lifelong.nl"
    train = ("train", spec, base / "old.txt", *SIZES, *SMALL, "--steps", 2)
    done(*train, "--out", tmp_path / "run")
    lanes = {
        name.removeprefix(checkpoint.LANE): x
        for name, x in checkpoint.tensors_of(tmp_path / "run" / checkpoint.FILE).items()
        if name.startswith(checkpoint.LANE)
    }
    assert len(lanes) == 2 and all(len(x) == 2 for x in lanes.values())
    done("train", "--from", tmp_path / "run", "--batch", 3, "--steps", 1, "--out", tmp_path / "on")
    (tmp_path / "on" / checkpoint.FILE).unlink()
    state = runs.compiled(runs.reopen(tmp_path / "on"))[1]
    for name, x in lanes.items():
        assert torch.equal(state.lanes[name], x[[0, 1, 0]]) and x.any(), name
    deeper = ("--set", "depth=2", "--out", tmp_path / "deeper")
    done("train", "--from", tmp_path / "run", "--steps", 1, *deeper)
    (tmp_path / "deeper" / checkpoint.FILE).unlink()
    state = runs.compiled(runs.reopen(tmp_path / "deeper"))[1]
    for name, x in state.lanes.items():
        assert torch.equal(x, lanes[name]) if name in lanes else not x.any(), name
    assert len(state.lanes) == 3


def test_a_run_needs_the_other_until_it_has_saved(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base / "run", other)
    done("train", "--from", other, "--steps", 2, "--out", tmp_path / "run")
    whole = arrays(tmp_path / "run")
    (tmp_path / "run" / checkpoint.FILE).rename(tmp_path / "kept")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    done("train", "--resume", tmp_path / "run")
    again = arrays(tmp_path / "run")
    assert all(torch.equal(x, again[name]) for name, x in whole.items())
    (tmp_path / "run" / checkpoint.FILE).unlink()
    (tmp_path / "run" / "metrics.jsonl").unlink()
    done("train", "--resume", other, "--steps", 4)
    status, _, err = nldsl("train", "--resume", tmp_path / "run")
    assert (
        status == cli.RUN and "error[N711]" in err and f"start, `{other / checkpoint.FILE}`" in err
    )
    (tmp_path / "kept").rename(tmp_path / "run" / checkpoint.FILE)
    shutil.rmtree(other)
    done("train", "--resume", tmp_path / "run", "--steps", 3)
    done("eval", tmp_path / "run", "--bytes", 50)


def test_arrays_that_were_exported_are_a_beginning_too(base: Path, tmp_path: Path) -> None:
    done("export", base / "run", "--as", "safetensors", "-o", tmp_path / "arrays")
    spec = ("train", EXAMPLES / "transformer.nl", base / "new.txt", *SIZES, *SMALL, "--steps", 1)
    done(*spec, "--from", tmp_path / "arrays", "--out", tmp_path / "run")
    weights, began = arrays(base / "run"), begins(tmp_path / "run")
    assert all(torch.equal(began[name], x) for name, x in weights.items())


def test_nothing_that_fits_is_a_mistake(base: Path, tmp_path: Path) -> None:
    spec, run = EXAMPLES / "transformer.nl", base / "run"
    out = ("--out", tmp_path / "run")
    status, _, err = nldsl("train", spec, base / "old.txt", *SMALL, "--from", run, *out)
    assert status == cli.RUN and "error[N735]" in err
    assert "is [256, 8] there and [256, " in err
    assert "by `--set d=8 --set head=2 --set depth=1`" in err
    (tmp_path / "own.nl").write_text(
        (EXAMPLES / "transformer.nl")
        .read_text()
        .replace("loss = ", "error = ")
        .replace("mean(loss", "mean(error")
    )
    renamed = ("train", tmp_path / "own.nl", base / "old.txt", *SIZES, *SMALL, "--from", run)
    status, _, err = nldsl(*renamed, *out)
    assert "error[N735]" in err and "it holds `loss." in err and "has `error." in err
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_none_to_begin_from(base: Path, tmp_path: Path) -> None:
    for source, code in ((tmp_path, "N710"), (tmp_path / "nowhere", "N710")):
        status, _, err = nldsl("train", "--from", source)
        assert status == cli.RUN and f"error[{code}]" in err
    empty = tmp_path / "empty"
    shutil.copytree(base / "run", empty)
    (empty / checkpoint.FILE).unlink()
    assert "error[N716]" in nldsl("train", "--from", empty)[2]
    both = nldsl("train", "--from", base / "run", "--resume", base / "run")
    assert both[0] == cli.USAGE and "--from begins another" in both[2]
