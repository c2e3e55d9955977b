"""What levels do at their ticks, from the device to the journal, the screen and the picture: see
step/gauges.py for what is measured.

    {"event": "step", .., "levels": {"ffn[4]": {"rate": 0.01, "gradient": 1.3, "update": 0.02}}}

Levels stand there in the steps in which they tick. On the screen and in the picture those whose
names end alike are one, with their mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nldsl.step.gauges import GRADIENT, RATE, UPDATE, Gauges, Readings
from nldsl.train.display import LINE_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nldsl.train.metrics import Event

WORDS = {RATE: "learning rate", GRADIENT: "gradient norm", UPDATE: "update size"}
MOST = 8  # levels on a screen, and in a picture
Levels = Mapping[str, Mapping[str, float | None]]


class Watching:
    """Takes what was measured in each step, and says it now and then by `say`."""

    def __init__(self, gauges: Gauges, say: Callable[[str], None]) -> None:
        self.gauges, self.say = gauges, say
        self.newest: dict[str, Mapping[str, float | None]] = {}
        self.said = -LINE_SECONDS

    def taken(self) -> Readings:
        """Of the newest step, still on the device."""
        return self.gauges.last

    def told(self, readings: Readings, squares: Sequence[float]) -> Levels:
        """As numbers, from their squares over all ranks."""
        found: dict[str, dict[str, float | None]] = {}
        for (level, what), square in zip(readings.names, squares, strict=True):
            found.setdefault(level, {})[what] = math.sqrt(square) if math.isfinite(square) else None
        self.newest |= found
        if time.perf_counter() - self.said >= LINE_SECONDS:
            self.tell()
        return found

    def tell(self) -> None:
        """Says what each level did at its newest tick."""
        if self.newest:
            self.said = time.perf_counter()
            self.say(described(self.newest))


def described(levels: Levels) -> str:
    """A line a family: its name, and each number."""
    groups = families(levels)
    lines = []
    for name, members in [*groups.items()][:MOST]:
        means = {what: mean([levels[m].get(what) for m in members]) for what in WORDS}
        numbers = [f"{WORDS[w]} {x:.3g}" for w, x in means.items() if x is not None]
        many = f" x{len(members)}" if len(members) > 1 else ""
        lines.append(f"  {name}{many}: {', '.join(numbers) or 'no number'}")
    more = len(groups) - MOST
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])


def families(names: Sequence[str] | Levels) -> dict[str, list[str]]:
    """Levels by the last part of their names."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rsplit(".", 1)[-1], []).append(name)
    return found


def mean(values: Sequence[float | None]) -> float | None:
    known = [x for x in values if x is not None]
    return sum(known) / len(known) if known else None


def sheet(every: Sequence[Event]) -> tuple[Figure, Axes]:
    """A figure and the axes of its curve; below it, where levels were measured, theirs."""
    from matplotlib.figure import Figure

    if not any("levels" in event for event in every):
        figure = Figure(figsize=(7, 4), layout="constrained")
        return figure, figure.subplots()
    figure = Figure(figsize=(7, 10), layout="constrained")
    axes, *below = figure.subplots(4, 1, sharex=True, height_ratios=(2, 1, 1, 1))
    for panel, what in zip(below, WORDS, strict=True):
        draw(panel, every, what)
    return figure, axes


def draw(axes: Axes, every: Sequence[Event], what: str) -> None:
    """One of the three over the steps at which levels tick."""
    positive = False
    said = dict.fromkeys(name for event in every for name in event.get("levels", ()))
    for i, (name, members) in enumerate([*families([*said]).items()][:MOST]):
        points = [
            (event["step"], mean([event["levels"].get(m, {}).get(what) for m in members]))
            for event in every
            if "levels" in event
        ]
        known = [(n, y) for n, y in points if y is not None]
        positive = positive or any(y > 0 for _, y in known)
        marker = "." if len(known) < len(every) / 2 or len(known) < MOST else ""
        if known:
            n, y = zip(*known)
            axes.plot(n, y, color=f"C{i}", linewidth=0.9, label=name, marker=marker)
    axes.set_ylabel(WORDS[what])
    if positive:
        axes.set_yscale("log")
    if axes.lines:
        axes.legend(fontsize="x-small", ncols=2)
