"""Prints every stage of the compiler as text, for `nldsl compile --emit STAGE`.

tokens    4:12 name recall                              the words of the text
ast       File(version=Number(..), statements=(..))     the syntax tree
graph     v13: [head=4] = sigmoid(v12)                  the core equations, then levels and memories
states    state recall.M: [e, e]  next when(..)         the equations of each state at one instant
schedule  block layer: 3 streams, region recall ..      what is computed in what order
python    def region_1(..)                              the step's source
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.pretty import pretty_repr

from nldsl.core.nodes import Node, walk
from nldsl.core.program import Program
from nldsl.core.text import Page, dump, typed
from nldsl.frontend import lex
from nldsl.frontend.lex import Places
from nldsl.frontend.syntax import File
from nldsl.schedule.plan import Region, Schedule
from nldsl.schedule.step_states import StepStates
from nldsl.schedule.token_states import States
from nldsl.source import Source

WIDTH = 120


def tokens(source: Source) -> str:
    places = Places.of(source)
    words, _ = lex.scan(places)
    return "".join(
        f"{span.line}:{span.column} {word.kind} {word.text}\n"
        for word in words
        for span in [places.span(word.start, word.end)]
    )


def ast(file: File) -> str:
    return pretty_repr(file, max_width=WIDTH, indent_size=2) + "\n"


def graph(program: Program) -> str:
    return dump(program)


def schedule(made: Schedule) -> str:
    """The kinds of steps, what a step must give its levels, and the blocks of its forward part."""
    table = made.table
    lines = [f"repeats every {table.hyperperiod} steps"]
    for i, (event, first) in enumerate(zip(table.events, table.first, strict=True), 1):
        begun = f"; restart: {', '.join(event.restarted)}" if event.restarted else ""
        lines.append(
            f"tick kind {i}, first at step {first}: {', '.join(event.fired) or 'no level'}{begun}"
        )
    for block in made.forward.blocks:
        streams = sum(isinstance(item, Node) for item in block.items)
        lines.append(
            f"block {block.key or 'once'}: {streams} streams, {len(block.inputs)} in, "
            f"{len(block.outputs)} out"
        )
        lines += [
            f"    region {item.name}: {', '.join(state.name for state in item.states)}; chunk "
            f"{item.chunk}{'' if item.fixed else ' (any: exact)'}"
            for item in block.items
            if isinstance(item, Region)
        ]
    lines += [f"heard: {given}" for given in made.steps.heard]
    lines += [
        f"{adjoint.viewer.name} learns through the ticks of {', '.join(map(str, adjoint.moved))}: "
        f"{adjoint.rows} rows"
        for adjoint in made.steps.adjoints
    ]
    return "\n".join(lines) + "\n"


def states(made: States | StepStates) -> str:
    """Of one clock, every equation once, then the states; of the token clock, what comes of slopes,
    and the outputs, too.
    """
    page = Page(walk(*made.roots()))
    clock = "token" if isinstance(made, States) else "step"
    lines = [f"equations of the {clock} clock", *page.lines]
    for state in made.states.values():
        lines += [
            f"state {state.name}: {typed(state.type)}",
            f"  start {page.name(state.start)}",
            f"  after {page.name(state.after)}",
            f"  next {page.name(state.next)}",
        ]
    if isinstance(made, StepStates):
        return "\n".join(lines) + "\n"
    for slope in made.slopes:
        for name, of in slope.inputs.items():
            seen = page.name(of) if isinstance(of, Node) else f"read({of})"
            lines.append(f"slope {name} = d {page.name(slope.objective)} / d {seen}")
    lines += [f"output {name} = {page.name(node)}" for name, node in made.outputs.items()]
    return "\n".join(lines) + "\n"


DUMPS: dict[str, Callable[[Any], str]] = {
    "tokens": tokens,
    "ast": ast,
    "graph": graph,
    "states": lambda clocks: "\n".join(map(states, clocks)),
    "schedule": schedule,
    "python": lambda source: source.text,
}
