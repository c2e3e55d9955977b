"""Core equations -> array equations: trees become their leaves, inner gradients become their
derivatives.

    recall.M : tree(W2, W1)            recall.M.W2, recall.M.W1 : two cells
    grad(|plain(M)(k) - v|^2, P)       2 einsum("hi,hj->hij", .., k), ...

A *cell* is one array of one memory. Everything the forward pass of a step needs is expressed over
cells, inputs and weights; the equations of step-clock levels (optimizers) keep their trees and are
not touched here.
"""

from __future__ import annotations

from dataclasses import dataclass

from nldsl.core.build import Builder
from nldsl.core.flow import learners_through, seen_by_learners, takes
from nldsl.core.nodes import Node, Shape, Tree, walk
from nldsl.core.ops import OPS
from nldsl.core.program import ENDS, NEVER, READS, STATE, TOKEN, Clock, Level, Program
from nldsl.core.timing import ValidFrom, sample_clocks
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.objectives import Objectives, Slope, Value, plains
from nldsl.schedule.timetable import outlives, spoken


@dataclass
class Cell:
    """One array memory on the token clock.

    `next` is its value after a tick of `clock`; between ticks it is held.
    """

    name: str
    shape: Shape
    level: str
    clock: Clock
    reset: Clock
    start: Node
    next: Node
    cut: Clock | None = None  # slower learners see no further back than the last tick of this clock
    first: int = (
        0  # it does not move before this token of a sequence: what it learns from has no value yet
    )
    kept: int = 0  # resets before this token are skipped, with the tick that they come after
    life: Clock = Clock(
        "sequence", 1
    )  # what ends it: `never`, or so many sequences, and it goes on in its lane's next sequence

    @property
    def lasts(self) -> bool:
        return outlives(self.life)

    @property
    def ends(self) -> Clock | None:
        """The documents after which it starts anew, if it does."""
        return next((clock for clock in (self.reset, self.life) if clock.unit == ENDS), None)


class Cells(Objectives):
    """Rewrites nodes of a program into array form, and collects the cells that they reach."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.al = Builder(OPS)
        self.cells: dict[str, Cell] = {}
        self.between: dict[str, Cell] = {}  # those that tick between runs of the network, not in it
        self._done: dict[int, Value] = {}
        self._keep: list[Node] = []  # ids in _done stay valid while their nodes live
        self._folds: dict[tuple[int, str, Clock, int, Clock], Node] = {}
        self.horizons: dict[str, str | Clock | None] = {}  # by level, what `sight` says
        self.waiting: dict[int, Clock] = {}  # folds kept as they are -> the clock of their terms
        self.valid_from = ValidFrom()
        self.slopes: list[Slope] = []
        self.terms: dict[
            str, tuple[Node, str, Clock]
        ] = {}  # cell of a fold -> what it adds up, since which level's or clock's tick

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
                if part.op in STATE and part["memory"] not in self.cells:
                    self._register(part)
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
            if id(part) not in self._done:
                self._keep.append(part)
                self.al.span, self.al.turn = part.span, part.turn
                self._done[id(part)] = self._rewrite(part)
                if part.name:
                    self.al.called(self._done[id(part)], part.name)
        return self._done[id(node)]

    # -- memories

    def _atom(self, node: Node, path: str | None, shape: Shape) -> Node:
        memory = self.program.memories[node["memory"]]
        if (unit := self.program.levels[memory.level].clock.unit) in ("sequence", ENDS):
            raise Unsupported(
                f"a level that ticks every {unit}",
                node,
                f"a level every token with `reset every {unit}`, or one `every step`",
            )
        if node.op != "plain" and not self.on_token(memory.name):
            if node.op == "now" or node.op == "held" and node["clock"].unit != "step":
                raise Unsupported(
                    f"`{memory.name}` ticks once a step; inside a step only its held value can be "
                    "read",
                    node,
                    "read it without `@`",
                )
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
        attrs = dict(node.attrs) | {"memory": name}
        return self.al.make(node.op, type=shape, span=node.span, turn=node.turn, **attrs)

    def _register(self, atom: Node) -> None:
        name = atom["memory"]
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
        if level.reset.unit not in ("sequence", "token", "never", ENDS):
            raise Unsupported(
                f"`reset every {level.reset.period} {level.reset.unit}` of a memory on the token "
                "clock",
                atom,
                "`reset every sequence`, every n of them, or `reset never`",
                level.span,
            )
        if outlives(level.reset):
            self._seen_within_a_step(level)
        self.cells[name] = Cell(
            name, atom.type, level.name, level.clock, level.reset, None, None, life=level.reset
        )  # type: ignore[arg-type]

    def _seen_within_a_step(self, level: Level) -> None:
        """What a lane carries into a step is a constant there: right for learners that tick at
        every step and so see no further back.
        """
        for learner in learners_through(self.program, level):
            far = self.program.horizon(learner, level)
            if learner.clock != Clock("step", 1) and far != "none":
                raise Unsupported(
                    f"a memory that outlives a sequence, seen by `{learner.name}` through more "
                    "than one step",
                    None,
                    f"`bptt none`, or `bptt none by {learner.name.rsplit('.', 1)[-1]}`",
                    level.span,
                )

    def _fill(self, cell: Cell) -> None:
        memory = next(
            m
            for m in self.program.memories.values()
            if m.level == cell.level
            and (
                cell.name == m.name
                or (isinstance(m.type, Tree) and cell.name.startswith(m.name + "."))
            )
        )
        path = None if cell.name == memory.name else cell.name[len(memory.name) + 1 :]
        assert memory.start is not None and memory.next is not None, memory.name
        start, after = self.value(memory.start), self.value(memory.next)
        cell.start = self._as_leaf(start, path, cell.shape)
        cell.first = self.first_tick(cell.level)
        cell.next = self._as_leaf(after, path, cell.shape)
        if cell.reset.unit in ("token", ENDS) and any(n.op == "random" for n in walk(cell.start)):
            raise Unsupported("a start drawn anew within a sequence", cell.start, "a learned start")
        level = self.program.levels[cell.level]
        for node in takes(cell.start):
            self._starts_from(cell, node)
        if cell.level not in self.horizons:
            self.horizons[cell.level] = seen_by_learners(self.program, level)
        far = self.horizons[cell.level]
        if far is None:
            raise Unsupported(
                "a `bptt` that differs between learners of the step clock",
                cell.next,
                "one `bptt` for all whose weights reach these updates, or `stop(..)` on the way",
                level.span,
            )
        if far == "none":
            cell.next = self.al.make("stop", cell.next, type=cell.shape)
        elif isinstance(far, Clock) and far.unit == ENDS:
            raise Unsupported(
                "`bptt` to the end of a document",
                cell.next,
                "`bptt full`, if the memory starts anew there",
            )
        elif far != "full":
            cell.cut = far  # type: ignore[assignment]

    def _starts_from(self, cell: Cell, node: Node) -> None:
        """A start from another memory of the token clock is taken after the ticks of its
        instant.
        """
        level = self.program.levels[cell.level]
        other = next(
            m for m in self.program.memories.values() if self._belongs(node["memory"], m.name)
        )
        if outlives(cell.reset) or outlives(self.program.levels[other.level].reset):
            raise Unsupported(
                "a start from a memory, of which one outlives a sequence",
                cell.start,
                "`reset every sequence` in both levels",
                level.span,
            )

    def first_tick(self, name: str) -> int:
        """The first token at which a level may tick: where an objective that it reads has a
        term.
        """
        level = self.program.levels.get(name)
        if level is None:
            return 0
        firsts = {self.valid_from(objective) for objective in level.objectives}
        if len(firsts) > 1:
            raise Unsupported(
                "objectives of one level that begin to have terms at different tokens",
                level.objectives[0],
                "two levels",
                level.span,
            )
        first = max(*firsts, 0, self.first_tick(level.parent or ""))
        if first and level.reset.unit in ("token", ENDS):
            raise Unsupported(
                "a reset within the sequence of a level whose first ticks are skipped",
                None,
                "`reset every sequence`",
                level.span,
            )
        return first

    def _as_leaf(self, value: Value, path: str | None, shape: Shape) -> Node:
        node = value[path] if isinstance(value, dict) else value
        return node if node.type == shape else self.al.scale_to(node, self.al.const(0, shape))

    # -- nodes

    def _rewrite(self, node: Node) -> Value:
        al, args = self.al, [self._done[id(a)] for a in node.args]
        if node.op in READS:
            if isinstance(node.type, Tree):
                return {path: self._atom(node, path, shape) for path, shape in node.type.leaves}
            return self._atom(node, None, node.type)
        if node.op == "leaf":
            return args[0][node["path"]]
        if node.op == "tree":
            return dict(zip(node.type.paths(), args))
        if node.op == "total":
            tree = args[0] if isinstance(args[0], dict) else {"": args[0]}
            parts = [al.sum(x, range(node["keep"], len(x.type))) for x in tree.values()]
            out = parts[0]
            for part in parts[1:]:
                out = al.add(out, part)
            return out
        if node.op == "grad":
            return self._gradient(node, *args)
        if node.op == "grad_stream":
            return self._error_signal(node, *args)
        if node.op == "tick":
            return self._count(node)
        if node.op == "window":
            self._terms_of(node)
        if node.op in ("fold", "window", "ahead", "stop") and isinstance(args[0], dict):
            return {
                path: self._stretch(node, x, self._terms_of(node))
                if node.op == "fold"
                else al.make(
                    node.op, x, type=x.type, span=node.span, turn=node.turn, **dict(node.attrs)
                )
                for path, x in args[0].items()
            }
        if node.op == "fold":
            return self._stretch(node, args[0], self._terms_of(node))
        if node.op == "held_stream" and node["clock"].unit == ENDS:
            raise Unsupported(
                "a stream as it was where a document ended",
                node,
                "a memory that is read `@document`",
            )
        if node.op == "attend" and any(
            span is not None and isinstance(span[1], Clock) and span[1].unit == ENDS
            for _, _, span in node["groups"]
        ):
            raise Unsupported(
                "attention since a document began",
                node,
                "`over sequence`, or over the last n tokens",
            )
        if isinstance(node.type, Tree):
            if not OPS[node.op].elementwise and node.op not in ("random", "load"):
                raise Unsupported(f"`{node.op}` of a tree", node)
            if not args:
                return {
                    path: al.make(
                        node.op,
                        type=shape,
                        **(dict(node.attrs) | {"name": f"{node['name']}.{path}"}),
                    )
                    for path, shape in node.type.leaves
                }
            leaves = {}
            for path, shape in node.type.leaves:
                parts = [a[path] if isinstance(a, dict) else a for a in args]
                full = [
                    p if p.type in ((), shape) else al.spread(p, shape, tuple(range(len(p.type))))
                    for p in parts
                ]
                if all(p.type == () for p in full):
                    full[0] = al.spread(full[0], shape, ())
                leaves[path] = al.apply(node.op, *full)
            return leaves
        return al.remake(node, args)

    def _terms_of(self, stretch: Node) -> Clock:
        """The clock of the terms, one of which at least stands in each stretch."""
        clocks = sample_clocks(self.program, stretch.args[0])
        terms = next(iter(clocks))
        since = dict(stretch.attrs).get("since")
        own = self.program.levels[since].clock if isinstance(since, str) else TOKEN
        if (
            len(clocks) > 1
            or terms != TOKEN
            and (own.period % terms.period or (own.phase - terms.phase) % terms.period)
        ):
            raise Unsupported(
                "a window over a value that changes only when a level ticks; some windows would "
                "contain no tick",
                stretch,
                "something of each token in it, or the memory itself, read without a stretch",
            )
        return terms

    def _stretch(self, node: Node, term: Node, terms: Clock = TOKEN) -> Node:
        """A fold since a tick is a memory: it adds each term and restarts after the tick.

        Kept as it is while it waits for a gradient.
        """
        al = self.al
        if plains(term):
            fold = al.make(
                "fold", term, type=term.type, span=node.span, turn=node.turn, **dict(node.attrs)
            )
            self.waiting[id(fold)] = terms
            return fold
        since = node["since"]
        level = since if isinstance(since, str) else ""
        clock = self.program.levels[since].clock if isinstance(since, str) else since
        if clock.unit not in ("token", "sequence", ENDS):
            raise Unsupported("a fold since a tick of another clock than `token`", node)
        first = self.valid_from(term)
        total = self._accumulator(term, level, clock, first, terms)
        if node["how"] == "sum":
            return total
        count = self._accumulator(al.const(1), level, clock, first, terms)
        return al.div(
            total, al.apply("max", count, al.const(1)) if first else count
        )  # nothing is shown before the first term

    def _accumulator(self, term: Node, level: str, clock: Clock, first: int, terms: Clock) -> Node:
        key = (id(term), level, clock, first, terms)
        if key not in self._folds:
            name = f"{level}.fold.".lstrip(".") + str(
                1 + sum(other[1] == level for other in self._folds)
            )
            life = self.program.levels[level].reset if level else Clock("sequence", 1)
            before = self.al.make("read", type=term.type, memory=name)
            reset = clock if clock.unit in ("token", ENDS) else NEVER
            self._folds[key] = self.al.make("now", type=term.type, memory=name)
            self.valid_from.mark(self._folds[key], first)
            self.terms[name] = term, level, clock
            self.cells[name] = Cell(
                name,
                term.type,
                level,
                terms,
                reset,
                self.al.const(0, term.type),
                self.al.add(before, term),
                first=first,
                kept=self.first_tick(level),
                life=life,
            )
        return self._folds[key]

    def _count(self, node: Node) -> Node:
        """The ticks of a level since its reset are a memory that each of its ticks moves by one."""
        level, name = self.program.levels[node["level"]], f"tick.{node['level']}"
        if level.clock.unit != "token":
            raise Unsupported(
                f"`tick` of a level that ticks every {level.clock.unit} within a sequence", node
            )
        if name not in self.cells:
            before = self.al.make("read", type=(), memory=name)
            self.cells[name] = Cell(
                name,
                (),
                level.name,
                level.clock,
                level.reset,
                self.al.const(0),
                self.al.add(before, self.al.const(1)),
                first=self.first_tick(level.name),
                life=level.reset,
            )
        count = self.al.make("now", type=(), memory=name)
        return self.al.apply("max", count, self.al.const(1)) if self.cells[name].first else count
