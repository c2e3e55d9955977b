"""Numbers -> SVG: curves that are named at their ends, and tables of shades. A picture follows the
reader's scheme, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from nldsl.view.sketch import measured

FONT, TITLE, LEAD = 13, 16, 17  # sizes of letters, and from line to line
WIDTH, HEIGHT = 860, 420
LEFT, TOP, BOTTOM, GAP = 66, 70, 52, 14
CELL, ROW, BETWEEN, HEAD = 46, 28, 34, 36  # of tables
SHADE = 0.75  # of a 1 in a table
FAMILY = "DejaVu Sans, Verdana, Arial, sans-serif"


@dataclass(frozen=True)
class Scheme:
    """Colours of one mode; a curve takes the next, and after the last the first again, dashed."""

    paper: str
    ink: str
    faint: str
    grid: str
    shade: str
    curves: tuple[str, ...]


LIGHT = Scheme(
    "#ffffff",
    "#1a1a1a",
    "#595959",
    "#e2e2e2",
    "#0072b2",
    ("#0068a3", "#b84a00", "#00735a", "#a8326f", "#7a5c00", "#6a3d9a", "#a3271f", "#4d4d4d"),
)
DARK = Scheme(
    "#16181c",
    "#f0f0f0",
    "#b4b4b4",
    "#353940",
    "#2f7fb8",
    ("#63b8ec", "#ff9d5c", "#3fd6a4", "#f29ac6", "#f0c93a", "#c4a3f0", "#ff8a80", "#c4c4c4"),
)


@dataclass(frozen=True)
class Curve:
    """Points are x, y and half the height of a band; `look` chooses its colour."""

    name: str
    points: Sequence[tuple[float, float, float]]
    look: int


@dataclass(frozen=True)
class Shades:
    """Values from 0 to 1, [row, column]."""

    name: str
    values: Sequence[Sequence[float]]


def style() -> str:
    """Rules of both modes."""
    light, dark = rules(LIGHT), rules(DARK)
    return f"{light} @media (prefers-color-scheme: dark) {{ {dark} }}"


def rules(of: Scheme) -> str:
    curves = " ".join(
        f".c{n} {{ stroke: {one} }} .n{n} {{ fill: {one} }}" for n, one in enumerate(of.curves)
    )
    return (
        f".paper {{ fill: {of.paper} }} .ink {{ fill: {of.ink} }} .faint {{ fill: {of.faint} }} "
        f".grid {{ stroke: {of.grid} }} .shade {{ fill: {of.shade} }} {curves}"
    )


def sheet(title: str, says: str, width: float, height: float) -> Element:
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": FAMILY})
    for name, value in (("width", width), ("height", height)):
        root.set(name, f"{value:.0f}")
    root.attrib |= {"viewBox": f"0 0 {width:.0f} {height:.0f}", "role": "img"}
    SubElement(root, "title").text = title
    SubElement(root, "desc").text = says
    SubElement(root, "style").text = style()
    shape(root, "rect", "paper", width=width, height=height)
    text(root, GAP, 26, title, "ink", TITLE, "start", "bold")
    return root


def written(root: Element) -> str:
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def shape(parent: Element, tag: str, look: str, **attributes: float | str) -> Element:
    values = {
        name.replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
        for name, value in attributes.items()
    }
    return SubElement(parent, tag, {"class": look, **values})


def text(
    parent: Element,
    x: float,
    y: float,
    said: str,
    look: str,
    size: float = FONT,
    anchor: str = "start",
    weight: str = "normal",
) -> None:
    found = shape(parent, "text", look, x=x, y=y, font_size=f"{size:g}", text_anchor=anchor)
    if weight != "normal":
        found.set("font-weight", weight)
    found.text = said


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span both."""
    rough = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(end, first + 1) + 1)]


def apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Heights of labels, in their order, as near as can be to those wanted and a line apart."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    found = [wanted[n] for n in order]
    for n in range(len(found)):
        found[n] = max(found[n], low if n == 0 else found[n - 1] + LEAD)
    for n in reversed(range(len(found))):
        found[n] = min(found[n], high if n == len(found) - 1 else found[n + 1] - LEAD)
    return [found[order.index(n)] for n in range(len(wanted))]


@dataclass(frozen=True)
class Frame:
    """Where numbers lie on the page."""

    xs: tuple[float, float]
    ys: tuple[float, float]
    right: float
    bottom: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        (left, end), (low, high) = self.xs, self.ys
        across = (x - left) / (end - left) if end > left else 0.5
        return (
            LEFT + across * (self.right - LEFT),
            self.bottom - (y - low) / (high - low) * (self.bottom - TOP),
        )


def curves(
    title: str,
    across: str,
    up: str,
    drawn: Sequence[Curve],
    marks: dict[float, str] | None = None,
    most: float = math.inf,
) -> str:
    """`marks` are what stands below the axis, by its place; without them, round numbers. Nothing is
    above `most`.
    """
    points = [point for curve in drawn for point in curve.points]
    highest = min(most, max(y + b for _, y, b in points))
    heights = ticks(min(y - b for _, y, b in points), highest)
    xs = [x for x, _, _ in points]
    marks = marks or {x: f"{x:,.0f}" for x in ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs)}
    room = max(measured(curve.name, FONT, False) for curve in drawn)
    end = max(measured(mark, FONT, False) for mark in marks.values()) / 2
    right = WIDTH - GAP - max(room + 2 * GAP, end)
    frame = Frame((min(xs), max(xs)), (heights[0], heights[-1]), right, HEIGHT - BOTTOM)
    said = "; ".join(f"{curve.name} ends at {curve.points[-1][1]:.3g}" for curve in drawn)
    root = sheet(title, f"{up} by {across}. {said}.", WIDTH, HEIGHT)
    axes(root, frame, across, up, heights, marks)
    for curve in drawn:
        line(root, frame, curve)
    ends(root, frame, drawn)
    return written(root)


def axes(
    root: Element,
    frame: Frame,
    across: str,
    up: str,
    heights: Sequence[float],
    marks: dict[float, str],
) -> None:
    digits = max(0, -math.floor(math.log10(heights[1] - heights[0]) + 1e-9))
    for height in heights:
        y = frame.at(0, height)[1]
        shape(root, "line", "grid", x1=LEFT, x2=frame.right, y1=y, y2=y)
        text(root, LEFT - 8, y + FONT * 0.35, f"{height:.{digits}f}", "faint", anchor="end")
    for place, mark in marks.items():
        x = frame.at(place, 0)[0]
        shape(root, "line", "grid", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 5)
        text(root, x, frame.bottom + 20, mark, "faint", anchor="middle")
    middle = (LEFT + frame.right) / 2
    text(root, middle, frame.bottom + 42, across, "ink", anchor="middle")
    text(root, GAP, TOP - 22, up, "ink")


def line(root: Element, frame: Frame, curve: Curve) -> None:
    """The curve and its band; a point where there is but one."""
    group = SubElement(root, "g", {"class": "curve"})
    SubElement(group, "title").text = curve.name
    look, dashes = curve.look % len(LIGHT.curves), curve.look >= len(LIGHT.curves)
    upper = [frame.at(x, min(y + b, frame.ys[1])) for x, y, b in curve.points]
    lower = [frame.at(x, y - b) for x, y, b in curve.points]
    band = spelled([*upper, *reversed(lower)])
    shape(group, "polygon", f"n{look}", points=band, fill_opacity="0.15")
    places = [frame.at(x, y) for x, y, _ in curve.points]
    drawn = shape(
        group, "polyline", f"c{look}", points=spelled(places), fill="none", stroke_width="2"
    )
    if dashes:
        drawn.set("stroke-dasharray", "7 4")
    for x, y in places:
        shape(group, "circle", f"n{look}", cx=x, cy=y, r=2.5)


def spelled(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def ends(root: Element, frame: Frame, drawn: Sequence[Curve]) -> None:
    """The name of each curve beside its end."""
    tips = [frame.at(*curve.points[-1][:2]) for curve in drawn]
    heights = apart([y for _, y in tips], TOP, HEIGHT - BOTTOM)
    for curve, (x, y), height in zip(drawn, tips, heights):
        look = curve.look % len(LIGHT.curves)
        start = frame.right + 2 * GAP
        shape(root, "line", f"c{look} leader", x1=x + 4, y1=y, x2=start - 4, y2=height)
        text(root, start, height + FONT * 0.35, curve.name, f"n{look} name")


def shades(title: str, down: Sequence[str], across: Sequence[str], drawn: Sequence[Shades]) -> str:
    """A table for each, three in a row: what is darker is nearer to 1."""
    room = max(measured(one, FONT, False) for one in down) + 2 * GAP
    wide = room + CELL * len(across)
    tall = ROW * (len(down) + 1) + BETWEEN
    most = min(3, len(drawn))
    height = HEAD + tall * -(-len(drawn) // most)
    width = max((wide + GAP) * most + GAP, measured(title, TITLE, True) + 2 * GAP)
    said = "; ".join(f"{one.name} ends at {', '.join(map(short, one.values[-1]))}" for one in drawn)
    root = sheet(title, f"{said}.", width, height)
    for n, one in enumerate(drawn):
        left, top = GAP + (n % most) * (wide + GAP) + room, HEAD + (n // most) * tall + LEAD
        text(root, left, top, one.name, "ink", weight="bold")
        for i, name in enumerate(across):
            middle = left + (i + 0.5) * CELL
            text(root, middle, top + LEAD + 4, name, "faint", anchor="middle")
        for j, (name, values) in enumerate(zip(down, one.values)):
            y = top + LEAD + 12 + j * ROW
            text(root, left - GAP / 2, y + ROW * 0.65, name, "faint", anchor="end")
            for i, value in enumerate(values):
                cell(root, left + i * CELL, y, value)
    return written(root)


def cell(root: Element, x: float, y: float, value: float) -> None:
    shade = "0" if math.isnan(value) else f"{SHADE * min(max(value, 0), 1):.3f}"
    place = {"x": x, "y": y, "width": CELL - 2.0, "height": ROW - 2.0}
    shape(root, "rect", "shade", **place, fill_opacity=shade)
    text(root, x + CELL / 2 - 1, y + ROW * 0.65, short(value), "ink", anchor="middle")


def short(value: float) -> str:
    """Two digits behind the point."""
    return "-" if math.isnan(value) else f"{value:.2f}"
