"""LEVEL GRAPH -> SKETCH: words in boxes and lines between them, as large as fits.

A row is a place in the order of Def. 2, the slowest on top. Where givers all reach the same takers
their lines meet in a point. A graph for which the page is too small gets a larger page of the same
shape, never smaller text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import networkx as nx

from nldsl.view.bundles import Bundle, Giver, bundles
from nldsl.view.express import clock_text
from nldsl.view.folding import broken, shown
from nldsl.view.labels import labelled
from nldsl.view.layout import LEADING, Item, Line, Placed, filled, placed
from nldsl.view.level_graph import NodeData, data_of, node_data

SMALLEST, LARGEST = 14, 24  # of a font
WRAPS = (28, 23, 20, 18, 16, 15, 14, 13, 12.5, 12, 11, 10)  # widths of a box, in sizes of the font
PADDING = 0.4
LABEL = 11
POINT = 0.7
Words = dict[str, tuple[list[str], list[str]]]
NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Sketch:
    """`scale` is how much the page had to grow; `words` of a box are its name and its
    description.
    """

    font: float
    scale: float
    words: Words
    placed: Placed


def sketched(graph: nx.MultiDiGraph[str], width: float, height: float) -> Sketch:
    """In the rows and with the width of boxes that allow the largest text."""

    def fit(row: dict[str, int], wrap: float) -> float:
        """The font with which it fills the page."""
        _, items, lines = _made(graph, row, SMALLEST, wrap * SMALLEST)
        natural = placed(items, lines, SMALLEST)
        return SMALLEST / max(natural.width / width, natural.height / height)

    tries = []
    for (worth, row), wrap in product(_ways(graph), WRAPS):
        tries.append((fit(row, wrap), worth, row, wrap))
        if tries[-1][0] >= LARGEST:
            break
    fits, _, row, wrap = max(
        tries, key=lambda one: (min(one[0], SMALLEST), min(one[0], LARGEST) * one[1])
    )
    font, grown = max(SMALLEST, min(LARGEST, math.floor(2 * fits) / 2)), max(1, SMALLEST / fits)
    while True:
        words, items, lines = _made(graph, row, font, wrap * font)
        page = filled(items, lines, font, (width * grown, height * grown))
        needs = max(page.width / width, page.height / height)
        if needs <= grown or font == SMALLEST:
            return Sketch(font, max(grown, needs), words, labelled(page, font))
        font = max(SMALLEST, font - 0.5)


def _ways(graph: nx.MultiDiGraph[str]) -> list[tuple[float, dict[str, int]]]:
    """Ways to put boxes in rows, and the value of each."""
    return [(1, by_caller(graph)), (0.95, by_rank(graph)), (0.85, by_clock(graph))]


def by_rank(graph: nx.MultiDiGraph[str]) -> dict[str, int]:
    """A row for each place in the order of Def. 2; 0 is the slowest, inputs stand below all."""
    return _rows({name: data.get("rank", -1) for name, data in node_data(graph)})


def by_caller(graph: nx.MultiDiGraph[str]) -> dict[str, int]:
    """The same, but an optimizer stands beside the level that calls it."""
    home = homes(graph)
    return _rows({name: data_of(graph, home[name]).get("rank", -1) for name in graph.nodes})


def homes(graph: nx.MultiDiGraph[str]) -> dict[str, str]:
    """Of each box the one that it stands beside: an optimizer's only caller, if that ticks with it
    and calls no other, else itself."""
    node_of = {member: name for name, data in node_data(graph) for member in data["members"]}
    callers = {
        name: {node_of[caller] for caller in data["callers"]} for name, data in node_data(graph)
    }
    called = Counter(caller for found in callers.values() for caller in found)
    home: dict[str, str] = {}
    ranks: dict[str, int] = {name: data.get("rank", -1) for name, data in node_data(graph)}
    for name in sorted(graph, key=lambda name: -ranks[name]):
        caller = next(iter(callers[name]), name)
        pair = len(callers[name]) == called[caller] == 1
        pair = pair and clock_of(data_of(graph, caller)) == clock_of(data_of(graph, name))
        home[name] = home.get(caller, caller) if pair else name
    return home


def by_clock(graph: nx.MultiDiGraph[str]) -> dict[str, int]:
    """A row for each clock: boxes that tick equally often stand side by side."""
    rank = {name: data.get("rank", -1) for name, data in node_data(graph)}
    first: dict[str, int] = {}
    for name in sorted(rank, key=rank.__getitem__):
        first.setdefault(clock_of(data_of(graph, name)), rank[name])
    return _rows({name: first[clock_of(data_of(graph, name))] for name in rank})


def _rows(rank: dict[str, int]) -> dict[str, int]:
    order = sorted(set(rank.values()), reverse=True)
    return {name: order.index(place) for name, place in rank.items()}


def clock_of(data: NodeData) -> str:
    """The clock of a box, in words."""
    if data["kind"] != "level":
        return {"attention": "at every read", "input": "input"}[data["kind"]]
    clock = data["level"].clock
    return "never" if clock.unit == "never" else spoken(f"every {clock_text(clock)}")


def for_all(graph: nx.MultiDiGraph[str]) -> list[str]:
    """The inputs that every level learns from: said once, not drawn to each."""
    levels = {name for name, data in node_data(graph) if data["kind"] == "level"}
    return [
        name
        for name, data in node_data(graph)
        if data["kind"] == "input" and len(levels) > 1 and levels == set(graph.successors(name))
    ]


def _made(
    graph: nx.MultiDiGraph[str], row: dict[str, int], font: float, wrap: float
) -> tuple[Words, list[Item], list[Line]]:
    words = {name: _words(name, data, font, wrap) for name, data in node_data(graph)}
    home = homes(graph)
    items = [
        _box(
            name, row[name], words[name], font, home[name] if row[home[name]] == row[name] else name
        )
        for name in graph.nodes
    ]
    lines: list[Line] = []
    alone = {
        name
        for name, data in node_data(graph)
        if len(data["members"]) == 1 and not graph.has_edge(name, name)
    }
    for i, bundle in enumerate(bundles(graph, alone)):
        giver, taker = bundle.givers[0], bundle.takers[0]
        if len(bundle.givers) == len(bundle.takers) == 1:
            says = f"{giver.kind}: {giver.of} of {giver.name} to {taker}"
            line = Line(giver.name, taker, (False, True), giver.kind, says=says, count=bundle.count)
            lines.append(_down(line, _label(giver, font), font, row))
            continue
        point = Item(f"point {i}", _between(bundle, row), POINT * font, POINT * font, round=True)
        items.append(point)
        lines += _to_point(bundle, point, font, row)
    return words, items, lines


def _words(name: str, data: NodeData, font: float, wrap: float) -> tuple[list[str], list[str]]:
    if data["kind"] == "input":
        return [name], []
    boxes = data["boxes"]
    sizes = [
        f"{short(n)} numbers" if n else f"its{NO_BREAK}pairs"
        for n in dict.fromkeys(box.numbers for box in boxes)
    ]
    copies = f"{NO_BREAK}×{NO_BREAK}{len(data['members'])}" if len(data["members"]) > 1 else ""
    clocks = list(dict.fromkeys(spoken(box.clock) for box in boxes))
    size = sizes[0] + copies if len(sizes) == 1 else f"{len(data['members'])} sizes of memories"
    about = wrapped("; ".join((size, *clocks[:2])), font, wrap, False)
    return wrapped(shown(data["members"]), font, wrap, True), about


def short(number: int) -> str:
    """With a letter for its size, once there are more than four digits."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (1000 if letter == 'k' else size):.3g}{letter}"
    return f"{number:,}"


def spoken(clock: str) -> str:
    """every 4 step -> every 4 steps"""
    return re.sub(r"\b(?!1 )(\d+) ([a-z]*[a-rt-z])\b", r"\1 \2s", clock)


def _box(name: str, row: int, words: tuple[list[str], list[str]], font: float, home: str) -> Item:
    widths = [
        measured(text, font, bold)
        for lines, bold in zip(words, (True, False), strict=True)
        for text in lines
    ]
    return Item(
        name,
        row,
        max(widths) + 3 * PADDING * font,
        (len(widths) * LEADING + 2 * PADDING) * font,
        home,
    )


def _down(line: Line, label: tuple[str, ...], font: float, row: Mapping[str, float]) -> Line:
    """With its label, and from the upper row to the lower."""
    room = max((measured(text, font, False) for text in label), default=0)
    line = replace(line, label=label, room=room)
    if row[line.upper] <= row[line.lower]:
        return line
    return replace(line, upper=line.lower, lower=line.upper, arrows=line.arrows[::-1])


def _label(giver: Giver, font: float) -> tuple[str, ...]:
    if giver.kind == "context":
        return ()
    of = ", ".join(part.replace(" ", NO_BREAK) for part in giver.of.split(", "))
    bptt = f"bptt{NO_BREAK}{spoken(giver.depth)}" if giver.depth else ""
    whole = f"{of}, {bptt}" if bptt else of
    if measured(whole, font, False) <= LABEL * font:
        return (whole,)
    return (*wrapped(of, font, LABEL * font, False), *([bptt] if bptt else []))


def _to_point(bundle: Bundle, point: Item, font: float, row: dict[str, int]) -> Iterator[Line]:
    """Lines to a point and away from it; a box that gives and takes has one with two arrows."""
    givers = {giver.name: giver for giver in bundle.givers}
    labels = {name: _label(giver, font) for name, giver in givers.items()}
    if len(bundle.takers) == 1 and len(set(labels.values())) == 1:
        labels = {bundle.takers[0]: labels[bundle.givers[0].name]}
    kind, places = bundle.givers[0].kind, {**row, point.name: point.row}
    for i, name in enumerate(dict.fromkeys((*givers, *bundle.takers))):
        takes = name in bundle.takers
        says = [f"{givers[name].of} of {name} to all"] if name in givers else []
        text = f"{kind}: {'; '.join(says + [f'of all to {name}'] * takes)}"
        arrows = (takes, name in givers)
        line = Line(name, point.name, arrows, kind, says=text, count=0 if i else bundle.count)
        yield _down(line, labels.get(name, ()), font, places)


def _between(bundle: Bundle, row: dict[str, int]) -> float:
    """The row of the point: among those of its boxes, and between two where there are two."""
    own = sorted(row[name] for name in {*bundle.takers, *(giver.name for giver in bundle.givers)})
    return max(min(own[len(own) // 2], max(row.values()) - 1), 0) + 0.5


def wrapped(text: str, font: float, wrap: float, bold: bool) -> list[str]:
    return broken(text, lambda line: measured(line, font, bold) <= wrap)


def measured(text: str, font: float, bold: bool) -> float:
    return _width(text, bold) * font


@cache
def _width(text: str, bold: bool) -> float:
    """Of a text in DejaVu Sans, which is wider than what most machines would show, at size 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    face = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=100)
    return text_to_path.get_text_width_height_descent(text, face, ismath=False)[0] / 100
