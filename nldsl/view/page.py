"""LEVEL GRAPH -> SVG: one page for a slide, slow levels above fast ones.

A band is a clock, a box a family of memories with its size and clock, a line what one hands on to
another in the colour of its kind. Each explains itself at length when it is pointed at.
"""

from __future__ import annotations

from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import networkx as nx

from nldsl.view.families import at_most
from nldsl.view.layout import LEADING, Item, Line, Placed, Point, shifted
from nldsl.view.level_graph import data_of, edge_data, node_data
from nldsl.view.sketch import Sketch, clock_of, for_all, measured, sketched

WIDTH, HEIGHT = 1600, 900
MOST = 40  # boxes
LEFT, TOP, RIGHT, BOTTOM = 140, 50, 20, 44  # for clocks, title, nothing and legend
SMALL, LARGE, MARGIN = 15, 22, 10
ASCENT = 0.95  # from the top of a line of text to its foot, in sizes of the font
STRIP, ARROW, SLIM = 48, 12, 0.42  # for the inputs that all learn from
FAMILY = "DejaVu Sans, Verdana, Arial, sans-serif"
INK, FAINT, BANDS = "#1a1a1a", "#4d4d4d", ("#e9eef3", "#f6f8fa")
NO_CLOCK = {"input": "what is read"}
# Dark tones that every kind of sight can tell apart (Okabe and Ito; Tol), and dashes for none.
STYLES = {
    "direct": ("#222222", "", 2),
    "non-parametric": ("#117733", "2 4", 3),
    "backpropagation": ("#0072b2", "", 3),
    "initialisation": ("#aa3377", "12 4 3 4", 2.5),
    "generation": ("#c04a00", "9 5", 2.5),
    "context": ("#6b6b6b", "", 1.5),
}


def svg(graph: nx.MultiDiGraph[str], title: str = "Levels") -> str:
    """The graph as a picture."""
    root = picture(graph, title)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def picture(graph: nx.MultiDiGraph[str], title: str) -> Element:
    """The same as a tree, for a page that holds it."""
    edges = sum(data["count"] for *_, data in edge_data(graph))
    graph = at_most(graph, MOST)
    shared = for_all(graph)
    foot = BOTTOM + (STRIP if shared else 0)
    drawn = graph.subgraph(set(graph) - set(shared))
    sketch = sketched(drawn, WIDTH - LEFT - RIGHT, HEIGHT - TOP - foot)
    width, height = (round(side * sketch.scale) for side in (WIDTH, HEIGHT))
    here = shifted(
        sketch.placed,
        (width - RIGHT + LEFT - sketch.placed.width) / 2,
        (height - foot + TOP - sketch.placed.height) / 2,
    )
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": FAMILY})
    for name, value in (("width", width), ("height", height), ("viewBox", f"0 0 {width} {height}")):
        root.set(name, str(value))
    _shape(root, "rect", width=width, height=height, fill="white")
    _bands(root, graph, here, width, (TOP - MARGIN, height - foot + MARGIN))
    for line in here.lines:
        _line(root, line)
    _inputs(root, graph, shared, width, height - foot + MARGIN)
    for item in here.items:
        _box(root, item, graph, sketch)
    for line in here.lines:
        _label(root, line, sketch.font)
    _text(root, 2 * MARGIN, 30, title, LARGE, weight="bold")
    _text(root, width - RIGHT, 30, _summary(graph, edges), SMALL, FAINT, anchor="end")
    _legend(root, here, height)
    return root


def _summary(graph: nx.MultiDiGraph[str], edges: int) -> str:
    boxes = (data for _, data in node_data(graph) if data["kind"] != "input")
    members = sum(len(data["members"]) for data in boxes)
    return f"slow above, fast below; {members:,} memories; {edges:,} transfers"


def _bands(
    root: Element,
    graph: nx.MultiDiGraph[str],
    here: Placed,
    width: float,
    ends: tuple[float, float],
) -> None:
    """A band for each clock."""
    spans: dict[str, list[Item]] = {}
    for item in sorted(here.items, key=lambda item: item.row):
        if not item.round:
            clock = clock_of(data_of(graph, item.name))
            spans.setdefault(NO_CLOCK.get(clock, clock), []).append(item)
    spread = [
        (min(i.y - i.height / 2 for i in items), max(i.y + i.height / 2 for i in items))
        for items in spans.values()
    ]
    cuts = [ends[0], *((above[1] + below[0]) / 2 for above, below in pairwise(spread)), ends[1]]
    for i, clock in enumerate(spans):
        top, tall = cuts[i], cuts[i + 1] - cuts[i]
        band = SubElement(root, "g", {"class": "band"})
        wide = width - 2 * MARGIN
        _shape(band, "rect", x=MARGIN, y=top, width=wide, height=tall, fill=BANDS[i % 2])
        _text(band, 2 * MARGIN, top + tall / 2 + SMALL / 3, clock, SMALL, FAINT)


def _inputs(
    root: Element, graph: nx.MultiDiGraph[str], shared: list[str], width: float, top: float
) -> None:
    """The inputs that every level learns from, below the bands, with one arrow for all."""
    if not shared:
        return
    text = f"{', '.join(shared)}: the context of every level"
    wide, tall = measured(text, SMALL, True) + 2 * SMALL, 1.6 * SMALL
    middle = (width + LEFT) / 2, top + STRIP - tall / 2 - 6
    box = Item(", ".join(shared), 0, wide, tall, x=middle[0], y=middle[1])
    reached = sum(data["count"] for *_, data in graph.out_edges(shared, data=True))
    arrow = ((box.x, top + ARROW), (box.x, box.y - tall / 2)), ((box.x, top), None)
    ends = ("bands", box.name, (True, False))
    _line(root, Line(*ends, "context", (), 0, f"context: {text}", reached, *arrow))
    group = SubElement(root, "g", {"class": "box", "id": box.name})
    _outline(group, box, "input")
    _text(group, box.x, box.y + SMALL * 0.35, text, SMALL, weight="bold", anchor="middle")


def _box(root: Element, item: Item, graph: nx.MultiDiGraph[str], sketch: Sketch) -> None:
    if item.round:
        lines = sketch.placed.lines
        kind = next(line.kind for line in lines if item.name in (line.upper, line.lower))
        circle = _shape(root, "circle", cx=item.x, cy=item.y, r=item.width / 2)
        circle.attrib |= {"class": "point", "id": item.name, "fill": STYLES[kind][0]}
        return
    data, font = data_of(graph, item.name), sketch.font
    box = SubElement(root, "g", {"class": "box", "id": item.name})
    memories = ["; ".join(found.memory) for found in data["boxes"]]
    SubElement(box, "title").text = "\n".join([*data["members"], *memories])
    _outline(box, item, data["kind"])
    names, about = sketch.words[item.name]
    first = item.y - (len(names) + len(about)) * LEADING * font / 2 + ASCENT * font
    for i, text in enumerate([*names, *about]):
        look = {"weight": "bold"} if i < len(names) else {"fill": FAINT}
        _text(box, item.x, first + i * LEADING * font, text, font, anchor="middle", **look)


def _outline(box: Element, item: Item, kind: str) -> None:
    looks = {
        "attention": {"rx": "20", "stroke-dasharray": "6 4"},
        "input": {"rx": "4", "fill": "#fff8e6"},
        "level": {"rx": "4"},
    }
    left, top = item.x - item.width / 2, item.y - item.height / 2
    rect = _shape(box, "rect", x=left, y=top, width=item.width, height=item.height)
    rect.attrib |= {"fill": "white", "stroke": INK, "stroke-width": "1.5", **looks[kind]}


def _line(root: Element, line: Line) -> None:
    colour = STYLES[line.kind][0]
    group = SubElement(root, "g", {"class": "line", "data-kind": line.kind})
    group.attrib |= {"data-ends": f"{line.upper}|{line.lower}", "data-count": str(line.count)}
    SubElement(group, "title").text = line.says
    first, *rest = line.points
    curve = f"M{_at(first)} {'C' if len(rest) > 1 else 'L'}{' '.join(map(_at, rest))}"
    _stroked(SubElement(group, "path", {"d": curve, "fill": "none"}), line.kind)
    for tip, end in zip(line.tips, (line.points[0], line.points[-1]), strict=True):
        if tip is not None:
            _shape(group, "polygon", points=_arrow(tip, end), fill=colour)


def _stroked(shape: Element, kind: str) -> None:
    colour, dashes, thick = STYLES[kind]
    shape.attrib |= {"stroke": colour, "stroke-width": f"{thick}"}
    if dashes:
        shape.set("stroke-dasharray", dashes)


def _arrow(tip: Point, end: Point) -> str:
    """A triangle from where a curve ends to its tip."""
    x, y = SLIM * (tip[0] - end[0]), SLIM * (tip[1] - end[1])
    return f"{_at(tip)} {_at((end[0] - y, end[1] + x))} {_at((end[0] + y, end[1] - x))}"


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _label(root: Element, line: Line, font: float) -> None:
    if not line.label:
        return
    group = SubElement(root, "g", {"class": "label"})
    wide, tall = line.room + 6, len(line.label) * LEADING * font
    left, top = line.at[0] - wide / 2, line.at[1] - tall / 2
    rect = _shape(group, "rect", x=left, y=top, width=wide, height=tall, rx=4, fill="white")
    rect.set("fill-opacity", "0.75")
    for i, text in enumerate(line.label):
        bottom = top + (i * LEADING + ASCENT) * font
        _text(group, line.at[0], bottom, text, font, STYLES[line.kind][0], anchor="middle")


def _legend(root: Element, here: Placed, height: float) -> None:
    """The five kinds, what levels learn from, and a point."""
    legend = SubElement(root, "g", {"class": "legend"})
    x, y = 2.0 * MARGIN, height - 18
    for kind, (colour, *_) in STYLES.items():
        _stroked(_shape(legend, "line", x1=x, y1=y, x2=x + 44, y2=y), kind)
        _shape(legend, "polygon", points=_arrow((x + 54, y), (x + 44, y)), fill=colour)
        _text(legend, x + 62, y + SMALL / 3, kind, SMALL)
        x += 62 + measured(kind, SMALL, False) + 30
    if any(item.round for item in here.items):
        _shape(legend, "circle", cx=x + 8, cy=y, r=6, fill=INK)
        _text(legend, x + 22, y + SMALL / 3, "each that enters reaches each that leaves", SMALL)


def _text(
    parent: Element, x: float, y: float, text: str, size: float, fill: str = INK, **look: str
) -> None:
    """`look` is an anchor or a weight."""
    found = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": f"{size:g}"})
    names = {"anchor": "text-anchor", "weight": "font-weight"}
    found.attrib |= {"fill": fill, **{names[name]: value for name, value in look.items()}}
    found.text = text


def _shape(parent: Element, tag: str, **attributes: float | str) -> Element:
    values = {k: v if isinstance(v, str) else f"{v:.1f}" for k, v in attributes.items()}
    return SubElement(parent, tag, values)
