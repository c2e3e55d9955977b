"""The order in which the memories of a recurrence tick within one token."""

from __future__ import annotations

from collections.abc import Sequence

from nldsl.core.nodes import walk
from nldsl.schedule.token_states import State


def in_order(states: Sequence[State]) -> list[State]:
    """States so that one whose `now` another reads comes first."""
    names = {s.name: s for s in states}
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        assert name not in path, name
        for node in walk(names[name].tick):
            if node.op == "now" and node["memory"] in names and node["memory"] != name:
                visit(node["memory"], (*path, name))
        done.append(name)

    for name in names:
        visit(name, ())
    return [names[n] for n in done]
