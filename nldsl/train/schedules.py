"""Compares the schedules of a text when a run is made longer: every number that follows from `tick`
and `ticks` alone, before and from then on.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.program import Program
from nldsl.oracle.operators import APPLY, Value
from nldsl.step.compile import CompiledStep
from nldsl.train.records import Lengthened

MOST = 3  # schedules that are told


def described(step: CompiledStep, entry: Lengthened) -> str:
    """Schedules stretch over the steps of a run: what each was after the last step, what it is in
    the next one, and where it ends."""
    program = step.program
    told = []
    for name, node in schedules(program):
        values = [
            value(node, at(program, done, steps))
            for done, steps in (
                (entry.after - 1, entry.was),
                (entry.after, entry.steps),
                (entry.steps - 1, entry.steps),
            )
        ]
        was = f"was {values[0]:.4g} in step {entry.after}, " if entry.after else ""
        told.append(
            f"that of {name} {was}is {values[1]:.4g} in step {entry.after + 1} "
            f"and ends at {values[2]:.4g}"
        )
    if not told:
        return "no number of the text follows from the length of the run, so it goes on as it was"
    more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
    return "schedules stretch over all steps of the run: " + "; ".join(told[:MOST]) + more


def schedules(program: Program) -> Iterator[tuple[str, Node]]:
    """The numbers that updates take from ticks alone, those made of others left out, each with the
    level and the line that it is of."""
    seen: set[Node] = set()
    for memory in program.memories.values():
        nodes = list(walk(memory.next)) if memory.next is not None else []
        own = {n for n in nodes if is_schedule(n)}
        taken = dict.fromkeys(arg for n in nodes if n not in own for arg in n.args if arg in own)
        for node in taken:
            made_of = {*walk(node)} - {node}
            if not made_of & set(taken) and node not in seen:
                seen.add(node)
                line = f" ({node.span.source.name}:{node.span.line})" if node.span else ""
                yield f"`{memory.level}`{line}", node


def is_schedule(node: Node) -> bool:
    parts = list(walk(node))
    return (
        not isinstance(node.type, Tree)
        and not node.type
        and all(
            n.op in ("tick", "ticks") or n.op in APPLY and not isinstance(n.type, Tree)
            for n in parts
        )
        and any(n.op == "ticks" for n in parts)
        and any(n.op == "tick" for n in parts)
    )


def at(program: Program, done: int, steps: int) -> dict[tuple[str, str], float]:
    """`tick` and `ticks` of each level of the step clock at the step after `done`."""
    found = {}
    for name, level in program.levels.items():
        period, phase = max(1, level.clock.period), level.clock.phase
        found["tick", name] = float(max(1, (done + 1 - phase) // period))
        found["ticks", name] = float(max(1, max(0, steps - phase) // period))
    return found


def value(node: Node, ticks: dict[tuple[str, str], float]) -> float:
    done: dict[Node, Value] = {}
    for part in walk(node):
        if part.op in ("tick", "ticks"):
            number = ticks[part.op, part["level"]]
            done[part] = APPLY["const"](Node("const", (), (("value", number),), ()))
        else:
            done[part] = APPLY[part.op](part, *(done[arg] for arg in part.args))
    found = done[node]
    assert isinstance(found, Tensor), "a schedule is one number"
    return float(found.reshape(()))
