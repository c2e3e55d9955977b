"""PROGRAM -> what each of its parts takes of a training step: time forward, backward and in ticks,
and the bytes that are kept for the backward pass.

An instant belongs to one part, so the parts sum to the whole step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rich.table import Table
from rich.text import Text
from torch import Tensor

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.step.compile import CompiledStep
from nldsl.train.bench import SEED, random_batch
from nldsl.train.parts import ELSEWHERE, Part
from nldsl.train.watch import BACKWARD, FORWARD, UPDATE, Watch
from nldsl.view.folding import broken, shown

PHASES = (FORWARD, BACKWARD, UPDATE)
COLUMNS = ("part", *(f"{phase}\nms" for phase in PHASES), "%", "kept\nMB")
NAME = 29  # columns of the name of a part


@dataclass
class Share:
    """Seconds of a step in each phase, and bytes."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    kept: int = 0

    @property
    def time(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Profile:
    """Shares of a mean step. Parts share a row where no function tells them apart. `plain`: seconds
    of a step that nobody watches.
    """

    shares: dict[frozenset[Part], Share]
    plain: float

    @property
    def whole(self) -> Share:
        every = self.shares.values()
        seconds = {phase: sum(share.seconds[phase] for share in every) for phase in PHASES}
        return Share(seconds, sum(share.kept for share in every))

    def rows(self) -> list[tuple[frozenset[Part], Share]]:
        """The largest first, and last what belongs to no part."""
        rest = frozenset([(ELSEWHERE,)])
        return sorted(self.shares.items(), key=lambda row: (row[0] == rest, -row[1].time))


def profiled(
    program: Program, steps: int, batch: int, length: int, device: str, precision: str, capture: str
) -> Profile:
    """Of the first steps of a run."""
    data = random_batch(program, batch, length, device)
    step = pipeline.compile_program(
        program, device=device, precision=precision, capture=capture, planned_steps=steps
    )
    step.warm(step.init(SEED), data)
    plain = unwatched(step, data, steps)
    watch, state = Watch(step), step.init(SEED)
    watch.learn(state, data.values(), lambda: step(state, [data]))
    again = step.init(SEED)
    for _ in range(steps):
        watch.follow(lambda: step(again, [data])["loss"].item())
    return Profile(shares(watch, steps), plain)


def unwatched(step: CompiledStep, data: dict[str, Tensor], steps: int) -> float:
    """Seconds of a step as it is, behind one that warms up."""
    state = step.init(SEED)
    step(state, [data])["loss"].item()
    began = time.perf_counter()
    for _ in range(steps):
        step(state, [data])["loss"].item()
    return (time.perf_counter() - began) / steps


def shares(watch: Watch, steps: int) -> dict[frozenset[Part], Share]:
    """By the parts that a function, or a statement, is of."""
    found: dict[frozenset[Part], Share] = {}
    for at, phase, seconds in watch.seconds():
        share = found.setdefault(watch.parts.of(at), Share())
        share.seconds[phase] += seconds / steps
    for at, count in watch.kept.items():
        found.setdefault(watch.parts.of(at), Share()).kept += count
    return found


# -- the table


def profile_table(profile: Profile, what: str) -> Table:
    """A row for each part, and the sums."""
    said = f"{what}; {1000 * profile.plain:.1f} ms a step where nobody watches"
    table = Table(title=said, title_justify="left", show_footer=True)
    whole = profile.whole
    for column, total in zip(COLUMNS, ("the step", *cells(whole, whole.time)), strict=True):
        numeric = column != COLUMNS[0]
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(column, total, justify=justify, no_wrap=numeric, overflow="fold")
    for parts, share in profile.rows():
        table.add_row(Text("\n".join(names(parts))), *cells(share, whole.time))
    return table


def cells(share: Share, whole: float) -> tuple[str, ...]:
    times = (f"{1000 * x:.1f}" if x else "" for x in share.seconds.values())
    return (
        *times,
        f"{100 * share.time / whole:.1f}",
        f"{share.kept / 1e6:.2f}" if share.kept else "",
    )


def names(parts: Iterable[Part]) -> list[str]:
    """Of the parts of a row, equal levels as one."""
    found = []
    for part in sorted(parts):
        count = f"{len(part)} x " if len(part) > 1 else ""
        found += broken(count + shown(part), lambda line: len(line) <= NAME)
    return found
