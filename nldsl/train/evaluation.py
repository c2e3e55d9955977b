"""A RUN, AS IT TRAINS -> SCORES OF ITS HELD-OUT DATA, the best of them, and when it is enough.

Every `eval_every` steps the run is scored as `nldsl eval` scores it, always on the same data. After
a score that is better than all before it the state is saved, and stays beside the last checkpoint
as `best.safetensors`. What the best is, and how long ago, is read from the journal alone: a resumed
run decides as the unbroken one does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train import averages, checkpoint, folder, metrics
from nldsl.train.display import Display
from nldsl.train.loop import Log, Next
from nldsl.train.metrics import Event, Journal
from nldsl.train.records import Settings, Stopped
from nldsl.train.results import held_out
from nldsl.train.run import Run


def best_of(scores: Sequence[Event]) -> Event | None:
    """The first of the lowest scores; None if there is no number among them."""
    known = [event for event in scores if event["score"] is not None]
    return min(known, key=lambda event: event["score"], default=None)


def enough(settings: Settings, scores: Sequence[Event]) -> bool:
    """Were the last `patience` scores no better than one before them?"""
    best = best_of(scores)
    since = len(scores) - (scores.index(best) + 1 if best is not None else 0)
    return settings.patience is not None and since >= settings.patience


class Evaluations:
    """The scores of one run; `after` is asked after each step, `keep` after each save. Of several
    ranks the first scores.
    """

    def __init__(
        self, run: Run, step: CompiledStep, journal: Journal, display: Display, state: State
    ) -> None:
        """A kill between the save of this state and the name of the best is mended; a run that was
        ended early and goes on now is no longer said to be.
        """
        self.run, self.step, self.journal, self.display = run, step, journal, display
        self.scores = run.ranks.first(lambda: metrics.events(journal.path, "eval"))
        if run.ranks.is_first:
            self.keep(state)
            if folder.recorded(run.folder).stopped is not None and not self.enough:
                self.record(None)

    @property
    def enough(self) -> bool:
        return enough(self.run.settings, self.scores)

    def after(self, state: State, log: Log) -> Next:
        """Scores the state if it is time to."""
        every = self.run.settings.eval_every
        if every is None or state.step % every:
            return Next()
        log.drain()
        before = best_of(self.scores)
        seen = self.run.ranks.seen(self.step, state)
        event = self.run.ranks.first(lambda: self.scored(seen))
        self.scores.append(event)
        better = best_of(self.scores) is event
        self.journal.write(**event)
        self.tell(event, None if better else before)
        if self.enough:
            self.stop(state)
        return Next(better, self.enough)

    def scored(self, state: State) -> Event:
        began = time.perf_counter()
        settings = self.run.settings
        with averages.in_force(state, averages.pairs(self.run.program, settings.weights)):
            found = held_out(self.run, self.step, state, settings.eval_bytes, beside=False)
        numbers = {name: x for name, x in found.event().items() if x is not None}
        finite = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        reading = self.step.reading
        return {
            "event": "eval",
            "step": state.step,
            "score": found.model if math.isfinite(found.model) else None,
            **finite,
            **({} if reading.scored == reading.trained else {"of": "report"}),
            "seconds": round(time.perf_counter() - began, 6),
        }

    def tell(self, event: Event, best: Event | None) -> None:
        beside = "the best so far" if best is None else f"the best is {said(best)}"
        beside = "not a number" if event["score"] is None else beside
        self.display.say(f"held out, {said(event)}; {beside}")

    def stop(self, state: State) -> None:
        best, settings = best_of(self.scores), self.run.settings
        if self.run.ranks.is_first:
            self.record(Stopped(after=state.step, best=best["step"] if best is not None else 0))
        told = f"the best is {said(best)}" if best is not None else "none was a number"
        self.display.say(
            f"stopped after step {state.step} of {settings.steps}: "
            f"{settings.patience} scores without a better one; {told}"
        )

    def record(self, stopped: Stopped | None) -> None:
        place = self.run.folder
        folder.changed(place, folder.recorded(place), {"stopped": stopped})

    def keep(self, state: State) -> None:
        """What was just saved stays as the best, if it is."""
        best = best_of(self.scores)
        if best is None or best["step"] != state.step:
            return
        kept = checkpoint.manifest(self.run.folder, checkpoint.BEST)
        if kept is None or kept.step != state.step:
            checkpoint.keep(self.run.folder)


def said(event: Event) -> str:
    """`2.345 bits per byte after step 40`."""
    if event["score"] is None:
        return f"no number after step {event['step']}"
    unit = "bits per byte" if "bits" in event else ""
    number = f"{event['score']:.3f} {unit}" if unit else f"loss {event['score']:.4f}"
    return f"{number} after step {event['step']}"
