"""Limits of what is computed within a sequence."""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.core.flow import learners_through, seen_by_learners
from nldsl.core.nodes import Node, Tree, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import ENDS, STATE, TOKEN, Clock, Level
from nldsl.core.timing import LOOKS_BACK, ValidFrom, sample_clocks_of
from nldsl.diagnostic import Diagnostic
from nldsl.rules.limits.facts import STRETCHES, Facts, starts_from, without_slope
from nldsl.rules.words import head_of, place_of, said, short
from nldsl.source import Span


def refused(words: str, span: Span | None, help: str = "") -> Diagnostic:
    return Diagnostic("N801", f"this compiler cannot lower {words}", span, help=help)


def no_equations(gradient: Node, offender: Node) -> Diagnostic:
    return Diagnostic(
        "N505",
        f"the gradient in `{short(gradient['memory'])}` leads through `{offender.op}`, whose "
        "derivative has no equations",
        offender.span or gradient.span,
        "in the objective of an inner level",
        (("the gradient", gradient.span),),
        f"`{offender.op}` of what `{short(gradient['memory'])}` has no part in, or `stop(..)`",
    )


def rare_ticks(facts: Facts) -> Iterator[Diagnostic]:
    """A level that ticks once a sequence or once a document."""
    for level in facts.program.levels.values():
        if level.memories and (unit := level.clock.unit) in ("sequence", ENDS):
            yield refused(
                f"a level that ticks every {unit}",
                level.rate or head_of(level),
                f"a level every token with `reset every {unit}`, or one `every step`",
            )


def fresh_step_value(facts: Facts) -> Iterator[Diagnostic]:
    """A stream that reads a memory of the step clock otherwise than as it was held."""
    for node in facts.of("now", "held"):
        if facts.program.slow(node["memory"]) and (
            node.op == "now" or node["clock"].unit != "step"
        ):
            yield refused(
                f"`{said(node)}` within a step: it ticks once a step, and there its held value is "
                "read",
                node.span,
                "read it without `@`",
            )


def reset_by_steps(facts: Facts) -> Iterator[Diagnostic]:
    """A memory of the token clock that restarts with the steps."""
    for level in _levels_within(facts):
        if level.reset.unit not in ("sequence", "token", "never", ENDS):
            yield refused(
                f"`reset every {level.reset.period} {level.reset.unit}` of a memory on the token "
                "clock",
                place_of(level, "reset"),
                "`reset every sequence`, every n of them, or `reset never`",
            )


def _levels_within(facts: Facts) -> list[Level]:
    names = dict.fromkeys(m.level for m in facts.within.values())
    return [facts.program.levels[name] for name in names]


def seen_over_steps(facts: Facts) -> Iterator[Diagnostic]:
    """A memory that outlives a sequence, seen through by a learner that ticks less than every step.

    What a lane carries into a step is a constant there.
    """
    for level in _levels_within(facts):
        if not level.reset.outlives:
            continue
        rare = [x for x in facts.learners if x.clock != Clock("step", 1)]
        if all(facts.program.horizon(x, level) == "none" for x in rare):
            continue
        for learner in learners_through(facts.program, level):
            far = facts.program.horizon(learner, level)
            if learner.clock != Clock("step", 1) and far != "none":
                yield refused(
                    f"a memory that outlives a sequence, seen by `{short(learner.name)}` through "
                    "more than one step",
                    place_of(level, "reset"),
                    f"`bptt none`, or `bptt none by {short(learner.name)}`",
                )


def drawn_within(facts: Facts) -> Iterator[Diagnostic]:
    """A start that is drawn anew within a sequence."""
    for memory in facts.within.values():
        level = facts.program.levels[memory.level]
        if level.reset.unit in ("token", ENDS) and memory.start is not None:
            if drawn := next((n for n in walk(memory.start) if n.op == "random"), None):
                yield refused(
                    "a start drawn anew within a sequence",
                    drawn.span or memory.span,
                    "a learned start",
                )


def sight_apart(facts: Facts) -> Iterator[Diagnostic]:
    """A `bptt` that differs between the learners of the step clock that have a way through it."""
    for level in _levels_within(facts):
        told_apart = any(b.viewer for b in facts.program.root(level).bptt)
        if told_apart and seen_by_learners(facts.program, level) is None:
            yield refused(
                "a `bptt` that differs between learners of the step clock",
                place_of(level, "bptt"),
                "one `bptt` for all whose weights reach these updates, or `stop(..)` on the way",
            )


def sight_to_document(facts: Facts) -> Iterator[Diagnostic]:
    """A `bptt` that ends where documents do."""
    for level in _levels_within(facts):
        cuts = [b.depth for b in facts.program.root(level).bptt if isinstance(b.depth, Clock)]
        if any(c.unit == ENDS for c in cuts) and seen_by_learners(facts.program, level) in cuts:
            yield refused(
                "`bptt` to the end of a document",
                place_of(level, "bptt"),
                "`bptt full`, if the memory starts anew there",
            )


def start_that_outlives(facts: Facts) -> Iterator[Diagnostic]:
    """A start from another memory of the token clock, one of which outlives a sequence."""
    for memory in facts.within.values():
        level = facts.program.levels[memory.level]
        others = [n for n in starts_from(memory) if facts.on_token(n)]
        if any(x.reset.outlives for x in (level, *map(facts.level, others)) if others):
            yield refused(
                "a start from a memory, of which one outlives a sequence",
                place_of(level, "reset"),
                "`reset every sequence` in both levels",
            )


def late_objectives(facts: Facts) -> Iterator[Diagnostic]:
    """Objectives of one level that begin to have terms at different tokens, and a reset within the
    sequence of a level whose first ticks are skipped.
    """
    valid_from, levels = ValidFrom(), _levels_within(facts)
    learned = walk(*(x for level in levels for x in level.objectives))
    held = [*facts.of("held_stream"), *(n for n in learned if n.op == "held_stream")]
    if not held or any(map(_ended, held)):
        return  # every stream has a value from the first token on
    valid_from.note(*(x for level in levels for x in level.objectives))
    for level in levels:
        firsts = {valid_from(objective) for objective in level.objectives}
        if len(firsts) > 1:
            yield refused(
                "objectives of one level that begin to have terms at different tokens",
                head_of(level),
                "two levels",
            )
        elif level.reset.unit in ("token", ENDS) and _first(facts, level, valid_from):
            yield refused(
                "a reset within the sequence of a level whose first ticks are skipped",
                head_of(level),
                "`reset every sequence`",
            )


def _first(facts: Facts, level: Level, valid_from: ValidFrom) -> int:
    parent = facts.program.levels.get(level.parent or "")
    above = _first(facts, parent, valid_from) if parent else 0
    return max([above, *(valid_from(x) for x in level.objectives)])


def _ended(node: Node) -> bool:
    return node.op == "held_stream" and node["clock"].unit != "token"


def copy_at_document(facts: Facts) -> Iterator[Diagnostic]:
    """A stream as it was where a document ended."""
    for node in facts.of("held_stream"):
        if _ended(node):
            yield refused(
                f"a stream as it was at the last {node['clock'].unit}",
                node.span,
                "a memory that is read there",
            )


def attention_since_document(facts: Facts) -> Iterator[Diagnostic]:
    """Attention to the pairs since a document began."""
    for node in facts.of("attend"):
        spans = [span[1] for _, _, span in node["groups"] if span is not None]
        if any(isinstance(span, Clock) and span.unit == ENDS for span in spans):
            yield refused(
                "attention since a document began",
                node.span,
                "`over sequence`, or over the last n tokens",
            )


def stretch_between_ticks(facts: Facts) -> Iterator[Diagnostic]:
    """A window over a value that changes only when a level ticks, where some windows would contain
    no tick.
    """
    stretches = list(facts.of("fold", "window"))
    found = sample_clocks_of(facts.program, [n.args[0] for n in stretches])
    for node in stretches:
        clocks = found[node.args[0]]
        terms = next(iter(clocks))
        since = node["since"] if node.op == "fold" else TOKEN
        own = facts.program.since(since) if isinstance(since, str) else TOKEN
        if len(clocks) > 1 or (
            terms != TOKEN
            and (own.period % terms.period or (own.phase - terms.phase) % terms.period)
        ):
            yield refused(
                "a window over a value that changes only when a level ticks; some windows would "
                "contain no tick",
                node.span,
                "something of each token in it, or the memory itself, read without a stretch",
            )


def stretch_of_steps(facts: Facts) -> Iterator[Diagnostic]:
    """A stretch within a sequence since a tick of the step clock."""
    for node in facts.of("fold"):
        if facts.program.since(node["since"]).unit not in ("token", "sequence", ENDS):
            yield refused(
                "a stretch since a tick of the step clock, at each token of a sequence",
                node.span,
                "`over sequence`",
            )


def slope_in_tree(facts: Facts) -> Iterator[Diagnostic]:
    """The derivative of a stream in the weights of a network."""
    for node in facts.of("grad_stream"):
        if isinstance(node.type, Tree):
            yield refused(
                "the derivative in a tree", node.span, "the derivative in what the network gives"
            )


def slope_without_equation(facts: Facts) -> Iterator[Diagnostic]:
    """The gradient of an objective through an operator that has no transposed derivative."""
    task = set(facts.task)
    for node in facts.of("grad"):
        if facts.on_token(node["memory"]) and node not in task:
            yield from _no_slope(node)


def _no_slope(node: Node) -> Iterator[Diagnostic]:
    def wrt(n: Node) -> bool:
        return n.op == "plain" and n["memory"] == node["memory"]

    roots = [node.args[0]]
    for root_ in roots:  # grows by the terms of stretches
        for n in reach([root_], node["context"], active):
            if n.op in STRETCHES and n.args[0] not in roots:
                roots.append(n.args[0])
        found = without_slope(root_, wrt, node["context"])
        if found is not None and found.op not in STRETCHES:
            yield no_equations(node, found)
            return


def ahead_in_time(facts: Facts) -> Iterator[Diagnostic]:
    """An operator that looks back, of what comes one token later."""
    if facts.families or facts.late:
        return
    late = facts.above(list(facts.of("ahead")))
    for node in facts.of(*LOOKS_BACK):
        if node in late:
            yield refused(
                f"`{node.op}` of something one token ahead",
                node.span,
                "of what is known at this token",
            )


def report_that_outlives(facts: Facts) -> Iterator[Diagnostic]:
    """A memory that outlives a sequence and is read by what is reported alone."""
    report = facts.program.outputs.get("report")
    learned_from = [n for n in facts.wanted if n is not report]
    if report is None or not learned_from:
        return
    into = facts._through
    reads = {n["memory"] for n in reach(learned_from, into=into) if n.op in STATE}
    for node in reach([report], into=into):
        if node.op in STATE and facts.on_token(node["memory"]):
            if node["memory"] not in reads and facts.level(node["memory"]).reset.outlives:
                yield refused(
                    f"`{short(node['memory'])}`, which outlives a sequence, read by what is "
                    "reported alone",
                    node.span or head_of(facts.level(node["memory"])),
                    "read it in the loss too",
                )
