"""STEP OF RANKS THAT HOLD A PART EACH -> what a rank holds of each level, and what is gathered.

For each micro-batch a rank gathers what its blocks read, a block at a time, in the forward pass and
again in the backward pass, and gives its gradient back in parts: the sums of a period are parted
after each step, so that nobody holds a whole one. At a tick it gathers the arrays that an update
reads as a whole.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from nldsl.core.program import Program
from nldsl.schedule.named import Bar, Copy, Fold, Total
from nldsl.step.emit import Emitted
from nldsl.step.flat import size
from nldsl.step.shards import groups
from nldsl.step.state import layout
from nldsl.step.updates import Root, Updates


@dataclass(frozen=True)
class Held:
    """Of one level, in bytes: what a rank holds between steps of the `whole`; what all ranks
    gather for each micro-batch, `again` in its backward pass at most, and give of a gradient; what
    they gather in the tick after each step of one turn of the timetable, in `messages` messages.
    """

    level: str
    held: int
    whole: int
    gathered: int
    again: int
    given: int
    ticks: tuple[int, ...]
    messages: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Gathered in the tick of a step."""
        return sum(self.ticks) / len(self.ticks)

    @property
    def often(self) -> float:
        """Messages in the tick of a step."""
        return sum(self.messages) / len(self.messages)


def held(updates: Updates, emitted: Emitted, entry: int) -> list[Held]:
    """Of each level of a step whose state is in parts, in numbers of `entry` bytes. The updates are
    emitted.
    """
    program, shards = updates.program, updates.shards
    own, whole = Counter[str](), Counter[str]()
    for state in updates.states.values():
        if str(state.name) in updates.divided:
            level = root_of(program, level_of(program, state.name))
            own[level] += entry * shards.size(state.type)
            whole[level] += entry * size(state.type)
    read, again, given = of_a_pass(updates, emitted)
    kinds = updates.clock.table.turn
    ticks = {kind: in_a_tick(updates, kind) for kind in set(kinds)}
    return [
        Held(
            level,
            own[level],
            whole[level],
            entry * read[level],
            entry * again[level],
            entry * given[level],
            tuple(entry * sum(ticks[kind].get(level, ())) for kind in kinds),
            tuple(len(ticks[kind].get(level, ())) for kind in kinds),
        )
        for level in whole
    ]


def level_of(program: Program, name: Root) -> str:
    """The level of a state."""
    if isinstance(name, Fold):
        return name.level
    if isinstance(name, Bar):
        return level_of(program, name.of)
    memory = name.memory if isinstance(name, Copy) else name
    memory = memory.input.memory if isinstance(memory, Total) else memory
    return program.memories[str(memory)].level


def root_of(program: Program, level: str) -> str:
    return program.root(program.levels[level]).name


def gathered(updates: Updates, emitted: Emitted) -> list[dict[str, list[int]]]:
    """The sizes of what a pass gathers, see `groups`."""
    sizes = {name: sizes for name, (*_, sizes) in layout(updates.program, updates.state).items()}
    return groups(emitted.reads, emitted.often, sizes)


def at_once(updates: Updates, emitted: Emitted) -> int:
    """Numbers of gathered arrays that a rank has at once, at most."""
    staying, *blocks = (sum(map(prod, group.values())) for group in gathered(updates, emitted))
    return staying + max(blocks, default=0)


def of_a_pass(
    updates: Updates, emitted: Emitted
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Numbers that a pass over a micro-batch gathers; that its backward pass gathers again, at
    most: for each stream all but what stays and the last block; that it gives of gradients: a
    stream gives all of what a block gathers if one of its learners is among it.
    """
    program, shards = updates.program, updates.shards
    places = layout(program, updates.state, shards)
    learners: dict[str, set[str]] = {}
    for heard in updates.clock.hears:
        learners.setdefault(heard.stream, set()).add(str(heard.memory))
    read, again, given = Counter[str](), Counter[str](), Counter[str]()
    found = gathered(updates, emitted)
    for i, names in enumerate(found):
        anew = len(learners) if 0 < i < len(found) - 1 else 0
        times = sum(any(places[name][0] in own for name in names) for own in learners.values())
        for name in names:
            owner, at, end, _ = places[name]
            level = root_of(program, program.memories[owner.split("@")[0]].level)
            read[level] += shards.count * (end - at)
            again[level] += anew * shards.count * (end - at)
            given[level] += times * shards.count * (end - at)
    return read, again, given


def in_a_tick(updates: Updates, kind: int) -> dict[str, list[int]]:
    """Numbers of each array that a tick gathers of each level."""
    texts = {text.partition("(")[0].removeprefix("def "): text for text in updates.texts}
    found: dict[str, list[int]] = {}
    for root, call in updates.calls[kind]:
        level = root_of(updates.program, level_of(updates.program, root))
        for text in (call, texts[call.partition("(")[0]]):
            found.setdefault(level, []).extend(map(updates.shards.filled, gathered_in(text)))
    return found


def gathered_in(text: str) -> Iterator[int]:
    """The numbers of each array that a text gathers."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "from_ranks":
            yield prod(ast.literal_eval(node.args[1]))
