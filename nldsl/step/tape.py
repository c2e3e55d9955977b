"""The tape of a level that learns through the ticks of faster ones -> Python. What it holds, and the
derivative of each event, are those of its `Adjoint` (schedule/adjoints.py).

    back_i(bar.., kept..) -> bar.., d O           the transposed derivative of one kind of event
    seen_i(carry, row, held)                      one row of the tape: whichever kind of event it holds
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.core.nodes import Node, walk
from nldsl.schedule.adjoints import Adjoint, Event, ends
from nldsl.schedule.timetable import Kind
from nldsl.step.flat import shape_of
from nldsl.step.listing import Draft, Label
from nldsl.step.names import last
from nldsl.step.source import parts

if TYPE_CHECKING:
    from nldsl.step.updates import Updates


class Tape:
    """Writes the tape of one viewer."""

    def __init__(self, updates: Updates, adjoint: Adjoint, index: int) -> None:
        self.updates, self.adjoint, self.name = updates, adjoint, f"seen {index}"

    def state(self) -> dict[str, tuple[int, ...] | None]:
        out: dict[str, tuple[int, ...] | None] = {
            f"{self.name}|row": None,
            f"{self.name}|event": (self.adjoint.rows,),
        }
        for stream in self.adjoint.streams:
            out |= {
                f"{self.name}|{n}|{stream}": (
                    self.adjoint.rows,
                    *shape_of(self.adjoint.bar(n).type),
                )
                for n in self.adjoint.targets
            }
        return out | {
            f"{self.name}|kept {i + 1}": (self.adjoint.rows, *(shape_of(n.type) if n.type else ()))
            for i, n in enumerate(self.adjoint.leaves())
        }

    def write(self) -> None:
        """Defines the functions of the tape."""
        names, kept = self.adjoint.moved, self.adjoint.leaves()
        bars, found = (
            [f"b{i + 1}" for i in range(len(names))],
            [f"o{i + 1}" for i in range(len(self.adjoint.learners))],
        )
        self.held: list[str] = []
        stack = [f"s{i + 1}" for i in range(len(self.adjoint.targets))]
        lines = [
            "".join(f"{x}, " for x in [*bars, *found]) + "= carry",
            "".join(f"{x}, " for x in ["event", *stack, *(f"x{i + 1}" for i in range(len(kept)))])
            + "= row",
        ]
        given = [*bars, *found]
        for i, n in enumerate(names):
            if n in self.adjoint.targets:
                lines.append(f"r{i + 1} = {bars[i]} + {stack[self.adjoint.targets.index(n)]}")
                bars[i] = f"r{i + 1}"

        def text(node: Node) -> str | None:
            if node.op == "read" and node["memory"].startswith("bar "):
                return bars[names.index(node["memory"][4:])]
            if node in kept:
                return f"x{kept.index(node) + 1}"
            value = self.updates.text(node, Kind(()), lambda _: None)
            if value is not None and value not in self.held:
                self.held.append(value)
            return value and f"h{self.held.index(value) + 1}"

        chosen = {x: x for x in [*bars, *found]}
        for code, back in enumerate(self.adjoint.backs, 1):
            roots = {
                **{f"bar {n}": x for n, x in back.bars.items()},
                **{f"out {n}": x for n, x in back.found.items()},
            }
            call = self.updates.function(
                "back",
                roots,
                text,
                lambda fn, keys, made=roots: [
                    fn.vector(fn.value(made[k]), made[k].type) for k in keys
                ],
                bars[0],
            )
            lines.append(f"c{code} = {call}")
            for i, key in enumerate(roots):
                kind, _, name = key.partition(" ")
                at = (
                    bars[names.index(name)]
                    if kind == "bar"
                    else found[self.adjoint.learners.index(name)]
                )
                value = f"c{code}[{i}]" if kind == "bar" else f"{at} + c{code}[{i}]"
                chosen[at] = f"torch.where(event == {code}, {value}, {chosen[at]})"
        if self.held:
            lines.insert(0, "".join(f"h{i + 1}, " for i in range(len(self.held))) + "= held")
        labels = {
            **{x: Label(f"bar_{last(n)}") for x, n in zip(given, [*names, *self.adjoint.learners])},
            **{x: Label(f"heard_{last(n)}") for x, n in zip(stack, self.adjoint.targets)},
        }
        draft = Draft(("carry", "row", "held"), lines, parts(list(chosen.values())), labels, {})
        self.body = self.updates.define("seen", draft)

    def hear(self, kind: Kind) -> list[str]:
        """Lines before a tick: the step's part of the tape, and at the viewer's tick the way back."""
        lines = [f'at = S["{self.name}|row"].long().view(1)']
        lines += [
            f'S["{self.name}|{n}|{s}"].index_add_(0, at, G["{n}|{s}"][None])'
            for s in self.adjoint.streams
            for n in self.adjoint.targets
        ]
        if self.adjoint.viewer.name in kind.fired:
            for stream in self.adjoint.streams:
                tapes = [
                    f'S["{self.name}|event"]',
                    *(f'S["{self.name}|{n}|{stream}"]' for n in self.adjoint.targets),
                    *(f'S["{self.name}|kept {i + 1}"]' for i in range(len(self.adjoint.leaves()))),
                ]
                carry = [f'zeros(S["{n}"])' for n in [*self.adjoint.moved, *self.adjoint.learners]]
                lines.append(
                    f"found = replay({self.body}, ({', '.join(carry)},), ({', '.join(tapes)},), "
                    f"({''.join(h + ', ' for h in self.held)}), mode)"
                )
                for i, name in enumerate(self.adjoint.learners):
                    given = next(
                        (g for g in self.adjoint.heard if g.memory == name and g.stream == stream),
                        None,
                    )
                    lines += (
                        [f'S["{given.name}"].add_(found[{len(self.adjoint.moved) + i}])']
                        if given
                        else []
                    )
        return lines

    def record(self, kind: Kind) -> list[str]:
        """Lines of a tick that note its event, before anything is written: or begin the tape anew,
        at the viewer's own tick.
        """
        event = self.adjoint.event(kind)
        if self.adjoint.anew(kind):
            names = [n for n in self.state() if not n.endswith("|row")]
            code = self.adjoint.code(Event(frozenset(), event.restarted, frozenset()))
            return [f'S["{n}"].zero_()' for n in names] + (
                [f'S["{self.name}|event"][0] = {float(code)}'] if code else []
            )
        code = self.adjoint.code(event)
        if not code:
            return []
        roots = [
            n
            for x in (self.adjoint.backs[code - 1].bars, self.adjoint.backs[code - 1].found)
            for n in x.values()
        ]
        used = set(walk(*roots))
        lines = [
            f'at = S["{self.name}|row"].long().view(1)',
            f'at = at + (S["{self.name}|event"][at] != {float(code)})'
            if ends(event)
            else "at = at + 1",
            f'note(S["{self.name}|event"], at, {float(code)})',
        ]
        return lines + [
            f'note(S["{self.name}|kept {i + 1}"], at, {self.updates.text(n, kind, lambda _: None)})'
            for i, n in enumerate(self.adjoint.leaves())
            if n in used
        ]

    def after(self, kind: Kind) -> list[str]:
        if self.adjoint.anew(kind):
            return [f'S["{self.name}|row"].zero_()']
        event, row = self.adjoint.event(kind), f'S["{self.name}|row"]'
        if not (code := self.adjoint.code(event)):
            return []
        return [
            f'{row}.add_(S["{self.name}|event"][{row}.long()] != {float(code)})'
            if ends(event)
            else f"{row}.add_(1)"
        ]
