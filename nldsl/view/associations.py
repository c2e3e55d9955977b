"""LEVELS AND LAYERS -> ASSOCIATIVE MEMORIES: which key each maps to which value (2512.24695v1, Def.
1).

minimize |M(k) - v|^2                   k -> v
minimize <m, g>                         g, without a value
minimize mean(loss over period)         ids -> next(ids)
attend(q, k -> v over sequence)         k -> v, all pairs kept: a memory without parameters (Eq. 62)
y = W x, W trained by a loss L          x -> dL/dy, the local error signal (Eqs. 7-13, 29-31)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from nldsl.core.nodes import Node, walk
from nldsl.core.program import READS, Clock, Level, Program
from nldsl.view.express import SILENT, called, clock_text, flows

REDUCES = ("sum", "mean", "total", "amax")
PASSING = (*REDUCES, *SILENT, "neg", "sqrt", "abs", "fold", "window", "stop", "leaf", "log", "exp")
ERROR = "dL/dy"  # of the loss in what the layer puts out
FIGURES = ("einsum", "conv", "gather", "mul", "div", "add", "sub", "attend")


@dataclass(frozen=True)
class Pair:
    """`value` is empty for a memory that has none: it keeps the keys themselves."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key} -> {self.value}" if self.value else f"{self.key} (no value)"


def associations(level: Level) -> list[Pair]:
    """The pairs that the objectives of a level ask it to map."""
    return list(
        dict.fromkeys(
            pair for objective in level.objectives for pair in Objective(level).pairs(objective)
        )
    )


def is_linear(level: Level, objective: Node) -> bool:
    """Is the objective a sum of products with the level's memories, each once?"""
    learns = Objective(level).learns

    def linear(node: Node) -> bool:
        learned = [arg for arg in node.args if arg in learns]
        if not learned:
            return _own(node, level)
        once = len(learned) == 1 and (node.op != "div" or learned[0] is node.args[0])
        allowed = node.op in (
            "add",
            "sub",
            "neg",
            "sum",
            "mean",
            "total",
            "leaf",
            "fold",
            "window",
            *SILENT,
        ) or (node.op in ("mul", "einsum", "div") and once)
        return allowed and all(map(linear, learned))

    return linear(objective)


def is_task(level: Level) -> bool:
    """Does the level meet its memories outside itself alone, by a loss of the whole model?"""
    return bool(level.objectives) and not any(_own(node, level) for node in walk(*level.objectives))


def _own(node: Node, level: Level) -> bool:
    return node.op == "plain" and node["memory"] in level.memories


def within(program: Program, roots: Iterable[Node], but: Collection[str]) -> Iterator[Node]:
    """Every equation that values depend on, the updates and starts of memories included, those of
    `but` left out.
    """
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(node.args)
        name = program.owner(node)
        memory = program.memories.get(name or "")
        if memory is not None and name not in but:
            stack.extend(part for part in (memory.next, memory.start) if part is not None)


class Objective:
    """One objective of a memory, as pairs of key and value."""

    def __init__(self, level: Level) -> None:
        self.names = flows(level)
        self.task = is_task(level)
        self.learns: set[Node] = (
            set()
        )  # what moves with the memory; of a loss, all that any memory or weight moves
        for node in walk(*level.objectives):
            if (
                _own(node, level)
                or (self.task and node.op in (*READS, "weight"))
                or any(arg in self.learns for arg in node.args)
            ):
                self.learns.add(node)

    def pairs(self, objective: Node) -> Iterator[Pair]:
        for output, value in self.outputs(objective, 1, reduced=False):
            keys = ", ".join(dict.fromkeys(self.names.values() if self.task else self.keys(output)))
            if not keys and output.op in ("plain", *SILENT, "leaf") and value.startswith("="):
                yield Pair(
                    value[1:], ""
                )  # an inner product with the memory itself: the keys are all it keeps
            else:
                yield Pair(keys or "1", value.removeprefix("="))

    def outputs(self, node: Node, sign: int, reduced: bool) -> Iterator[tuple[Node, str]]:
        """The outputs of the memory, each with its target; "=" before a value that stands in an
        inner product.
        """
        op, args = node.op, node.args
        learned = [arg for arg in args if arg in self.learns]
        if node not in self.learns:
            return
        if op in PASSING or (op == "pow" and args[1].op == "const"):
            yield from self.outputs(
                args[0], -sign if op == "neg" else sign, reduced or (op in REDUCES)
            )
        elif op == "where":
            for arg in args[1:]:
                yield from self.outputs(arg, sign, reduced)
        elif op == "cross_entropy":
            yield args[0], self.text(args[1])
        elif op in ("add", "sub") and len(learned) == 2:
            yield from self.outputs(args[0], sign, reduced)
            yield from self.outputs(args[1], -sign if op == "sub" else sign, reduced)
        elif op in ("add", "sub") and not reduced:
            yield from self.outputs(learned[0], sign, reduced)
        elif op in ("add", "sub"):
            other = self.text(next(arg for arg in args if arg is not learned[0]))
            yield learned[0], negated(other) if op == "add" else other
        elif op in ("mul", "div") and len(set(learned)) == 1:
            factor = next((arg for arg in args if arg is not learned[0]), None)
            if (
                factor is None
                or op == "div"
                or not reduced
                or gate(factor)
                or learned[0].op in (*REDUCES, "abs", "pow", "fold", "window")
            ):
                yield from self.outputs(learned[0], sign, reduced)
            else:
                kept = sign < 0 or learned[0].op in ("plain", "leaf")
                text = self.text(factor)
                yield learned[0], "=" + (text if kept else negated(text))
        else:
            yield node, ""

    def keys(self, output: Node) -> Iterator[str]:
        """The largest parts of an output that do not move with the memory."""
        seen: set[Node] = set()
        stack = [output]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self.learns:  # a condition chooses, and is not a key
                stack.extend(reversed(node.args[1:] if node.op == "where" else node.args))
            elif not constant(node):
                yield self.text(node)

    def text(self, node: Node) -> str:
        while node.op in SILENT and node not in self.names:
            node = node.args[0]
        return called(node, 32, self.names)


def gate(node: Node) -> bool:
    """A number, or one spread over the axes of the value that it weighs."""
    return (
        node.type == ()
        or (node.op == "spread" and len(node.args[0].shape) < len(node.shape))
        or constant(node)
    )


def constant(node: Node) -> bool:
    return all(part.args or part.op in ("const", "eye") for part in walk(node))


def negated(text: str) -> str:
    return (
        text[1:]
        if text.startswith("-")
        else f"-({text})"
        if " + " in text or " - " in text
        else f"-{text}"
    )


# ---- attention


@dataclass(frozen=True)
class Attention:
    """A memory that keeps its pairs and has no parameters: the weighted regression of Nadaraya and
    Watson, solved anew at each read.
    """

    node: Node
    pairs: tuple[Pair, ...]
    window: str
    query: str


def attentions(program: Program, nodes: Iterable[Node]) -> list[Attention]:
    found = []
    for node in nodes:
        if node.op == "attend":
            texts = [called(arg, 32) for arg in node.args]
            pairs = tuple(Pair(texts[i], texts[i + 1]) for i in range(1, len(texts), 2))
            windows = dict.fromkeys(stretch(span) for _, _, span in node["groups"])
            found.append(Attention(node, pairs, ", ".join(windows), texts[0]))
    return found


def stretch(span: object) -> str:
    """The pairs that are kept."""
    match span:
        case None:
            return "always the same pairs"
        case ("last", length):
            return f"the last {length} tokens"
        case (_, Clock() as clock):
            return (
                f"since the {clock.unit} began"
                if clock.unit in ("sequence", "document")
                else f"since the last {clock_text(clock)}"
            )
    return "since the last tick"


# ---- layers


@dataclass(frozen=True)
class Layer:
    """One weight of a level at one place where it is used: it maps `key` to the local error signal
    there.
    """

    weight: str
    figure: str  # the operator that applies it
    key: str
    iteration: tuple[str, ...]


def layers(program: Program, level: Level, nodes: list[Node]) -> list[Layer]:
    """Every weight of a level's memories with its input."""
    own = set(level.memories)
    forward = set(within(program, level.objectives, own))
    carried: dict[Node, str] = {}  # nodes that are a weight, its axes moved
    found: dict[tuple[str, str, str], Layer] = {}
    for node in nodes:
        if node not in forward:
            continue
        path = _weight(program, node, own)
        if path is None and node.op in (*SILENT, "leaf", "stop"):
            path = carried.get(node.args[0])
            if path is not None and node.op == "leaf":
                path = f"{path}.{node['path']}"
        if path is not None:
            carried[node] = path
            continue
        for i, arg in enumerate(node.args):
            if arg in carried and node.op in FIGURES:
                layer = Layer(carried[arg], node.op, _key(node, i), node.iteration)
                found.setdefault((layer.weight, layer.figure, layer.key), layer)
    return list(found.values())


def _weight(program: Program, node: Node, own: set[str]) -> str | None:
    if node.op == "weight" and program.owner(node) in own:
        return str(node["name"])
    if node.op == "read" and node["memory"] in own:
        return str(node["memory"])
    return None


def _key(node: Node, place: int) -> str:
    if node.op in ("add", "sub") or node.op == "attend":
        return "1"  # a bias, or a pair that is always there
    key = node.args[1 - place]
    while key.op in SILENT:
        key = key.args[0]
    return called(key, 24)
