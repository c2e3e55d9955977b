"""How large a run is: the sizes that all systems share, and what is spent on each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`parameters` is what each system has to 1 %; `tokens` are those of a run, `third` of them
    are what a rate is chosen at.
    """

    name: str
    d: int
    head: int
    depth: int
    parameters: int
    length: int  # tokens of a sequence of text; other tasks say their own
    tokens: int
    lanes: int  # sequences a step, of `length`
    seeds: int
    tests: int  # sequences a test scores
    capture: str
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    third: int = 3

    @property
    def steps(self) -> int:
        return self.tokens // (self.lanes * self.length)


FULL = Scale("full", 96, 4, 2, 500_000, 256, 500_000, 4, 3, 64, "auto")
# Shows that the runner works, and nothing about learning.
QUICK = Scale("quick", 16, 2, 1, 30_000, 32, 3072, 8, 2, 8, "eager")
SCALES = {scale.name: scale for scale in (FULL, QUICK)}
