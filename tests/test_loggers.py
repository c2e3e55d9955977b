"""Numbers of a run that go to TensorBoard or Weights & Biases: with stand-ins for both, and, where
they are installed, with both.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import SMALL, SPEC, done, nldsl

from nldsl import cli
from nldsl.train import loggers, metrics


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


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_files_of_tensorboard_hold_them(command: list[object], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs `pip install 'nldsl[log]'`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done(*command, "--log", "tensorboard")
    done("train", "--resume", tmp_path / "run", "--steps", 6, "--log", "tensorboard")
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    told = {
        name: [(x.step, x.value) for x in read.Scalars(name)] for name in read.Tags()["scalars"]
    }
    assert told == as_float32(expected(tmp_path / "run"))


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_files_of_weights_and_biases_hold_them(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb: Any = pytest.importorskip("wandb", reason="needs `pip install 'nldsl[log]'`")
    for name, value in {"MODE": "offline", "ERROR_REPORTING": "false", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    done(*command, "--log", "wandb")
    done("train", "--resume", tmp_path / "run", "--steps", 6, "--log", "wandb")
    wandb.teardown()  # its process ends, so the files are whole
    told: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")):
        for record in recorded(path):
            names = {item.key or ".".join(item.nested_key): item for item in record.history.item}
            for name, item in names.items():
                if not name.startswith("_"):
                    row = (record.history.step.num, json.loads(item.value_json))
                    told.setdefault(name, []).append(row)
    assert told == expected(tmp_path / "run")


def expected(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What stands in the journal, by the names that it goes out under."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        for name, value in loggers.numbers(values.pop("event"), values):
            found.setdefault(name, []).append((values["step"], value))
    return found


def as_float32(told: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(n, struct.unpack("f", struct.pack("f", x))[0]) for n, x in rows]
        for name, rows in told.items()
    }


def recorded(path: Path) -> Iterator[Any]:
    """The records of a file that was written offline: protocol buffers of the package in the log
    format of LevelDB, behind seven bytes of its own.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := -at % (1 << 15)) < 7:  # no head begins so near the end of a block
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        held += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(held)
            held = b""
            yield record
