"""A run that is scored as it trains: the same scores when it is resumed, the best of it kept, and
an end when there is no better one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SMALL, SPEC, done, nldsl
from safetensors.torch import load_file

from nldsl import cli
from nldsl.step.compile import CompiledStep
from nldsl.train import checkpoint, evaluation, folder, metrics, results
from nldsl.train import run as runs
from nldsl.train.data.text import Score

TEXT = "".join(f"{n} times {n} is {n * n}\n" for n in range(400)).encode()
STEPS, EVERY, BYTES = 20, 4, 200
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    home = tmp_path_factory.mktemp("home")
    (home / "s.nl").write_text(SPEC)
    (home / "t.txt").write_bytes(TEXT)
    scores = ("--eval-every", EVERY, "--eval-bytes", BYTES)

    def begun(out: Path, *more: object) -> tuple[int, str, str]:
        files = (home / "s.nl", home / "t.txt", "--out", out, "--steps", STEPS)
        return nldsl("train", *files, *SMALL, *scores, *more)

    return begun


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    status, out, err = train(run)
    assert status == 0, err
    assert "bits per byte after step 8; " in out
    return run


def scores(run: Path) -> list[dict[str, Any]]:
    found = metrics.events(run / "metrics.jsonl", "eval")
    return [{name: x for name, x in event.items() if name != "seconds"} for event in found]


def files(run: Path) -> dict[str, tuple[object, dict[str, list[float]]]]:
    return {
        file: (
            checkpoint.manifest(run, file),
            {name: x.reshape(-1).tolist() for name, x in load_file(run / file).items()},
        )
        for file in (checkpoint.FILE, checkpoint.BEST)
    }


def test_it_is_scored_as_eval_scores_it(whole: Path) -> None:
    assert [event["step"] for event in scores(whole)] == list(range(EVERY, STEPS + 1, EVERY))
    best = min(scores(whole), key=lambda event: event["score"])
    opened = runs.reopen(whole).at_its_best()
    step, state = runs.trained(opened)
    assert state.step == best["step"]
    found = results.score_data(opened, step, state, opened.other(None, None, None), None, BYTES)
    assert (found.model, found.terms) == (best["score"], best["terms"])
    assert f"held out: {best['bits']:.3f} bits" in done("eval", whole, "--best", "--bytes", BYTES)


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    call = CompiledStep.__call__

    def one(self: CompiledStep, state: Any, batches: Any) -> Any:
        if state.step == after:
            raise KeyboardInterrupt
        return call(self, state, batches)

    monkeypatch.setattr(CompiledStep, "__call__", one)


@pytest.mark.parametrize("at", [3, 4, 9, 17])
def test_a_resumed_run_has_the_same_scores_and_the_same_best(
    at: int, train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupted(patch, at)
        assert train(run, "--save-every", 6)[0] == cli.INTERRUPTED
    done("train", "--resume", run)
    assert scores(run) == scores(whole)
    assert files(run) == files(whole)


def test_a_kill_between_the_checkpoint_and_the_best_is_mended(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "keep", lambda run: raised(KeyboardInterrupt()))
        assert train(run)[0] == cli.INTERRUPTED
    assert not (run / checkpoint.BEST).exists()
    done("train", "--resume", run)
    assert files(run) == files(whole)


def raised(error: BaseException) -> None:
    raise error


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Scores that are what a test says."""

    def given(values: list[float]) -> None:
        left: Iterator[float] = iter(values)

        def held_out(*_: object, **__: object) -> Score:
            return Score(next(left), None, None, 100)

        monkeypatch.setattr(evaluation, "held_out", held_out)

    return given


def test_the_best_is_kept_beside_the_last(train: Train, tmp_path: Path, scripted: Any) -> None:
    scripted([3.0, 2.0, float("nan"), 2.0, 2.5])
    run = tmp_path / "run"
    _, out, _ = train(run, "--save-every", 1)
    assert [event["score"] for event in scores(run)] == [3.0, 2.0, None, 2.0, 2.5]
    saved, best = (checkpoint.manifest(run, f) for f in (checkpoint.FILE, checkpoint.BEST))
    assert saved is not None and best is not None and (saved.step, best.step) == (STEPS, 8)
    assert "held out, 2.500 bits per byte after step 20; the best is 2.000 bits per byte" in out
    assert "no number after step 12; not a number" in out
    first = runs.trained(runs.without_data(run).at_its_best())[1]
    last = runs.trained(runs.without_data(run))[1]
    assert first.step == 8 and last.step == STEPS
    assert not torch.equal(first.tensors["training.W"], last.tensors["training.W"])
    for verb in (("generate", run, "4", "-n", 2), ("export", run, "--as", "safetensors")):
        more = ("--out", tmp_path / "out") if verb[0] == "export" else ()
        done(*verb, *more, "--best")


def test_it_ends_when_there_is_no_better_score(train: Train, tmp_path: Path, scripted: Any) -> None:
    scripted([3.0, 2.0, 2.5, 2.0, 1.0])
    run = tmp_path / "run"
    status, out, _ = train(run, "--patience", 2)
    assert status == 0 and "stopped after step 16 of 20: 2 scores without a better one" in out
    assert "held out: " in out and metrics.events(run / "metrics.jsonl", "held_out")
    record = json.loads((run / "run.json").read_text())
    assert record["stopped"] == {"after": 16, "best": 8}
    assert "it was stopped after step 16 of 20" in done("train", "--resume", run)
    scripted([1.0])
    out = done("train", "--resume", run, "--patience", 3)
    assert "step 20/20" in out and folder.recorded(run).stopped is None
    best = checkpoint.manifest(run, checkpoint.BEST)
    assert best is not None and best.step == STEPS
    assert "all 20 steps are done" in done("train", "--resume", run)


def test_a_run_can_be_scored_from_where_it_goes_on(train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    files = ("--steps", 4)
    train(run, *files)
    done("train", "--resume", run, "--steps", 12, "--eval-every", 3)
    assert [event["step"] for event in scores(run)] == [4, 6, 9, 12]
    assert folder.recorded(run).settings.eval_every == 3
    status, _, err = nldsl("train", "--resume", run, "--eval-bytes", 7)
    assert status == cli.RUN and "error[N711]" in err


def test_the_scores_are_a_curve_of_their_own(whole: Path) -> None:
    text = (whole / "loss.svg").read_text()
    best = min(scores(whole), key=lambda event: event["score"])
    assert f"<!-- best {best['bits']:.3f}, step {best['step']} -->" in text
    assert "<!-- held out, as it trained -->" in text


def test_what_was_not_scored_has_no_best(whole: Path, tmp_path: Path, train: Train) -> None:
    run = tmp_path / "run"
    train(run, "--steps", 2)
    status, _, err = nldsl("generate", run, "a", "--best")
    assert status == cli.RUN and "error[N716]" in err and "--eval-every" in err
    assert nldsl("train", run / "s.nl", "--patience", 3)[0] == cli.USAGE


def test_the_best_of_a_run_is_not_overwritten(whole: Path, train: Train, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / checkpoint.BEST).write_bytes((whole / checkpoint.BEST).read_bytes())
    status, _, err = train(run)
    assert status == cli.RUN and "error[N715]" in err
