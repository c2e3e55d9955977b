"""The lines of a piece -> those that need no memory, and those that do.

What a piece makes of its streams alone (kernels of decays and their inverses, products of keys) is
the same whatever came before it, so a function of its own makes it for all pieces at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nldsl.step.source import prune

WORDS = re.compile(r"[A-Za-z_]\w*")
STRING = re.compile(r'"[^"]*"')
COSTLY = re.compile(r'torch\.einsum\("[^"]*,|\b(decay_kernel|wy_inverse|solve|conv)\(')
A_STATE_PER_TOKEN = re.compile(r'->BT\w*uv"')


@dataclass(frozen=True)
class Parted:
    """`made`: the variables that the lines in `still` make for those in `moving`."""

    still: list[str]
    moving: list[str]
    made: list[str]


def parted(
    lines: Sequence[str],
    streams: Collection[str],
    statics: Collection[str],
    others: Collection[str],
    results: Sequence[str],
) -> Parted:
    """What is made of streams, and costs a product or more, is made apart; what costs less is made
    where it is needed, and so is what is as large as a memory at every token. `others` are given to
    the piece too.
    """
    variables = {*streams, *statics, *others}
    fixed, seen, dear = {*statics}, {*streams}, set[str]()
    still, moving = list[str](), list[str]()
    for line in lines:
        target, _, expression = line.partition(" = ")
        targets = WORDS.findall(target)
        read = variables & {*WORDS.findall(STRING.sub("", expression))}
        variables |= {*targets}
        if not read <= fixed | seen or A_STATE_PER_TOKEN.search(line):
            moving.append(line)
            continue
        still.append(line)
        if not read & seen:
            fixed |= {*targets}
        else:
            seen |= {*targets}
            if COSTLY.search(line) or read & dear:
                dear |= {*targets}
                continue
        moving.append(line)
    moving = prune(moving, results)
    asked = {*WORDS.findall(" ".join([*(x.partition(" = ")[2] for x in moving), *results]))}
    order = [x for line in still for x in WORDS.findall(line.partition(" = ")[0])]
    made = [x for x in order if x in dear and x in asked]
    return Parted(prune(still, made), moving, made)
