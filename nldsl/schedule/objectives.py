"""`grad` -> equations: the derivative of an objective, at the value that the text names, as nodes
that a schedule can order.

grad(|plain(M)(k) - v|^2, P)                  2 einsum("hi,hj->hij", P(k) - v, k)
grad(sum of J over a stretch, held M)         the fold of grad(J), a memory like any other: M does
                                              not move within the stretch
grad(sum of J over a stretch, M)              replay(grad(J), M): its terms are evaluated again at
                                              the M of each instant
grad(loss of the whole network, M)            an input, which a run of the network fills (`Slope`)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from nldsl.core.build import Builder, number
from nldsl.core.flow import reaches
from nldsl.core.nodes import Node, walk
from nldsl.core.program import ENDS, STATE, TOKEN, Clock, Level, Program
from nldsl.schedule.differentiate import gradient
from nldsl.schedule.faults import NoDerivative

Value = Node | dict[str, Node]


@dataclass(frozen=True, eq=False)
class Slope:
    """The derivative of `objective`, summed over the window of `level`, that only a run of the
    network gives. `atoms`: memory cell, or the name of one of `streams`, -> the input that stands
    for it in equations. The window of streams is the present token.
    """

    objective: Node
    atoms: dict[str, Node]
    level: str
    streams: dict[str, Node]
    span: Node  # where the text asks for it

    @property
    def inputs(self) -> dict[str, str | Node]:
        """Name of each input -> the cell, or the stream, in which it is the derivative."""
        return {atom["name"]: self.streams.get(of, of) for of, atom in self.atoms.items()}


@dataclass(frozen=True, eq=False)
class Sum:
    """What a cell adds up: the terms since the tick of a level ("" if none), or of a clock."""

    term: Node
    level: str
    clock: Clock


class Objectives(ABC):
    """What `Cells` does with gradients; the array form of every argument is in `_done`."""

    program: Program
    al: Builder
    slopes: list[Slope]
    sums: dict[str, Sum]
    copies: dict[str, tuple[str, Clock]]
    waiting: dict[Node, Clock]
    _done: dict[Node, Value]

    def on_token(self, memory: str) -> bool:
        return self.program.levels[self.program.memories[memory].level].clock.unit == "token"

    @abstractmethod
    def _stretch(self, node: Node, term: Node, terms: Clock = TOKEN) -> Node:
        """What a fold since a tick becomes; `terms` is the clock at whose ticks it has one."""

    def _gradient(self, node: Node, objective: Node, point: Value) -> Value:
        memory = node["memory"]
        found = (self._done.get(c) for c in node["context"])
        context = frozenset(value for value in found if isinstance(value, Node))
        inside = [n for n in plains(objective) if self._belongs(n["memory"], memory)]
        if reaches(self.program, node):
            return self._task_gradient(node, objective, point, context)
        at = point if isinstance(point, dict) else {"": point}
        wrt, bind = [], {}
        for path, value in at.items():
            name = f"{memory}.{path}" if isinstance(point, dict) else memory
            atom = next((n for n in inside if n["memory"] == name), None) or self.al.make(
                "plain", type=value.type, memory=name
            )
            wrt.append(atom)
            bind[atom] = value
        slopes = self._slopes(node, objective, wrt, context, bind)
        return dict(zip(at, slopes)) if isinstance(point, dict) else slopes[0]

    def _task_gradient(
        self, node: Node, objective: Node, point: Value, context: frozenset[Node]
    ) -> Value:
        """Inputs that stand for the gradient.

        The plain reads in the objective see what the memory has held, as those outside do.
        """
        memory, at = node["memory"], point if isinstance(point, dict) else {"": point}
        names = {path: f"{memory}.{path}" if path else memory for path in at}
        assert self.on_token(memory), memory
        assert all(
            at[path].op == "read" and at[path]["memory"] == name for path, name in names.items()
        ), "rules, gradients_at_another_value"
        self._apart(memory, objective, context)
        plain = {
            n: self.al.make("read", type=n.type, memory=n["memory"])
            for n in plains(objective)
            if self._belongs(n["memory"], memory)
        }
        atoms = {
            name: self._slot(f"gradient {len(self.slopes) + 1} of {name}", at[path])
            for path, name in names.items()
        }
        level = self.program.memories[memory].level
        self.slopes.append(Slope(self.substitute(objective, plain), atoms, level, {}, node))
        return (
            {path: atoms[name] for path, name in names.items()}
            if isinstance(point, dict)
            else atoms[names[""]]
        )

    def _apart(self, memory: str, objective: Node, context: frozenset[Node]) -> None:
        """The memory takes part in no stream of the context."""
        held = {
            n
            for n in walk(objective)
            if n.op == "read"
            and n["memory"] not in self.copies
            and self._belongs(n["memory"], memory)
        }
        for part in walk(objective):
            assert not (
                part in context and part.op != "input" and any(n in held for n in walk(part))
            ), "limits, context_of_itself"

    def _error_signal(self, node: Node, objective: Node, stream: Value) -> Node:
        assert isinstance(stream, Node), "limits, slope_in_tree"
        try:
            return gradient(self.al, self._present(objective, stream), [stream])[0]
        except NoDerivative:  # through attention or a cross entropy: by a run of the network
            pass
        name = f"nudge {len(self.slopes) + 1}"
        self.slopes.append(
            Slope(
                objective,
                {name: self._slot(f"gradient of {name}", stream)},
                "",
                {name: stream},
                node,
            )
        )
        return self.slopes[-1].atoms[name]

    def _present(self, root: Node, stream: Node) -> Node:
        """Sums since a tick as what they were before this instant, and its term, which `stream`
        may be a part of.
        """
        bind = {stream: stream}
        for node in walk(root):
            if node.op == "now" and node["memory"] in self.sums:
                before = self.al.make("read", type=node.type, memory=node["memory"])
                term = self._present(self.sums[node["memory"]].term, stream)
                if any(part is stream for part in walk(term)):
                    bind[node] = self.al.add(before, term)
        return self.substitute(root, bind)

    def _slot(self, name: str, like: Node) -> Node:
        return self.al.make("input", type=like.type, name=name)

    def _slopes(
        self,
        node: Node,
        objective: Node,
        wrt: list[Node],
        context: frozenset[Node],
        bind: dict[Node, Node],
    ) -> list[Node]:
        """The derivative of a fold is the fold of the derivative, where the memory does not move
        within the stretch; else the terms of the stretch are evaluated again at the memory of this
        instant.
        """
        al = self.al
        folds = [f for f in walk(objective) if f.op in ("fold", "window") and plains(f.args[0])]
        found = gradient(al, objective, [*wrt, *folds], context)
        total = [self._bound(s, bind) for s in found[: len(wrt)]]
        for fold, bar in zip(folds, found[len(wrt) :]):
            if number(bar) == 0:
                continue
            scale = number(bar)
            seed = (
                al.const(1, fold.type)
                if scale is not None
                else al.make("plain", type=fold.type, memory="bar")
            )
            inner = gradient(al, al.mul(seed, fold.args[0]), wrt, context)
            once = fold.op == "fold" and scale is not None and self._still(node, fold)
            if not once:
                self._alone(fold, bind)
            for i, slope in enumerate(inner):
                if number(slope) != 0:
                    part = (
                        self._stretch(fold, self._bound(slope, bind), self.waiting[fold])
                        if once
                        else self._replay(fold, slope, bind | {seed: self._bound(bar, bind)})
                    )
                    total[i] = al.add(
                        total[i], part if scale is None else al.mul(al.const(scale), part)
                    )
        return total

    def _bound(self, root: Node, bind: dict[Node, Node]) -> Node:
        """The value of an expression of an objective, at the memories of this instant."""
        for fold in walk(root):
            if fold.op in ("fold", "window"):
                self._alone(fold, bind)
        bind = bind | {n: self._beside(n) for n in plains(root) if n not in bind}
        again = {
            f: self._replay(f, f.args[0], bind)
            for f in walk(root)
            if f.op in ("fold", "window") and plains(f.args[0])
        }
        return self.substitute(root, bind | again)

    def _alone(self, fold: Node, bind: Mapping[Node, Node]) -> None:
        """Terms that are evaluated again see the memory of this instant, and another memory as it
        was at theirs, which is not kept.
        """
        assert all(n in bind for n in plains(fold.args[0])), "limits, terms_beside"

    def _beside(self, plain: Node) -> Node:
        """Of a memory that learns beside the one whose gradient is taken: its value before the
        tick.
        """
        return self.al.make("read", type=plain.type, memory=plain["memory"])

    def _replay(self, fold: Node, term: Node, bind: dict[Node, Node]) -> Node:
        """The terms of a stretch, each of its own instant but for the memories, which are those of
        this one.
        """
        level, since = None, fold["length"] if fold.op == "window" else fold["since"]
        if isinstance(since, str):
            level = self.program.levels[since]
            since = level.clock
        fixed = {
            i: v for i, v in bind.items() if number(v) is not None
        }  # a memory that keeps nothing
        term = self.substitute(term, fixed) if fixed else term
        inner = plains(term)
        if not inner:
            return (
                self._stretch(fold, term, self.waiting[fold])
                if fold.op == "fold"
                else self.al.again(fold, [term], term.type)
            )
        self._gathered(fold, since, level)
        values = [bind[n] if n in bind else self._beside(n) for n in inner]
        return self.al.make(
            "replay",
            term,
            *values,
            type=term.type,
            span=fold.span,
            iteration=fold.iteration,
            how=fold["how"],
            since=since,
            names=tuple(n["memory"] for n in inner),
        )

    @staticmethod
    def _gathered(fold: Node, since: Clock | int, level: Level | None) -> None:
        """The terms that are evaluated again are those of one sequence."""
        assert not (isinstance(since, Clock) and since.unit == ENDS), "limits, terms_of_a_document"
        assert not (level is not None and since != TOKEN and level.reset.outlives), (
            "limits, terms_that_outlive"
        )

    def _still(self, node: Node, fold: Node) -> bool:
        """Does the point at which the gradient stands keep its value between the ticks that bound
        the fold?
        """
        level = self.program.memories[node["memory"]].level
        point = node.args[1]
        if not any(n.op in (*STATE, "input", "weight") for n in walk(point)):
            return fold.op == "fold"
        if point.op == "read" and point["memory"] in self.copies:
            _, clock = self.copies[point["memory"]]
            return (
                fold["since"] == clock
                and self._restarts_with(self.program.levels[level].reset, clock)
                or (fold["since"] == level and self.program.levels[level].clock.period == 1)
            )
        return (
            fold["since"] == level
            and point.op == "read"
            and not self._cut_between_ticks(self.program.levels[level])
        )

    @staticmethod
    def _restarts_with(reset: Clock, clock: Clock) -> bool:
        """Do copies that a clock takes restart only where it ticks, or with the sequence?"""
        return (
            reset.unit in ("never", "sequence")
            or reset.unit == clock.unit
            and not reset.period % clock.period
            and not (reset.phase - clock.phase) % clock.period
        )

    @staticmethod
    def _cut_between_ticks(level: Level) -> bool:
        """Does the memory become a constant for slower learners within a period? Then all terms
        stand at the constant.
        """
        cuts = [b.depth for b in level.bptt if isinstance(b.depth, Clock)]
        return any(
            c.period % level.clock.period or (c.phase - level.clock.phase) % level.clock.period
            for c in cuts
        )

    @staticmethod
    def _belongs(cell: str, memory: str) -> bool:
        return cell == memory or cell.startswith(memory + ".")

    def substitute(self, root: Node, bind: Mapping[Node, Node]) -> Node:
        done: dict[Node, Node] = {}
        for node in walk(root):
            if node in bind:
                done[node] = bind[node]
            elif any(done[a] is not a for a in node.args):
                args = [done[a] for a in node.args]
                if node.op == "replay":  # its memories have their values
                    args[0] = node.args[0]
                done[node] = self.al.remake(node, args)
                if node in self.waiting:
                    self.waiting[done[node]] = self.waiting[node]
            else:
                done[node] = node
        return done[root]


def plains(root: Node) -> list[Node]:
    """Reads of an objective that have no value yet; those within a replay have."""
    seen, stack, found = set(), [root], []
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            found += [node] if node.op == "plain" else []
            stack.extend(reversed(node.args[node.op == "replay" :]))
    return found
