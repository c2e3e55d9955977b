"""Ownership: its own level moves each memory and each weight, and no other level does.

That every weight has an owner (N110), and only one (N111), is found where `weights` takes the
weights that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.core.program import Level, Program
from nldsl.diagnostic import Diagnostic
from nldsl.rules.flow import in_every_instance
from nldsl.rules.words import head_of, rate_of, short


def memories_that_never_move(program: Program) -> Iterator[Diagnostic]:
    """A level that ticks moves each of its memories; a memory that is only read belongs to a level
    `never`, or is a weight.

    level recall every token { memory M .. memory N ..   M <- M + N * k }  # N114: N stays
    level recall every token { memory M ..  M <- M + N * k }   level fixed never { memory N .. }
    """

    def judge(level: Level) -> Iterable[Diagnostic]:
        if level.clock.unit == "never":
            return
        for name in level.memories:
            memory = program.memories[name]
            if memory.next is None:
                yield Diagnostic(
                    "N114",
                    f"no `<-` moves `{short(name)}`",
                    memory.span or head_of(level),
                    "keeps its start",
                    help=f"`{short(name)} <- ..`, or put it in a level with the rate `never`",
                )

    yield from in_every_instance(program, judge)


def weights_within_a_sequence(program: Program) -> Iterator[Diagnostic]:
    """The weights of a network are one value for all sequences: their owner ticks between
    sequences.

    level training every 4 token { memory W: weights .. }              # N117
    level training every step { memory W: weights .. }
    """
    for memory in program.memories.values():
        level = program.levels[memory.level]
        if memory.slots and program.root(level).clock.inner:
            yield Diagnostic(
                "N117",
                f"`{short(memory.name)}` holds weights that all sequences share, and "
                f"`{short(level.name)}` ticks within a sequence",
                memory.span,
                "one value for all",
                (("ticks here", rate_of(level)),),
                "`every step`, or a memory of its own, one value a sequence: `memory M: net = "
                "learned`, with `net` a def",
            )
