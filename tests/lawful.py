"""Each law of `nldsl.testing.laws` as a check of one drawn program."""

from __future__ import annotations

from collections.abc import Callable

from nldsl.core.nodes import walk
from nldsl.testing import Drawn, laws
from nldsl.testing.properties import STEADY
from nldsl.testing.renaming import renamed_program

ROUNDING = 1e-13  # of sums in another order
Law = Callable[[laws.Subject, Drawn], None]


def causal(subject: laws.Subject, drawn: Drawn) -> None:
    batch = drawn.batches(subject.program, 1)[0]
    for at in range(drawn.length):
        assert laws.causality(subject, batch, at) == 0.0, at


def independent(subject: laws.Subject, drawn: Drawn) -> None:
    assert laws.independence(subject, drawn.batches(subject.program, 1)[0]) == 0.0


def whole(subject: laws.Subject, drawn: Drawn) -> None:
    assert laws.splits(subject, drawn.batches(subject.program, 1)[0]) <= laws.EXACT


def still(subject: laws.Subject, drawn: Drawn) -> None:
    """A level moves at its ticks and at no others; so do the levels of the token clock within a
    sequence.
    """
    batches = drawn.batches(subject.program, 5)
    moved, worst = laws.stillness(subject, batches)
    assert worst == 0.0
    assert laws.stillness_within(subject, batches[0]) == 0.0
    level = subject.program.levels["training"]
    if drawn.length > 1:
        assert [i + 1 for i, names in enumerate(moved) if "training" in names] == [
            n for n in range(1, 6) if level.clock.ticks(n)
        ]


def repeatable(subject: laws.Subject, drawn: Drawn) -> None:
    assert (
        laws.repeatability(
            subject.program, drawn.batches(subject.program, 2), drawn.seed, subject.step.files
        )
        == 0.0
    )


def nameless(subject: laws.Subject, drawn: Drawn) -> None:
    if any(
        n.op == "random"
        for m in subject.program.memories.values()
        if m.start is not None
        for n in walk(m.start)
    ):
        return  # what a random start is depends on its name
    other = renamed_program(drawn).program()
    assert (
        laws.renaming(
            subject,
            laws.Subject(other, drawn.seed, files=subject.step.files),
            drawn.batches(subject.program, 2),
        )
        <= ROUNDING
    )


def steep(subject: laws.Subject, drawn: Drawn) -> None:
    """What is learned is the slope of what is minimised, wherever the text hides no derivative."""
    if not laws.cut(subject.program) and drawn.length > 1:
        assert (
            laws.slope(subject, drawn.batches(subject.program, 1)[0], drawn.seed) <= laws.DIFFERENCE
        )


def both(law: Law) -> Law:
    """The law before training, and after three steps that are then made twenty times as long.

    What is equal to rounding alone is judged where rounding does not grow: weights as large as that
    can make a memory diverge.
    """

    def check(subject: laws.Subject, drawn: Drawn) -> None:
        law(subject, drawn)
        batches = drawn.batches(subject.program, 3)
        laws.stride(subject, batches, 20.0)
        if law is not whole or laws.sensitivity(subject, batches[0]) <= STEADY:
            law(subject, drawn)
        subject.restart()

    return check


LAWS = {
    "causal": both(causal),
    "independent": both(independent),
    "whole": both(whole),
    "still": still,
    "repeatable": repeatable,
    "steep": steep,
}


def all_laws(subject: laws.Subject, drawn: Drawn) -> None:
    for law in (*LAWS.values(), nameless):
        law(subject.restart(), drawn)
