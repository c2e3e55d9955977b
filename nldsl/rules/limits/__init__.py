"""The limits of this compiler: programs that have a meaning and no lowering, as a table.

Each limit is a pure function of a program that obeys the rules: its docstring says what is refused,
its findings point at the words and say what to write instead. The manual lists them in this order.
`check` applies the limits before anything is scheduled, so a program that it accepts compiles; a
later stage that relies on a limit names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic
from nldsl.rules.limits import streams, ticks, within
from nldsl.rules.limits.facts import Facts

Limit = Callable[[Facts], Iterable[Diagnostic]]

LIMITS: tuple[Limit, ...] = (
    streams.rare_ticks,
    streams.fresh_step_value,
    streams.reset_by_steps,
    streams.seen_over_steps,
    streams.drawn_within,
    streams.sight_apart,
    streams.sight_to_document,
    streams.start_that_outlives,
    streams.late_objectives,
    streams.copy_at_document,
    streams.attention_since_document,
    streams.stretch_between_ticks,
    streams.stretch_of_steps,
    streams.slope_in_tree,
    streams.slope_without_equation,
    streams.ahead_in_time,
    streams.report_that_outlives,
    within.terms_beside,
    within.terms_of_a_document,
    within.terms_that_outlive,
    within.context_of_itself,
    within.task_at_documents,
    within.task_that_outlives,
    within.task_starts,
    within.task_stretch,
    within.task_read_outside,
    within.task_at_tick,
    within.task_sight,
    within.task_beside,
    within.next_of_next,
    within.slope_of_a_past,
    ticks.stream_in_update,
    ticks.copy_in_update,
    ticks.stretch_of_several,
    ticks.stretch_without_tick,
    ticks.curved_in_its_stretch,
    ticks.weighed_apart,
    ticks.second_derivative,
    ticks.workers_at_documents,
    ticks.workers_seen_through,
    ticks.restart_apart,
)


def refusals(program: Program) -> Iterable[Diagnostic]:
    """The findings of all limits; the program obeys all rules."""
    facts = Facts(program)
    return [finding for limit in LIMITS for finding in limit(facts)]
