"""Clocks: every level ticks at instants that exist, reads only values that it can have there, and
the whole timetable repeats soon enough.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from nldsl.core.nodes import Node, reach, walk
from nldsl.core.program import Clause, Clock, Level, Program, clocks_of
from nldsl.diagnostic import Diagnostic, Edit
from nldsl.rules.flow import beneath, clock_of
from nldsl.rules.words import clauses, every, head_of, place_of, rate_of, said, short
from nldsl.source import Span

LONGEST_HYPERPERIOD = 1_000_000
MANY_KINDS = 8


def faster_streams(program: Program) -> Iterator[Diagnostic]:
    """A faster stream reaches a slower level through a window alone.

    At the tick of a slower level a faster stream has many values, one for each instant since the
    last tick. Which of them, or what of all of them, the level learns from is a choice that the
    text must make.

        level training every step { .. minimize loss .. }                        # N301
        level training every step { .. minimize mean(loss over period) .. }
    """
    suspect = _suspects(program)
    for level in program.levels.values():
        for name in level.memories:
            after = program.memories[name].next
            offender = (
                _faster(program, level, after)
                if after is not None and suspect(level, after)
                else None
            )
            if offender is None:
                continue
            node, learners = offender
            faster = clock_of(program, node)
            root = program.root(level)
            if faster.pace < root.clock.pace:  # an optimizer only passes on what it is given
                level = root
            yield (
                _in_objective(level, faster, node)
                if level.name in learners
                else _in_equation(program, level, name, faster, node)
            )
            break


def _in_objective(level: Level, faster: Clock, node: Node) -> Diagnostic:
    pieces = list(clauses(level, "minimize"))
    span = place_of(level, "minimize")
    words = " ".join(pieces[0].span.text().split()) if len(pieces) == 1 else said(node)
    fix = (
        (Edit(span, f"mean({words} over period)"),) if len(pieces) == 1 and span is not None else ()
    )
    return _between_ticks(words, level, faster, span, f"`mean({words} over period)`, or `sum`", fix)


def _between_ticks(
    words: str,
    level: Level,
    faster: Clock,
    span: Span | None,
    help: str,
    fix: tuple[Edit, ...] = (),
) -> Diagnostic:
    return Diagnostic(
        "N301",
        f"`{words}` has a value every {every(faster)}, this level ticks every {every(level.clock)}",
        span,
        f"every {every(faster)}",
        (("ticks here", rate_of(level)),),
        help,
        fix=fix,
    )


def _in_equation(
    program: Program, level: Level, memory: str, faster: Clock, node: Node
) -> Diagnostic:
    """Of a memory its words are shown, as it is read; of a stream the equation, since the window
    may be around more than its name.
    """
    updates = [
        u
        for u in clauses(level, "update")
        if program.memories[memory].level != level.name or u.name == short(memory)
    ]
    span = updates[-1].span if updates else head_of(level)
    found = _reads(level, updates[-1].span, said(node)) if updates else []
    if node.op in ("read", "now") and found:
        words, clock = found[0].span.text().removesuffix("@after"), level.clock.name
        kept = f"{words}@{clock}" if clock in program.clocks else ""
        fix = tuple(
            Edit(piece.span, kept or f"mean({piece.span.text()} over period)") for piece in found
        )
        help_ = (
            f"`{kept}` is its value at this level's tick; a window: `mean({words} over period)`"
            if kept
            else f"a window: `mean({words} over period)`, or `sum`; `{words}@c` of a clock `c` "
            "that ticks as this level does is its value at the tick"
        )
        return _between_ticks(words, level, faster, found[0].span, help_, fix)
    if said(node) in program.vocab:
        return _between_ticks(
            said(node),
            level,
            faster,
            span,
            f"a window over what is made of `{said(node)}`, such as `mean(embed({said(node)}, [d]) "
            "over period)`",
        )
    fix = (
        (Edit(found[0].span, f"mean({said(node)} over period)"),) if len(found) == 1 else ()
    )  # of two, the window may be around both
    return _between_ticks(
        said(node),
        level,
        faster,
        span,
        f"a window: `mean({said(node)} over period)`, or `sum`",
        fix,
    )


def _reads(level: Level, equation: Span, words: str) -> list[Clause]:
    """The places at which an equation reads these words, outside windows and other instants."""
    return [
        clause
        for clause in level.said
        if (clause.word, clause.name) in (("read", words), ("member", words.removesuffix("@after")))
        and equation.start <= clause.span.start
        and clause.span.end <= equation.end
    ]


def _suspects(program: Program) -> Callable[[Level, Node], bool]:
    """Does a value faster than the level lie beneath its equation? Looked for once, its own
    memories not left out.
    """
    after = [memory.next for memory in program.memories.values() if memory.next is not None]
    own = {
        node: clock_of(program, node).pace
        for node in walk(*after)
        if not node.args and node.op not in ("tick", "ticks", "held")
    }
    pace = sorted({*own.values(), *(level.clock.pace for level in program.levels.values())})

    def mark(node: Node) -> int:
        return 1 << bisect_left(pace, own[node]) if node in own else 0

    at_steps, within = (
        beneath(after, mark, _within_a_tick(program, steps)) for steps in (True, False)
    )

    def suspect(level: Level, equation: Node) -> bool:
        bits = (at_steps if level.clock.unit == "step" else within)[equation]
        return bool(bits & ((1 << bisect_left(pace, level.clock.pace)) - 1))

    return suspect


def _within_a_tick(program: Program, steps: bool) -> Callable[[Node], Iterable[Node]]:
    """From a node to the nodes that it needs at the same tick; a stretch gathers what came before,
    at a step clock a stretch of steps alone.
    """

    def into(node: Node) -> Iterable[Node]:
        gathers = node.op in ("fold", "window") and (not steps or _gathers_a_step(program, node))
        return () if gathers else node.args

    return into


def _faster(program: Program, level: Level, after: Node) -> tuple[Node, set[str]] | None:
    """The fastest value that changes between this level's ticks, and the levels through whose
    objective the way to it leads.
    """
    family = {
        level.name,
        *(other.name for other in program.levels.values() if other.parent == level.name),
        level.parent,
    }
    into = _within_a_tick(program, level.clock.unit == "step")
    met, found = reach([after], into=into), []
    for node in met.nodes:
        if node.args or (
            node.op in ("read", "now", "plain") and program.memories[node["memory"]].level in family
        ):
            continue
        if node.op in ("tick", "ticks", "held") or _of_this_step(program, level, node):
            continue
        if clock_of(program, node).pace < level.clock.pace:
            found.append(node)
    if not found:
        return None
    node = min(
        found, key=lambda n: clock_of(program, n).pace
    )  # of equals the one that was met first
    return node, {
        program.memories[a["memory"]].level
        for a, b in pairwise(met.way(node))
        if a.op == "grad" and b is a.args[0]
    }


def _of_this_step(program: Program, level: Level, node: Node) -> bool:
    """Is it the value behind a tick of this very step?"""
    return node.op == "now" and level.clock.unit == "step" and program.slow(node["memory"])


def _gathers_a_step(program: Program, node: Node) -> bool:
    """Is a stretch one of steps, not of tokens?"""
    if node.op == "window":
        return False
    clock = (
        node["since"]
        if isinstance(node["since"], Clock)
        else program.root(program.levels[node["since"]]).clock
    )
    return not clock.inner


def reset_periods(program: Program) -> Iterator[Diagnostic]:
    """A reset comes at a tick of its level: its period is a multiple of the level's, on the same
    unit or a slower one.

    level recall every 16 token { .. reset every 100 token }                 # N305
    level recall every 16 token { .. reset every 96 token }
    """
    own = [(program.level(m.name), m.reset) for m in program.memories.values() if m.reset]
    for level, reset in [*((x, x.reset) for x in program.levels.values()), *own]:
        clock = level.clock
        if level.parent is not None or "never" in (reset.unit, clock.unit):
            continue
        if reset.unit == clock.unit and not (
            reset.period % clock.period or (reset.phase - clock.phase) % clock.period
        ):
            continue
        if reset.unit != clock.unit and reset.pace >= clock.pace:
            continue
        why, remedy = _misses(reset, clock)
        yield Diagnostic(
            "N305",
            why,
            place_of(level, "reset"),
            f"every {every(reset)}",
            (("ticks here", rate_of(level)),),
            remedy,
        )


def _misses(reset: Clock, clock: Clock) -> tuple[str, str]:
    """The reason why a reset is not at a tick of this clock, and a reset that is."""
    if reset.unit != clock.unit:
        return (
            f"a level that ticks every {every(clock)} cannot restart every {every(reset)}, "
            "which is more often",
            f"a multiple of {every(clock)}, or `reset never`",
        )
    if reset.period % clock.period:
        below = reset.period // clock.period * clock.period
        near = " or ".join(str(n) for n in (below, below + clock.period) if n)
        return f"{reset.period} is not a multiple of {clock.period}", f"{near} {clock.unit}"
    return (
        f"a reset with phase {reset.phase} falls between the ticks of period {clock.period} and "
        f"phase {clock.phase}",
        f"phase {clock.phase}",
    )


def cut_periods(program: Program) -> Iterator[Diagnostic]:
    """`bptt n c` cuts more often than the memory restarts, else it cuts nothing.

    level recall every token { .. reset every 64 token   bptt 128 token }    # N306
    level recall every token { .. reset every 64 token   bptt full }
    """
    for level in program.levels.values():
        for clause in level.bptt if level.parent is None else ():
            if isinstance(clause.depth, Clock) and clause.depth.pace > level.reset.pace:
                yield Diagnostic(
                    "N306",
                    f"the memory restarts every {every(level.reset)}, before the first cut after "
                    f"{every(clause.depth)}",
                    clause.span or head_of(level),
                    f"every {every(clause.depth)}",
                    help="`bptt full`: the restart ends every path anyway",
                )


def copy_periods(program: Program) -> Iterator[Diagnostic]:
    """A copy restarts with its memory: one that is taken no more often than that always holds the
    start.

    clock chunk = 64 step     y = recall.M@chunk * q  # N313: M lives in a sequence
    clock chunk = 64 token    y = recall.M@chunk * q
    """
    for node in walk(*program.roots()):
        if node.op != "held":
            continue
        level, taken = program.levels[program.memories[node["memory"]].level], node["clock"]
        reset = program.root(level).reset
        if reset.unit != taken.unit and "document" in (reset.unit, taken.unit):
            continue  # documents end anywhere in a sequence
        if reset.unit == taken.unit and (
            taken.period % max(1, reset.period)
            or (taken.phase - reset.phase) % max(1, reset.period)
        ):
            continue
        if reset.unit != "never" and taken.pace >= reset.pace:
            yield Diagnostic(
                "N313",
                f"`{said(node)}` is always the start: the memory restarts every {every(reset)}, "
                "the copy is taken every "
                f"{every(taken)}",
                node.span,
                "never anything else",
                help="a faster clock, or `reset never`",
                severity="warning",
            )


def counted_units(program: Program) -> Iterator[Diagnostic]:
    """The data must tick the units that the text counts in.

    input x: [d]   level recall every token { .. reset every document }  # N308: x has none
    input x: [d]      level recall every token { .. reset every sequence }
    """
    if not program.vocab:
        for place in _counting_documents(program):
            yield Diagnostic(
                "N308",
                "no data ticks `document`: text does, and the program reads none",
                place,
                "counts documents",
                help="`sequence`, or `input ids: index(256)`",
            )
    for level in program.levels.values():
        unit = level.clock.unit
        if (
            unit in ("token", "sequence")
            and not program.inputs
            and level.parent is None
            and (span := rate_of(level)) is not None
        ):
            yield Diagnostic(
                "N308",
                f"nothing ticks `{unit}`: the program has no `input`",
                span,
                f"counts {unit}s",
                help="`input x: [..]`, or the rate `step`",
            )


def _counting_documents(program: Program) -> Iterator[Span | None]:
    """The places at which a program counts documents: rates, resets, depths, then copies and
    stretches.
    """
    for level in program.levels.values():
        if level.clock.unit == "document":
            yield rate_of(level)
        if level.reset.unit == "document":
            yield place_of(level, "reset")
        for clause in level.bptt:
            if isinstance(clause.depth, Clock) and clause.depth.unit == "document":
                yield clause.span or head_of(level)
    for node in walk(*program.roots()):
        if any(clock.unit == "document" for clock in clocks_of(node)):
            yield node.span


def timetable_without_end(program: Program) -> Iterator[Diagnostic]:
    """Periods of the step clock repeat within any run: of levels and what they call, of their
    restarts, copies and stretches.

    level a every 997 step   level b every 1009 step   level c every 1013 step      # N312
    level a every 1000 step   level b every 2000 step   level c every 4000 step
    """
    steps = [x for x in program.levels.values() if x.clock.unit == "step"]
    if not steps:
        return
    every_clock = [clock for level in steps for clock in (level.clock, level.reset)]
    every_clock += [b.depth for x in steps for b in x.bptt if isinstance(b.depth, Clock)]
    every_clock += [clock for node in walk(*program.roots()) for clock in clocks_of(node)]
    periods = sorted({c.period for c in every_clock if c.unit == "step" and c.period})
    hyper = math.lcm(*periods)
    if hyper > LONGEST_HYPERPERIOD:
        slow = max(steps, key=lambda level: (level.parent is None, level.clock.period))
        said_periods = ", ".join(str(n) for n in periods)
        yield Diagnostic(
            "N312",
            f"the periods {said_periods} repeat only after {hyper} steps",
            rate_of(slow),
            f"every {every(slow.clock)}",
            help=f"periods of at most {LONGEST_HYPERPERIOD} steps that divide each other",
        )


def many_tick_kinds(program: Program) -> Iterator[Diagnostic]:
    """Periods that do not divide each other make many kinds of step, each of them compiled.

    level a every 2 step   level b every 3 step   level c every 5 step   .. 7 step  # N311: 16 kinds
    level a every 2 step   level b every 4 step   level c every 8 step   .. 8 step
    """
    slow = [
        level
        for level in program.levels.values()
        if level.clock.unit == "step" and level.clock.period > 0 and level.parent is None
    ]
    periods = sorted({level.clock.period for level in slow})
    hyper = math.lcm(*periods)
    odd = next((b for a, b in pairwise(periods) if b % a), None)
    if odd is None or hyper > LONGEST_HYPERPERIOD:
        return
    at = next(level for level in slow if level.clock.period == odd)
    count = len(tick_kinds([level.clock for level in slow], hyper))
    if count > MANY_KINDS:
        said_periods = ", ".join(str(n) for n in periods)
        instead = ", ".join(str(n) for n in harmonic(periods))
        yield Diagnostic(
            "N311",
            f"the periods {said_periods} make {count} kinds of step, each of them compiled",
            rate_of(at),
            f"every {every(at.clock)}",
            help=f"periods that divide each other: {instead}",
            severity="warning",
        )


def harmonic(periods: list[int]) -> list[int]:
    """Each period as the nearest multiple of the one before."""
    found: list[int] = []
    for period in periods:
        last = found[-1] if found else period
        found.append(max(last, round(period / last) * last))
    return found


def tick_kinds(clocks: Iterable[Clock], hyper: int) -> set[tuple[int, ...]]:
    """The sets of clocks that tick together, over a hyperperiod after the last phase.

    Few clocks tick often, so their ticks are listed.
    """
    clocks = list(clocks)
    start = max(clock.phase for clock in clocks)
    ticks: dict[int, set[int]] = {}
    for i, clock in enumerate(set(clocks)):
        for n in range(clock.phase + clock.period, start + hyper + 1, clock.period):
            ticks.setdefault(n, set()).add(i)
    return {tuple(sorted(found)) for found in ticks.values()} | (
        {()} if len(ticks) < start + hyper else set()
    )


def planned_ticks(program: Program) -> Iterator[Diagnostic]:
    """`ticks` is the number of ticks in the whole run, which is known of levels on the step clock.

    level m every token { .. M <- M - 0.1 * (1 - tick / ticks) * grad(M) }    # N310
    level m every token { .. M <- M - 0.1 / tick * grad(M) }
    """
    for node in walk(*program.roots()):
        if node.op == "ticks":
            level = program.root(program.levels[node["level"]])
            if level.clock.inner:
                yield Diagnostic(
                    "N310",
                    f"`ticks` is the length of the run in ticks; `{short(level.name)}` ticks "
                    "within a sequence",
                    node.span,
                    "not known",
                    (("its clock", rate_of(level)),),
                    "`tick` counts since the level's last reset",
                )
