"""Workers: each has an entry of its own, which nothing else reads but a sum or a mean over all of
them, at a tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.core.flow import AtSteps
from nldsl.core.nodes import Axis, Node, Type, has, reach, walk
from nldsl.core.program import Level, Program, by_worker
from nldsl.core.timing import at_tokens
from nldsl.diagnostic import Diagnostic
from nldsl.rules.words import head_of, rate_of, said, short
from nldsl.source import Span

ACROSS = ("softmax", "stack", "join", "solve")  # keep an axis, and mix its entries
HELP = "`mean(.., worker)` or `sum(.., worker)`, at the tick of a level that is not `per worker`"


def reads_across_workers(program: Program) -> Iterator[Diagnostic]:
    """The entries of other workers are read by a sum or a mean over all of them alone, at a tick.

    A worker may be another machine: what it needs of the others is what is sent, and when. A sum
    at a tick is sent once in a period; an entry that a stream reads would be sent at every token.

    level outer every 8 step { .. S <- local.W@after[0] }                     # N411
    level outer every 8 step { .. S <- mean(local.W@after, worker) }
    """
    axis = program.workers
    if axis is None:
        return
    if beside := list(_beside(program, axis)):
        yield from beside
        return
    local = AtSteps(program)
    streams = [node for node in program.outputs.values() if at_tokens(program, node)]
    for memory in program.memories.values():
        if program.level(memory.name).clock.unit != "step":
            streams += memory.equations
            continue
        met = list(reach(memory.equations, into=lambda node: _at_tick(node, local)))
        streams += [n.args[0] for n in met if n.op == "fold" and not local(n.args[0])]
        level = program.root(program.level(memory.name))
        yield from _first(_crossing(n, axis) or _of_no_lane(program, n, level) for n in met)
    yield from _first(_in_stream(node, axis) for node in walk(*streams))


def _first(found: Iterable[Diagnostic | None]) -> list[Diagnostic]:
    first = next((finding for finding in found if finding is not None), None)
    return [] if first is None else [first]


def _at_tick(node: Node, local: AtSteps) -> tuple[Node, ...]:
    """What an equation of the step clock is made of at its tick, without the streams below."""
    return () if node.op == "fold" and not local(node.args[0]) else node.args


def _crossing(node: Node, axis: Axis) -> Diagnostic | None:
    """An operator that makes one value of entries of several workers, and is no sum over them."""
    of = next((arg for arg in node.args if has(arg.type, axis)), None)
    if of is None or node.op == "grad":
        return None
    if node.op in ("sum", "mean") and [of.shape[d] for d in node["dims"]] == [axis]:
        return None
    if has(node.type, axis) and not (node.op in ACROSS and _along(node) == axis):
        return None
    return _refused(f"`{said(node)}` reads workers' entries, and is no mean over them", node.span)


def _along(node: Node) -> Axis | None:
    """The axis along which an operator of `ACROSS` works."""
    axes = node.args[0].shape
    if node.op == "solve":
        return axes[-1]
    return axes[node["dim"]] if node["dim"] < len(axes) else None


def _of_no_lane(program: Program, node: Node, level: Level) -> Diagnostic | None:
    """A weight that each worker has an entry of, read at a tick, at which there is no lane."""
    weight = program.weights[node["name"]] if node.op == "weight" else None
    if weight is None or weight.worker is None:
        return None
    owner = short(weight.owner or "")
    return Diagnostic(
        "N411",
        f"`{short(weight.name)}` has an entry for each worker, and a tick is of no worker's lane",
        node.span,
        "whose?",
        (("read at its ticks", head_of(level)),),
        help=f"`{short(weight.worker)}` in its own level, or what they share, `{owner}`",
    )


def _in_stream(node: Node, axis: Axis) -> Diagnostic | None:
    if not has(node.type, axis):
        return None
    return _refused(f"`{said(node)}` has an entry for each worker, in a stream", node.span)


def _beside(program: Program, axis: Axis) -> Iterator[Diagnostic]:
    """What has the axis of the workers, and is no memory of a level per worker every n steps."""
    for memory in program.memories.values():
        level = program.level(memory.name)
        if has(memory.type, axis) and not by_worker(level):
            tokens = level.per == axis
            yield Diagnostic(
                "N411",
                f"`{short(memory.name)}` has an entry for each worker, and its level has none"
                if not tokens
                else f"a worker has lanes of a step, and `{short(level.name)}` ticks within one",
                rate_of(level) if tokens else memory.span,
                help=HELP
                if not tokens
                else "`per worker every step`; without `per worker` each "
                "sequence has its own memory anyway",
            )
    found: list[tuple[str, Type, Span | None]] = [
        (name, node.type, node.span) for name, node in program.inputs.items()
    ]
    found += [(w.name, w.shape, w.span) for w in program.weights.values()]
    for name, type_, span in found:
        if has(type_, axis):
            yield Diagnostic(
                "N411",
                f"`{short(name)}` has the axis `{axis.name}`: the lanes of a step are divided, not "
                "what a lane reads",
                span,
                help="another dim",
            )


def _refused(message: str, span: Span | None) -> Diagnostic:
    return Diagnostic("N411", message, span, "across workers", help=HELP)
