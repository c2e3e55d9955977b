"""What the rules ask of a program: which values reach which, through time and through derivatives."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from nldsl.diagnostic import Diagnostic
from nldsl.graph.equations import Bptt, Clock, Level, Memory, Node, Program, walk

STATE = ("read", "now", "held", "plain")
UNITS = {"update": 0, "token": 1, "sequence": 2, "document": 3, "step": 4, "never": 5}
FLAT = ("stop", "sign", "floor", "le", "ge", "eq")              # derivative zero
SHAPE_ONLY = ("permute", "reshape", "spread", "leaf")
REORDERED = ("permute", "reshape")


def speed(clock: Clock) -> tuple[int, int]:
    """The faster the smaller; every period on `token` is shorter than every one on `step`."""
    return UNITS[clock.unit], clock.period


def roots(program: Program) -> list[Node]:
    """Everything that the program works out."""
    found = list(program.outputs.values())
    for memory in program.memories.values():
        found += [node for node in (memory.start, memory.next) if node is not None]
    return found


def equations(program: Program, level: Level) -> list[Node]:
    """What a level's memories become, those of the optimizers that it calls included."""
    return [memory.next for memory in program.memories.values()
            if memory.next is not None and level.name in (memory.level, program.levels[memory.level].parent)]


def first_of_each(findings: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """A def that is called many times is told once."""
    seen: set[object] = set()
    for finding in findings:
        key = (finding.code, finding.span) if finding.span else (finding.code, finding.message)
        if key not in seen:
            seen.add(key)
            yield finding


def in_every_instance(program: Program, judge: Callable[[Level], Iterable[Diagnostic] | None]) -> Iterator[Diagnostic]:
    """Findings that hold of a level's text wherever it is called: one call with a constant makes no fault of the library.

    The judge says None of an instance that tells nothing of the text.
    """
    instances: dict[object, list[Level]] = {}
    for level in program.levels.values():
        instances.setdefault(level.span or level.name, []).append(level)
    for levels in instances.values():
        told = [{(d.code, d.span): d for d in found} for level in levels if (found := judge(level)) is not None]
        for key, finding in told[0].items() if told else ():
            if all(key in other for other in told[1:]):
                yield finding


def reach(start: Iterable[Node], stop: Collection[int] = (), into: Callable[[Node], Iterable[Node]] | None = None) -> dict[int, Node | None]:
    """By id, the nodes met from `start` breadth first, each with the node that led to it. Those in `stop` are met and not passed."""
    into = into or (lambda node: node.args)
    came: dict[int, Node | None] = {}
    kept: list[Node] = []
    for node in start:
        if id(node) not in came:
            came[id(node)] = None
            kept.append(node)
    for node in kept:                                            # grows while it is read
        if id(node) in stop:
            continue
        for arg in into(node):
            if id(arg) not in came:
                came[id(arg)] = node
                kept.append(arg)
    return Met(came, kept)


class Met(dict):
    """The answer of `reach`: a table by id, and the nodes in the order in which they were met."""

    def __init__(self, came: dict[int, Node | None], nodes: list[Node]) -> None:
        super().__init__(came)
        self.nodes = nodes

    def way(self, to: Node) -> list[Node]:
        """The shortest way from a start to the node, both included."""
        path = [to]
        while (before := self[id(path[-1])]) is not None:
            path.append(before)
        return path[::-1]


def bare(node: Node) -> Node:
    """Without changes of the order of axes."""
    while node.op in REORDERED:
        node = node.args[0]
    return node


def constants_of(context: Iterable[Node]) -> set[int]:
    """Ids of the nodes that are data for a level: its context, the same streams with their axes in another order, a tree's leaves."""
    return {id(form) for node in context for part in (node, *(node.args if node.op == "tree" else ())) for form in (part, bare(part))}


def slopes(node: Node) -> tuple[Node, ...]:
    """The arguments in which the node has a derivative that is not zero everywhere."""
    if node.op in FLAT:
        return ()
    if node.op == "where":
        return node.args[1:]
    if node.op in ("gather", "cross_entropy"):
        return node.args[:1]
    return node.args


def depths(fast: Level, learner: Level) -> list[Bptt]:
    named = [b for b in fast.bptt if b.viewer == learner.name]
    return named or [b for b in fast.bptt if b.viewer is None]


def heard(program: Program, objective: Node, memory: Memory, context: Iterable[Node], passing: Callable[[Level], bool] | None = None) -> Met:
    """Every node with a path of derivatives from the objective, as the owner of `memory` sees it: through the updates of faster levels.

    `passing` says through the updates of which levels; without it, as their `bptt` says. A level that says nothing passes reads and
    not the weights it owns: those of `rest` are everywhere, and a slower learner that is to see through their ticks says so.
    """
    learner = program.levels[memory.level]

    def through(level: Level) -> bool:
        clauses = depths(level, learner)
        return not clauses or any(b.depth != "none" for b in clauses)

    passing = passing or through

    def into(node: Node) -> Iterable[Node]:
        other = memory_of(program, node)
        if other is None or other is memory:
            return slopes(node)
        level = program.levels[other.level]
        if speed(level.clock) >= speed(learner.clock):
            return ()
        open_ = any(b.depth != "none" for b in depths(level, learner)) if node.op == "weight" else passing(root_of(program, level))
        return [n for n in (other.next if open_ else None, other.start) if n is not None]

    return reach([objective], constants_of(context), into)


def root_of(program: Program, level: Level) -> Level:
    """The level that calls, for one that is called in an update."""
    while level.parent is not None and level.parent in program.levels:
        level = program.levels[level.parent]
    return level


def memory_of(program: Program, node: Node) -> Memory | None:
    """The memory that a read, or a weight, is the value of."""
    if node.op in ("read", "now", "held"):
        return program.memories[node["memory"]]
    return program.memories.get(program.weights[node["name"]].owner or "") if node.op == "weight" else None


def is_of(program: Program, node: Node, memory: Memory) -> bool:
    """Is the node a plain read of the memory? A start takes the newest value, and is one too."""
    if node.op in ("plain", "read"):
        return node["memory"] == memory.name
    if node.op == "now" and node["memory"] == memory.name:
        return any(n is node for other in program.memories.values() if other.start is not None for n in walk(other.start))
    return node.op == "weight" and program.weights[node["name"]].owner == memory.name


def gradients(program: Program) -> list[Node]:
    return [node for node in walk(*roots(program)) if node.op == "grad"]


def clock_of(program: Program, node: Node) -> Clock:
    """The clock of a leaf; `never` of a constant."""
    if node.op in STATE and node.op != "held":
        return program.levels[program.memories[node["memory"]].level].clock
    if node.op == "held_stream":
        return node["clock"]
    if node.op == "weight":
        owner = program.memories.get(program.weights[node["name"]].owner or "")
        return program.levels[owner.level].clock if owner else NEVER
    return Clock("token", 1) if node.op in ("input", "rope") else NEVER


NEVER = Clock("never", 0)
