"""What happened in a run, as JSON lines: one object a line, its kind under "event".

    {"event": "step", "step": 3, "loss": 2.71, "bits": 3.91, "tokens": 1024, "seconds": 0.84, "ticked": ["ffn[1]", "training"]}

Without "bits" where tokens are no bytes. Other events: "start" (step: the last one before it), "saved" (step), "held_out" (as scored, see
score.py), "sample" (text). Each step stands there exactly once: on resume, what a killed run wrote beyond its checkpoint is cut off before anything is added.
"""
from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nldsl.train import faults


class Journal:
    """The open metrics file of a run; at most one process holds it.

    Raises N714 if another process has the run open, N713 if a line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise faults.in_use(path.parent) from None

    def cut(self, step: int) -> None:
        """Keep the lines up to the first one of a later step than `step`, and no broken line."""
        kept = 0
        for line, event in lines(self.path):
            if event.get("step", 0) > step:
                break
            kept += len(line)
        os.ftruncate(self._file.fileno(), kept)

    def write(self, event: str, **values: Any) -> None:
        """Append one line; a killed process loses none that was written."""
        try:
            self._file.write(json.dumps({"event": event, **values}).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise faults.cannot_write(self.path, error) from None

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise faults.cannot_write(self.path, error) from None

    def close(self) -> None:
        self._file.close()


def lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every whole line and what it says; a last line that a kill cut short is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield line, json.loads(line)


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    return [event for _, event in lines(path) if event["event"] == kind]


def bits(nats: float) -> float:
    """Bits per byte of a loss in nats per byte."""
    return nats / math.log(2)


def picture(path: Path, target: Path, beside: tuple[str, float] | None = None) -> None:
    """Draw bits per byte (else the loss) over steps, every step thin and a running mean thick; `beside` is a dashed line and its name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    every = events(path, "step")
    what = "bits" if any("bits" in event for event in every) else "loss"
    steps = [event for event in every if event[what] is not None]
    n = [event["step"] for event in steps]
    y = [event[what] for event in steps]
    smooth = []
    for value in y:
        smooth.append(value if not smooth else smooth[-1] + 0.05 * (value - smooth[-1]))
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(n, y, color="0.75", linewidth=0.7, label="step")
    axes.plot(n, smooth, color="C0", label="mean of about 20 steps")
    if beside is not None:
        axes.axhline(beside[1], color="C1", linestyle="--", label=beside[0])
    for event in events(path, "held_out"):
        axes.plot([n[-1] if n else 0], [event[what]], "o", color="C0", label=f"held out {event[what]:.3f}")
    axes.set(xlabel="step", ylabel="bits per byte" if what == "bits" else what, ylim=(0, max(y, default=8) * 1.05))
    axes.legend()
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    pyplot.close(figure)
