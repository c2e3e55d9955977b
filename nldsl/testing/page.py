"""A program text while it is drawn: what must stand above the part being written is collected here."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Choose = Callable[[int], int]          # a whole number below the argument


@dataclass
class Page:
    """`pick` chooses among alternatives, the simplest first: a failing program shrinks towards the first of each."""

    choose: Choose
    dims: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, tuple[str, int]] = field(default_factory=dict)      # name -> text after `=`, period in tokens (0: steps)
    imports: set[str] = field(default_factory=set)
    defs: list[str] = field(default_factory=list)
    nested: bool = False
    count: int = 0

    def pick(self, *options: Any) -> Any:
        return options[self.choose(len(options))]

    def maybe(self, one_in: int = 2) -> bool:
        """False is simplest."""
        return self.choose(one_in) == one_in - 1

    def size(self, *sizes: int) -> int:
        return sizes[self.choose(len(sizes))]

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
        choices = ["2 token", "3 token", "4 token", "1 token", "2 token phase 1", "wide token"] + [f"2 {c}" for c in known]
        text = self.pick(*choices)
        if text == "wide token":
            self.constants.setdefault("wide", "5")
            period = 5
        elif text.split()[1] == "token":
            period = int(text.split()[0])
        else:
            period = 2 * self.clocks[text.split()[1]][1]
        self.clocks[name] = (text, period)
        return name

    def unphased(self) -> str:
        """A clock whose ticks are the multiples of its period."""
        known = [c for c, (text, period) in self.clocks.items() if period and "phase" not in text and "chunk" not in text]
        if known:
            return known[0]
        self.clocks["even"] = ("2 token", 2)
        return "even"

    def define(self, text: str) -> None:
        if text not in self.defs:
            self.defs.append(text)

    def head(self, input_line: str) -> list[str]:
        lines = ["nldsl 1"]
        if self.imports:
            lines.append("import " + ", ".join(sorted(self.imports)))
        lines.append("dim " + ", ".join(f"{n} = {v}" for n, v in self.dims.items()))
        lines += [f"{n} = {v}" for n, v in self.constants.items()]
        lines += [f"clock {n} = {text}" for n, (text, _) in self.clocks.items()]
        lines.append(input_line)
        return lines + self.defs


def indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
