"""Files of tensors -> the starts that a program loads from them, checked: every tensor is there,
holds real numbers and fits.

    load("base", "mlp.gate.weight" -> gate)       with files {"base": {"mlp.gate.weight": [hidden,
                                                  d]}}

A tensor, or what is made of tensors (core/theirs.py), fits if its sizes are those of the memory, or
come from them by joining neighbouring axes: a projection of [head, e, d] here is one of
[head * e, d] elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nldsl.core.nodes import Node, walk
from nldsl.core.program import Program
from nldsl.core.theirs import Made, Theirs, names
from nldsl.diagnostic import Diagnostic, Diagnostics

Files = Mapping[str, Mapping[str, Tensor]]


def loads(program: Program) -> list[Node]:
    """Every start that comes from a file."""
    return [
        n
        for n in walk(*(m.start for m in program.memories.values() if m.start is not None))
        if n.op == "load"
    ]


def loaded_name(node: Node) -> str:
    return "|".join([node["file"], str(node["key"]), *(str(a.size) for a in node.shape)])


def loaded(program: Program, files: Files) -> dict[str, Tensor]:
    """`loaded_name` -> tensor of the sizes that are wanted.

    Raises Diagnostics with everything that is missing (N731) or does not fit (N732).
    """
    found: dict[str, Tensor] = {}
    wrong: list[Diagnostic] = []
    for node in loads(program):
        try:
            found[loaded_name(node)] = taken(node, files.get(node["file"], {}))
        except Diagnostics as finding:
            wrong += finding.diagnostics
    if wrong:
        raise Diagnostics(wrong)
    return found


class Misfit(Exception):
    """Why a tensor is not what a text takes it for."""


def taken(node: Node, file: Mapping[str, Tensor]) -> Tensor:
    """What starts from a file, float64. Raises N731, N732."""
    theirs, sizes = node["key"], [a.size for a in node.shape]
    for name in names(theirs):
        if name not in file:
            said = f"`{node['file']}` holds no tensor `{name}`"
            raise Diagnostics([Diagnostic("N731", said, node.span, help=near(name, file))])
        if not file[name].is_floating_point():
            kind = str(file[name].dtype).removeprefix("torch.")
            said = f"`{name}` of `{node['file']}` holds {kind}, a memory holds real numbers"
            raise Diagnostics(
                [Diagnostic("N732", said, node.span, help="an array of real numbers")]
            )
    wanted = f"what starts from it is [{', '.join(map(str, node.shape))}]"
    try:
        found = arranged(theirs, file, sizes)
        if not joins(sizes, found.shape):
            raise Misfit(f"`{theirs}` of `{node['file']}` is {list(found.shape)}, {wanted}")
    except Misfit as why:
        help = "the same sizes, or neighbouring axes joined" + turned(theirs, file, sizes)
        raise Diagnostics([Diagnostic("N732", str(why), node.span, help=help)]) from None
    return found.detach().reshape(sizes).double()


def turned(theirs: Theirs, file: Mapping[str, Tensor], sizes: list[int]) -> str:
    """A hint if the tensor fits the other way round."""
    if not isinstance(theirs, str) or file[theirs].dim() != 2:
        return ""
    return f'; `"{theirs}"^T` fits' if joins(sizes, file[theirs].T.shape) else ""


def arranged(theirs: Theirs, file: Mapping[str, Tensor], sizes: list[int]) -> Tensor:
    """What a left side of a pair means, for a start of these sizes. Raises Misfit."""
    if isinstance(theirs, str):
        return file[theirs]
    parts = [arranged(part, file, sizes) for part in theirs.of]
    return MAKERS[theirs.how](theirs, parts, sizes)


def transposed(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    if parts[0].dim() != 2:
        raise Misfit(f"`{made.of[0]}` is {list(parts[0].shape)}, `^T` turns two axes")
    return parts[0].T


def entry(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    if not parts[0].dim() or made.at >= len(parts[0]):
        raise Misfit(f"`{made.of[0]}` is {list(parts[0].shape)}, it has no entry {made.at}")
    return parts[0][made.at]


def part(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    """Whole rows of the first axis, or of each group of them."""
    whole, sizes = parts[0], [size // made.groups for size in made.sizes]
    row = math.prod(whole.shape[1:])
    if whole.numel() != sum(made.sizes) or any(size % max(1, row) for size in sizes):
        where = f" in each of {made.groups} groups" if made.groups > 1 else ""
        raise Misfit(
            f"`{made.of[0]}` is {list(whole.shape)}, which is not {len(sizes)} parts of "
            f"{', '.join(f'{size:,}' for size in sizes)} numbers, one behind the other{where}"
        )
    groups = whole.reshape(made.groups, sum(sizes))
    at = sum(sizes[: made.at])
    return groups[:, at : at + sizes[made.at]].reshape(-1, *whole.shape[1:])


def stacked(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    first = parts[0]
    other = next((i for i, x in enumerate(parts) if x.shape[1:] != first.shape[1:]), None)
    if not first.dim() or other is not None:
        i = other or 0
        raise Misfit(
            f"`{made.of[0]}` is {list(first.shape)} and `{made.of[i]}` {list(parts[i].shape)}: "
            "what is stacked has rows of the same sizes"
        )
    return torch.cat(parts)


def halves(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    """Of [.., n, ..]: entries 0, 2, 4, .. and behind them 1, 3, 5, .."""
    return swapped(made, parts[0], sizes, (sizes[made.at] // 2, 2))


def neighbours(made: Made, parts: list[Tensor], sizes: list[int]) -> Tensor:
    """Of [.., n, ..]: entries 0, n / 2, 1, n / 2 + 1, .."""
    return swapped(made, parts[0], sizes, (2, sizes[made.at] // 2))


def swapped(made: Made, x: Tensor, sizes: list[int], axes: tuple[int, int]) -> Tensor:
    """An axis read as two, and these the other way round."""
    if not joins(sizes, x.shape):
        raise Misfit(f"`{made.of[0]}` is {list(x.shape)}, what starts from it is {sizes}")
    cut = [*sizes[: made.at], *axes, *sizes[made.at + 1 :]]
    return x.reshape(cut).transpose(made.at, made.at + 1).reshape(sizes)


MAKERS = {
    "transposed": transposed,
    "entry": entry,
    "part": part,
    "stacked": stacked,
    "halves": halves,
    "neighbours": neighbours,
}


def sized(program: Program) -> Iterator[tuple[str, str, list[int]]]:
    """File, name and sizes of tensors that fit what a program loads."""
    found: dict[tuple[str, str], list[int]] = {}
    for node in loads(program):
        for name, sizes in fitting(node["key"], [a.size for a in node.shape]):
            known = found.setdefault((node["file"], name), sizes)
            if len(known) == len(sizes):  # several entries of one tensor
                known[:] = map(max, known, sizes)
    for (file, name), sizes in found.items():
        yield file, name, sizes


def fitting(theirs: Theirs, sizes: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Sizes of the tensors of which something of these sizes can be made."""
    if isinstance(theirs, str):
        yield theirs, sizes
        return
    inner = {
        "transposed": [1, math.prod(sizes)],
        "entry": [theirs.at + 1, *sizes],
        "part": [sum(theirs.sizes)],
        "stacked": [math.prod(sizes) // len(theirs.of)],
    }.get(theirs.how, sizes)
    for one in theirs.of:
        yield from fitting(one, inner)


def joins(sizes: Sequence[int], theirs: Sequence[int]) -> bool:
    """Does joining neighbouring axes of `sizes` give `theirs`?"""
    left = list(sizes)
    for size in theirs:
        product = 1
        while left and (product < size or left[0] == 1):
            product *= left.pop(0)
        if product != size:
            return False
    return not left


def near(key: str, file: Mapping[str, Tensor]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, file, n=1) or list(file)[:1]
    return f"there is `{close[0]}`" if close else "name the file with `--load`"
