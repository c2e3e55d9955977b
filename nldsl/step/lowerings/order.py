"""The order in which the memories of a recurrence tick within one token."""

from __future__ import annotations

from collections.abc import Sequence

from nldsl.core.nodes import walk
from nldsl.schedule.cells import Cell, Unsupported


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Cells so that one whose `now` another reads comes first."""
    names = {c.name: c for c in cells}
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in path:
            raise Unsupported(f"`{name}` at a token needs itself at that token", names[name].next)
        for node in walk(names[name].next):
            if node.op == "now" and node["memory"] in names and node["memory"] != name:
                visit(node["memory"], (*path, name))
        done.append(name)

    for name in names:
        visit(name, ())
    return [names[n] for n in done]
