"""A memory as a layer on other data: tables of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL, done, nldsl

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.train import metrics
from nldsl.train.data import formats
from nldsl.train.data import table as tables
from nldsl.train.data.dataset import sequences_of
from nldsl.train.data.given import Given
from nldsl.train.data.kinds import kind_of

torch.set_num_threads(1)
FORECAST = """nldsl 1
import layers, optimizers
dim channel = 3, d = 8
input x: [channel]
h = conv(affine(x, [d]), 3)
y = affine(h + swiglu(rmsnorm(h), 2 * d), [channel])
loss = |y - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 1e-2, decay = 0.01)
}
"""


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    (tmp_path / "forecast.nl").write_text(FORECAST)
    return tmp_path


def table(path: Path, values: np.ndarray, heading: str = "") -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        path.write_text(
            heading + "".join(",".join(map(repr, row)) + "\n" for row in values.tolist())
        )
    return path


def waves(n: int = 400, channels: int = 3) -> np.ndarray:
    t = np.arange(n)[:, None]
    return 5 + 100 * np.sin(t / (3 + np.arange(channels)))


def test_a_series_is_trained_on_and_scored_beside_simple_predictors(forecast: Path) -> None:
    out = done(
        "train",
        forecast / "forecast.nl",
        table(forecast / "waves.csv", waves(), "a,b,c\n"),
        "--steps",
        60,
        "--out",
        forecast / "run",
        *SMALL,
    )
    assert "400 points of 3 channels" in out and "bits per byte" not in out
    events = metrics.events(forecast / "run" / "metrics.jsonl", "step")
    assert "bits" not in events[0] and events[-1]["loss"] < 0.5 * events[0]["loss"]
    held_out = metrics.events(forecast / "run" / "metrics.jsonl", "held_out")[0]
    made = tables.load(Given(forecast / "waves.csv"), 3)
    assert (
        abs(made.train.mean()) < 1e-9
        and abs(made.train.std(0) - 1).max() < 1e-9
        and len(made.held_out) == 40
    )
    places = np.concatenate([np.arange(s + 1, s + 16) for s in (0, 15)])
    assert held_out["terms"] == 30
    assert held_out["last"] == pytest.approx(
        ((made.held_out[places] - made.held_out[places - 1]) ** 2).sum() / 30
    )
    assert held_out["mean"] == pytest.approx((made.held_out[places] ** 2).sum() / 30)
    assert (
        f"held out: loss {held_out['loss']:.4f}; squared error of predicting the last value "
        f"{held_out['last']:.4f}" in out
    )
    again = done("eval", forecast / "run", table(forecast / "waves.npy", waves()))
    assert "points scored" in again
    status, _, err = nldsl("generate", forecast / "run")
    assert status == cli.RUN and "error[N719]" in err


WEIGHTLESS = {
    "a memory": """level average every token {
    memory M: [] = 0
    context x
    minimize (M - x)^2 / 2
    M <- M - 0.5 * grad(M)
}
y = average.M@after
report (y - x)^2
""",
    "a stream": "y = x\n",
}


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_program_without_a_weight_is_scored_and_resumed(name: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.nl"
    spec.write_text("nldsl 1\ninput x: []\n" + WEIGHTLESS[name])
    data, run = table(tmp_path / "t.csv", waves(channels=1)), tmp_path / "run"
    trained = done("train", spec, data, *SMALL, "--steps", "2", "--out", run)
    (held_out,) = [line for line in trained.splitlines() if line.startswith("held out: loss")]
    assert held_out in done("eval", run)
    assert held_out in done("train", "--resume", run, "--steps", "3")


def test_the_series_made_here_is_the_same_everywhere(forecast: Path) -> None:
    first = tables.lorenz(3)
    assert first.shape == (tables.POINTS, 3) and np.array_equal(first, tables.lorenz(3))
    assert 3 < first.std() < 5 and len(np.unique(first[:, 0])) > 0.99 * len(first)
    out = done("train", forecast / "forecast.nl", "--steps", 2, "--out", forecast / "run", *SMALL)
    assert "Lorenz-96 system made by nldsl" in out and "20,000 points of 3 channels" in out


@pytest.mark.parametrize(
    "name, content, code",
    [
        ("a.csv", "1,2\n3,4\n", "N706"),
        ("a.csv", "1,2,3\n1,nan,3\n", "N707"),
        ("a.csv", "1,2,3\n1,,3\n", "N707"),
        ("a.csv", "1,2,3\n4,5\n", "N708"),
        ("a.csv", "a,b,c\n", "N709"),
        ("a.txt", "1,2,3\n", "N709"),
        ("a.npy", "soup", "N709"),
        ("a.csv", "1,2,3\n" * 30, "N704"),
        ("b.csv", None, "N701"),
    ],
)
def test_a_table_that_is_none_is_refused(
    name: str, content: str | None, code: str, forecast: Path
) -> None:
    if content is not None:
        (forecast / name).write_text(content)
    status, _, err = nldsl(
        "train", forecast / "forecast.nl", forecast / name, "--out", forecast / "run", *SMALL
    )
    assert status == cli.RUN and f"error[{code}]" in err and "Traceback" not in err
    assert not (forecast / "run").exists()


@pytest.mark.parametrize(
    "values, code",
    [
        (np.ones(9), "N709"),
        (np.ones((9, 2)), "N706"),
        (np.array([["a"]]), "N709"),
        (np.array([[1, 2, np.inf]]), "N707"),
    ],
    ids=["one axis", "two channels", "words", "infinite"],
)
def test_an_array_that_is_no_series_is_refused(
    values: np.ndarray, code: str, tmp_path: Path
) -> None:
    with pytest.raises(Diagnostics) as found:
        tables.load(Given(table(tmp_path / "a.npy", values)), 3)
    assert found.value.diagnostics[0].code == code


def test_a_program_with_two_inputs_has_no_data(forecast: Path) -> None:
    two = FORECAST.replace("input x: [channel]", "input x: [channel]\ninput z: [channel]").replace(
        "affine(x,", "affine(x + z,"
    )
    (forecast / "two.nl").write_text(two.replace("context x", "context x, z"))
    status, _, err = nldsl("train", forecast / "two.nl", "--steps", 2)
    assert status == cli.RUN and "error[N705]" in err


def test_a_format_is_one_registered_reader(tmp_path: Path) -> None:
    """Lines of numbers with spaces between: a reader that registers its suffix is a format."""

    @formats.reads(".toy")
    def from_toy(path: Path, given: Given) -> formats.Table:
        return np.array(
            [[float(n) for n in line.split()] for line in path.read_text().splitlines()]
        )

    (tmp_path / "waves.toy").write_text(
        "".join(" ".join(map(repr, row)) + "\n" for row in waves().tolist())
    )
    (tmp_path / "forecast.nl").write_text(FORECAST)
    assert np.array_equal(from_toy(tmp_path / "waves.toy", Given()), waves())
    program = load_text(FORECAST)
    found = kind_of(program).of(program, Given(tmp_path / "waves.toy"))
    assert np.allclose(found.given(), waves())
    assert found.record().channels == 3 and sequences_of(found.train, 0, 1, 0, 2, 16).shape == (
        2,
        16,
        3,
    )
    with pytest.raises(Diagnostics) as refused:
        kind_of(program).of(program, Given(tmp_path / "forecast.nl"))
    assert ".toy" in refused.value.diagnostics[0].message
