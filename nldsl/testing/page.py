"""A program text while it is drawn: collects the declarations that stand above the part being
written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Choose = Callable[[int], int]  # a whole number below the argument


@dataclass(frozen=True)
class Layer:
    """The definition of a layer: its lines, and the names that hold its value.

    `y` has the axes [head, e] or [e], `side` and `whole` the axis [d]; the value is `side` beside
    what is made of `y`, or `whole`. `given` are the streams that the definition takes besides x:
    `loss`, or the data.
    """

    lines: list[str]
    y: str = ""
    side: str = ""
    whole: str = ""
    given: tuple[str, ...] = ()


@dataclass
class Page:
    """`pick` chooses among alternatives, the simplest first: a failing program shrinks towards the
    first of each.
    """

    choose: Choose
    language: bool = True  # an input of words, or of real numbers
    both: bool = False  # words, and real numbers beside them
    edges: bool = False  # gates, decays and rates that are exactly 0 or 1, negative or tiny
    parts: list[str] = field(default_factory=list)  # paths of definitions with weights of their own
    dims: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, tuple[str, int]] = field(
        default_factory=dict
    )  # name -> text after `=`, period in tokens (0: steps)
    imports: set[str] = field(default_factory=set)
    defs: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)  # definitions in a file of their own
    apart: bool = False  # do they stand there?
    nested: bool = False
    count: int = 0

    @property
    def data(self) -> tuple[str, ...]:
        return ("ids", "signal") if self.both else ("ids",) if self.language else ("signal",)

    @property
    def context(self) -> str:
        """The context of an objective that reaches the task loss."""
        return ", ".join(self.data)

    def pick(self, *options: T) -> T:
        return options[self.choose(len(options))]

    def maybe(self, one_in: int = 2) -> bool:
        """False is simplest."""
        return self.choose(one_in) == one_in - 1

    def use(self, library: str, name: str) -> str:
        self.imports.add(library)
        return name

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def clock(self) -> str:
        """A clock on tokens, one that is there already or a new one."""
        known = [c for c, (_, period) in self.clocks.items() if period]
        if known and not self.maybe(3):
            return self.pick(*known)
        name = f"chunk{len(known) + 1}"
        choices = (
            ["2 token", "3 token", "4 token", "1 token", "token", "2 token phase 1", "wide token"]
            + [f"2 {c}" for c in known]
            + known[-1:]
        )
        text = self.pick(*choices)
        count, _, unit = text.partition(" ")
        period = {"token": 1}.get(text) or (
            self.clocks[text][1]
            if text in self.clocks
            else 2 * self.clocks[unit][1]
            if unit in self.clocks
            else 0
        )
        if count == "wide":
            self.constants.setdefault("wide", "5")
            period = 5
        self.clocks[name] = (text, period or int(count))
        return name

    def unphased(self) -> str:
        """A clock whose ticks are the multiples of its period."""
        known = [
            c
            for c, (text, period) in self.clocks.items()
            if period and "phase" not in text and "chunk" not in text
        ]
        if known:
            return known[0]
        self.clocks["even"] = ("2 token", 2)
        return "even"

    def span(self) -> str:
        """A stretch of time that reaches back from a token."""
        found = self.pick("3 token", "2 token", "sequence", "clock", "wide token")
        if found == "wide token":
            self.constants.setdefault("wide", "5")
        return self.clock() if found == "clock" else found

    def define(self, text: str, movable: bool = False) -> None:
        """The first of each name stands.

        `movable`: it names nothing but dims and the library, so it may stand in another file.
        """
        if not any(
            other.startswith(text[: text.index("(") + 1]) for other in (*self.defs, *self.pieces)
        ):
            (self.pieces if movable and self.apart else self.defs).append(text)

    def head(self) -> list[str]:
        """The lines above: version, imports, dims, constants, clocks, inputs, definitions."""
        lines = ["nldsl 1"]
        if self.imports or self.pieces:
            lines.append(
                "import " + ", ".join(sorted(self.imports | ({"pieces"} if self.pieces else set())))
            )
        lines += self._dims()
        lines += [f"{n} = {v}" for n, v in self.constants.items()]
        lines += [f"clock {n} = {text}" for n, (text, _) in self.clocks.items()]
        types = {"ids": "index(vocab)", "signal": "[c]"}
        return [*lines, *(f"input {name}: {types[name]}" for name in self.data), *self.defs]

    def files(self) -> tuple[tuple[str, str], ...]:
        """The other files of the program."""
        if not self.pieces:
            return ()
        imports = [f"import {name}" for name in sorted(self.imports)]
        return (
            ("pieces.nl", "\n".join(["nldsl 1", *imports, *self._dims(), *self.pieces]) + "\n"),
        )

    def _dims(self) -> list[str]:
        dims = [f"{n} = {v}" for n, v in self.dims.items()]
        return [f"dim {x}" for x in dims] if self.apart else ["dim " + ", ".join(dims)]


def indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def block(head: str, lines: list[str]) -> list[str]:
    """Lines of a level, a loop or a definition: `head {`, the lines, `}`."""
    return [f"{head} {{", *indent(lines), "}"]
