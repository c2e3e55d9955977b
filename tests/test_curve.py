"""The picture of a run, and how long its steps took."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

from nldsl.train import loop, metrics
from nldsl.train.display import Lines


def recorded(folder: Path, losses: list[float], **held_out: Any) -> Path:
    events = [{"event": "step", "step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
    events += [{"event": "held_out", "step": len(losses), **held_out}] if held_out else []
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder / "metrics.jsonl"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    saved = Figure.savefig

    def kept(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        saved(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures


@pytest.mark.parametrize(
    "losses",
    [
        [-20.0 - n for n in range(30)],
        [5.0],
        [3.0, -4.0],
        [1e6, 1.0, 2.0],
        [0.25] * 4,
        [8 / n for n in range(1, 400)],
    ],
)
def test_every_loss_lies_within_the_axes(
    losses: list[float], drawn: list[Figure], tmp_path: Path
) -> None:
    beside = ("a simple guess", 2 * min(losses) - 1)
    path = recorded(tmp_path, losses, loss=max(losses) + 1)
    metrics.picture(path, tmp_path / "loss.svg", beside)
    (axes,) = drawn[0].axes
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    assert low < min(*losses, beside[1]) and high > max(losses) + 1
    assert left < 1 and right > len(losses)
    assert all(tick == round(tick) for tick in axes.get_xticks())
    assert axes.get_title() == f"{tmp_path.name}: loss"


def test_no_text_is_cut(drawn: list[Figure], tmp_path: Path) -> None:
    name = (
        "a_run_whose_name_is_rather_long_for_a_title_of_one_line_and_then_much_longer_still_"
        "with_settings_$x_y$-12"
    )
    folder = tmp_path / name
    folder.mkdir()
    metrics.picture(recorded(folder, [1.0, 2.0, 3.0], loss=2.0), folder / "loss.svg")
    (figure,) = drawn
    figure.draw_without_rendering()
    (axes,), page = figure.axes, figure.bbox
    texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    boxes = [text.get_window_extent() for text in texts]
    assert all(
        page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 and b.y1 <= page.y1 for b in boxes
    )


@pytest.mark.parametrize(
    "losses, of, dots",
    [({"loss": 1.5}, {}, 1), ({"bits": 1.5}, {}, 0), ({"loss": 1.5}, {"of": "report"}, 0)],
)
def test_only_the_same_quantity_is_drawn_beside(
    losses: dict, of: dict, dots: int, drawn: list[Figure], tmp_path: Path
) -> None:
    path = recorded(tmp_path, [1.0, 2.0], **losses, **of)
    metrics.picture(path, tmp_path / "loss.svg")
    assert sum("held out" in str(line.get_label()) for line in drawn[0].axes[0].lines) == dots


def test_the_running_mean_has_no_bias_to_the_first_loss() -> None:
    assert metrics.averaged([7.0] * 5) == pytest.approx([7.0] * 5)
    keep = 1 - metrics.WEIGHT
    assert metrics.averaged([10.0, 0.0, 0.0])[1:] == pytest.approx(
        [10 * keep / (1 + keep), 10 * keep**2 / (1 + keep + keep**2)]
    )


def test_each_step_has_its_own_seconds(tmp_path: Path) -> None:
    """Steps wait for each other in the log, but each is told with the time of its own."""
    now = 0.0

    class Clock:
        def __init__(self) -> None:
            self.at = now

        def since(self, other: Clock) -> float:
            return self.at - other.at

    journal = metrics.Journal(tmp_path / "metrics.jsonl")
    display = Lines(Console(file=StringIO()))
    display.training(0, 3)
    log = loop.Log(journal, display, 8, None, Clock)
    for n, seconds in enumerate((4.0, 0.5, 2.0), 1):
        with log.timed(n):
            now += seconds
        now += 100  # a save between two steps
        log.add(n, {"loss": torch.tensor(1.0)}, ())
    log.drain()
    journal.close()
    told = metrics.events(tmp_path / "metrics.jsonl", "step")
    assert [event["seconds"] for event in told] == [4.0, 0.5, 2.0]
