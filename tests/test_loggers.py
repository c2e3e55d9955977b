"""Numbers of a run that go to TensorBoard or Weights & Biases, with stand-ins for both."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import SMALL, SPEC, done, nldsl

from nldsl import cli
from nldsl.train import metrics


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    (tmp_path / "s.nl").write_text(SPEC)
    (tmp_path / "t.txt").write_bytes("".join(f"{n} is {n * n}\n" for n in range(400)).encode())
    files = (tmp_path / "s.nl", tmp_path / "t.txt", "--out", tmp_path / "run")
    return ["train", *files, *SMALL, "--steps", 4, "--watch", "--eval-every", 2]


class Writer:
    """Of TensorBoard."""

    made: list[Writer] = []

    def __init__(self, place: str, purge_step: int) -> None:
        self.place, self.purge_step, self.closed = place, purge_step, False
        self.told: list[tuple[str, float, int]] = []
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_has_the_numbers_of_the_journal(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter, Writer.made = Writer, []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    done(*command, "--log", "tensorboard")
    (writer,) = Writer.made
    assert writer.place == str(tmp_path / "run" / "tensorboard") and writer.closed
    for event in metrics.events(tmp_path / "run" / "metrics.jsonl", "step"):
        n = event["step"]
        assert ("loss", event["loss"], n) in writer.told
        assert ("gradient/training", event["levels"]["training"]["gradient"], n) in writer.told
    scores = metrics.events(tmp_path / "run" / "metrics.jsonl", "eval")
    assert [x for x in writer.told if x[0] == "eval/score"] == [
        ("eval/score", event["score"], event["step"]) for event in scores
    ]
    done("train", "--resume", tmp_path / "run", "--steps", 6, "--log", "tensorboard")
    assert Writer.made[1].purge_step == 5 and Writer.made[1].told[0][2] == 5


def test_weights_and_biases_has_them_too(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    begun: list[dict[str, Any]] = []

    class Run:
        def log(self, numbers: dict[str, float], step: int) -> None:
            told.append((step, numbers))

        def finish(self) -> None:
            told.append((-1, {}))

    module: Any = ModuleType("wandb")
    module.init = lambda **options: begun.append(options) or Run()
    monkeypatch.setitem(sys.modules, "wandb", module)
    done(*command, "--log", "wandb")
    done("train", "--resume", tmp_path / "run", "--steps", 5, "--log", "wandb")
    assert begun[0]["id"] == begun[1]["id"] and begun[0]["config"]["batch"] == 2
    losses = [(n, x["loss"]) for n, x in told if "loss" in x]
    journal = metrics.events(tmp_path / "run" / "metrics.jsonl", "step")
    assert losses == [(event["step"], event["loss"]) for event in journal]
    assert [n for n, _ in told].count(-1) == 2


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_is_not_installed_is_told(
    name: str, command: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (name, "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    status, _, err = nldsl(*command, "--log", name)
    assert status == cli.BACKEND and "error[N890]" in err and "pip install 'nldsl[log]'" in err
