"""CHECKED PROGRAM -> the program that one of several ranks takes, which has a part of the workers.

Entries of workers meet in sums and means over all of them alone (rules/workers.py), so that axis is
shorter and nothing else changes: numbers that are made of the dim `worker` are those of all ranks.
"""

from __future__ import annotations

from dataclasses import replace

from nldsl.core.nodes import Axis, Interner, Node, has, resized, walk
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics, counted

NUMBERED = ("const", "eye", "reshape", "stack", "join")  # tell the first worker from the second


def share(program: Program, ranks: int) -> Program:
    """The program of one of `ranks` processes. Raises N722 if they do not have equally many workers
    each, N724 for what gives each worker another number.
    """
    workers = program.workers
    if ranks == 1 or workers is None:
        return program
    if workers.size % ranks:
        raise Diagnostics([_undivided(workers, ranks)])
    for memory in program.memories.values():
        if memory.start is not None and (found := _of_all(memory.start, workers)):
            raise Diagnostics([found])
    own = Axis(workers.name, workers.size // ranks, ranks)
    done = _nodes(program, workers, own)
    return replace(
        program,
        outputs={name: done[node] for name, node in program.outputs.items()},
        memories={
            name: replace(
                memory,
                type=resized(memory.type, workers, own),
                start=memory.start and done[memory.start],
                next=memory.next and done[memory.next],
            )
            for name, memory in program.memories.items()
        },
        levels={
            name: replace(
                level,
                per=own if level.per == workers else level.per,
                objectives=[done[node] for node in level.objectives],
                context=[done[node] for node in level.context],
            )
            for name, level in program.levels.items()
        },
    )


def _nodes(program: Program, workers: Axis, own: Axis) -> dict[Node, Node]:
    """Each node of a program, and what it is where there are fewer workers."""
    intern, done = Interner(), dict[Node, Node]()
    for node in program.nodes():
        args = tuple(done[arg] for arg in node.args)
        if args == node.args and not has(node.type, workers):
            done[node] = node
            continue
        if node.op in NUMBERED and not any(has(arg.type, workers) for arg in node.args):
            raise Diagnostics([_numbered(node)])
        done[node] = intern(
            node.op,
            *args,
            type=resized(node.type, workers, own),
            span=node.span,
            iteration=node.iteration,
            called=node.name,
            **dict(node.attrs),
        )
    return done


def _of_all(start: Node, workers: Axis) -> Diagnostic | None:
    """A start is made apart from ticks, at which ranks tell each other something."""
    for node in walk(start):
        if not has(node.type, workers) and any(has(arg.type, workers) for arg in node.args):
            return Diagnostic(
                "N724",
                "a memory starts from what all workers hold, of which a rank has some",
                node.span,
                "of all workers",
                help="let a level that ticks keep it, or train without `torchrun`",
            )
    return None


def _undivided(workers: Axis, ranks: int) -> Diagnostic:
    fewer = [n for n in range(1, ranks) if workers.size % n == 0][-1]
    return Diagnostic(
        "N722",
        f"{counted(workers.size, 'worker')} are not equally many on each of {ranks} ranks",
        help=f"`--set worker={-(-workers.size // ranks) * ranks}`, or "
        + (f"{fewer} ranks" if fewer > 1 else "one process"),
    )


def _numbered(node: Node) -> Diagnostic:
    return Diagnostic(
        "N724",
        "a rank has some of the workers, and does not know which of these numbers are theirs",
        node.span,
        "one for each worker",
        help="one number for all workers, or train without `torchrun`",
    )
