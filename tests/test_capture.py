"""A run is compiled where that pays, and the same when it is resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from commands import done, nldsl

from nldsl.step.compile import CompiledStep
from nldsl.step.functions import Job, Run, Tell
from nldsl.train import capture

torch.set_num_threads(1)
SPEC = """nldsl 1
import layers, optimizers
dim d = 8
input ids: index(256)
loss = cross_entropy(linear(swiglu(embed(ids, [d]), 2 * d), [256]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, grad(W), lr = 0.01, decay = 0.1)
}
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many functions were asked for, at each time; compiled ones give something else by a
    rounding, so that the steps at which they were used can be told apart.
    """
    counts: list[int] = []

    def obtain(jobs: Sequence[Job], tell: Tell) -> list[Run]:
        counts.append(len(jobs))
        return [other(job.function()) for job in jobs]

    def other(run: Run) -> Run:
        def slightly(*args: object) -> object:
            result = run(*args)
            for x in args[0].values() if isinstance(args[0], dict) else ():
                x.mul_(1 + 1e-9)
            return result

        return slightly

    monkeypatch.setattr(CompiledStep, "obtain", staticmethod(obtain))
    return counts


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "s.nl").write_text(SPEC)
    (tmp_path / "t.txt").write_text("the quick brown fox\n" * 200)

    def run(out: str, *more: object, status: int = 0) -> str:
        sizes = ("--batch", 2, "--length", 16, "--precision", "float64", "--save-every", 1)
        files = (tmp_path / "s.nl", tmp_path / "t.txt", "--out", tmp_path / out)
        found, said, err = nldsl("train", *files, *sizes, *more)
        assert found == status, err
        return said

    return run


def chosen(folder: Path) -> object:
    return json.loads((folder / "run.json").read_text())["compiled_from"]


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "step"]


def test_a_long_run_is_compiled(train, asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CompiledStep, "predict", lambda self, how: 1e-9)
    out = train("long", "--steps", 6)
    assert chosen(tmp_path / "long") == 1 + capture.AS_WRITTEN and len(asked) == 1
    assert out.index("step 1/6") < out.index("compiled from here on") < out.index("step 6/6")


def test_a_short_run_is_not(train, asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CompiledStep, "predict", lambda self, how: 1e9)
    out = train("short", "--steps", 6)
    assert chosen(tmp_path / "short") == capture.NEVER and not asked
    assert "run as they are written" in out
    train("asked", "--steps", 6, "--capture", "split")
    assert chosen(tmp_path / "asked") is None and len(asked) == 1
    assert losses(tmp_path / "short") != losses(tmp_path / "asked")


@pytest.mark.parametrize("broken_off", [1, 2, 4])
def test_a_resumed_run_is_compiled_at_the_same_step(
    train, asked, tmp_path, monkeypatch, broken_off: int
) -> None:
    monkeypatch.setattr(CompiledStep, "predict", lambda self, how: 1e-9)
    train("whole", "--steps", 6)
    monkeypatch.setattr(CompiledStep, "is_kept", lambda self, batch: False)
    with monkeypatch.context() as short:
        short.setattr(CompiledStep, "__call__", stopping(broken_off))
        train("parts", "--steps", 6, status=130)
    done("train", "--resume", tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def stopping(after: int):
    call = CompiledStep.__call__

    def one(self: CompiledStep, state, batches):
        if state.step == after:
            raise KeyboardInterrupt
        return call(self, state, batches)

    return one


def test_a_signal_while_it_is_compiled_says_what_is_saved(
    train, asked, tmp_path, monkeypatch
) -> None:
    def struck(jobs: Sequence[Job], tell: Tell) -> list[Run]:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was put off")

    monkeypatch.setattr(CompiledStep, "predict", lambda self, how: 1e-9)
    monkeypatch.setattr(CompiledStep, "obtain", staticmethod(struck))
    out = train("struck", "--steps", 6, status=130)
    assert "interrupted while compiling: what was saved after step 2 is whole" in out


def test_what_is_kept_is_used_at_once(train, asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CompiledStep, "is_kept", lambda self, batch: True)
    train("again", "--steps", 3)
    assert chosen(tmp_path / "again") == 1 and len(asked) == 1
