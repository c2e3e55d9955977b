"""A trace as curves, one below the other over the same tokens, with the text under them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nldsl.trace.measured import Row, Trace
from nldsl.trace.quantities import CHANGE, NORM, QUANTITIES
from nldsl.train import metrics
from nldsl.view.folding import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 16, 9  # inches, of a slide
LARGEST, SMALLEST = 10, 5.5  # points of a letter of the text under the curves
SPACE = {" ": "\u00b7", "\n": "\u21b5"}  # what stands for them
WORDS = {
    NORM: "|M|",
    CHANGE: "its change",
}


def picture(trace: Trace, target: Path) -> None:
    """An SVG of 1600 x 900: a curve a memory in each panel; what never moves has no panel. Memories
    of one line of the text have one colour, the first layers lighter. Raises N713.
    """
    from matplotlib.figure import Figure

    panels = [what for what in QUANTITIES if moves(trace, what)]
    figure = Figure(figsize=SIZE, layout="constrained")
    every = figure.subplots(1 + len(panels), 1, sharex=True, squeeze=False)
    top, *below = every[:, 0]
    curve(top, trace.cost, "0.35", trace.unit)
    top.set_ylabel(trace.unit)
    for axes, what in zip(below, panels, strict=True):
        for names, colour in families([*trace.memories]):
            for i, name in enumerate(names):
                alpha = 1 - 0.65 * (len(names) - 1 - i) / max(1, len(names) - 1)
                if what in trace.memories[name]:
                    label = shown(names) if i == len(names) - 1 else ""
                    curve(axes, trace.memories[name][what], colour, label, alpha)
        axes.set_ylabel(WORDS.get(what, what))
    for axes in every[:, 0]:
        axes.margins(x=0.005)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    top.set_title(
        f"{metrics.fitting(Path(trace.run).name)}, step {trace.step:,}, reads "
        f"{metrics.fitting(Path(trace.text).name)}",
        loc="left",
        parse_math=False,
    )
    lines, labels = below[0].get_legend_handles_labels() if below else ([], [])
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
    spelled(every[-1, 0], trace.words)
    metrics.drawn_to(figure, target)


def moves(trace: Trace, what: str) -> bool:
    """Is it not one number throughout?"""
    rows = [rows[what] for rows in trace.memories.values() if what in rows]
    return len({x for row in rows for x in row if x is not None}) > 1


def families(names: Sequence[str]) -> list[tuple[list[str], str]]:
    """Memories of one line of the text, and their colour."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\[[^]]*\]", "[]", name), []).append(name)
    return [(own, f"C{i}") for i, own in enumerate(found.values())]


def curve(axes: Axes, row: Row, colour: str, label: str, alpha: float = 1.0) -> None:
    """A gap where there is no number; a dot where there is one alone."""
    values = [float("nan") if x is None else x for x in row]
    marker = "." if sum(x is not None for x in row) < 2 else ""
    axes.plot(values, color=colour, alpha=alpha, linewidth=1, label=label or None, marker=marker)


def spelled(axes: Axes, words: Sequence[str]) -> None:
    """The text under the axis, where it fits, else the numbers of its tokens."""
    longest = max(map(len, words))
    wide = 1.2 if longest > 1 else 0.62  # of a letter, turned or not, in sizes of it
    size = min(LARGEST, 0.9 * 72 * SIZE[0] / (wide * len(words)))
    if size < SMALLEST:
        axes.set_xlabel("token")
        return
    shows = ["".join(SPACE.get(c, c) for c in word) for word in words]
    axes.set_xticks(range(len(words)))
    turned = 90 if longest > 1 else 0
    axes.set_xticklabels(
        shows, family="monospace", fontsize=size, rotation=turned, parse_math=False
    )
