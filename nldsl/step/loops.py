"""Calls of equal layers, one after the other -> a loop.

x_0 = block_2(x, W["layer[0].w"])           for layer in range(2):
x_1 = block_2(x_0, W["layer[1].w"])   ->        x = block_2(x, W[f"layer[{layer}].w"])
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import groupby

from nldsl.step.layout import STRING

Call = tuple[str, str]  # the iteration that a call belongs to, "layer[0]" or "", and its statement
LEAST = 2  # iterations that are worth a loop


class Unequal(Exception):
    """These iterations are no loop."""


def looped(calls: Sequence[Call], variables: Collection[str] = ()) -> list[str]:
    """The statements with loops; `variables` are those that they assign. As they are where a later
    one reads what a loop would have overwritten.
    """
    try:
        return Loops(calls, variables).lines
    except Unequal:
        return [text for _, text in calls]


def iteration_of(text: str) -> str:
    """The iteration that a statement about kept tensors belongs to, by the first name in it."""
    found = re.search(r"(?<=\.)\w+\[\d+\]", text)
    return found.group() if found else ""


class Loops:
    """Rewrites the statements of a function."""

    def __init__(self, calls: Sequence[Call], variables: Collection[str]) -> None:
        self.variables = set(variables)
        self.made: dict[str, str] = {}  # a variable of an iteration -> the one of the loop
        self.now: dict[str, str] = {}  # a variable of the loop -> whose value it holds
        self.lines: list[str] = []
        iterations = [
            (key, [text for _, text in rows]) for key, rows in groupby(calls, lambda c: c[0])
        ]
        while iterations:
            run = self.run(iterations)
            before = dict(self.made), dict(self.now)
            try:
                self.lines += self.loop(run) if len(run) >= LEAST else self.plain(run)
            except Unequal:
                self.made, self.now = before
                self.lines += self.plain(run)
            iterations = iterations[len(run) :]

    @staticmethod
    def run(iterations: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        """The first iterations that count up by one."""
        stem, at = parted(iterations[0][0])
        count = 1
        while (
            stem and count < len(iterations) and parted(iterations[count][0]) == (stem, at + count)
        ):
            count += 1
        return iterations[:count]

    def plain(self, run: list[tuple[str, list[str]]]) -> list[str]:
        return [self.resolved(text) for _, texts in run for text in texts]

    def loop(self, run: list[tuple[str, list[str]]]) -> list[str]:
        """Raises Unequal if an iteration does something else, or reads what the loop has
        overwritten.
        """
        stem, first = parted(run[0][0])
        if stem in self.variables:
            raise Unequal(stem)
        bodies = [
            [self.iteration(text, stem, first + i) for text in texts]
            for i, (_, texts) in enumerate(run)
        ]
        if any(body != bodies[0] for body in bodies):
            raise Unequal(stem)
        span = f"{first}, {first + len(run)}" if first else f"{len(run)}"
        return [f"for {stem} in range({span}):", *("    " + line for line in bodies[0])]

    def iteration(self, text: str, stem: str, at: int) -> str:
        """One statement of an iteration as one of the loop."""
        if text.startswith("#"):
            return text.replace(f"{stem}[{at}]", f"{stem}[{stem}]")
        if " = " not in text:
            return indexed(self.resolved(text), stem, at)
        made, _, given = text.partition(" = ")
        given = self.resolved(given)
        for name in words(made):
            if name in self.variables:
                if not name.endswith(f"_{at}"):
                    raise Unequal(name)
                self.made[name] = name.removesuffix(f"_{at}")
                self.now[self.made[name]] = name
        return indexed(f"{self.resolved(made)} = {given}", stem, at)

    def resolved(self, text: str) -> str:
        """The text with the variables of the loop in the place of those of its iterations."""

        def named(name: str) -> str:
            if name not in self.variables:
                return name
            found = self.made.get(name, name)
            if self.now.get(found, found) != name:
                raise Unequal(name)
            return found

        return outside(text, lambda part: re.sub(r"[A-Za-z_]\w*", lambda m: named(m.group()), part))


def parted(key: str) -> tuple[str, int]:
    """`layer[2]` as ("layer", 2)."""
    found = re.fullmatch(r"(\w+)\[(\d+)\]", key)
    return (found.group(1), int(found.group(2))) if found else ("", 0)


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", re.sub(STRING, "", text))


def outside(text: str, change: Callable[[str], str]) -> str:
    """The text with what is not quoted changed."""
    out, at = [], 0
    for found in STRING.finditer(text):
        out += [change(text[at : found.start()]), found.group()]
        at = found.end()
    return "".join([*out, change(text[at:])])


def indexed(text: str, stem: str, at: int) -> str:
    """The text with the number of the iteration in its keys as the loop's."""

    def key(found: re.Match[str]) -> str:
        quoted = found.group()
        turned = re.sub(rf"(?<![\w\]]){stem}\[{at}\]", f"{stem}[{{{stem}}}]", quoted)
        return quoted if turned == quoted or "{" in quoted else f"f{turned}"

    return STRING.sub(key, text)
