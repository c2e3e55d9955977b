"""QUALIFIED NAMES -> ONE NAME for all of them, and a name as seen from another.

    layer[0].mix.k, layer[1].mix.k, layer[0].mix.v, layer[1].mix.v     ->     layer[0..1].mix.{k, v}
    layer[3].mix.k.box, seen from layer[3].mix.v.box                   ->     k.box
    layer[2].mix.k, anywhere as seen from layer[3].mix.v               ->     layer[*].mix.k
"""
from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 5                                                     # alternatives that are listed


def folded(names: Sequence[str]) -> str:
    paths = [name.split(".") for name in names]
    parts = [_part(list(dict.fromkeys(column))) for column in zip(*paths, strict=False)] if len({len(path) for path in paths}) == 1 else [None]
    if None not in parts:
        return ".".join(part for part in parts if part is not None)
    return ", ".join(names) if len(names) < MOST else f"{names[0]} and {len(names) - 1} alike"


def _part(column: list[str]) -> str | None:
    if len(column) == 1:
        return column[0]
    stems = {part.partition("[")[0] for part in column}
    inside = [part.partition("[")[2].rstrip("]") for part in column]
    if len(stems) == 1 and all(inside):
        whole = [int(text) for text in inside if text.isdigit()]
        run = len(whole) == len(inside) > 1 and whole == list(range(whole[0], whole[0] + len(whole)))
        return f"{stems.pop()}[{f'{whole[0]}..{whole[-1]}' if run else ', '.join(inside)}]"
    return "{" + ", ".join(column) + "}" if len(column) <= MOST else None


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key: numbers in a name by their size."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def relative(name: str, seen_from: str) -> str:
    """Without the path to the block that both stand in."""
    if name.startswith(f"{seen_from}."):
        return name.removeprefix(f"{seen_from}.")
    own, path = seen_from.split("."), name.split(".")
    shared = 0
    while shared < min(len(own) - 2, len(path) - 1) and own[shared] == path[shared]:
        shared += 1
    return ".".join(path[shared:])


def anywhere(name: str, seen_from: str) -> str:
    """With any turn in the place of the turns of the loops that `seen_from` stands in."""
    loops = {part.partition("[")[0] for part in seen_from.split(".")[:-1] if "[" in part}
    return ".".join(f"{stem}[*]" if bracket and stem in loops else part
                    for part in name.split(".") for stem, bracket, _ in [part.partition("[")])
