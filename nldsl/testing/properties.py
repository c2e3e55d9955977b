"""A law as a test: one function of a program, checked over many programs that Hypothesis draws.

    @over(25)
    def test_mine(subject, drawn):          # subject: see laws.py
        assert laws.splits(subject, drawn.batches(subject.program, 1)[0]) <= laws.EXACT

Programs that are drawn but not judged are counted: those that this compiler does not lower, by its
message, and those so sensitive that rounding alone would decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from nldsl.diagnostic import Diagnostics
from nldsl.testing import laws
from nldsl.testing.programs import Drawn, corners, data, programs

UNSTEADY = 0.05  # the share of drawn programs that may be too sensitive to be judged
STEADY = 1e-11  # how far one unit in the last place of weights and inputs may carry

REPEATABLE = settings(  # the same programs at every run
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)


@dataclass
class Tally:
    """Counts of the programs that were drawn: judged, not lowered, too sensitive."""

    judged: set[str] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)  # not lowered: code and message
    unsteady: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        lines = [
            f"{len(self.judged)} programs judged, {len(self.unsteady)} too sensitive, "
            f"{sum(self.rejected.values())} not lowered"
        ]
        return "\n".join(
            lines + [f"  {n} x {message}" for message, n in self.rejected.most_common()]
        )


TALLY = Tally()


@lru_cache(maxsize=256)
def subject_of(drawn: Drawn) -> laws.Subject | None:
    """None if the program is not lowered or not steady; both are counted."""
    program = drawn.program()
    try:
        subject = laws.Subject(program, drawn.seed, files=drawn.weights(program))
    except Diagnostics as error:
        if any(d.code not in ("N505", "N801") for d in error.diagnostics):
            raise
        TALLY.rejected[error.diagnostics[0].message] += 1
        return None
    if (
        not laws.sensitivity(
            subject, data(program, drawn.batch, drawn.length, drawn.seed, drawn.edges)
        )
        <= STEADY
    ):
        TALLY.unsteady.add(drawn.text)
        return None
    TALLY.judged.add(drawn.text)
    return subject


def over(
    count: int, strategy: st.SearchStrategy[Drawn] | None = None
) -> Callable[[Callable[[laws.Subject, Drawn], None]], Callable[[], None]]:
    """The corners, and `count` different programs that are lowered and steady."""

    def decorate(law: Callable[[laws.Subject, Drawn], None]) -> Callable[[], None]:
        done: set[str] = set()
        wanted = count + len(corners())
        failed: list[Drawn] = []

        def test(drawn: Drawn) -> None:
            if not failed and (len(done) >= wanted or drawn.text in done):
                return
            subject = subject_of(drawn)
            if subject is None:
                return
            try:
                law(subject.restart(), drawn)
            except BaseException:
                failed.append(drawn)
                raise
            done.add(drawn.text)

        drawing = given(strategy or programs())(test)
        for corner in corners():
            drawing = example(corner)(drawing)
        drawing = settings(REPEATABLE, max_examples=5 * count)(drawing)

        def judge() -> None:
            drawing()
            assert len(done) >= wanted, f"{len(done)} programs of {wanted} were judged\n{TALLY}"
            drawn = len(TALLY.judged) + len(TALLY.unsteady)
            assert len(TALLY.unsteady) <= UNSTEADY * drawn + 1, TALLY

        judge.__name__, judge.__doc__, judge.__module__ = law.__name__, law.__doc__, law.__module__
        return judge

    return decorate
