"""QUALIFIED NAMES -> ONE NAME for all of them, and a name as seen from another.

layer[0].mix.k, layer[1].mix.k, layer[0].mix.v, layer[1].mix.v     ->     layer[0..1].mix.{k, v}
layer[3].mix.k.box, seen from layer[3].mix.v.box                   ->     k.box
layer[2].mix.k, anywhere as seen from layer[3].mix.v               ->     layer[*].mix.k
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from nldsl.view.express import path

MOST = 5  # alternatives that are listed


def folded(names: Sequence[str]) -> str:
    """A product of alternatives where the names are one, else a list, else the first and how many
    more.
    """
    paths = [path(name) for name in names]
    if len({len(parts) for parts in paths}) == 1:
        columns = [list(dict.fromkeys(column)) for column in zip(*paths, strict=True)]
        parts = [_part(column) for column in columns]
        if None not in parts and math.prod(map(len, columns)) == len(set(names)):
            return ".".join(part for part in parts if part is not None)
    return ", ".join(names) if len(names) < MOST else f"{names[0]} and {len(names) - 1} alike"


def _part(column: list[str]) -> str | None:
    if len(column) == 1:
        return column[0]
    stems = {part.partition("[")[0] for part in column}
    inside = [part.partition("[")[2].removesuffix("]") for part in column]
    if len(stems) == 1 and all(inside):
        whole = [int(text) for text in inside if text.isdigit()]
        run = len(whole) == len(inside) > 1 and whole == list(
            range(whole[0], whole[0] + len(whole))
        )
        several = ", ".join(inside) if len(inside) <= MOST else "*"
        return f"{stems.pop()}[{f'{whole[0]}..{whole[-1]}' if run else several}]"
    return "{" + ", ".join(column) + "}" if len(column) <= MOST else None


def shown(names: Sequence[str]) -> str:
    """Folded, without the name of the stream that the whole model is."""
    paths = [path(name) for name in names]
    lead = (
        len({parts[0] for parts in paths}) == 1
        and all(len(parts) > 2 for parts in paths)
        and "[" in "".join(paths[0][1:2])
    )
    return folded(
        [".".join(parts[1:]) if lead else name for parts, name in zip(paths, names, strict=True)]
    )


def broken(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Lines that fit, broken after spaces and the dots of a name; a part that alone is too long
    stays whole.
    """
    lines = [""]
    for part in re.split(r"(?<=\.)(?=[^\d.])|(?<= )", text):
        if lines[-1] and not fits((lines[-1] + part).rstrip()):
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: numbers in a name by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def relative(name: str, seen_from: str) -> str:
    """Without the path to the block that both stand in."""
    if name.startswith(f"{seen_from}."):
        return name.removeprefix(f"{seen_from}.")
    own, parts = path(seen_from), path(name)
    shared = 0
    while shared < min(len(own) - 2, len(parts) - 1) and own[shared] == parts[shared]:
        shared += 1
    return ".".join(parts[shared:])


def anywhere(name: str, seen_from: str) -> str:
    """With any iteration in the place of the iterations of the loops that `seen_from` stands in."""
    loops = {part.partition("[")[0] for part in path(seen_from)[:-1] if "[" in part}
    return ".".join(
        f"{stem}[*]" if bracket and stem in loops else part
        for part in path(name)
        for stem, bracket, _ in [part.partition("[")]
    )
