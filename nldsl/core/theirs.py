"""What a start takes of a file: a tensor by its name, or what is made of tensors.

"w"                          the tensor
transposed "w"               its two axes the other way round
entry 3 of "w"               one of its first axis
part 1 of "w"                of parts with so many numbers, one behind the other; or so in each of
                             as many groups of its rows
stacked "q", "k", "v"        several, one behind the other
halves 1 of "q"              in the axis 1 of what starts from it, neighbours become two halves
neighbours 1 of "q"          the other way round
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Making = Literal["transposed", "entry", "part", "stacked", "halves", "neighbours"]


@dataclass(frozen=True)
class Made:
    """`of`: what it is made of, one but for `stacked`; `sizes`: the numbers of each part, which the
    `groups` share.
    """

    how: Making
    of: tuple[Theirs, ...]
    at: int = 0
    sizes: tuple[int, ...] = ()
    groups: int = 1

    def __str__(self) -> str:
        first = str(self.of[0])
        match self.how:
            case "transposed":
                return f"{first}^T"
            case "entry":
                return f"{first}[{self.at}]"
            case "part":
                groups = f" in each of {self.groups} groups" if self.groups > 1 else ""
                return f"part {self.at + 1} of {len(self.sizes)}{groups} of {first}"
            case "stacked":
                return f"[{', '.join(map(str, self.of))}]"
        return f"{self.how} of axis {self.at + 1} of {first}"


Theirs: TypeAlias = "str | Made"


def names(theirs: Theirs) -> Iterator[str]:
    """Every tensor that it is made of."""
    if isinstance(theirs, str):
        yield theirs
        return
    for part in theirs.of:
        yield from names(part)
