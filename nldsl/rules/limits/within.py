"""Limits of what is learned within a sequence: stretches at a memory that moves, and memories that
learn from the loss of the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.core.flow import seen_by_learners
from nldsl.core.nodes import Node, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import ENDS, READS, STATE, TOKEN, Clock, Level
from nldsl.diagnostic import Diagnostic
from nldsl.rules.limits.facts import STRETCHES, Facts, is_number, starts_from, unbound
from nldsl.rules.limits.streams import refused
from nldsl.rules.words import head_of, place_of, short

# Stretches of terms


def terms_beside(facts: Facts) -> Iterator[Diagnostic]:
    """A stretch of terms in which two memories move."""
    for node, fold in _stretches(facts):
        others = [
            n
            for n in reach(fold.args, node["context"], unbound)
            if n.op == "plain" and n["memory"] != node["memory"]
        ]
        if others and not _once(facts, node, fold):
            yield refused(
                f"a stretch of terms in which `{short(others[0]['memory'])}` moves too",
                fold.span,
                "an objective, and a level, for each memory",
            )


def terms_of_a_document(facts: Facts) -> Iterator[Diagnostic]:
    """Terms since a document began, at a memory that has moved since."""
    for node, fold in _replayed(facts):
        if fold.op == "fold" and facts.program.since(fold["since"]).unit == ENDS:
            yield refused(
                "terms since a document began at a memory that has moved since",
                fold.span,
                "`over sequence`, or over the last n tokens",
            )


def terms_that_outlive(facts: Facts) -> Iterator[Diagnostic]:
    """Terms of a period that goes on in the next sequence, at a memory that moves within it."""
    for node, fold in _replayed(facts):
        since = fold["since"] if fold.op == "fold" else None
        if isinstance(since, str):
            level = facts.program.levels[since]
            if level.clock != TOKEN and level.reset.outlives:
                yield refused(
                    "terms of a period that goes on in the next sequence, at a memory that moves "
                    "within it",
                    fold.span,
                    "`grad` of the memory itself, as it is between its ticks, or `reset every "
                    "sequence`",
                )


def _stretches(facts: Facts) -> Iterator[tuple[Node, Node]]:
    """Each gradient of an inner objective, with the stretches of its terms that read a memory."""
    task = set(facts.task)
    for node in facts.of("grad"):
        if facts.on_token(node["memory"]) and node not in task:
            for fold in reach([node.args[0]], set(node["context"]), active):
                if fold.op in STRETCHES and any(
                    n.op == "plain" for n in reach(fold.args, node["context"], unbound)
                ):
                    yield node, fold


def _replayed(facts: Facts) -> Iterator[tuple[Node, Node]]:
    """Those whose terms are evaluated again at the memory of the tick."""
    for node, fold in _stretches(facts):
        if not _once(facts, node, fold):
            yield node, fold


def _once(facts: Facts, node: Node, fold: Node) -> bool:
    """Is the derivative of the stretch the stretch of the derivative?"""
    return fold.op == "fold" and _weighed(node.args[0], fold) and _still(facts, node, fold)


def _weighed(root: Node, fold: Node) -> bool:
    """Is the objective the stretch times a number, and what does not depend on it?"""
    on_way = {fold}
    for node in walk(root):
        if any(a in on_way for a in node.args):
            on_way.add(node)
            rest = [a for a in node.args if a not in on_way]
            if node.op in ("mul", "div"):
                if node.op == "div" and node.args[1] in on_way or not all(map(is_number, rest)):
                    return False
                if len(rest) == 0:
                    return False
            elif node.op not in ("add", "sub", "neg", "sum", "mean", "spread", "permute"):
                return False
    return True


def _still(facts: Facts, node: Node, fold: Node) -> bool:
    """Does the point of a gradient keep its value between the ticks that bound the stretch?"""
    level, point = facts.level(node["memory"]), node.args[1]
    if not any(n.op in (*STATE, "input", "weight") for n in walk(point)):
        return True
    if point.op == "held":
        return (
            fold["since"] == point["clock"]
            and _restarts_with(level.reset, point["clock"])
            or (fold["since"] == level.name and level.clock.period == 1)
        )
    return fold["since"] == level.name and point.op == "read" and not _cut_between_ticks(level)


def _restarts_with(reset: Clock, clock: Clock) -> bool:
    return (
        reset.unit in ("never", "sequence")
        or reset.unit == clock.unit
        and not reset.period % clock.period
        and not (reset.phase - clock.phase) % clock.period
    )


def _cut_between_ticks(level: Level) -> bool:
    cuts = [b.depth for b in level.bptt if isinstance(b.depth, Clock)]
    return any(
        c.period % level.clock.period or (c.phase - level.clock.phase) % level.clock.period
        for c in cuts
    )


# The loss of the whole network


def context_of_itself(facts: Facts) -> Iterator[Diagnostic]:
    """A stream in `context` that the memory took part in."""
    for node in facts.task:
        for part in reach([node.args[0]], set(node["context"])):
            if part in node["context"] and part.op != "input":
                if any(n.op == "read" and n["memory"] == node["memory"] for n in walk(part)):
                    yield refused(
                        f"a stream in `context` that `{short(node['memory'])}` took part in",
                        part.span,
                        "leave it out of `context`",
                    )


def task_at_documents(facts: Facts) -> Iterator[Diagnostic]:
    """A memory that learns from the loss of the whole network and starts anew where documents
    end.
    """
    for name in facts.family_of:
        if facts.level(name).reset.unit == ENDS:
            yield refused(
                "a memory that learns from the loss of the whole network and starts anew where "
                "documents end",
                place_of(facts.level(name), "reset"),
                "`reset every sequence`",
            )


def task_that_outlives(facts: Facts) -> Iterator[Diagnostic]:
    """A window of a task loss that goes on in the next sequence."""
    for name, family in facts.family_of.items():
        level = facts.program.levels[family]
        if facts.level(name).reset.outlives and level.clock != TOKEN:
            yield refused(
                "a window of a task loss that goes on in the next sequence",
                place_of(facts.level(name), "reset"),
                "reset every sequence",
            )


def task_starts(facts: Facts) -> Iterator[Diagnostic]:
    """A start of a memory that learns from the loss of the network from one that does not, or the
    other way round.
    """
    for name, memory in facts.within.items():
        for other in starts_from(memory):
            if not facts.on_token(other):
                continue
            mine, its = name in facts.family_of, other in facts.family_of
            if mine and not its:
                yield refused(
                    f"a start of `{short(name)}` from `{short(other)}`, which does not learn from "
                    "the loss of the network",
                    memory.span or head_of(facts.level(name)),
                    "an objective for both that reads the loss, or a learned start",
                )
            elif its and not mine and facts.level(name).reset.unit == "token":
                yield refused(
                    f"a start of `{short(name)}` from `{short(other)}`, which learns from the loss "
                    "of the network",
                    memory.span or head_of(facts.level(name)),
                    "an objective for both that reads `next`, or a learned start",
                )


def task_stretch(facts: Facts) -> Iterator[Diagnostic]:
    """A stretch of the gradient of a task loss since the tick of a clock."""
    made = facts.above({*facts.task, *facts.nudges})
    for node in facts.of("fold"):
        if isinstance(node["since"], Clock) and node.args[0] in made:
            yield refused(
                "a stretch of the gradient of a task loss since the tick of a clock",
                node.span,
                "over period",
            )


def task_read_outside(facts: Facts) -> Iterator[Diagnostic]:
    """An output that takes a derivative which only ticks of memories know."""
    made = facts.above({*facts.task, *facts.nudges})
    for root in facts.wanted:
        if root in made:
            yield refused(
                "a stream of the derivative of the loss of the network, which only ticks of "
                "memories know",
                root.span,
                "leave it to the update of a level",
            )


def task_at_tick(facts: Facts) -> Iterator[Diagnostic]:
    """What a memory that learns from the loss of the network is after its tick, told to a stream or
    to another level: the network is run between its ticks.
    """
    memories = facts.program.memories
    for family in facts.families:
        others = [
            after
            for name in facts.within
            if facts.family_of.get(name) != family and (after := memories[name].next) is not None
        ]
        for node in reach([*facts.wanted, *others]):
            if node.op == "now" and facts.family_of.get(node["memory"]) == family:
                yield refused(
                    f"`{short(node['memory'])}` at the tick of another level",
                    node.span,
                    "read it without `@after`",
                )


def task_sight(facts: Facts) -> Iterator[Diagnostic]:
    """A learner from the loss of the network that sees a part of the ticks of another, or what
    those of the step clock do not see.
    """
    program = facts.program
    for learner in {facts.level(n["memory"]).name: None for n in facts.task}:
        viewer = program.levels[learner]
        for name, family in facts.families.items():
            far = program.horizon(viewer, family)
            started = _started_by(facts, name, learner)
            if far == "full" and seen_by_learners(program, family) != "full":
                words, help = "", "`bptt full`"
                words = (
                    f"a level that differentiates through the updates of `{short(name)}`, as "
                    f"`{short(learner)}` does, where the step-clock levels do not"
                )
            elif far != "full" and started:
                words = (
                    f"`{short(started)}`, which starts from `{short(learner)}`, with `bptt` that "
                    "hides its ticks from there"
                )
                help = f"`bptt full by {short(learner)}`"
            elif far not in ("full", "none"):
                words = (
                    f"`bptt` that lets `{short(learner)}` see a part of the ticks of "
                    f"`{short(name)}`"
                )
                help = f"`bptt full by {short(learner)}`, or `none`"
            else:
                continue
            yield refused(words, place_of(family, "bptt"), help)


def _started_by(facts: Facts, family: str, learner: str) -> str | None:
    return next(
        (
            name
            for name, owner in facts.family_of.items()
            if owner == family
            for other in starts_from(facts.program.memories[name])
            if facts.family_of.get(other) == learner
        ),
        None,
    )


def task_beside(facts: Facts) -> Iterator[Diagnostic]:
    """Memories that are run between the ticks of those that learn from the loss of the network, and
    tick between them, are read after their tick, or are seen differently far.
    """
    fresh = {n["memory"] for n in facts.of("now")}
    for name in facts.late:
        level = facts.level(name)
        for family in facts.families.values():
            finding = _beside(facts, level, family, name in fresh)
            if finding is not None:
                yield finding


def _beside(facts: Facts, level: Level, family: Level, fresh: bool) -> Diagnostic | None:
    program, (a, b) = facts.program, (short(level.name), short(family.name))
    if program.slower(family, level):
        if program.horizon(family, level) != seen_by_learners(program, level):
            return refused(
                f"`{b}` sees less of the ticks of `{a}` than a step does",
                head_of(level),
                "one `bptt` for all learners",
            )
    elif (
        level.clock.period % family.clock.period
        or level.clock.phase % family.clock.period != family.clock.phase
    ):
        return refused(
            f"ticks of `{a}` between those of `{b}`, which is faster",
            head_of(level),
            f"a multiple of {family.clock.period} tokens",
        )
    elif fresh:
        return refused(
            f"a read after the tick of `{a}`, which `{b}` is too fast to see through",
            head_of(level),
            "read it without `@after`",
        )
    return None


def next_of_next(facts: Facts) -> Iterator[Diagnostic]:
    """`next` of `next`, or of what a memory made, beside a memory that learns from a loss within
    the sequence.
    """
    if not facts.families and not facts.late:
        return
    for node in facts.of("ahead"):
        if any(n.op == "ahead" for n in walk(node.args[0])):
            yield refused(
                "`next` of `next` beside a memory that learns from a loss within the sequence",
                node.span,
                "`next` once",
            )
        elif node.args[0] in facts.pieces:
            yield refused(
                "`next` of what a memory made that ticks by the gradient of a loss",
                node.span,
                "next of an input",
            )


def slope_of_a_past(facts: Facts) -> Iterator[Diagnostic]:
    """The derivative in a stream that a memory within the sequence takes part in, or that the loss
    is not computed from.
    """
    for node in facts.nudges:
        stream = node.args[1]
        if stream.op == "input" or stream.op in READS:
            yield refused(
                "the derivative in this stream",
                node.span,
                "a stream that the loss is computed from",
            )
        elif _within_recurrence(facts, stream):
            yield refused(
                "the derivative in a stream that a memory within the sequence takes part in",
                node.span,
                "a stream behind the memory",
            )


def _within_recurrence(facts: Facts, stream: Node) -> bool:
    above = facts.above([stream])
    below = {n["memory"] for n in walk(stream) if n.op in READS}
    return any(
        name in below and facts.program.memories[name].next in above
        for name in facts.within
        if name not in facts.family_of
    )
