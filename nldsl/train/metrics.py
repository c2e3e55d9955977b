"""The journal of a run as JSON lines: one object a line, its kind under "event".

    {"event": "step", "step": 3, "loss": 2.71, "bits": 3.91, "tokens": 1024, "seconds": 0.84,
    "ticked": ["ffn[1]", "training"]}

"seconds" are those of this step alone. "bits" stand there if the loss is what a byte costs and
nothing else; "levels" if they are watched, see levels.py; "skipped" if the step was not finite and
left no trace. Other events: "start" (step: the last one before it), "compiled" (step: likewise;
seconds), "saved" (step), "held_out" (as scored, see score.py; "of" the report if that is not what
was learned), "eval" (likewise, as it trains, and "score", the number that is to be low), "sample"
(text). Each step stands there exactly once: on resume, what a killed run
wrote beyond its checkpoint is cut off before anything is added.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from nldsl import writing
from nldsl.train import faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Event = dict[str, Any]  # a line as JSON gives it: its kind under "event"

# What is read again of each kind of event.
TOLD: dict[str, dict[str, type | UnionType]] = {
    "step": {"step": int, "loss": int | float | None},
    "held_out": {"step": int},
    "eval": {"step": int, "score": int | float | None},
    "saved": {"step": int},
    "start": {"step": int},
    "compiled": {"step": int},
}
TITLE = 48  # letters of a run's name in the title
FEW = 50  # steps, of which each is a point in the picture


class Journal:
    """The open metrics file of a run; at most one process holds it.

    Raises N714 if another process has the run open, N713 if a line cannot be written.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        """Of a rank that does not write, what it would write goes nowhere."""
        self.path, self.writes = path, writes
        self.listener: Callable[[str, Mapping[str, object]], None] | None = None
        try:
            self._file = (path if writes else Path(os.devnull)).open("ab")
        except OSError as error:
            raise faults.cannot_write(path, error) from None
        if not writes:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise faults.in_use(path.parent) from None

    def cut(self, step: int) -> int:
        """Keep the lines up to the first one of a later step than `step`, and no broken line behind
        it. Returns the last step in it; raises N712 at a broken line before `step`.
        """
        kept = last = 0
        for number, line in enumerate(read(self.path).splitlines(keepends=True), 1):
            try:
                event = event_of(line)
            except ValueError as error:
                if last < step and line.endswith(b"\n"):
                    raise faults.damaged_journal(self.path, number, str(error)) from None
                break
            if event.get("step", 0) > step:
                break
            kept += len(line)
            last = event["step"] if event["event"] == "step" else last
        os.ftruncate(self._file.fileno(), kept)
        return last

    def write(self, event: str, **values: object) -> None:
        """Append one line; a killed process loses none that was written."""
        try:
            self._file.write(json.dumps({"event": event, **values}).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise faults.cannot_write(self.path, error) from None
        if self.listener is not None:
            self.listener(event, values)

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        if not self.writes:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise faults.cannot_write(self.path, error) from None

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise faults.unreadable(path, error) from None


def lines(path: Path) -> Iterator[tuple[bytes, Event]]:
    """Every whole line and what it says; a last line that a kill cut short is left out.

    Raises N712 for one that says nothing.
    """
    for number, line in enumerate(read(path).splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            try:
                yield line, event_of(line)
            except ValueError as error:
                raise faults.damaged_journal(path, number, str(error)) from None


def event_of(line: bytes) -> Event:
    """Raises ValueError for a line that no run wrote."""
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError("it has no `event`")
    for name, kind in TOLD.get(event["event"], {}).items():
        if name not in event or not isinstance(event[name], kind):
            raise ValueError(f"its `{name}` is {json.dumps(event.get(name))}")
    return event


def events(path: Path, kind: str) -> list[Event]:
    return [event for _, event in lines(path) if event["event"] == kind]


def bits(nats: float) -> float:
    """Bits per byte of a loss in nats per byte."""
    return nats / math.log(2)


WEIGHT = 0.05  # of the newest step in the thick line


def averaged(values: list[float]) -> list[float]:
    """A running mean that forgets, without a bias to the first value: the weights of the losses
    seen so far add up to 1.
    """
    mean, kept, found = 0.0, 1.0, []
    for value in values:
        mean, kept = (1 - WEIGHT) * mean + WEIGHT * value, (1 - WEIGHT) * kept
        found.append(mean / (1 - kept))
    return found


def fitting(name: str) -> str:
    """A name that is too long for a title, without its middle."""
    return name if len(name) <= TITLE else f"{name[: TITLE // 2]}\u2026{name[-TITLE // 3 :]}"


def draw_scores(axes: Axes, scores: list[Event], what: str) -> None:
    """The scores of the held-out data while it trained, the best of them marked; those of another
    stream than the one that is learned are left out.
    """
    scores = [event for event in scores if "of" not in event]
    if not scores:
        return
    n, y = [event["step"] for event in scores], [event[what] for event in scores]
    best = min(scores, key=lambda event: event["score"])
    axes.plot(n, y, color="C2", marker=".", label="held out, as it trained")
    axes.plot(
        [best["step"]],
        [best[what]],
        "*",
        color="C2",
        markersize=11,
        label=f"best {best[what]:.3f}, step {best['step']:,}",
    )


def picture(path: Path, target: Path, beside: tuple[str, float] | None = None) -> None:
    """Draw bits per byte (else the loss) over steps, every step thin and a running mean thick;
    `beside` is a dashed line and its name.
    """
    from matplotlib.ticker import MaxNLocator

    from nldsl.train.levels import sheet

    every = events(path, "step")
    scored = events(path, "held_out")
    what = "bits" if any("bits" in event for event in every or scored) else "loss"
    said = "bits per byte" if what == "bits" else "loss"
    known = [(event["step"], event[what]) for event in every if event.get(what) is not None]
    n, y = [step for step, _ in known], [value for _, value in known]
    figure, axes = sheet(every)
    axes.plot(
        n, y, color="0.75", linewidth=0.7, label="each step", marker="." if len(n) < FEW else ""
    )
    axes.plot(n, averaged(y), color="C0", label=f"mean of about {round(1 / WEIGHT)} steps")
    if beside is not None:
        axes.axhline(beside[1], color="C1", linestyle="--", label=beside[0])
    draw_scores(axes, [e for e in events(path, "eval") if e.get(what) is not None], what)
    for event in (event for event in scored if event.get(what) is not None and "of" not in event):
        axes.plot(
            [event["step"]], [event[what]], "o", color="C0", label=f"held out {event[what]:.3f}"
        )
    axes.set_ylabel(said)
    figure.axes[-1].set_xlabel("step")
    axes.set_title(f"{fitting(path.absolute().parent.name)}: {said}", parse_math=False)
    axes.margins(x=0.02, y=0.05)
    if len(n) == 1:
        axes.set_xlim(n[0] - 1, n[0] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend()
    drawn_to(figure, target)


def drawn_to(figure: Figure, target: Path) -> None:
    """Writes a picture. Raises N713 if the disk refuses."""
    with BytesIO() as drawn:
        figure.savefig(drawn, format="svg", metadata={"Date": None})
        try:
            writing.replace(target, drawn.getvalue())
        except OSError as error:
            raise faults.cannot_write(target, error) from None
