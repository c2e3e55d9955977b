"""What a name was found to mean -> a line of text: type, instants at which it changes, owner."""

from __future__ import annotations

from collections.abc import Iterable

from nldsl.core.nodes import Node, Shape, Tree, Type, walk
from nldsl.core.program import READS, TOKEN, Clock
from nldsl.core.timing import OF_EVERY_TOKEN
from nldsl.editor.document import Document, Meaning
from nldsl.graph.levels import LevelInstance
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.values import (
    Absorb,
    Array,
    ClockValue,
    Definition,
    Expose,
    Eye,
    Family,
    Items,
    MemoryValue,
    Num,
    Row,
    kind_of,
    shape_text,
)
from nldsl.view.express import clock_text, numbers, type_text

MOST_ITEMS = 8


def type_of(meaning: Meaning) -> str:
    """`[head=4, e=64]`, `net of W1, W2`, `0.5`; nothing of what has no type."""
    match meaning:
        case Array(node, hidden, vocab):
            if vocab is not None:
                return f"index({vocab.text})"
            return type_text(node.type if isinstance(node.type, Tree) else node.type[len(hidden) :])
        case Row(array):
            return f"{type_of(array)}^T"
        case Eye():
            return "I"
        case Num(value):
            return f"{value:g}"
        case Items(items, None) if len(items) <= MOST_ITEMS:
            return f"[{', '.join(map(type_of, items))}]"
        case MemoryValue():
            shape = axes_read(meaning)
            return type_of(meaning.memory) if shape is None else type_text(shape)
        case MemoryInstance():
            kind = known_type(meaning)
            return "" if kind is None else type_text(kind)
    return ""


def known_type(memory: MemoryInstance) -> Type | None:
    """As one level's index sees it, where it could be worked out."""
    if memory.type.state != "done":
        return None
    kind = memory.type.value
    return kind.core if isinstance(kind.core, Tree) else kind.seen


def axes_of(value: Array | MemoryValue) -> str:
    """`[head, e]`: a type without its sizes."""
    if isinstance(value, MemoryValue):
        shape = axes_read(value)
        return type_of(value) if shape is None else shape_text(shape)
    if value.is_tree or value.vocab is not None:
        return type_of(value)
    return shape_text(value.seen)


def axes_read(value: MemoryValue) -> Shape | None:
    """The axes of a read of an array, or of one weight of a tree: those of `per` stand in front
    where the text sees them.
    """
    memory = value.memory
    kind, path = known_type(memory), value.path.replace("/", ".")
    hidden = memory.level.scope.hidden
    if isinstance(kind, Tree):
        own = kind.shape(path)[len(hidden) :] if path in kind.paths() else None
    else:
        own = kind
    if own is None:
        return None
    shown = [h for view in value.views if isinstance(view, Expose) for h in view.axes]
    names = {view.axis.axis for view in value.views if isinstance(view, Absorb)}
    return (*(h.axis for h in hidden if h in shown and h.axis not in names), *own)


def home(meaning: Meaning) -> str:
    """The level of a memory, by its qualified name; the level itself."""
    match meaning:
        case MemoryInstance(level=level) | MemoryValue(MemoryInstance(level=level)):
            return level.name
        case LevelInstance(name=name):
            return name
    return ""


def facts(meaning: Meaning, document: Document) -> list[str]:
    """When it changes, who owns it, how large it is."""
    match meaning:
        case Array(node) | Row(Array(node)):
            return of_node(node, document)
        case MemoryInstance():
            return of_memory(meaning)
        case MemoryValue(memory, at=at):
            read = "after this instant's tick" if at == "after" else ""
            read = f"as it stood at the last tick of `{at.name}`" if isinstance(at, Clock) else read
            return of_memory(memory) + ([f"read {read}"] if read else [])
        case LevelInstance():
            return of_level(meaning)
        case Family(name, members):
            return [f"`{name}[i]` for i in {', '.join(f'{i:g}' for i in members)}"]
        case ClockValue(clock):
            return [ticks(clock)]
        case Num():
            return ["a number known before the run"]
        case Items():
            return ["a list known before the run"]
        case Definition():
            return []  # its declaration says what it is
    return [kind_of(meaning)]


def of_node(node: Node, document: Document) -> list[str]:
    if node.op == "weight":
        known = document.program.weights.get(node["name"]) if document.program else None
        owner = [f"owned by `{known.owner}`"] if known is not None and known.owner else []
        return [f"the weight `{node['name']}`", *owner]
    return [changes(node, document)]


def of_memory(memory: MemoryInstance) -> list[str]:
    done = memory.type.state == "done"
    count = [f"{numbers(memory.type.value.core):,} numbers"] if done else []
    return [*of_level(memory.level), *count]


def of_level(level: LevelInstance) -> list[str]:
    found = [ticks(level.clock)]
    if level.clauses.state == "done" and level.clauses.value[0].unit != "never":
        found.append(f"back to its start every {clock_text(level.clauses.value[0])}")
    return found + ([f"one for each `{level.per.axis.name}`"] if level.per is not None else [])


def ticks(clock: Clock) -> str:
    if clock.unit == "never":
        return "never ticks"
    said = "" if clock.name in ("", clock_text(clock)) and clock.period == 1 else f" `{clock.name}`"
    plain = f"every {clock.period} {clock.unit}" if clock.period > 1 else f"every {clock.unit}"
    phase = f" phase {clock.phase}" if clock.phase else ""
    called = said if clock.name.isidentifier() and clock.name != clock.unit else ""
    return f"ticks {plain}{phase}{f', at{called}' if called else ''}; {frequency(clock)}"


def frequency(clock: Clock) -> str:
    return (
        f"frequency 1/{clock.period} per {clock.unit}"
        if clock.period > 1
        else (f"frequency 1 per {clock.unit}")
    )


def changes(node: Node, document: Document) -> str:
    """The instants at which a stream may have another value."""
    clocks = paces(node, memory_clocks(document))
    if not clocks:
        return "constant"
    if TOKEN in clocks:
        return "a value every token"
    inner = [clock for clock in clocks if clock.inner]
    said = sorted(inner or clocks, key=lambda clock: clock.pace)
    return f"changes every {' and '.join(clock_text(clock) for clock in said)}"


def memory_clocks(document: Document) -> dict[str, Clock]:
    """Of each memory, and of each level by its name."""
    levels = {
        id(level): level
        for level in levels_of(m for found in document.heard.values() for m in found)
    }
    clocks = {level.name: level.clock for level in levels.values()}
    return clocks | {
        memory.name: level.clock for level in levels.values() for memory in level.memories.values()
    }


def levels_of(meanings: Iterable[Meaning]) -> Iterable[LevelInstance]:
    for meaning in meanings:
        if isinstance(meaning, LevelInstance):
            yield meaning
        elif isinstance(meaning, MemoryValue):
            yield meaning.memory.level
        elif isinstance(meaning, MemoryInstance):
            yield meaning.level


def paces(root: Node, of: dict[str, Clock]) -> frozenset[Clock]:
    """The clocks of all that a stream reads, and of the sums that it takes since a tick."""
    found: dict[Node, frozenset[Clock]] = {}
    for node in walk(root):
        here = frozenset().union(*(found[arg] for arg in node.args))
        if node.op in OF_EVERY_TOKEN or node.op == "attend":
            here = frozenset({TOKEN})
        elif node.op in READS:
            clock = of.get(node["memory"].partition("#")[0])
            here = here if clock is None or clock.unit == "never" else frozenset({clock})
        elif node.op == "fold":
            since = node["since"]
            clock = since if isinstance(since, Clock) else of.get(since)
            here = here if clock is None else frozenset({clock})
        found[node] = here
    return found[root]
