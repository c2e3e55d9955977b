"""The tape of a level that learns through the ticks of faster ones -> Python. What it holds, and
the derivative of each event, are those of its `Adjoint` (schedule/adjoints.py).

    back_i(bar.., kept..) -> bar.., d O     the transposed derivative of one kind of event
    seen_i(carry, row, held)                one row of the tape, whichever kind of event it holds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nldsl.core.nodes import Node, walk
from nldsl.schedule.adjoints import Adjoint, Back
from nldsl.schedule.named import Bar, Held, Stretch, name_of
from nldsl.schedule.step_states import At
from nldsl.schedule.timetable import Kind, spoken
from nldsl.step.flat import shape_of
from nldsl.step.listing import Draft, Label
from nldsl.step.names import last
from nldsl.step.source import parts

if TYPE_CHECKING:
    from nldsl.step.updates import Root, Text, Updates

Sizes = tuple[int, ...]


class Tape:
    """Writes the tape of one viewer. `held`: what the derivatives read that stays between two ticks
    of the viewer; `body`: the function of one row.
    """

    def __init__(self, updates: Updates, adjoint: Adjoint, index: int) -> None:
        self.updates, self.adjoint, self.name = updates, adjoint, f"seen {index}"
        self.row, self.event = f'S["{self.name}|row"]', f'S["{self.name}|event"]'
        self.kept = adjoint.leaves()
        self.held: list[str] = []
        self.body = ""

    def heard(self, memory: Held, stream: str, since: Stretch) -> str:
        """The rows of what the steps of a stretch gave for the values of a memory."""
        more = "" if since == self.adjoint.viewer.name else f"|{spoken(since)}"
        return f"{self.name}|{memory}|{stream}{more}"

    def kept_rows(self) -> list[str]:
        return [f"{self.name}|kept {i + 1}" for i in range(len(self.kept))]

    def rows(self) -> dict[str, Sizes]:
        """What has a row for each event, and the sizes of one."""
        out: dict[str, Sizes] = {f"{self.name}|event": ()}
        for stretch in self.adjoint.stretches:
            for name in self.adjoint.targets:
                out[self.heard(name, *stretch)] = shape_of(self.adjoint.bar(name).type)
        kept = (shape_of(n.type) if n.type else () for n in self.kept)
        return out | dict(zip(self.kept_rows(), kept))

    def state(self) -> dict[str, Sizes | None]:
        rows = {name: (self.adjoint.rows, *sizes) for name, sizes in self.rows().items()}
        return {f"{self.name}|row": None, **rows}

    # -- functions

    def write(self) -> None:
        """Defines the functions of the tape."""
        names, learners = self.adjoint.moved, self.adjoint.learners
        bars = {name: f"b{i + 1}" for i, name in enumerate(names)}
        found: dict[Held, str] = {name: f"o{i + 1}" for i, name in enumerate(learners)}
        stack = {name: f"s{i + 1}" for i, name in enumerate(self.adjoint.targets)}
        given = [*bars.values(), *found.values()]
        labels = {x: Label(f"bar_{last(str(n))}") for n, x in [*bars.items(), *found.items()]}
        labels |= {x: Label(f"heard_{last(str(n))}") for n, x in stack.items()}
        row = ["event", *stack.values(), *(f"x{i + 1}" for i in range(len(self.kept)))]
        lines = [f"{unpacked(given)} = carry", f"{unpacked(row)} = row"]
        for i, name in enumerate(names):
            if name in stack:
                lines.append(f"r{i + 1} = {bars[name]} + {stack[name]}")
                bars[name] = f"r{i + 1}"
        results = {x: x for x in [*bars.values(), *found.values()]}
        for code, back in enumerate(self.adjoint.backs, 1):
            lines.append(f"c{code} = {self.back(back, bars)}")
            for i, name in enumerate(back.bars):
                at = bars[name]
                results[at] = f"torch.where(event == {code}, c{code}[{i}], {results[at]})"
            for i, name in enumerate(back.found, len(back.bars)):
                at = found[name]
                more = f"{at} + c{code}[{i}]"
                results[at] = f"torch.where(event == {code}, {more}, {results[at]})"
        if self.held:
            lines.insert(0, f"{unpacked([f'h{i + 1}' for i in range(len(self.held))])} = held")
        draft = Draft(("carry", "row", "held"), lines, parts(list(results.values())), labels, {})
        self.body = self.updates.define("seen", draft)

    def back(self, back: Back, bars: Mapping[Held, str]) -> str:
        """A call of the derivative of an event, in the function of a row."""

        def text(node: Node) -> str | None:
            if isinstance(name := name_of(node), Bar):
                return bars[name.of]
            if node in self.kept:
                return f"x{self.kept.index(node) + 1}"
            value = self.updates.text(node)
            if value is not None and value not in self.held:
                self.held.append(value)
            return value and f"h{self.held.index(value) + 1}"

        roots: dict[Root, Node] = {Bar(name): node for name, node in back.bars.items()}
        return self.updates.function("back", roots | back.found, text, next(iter(bars.values())))

    # -- the parts of a step

    def hear(self, kind: Kind) -> list[str]:
        """Lines before a tick: the step's part of the tape; at the viewer's tick the way back."""
        lines = [f"at = {self.row}.long().view(1)"]
        lines += [
            f'S["{self.heard(n, s, since)}"].index_add_(0, at, G["{n}|{s}"][None])'
            for s, since in self.adjoint.stretches
            for n in self.adjoint.targets
        ]
        if self.adjoint.viewer.name in kind.fired:
            lines += [line for each in self.adjoint.stretches for line in self.replay(*each)]
        return lines

    def replay(self, stream: str, since: Stretch) -> list[str]:
        """The way back over the tape, which adds to what the viewer's own reads were given."""
        rows = [self.heard(n, stream, since) for n in self.adjoint.targets]
        tapes = [f'S["{name}"]' for name in (f"{self.name}|event", *rows, *self.kept_rows())]
        carry = [f'zeros(S["{n}"])' for n in [*self.adjoint.moved, *self.adjoint.learners]]
        lines = [
            f"found = replay({self.body}, ({', '.join(carry)},), ({', '.join(tapes)},), "
            f"({''.join(h + ', ' for h in self.held)}), mode)"
        ]
        heard = [h for h in self.adjoint.heard if (h.input.stream, h.since) == (stream, since)]
        totals = {h.input.memory: h for h in heard}
        for i, name in enumerate(self.adjoint.learners, len(self.adjoint.moved)):
            if name in totals:
                lines.append(f'S["{totals[name]}"].add_(found[{i}])')
        return lines

    def record(self, kind: Kind, at: At) -> list[str]:
        """Lines of a tick that note its event, before anything is written: or begin the tape anew,
        at the viewer's own tick.
        """
        code = self.adjoint.code(kind)
        if self.adjoint.anew(kind):
            zeros = [f'S["{name}"].zero_()' for name in self.rows()]
            return zeros + self.first(code, lambda node: self.updates.text(at.decide(node)))
        zeros = [
            f'S["{self.heard(n, stream, since)}"].zero_()'
            for stream, since in self.adjoint.stretches
            for n in self.adjoint.targets
            if kind.at(since)
        ]
        if not code:
            return zeros
        new = "at = at + 1"
        if self.adjoint.backs[code - 1].ends:
            new = f"at = at + ({self.event}[at] != {float(code)})"
        return [
            *zeros,
            f"at = {self.row}.long().view(1)",
            new,
            f"note({self.event}, at, {float(code)})",
            *(
                f'note(S["{rows}"], at, {self.updates.text(at.decide(node))})'
                for rows, node in self.used(code)
            ),
        ]

    def used(self, code: int) -> list[tuple[str, Node]]:
        """What the derivative of an event reads, with the rows that keep it."""
        met = set(walk(*self.adjoint.backs[code - 1].roots))
        return [(rows, n) for rows, n in zip(self.kept_rows(), self.kept) if n in met]

    def first(self, code: int, text: Text) -> list[str]:
        """A tape begins with the event that the first values came from, if it changes anything."""
        if not code:
            return []
        kept = [f'S["{rows}"][0] = {text(node)}' for rows, node in self.used(code)]
        return [f"{self.event}[0] = {float(code)}", *kept]

    def birth(self) -> list[str]:
        return self.first(self.adjoint.birth, self.updates.text)

    def after(self, kind: Kind) -> list[str]:
        """Lines that keep the place on the tape."""
        code = self.adjoint.code(kind)
        if self.adjoint.anew(kind):
            return [f"{self.row}.zero_()"]
        if not code:
            return []
        if self.adjoint.backs[code - 1].ends:
            return [f"{self.row}.add_({self.event}[{self.row}.long()] != {float(code)})"]
        return [f"{self.row}.add_(1)"]


def unpacked(names: list[str]) -> str:
    return "".join(f"{name}, " for name in names)
