"""COMPILED STEP, STATE, BATCH -> what a step would see: losses, gradients, streams. The state stays
as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.program import Program
from nldsl.core.timing import at_tokens
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.step import lanes
from nldsl.step.batches import Batch, shared
from nldsl.step.compile import CompiledStep, lanes_of
from nldsl.step.state import State


def losses(step: CompiledStep, state: State, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """The mean of each stream that levels hear, as a step gives it."""
    shared(batches, step.workers)
    sums: dict[str, list[Tensor]] = {name: [] for name in step.heard}
    with torch.set_grad_enabled(step.capture == "split"):  # the graphs of training serve here too
        for batch, seats in seated(step, state, batches):
            found, _, _ = step.module["fresh"](state.views, batch, step.mode, seats)
            for name, x in found.items():
                sums[name].append(x.detach().sum())
    return step.metrics(
        {name: sum(xs, xs[0] * 0) for name, xs in sums.items()}, terms(step, batches)
    )


def gradients(
    step: CompiledStep, state: State, batches: Sequence[Batch], stream: str
) -> dict[str, Tensor]:
    """The gradient of the mean of a stream that levels hear, in each array that learns from it."""
    if stream not in step.heard:
        raise unknown(stream, step.heard, "no level learns from a stream")
    given = step.given(state, [step.place(batch) for batch in batches])
    count, found = max(1, terms(step, batches)[stream]), {}
    for owner, (leaves, _) in step.module["LEARNERS"][stream].items():
        whole, at = given.grads[f"{owner}|{stream}"].reshape(-1), 0
        for leaf in leaves:
            sizes = torch.Size(state.places[leaf][3])
            found[leaf] = whole[at : at + sizes.numel()].view(sizes) / count
            at += sizes.numel()
    return found


def streams(
    step: CompiledStep, state: State, batches: Sequence[Batch], names: Sequence[str]
) -> dict[str, Tensor]:
    """Streams by qualified name, [sequence, token, ..], at the tokens at which they have a value;
    the sequences of all batches one behind the other.
    """
    known = named(step.program)
    for name in names:
        if name not in known:
            raise unknown(name, known, "the program has no stream")
    module = step.reading.emitted({name: known[name] for name in names})
    parts = []
    with torch.no_grad():
        for batch, seats in seated(step, state, batches):
            count = len(next(iter(batch.values())))
            carry = module["start"](state.views, count, step.reading.like(), seats)
            parts.append(module["forward"](state.views, batch, carry, 0, "loop")[0])
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def seated(
    step: CompiledStep, state: State, batches: Sequence[Batch]
) -> Iterator[tuple[Batch, lanes.Lanes]]:
    """Each batch on the device, with the lanes in which its sequences are read."""
    for i, batch in enumerate(map(step.place, batches)):
        yield batch, lanes.part(state.lanes, i, lanes_of(batch))


def terms(step: CompiledStep, batches: Sequence[Batch]) -> dict[str, int]:
    """The number of terms of each heard stream."""
    counts = [step.terms(batch) for batch in batches]
    return {name: sum(count[name] for count in counts) for name in step.heard}


def named(program: Program) -> dict[str, Node]:
    """Every stream that the text names: by the qualified name of its definition, in its last
    version. What stands in an objective has a value for its level alone.
    """
    nodes = [*walk(*program.roots())]
    inner: set[Node] = set()
    for node in nodes:
        if node.op == "plain" or any(arg in inner for arg in node.args):
            inner.add(node)
    found = {n.name: n for n in nodes if n.name and n not in inner and not isinstance(n.type, Tree)}
    found |= program.outputs
    return {name: node for name, node in found.items() if at_tokens(program, node)}


def unknown(name: str, known: Iterable[str], what: str) -> Diagnostics:
    """N761, with the name that was meant."""
    ordered = sorted(known)
    close = get_close_matches(name, ordered, n=1) or [
        other for other in ordered if other.rpartition(".")[2] == name
    ]
    said = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(ordered[:5])}"
    return Diagnostics([Diagnostic("N761", f"{what} `{name}`", help=said)])
