"""Qualified names of a program -> names of variables in one emitted function.

loss.layer[0].mixer.k                         k
loss.layer[0].mixer.recall.S.velocity.m.W1    S_m_W1
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Sequence

TAKEN = {*keyword.kwlist, "torch", "F", "Tensor"}


def identifier(text: str) -> str:
    """The text as a name of Python."""
    text = re.sub(r"\W+", "_", text).strip("_") or "v"
    return f"v_{text}" if text[0].isdigit() else text


def last(name: str) -> str:
    """What a definition calls its value."""
    return identifier(name.rpartition(".")[2])


def short(names: Sequence[str], levels: Collection[str]) -> dict[str, str]:
    """Names without what they have in common, and without the levels that they stand in. A copy
    `M.W1@chunk` is `M_W1_chunk`.
    """
    parts = {name: owned(name, levels) for name in names}
    if not parts:
        return {}
    first = next(iter(parts.values()))[0]
    most = min(own for _, own in parts.values())
    common = 0
    while common < most and all(path[common] == first[common] for path, _ in parts.values()):
        common += 1
    return {
        name: identifier("_".join([*path[common:], *name.split("@")[1:]]))
        for name, (path, _) in parts.items()
    }


def owned(name: str, levels: Collection[str]) -> tuple[list[str], int]:
    """The parts of a name but for levels, and the first of them that belongs to one."""
    whole = name.partition("@")[0].split(".")
    kept = [
        part
        for i, part in enumerate(whole)
        if i == len(whole) - 1 or ".".join(whole[: i + 1]) not in levels
    ]
    outer = next(
        (i for i in range(len(whole) - 1) if ".".join(whole[: i + 1]) in levels), len(whole) - 1
    )
    return kept, min(outer, len(kept) - 1)


class Names:
    """Names of one function, each once: the second `k` is `k_2`. What it calls is taken."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = {*TAKEN, *taken}

    def take(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def part(self, wanted: str) -> str:
        """A name for a part of what has a name: `k_1`."""
        count = 1
        while f"{wanted}_{count}" in self.taken:
            count += 1
        self.taken.add(f"{wanted}_{count}")
        return f"{wanted}_{count}"
