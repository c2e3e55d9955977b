"""Uses a trained model: scores it, and lets it write after its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nldsl.diagnostic import Diagnostic
from nldsl.step.compile import CompiledStep
from nldsl.step.lanes import Lanes
from nldsl.step.state import State
from nldsl.train import faults, memory, metrics
from nldsl.train.data.dataset import Result
from nldsl.train.data.given import Given
from nldsl.train.data.kinds import kind_of
from nldsl.train.data.sequences import planned
from nldsl.train.display import Display
from nldsl.train.metrics import Journal
from nldsl.train.sample import LENGTH, sample
from nldsl.train.score import LEAST_SCORED, SCORED, score
from nldsl.train.spelling import readable

if TYPE_CHECKING:
    from nldsl.train.records import Settings
    from nldsl.train.run import Run

METRICS, PICTURE = "metrics.jsonl", "loss.svg"


def finish(
    run: Run, step: CompiledStep, state: State, journal: Journal, display: Display
) -> Result:
    """Score the held-out data, draw the curve, let a model of text write."""
    s, data = run.settings, run.data
    display.say("scoring held-out data")
    result = known(run, held_out(run, step, state, limit_of(s)))
    learned = step.reading.scored == step.reading.trained
    journal.write(
        "held_out", step=state.step, **result.event(), **({} if learned else {"of": "report"})
    )
    metrics.picture(run.folder / METRICS, run.folder / PICTURE, result.line if learned else None)
    if len(prompt := data.opening()) and step.reading.logits() is not None:
        written(run, step, state, prompt.tolist(), journal, display)
    display.say(f"{run.folder}: {', '.join(sorted(file.name for file in run.folder.iterdir()))}")
    display.say(result.describe())
    return result


def limit_of(settings: Settings) -> int:
    """How many held-out tokens are scored at the end of a run."""
    return min(SCORED, max(LEAST_SCORED, settings.steps * settings.length // 2))


def held_out(run: Run, step: CompiledStep, state: State, limit: int, beside: bool = True) -> Result:
    """The score of the held-out data, at most `limit` tokens of it; simple predictors `beside`."""
    s, data, reading = run.settings, run.data, step.reading
    absent = reading.extent(reading.scored[1])[1]
    documents = data.extents(data.held_out)
    chosen = planned(documents, s.batch, s.length, limit, run.stateful, absent)
    seats = reading.seats(chosen.lanes)
    return score(step, state, data, data, chosen, s.length, s.length, seats, beside)[0]


def written(
    run: Run,
    step: CompiledStep,
    state: State,
    prompt: list[int],
    journal: Journal,
    display: Display,
) -> None:
    """Let the model go on with a prompt; the text that it writes."""
    vocabulary = run.data.vocabulary
    assert vocabulary is not None, "what opens a text stands for something"
    seed, seats = run.settings.seed, step.reading.seats(1)
    try:
        found, _ = sample(
            step, state, prompt, LENGTH, seed, lanes=seats, boundary=vocabulary.boundary
        )
    except FloatingPointError:
        raise faults.no_next_byte(run.folder) from None
    begun, text = (readable(vocabulary.decode(ids)) for ids in (prompt, found))
    journal.write("sample", step=state.step, prompt=begun, text=text)
    text = readable(vocabulary.decode(prompt + found))
    display.say(f"sample after {len(prompt)} held-out {vocabulary.unit}:\n{text}\n")


def known(run: Run, result: Result) -> Result:
    """Raises N721 for a score that is not a number."""
    if not math.isfinite(result.model):
        raise faults.no_score(run.folder, result.model)
    return result


def score_data(
    run: Run,
    step: CompiledStep,
    state: State,
    given: Given,
    length: int | None,
    limit: int,
    begin: Path | None = None,
    remember: Path | None = None,
    warn: Callable[[tuple[Diagnostic, ...]], None] = lambda findings: None,
) -> Result:
    """Score the saved model on the run's held-out data, or on all of another text or table that is
    given.
    Documents begin with the memory in `begin`; the memories that the last ones leave are written to
    `remember`. `warn` gets the findings about the other text.
    """
    s = run.settings
    length = length or s.length
    if given.path is not None:
        other = kind_of(run.program).whole(run.program, given, run.record.data)
        warn(other.findings)
    else:
        other = run.data
    documents = other.extents(other.held_out)
    longest = max((end - start for start, end in documents), default=0)
    if longest < length:
        raise faults.too_short(other.name, "held-out", longest, length, other.unit)
    absent = step.reading.extent(step.reading.scored[1])[1]
    chosen = planned(documents, s.batch, length, limit, run.stateful, absent)
    result, left = score(
        step,
        state,
        run.dataset or other,
        other,
        chosen,
        length,
        min(length, s.length),
        seated(step, chosen.lanes, begin),
        beside=run.dataset is not None,
    )
    known(run, result)
    if remember is not None:
        memory.save(remember, left)
    return result


def seated(step: CompiledStep, count: int, begin: Path | None) -> Lanes:
    lanes = step.reading.seats(count)
    if begin is not None:
        memory.load(begin, lanes)
    return lanes
