"""Reads the retention and the step of an update off its equation: `M <- f(a M - b g)`.

dE/dM is the *retention*, -dE/dg the *step size*, f the *geometry* (2504.13173v1, secs. 3 and 5.2):
the four-choice row of a memory, derived instead of declared.

    M <- (1 - forget) * M - rate * grad(M)
        retention 1 - forget, step rate grad(M), Euclidean
    W <- softmax(keep * log(W) - rate * grad(W))
        retention keep log(W), the same step, sums to 1 along `e`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from nldsl.core.nodes import Node, Tree
from nldsl.core.program import READS, STATE, Program
from nldsl.graph.quadratic import quadratic
from nldsl.view.express import NONE, SILENT, Names, called, flows, last, outer
from nldsl.view.geometry import curved

EUCLIDEAN = "Euclidean"
MEMORY, STEP = "memory", "step"  # what a part of an update carries
MOST = 16  # terms of an update that are told apart
ROOM = 48  # characters of one term


@dataclass(frozen=True)
class Rule:
    """`retention` is empty where nothing of the old value is left, `step` where nothing is
    added.
    """

    retention: str
    step: str
    geometry: str
    size: str = ""  # what the gradient is multiplied by, where the step is that alone
    whole: str = ""  # the retention with what the gradient itself takes from the old value


@dataclass(frozen=True)
class Factor:
    """Multiplies entry by entry, or as a `matrix`; it may stand `turned`, transposed."""

    node: Node
    matrix: bool = False
    turned: bool = False

    def text(self, names: Names) -> str:
        return factor(self.node, names) + ("^T" if self.turned else "")


@dataclass(frozen=True)
class Term:
    """sign * factors * kernel; factors stand left or right of the kernel, or divide."""

    sign: int
    left: tuple[Factor, ...]
    right: tuple[Factor, ...]
    under: tuple[Factor, ...]
    kernel: Node

    def around(self, kernel: str, names: Names) -> str:
        """The factors in their places, and a text in that of the kernel."""
        left, right, under = (
            [part.text(names) for part in parts] for parts in (self.left, self.right, self.under)
        )
        over = " ".join((*left, *([kernel] if kernel else []), *right))
        return (over or "1") + "".join(f" / {text}" for text in under)

    def signed(self, names: Names) -> tuple[int, str]:
        """Sign and text; a sign of the kernel comes to the front."""
        sign, kernel = self.sign, called(self.kernel, ROOM, names)
        named = (
            (self.kernel.name or self.kernel.op == "tree")
            and self.kernel not in names
            and not kernel.startswith("f(")
        )
        if named and (states := states_of(self.kernel)):
            kernel = f"{kernel}({', '.join(states)})"
        if kernel.startswith("-") and self.kernel.op not in ("add", "sub"):
            sign, kernel = -sign, kernel[1:]
        if (
            self.kernel.op in ("add", "sub")
            and not self.kernel.name
            and (self.left or self.right or self.under)
        ):
            kernel = f"({kernel})"
        return sign, self.around(kernel, names)


class Update:
    """The next value of one memory, taken apart."""

    def __init__(self, program: Program, memory: str) -> None:
        self.program = program
        self.memory = program.memories[memory]
        self.level = self.memory.level
        self.names = flows(program.levels[self.level])
        self.carried: dict[Node, frozenset[str]] = {}
        self.plainly: dict[Node, bool] = {}

    def rules(self) -> dict[str, Rule]:
        """By part of the memory; "" where all parts move alike."""
        after = self.memory.next
        if after is None:
            return {}
        if not isinstance(after.type, Tree) or after.op != "tree":
            return {"": self.rule(after)}
        parts = {
            last(path): self.rule(arg)
            for path, arg in zip(after.type.paths(), after.args, strict=True)
        }
        alike = {(r.retention, r.geometry) for r in parts.values()}
        return {"": next(iter(parts.values()))} if len(alike) == 1 and len(parts) > 4 else parts

    def rule(self, node: Node) -> Rule:
        found = list(islice(self.terms(node), MOST + 1))
        if len(found) > MOST:
            return Rule("by the equation", "by the equation", "by the equation")
        mixed = [term for term in found if len(self.carries(term.kernel)) > 1]
        if not mixed:
            kept, size = (
                joined(self.kept(t) for t in found if MEMORY in self.carries(t.kernel)),
                self.size(found),
            )
            return Rule(
                kept,
                joined(t.signed(self.names) for t in found if MEMORY not in self.carries(t.kernel)),
                EUCLIDEAN,
                size,
                self.whole(kept, size, found) if kept and size else "",
            )
        if len(found) == 1 and (bent := curved(mixed[0].kernel)) is not None:
            inside = self.rule(bent[0])
            return Rule(
                inside.retention,
                inside.step,
                bent[1] if inside.geometry == EUCLIDEAN else f"{bent[1]}; {inside.geometry}",
                inside.size,
            )
        return Rule("by the equation", called(node), "by the equation")

    def size(self, terms: list[Term]) -> str:
        """-dE/dg where the gradient itself is added."""
        sizes = [
            (-t.sign, t.around("", self.names)) for t in terms if peeled(t.kernel).op == "grad"
        ]
        return (
            joined(sizes)
            if sizes
            and all(
                peeled(t.kernel).op == "grad" or MEMORY in self.carries(t.kernel) for t in terms
            )
            else ""
        )

    def whole(self, kept: str, size: str, terms: list[Term]) -> str:
        """dE/dM with the gradient's own part, of an objective quadratic in M and a gradient at the
        present M: alpha (I - beta k k^T).
        """
        slopes = [peeled(t.kernel) for t in terms if peeled(t.kernel).op == "grad"]
        if (
            len(slopes) != 1
            or (curve := quadratic(slopes[0].args[0], self.memory.name)) is None
            or curve.stretch
        ):
            return ""
        at = list(self.terms(slopes[0].args[1]))
        if any(peeled(t.kernel).op != "read" for t in at):
            return ""
        place = joined(self.kept(t) for t in at)
        if place not in ("1", kept):
            return ""
        pull = times(2 * curve.factor, size)
        if curve.key is None:
            return difference(kept if place == "1" else "1", pull, "" if place == "1" else kept)
        key = factor(curve.key, self.names)
        square = (
            f"{key}^T {key}" if curve.several and curve.key.op == "permute" else f"{key} {key}^T"
        )
        pull = square if pull == "1" else f"{pull} {square}"
        if place == "1":
            return f"{'' if kept == '1' else kept + ' '}I - {pull}"
        return f"{kept} (I - {pull})"

    def kept(self, term: Term) -> tuple[int, str]:
        """The sign of a term and the factor of the old value; of a value that is not read as it is,
        the whole term.
        """
        kernel = peeled(term.kernel)
        return (
            (term.sign, term.around("", self.names))
            if kernel.op == "read" and kernel["memory"] == self.memory.name
            else term.signed(self.names)
        )

    def carries(self, node: Node) -> frozenset[str]:
        """Does a value depend on memories of the level, on its gradients and optimizers? Not looked
        for inside a gradient.
        """
        stack = [node]
        while stack:
            part = stack[-1]
            if part in self.carried:
                stack.pop()
            elif part.op == "grad":
                self.carried[part] = frozenset((STEP,))
            elif part.op in STATE:
                owner = self.program.levels[self.program.memories[part["memory"]].level]
                kind = (
                    MEMORY
                    if owner.name == self.level and part.op == "read"
                    else STEP
                    if owner.parent == self.level
                    else None
                )
                self.carried[part] = frozenset((kind,) if kind else ())
            elif missing := [arg for arg in part.args if arg not in self.carried]:
                stack.extend(missing)
            else:
                self.carried[part] = frozenset().union(*(self.carried[arg] for arg in part.args))
        return self.carried[node]

    def terms(
        self,
        node: Node,
        sign: int = 1,
        left: tuple[Factor, ...] = (),
        right: tuple[Factor, ...] = (),
        under: tuple[Factor, ...] = (),
    ) -> Iterator[Term]:
        """The sum that a node is, as far as it is linear in the values that it carries."""
        op, args = node.op, node.args
        if not self.carries(node):
            yield Term(sign, left, right, under, node)
        elif op in ("add", "sub") and (MEMORY in self.carries(node) or self.plain(node)):
            yield from self.terms(args[0], sign, left, right, under)
            yield from self.terms(args[1], -sign if op == "sub" else sign, left, right, under)
        elif op == "neg":
            yield from self.terms(args[0], -sign, left, right, under)
        elif op in (*SILENT, "leaf", "stop"):
            yield from self.terms(args[0], sign, left, right, under)
        elif op in ("mul", "einsum") and not self.carries(args[0]):
            own = Factor(args[0], matrix=op == "einsum")
            yield from self.terms(args[1], sign, (*left, own), right, under)
        elif op == "einsum" and not self.carries(args[1]):
            own = Factor(args[1], matrix=True, turned=outer(node["eq"]))
            yield from self.terms(args[0], sign, left, (*right, own), under)
        elif op == "mul" and not self.carries(args[1]):
            yield from self.terms(args[0], sign, (*left, Factor(args[1])), right, under)
        elif op == "div" and not self.carries(args[1]):
            yield from self.terms(args[0], sign, left, right, (*under, Factor(args[1])))
        else:
            yield Term(sign, left, right, under, node)

    def plain(self, node: Node) -> bool:
        """A sum of gradients and optimizers' states with factors, which says more term by term than
        as one function of them.
        """
        if node not in self.plainly:
            self.plainly[node] = self._plain(node)
        return self.plainly[node]

    def _plain(self, node: Node) -> bool:
        if node.op in ("add", "sub"):
            return all(map(self.plain, node.args))
        if node.op in ("neg", "div", "stop", "leaf", *SILENT):
            return self.plain(node.args[0])
        if node.op in ("mul", "einsum"):
            return any(
                self.carries(a) and self.plain(a) and not self.carries(b)
                for a, b in (node.args, node.args[::-1])
            )
        return node.op == "grad" or node.op in READS or not self.carries(node)


def rules(program: Program, memory: str) -> dict[str, Rule]:
    return Update(program, memory).rules()


def states_of(node: Node) -> list[str]:
    """The memories that a value is a function of."""
    found: dict[str, None] = {}
    seen: set[Node] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if part not in seen and part.op != "grad":
            seen.add(part)
            found |= {last(part["memory"]): None} if part.op in READS else {}
            stack.extend(part.args)
    return list(found)


def peeled(node: Node) -> Node:
    while node.op in (*SILENT, "leaf", "stop"):
        node = node.args[0]
    return node


def times(number: float, text: str) -> str:
    if is_number(text):
        return f"{number * float(text):.6g}"
    return text if number == 1 else f"{number:g} {text}"


def difference(a: str, b: str, outside: str) -> str:
    inside = f"{float(a) - float(b):.6g}" if is_number(a) and is_number(b) else f"{a} - {b}"
    return f"{outside} ({inside})" if outside else inside


def is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def factor(node: Node, names: Names = NONE) -> str:
    text = called(node, ROOM, names)
    inner = node
    while inner.op in SILENT:
        inner = inner.args[0]
    return (
        f"({text})"
        if inner.op in ("add", "sub", "neg") and (not inner.name or text.startswith("-"))
        else text
    )


def joined(terms: Iterable[tuple[int, str]]) -> str:
    out = ""
    for sign, text in dict.fromkeys(terms):
        out += (" - " if sign < 0 else " + ") + text if out else ("-" if sign < 0 else "") + text
    return (
        out
        if not (out.startswith("(") and out.endswith(")") and out.count("(") == 1)
        else out[1:-1]
    )
