"""BATCH -> THE SAME BATCH, checked: it holds what the inputs of a program say.

input ids: index(256)      {"ids": [sequence, token]}, whole numbers from 0 to 255
input x: [d]               {"x": [sequence, token, d]}, numbers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from nldsl.core.program import ENDS, Program
from nldsl.diagnostic import Diagnostic, Diagnostics, counted
from nldsl.source import Span

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Input:
    """`tokens`: how many there are; None of numbers, which have `sizes` at each token."""

    name: str
    tokens: int | None
    sizes: tuple[int, ...]
    span: Span | None

    def wanted(self) -> str:
        sizes = ["sequence", "token", *map(str, self.sizes)]
        what = "numbers" if self.tokens is None else f"whole numbers below {self.tokens}"
        return f"[{', '.join(sizes)}], {what}"

    def misfit(self, x: Tensor) -> str:
        """What is wrong with a tensor; empty if it fits."""
        if x.dim() != 2 + len(self.sizes) or tuple(x.shape[2:]) != self.sizes:
            return f"is {list(x.shape)}"
        if self.tokens is None:
            return "" if x.is_floating_point() else f"holds {named(x.dtype)}"
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            return f"holds {named(x.dtype)}"
        if x.device.type == "cpu" and x.numel() and not torch.compiler.is_compiling():
            low, high = (int(end) for end in x.aminmax())
            if low < 0 or high >= self.tokens:
                return f"holds {low if low < 0 else high}"
        return ""


def named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def inputs_of(program: Program) -> tuple[Input, ...]:
    """The inputs of a program in the order of the text."""
    return tuple(
        Input(name, program.vocab.get(name), tuple(a.size for a in node.shape), node.span)
        for name, node in program.inputs.items()
    )


def checked(inputs: Sequence[Input], batch: Batch) -> Batch:
    """Raises Diagnostics (N760) with everything that does not fit."""
    found = [*findings(inputs, batch)]
    if found:
        raise Diagnostics(found)
    return batch


def findings(inputs: Sequence[Input], batch: Batch) -> Iterator[Diagnostic]:
    names = [one.name for one in inputs]
    for name in batch:
        if name not in (*names, ENDS):
            close = get_close_matches(name, names, n=1) or names
            yield Diagnostic(
                "N760", f"the program has no input `{name}`", help=f"it has `{close[0]}`"
            )
    shapes: dict[str, list[int]] = {}
    for one in inputs:
        x = batch.get(one.name)
        if x is None:
            yield Diagnostic("N760", f"the batch has no `{one.name}`", one.span, help=one.wanted())
        elif said := one.misfit(x):
            yield Diagnostic(
                "N760", f"`{one.name}` of the batch {said}", one.span, help=one.wanted()
            )
        else:
            shapes[one.name] = list(x.shape[:2])
    if ENDS in batch:
        shapes[ENDS] = list(batch[ENDS].shape)
    (first, shape), *others = [*shapes.items()] or [("", [])]
    for name, other in others:
        if other != shape:
            yield Diagnostic(
                "N760",
                f"`{first}` of the batch has [sequence, token] {shape}, `{name}` has {other}",
                next((one.span for one in inputs if one.name == name), None),
                help="as many sequences and tokens in every input",
            )


def shared(inputs: Sequence[Batch], workers: int) -> None:
    """Raises Diagnostics (N760) for a batch whose sequences so many workers cannot share alike."""
    for batch in inputs:
        name, x = next(iter(batch.items()))
        if len(x) % workers:
            raise Diagnostics(
                [
                    Diagnostic(
                        "N760",
                        f"`{name}` of the batch has {counted(len(x), 'sequence')}, which "
                        f"{counted(workers, 'worker')} cannot share alike",
                        help=f"{max(1, len(x) // workers) * workers} sequences, or another "
                        "`--set worker=..`",
                    )
                ]
            )
