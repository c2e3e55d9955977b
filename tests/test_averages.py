"""Averages of what is trained, as levels of the library: equal to those that torch keeps, and what
a model is scored and used with where that is asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from commands import SMALL, done, nldsl
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import nldsl as api
from nldsl import cli
from nldsl.train import averages, checkpoint, metrics, results

torch.set_num_threads(1)
EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("y", "y.bias", "y.affine2", "y.affine2.bias")
SPEC = """nldsl 1
import optimizers, averages
dim d = 3
input x: [d]
y = affine(silu(affine(x, [5])), [d])
loss = |y - 2 * x|^2 / 2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + momentum(grad(W), 0.1, 0.9)
}
slow = ema(training.W, 0.9)
late = swa(training.W, 5)
"""


def test_they_are_those_of_torch() -> None:
    """A plain module, optimizer and `AveragedModel` beside the step, in float64."""
    step = api.loads(SPEC).compile(precision="float64", capture="eager")
    state = step.init(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.SiLU(), torch.nn.Linear(5, 3))
    module.double()
    with torch.no_grad():
        for x, name in zip(module.parameters(), NAMES, strict=True):
            x.copy_(state.arrays[name])
    slow = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    late = AveragedModel(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for n in range(1, 13):
        x = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
        optimizer.zero_grad()
        (F.mse_loss(module(x), 2 * x) * 3 / 2).backward()
        optimizer.step()
        step(state, {"x": x})
        slow.update_parameters(module)
        if n >= 5:
            late.update_parameters(module)
        theirs = {
            "": module,
            "slow.averaging.A.": slow,
            "late.averaging.A.": late if n >= 5 else module,
        }
        for prefix, model in theirs.items():
            for name, x in zip(NAMES, model.parameters(), strict=True):
                assert torch.allclose(state.arrays[prefix + name], x, rtol=0, atol=1e-9)
    weights, average = (
        {p + n: state.arrays[p + n] for n in NAMES} for p in ("", "late.averaging.A.")
    )
    assert not torch.allclose(
        torch.cat([*map(torch.ravel, weights.values())]),
        torch.cat([*map(torch.ravel, average.values())]),
        atol=1e-3,
    )


BLOCKS = """nldsl 1
import layers, continuum, averages
dim d = 4
input ids: index(256)
logits = linear(continuum(embed(ids, [d]), ids, [1, 2], ema), [256])
loss = cross_entropy(logits, next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.5 * grad(W)
}
averaged = ema(training.W, 0.5)
"""


def test_blocks_of_the_library_keep_their_own() -> None:
    step = api.loads(BLOCKS).compile(precision="float64", capture="eager")
    state = step.init(0)
    pairs = averages.pairs(step.program.checked, "averaged")
    assert len(pairs) == 3 and len({*pairs.values()}) == 3
    followed = {
        n: n.replace(block, average, 1)
        for block, average in pairs.items()
        for n in state.arrays
        if n.startswith(f"{block}.")
    }
    assert len(followed) == 6  # three arrays of each block
    before = {n: state.arrays[n].clone() for n in followed}
    expected: dict[str, torch.Tensor] = {}
    for _ in range(4):
        step(state, {"ids": torch.arange(18).reshape(2, 9)})
        for n in followed:
            new = state.arrays[n].clone()
            expected[n] = 0.999 * expected[n] + 0.001 * new if n in expected else new
    for n, average in followed.items():
        assert torch.allclose(state.arrays[average], expected[n], rtol=0, atol=1e-12)
        assert not torch.equal(state.arrays[average], state.arrays[n]), n
        assert not torch.equal(state.arrays[n], before[n])


def test_an_average_of_weights_that_are_made_in_levels() -> None:
    """The starts of Hope's memories are weights of `training` too, however it is named."""
    text = (EXAMPLES / "hope.nl").read_text().replace("import layers", "import averages, layers")
    sizes = {"d": 8, "head": 2, "depth": 1, "vocab": 16}
    for average in ("average = ema(training.W)", "own = training.W\naverage = ema(own)"):
        checked = api.loads(f"{text}\n{average}\n", **sizes).checked
        assert checked.memories["average.averaging.A"].type == checked.memories["training.W"].type
    inside = text.replace(
        "        x <- x + ffn", "        own = ema(ffn[p].F)\n        x <- x + ffn"
    )
    assert "N613" not in {finding.code for finding in api.loads(inside, **sizes).findings}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A transformer that keeps two averages, and is scored by one."""
    folder = tmp_path_factory.mktemp("run")
    text = (
        (EXAMPLES / "transformer.nl").read_text().replace(", optimizers", ", optimizers, averages")
    )
    (folder / "own.nl").write_text(
        text + "average = ema(training.W, 0.5)\nplain = swa(training.W, 2)\n"
    )
    (folder / "text.txt").write_text("a cat sat on a mat\n" * 200)
    sizes = ("--set", "d=8", "--set", "head=2", "--set", "depth=1", "--steps", 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "LENGTH", 4)
        train = ("train", folder / "own.nl", folder / "text.txt", *sizes, *SMALL)
        done(*train, "--weights", "average", "--out", folder / "run")
        yield folder / "run"


def with_weights(run: Path, prefix: str, copy: Path) -> Path:
    """A copy of a run whose last weights are what it keeps under names that begin so."""
    shutil.copytree(run, copy)
    saved, manifest = checkpoint.tensors_of(run / checkpoint.FILE), checkpoint.manifest(run)
    assert manifest is not None
    own = {n: saved[prefix + n] for n in saved if n.startswith("loss.")}
    checkpoint.save(copy, saved | own, manifest)
    return copy


@pytest.mark.parametrize("name", ["average", "plain"])
def test_a_model_is_used_with_the_average_that_is_named(
    run: Path, name: str, tmp_path: Path
) -> None:
    other = with_weights(run, f"{name}.averaging.A.", tmp_path / "copy")
    last, average = ("--weights", "training"), ("--weights", name)
    for verb in (("eval", "--bytes", 200), ("generate", "-n", 5, "--seed", 1)):
        lines = {done(verb[0], run, *verb[1:], *average), done(verb[0], other, *verb[1:], *last)}
        assert len(lines) == 1
        assert verb[0] == "generate" or done(verb[0], run, *verb[1:], *last) not in lines
    saved = checkpoint.tensors_of(other / checkpoint.FILE)
    done("export", run, "--as", "safetensors", *average, "-o", tmp_path / "arrays")
    found = safetensors.torch.load_file(tmp_path / "arrays" / "model.safetensors")
    assert all(torch.equal(x, saved[n]) for n, x in found.items()) and len(found) > 20


def test_a_run_is_scored_with_the_average_that_it_names(run: Path) -> None:
    """At its end, and by default later; the last weights are those that are saved."""
    assert json.loads((run / "run.json").read_text())["settings"]["weights"] == "average"
    assert done("eval", run) == done("eval", run, "--weights", "average")
    assert done("eval", run) != done("eval", run, "--weights", "training")
    told = metrics.events(run / "metrics.jsonl", "held_out")[0]["bits"]
    assert f"held out: {told:.3f} bits" in done("eval", run)
    saved = checkpoint.tensors_of(run / checkpoint.FILE)
    assert not torch.equal(saved["loss.x"], saved["average.averaging.A.loss.x"])


def test_what_is_no_average_is_told_before_anything_is_made(run: Path, tmp_path: Path) -> None:
    status, _, err = nldsl("eval", run, "--weights", "mean")
    assert status == cli.RUN and "error[N737]" in err
    assert (
        "it has `average.averaging.A` of `training.W`, `plain.averaging.A` of `training.W`" in err
    )
    err = nldsl("eval", run, "--weights", "averaging")[2]
    assert "error[N737]" in err and "`averaging` is the name of several averages" in err
    spec, out = EXAMPLES / "transformer.nl", tmp_path / "out"
    status, _, err = nldsl("train", spec, "--weights", "ema", "--out", out)
    assert status == cli.RUN and "error[N737]" in err and "`ema = ema(training.W, 0.999)`" in err
    assert not out.exists()


def test_a_run_is_scored_with_its_average_as_it_trains(run: Path, tmp_path: Path) -> None:
    settings = json.loads((run / "run.json").read_text())["settings"]
    sets = [word for name, size in settings["sets"].items() for word in ("--set", f"{name}={size}")]
    files = (run.parent / "own.nl", run.parent / "text.txt", *sets, "--steps", 5, *SMALL)
    scores = ("--weights", "average", "--eval-every", 5, "--eval-bytes", 200)
    done("train", *files, *scores, "--out", tmp_path / "run")
    (event,) = metrics.events(tmp_path / "run" / "metrics.jsonl", "eval")
    for name, alike in (("average", True), ("training", False)):
        said = done("eval", tmp_path / "run", "--bytes", 200, "--weights", name)
        assert (f"held out: {event['bits']:.3f} bits" in said) == alike, said


def test_what_an_average_leaves_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.nl").write_text(BLOCKS)
    (tmp_path / "text.txt").write_text("a cat sat on a mat\n" * 200)
    files = (tmp_path / "own.nl", tmp_path / "text.txt", *SMALL, "--steps", 1)
    for name, told in (("averaged", False), ("averaging", False), ("W", False)):
        err = nldsl("train", *files, "--weights", name, "--out", tmp_path / name)[2]
        assert ("N739" in err) == told, err
    (tmp_path / "own.nl").write_text(BLOCKS.replace(", ema)", ")"))
    err = nldsl("train", *files, "--weights", "averaged", "--out", tmp_path / "other")[2]
    assert "warning[N739]" in err and "`averaged = ema(" in err
