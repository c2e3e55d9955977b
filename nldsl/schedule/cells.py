"""Core equations -> array equations: trees become their leaves, inner gradients become their
derivatives.

    recall.M : tree(W2, W1)            recall.M.W2, recall.M.W1 : two cells
    held(recall.M, chunk)              read(recall.M.W2@chunk), ..: copies are states too
    grad(|plain(M)(k) - v|^2, P)       2 einsum("hi,hj->hij", .., k), ...

A *cell* is one array of one memory. Everything the forward pass of a step needs is expressed over
cells, inputs and weights; the equations of step-clock levels (optimizers) keep their trees and are
not touched here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nldsl.core.build import Builder
from nldsl.core.flow import learners_through, seen_by_learners, takes
from nldsl.core.nodes import Node, Shape, Tree, walk
from nldsl.core.ops import OPS
from nldsl.core.program import (
    ENDS,
    NEVER,
    READS,
    SEQUENCE,
    STATE,
    TOKEN,
    Clock,
    Level,
    Program,
)
from nldsl.core.timing import ValidFrom, first_tick, sample_clocks
from nldsl.schedule import instant
from nldsl.schedule.objectives import Objectives, Slope, Sum, Value, plains
from nldsl.schedule.products import product
from nldsl.schedule.timetable import spoken


@dataclass
class Cell:
    """One array memory on the token clock while its equations are gathered.

    `next` is its value after a tick of `clock`; between ticks it is held. `memory`: the one of the
    text of which it is a leaf, none of sums and counts.
    """

    name: str
    type: Shape
    level: str
    clock: Clock
    reset: Clock
    start: Node
    next: Node
    memory: str = ""
    first: int = 0  # the first token at which it may tick: before, nothing has a value for it
    kept: int = 0  # resets before this token are skipped, with the tick that they come after
    life: Clock = SEQUENCE  # what ends it: `never`, or so many sequences

    @property
    def restarts(self) -> list[Clock]:
        """The clocks at whose ticks it starts anew, all but those of a lane's first sequence."""
        life = self.life if self.life.outlives else SEQUENCE
        return [c for c in dict.fromkeys((self.reset, life)) if c != NEVER]


class Cells(Objectives):
    """Rewrites nodes of a program into array form, and collects the cells that they reach."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.al = Builder(OPS, product)
        self.cells: dict[str, Cell] = {}
        self.copies: dict[
            str, tuple[str, Clock]
        ] = {}  # name of a copy -> cell, and when it is made
        self._done: dict[Node, Value] = {}
        self._folds: dict[tuple[Node, str, Clock, int, Clock], Node] = {}
        self.horizons: dict[str, str | Clock | None] = {}  # by level, what `sight` says
        self.waiting: dict[Node, Clock] = {}  # folds kept as they are -> the clock of their terms
        self.valid_from = ValidFrom()
        self.slopes: list[Slope] = []
        self.sums: dict[str, Sum] = {}

    def array(self, node: Node) -> Node:
        """The array form of a node that is not a tree, with every cell it reaches registered."""
        value = self.value(node)
        assert isinstance(value, Node)
        pending = [value, *(c.next for c in self.cells.values() if c.next is not None)]
        while pending:
            pending += [
                x for slope in self.slopes for x in (slope.objective, *slope.streams.values())
            ]
            for part in walk(*pending):
                if part.op in STATE and self.source(part["memory"]) not in self.cells:
                    self._register(self.source(part["memory"]), part.shape)
            known = [c for c in self.cells.values() if c.next is None]
            pending = []
            for cell in known:
                self._fill(cell)
                pending += [cell.next, cell.start]
            if known:
                pending += [c.next for c in self.cells.values()]
        return value

    def value(self, node: Node) -> Value:
        for part in walk(node):
            if part not in self._done:
                self.al.span, self.al.iteration = part.span, part.iteration
                self._done[part] = self._rewrite(part)
                if part.name:
                    self.al.called(self._done[part], part.name)
        return self._done[node]

    # -- memories

    def _atom(self, node: Node, path: str | None, shape: Shape) -> Node:
        memory = self.program.memories[node["memory"]]
        unit = self.program.levels[memory.level].clock.unit
        assert unit not in ("sequence", ENDS), "limits, rare_ticks"
        if node.op != "plain" and not self.on_token(memory.name):
            held = node.op == "held" and node["clock"].unit == "step"
            assert held or node.op == "read", "limits, fresh_step_value"
            whole = memory.name if node.op == "read" else f"{memory.name}@{spoken(node['clock'])}"
            slot = (
                memory.slots[path or ""]
                if memory.slots is not None and node.op == "read"
                else whole
                if path is None
                else f"{whole}.{path}"
            )
            return self.al.make("weight", type=shape, name=slot)
        name = memory.name if path is None else f"{memory.name}.{path}"
        op = node.op
        if op == "held":
            copy = f"{name}@{node['clock'].name or spoken(node['clock'])}"
            op, name, _ = "read", copy, self.copies.setdefault(copy, (name, node["clock"]))
        return self.al.make(op, type=shape, span=node.span, iteration=node.iteration, memory=name)

    def source(self, name: str) -> str:
        """The cell whose value a read is, now or as it was."""
        return self.copies[name][0] if name in self.copies else name

    def held(self) -> dict[str, tuple[Cell, Clock]]:
        """The copies: of what, and when. What only a term took that came out as 0 is no copy."""
        return {
            name: (self.cells[source], clock)
            for name, (source, clock) in self.copies.items()
            if source in self.cells
        }

    def _register(self, name: str, type: Shape) -> None:
        owner = next(
            (
                m
                for m in self.program.memories.values()
                if name == m.name
                or (
                    isinstance(m.type, Tree)
                    and name.startswith(m.name + ".")
                    and name[len(m.name) + 1 :] in m.type.paths()
                )
            ),
            None,
        )
        assert owner is not None, name
        if not self.on_token(owner.name):
            return
        level = self.program.levels[owner.level]
        assert level.reset.unit in ("sequence", "token", "never", ENDS), "limits, reset_by_steps"
        assert owner.reset is None, "limits, restart_apart"
        if level.reset.outlives:
            self._seen_within_a_step(level)
        self.cells[name] = Cell(
            name,
            type,
            level.name,
            level.clock,
            level.reset,
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            owner.name,
            life=level.reset,
        )

    def _seen_within_a_step(self, level: Level) -> None:
        """What a lane carries into a step is a constant there: right for learners that tick at
        every step and so see no further back.
        """
        for learner in learners_through(self.program, level):
            far = self.program.horizon(learner, level)
            assert learner.clock == Clock("step", 1) or far == "none", "limits, seen_over_steps"

    def _fill(self, cell: Cell) -> None:
        memory = self.program.memories[cell.memory]
        path = None if cell.name == memory.name else cell.name[len(memory.name) + 1 :]
        assert memory.start is not None and memory.next is not None, memory.name
        start, after = self.value(memory.start), self.value(memory.next)
        cell.start = self._as_leaf(start, path, cell.type)
        cell.first = self.first_tick(cell.level)
        cell.next = self._as_leaf(after, path, cell.type)
        assert not (
            cell.reset.unit in ("token", ENDS) and any(n.op == "random" for n in walk(cell.start))
        ), "limits, drawn_within"
        level = self.program.levels[cell.level]
        for node in takes(cell.start):
            self._starts_from(cell, node)
        if cell.level not in self.horizons:
            self.horizons[cell.level] = seen_by_learners(self.program, level)
        far = self.horizons[cell.level]
        assert far is not None, "limits, sight_apart"
        assert not (isinstance(far, Clock) and far.unit == ENDS), "limits, sight_to_document"

    def _starts_from(self, cell: Cell, node: Node) -> None:
        """A start from another memory of the token clock is taken after the ticks of its
        instant.
        """
        name = self.source(node["memory"])
        other = next(m for m in self.program.memories.values() if self._belongs(name, m.name))
        lives = cell.reset, self.program.levels[other.level].reset
        assert not any(life.outlives for life in lives), "limits, start_that_outlives"

    def first_tick(self, name: str) -> int:
        """The first token at which a level may tick: where what it learns from has a term."""
        level = self.program.levels.get(name)
        first = first_tick(self.program, self.valid_from, level)
        if level is not None:  # limits/streams.py, late_objectives
            assert len({self.valid_from(o) for o in level.objectives}) <= 1, name
            assert not first or level.reset.unit not in ("token", ENDS), name
        return first

    def _as_leaf(self, value: Value, path: str | None, shape: Shape) -> Node:
        node = value[path or ""] if isinstance(value, dict) else value
        return node if node.type == shape else self.al.scale_to(node, self.al.const(0, shape))

    # -- nodes

    def _rewrite(self, node: Node) -> Value:
        args = [self._done[a] for a in node.args]
        if node.op in REWRITTEN:
            return REWRITTEN[node.op](self, node, args)
        if isinstance(node.type, Tree):
            return self._leaf_by_leaf(node, node.type, args)
        assert not (node.op == "held_stream" and node["clock"].unit == ENDS), (
            "limits, copy_at_document"
        )
        assert not (
            node.op == "attend"
            and any(
                span is not None and isinstance(span[1], Clock) and span[1].unit == ENDS
                for _, _, span in node["groups"]
            )
        ), "limits, attention_since_document"
        return self.al.remake(node, [array(a) for a in args])

    def _read(self, node: Node, args: list[Value]) -> Value:
        if isinstance(node.type, Tree):
            return {path: self._atom(node, path, shape) for path, shape in node.type.leaves}
        return self._atom(node, None, node.type)

    def _leaf(self, node: Node, args: list[Value]) -> Value:
        (tree,) = args
        assert isinstance(tree, dict)
        return tree[node["path"]]

    def _tree(self, node: Node, args: list[Value]) -> Value:
        return dict(zip(node.tree.paths(), map(array, args), strict=True))

    def _total_of_leaves(self, node: Node, args: list[Value]) -> Value:
        parts = leaves(args[0]).values()
        first, *others = (self.al.sum(x, range(node["keep"], len(x.shape))) for x in parts)
        for part in others:
            first = self.al.add(first, part)
        return first

    def _fold(self, node: Node, args: list[Value]) -> Value:
        """A stretch of each leaf."""
        terms = self._terms_of(node)
        return self._each(args[0], lambda x: self._stretch(node, x, terms))

    def _window(self, node: Node, args: list[Value]) -> Value:
        self._terms_of(node)
        return self._same(node, args)

    def _same(self, node: Node, args: list[Value]) -> Value:
        """The operator of each leaf."""
        return self._each(args[0], lambda x: self.al.again(node, [x], x.type))

    @staticmethod
    def _each(value: Value, of: Callable[[Node], Node]) -> Value:
        return {path: of(x) for path, x in value.items()} if isinstance(value, dict) else of(value)

    def _leaf_by_leaf(self, node: Node, tree: Tree, args: list[Value]) -> Value:
        al = self.al
        assert OPS[node.op].elementwise or node.op in ("random", "load"), node.op
        if not args:
            name = node["name"]
            return {p: al.again(node, (), shape, name=f"{name}.{p}") for p, shape in tree.leaves}
        made = {}
        for path, shape in tree.leaves:
            parts = [a[path] if isinstance(a, dict) else a for a in args]
            full = [
                p if p.type in ((), shape) else al.spread(p, shape, range(len(p.shape)))
                for p in parts
            ]
            if all(p.type == () for p in full):
                full[0] = al.spread(full[0], shape, ())
            made[path] = al.apply(node.op, *full)
        return made

    def _terms_of(self, stretch: Node) -> Clock:
        """The clock of the terms, one of which at least stands in each stretch."""
        clocks = sample_clocks(self.program, stretch.args[0])
        terms = next(iter(clocks))
        since = dict(stretch.attrs).get("since")
        own = self.program.levels[since].clock if isinstance(since, str) else TOKEN
        assert not (
            len(clocks) > 1
            or terms != TOKEN
            and (own.period % terms.period or (own.phase - terms.phase) % terms.period)
        ), "limits, stretch_between_ticks"
        return terms

    def _stretch(self, node: Node, term: Node, terms: Clock = TOKEN) -> Node:
        """A fold since a tick is a memory: it adds each term and restarts after the tick.

        Kept as it is while it waits for a gradient.
        """
        al = self.al
        if plains(term):
            fold = al.again(node, [term], term.type)
            self.waiting[fold] = terms
            return fold
        since = node["since"]
        level = since if isinstance(since, str) else ""
        clock = self.program.levels[since].clock if isinstance(since, str) else since
        assert clock.unit in ("token", "sequence", ENDS), "limits, stretch_of_steps"
        first = self.valid_from(term)

        def total(of: Node) -> Node:
            kept = self._total(of, level, clock, first, terms)
            # nothing is shown before the first term, whose count may be 0
            return al.apply("max", kept, of) if first and of is not term else kept

        return instant.over_stretch(al, node["how"], term, total)

    def _total(self, term: Node, level: str, clock: Clock, first: int, terms: Clock) -> Node:
        key = (term, level, clock, first, terms)
        if key not in self._folds:
            name = f"{level}.fold.".lstrip(".") + str(
                1 + sum(other[1] == level for other in self._folds)
            )
            life = self.program.levels[level].reset if level else SEQUENCE
            reset = clock if clock.unit in ("token", ENDS) else NEVER
            self._folds[key] = self.al.make("now", type=term.type, memory=name)
            self.valid_from.mark(self._folds[key], first)
            self.sums[name] = Sum(term, level, clock)
            self.cells[name] = Cell(
                name,
                term.shape,
                level,
                terms,
                reset,
                self.al.const(0, term.type),
                instant.grown(self.al, name, term),
                first=first,
                kept=self.first_tick(level),
                life=life,
            )
        return self._folds[key]

    def _count(self, node: Node) -> Node:
        """The ticks of a level since its reset are a memory that each of its ticks moves by one."""
        level, name = self.program.levels[node["level"]], f"tick.{node['level']}"
        assert level.clock.unit == "token", "limits, rare_ticks"
        if name not in self.cells:
            self.cells[name] = Cell(
                name,
                (),
                level.name,
                level.clock,
                level.reset,
                self.al.const(0),
                instant.grown(self.al, name, self.al.const(1)),
                first=self.first_tick(level.name),
                life=level.reset,
            )
        count = self.al.make("now", type=(), memory=name)
        if self.cells[name].first or (level.clock.period, level.clock.phase) != (1, 0):
            # before the first tick a rule may divide by it, in a branch that is not taken
            return self.al.apply("max", count, self.al.const(1))
        return count


def array(value: Value) -> Node:
    """A value that is not a tree."""
    assert isinstance(value, Node)
    return value


def leaves(value: Value) -> dict[str, Node]:
    """By path; of an array, itself."""
    return value if isinstance(value, dict) else {"": value}


REWRITTEN: dict[str, Callable[[Cells, Node, list[Value]], Value]] = {
    **dict.fromkeys(READS, Cells._read),
    "leaf": Cells._leaf,
    "tree": Cells._tree,
    "total": Cells._total_of_leaves,
    "grad": lambda cells, node, args: cells._gradient(node, array(args[0]), args[1]),
    "grad_stream": lambda cells, node, args: cells._error_signal(node, array(args[0]), args[1]),
    "tick": lambda cells, node, args: cells._count(node),
    "fold": Cells._fold,
    "window": Cells._window,
    "ahead": Cells._same,
    "stop": Cells._same,
}
