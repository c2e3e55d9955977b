"""The level picture as geometry: boxes, lines and labels lie inside the page and do not cover each
other.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pytest
from family import shipped

from nldsl.pipeline import load_text
from nldsl.testing.properties import over
from nldsl.view.bundles import bundles
from nldsl.view.families import at_most, family_graph
from nldsl.view.layout import Item, Line, placed
from nldsl.view.level_graph import level_graph
from nldsl.view.page import MOST, STYLES, svg
from nldsl.view.sketch import for_all, measured, wrapped
from nldsl.view.transfer import KINDS

EXAMPLES = {
    path.stem: path for path in sorted((Path(__file__).parent.parent / "examples").glob("*.nl"))
}
QUICK = set(
    "hope titans titans_mac hope_attention ttt_e2e cms tnt learned_optimizer optimizer_m3 lact "
    "optimizer_deep_momentum diloco retrofit series transformer omeganet".split()
)
DRAWN = [x if x in QUICK else pytest.param(x, marks=pytest.mark.soak) for x in EXAMPLES]
NEAR = 2.5  # half a line's width and rounding
BOXES_MEET, LABELS_MEET = 0, 1  # square points; a corner that touches
WORST = 18  # points of a line that pass over a box


class Picture:
    """What can be read off an SVG."""

    def __init__(self, text: str) -> None:
        root = ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", text))
        self.width, self.height = (float(root.get(side)) for side in ("width", "height"))
        assert root.get("viewBox") == f"0 0 {self.width:g} {self.height:g}"
        self.boxes = {
            g.get("id"): rect(g.find("rect")) for g in root.iter("g") if g.get("class") == "box"
        }
        self.words = {
            g.get("id"): g.findall("text") for g in root.iter("g") if g.get("class") == "box"
        }
        self.points = {
            c.get("id"): (number(c, "cx"), number(c, "cy"), number(c, "r"))
            for c in root.iter("circle")
            if c.get("class") == "point"
        }
        self.labels = [
            (rect(g.find("rect")), g.findall("text"))
            for g in root.iter("g")
            if g.get("class") == "label"
        ]
        self.lines = [g for g in root.iter("g") if g.get("class") == "line"]
        self.bands = [rect(g.find("rect")) for g in root.iter("g") if g.get("class") == "band"]
        self.texts = list(root.iter("text"))
        self.legend = next(g for g in root.iter("g") if g.get("class") == "legend")
        self.shapes = list(root.iter())

    def covered(self) -> Counter[tuple[str, str, str]]:
        """(kind, giver, taker) of every pair that lines join, by where they end and which way they
        point.
        """
        into, out = {}, {}
        found: Counter[tuple[str, str, str]] = Counter()
        for line in self.lines:
            (a, b), kind = self.ends(line), line.get("data-kind")
            forth, back = self.pointed(line)
            for giver, taker in [(a, b)] * forth + [(b, a)] * back:
                if taker in self.points:
                    into.setdefault((kind, taker), []).append(giver)
                elif giver in self.points:
                    out.setdefault((kind, giver), []).append(taker)
                else:
                    found[kind, giver, taker] += 1
        assert set(into) == set(out)
        for (kind, point), givers in into.items():
            found.update((kind, giver, taker) for giver in givers for taker in out[kind, point])
        return found

    def ends(self, line: ElementTree.Element) -> tuple[str, str]:
        """What a line touches at either end, by geometry alone."""
        found = []
        for spot in self.tips(line):
            touched = [name for name, box in self.boxes.items() if border(box, spot) <= NEAR]
            touched += [
                name
                for name, (x, y, r) in self.points.items()
                if math.dist((x, y), spot) <= r + NEAR
            ]
            if not touched and any(abs(spot[1] - band[3]) <= NEAR for band in self.bands):
                touched = ["bands"]
            assert len(touched) == 1, (line.find("title").text, spot, touched)
            found += touched
        return found[0], found[1]

    def tips(self, line: ElementTree.Element) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where it begins and ends: at the tip of an arrow where there is one."""
        path = curve(line)
        tips = [corners(arrow)[0] for arrow in line.iter("polygon")]
        forth, back = self.pointed(line)
        return tips[0] if back else path[0], tips[-1] if forth else path[-1]

    def pointed(self, line: ElementTree.Element) -> tuple[bool, bool]:
        """Whether it has an arrow at its end, and at its beginning."""
        path, bases = curve(line), [middle(corners(arrow)[1:]) for arrow in line.iter("polygon")]
        return (
            any(math.dist(base, path[-1]) <= NEAR for base in bases),
            any(math.dist(base, path[0]) <= NEAR for base in bases),
        )


def number(shape: ElementTree.Element, name: str) -> float:
    return float(shape.get(name))


def rect(shape: ElementTree.Element) -> tuple[float, float, float, float]:
    x, y, w, h = (number(shape, name) for name in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def corners(shape: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in shape.get("points").split()]


def middle(spots: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in spots) / len(spots), sum(y for _, y in spots) / len(spots)


def curve(line: ElementTree.Element, steps: int = 16) -> list[tuple[float, float]]:
    """Points along a path of one Bezier spline or one straight line."""
    text = line.find("path").get("d")
    spots = [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+),(-?[\d.]+)", text)]
    if "C" not in text:
        return spots
    found = [spots[0]]
    for i in range(0, len(spots) - 3, 3):
        for t in (step / steps for step in range(1, steps + 1)):
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            found.append(
                tuple(
                    sum(w * p[k] for w, p in zip(weights, spots[i : i + 4], strict=True))
                    for k in (0, 1)
                )
            )
    return found


def border(box: tuple[float, float, float, float], spot: tuple[float, float]) -> float:
    """How far a point is from the outline of a box."""
    left, top, right, bottom = box
    x, y = spot
    outside = math.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom))
    return outside or min(x - left, right - x, y - top, bottom - y)


def shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return max(0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0, min(one[3], other[3]) - max(one[1], other[1])
    )


@cache
def graph(name: str) -> nx.MultiDiGraph:
    return family_graph(shipped(name))


@cache
def drawn(name: str) -> str:
    return svg(graph(name), name)


@cache
def picture(name: str) -> Picture:
    return Picture(drawn(name))


def sound(seen: Picture) -> None:
    """What holds of every picture, whatever its graph."""
    assert 1 <= seen.width / seen.height <= 2
    boxes = list(seen.boxes.values())
    for i, box in enumerate(boxes):
        assert all(shared(box, other) <= BOXES_MEET for other in boxes[:i])
    for text in seen.texts:
        assert float(text.get("font-size")) >= 14
    for name, words in seen.words.items():
        left, _, right, _ = seen.boxes[name]
        for text in words:
            wide = measured(text.text, number(text, "font-size"), text.get("font-weight") == "bold")
            assert wide <= right - left, (name, text.text)
    for i, (label, _) in enumerate(seen.labels):
        assert all(shared(label, box) <= LABELS_MEET for box in boxes), seen.labels[i][1][0].text
        assert all(shared(label, other) <= LABELS_MEET for other, _ in seen.labels[:i])
    page = [*boxes, *seen.bands, *(label for label, _ in seen.labels)]
    page += [(x, y, x, y) for line in seen.lines for x, y in curve(line)]
    page += [written(text) for text in seen.texts]
    for left, top, right, bottom in page:
        assert left >= 0 and top >= 0 and right <= seen.width and bottom <= seen.height


def written(text: ElementTree.Element) -> tuple[float, float, float, float]:
    size = number(text, "font-size")
    wide = measured(text.text, size, text.get("font-weight") == "bold")
    left = number(text, "x") - wide * {None: 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
    return left, number(text, "y") - size, left + wide, number(text, "y")


def whole(seen: Picture, all_of: nx.MultiDiGraph) -> None:
    """Every edge is drawn, and no line says what is not an edge."""
    drawn = at_most(all_of, MOST)
    everywhere = for_all(drawn)
    wanted = {(data["kind"], a, b) for a, b, data in drawn.edges(data=True) if a not in everywhere}
    covered = seen.covered()
    alone = {name for name, data in drawn.nodes(data=True) if len(data["members"]) == 1}
    too_many = {
        edge for edge in set(covered) - wanted if not (edge[1] == edge[2] and edge[1] in alone)
    }
    assert too_many == ({("context", ", ".join(everywhere), "bands")} if everywhere else set())
    assert wanted <= set(covered)
    assert sum(int(line.get("data-count")) for line in seen.lines) == sum(
        data["count"] for *_, data in all_of.edges(data=True)
    )


@pytest.mark.parametrize("name", DRAWN)
def test_every_example_fits_a_slide(name: str) -> None:
    seen = picture(name)
    assert (seen.width, seen.height) == (1600, 900) and len(seen.boxes) <= MOST + 2
    sound(seen)
    whole(seen, graph(name))
    assert set(STYLES) == {text.text for text in seen.legend.findall("text")} - {
        "each that enters reaches each that leaves"
    }
    assert set(KINDS) < set(STYLES)


@pytest.mark.parametrize("name", DRAWN)
def test_slow_stands_above_fast_and_says_its_size_and_clock(name: str) -> None:
    seen, drawn = picture(name), at_most(graph(name), MOST)
    for one, a in drawn.nodes(data=True):
        if a["kind"] == "input":
            continue
        said = " ".join(text.text for text in seen.words[one])
        assert re.search(r"[\d.]+[kMG]? numbers|its\spairs|sizes of memories", said) and re.search(
            r"every|never", said
        )
        for other, b in drawn.nodes(data=True):
            if (
                b["kind"] != "input"
                and (a["boxes"][0].frequency != b["boxes"][0].frequency)
                and a["rank"] > b["rank"]
            ):
                assert seen.boxes[one][3] < seen.boxes[other][1], (one, other)


@pytest.mark.parametrize("name", DRAWN)
def test_no_line_passes_over_a_box(name: str) -> None:
    """But at its own ends; a line between two of a row may graze what stands between them."""
    seen, over_boxes = picture(name), 0
    for line in seen.lines:
        ends = seen.ends(line)
        for box, (left, top, right, bottom) in seen.boxes.items():
            if box not in ends:
                over_boxes += sum(
                    left + NEAR < x < right - NEAR and top + NEAR < y < bottom - NEAR
                    for x, y in curve(line)
                )
    assert over_boxes <= WORST


def test_folding_loses_no_edge() -> None:
    """A spec of many loops: more families than boxes that a page may hold."""
    path = EXAMPLES["hope_ablation"]
    program = load_text(
        path.read_text(encoding="utf-8"), path.name, {"depth": "3"}, search=[path.parent]
    )
    edges = level_graph(program).number_of_edges()
    families = family_graph(program)
    assert sum(data["count"] for *_, data in families.edges(data=True)) == edges
    for most in (12, 6, 3):
        small = at_most(families, most)
        assert sum(data["kind"] != "input" for _, data in small.nodes(data=True)) <= most
        assert sum(data["count"] for *_, data in small.edges(data=True)) == edges
        assert Counter(m for _, data in small.nodes(data=True) for m in data["members"]) == Counter(
            list(level_graph(program))
        )


def test_a_bundle_says_its_edges_and_no_other() -> None:
    edges = nx.MultiDiGraph()
    for a, b in [
        ("a", "c"),
        ("a", "d"),
        ("a", "b"),
        ("b", "c"),
        ("b", "d"),
        ("b", "a"),
        ("e", "c"),
    ]:
        edges.add_edge(a, b, kind="direct", depth="", of="m", count=2)
    edges.add_edge("a", "c", kind="generation", depth="", of="k", count=1)
    found = list(bundles(edges, {"a", "b", "c", "d", "e"}))
    pairs = Counter(
        (g.kind, g.name, taker)
        for bundle in found
        for g in bundle.givers
        for taker in bundle.takers
        if g.name != taker
    )
    assert pairs == Counter((data["kind"], a, b) for a, b, data in edges.edges(data=True))
    assert sum(bundle.count for bundle in found) == 15 and len(found) < 8
    strict = list(
        bundles(edges, set())
    )  # what holds several memories: no line to itself that is not an edge
    assert all(g.name not in bundle.takers for bundle in strict for g in bundle.givers)


def test_the_layout_ends_lines_at_their_boxes() -> None:
    items = [Item("a", 0, 100, 40), Item("b", 1, 80, 60), Item("c", 1, 80, 20)]
    lines = [
        Line("a", "b", (True, True), "direct", ("word",), 40),
        Line("b", "c", (False, True), "direct"),
    ]
    for page in (None, (700, 500)):
        here = placed(items, lines, 14, page)
        at = {
            item.name: (
                item.x - item.width / 2,
                item.y - item.height / 2,
                item.x + item.width / 2,
                item.y + item.height / 2,
            )
            for item in here.items
        }
        assert [(item.width, item.height) for item in here.items] == [(100, 40), (80, 60), (80, 20)]
        assert (
            border(at["a"], here.lines[0].tips[0]) < NEAR
            and border(at["b"], here.lines[0].tips[1]) < NEAR
        )
        assert (
            border(at["b"], here.lines[1].points[0]) < NEAR
            and border(at["c"], here.lines[1].tips[1]) < NEAR
        )
        assert at["a"][3] < at["b"][1] and abs(here.items[1].y - here.items[2].y) < 1
    assert here.width == pytest.approx(700, rel=0.2) and here.height == pytest.approx(500, rel=0.2)


def test_words_break_where_they_may() -> None:
    assert wrapped("layer[0..3].mixer.recall", 14, 110, True) == ["layer[0..3].", "mixer.recall"]
    assert wrapped("1,024 numbers; every token", 14, 130, False) == [
        "1,024 numbers;",
        "every token",
    ]


GALLERY = EXAMPLES["titans"].parents[1] / "tests" / "language"


@pytest.mark.parametrize(
    "name", re.findall(r"\(pictures/(\w+)\.svg\)", (GALLERY / "gallery.md").read_text("utf-8"))
)
def test_the_gallery_shows_what_is_drawn(name: str, golden) -> None:
    golden(GALLERY / "pictures" / f"{name}.svg", drawn(name))


@over(6)
def test_any_program_has_a_picture(subject, drawn) -> None:
    families = family_graph(subject.program)
    seen = Picture(svg(families))
    sound(seen)
    whole(seen, families)


def test_names_are_text_not_markup() -> None:
    families = nx.MultiDiGraph()
    families.add_node(
        "a<b>&c", kind="input", members=("a<b>&c",), boxes=(), layers=0, callers=frozenset()
    )
    assert "a<b>&c" in Picture(svg(families, "<title> & more")).boxes
