"""What levels do at their ticks, as a run tells it; steps that are not finite leave no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SMALL, done, nldsl

from nldsl import cli, pipeline
from nldsl.step import looking
from nldsl.step.compile import CompiledStep
from nldsl.step.gauges import GRADIENT, RATE, UPDATE, Gauges
from nldsl.train import checkpoint, metrics
from nldsl.train import run as runs

SPEC = """nldsl 1
import layers, optimizers
lr = 0.5
input ids: index(256)
x = embed(ids, [4])
level slow every 2 step {
    memory F: [4, 4] = 0
    context ids
    minimize mean(loss over period)
    F <- 0.9 * F + momentum(grad(F), 2 * lr, 0.5)
    bptt none
}
loss = cross_entropy(linear(rmsnorm(x + slow.F * x), [256]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - cosine(lr, 0.5) * clip(grad(W), 1)
}
"""
STEPS = 8
Told = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "s.nl").write_text(SPEC)
    (home / "t.txt").write_bytes("".join(f"{n} is {n * n}\n" for n in range(400)).encode())
    train(home, home / "watched", "--watch")
    return home


def train(home: Path, out: Path, *more: object) -> str:
    files = (home / "s.nl", home / "t.txt", "--out", out, "--steps", STEPS)
    return done("train", *files, *SMALL, *more)


def events(run: Path) -> list[dict[str, Any]]:
    return metrics.events(run / "metrics.jsonl", "step")


@pytest.mark.parametrize("capture, micro", [("eager", 1), ("eager", 2), ("split", 1)])
def test_a_gauge_reads_what_the_update_reads(
    capture: str, micro: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the gradients of each step, which the step gives beside it."""
    program = pipeline.load_text(SPEC)
    step = pipeline.compile_program(
        program, capture=capture, precision="float64", planned_steps=STEPS, accumulate=micro
    )
    step.as_written(True)
    gauges, state = Gauges(step), step.init(0)
    torch.manual_seed(0)
    waiting = []
    for n in range(1, STEPS + 1):
        batches = [{"ids": torch.randint(0, 256, (2, 9))} for _ in range(micro)]
        gradients = looking.gradients(step, state, batches, "loss")
        before = {name: x.clone() for name, x in state.tensors.items()}
        step(state, batches)
        told: Told = dict(zip(gauges.last.names, gauges.last.values.tolist()))
        waiting.append(gradients["slow.F"])
        s = n / STEPS
        rate = 0.5 * (
            s / 0.5
            if s <= 0.5
            else (1 + torch.cos(torch.tensor(torch.pi * (s - 0.5) / 0.5)).item()) / 2
        )
        own = torch.cat([g.reshape(-1) for name, g in gradients.items() if name != "slow.F"])
        assert told["training", RATE] == pytest.approx(rate)
        assert told["training", GRADIENT] == pytest.approx(own.norm().item(), rel=1e-9)
        moved = state.tensors["training.W"] - before["training.W"]
        assert told["training", UPDATE] == pytest.approx(moved.norm().item(), rel=1e-9)
        assert (("slow", GRADIENT) in told) == (n % 2 == 0)
        if n % 2 == 0:
            mean = sum(waiting) / len(waiting)
            assert told["slow", GRADIENT] == pytest.approx(mean.norm().item(), rel=1e-9)
            assert told["slow", RATE] == pytest.approx(1.0)  # 2 lr, within the momentum
            moved = state.tensors["slow.F"] - before["slow.F"]
            assert told["slow", UPDATE] == pytest.approx(moved.norm().item(), rel=1e-9)
            waiting = []


def test_a_run_that_is_watched_is_the_same_run(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "run")
    assert [e["loss"] for e in events(tmp_path / "run")] == [
        e["loss"] for e in events(home / "watched")
    ]
    for event in events(home / "watched"):
        ticked = {"training", "slow"} if event["step"] % 2 == 0 else {"training"}
        assert {*event["levels"]} == ticked
        assert all(set(said) == {RATE, GRADIENT, UPDATE} for said in event["levels"].values())
    assert "levels" not in events(tmp_path / "run")[0]


def test_it_is_seen_on_the_screen_and_in_the_picture(home: Path, tmp_path: Path) -> None:
    out = train(home, tmp_path / "run", "--watch")
    assert "  training: learning rate 0, gradient norm " in out
    assert "  slow: learning rate 1, gradient norm " in out
    texts = (tmp_path / "run" / "loss.svg").read_text()
    for words in ("learning rate", "gradient norm", "update size"):
        assert f"<!-- {words} -->" in texts
    assert texts.count("<!-- slow -->") == 3


def test_one_graph_is_not_watched(home: Path) -> None:
    status, _, err = nldsl("train", home / "s.nl", "--watch", "--capture", "whole")
    assert status == cli.USAGE and "no ticks to watch" in err


BAD = (3, 6)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps that leave a state that is not finite, the second of them a loss too."""
    call = CompiledStep.__call__

    def one(self: CompiledStep, state: Any, batches: Any) -> Any:
        values = call(self, state, batches)
        if state.step in BAD:
            state.tensors["slow.F"].fill_(float("inf"))
        if state.step == BAD[1]:
            values["loss"] = values["loss"] * float("nan")
        return values

    monkeypatch.setattr(CompiledStep, "__call__", one)


def skipped_by_hand(run: Path) -> dict[str, torch.Tensor]:
    """The state after all steps but those, which only count."""
    opened = runs.reopen(run)
    step, state = runs.compiled(opened)
    state = step.init(0)
    for n in range(1, STEPS + 1):
        if n in BAD:
            state.step += 1
        else:
            step(state, opened.batches(n))
    return state.tensors


def test_a_skipped_step_leaves_no_trace(home: Path, tmp_path: Path, poisoned: None) -> None:
    out = train(home, tmp_path / "run", "--not-finite", "skip")
    assert "step 3 is not finite: skipped, 1 in all" in out
    assert "2 of 8 steps were not finite, and left no trace" in out
    assert [e["step"] for e in events(tmp_path / "run") if e.get("skipped")] == [*BAD]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["skipped"] == 2
    opened = runs.without_data(tmp_path / "run")
    found = runs.trained(opened)[1].tensors
    wanted = skipped_by_hand(tmp_path / "run")
    assert all(torch.equal(found[name], x) for name, x in wanted.items())


def test_a_run_that_stopped_goes_on_without_the_step(
    home: Path, tmp_path: Path, poisoned: None
) -> None:
    run = tmp_path / "run"
    files = (home / "s.nl", home / "t.txt", "--out", run, "--steps", STEPS, "--save-every", 1)
    status, _, err = nldsl("train", *files, *SMALL)
    assert status == cli.RUN and "error[N720]" in err
    saved = checkpoint.manifest(run)
    assert saved is not None and saved.step == 2
    done("train", "--resume", run, "--not-finite", "skip")
    train(home, tmp_path / "at once", "--not-finite", "skip")
    assert [e["loss"] for e in events(run)] == [e["loss"] for e in events(tmp_path / "at once")]
    found = (runs.trained(runs.without_data(x))[1].tensors for x in (run, tmp_path / "at once"))
    one, other = found
    assert all(torch.equal(one[name], x) for name, x in other.items())
