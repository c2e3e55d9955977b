"""What a start takes of a file, written out entry by entry."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nldsl.core.theirs import Made, Theirs


def taken(theirs: Theirs, file: Mapping[str, Tensor], sizes: list[int]) -> Tensor:
    """float64, of the sizes of what starts from it."""
    return _rows(theirs, file, sizes).reshape(sizes)


def part(theirs: Made, group: Tensor) -> Tensor:
    """Of the numbers of one group."""
    before = sum(theirs.sizes[: theirs.at]) // theirs.groups
    return group[before : before + theirs.sizes[theirs.at] // theirs.groups]


def _rows(theirs: Theirs, file: Mapping[str, Tensor], sizes: list[int]) -> Tensor:
    if isinstance(theirs, str):
        return file[theirs].double()
    x, *more = (_rows(part, file, sizes) for part in theirs.of)
    match theirs.how:
        case "transposed":
            a, b = x.shape
            return torch.stack([x[:, j] for j in range(b)]).reshape(b, a)
        case "entry":
            return x.unbind(0)[theirs.at]
        case "part":
            return torch.cat([part(theirs, group) for group in x.reshape(theirs.groups, -1)])
        case "stacked":
            return torch.cat([part.reshape(-1) for part in (x, *more)])
    n = sizes[theirs.at]
    pairs = [(i, i + n // 2) for i in range(n // 2)]
    order = [j for pair in pairs for j in pair]  # place in neighbours -> place in halves
    if theirs.how == "halves":
        order = [order.index(i) for i in range(n)]
    after = math.prod(sizes[theirs.at + 1 :])
    return x.reshape(-1, n, after)[:, order]
