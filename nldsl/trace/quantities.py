"""PROGRAM -> what is told of a memory at each token: of its state, and by equations of the program.

    norm         |M| after the tick, over all its numbers: every head, every weight
    change       |M after the tick - M before|
    objective    what its level minimizes, at the memory that the token found
    rate         what the gradient is multiplied by in the update
    retention    what the old memory is multiplied by
    momentum     what the old step is multiplied by, where the step is one of momentum

Several entries of one, as heads have, are told by their mean. A rate, a retention and a momentum
are told where they are numbers or gates; where a matrix stands in their place, they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

from nldsl.core.build import Builder, number
from nldsl.core.flow import reaches
from nldsl.core.nodes import Node, Tree, numel, walk
from nldsl.core.ops import OPS
from nldsl.core.program import READS, STATE, Level, Memory, Program
from nldsl.view.geometry import curved
from nldsl.view.retention import MEMORY, STEP, Term, Update, peeled

NORM, CHANGE, OBJECTIVE = "norm", "change", "objective"
RATE, RETENTION, MOMENTUM = "rate", "retention", "momentum"
QUANTITIES = (NORM, CHANGE, OBJECTIVE, RATE, RETENTION, MOMENTUM)
DERIVATIVES = ("grad", "grad_stream")  # of a loss of the network, which only ticks know
Quantities = dict[str, Node]  # in the order of QUANTITIES


def learning(program: Program) -> list[Memory]:
    """Those that a level of the token clock ticks, which no other calls, layer by layer as a token
    goes through them.
    """
    return [
        memory
        for memory in met(program)
        if memory.next is not None
        and (level := program.level(memory.name)).clock.unit == "token"
        and level.parent is None
    ]


def met(program: Program) -> list[Memory]:
    """All memories, each behind those that its own equations read; those that no stream meets
    last.
    """
    found: dict[str, Memory] = {}
    begun: set[str] = set()

    def visit(*roots: Node) -> None:
        for node in walk(*roots):
            if node.op in STATE and (name := node["memory"]) not in begun:
                begun.add(name)
                visit(*program.memories[name].equations)
                found[name] = program.memories[name]

    visit(*program.outputs.values())
    return [*found.values(), *(m for m in program.memories.values() if m.name not in found)]


def quantities(program: Program, memories: Sequence[Memory]) -> dict[str, Quantities]:
    """By memory, what the equations say: streams of one number a token."""
    al = Builder(OPS)
    gates, found = Gates(program, al), {}
    for memory in memories:
        told = {} if of_the_whole(program, memory) else objective(al, program.level(memory.name))
        told |= gates.of(memory.name)
        found[memory.name] = {
            what: node
            for what, node in told.items()
            if not any(part.op in DERIVATIVES for part in walk(node))
        }
    return found


def of_the_whole(program: Program, memory: Memory) -> bool:
    """Does it learn from the loss of the whole network? That is the cost of a token."""
    return any(
        node.op == "grad" and node["memory"] == memory.name and reaches(program, node)
        for node in walk(*memory.equations)
    )


def whole(al: Builder, x: Node) -> Node:
    return al.total(x, 0, ()) if isinstance(x.type, Tree) else al.sum(x, range(len(x.shape)))


def entries(x: Node) -> int:
    shapes = [shape for _, shape in x.type.leaves] if isinstance(x.type, Tree) else [x.shape]
    return sum(map(numel, shapes))


def mean(al: Builder, x: Node) -> Node:
    """Of all entries; those that are broadcast are alike."""
    x = unspread(x)
    return al.div(whole(al, x), al.const(entries(x)))


def objective(al: Builder, level: Level) -> Quantities:
    """The sum of what it minimizes, where memories have the values that the token finds."""
    seen: dict[Node, Node] = {}
    for node in walk(*level.objectives):
        if node.op == "plain":
            seen[node] = al.make("read", type=node.type, memory=node["memory"], span=node.span)
        elif any(seen[arg] is not arg for arg in node.args):
            seen[node] = al.remake(node, [seen[arg] for arg in node.args])
        else:
            seen[node] = node
    found = [mean(al, seen[one]) for one in level.objectives]
    return {OBJECTIVE: reduce(al.add, found)} if found else {}


class Gates:
    """What multiplies the parts of an update."""

    def __init__(self, program: Program, al: Builder) -> None:
        self.program, self.al = program, al

    def of(self, memory: str) -> Quantities:
        """Where parts of a memory move apart, the mean of the parts that have a number."""
        parts, found = [*self.parts(memory)], {}
        for what in (RATE, RETENTION, MOMENTUM):
            told = [mean(self.al, x) for part in parts if (x := part[what]) is not None]
            if distinct := [*dict.fromkeys(told)]:
                total = reduce(self.al.add, distinct)
                found[what] = self.al.div(total, self.al.const(len(distinct)))
        return found

    def parts(self, memory: str) -> Iterator[Mapping[str, Node | None]]:
        """Of each part, with all entries."""
        after = self.program.memories[memory].next
        assert after is not None, memory
        update = Update(self.program, memory)
        for node in after.args if after.op == "tree" else (after,):
            terms = plainly(update, node)
            kept = [term for term in terms if MEMORY in update.carries(term.kernel)]
            steps = [term for term in terms if STEP in update.carries(term.kernel)]
            rates = (
                self.rate(term) for term in sorted(steps, key=lambda t: kernel(t).op != "grad")
            )
            yield {
                RETENTION: self.retention(memory, kept),
                RATE: next((rate for rate in rates if rate is not None), None),
                MOMENTUM: self.momentum(steps),
            }

    def retention(self, memory: str, kept: Sequence[Term]) -> Node | None:
        """None if the old value is not read as it is."""
        if any((x := kernel(term)).op != "read" or x["memory"] != memory for term in kept):
            return None
        found = [self.coefficient(term) for term in kept]
        known = [x for x in found if x is not None]
        if len(known) < len(found) or not fitting(known):
            return None
        return reduce(self.al.add, known, self.al.const(0))

    def rate(self, term: Term) -> Node | None:
        """That of the gradient itself, of a step of momentum the rate within it, else what the step
        is multiplied by.
        """
        own, step = self.coefficient(term), kernel(term)
        if own is None or step.op == "grad":
            return own and self.al.neg(own)
        if step.op not in READS:
            return own
        inner = next(self.parts(step["memory"]))[RATE]
        return None if inner is None or not fitting([own, inner]) else self.al.mul(own, inner)

    def momentum(self, steps: Sequence[Term]) -> Node | None:
        """The retention of the one step that the update adds."""
        if len(steps) != 1 or (step := kernel(steps[0])).op not in READS:
            return None
        return next(self.parts(step["memory"]))[RETENTION]

    def coefficient(self, term: Term) -> Node | None:
        """sign * factors; None where they are matrices, or of several kinds."""
        al, over = self.al, (*term.left, *term.right)
        factors = [unspread(part.node) for part in (*over, *term.under)]
        if any(part.matrix for part in (*over, *term.under)) or not fitting(factors):
            return None
        above, under = factors[: len(over)], factors[len(over) :]
        return reduce(al.div, under, reduce(al.mul, above, al.const(term.sign)))


def kernel(term: Term) -> Node:
    return peeled(term.kernel)


def fitting(nodes: Sequence[Node]) -> bool:
    """Can they be multiplied entry by entry?"""
    return len({node.type for node in nodes if number(node) is None}) <= 1


def unspread(x: Node) -> Node:
    """Without the axes along which it is the same."""
    while x.op == "spread":
        x = x.args[0]
    return x


def plainly(update: Update, node: Node) -> list[Term]:
    """The terms of an update, within the constraint that it keeps; none where a term mixes the old
    value with the step.
    """
    terms = [*update.terms(node)]
    mixed = [term for term in terms if len(update.carries(term.kernel)) > 1]
    if len(terms) == 1 and mixed and (bent := curved(mixed[0].kernel)) is not None:
        return plainly(update, bent[0])
    return [] if mixed else terms
