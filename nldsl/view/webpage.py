"""LEVEL GRAPH -> ONE HTML FILE: the picture, and below it each memory as a card, slow levels first.

A card holds the equation, clock, memory, size, lowering and lines of the text. It is a link from
its box, and can be reached by keyboard. Nothing is loaded; without its script the page holds the
same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from xml.etree.ElementTree import Element, SubElement, tostring

import networkx as nx

from nldsl.core.program import Level, Program
from nldsl.schedule.plan import Schedule
from nldsl.source import Span
from nldsl.step.emit import Emitter
from nldsl.view.boxes import Box
from nldsl.view.families import at_most
from nldsl.view.folding import shown
from nldsl.view.level_graph import NodeData, node_data
from nldsl.view.page import MOST, picture
from nldsl.view.sketch import clock_of

FILES = Path(__file__).parent
MOST_LINES = 16  # of a level's text
BY_STEP = "once a step at its ticks, in the update of each kind of step in which it fires"
HINT = "Point at a memory, or reach it with Tab, to see what it is."
Rows = Iterator[tuple[str, tuple[str, ...]]]


def html(
    program: Program, graph: nx.MultiDiGraph[str], lowerings: Mapping[str, str], title: str
) -> str:
    """The page of a program; `lowerings` says by level how its update is computed."""
    folded = at_most(graph, MOST)
    drawn = [(n, d) for n, d in node_data(folded) if d["kind"] != "input"]
    cards = {name: f"memory-{i}" for i, (name, _) in enumerate(drawn, 1)}
    page = Element("html", {"lang": "en"})
    head, body = SubElement(page, "head"), SubElement(page, "body")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width"})
    _add(head, "title", f"{title}: levels")
    _add(head, "style", (FILES / "webpage.css").read_text(encoding="utf-8"))
    _add(body, "h1", title)
    members = sum(len(data["members"]) for _, data in drawn)
    _add(body, "p", f"{members:,} memories; slow levels first", {"class": "faint"})
    figure = SubElement(body, "figure")
    figure.append(linked(picture(graph, title), cards))
    _add(body, "p", HINT, {"class": "hint"})
    slow_first = sorted(drawn, key=lambda item: -item[1]["rank"])
    for clock, group in groupby(slow_first, key=lambda item: clock_of(item[1])):
        section = SubElement(body, "section")
        _add(section, "h2", clock)
        grid = SubElement(section, "div", {"class": "cards"})
        for name, data in group:
            called = shown(data["members"])
            card(grid, called, cards[name], data, facts(program, data, lowerings))
    _add(body, "script", (FILES / "webpage.js").read_text(encoding="utf-8"))
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n"


def computed(schedule: Schedule) -> dict[str, str]:
    """How the update of each level of the token clock is computed."""
    forward = schedule.forward
    emitted = Emitter(forward).emit()
    found = {
        state.level: f"{emitted.lowering[region.name]}; "
        f"{emitted.chunk[region.name]} tokens at a time"
        for region in forward.regions
        for state in region.ticking
        if state.level
    }
    families = forward.online.families if forward.online is not None else ()
    return found | {f.level.name: emitted.lowering[f.level.name] for f in families}


def linked(picture: Element, cards: Mapping[str, str]) -> Element:
    """The picture, with a link from each box to its card."""
    picture.set("role", "img")
    picture.set("aria-label", "levels, slow above fast, and what flows between them")
    for i, group in enumerate(list(picture)):
        if group.get("class") == "box" and group.get("id") in cards:
            link = Element("a", {"href": f"#{cards[group.get('id', '')]}"})
            link.append(group)
            picture[i] = link
    return picture


def card(grid: Element, name: str, place: str, data: NodeData, rows: Rows) -> None:
    article = SubElement(grid, "article", {"id": place, "tabindex": "0"})
    _named(article, name)
    numbers = sum(box.numbers for box in data["boxes"])
    alike = f"{len(data['members'])} alike" if len(data["members"]) > 1 else ""
    size = f"{numbers:,} numbers{' each' if alike else ''}" if numbers else ""
    _add(article, "p", "; ".join(filter(None, (alike, size))), {"class": "faint"})
    more = SubElement(article, "div", {"class": "more"})
    _named(more, name)
    table = SubElement(more, "dl")
    for label, lines in rows:
        _add(table, "dt", label)
        for line in lines:
            entry = SubElement(table, "dd")
            _add(entry, "pre" if label in ("equation", "text") else "span", line)


def facts(program: Program, data: NodeData, lowerings: Mapping[str, str]) -> Rows:
    """The rows of a card; of several boxes, what each says, once."""
    levels = [program.levels[name] for name in data["members"] if name in program.levels]
    texts = list({level.span: level for level in levels if level.span is not None}.values())
    rows = (
        ("equation", [eq for level in texts for eq in equations(level)]),
        ("minimises", [line for box in data["boxes"] for line in box.objective]),
        ("clock", [clock(box) for box in data["boxes"]]),
        ("memory", [line for box in data["boxes"] for line in box.memory]),
        ("size", [f"{box.numbers:,} numbers" for box in data["boxes"] if box.numbers]),
        ("start", [box.start for box in data["boxes"]]),
        ("maps", [line for box in data["boxes"] for line in box.pairs]),
        ("lowering", [lowerings.get(level.name, BY_STEP) for level in levels if ticks(level)]),
        ("takes", [line for box in data["boxes"] for line in box.transfer]),
        ("text", [excerpt(span) for span in spans(data, texts)]),
    )
    for label, lines in rows:
        said = tuple(dict.fromkeys(filter(None, lines)))
        if said:
            yield label, said


def ticks(level: Level) -> bool:
    return level.clock.unit != "never"


def equations(level: Level) -> list[str]:
    """The updates, as the text has them."""
    return [
        f"{clause.place} <- {' '.join(clause.span.text().split())}"
        for clause in level.said
        if clause.word == "update"
    ]


def clock(box: Box) -> str:
    return f"{box.clock}; frequency {box.frequency}; chunk {box.chunk}; bptt {box.bptt}"


def spans(data: NodeData, levels: list[Level]) -> list[Span]:
    node = data["node"].span if data["kind"] == "attention" else None
    return [span for span in (node, *(level.span for level in levels)) if span is not None]


def excerpt(span: Span) -> str:
    """The lines of the text with their numbers, behind the name of the file."""
    lines = span.source.text.split("\n")[span.line - 1 : span.end_line]
    more = [".."] if len(lines) > MOST_LINES else []
    near = [re.sub(" +#", "  #", line) for line in dedent("\n".join(lines)).split("\n")]
    numbered = [f"{n} {line}" for n, line in enumerate(near[:MOST_LINES], span.line)]
    return "\n".join([f"{span.source.place}:{span.line}", *numbered, *more])


def _named(parent: Element, name: str) -> None:
    """A heading that may be broken behind the dots of a name."""
    first, *rest = re.split(r"(?<=\.)(?=[^.])", name)
    heading = _add(parent, "h3", first)
    for part in rest:
        SubElement(heading, "wbr").tail = part


def _add(parent: Element, tag: str, text: str, attributes: dict[str, str] | None = None) -> Element:
    found = SubElement(parent, tag, attributes or {})
    found.text = text
    return found
