"""Runs beside each other: what differs, means and spreads over seeds, curves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from commands import SMALL, SPEC, done, nldsl

from nldsl import cli
from nldsl.train import compare, metrics


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three seeds, and one of another text and another rate."""
    home = tmp_path_factory.mktemp("home")
    (home / "s.nl").write_text(SPEC)
    (home / "other.nl").write_text(SPEC.replace("[4]", "[5]"))
    (home / "t.txt").write_bytes("".join(f"{n} is {n * n}\n" for n in range(400)).encode())
    out = begun(home, "s.nl", "seeds", "--seeds", 3, "--seed", 4, "--eval-every", 2)
    assert "mean of 3 seeds" in out
    begun(home, "other.nl", "other", "--set", "rate=0.25")
    return home


def begun(home: Path, spec: str, out: str, *more: object) -> str:
    files = (home / spec, home / "t.txt", "--out", home / out, "--steps", 6)
    return done("train", *files, *SMALL, *more)


def test_each_seed_is_the_run_of_its_seed(home: Path) -> None:
    begun(home, "s.nl", "alone", "--seed", 5)
    assert [p.name for p in compare.members(home / "seeds")] == ["seed-4", "seed-5", "seed-6"]
    alone, among = compare.read(home / "alone"), compare.read(home / "seeds" / "seed-5")
    assert [e["loss"] for e in alone.steps] == [e["loss"] for e in among.steps]


def test_it_says_what_differs_and_nothing_else(home: Path) -> None:
    out = done("compare", home / "seeds" / "seed-4", home / "other")
    assert "--set rate:" in out and "0.25" in out and "seed:\n" in out
    assert "-x = embed(ids, [4])" in out and "+x = embed(ids, [5])" in out
    assert "batch:" not in out and "length:" not in out
    out = done("compare", home / "seeds" / "seed-4", home / "seeds" / "seed-4")
    assert "the same text and the same settings" in out


def test_the_table_has_the_mean_and_its_standard_error(home: Path) -> None:
    runs = [compare.read(folder) for folder in compare.members(home / "seeds")]
    assert [len(group) for group in compare.grouped([*runs, compare.read(home / "other")])] == [
        3,
        1,
    ]
    scores = [run.numbers["score"] for run in runs]
    for run, score in zip(runs, scores, strict=True):
        (told,) = metrics.events(run.folder / "metrics.jsonl", "held_out")
        assert score == told["bits"]
        assert run.numbers["best"] == min(e["score"] for e in run.scored)
        assert run.numbers["tokens"] == 6 * 2 * 16
    mean = sum(scores) / 3
    error = math.sqrt(sum((x - mean) ** 2 for x in scores) / 2 / 3)
    out = " ".join(done("compare", home / "seeds", home / "other").split())
    assert compare.summed("score", [run.numbers for run in runs]) == (
        f"{mean:.4f}",
        f"{error:.4f}",
    )
    assert "mean of 3 seeds" in out and f"{mean:.4f}" in out and f"{scores[0]:.4f}" in out


def test_all_curves_are_on_one_picture(home: Path, tmp_path: Path) -> None:
    done("compare", home / "seeds", home / "other", "--out", tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert "seeds, 3 seeds -->" in text and "other -->" in text and "FillBetween" in text


def test_several_seeds_go_on(home: Path, tmp_path: Path) -> None:
    out = done("train", "--resume", home / "seeds", "--steps", 8)
    assert out.count("resumed after step 6") == 3 and "mean of 3 seeds" in out
    runs = [compare.read(folder) for folder in compare.members(home / "seeds")]
    assert [run.numbers["steps"] for run in runs] == [8, 8, 8]
    assert nldsl("train", "--resume", home / "seeds", "--seeds", 2)[0] == cli.USAGE
    status, _, err = nldsl(
        "train", home / "s.nl", home / "t.txt", "--seeds", 2, "--out", home / "other"
    )
    assert status == cli.RUN and "error[N715]" in err
    status, _, err = nldsl("compare", tmp_path)
    assert status == cli.RUN and "error[N710]" in err


def test_it_says_what_a_model_has_lost(home: Path, tmp_path: Path) -> None:
    """A run goes on with other text: on that of the first it is worse, by as much as the score of a
    run on that text which begins with its weights and changes nothing.
    """
    (tmp_path / "new.txt").write_bytes(b"".join(b"the %d of %d\n" % (n % 7, n) for n in range(400)))
    first, tuned, back = home / "seeds" / "seed-4", tmp_path / "tuned", tmp_path / "back"
    done("train", tmp_path / "new.txt", "--from", first, "--steps", 30, "--out", tuned)
    still = ("--steps", 1, "--set", "rate=0.0", "--out", back)
    done("train", home / "t.txt", "--from", tuned, *still)
    out = " ".join(done("compare", first, tuned, "--on", first).split())
    runs = compare.scored_on([compare.read(one) for one in (first, tuned)], first)
    own, after = (run.numbers for run in runs)
    assert own["lost"] == 0 and own["on it"] == own["score"]
    assert after["on it"] == compare.read(back).numbers["score"] != after["score"]
    assert after["lost"] == after["on it"] - own["score"] > 0.1
    assert f"{own['on it']:.4f} +0.0000" in out and f"{after['lost']:+.4f}" in out


def test_models_of_other_tokens_are_not_compared(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    done("tokenizer", "train", home / "t.txt", "--vocab", 257, "--out", own)
    (tmp_path / "s.nl").write_text(SPEC.replace("256", "257"))
    begun_with = (home / "t.txt", "--tokenizer", own, "--steps", 2, "--out", tmp_path / "pieces")
    done("train", tmp_path / "s.nl", *begun_with, *SMALL)
    status, _, err = nldsl("compare", tmp_path / "pieces", "--on", home / "other")
    assert status == cli.RUN and "error[N753]: `--on` does not fit" in err
