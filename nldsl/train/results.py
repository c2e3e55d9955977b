"""What a trained model can do: how well it predicts, what it writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from nldsl.diagnostic import Diagnostic
from nldsl.train import data, faults, memory, metrics, series
from nldsl.train.data import BOUNDARY, Corpus
from nldsl.train.display import Display
from nldsl.train.metrics import Journal
from nldsl.train.sample import LENGTH, opening, readable, sample
from nldsl.train.score import LEAST_SCORED, SCORED, Forecast, Loss, Score, planned, score
from nldsl.train.series import Series

if TYPE_CHECKING:
    from nldsl.train.run import Run

METRICS, PICTURE = "metrics.jsonl", "loss.svg"


def finish(
    run: Run, step: Any, state: Any, journal: Journal, display: Display
) -> Score | Forecast | Loss:
    """Score the held-out data, draw the curve, let a model of text write."""
    s = run.settings
    display.say("scoring held-out data")
    limit = min(SCORED, max(LEAST_SCORED, s.steps * s.length // 2))
    chosen = planned(
        run.corpus,
        run.corpus.held_out,
        s.batch,
        s.length,
        limit,
        run.onward,
        step.extent(step.scored[1])[1],
    )
    result, _ = score(
        step,
        state,
        run.corpus,
        run.corpus.held_out,
        chosen,
        s.length,
        s.length,
        step.seats(chosen.lanes),
    )
    known(run, result)
    learned = step.scored == step.trained
    journal.write(
        "held_out", step=state.step, **result.event(), **({} if learned else {"of": "report"})
    )
    metrics.picture(run.folder / METRICS, run.folder / PICTURE, result.line if learned else None)
    if isinstance(run.corpus, Corpus) and step.logits() is not None:
        prompt = opening(run.corpus)
        try:
            text, _ = sample(step, state, prompt, LENGTH, s.seed, lanes=step.seats(1))
        except FloatingPointError:
            raise faults.no_next_byte(run.folder) from None
        journal.write("sample", step=state.step, prompt=readable(prompt), text=readable(text))
        display.say(f"sample after {len(prompt)} held-out bytes:\n{readable(prompt + text)}\n")
    display.say(f"{run.folder}: {', '.join(sorted(file.name for file in run.folder.iterdir()))}")
    display.say(result.describe())
    return result


def known(run: Run, result: Score | Forecast | Loss) -> Score | Forecast | Loss:
    """Raises N721 for a score that is not a number."""
    if not math.isfinite(result.model):
        raise faults.no_score(run.folder, result.model)
    return result


def score_data(
    run: Run,
    step: Any,
    state: Any,
    path: Path | None,
    length: int | None,
    limit: int,
    begin: Path | None = None,
    remember: Path | None = None,
    warn: Callable[[tuple[Diagnostic, ...]], None] = lambda findings: None,
) -> Score | Forecast | Loss:
    """Score the saved model on the run's held-out data, or on all of another text or table.
    Documents begin with the memory in `begin`; what the last ones left is written to `remember`.
    `warn` hears what was noticed in the other text.
    """
    s = run.settings
    length = length or s.length
    other = whole(run, path) if path is not None else run.corpus
    warn(other.findings if path is not None else ())
    joined = other.held_out
    longest = max((end - start for start, end in other.extents(joined)), default=0)
    if longest < length:
        raise faults.too_short(str(path or other.name), "held-out", longest, length, other.unit)
    chosen = planned(
        other, joined, s.batch, length, limit, run.onward, step.extent(step.scored[1])[1]
    )
    result, left = score(
        step,
        state,
        run.corpus or other,
        joined,
        chosen,
        length,
        min(length, s.length),
        seated(step, chosen.lanes, begin),
        beside=run.corpus is not None,
    )
    known(run, result)
    if remember is not None:
        memory.save(remember, left)
    return result


def whole(run: Run, path: Path) -> Corpus | Series:
    """All of another text or table, as what is held out; a table is scaled as the run's was."""
    if run.program.vocab:
        return data.read(path, data.undivided)
    table = series.load(path, run.record.data.channels)
    scale = np.array(run.record.data.mean), np.array(run.record.data.deviation)
    return replace(
        table,
        train=np.zeros((1, len(scale[0]))),
        held_out=(table.given() - scale[0]) / scale[1],
        scale=scale,
    )


def write_on(
    run: Run,
    step: Any,
    state: Any,
    prompt: bytes,
    n: int,
    seed: int,
    temperature: float,
    begin: Path | None = None,
    remember: Path | None = None,
    freeze: bool = False,
) -> str:
    """The prompt and `n` bytes after it (after a document boundary if it is empty), as readable
    text. `begin` and `remember` as in `score_data`; with `freeze` nothing is learned.
    """
    if not run.program.vocab or step.logits() is None:
        raise faults.writes_nothing(run.folder)
    try:
        text, lanes = sample(
            step,
            state,
            prompt or bytes([BOUNDARY]),
            n,
            seed,
            temperature,
            seated(step, 1, begin),
            freeze,
        )
    except FloatingPointError:
        raise faults.no_next_byte(run.folder) from None
    if remember is not None:
        memory.save(remember, lanes)
    return readable(prompt + text)


def seated(step: Any, count: int, begin: Path | None) -> dict[str, Tensor]:
    lanes = step.seats(count)
    if begin is not None:
        memory.load(begin, lanes)
    return lanes
