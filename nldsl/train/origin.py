"""A step that is not finite -> where it began: a stream, a memory that learns while it reads, a
gradient or an update.

The steps since the last save are run again, as they were run, until the first whose loss or state
is not finite. That step is run once more as its emitted source, without the compiler and with every
named stream handed out, and its values are looked at in the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nldsl.core.nodes import Node, walk
from nldsl.core.program import STATE, Program
from nldsl.diagnostic import Diagnostics
from nldsl.schedule.plan import moving, plan
from nldsl.source import Span
from nldsl.step import lanes
from nldsl.step.compile import CompiledStep
from nldsl.step.emit import Emitter
from nldsl.step.module import in_precision
from nldsl.step.reading import load_module
from nldsl.step.state import State, layout
from nldsl.train import checkpoint, faults
from nldsl.train import run as runs
from nldsl.train.loop import NotFinite
from nldsl.train.memory import broken

if TYPE_CHECKING:
    from nldsl.train.run import Run


Batches = list[dict[str, Tensor]]  # micro-batches


@dataclass(frozen=True)
class Origin:
    """`words` follow "it begins in step n, "."""

    words: str
    span: Span | None = None


def told(
    run: Run, step: CompiledStep, found: NotFinite, last_saved: Callable[[Run, CompiledStep], State]
) -> Diagnostics:
    """The diagnostic of a step that is not finite, with where it began."""
    saved = checkpoint.manifest(run.folder)
    kept = saved.step if saved is not None else None
    state, before = first_broken(run, step, found.step, last_saved)
    if before is None:
        why = "; run again, the steps since the last save are finite"
        return faults.not_finite(found.step, found.what, why, kept)
    program, n = run.program, state.step
    copy_in(state, before)
    largest = max(
        (
            (float(x.abs().max()), name)
            for name, x in before.items()
            if name in program.memories and x.numel()
        ),
        default=None,
    )
    origin = begins(run, state)
    words = f"; it begins in step {n}, {origin.words}"
    notes = (
        ()
        if largest is None
        else (
            f"before step {n} the largest number of a memory was {largest[0]:.3g}, in "
            f"`{largest[1]}`",
        )
    )
    return faults.not_finite(found.step, found.what, words, kept, origin.span, notes)


def first_broken(
    run: Run, step: CompiledStep, last: int, last_saved: Callable[[Run, CompiledStep], State]
) -> tuple[State, dict[str, Tensor] | None]:
    """A state after the first step, up to `last`, that leaves something that is not finite, and
    what it was before; None if there is none."""
    state = last_saved(run, step)
    while state.step < last:
        before = {name: x.clone() for name, x in checkpoint.everything(state).items()}
        values = step(state, run.batches(state.step + 1))
        if broken({**values, **checkpoint.everything(state)}) is not None:
            return state, before
    return state, None


def copy_in(state: State, before: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, x in checkpoint.everything(state).items():
            x.copy_(before[name])


def begins(run: Run, state: State) -> Origin:
    """The origin of the numbers that are not finite in the step that `state.step` counts already,
    found from the tensors before it.
    """
    s = run.settings
    plain = runs.step_of(run)
    here = plain.init(s.seed)
    plain.seat(here, s.batch * s.accumulate)
    copy_in(here, checkpoint.everything(state))
    here.step = state.step - 1
    name = broken(checkpoint.everything(here))
    if name is not None:
        return in_memory(run.program, name, "which was not finite before")
    batches = run.batches(state.step)
    return (
        in_streams(plain, here, batches)
        or in_gradients(plain, here, batches)
        or in_updates(plain, here, batches)
    )


def in_streams(plain: CompiledStep, here: State, batches: Batches) -> Origin | None:
    """The first named stream that is not finite, or the memory through which it is not."""
    program, roots = plain.program, plain.schedule.steps.streams
    ids = moving(roots.values())
    nodes = [n for n in walk(*roots.values()) if n.name and n in ids and n.op != "input"]
    named = {f"{i}": n for i, n in enumerate(nodes)} | dict(roots)
    emitted = Emitter(plan(program, named)).emit()
    module = load_module(in_precision(emitted, plain.precision), "origin")
    for i, batch in enumerate(batches):
        with torch.no_grad():
            inputs = plain.place(batch)
            count = len(next(iter(inputs.values())))
            seats, like = lanes.part(here.lanes, i, count), plain.reading.like()
            start = module["start"](here.views, count, like, seats)
            outputs, _ = module["forward"](here.views, inputs, start, 0, "loop")
        name = broken({name: outputs[name] for name in named})
        if name is not None:
            return stream(
                plain, named[name], name, [n for n in named.values() if n is not named[name]]
            )
    return None


def stream(plain: CompiledStep, node: Node, name: str, earlier: list[Node]) -> Origin:
    """The name of a stream; if it reads a memory that learns while it reads and went wrong first,
    that memory.
    """
    called = node.name or name
    heard = ", ".join(f"`{level}`" for level in hearers(plain, called, name))
    learns = f", which level {heard} learns from" if heard else ""
    for memory in reads(node, earlier):
        level = plain.program.levels[plain.program.memories[memory].level]
        if level.clock.inner:
            return Origin(
                f"in memory `{memory}` of level `{level.name}`, read by the stream `{called}`",
                plain.program.memories[memory].span,
            )
    return Origin(f"in the stream `{called}`{learns}", node.span)


def hearers(plain: CompiledStep, *names: str) -> list[str]:
    """Levels that learn from a stream; of a stream inside, those of the losses it leads to."""
    heard = {g.stream: g for g in plain.schedule.steps.hears}
    streams = [s for s in heard if s in names] or list(heard)
    return list(
        dict.fromkeys(
            plain.program.memories[g.memory].level
            for g in plain.schedule.steps.hears
            if g.stream in streams
        )
    )


def reads(node: Node, earlier: list[Node]) -> Iterator[str]:
    """Memories that a stream reads without another named stream between."""
    seen, waiting = {*earlier}, [node]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        if here.op in STATE:
            yield here["memory"]
        waiting += here.args


def in_gradients(
    plain: CompiledStep, here: State, batches: list[dict[str, Tensor]]
) -> Origin | None:
    """The first gradient of a memory that is not finite, with the weight it is of."""
    module, program = plain.module, plain.program
    places = layout(program, here.tensors)
    for i, batch in enumerate(batches):
        inputs = plain.place(batch)
        seats = lanes.part(here.lanes, i, len(next(iter(inputs.values()))))
        sums, _, _ = module["fresh"](here.views, inputs, "loop", seats)
        grads = module["gradients"](here.views, sums)
        for name, x in grads.items():
            if broken({name: x}) is not None:
                owner, heard = name.rsplit("|", 1)
                at = int((~torch.isfinite(x.reshape(-1))).nonzero()[0])
                array = next(
                    (
                        leaf
                        for leaf, (of, first, end, _) in places.items()
                        if of == owner and first <= at < end
                    ),
                    owner,
                )
                level = program.memories[owner].level
                return Origin(
                    f"in the gradient of `{heard}` in `{array}`, memory `{owner}` of "
                    f"level `{level}`",
                    program.memories[owner].span,
                )
    return None


def in_updates(plain: CompiledStep, here: State, batches: Batches) -> Origin:
    """The first memory that its update makes so, levels inside others first."""
    plain(here, batches)
    tensors = checkpoint.everything(here)
    inner_first = sorted(tensors, key=lambda name: -name.count("."))
    name = broken({name: tensors[name] for name in inner_first})
    if name is None:
        return Origin("which its source, run without the compiler, does not show")
    return in_memory(plain.program, name, "by its update")


def in_memory(program: Program, name: str, how: str) -> Origin:
    memory = program.memories.get(name.removeprefix(checkpoint.LANE).split("|")[0].split("@")[0])
    if memory is None:
        return Origin(f"in `{name}`, {how}")
    return Origin(f"in memory `{memory.name}` of level `{memory.level}`, {how}", memory.span)
