"""PROGRAM -> CHECKED PROGRAM: the rules that a program obeys beyond having a meaning.

Takes the program that `nldsl.graph.desugar` made, whose names, shapes and kinds are right. Gives
the same program with warnings and notes in `findings`; an error raises `Diagnostics` with the
findings of all rules. Each rule is a pure function from a program to its findings, and none relies
on another, so one pass reports everything.

    ownership.py, clocks.py, causality.py, context.py, gradients.py
                   a family of codes each, N1 and N3 to N6
    workers.py     reads across workers, of the family of causality
    flow.py        reachability through time and through derivatives
    words.py       the words that a finding points at
    limits/        programs that have a meaning and no lowering: N801, and N505
    explained/     the text of `nldsl explain` for every code

Decisions. An error of the equations (names, shapes) ends the check before the rules, which would
only repeat it. A rule that cannot be sure gives a warning or a note: a reader of a false error
learns to ignore true ones.

The manual (tests/language) states and runs what the rules defend; the reasons are in 2512.24695,
Defs. 2 and 3 and sec. 8, and 2511.07343, App. C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.rules import causality, clocks, context, gradients, limits, ownership, workers
from nldsl.rules.flow import first_of_each

Rule = Callable[[Program], Iterable[Diagnostic]]

# From what a program is made of to what it does; of findings at one place the earlier rule's is
# told first.
RULES: tuple[Rule, ...] = (
    ownership.memories_that_never_move,
    ownership.weights_within_a_sequence,
    clocks.faster_streams,
    clocks.reset_periods,
    clocks.cut_periods,
    clocks.counted_units,
    clocks.copy_periods,
    clocks.timetable_without_end,
    clocks.many_tick_kinds,
    clocks.planned_ticks,
    causality.cycles,
    causality.reads_after_a_pending_tick,
    causality.next_of_next,
    causality.absent_values,
    causality.starts_from_streams,
    causality.circular_starts,
    causality.leaked_targets,
    causality.stale_reads,
    causality.attention_over_one_pair,
    context.missing_context,
    context.unused_context,
    context.unread_memories,
    workers.reads_across_workers,
    gradients.zero_gradients,
    gradients.unreached_weights,
    gradients.gradients_at_another_value,
    gradients.learning_targets,
    gradients.missing_depths,
    gradients.unstable_erase,
    gradients.gradients_of_another_version,
    gradients.steps_not_added,
)


def check(program: Program) -> Program:
    """The program with its warnings and notes, those left out that its text says are meant.

    Raises Diagnostics with everything found, errors first, if one finding is an error.
    """
    found = list(first_of_each(finding for rule in RULES for finding in rule(program)))
    if not any(map(_wrong, found)):  # a limit is a fact of a program that obeys the rules
        found += first_of_each(limits.refusals(program))
    findings = tuple(sorted(found, key=lambda finding: not _wrong(finding)))
    if any(map(_wrong, findings)):
        raise Diagnostics(findings)
    told = (*program.findings, *findings)
    return replace(program, findings=tuple(finding for finding in told if not _meant(finding)))


def _wrong(finding: Diagnostic) -> bool:
    return finding.severity == "error"


def _meant(finding: Diagnostic) -> bool:
    """Does a comment of its line say so? `y = recall.M@chunk * k  # meant: N405`"""
    span, said = finding.span, re.compile(rf"#.*\bmeant:.*\b{finding.code}\b")
    if span is None or _wrong(finding):
        return False
    return any(said.search(span.source.line(n)) for n in (span.line, span.end_line))
