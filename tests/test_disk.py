"""A disk that is full at any one write of a run: what was announced as saved is whole, and the run
that goes on equals the unbroken one, scores and the best of them included.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, done, nldsl
from safetensors.torch import load_file
from striking import Strikes, full

from nldsl import cli
from nldsl.train import checkpoint, folder, metrics

SPEC = """nldsl 1
import layers
input ids: index(256)
x = embed(ids, [4])
level recall every token {
    memory M: [4] = 0
    context x
    minimize |M - x|^2 / 2
    M <- M - 0.5 * grad(M)
    reset never
    bptt none
}
loss = cross_entropy(linear(rmsnorm(recall.M@after), [256]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.5 * grad(W)
}
"""
WHERE = 73  # writes of the run, counted by `test_the_writes_are_counted`
FEW = (3, 26, 50, WHERE)
Train = Callable[[Path], tuple[int, str, str]]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    home = tmp_path_factory.mktemp("home")
    (home / "s.nl").write_text(SPEC)
    (home / "t.txt").write_bytes("".join(f"{n} is {n * n}\n" for n in range(400)).encode())

    def begun(out: Path) -> tuple[int, str, str]:
        scores = ("--eval-every", 2, "--eval-bytes", 64, "--save-every", 3)
        files = (home / "s.nl", home / "t.txt", "--out", out, "--steps", 5)
        return nldsl("train", *files, *SMALL, *scores)

    return begun


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(run)[0] == 0
    return run


def told(run: Path) -> list[dict[str, Any]]:
    """Every step and score, but for the time that it took."""
    return [
        {name: x for name, x in event.items() if name != "seconds"}
        for kind in ("step", "eval", "held_out")
        for event in metrics.events(run / "metrics.jsonl", kind)
    ]


def saved(run: Path) -> dict[str, dict[str, list[float]]]:
    files = (checkpoint.FILE, checkpoint.BEST, "memory.safetensors")
    return {
        file: {name: x.reshape(-1).tolist() for name, x in load_file(run / file).items()}
        for file in files
    }


def struck(at: int, train: Train, whole: Path, run: Path, patch: pytest.MonkeyPatch) -> None:
    strikes = Strikes(run.parent, at, full)
    with patch.context() as here:
        strikes.install(here.setattr)
        status, out, err = train(run)
    assert strikes.count >= at, "the run has fewer writes"
    assert status == cli.RUN and "error[N713]" in err and "No space left" in err, err
    announced = [int(x.split()[-1]) for x in out.splitlines() if x.startswith("saved step ")]
    if announced:
        manifest = checkpoint.manifest(run)
        assert manifest is not None and manifest.step >= announced[-1]
        assert checkpoint.tensors_of(run / checkpoint.FILE)
    if folder.is_record(run):
        done("train", "--resume", run)
    else:
        assert not announced and train(run)[0] == 0
    assert told(run) == told(whole) and saved(run) == saved(whole)
    assert not [*run.glob("*.partial")]


def test_the_writes_are_counted(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strikes = Strikes(tmp_path, 1 << 60, full)
    with monkeypatch.context() as here:
        strikes.install(here.setattr)
        assert train(tmp_path / "run")[0] == 0
    assert strikes.count == WHERE


@pytest.mark.parametrize("at", FEW)
def test_a_full_disk_loses_nothing(
    at: int, train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck(at, train, whole, tmp_path / "run", monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("at", [n for n in range(1, WHERE + 1) if n not in FEW])
def test_a_disk_that_is_full_at_each_write_loses_nothing(
    at: int, train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck(at, train, whole, tmp_path / "run", monkeypatch)
