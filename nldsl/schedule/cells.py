"""Core equations -> array equations: trees become their leaves, inner gradients become their derivatives.

    recall.M : tree(W2, W1)            recall.M.W2, recall.M.W1 : two cells
    grad(|plain(M)(k) - v|^2, P)       2 einsum("hi,hj->hij", .., k), ...

A *cell* is one array of one memory. Everything the forward pass of a step needs is expressed over cells, inputs and weights;
the equations of step-clock levels (optimizers) keep their trees and are not touched here.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nldsl.graph.equations import ELEMENTWISE, ENDS, Clock, Level, Node, Program, Shape, Tree, walk
from nldsl.schedule.absence import Absence
from nldsl.schedule.algebra import Algebra
from nldsl.schedule.differentiate import NoDerivative, gradient
from nldsl.schedule.sight import reaches, sight
from nldsl.schedule.timetable import spoken

Value = Node | dict[str, Node]


@dataclass
class Cell:
    """One array memory on the token clock. `next` is its value after a tick of `clock`; between ticks it is held."""

    name: str
    shape: Shape
    level: str
    clock: Clock
    reset: Clock
    start: Node
    next: Node
    cut: Clock | None = None         # slower learners see no further back than the last tick of this clock
    first: int = 0                   # it does not move before this token of a sequence: what it learns from has no value yet
    kept: int = 0                    # resets before this token are skipped, with the tick that they come after
    life: Clock = Clock("sequence", 1)   # what ends it: `never`, or so many sequences, and it goes on in its lane's next sequence

    @property
    def lasts(self) -> bool:
        return outlives(self.life)

    @property
    def ends(self) -> Clock | None:
        """The documents after which it starts anew, if it does."""
        return next((clock for clock in (self.reset, self.life) if clock.unit == ENDS), None)


def outlives(life: Clock) -> bool:
    """Does what restarts at ticks of this clock outlive a sequence?"""
    return life.unit in ("never", "document") or life.unit == "sequence" and (life.period, life.phase) != (1, 0)


@dataclass(eq=False)
class Slope:
    """The derivative of `objective`, summed over the window of `level`, that only a run of the network gives. `atoms`: memory cell, or
    the name of one of `streams`, -> the input that stands for it in equations. The window of streams is the present token."""

    objective: Node
    atoms: dict[str, Node]
    level: str
    streams: dict[str, Node]
    span: Node                       # where the text asks for it


class Unsupported(Exception):
    """A program that means something but has no lowering; `node` (or `span`) is where, `help` what can be said instead."""

    def __init__(self, message: str, node: Node | None = None, help: str = "", span: object = None) -> None:
        super().__init__(message)
        self.node, self.help = node, help
        self.span = span or (node.span if node is not None else None)


class Cells:
    """Rewrites nodes of a program into array form, and collects the cells that they reach."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.al = Algebra()
        self.cells: dict[str, Cell] = {}
        self.between: dict[str, Cell] = {}                     # those that tick between runs of the network, not in it
        self._done: dict[int, Value] = {}
        self._keep: list[Node] = []                            # ids in _done stay valid while their nodes live
        self._folds: dict[tuple[int, str, Clock, int], Node] = {}
        self.absence = Absence()
        self.slopes: list[Slope] = []
        self.terms: dict[str, tuple[Node, str, Clock]] = {}    # cell of a fold -> what it adds up, since which level's or clock's tick

    def array(self, node: Node) -> Node:
        """The array form of a node that is no tree, with every cell it reaches registered."""
        value = self.value(node)
        assert isinstance(value, Node)
        pending = [value, *(c.next for c in self.cells.values() if c.next is not None)]
        while pending:
            pending += [x for slope in self.slopes for x in (slope.objective, *slope.streams.values())]
            for part in walk(*pending):
                if part.op in ("read", "now", "held") and part["memory"] not in self.cells:
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
        return self._done[id(node)]

    # -- memories

    def on_token(self, memory: str) -> bool:
        return self.program.levels[self.program.memories[memory].level].clock.unit == "token"

    def _atom(self, node: Node, path: str | None, shape: Shape) -> Node:
        memory = self.program.memories[node["memory"]]
        if (unit := self.program.levels[memory.level].clock.unit) in ("sequence", ENDS):
            raise Unsupported(f"a level that ticks every {unit}", node, f"a level every token with `reset every {unit}`, or one `every step`")
        if node.op != "plain" and not self.on_token(memory.name):
            if node.op == "now" or node.op == "held" and node["clock"].unit != "step":
                raise Unsupported(f"`{memory.name}` ticks once a step; inside a step only its held value can be read", node,
                                  "read it without `@`")
            whole = memory.name if node.op == "read" else f"{memory.name}@{spoken(node['clock'])}"
            slot = memory.slots[path or ""] if memory.slots is not None and node.op == "read" else whole if path is None else f"{whole}.{path}"
            return self.al.make("weight", type=shape, name=slot)
        name = memory.name if path is None else f"{memory.name}.{path}"
        attrs = dict(node.attrs) | {"memory": name}
        return self.al.make(node.op, type=shape, span=node.span, turn=node.turn, **attrs)

    def _register(self, atom: Node) -> None:
        name = atom["memory"]
        owner = next((m for m in self.program.memories.values()
                      if name == m.name or (isinstance(m.type, Tree) and name.startswith(m.name + ".")
                                            and name[len(m.name) + 1:] in m.type.paths())), None)
        assert owner is not None, name
        if not self.on_token(owner.name):
            return
        level = self.program.levels[owner.level]
        if level.reset.unit not in ("sequence", "token", "never", ENDS):
            raise Unsupported(f"`reset every {level.reset.period} {level.reset.unit}` of a memory on the token clock", atom,
                              "`reset every sequence`, every n of them, or `reset never`", level.span)
        if outlives(level.reset):
            self._seen_within_a_step(level)
        self.cells[name] = Cell(name, atom.type, level.name, level.clock, level.reset, None, None, life=level.reset)  # type: ignore[arg-type]

    def _seen_within_a_step(self, level: Level) -> None:
        """What a lane carries into a step is a constant there: right for learners that tick at every step and so see no further back."""
        for learner in self.program.levels.values():
            depth = next((b.depth for b in level.bptt if b.viewer == learner.name), next((b.depth for b in level.bptt if b.viewer is None), "none"))
            if learner.parent is None and learner.objectives and learner.clock.unit == "step" and learner.clock != Clock("step", 1) and depth != "none":
                raise Unsupported(f"a memory that outlives a sequence, seen by `{learner.name}` through {learner.clock.period} steps", None,
                                  f"`bptt none`, or `bptt none to {learner.name.rsplit('.', 1)[-1]}`", level.span)

    def _fill(self, cell: Cell) -> None:
        memory = next(m for m in self.program.memories.values() if m.level == cell.level
                      and (cell.name == m.name or (isinstance(m.type, Tree) and cell.name.startswith(m.name + "."))))
        path = None if cell.name == memory.name else cell.name[len(memory.name) + 1:]
        assert memory.start is not None and memory.next is not None, memory.name
        start, after = self.value(memory.start), self.value(memory.next)
        cell.start = self._as_leaf(start, path, cell.shape)
        cell.first = self.first_tick(cell.level)
        cell.next = self._as_leaf(after, path, cell.shape)
        if cell.reset.unit in ("token", ENDS) and any(n.op == "random" for n in walk(cell.start)):
            raise Unsupported("a start drawn anew within a sequence", cell.start, "a learned start")
        level = self.program.levels[cell.level]
        far = sight(self.program, level)
        if far is None:
            raise Unsupported("a `bptt` that differs between learners of the step clock", cell.next, "one `bptt` for all learners", level.span)
        if far == "none":
            cell.next = self.al.make("stop", cell.next, type=cell.shape)
        elif isinstance(far, Clock) and far.unit == ENDS:
            raise Unsupported("`bptt` to the end of a document", cell.next, "`bptt full`, if the memory starts anew there")
        elif far != "full":
            cell.cut = far                                     # type: ignore[assignment]

    def first_tick(self, name: str) -> int:
        """The first token at which a level may tick: where an objective that it reads has a term."""
        level = self.program.levels.get(name)
        if level is None:
            return 0
        firsts = {self.absence.first(objective) for objective in level.objectives}
        if len(firsts) > 1:
            raise Unsupported("objectives of one level that begin to have terms at different tokens", level.objectives[0], "two levels", level.span)
        first = max(*firsts, 0, self.first_tick(level.parent or ""))
        if first and level.reset.unit in ("token", ENDS):
            raise Unsupported("a reset within the sequence of a level whose first ticks are skipped", None, "`reset every sequence`", level.span)
        return first

    def _as_leaf(self, value: Value, path: str | None, shape: Shape) -> Node:
        node = value[path] if isinstance(value, dict) else value
        return node if node.type == shape else self.al.scale_to(node, self.al.const(0, shape))

    # -- nodes

    def _rewrite(self, node: Node) -> Value:
        al, args = self.al, [self._done[id(a)] for a in node.args]
        if node.op in ("read", "now", "held", "plain"):
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
        if node.op in ("fold", "window", "ahead", "stop") and isinstance(args[0], dict):
            return {path: self._stretch(node, x) if node.op == "fold" else
                    al.make(node.op, x, type=x.type, span=node.span, turn=node.turn, **dict(node.attrs))
                    for path, x in args[0].items()}
        if node.op == "fold":
            return self._stretch(node, args[0])
        if node.op == "held_stream" and node["clock"].unit == ENDS:
            raise Unsupported("a stream as it was where a document ended", node, "a memory that is read `@document`")
        if node.op == "attend" and any(span is not None and isinstance(span[1], Clock) and span[1].unit == ENDS for _, _, span in node["groups"]):
            raise Unsupported("attention since a document began", node, "`over sequence`, or over the last n tokens")
        if isinstance(node.type, Tree):
            if node.op not in ELEMENTWISE and node.op not in ("random", "load"):
                raise Unsupported(f"`{node.op}` of a tree", node)
            if not args:
                return {path: al.make(node.op, type=shape, **(dict(node.attrs) | {"name": f"{node['name']}.{path}"}))
                        for path, shape in node.type.leaves}
            leaves = {}
            for path, shape in node.type.leaves:
                parts = [a[path] if isinstance(a, dict) else a for a in args]
                full = [p if p.type in ((), shape) else al.spread(p, shape, tuple(range(len(p.type)))) for p in parts]
                if all(p.type == () for p in full):
                    full[0] = al.spread(full[0], shape, ())
                leaves[path] = al.call_op(node.op, full)
            return leaves
        return al.call(node, args)

    def _stretch(self, node: Node, term: Node) -> Node:
        """A fold since a tick is a memory: it adds each term and restarts after the tick. Kept as it is while it waits for a gradient."""
        al = self.al
        if plains(term):
            return al.make("fold", term, type=term.type, span=node.span, turn=node.turn, **dict(node.attrs))
        since = node["since"]
        level = since if isinstance(since, str) else ""
        clock = self.program.levels[since].clock if isinstance(since, str) else since
        if clock.unit not in ("token", "sequence", ENDS):
            raise Unsupported("a fold since a tick of another clock than `token`", node)
        first = self.absence.first(term)
        total = self._accumulator(term, level, clock, first)
        if node["how"] == "sum":
            return total
        count = self._accumulator(al.const(1), level, clock, first)
        return al.div(total, al.elementwise("max", count, al.const(1)) if first else count)     # nothing is shown before the first term

    def _accumulator(self, term: Node, level: str, clock: Clock, first: int) -> Node:
        key = (id(term), level, clock, first)
        if key not in self._folds:
            name = f"{level}.fold.".lstrip(".") + str(1 + sum(other == level for _, other, _, _ in self._folds))
            life = self.program.levels[level].reset if level else Clock("sequence", 1)
            before = self.al.make("read", type=term.type, memory=name)
            reset = clock if clock.unit in ("token", ENDS) else Clock("never", 0)
            self._folds[key] = self.al.make("now", type=term.type, memory=name)
            self.absence.mark(self._folds[key], first)
            self.terms[name] = term, level, clock
            self.cells[name] = Cell(name, term.type, level, Clock("token", 1), reset, self.al.const(0, term.type), self.al.add(before, term),
                                    first=first, kept=self.first_tick(level), life=life)
        return self._folds[key]

    def _count(self, node: Node) -> Node:
        """The ticks of a level since its reset are a memory that each of its ticks moves by one."""
        level, name = self.program.levels[node["level"]], f"tick.{node['level']}"
        if level.clock.unit != "token":
            raise Unsupported(f"`tick` of a level that ticks every {level.clock.unit} within a sequence", node)
        if name not in self.cells:
            before = self.al.make("read", type=(), memory=name)
            self.cells[name] = Cell(name, (), level.name, level.clock, level.reset, self.al.const(0),
                                    self.al.add(before, self.al.const(1)), first=self.first_tick(level.name), life=level.reset)
        count = self.al.make("now", type=(), memory=name)
        return self.al.elementwise("max", count, self.al.const(1)) if self.cells[name].first else count

    def _gradient(self, node: Node, objective: Node, point: Value) -> Value:
        memory = node["memory"]
        context = frozenset(id(self._done[id(c)]) for c in node["context"] if id(c) in self._done
                            and isinstance(self._done[id(c)], Node))
        inside = [n for n in plains(objective) if self._belongs(n["memory"], memory)]
        if reaches(self.program, node):
            return self._task_gradient(node, objective, point, context)
        at = point if isinstance(point, dict) else {"": point}
        wrt, bind = [], {}
        for path, value in at.items():
            name = f"{memory}.{path}" if isinstance(point, dict) else memory
            atom = next((n for n in inside if n["memory"] == name), None) or self.al.make("plain", type=value.type, memory=name)
            wrt.append(atom)
            bind[id(atom)] = value
        slopes = self._slopes(node, objective, wrt, context, bind)
        return dict(zip(at, slopes)) if isinstance(point, dict) else slopes[0]

    def _task_gradient(self, node: Node, objective: Node, point: Value, context: frozenset[int]) -> Value:
        """Inputs that stand for the gradient. The plain reads in the objective see what the memory has held, as those outside do."""
        memory, at = node["memory"], point if isinstance(point, dict) else {"": point}
        names = {path: f"{memory}.{path}" if path else memory for path in at}
        if not self.on_token(memory):
            raise Unsupported(f"the gradient of a stream within a step, in `{memory}` of the step clock", node)
        if not all(at[path].op == "read" and at[path]["memory"] == name for path, name in names.items()):
            raise Unsupported("the gradient of a task loss elsewhere than at the value the memory has held", node, f"grad({memory.rsplit('.', 1)[-1]})")
        held = {id(n) for n in walk(objective) if n.op == "read" and self._belongs(n["memory"], memory)}
        for part in self._reached(objective, frozenset()):
            if id(part) in context and part.op != "input" and any(id(n) in held for n in walk(part)):
                raise Unsupported(f"a stream in `context` that `{memory}` took part in", part, "leave it out of `context`")
        plain = {id(n): self.al.make("read", type=n.type, memory=n["memory"])
                 for n in plains(objective) if self._belongs(n["memory"], memory)}
        atoms = {name: self._slot(f"gradient {len(self.slopes) + 1} of {name}", at[path]) for path, name in names.items()}
        level = self.program.memories[memory].level
        self.slopes.append(Slope(self.substitute(objective, plain), atoms, level, {}, node))
        return {path: atoms[name] for path, name in names.items()} if isinstance(point, dict) else atoms[names[""]]

    def _error_signal(self, node: Node, objective: Node, stream: Value) -> Node:
        if not isinstance(stream, Node):
            raise Unsupported("the derivative in a tree", node)
        try:
            return gradient(self.al, objective, [stream])[0]
        except NoDerivative:                                   # through attention or a cross entropy: by a run of the network
            pass
        name = f"nudge {len(self.slopes) + 1}"
        self.slopes.append(Slope(objective, {name: self._slot(f"gradient of {name}", stream)}, "", {name: stream}, node))
        return self.slopes[-1].atoms[name]

    def _slot(self, name: str, like: Node) -> Node:
        return self.al.make("input", type=like.type, name=name)

    def _slopes(self, node: Node, objective: Node, wrt: list[Node], context: frozenset[int], bind: dict[int, Node]) -> list[Node]:
        """The derivative of a fold is the fold of the derivative, where the memory does not move within the stretch; else the terms of
        the stretch are evaluated again at the memory of this instant."""
        al = self.al
        folds = [f for f in walk(objective) if f.op in ("fold", "window") and plains(f.args[0])]
        found = gradient(al, objective, [*wrt, *folds], context)
        total = [self._bound(s, bind) for s in found[:len(wrt)]]
        for fold, bar in zip(folds, found[len(wrt):]):
            if al.number(bar) == 0:
                continue
            scale = al.number(bar)
            seed = al.const(1, fold.type) if scale is not None else al.make("plain", type=fold.type, memory="bar")
            inner = gradient(al, al.mul(seed, fold.args[0]), wrt, context)
            once = fold.op == "fold" and scale is not None and self._still(node, fold)
            if not once:
                self._alone(fold, bind)
            for i, slope in enumerate(inner):
                if al.number(slope) != 0:
                    part = self._stretch(fold, self._bound(slope, bind)) if once else self._replay(
                        fold, slope, bind | {id(seed): self._bound(bar, bind)})
                    total[i] = al.add(total[i], part if scale is None else al.mul(al.const(scale), part))
        return total

    def _bound(self, root: Node, bind: dict[int, Node]) -> Node:
        """The value of an expression of an objective, at the memories of this instant."""
        for fold in walk(root):
            if fold.op in ("fold", "window"):
                self._alone(fold, bind)
        bind = bind | {id(n): self._beside(n) for n in plains(root) if id(n) not in bind}
        again = {id(f): self._replay(f, f.args[0], bind) for f in walk(root)
                 if f.op in ("fold", "window") and plains(f.args[0])}
        return self.substitute(root, bind | again)

    def _alone(self, fold: Node, bind: Mapping[int, Node]) -> None:
        """Terms that are evaluated again see the memory of this instant, and another memory as it was at theirs, which is not kept."""
        if other := next((n for n in plains(fold.args[0]) if id(n) not in bind), None):
            raise Unsupported(f"a stretch of terms in which `{other['memory']}` moves too", fold, "an objective, and a level, for each memory")

    def _beside(self, plain: Node) -> Node:
        """Of a memory that learns beside the one whose gradient is taken: its value before the tick."""
        return self.al.make("read", type=plain.type, memory=plain["memory"])

    def _replay(self, fold: Node, term: Node, bind: dict[int, Node]) -> Node:
        """The terms of a stretch, each of its own instant but for the memories, which are those of this one."""
        since = fold["length"] if fold.op == "window" else fold["since"]
        if isinstance(since, str):
            since = self.program.levels[since].clock
        inner = plains(term)
        if not inner:
            return self._stretch(fold, term) if fold.op == "fold" else self.al.call(fold, [term])
        values = [bind[id(n)] if id(n) in bind else self._beside(n) for n in inner]
        return self.al.make("replay", term, *values, type=term.type, span=fold.span, turn=fold.turn, how=fold["how"], since=since,
                            names=tuple(n["memory"] for n in inner))

    def _still(self, node: Node, fold: Node) -> bool:
        """Does the point at which the gradient stands keep its value between the ticks that bound the fold?"""
        level = self.program.memories[node["memory"]].level
        point = node.args[1]
        if not any(n.op in ("read", "now", "held", "input", "weight") for n in walk(point)):
            return fold.op == "fold"
        if point.op == "held":
            return fold["since"] == point["clock"] or fold["since"] == level == "" or (
                fold["since"] == level and self.program.levels[level].clock.period == 1)
        return fold["since"] == level and point.op == "read" and not self._cut_between_ticks(self.program.levels[level])

    @staticmethod
    def _cut_between_ticks(level: Level) -> bool:
        """Does the memory become a constant for slower learners within a period? Then all terms stand at the constant."""
        cuts = [b.depth for b in level.bptt if isinstance(b.depth, Clock)]
        return any(c.period % level.clock.period or (c.phase - level.clock.phase) % level.clock.period for c in cuts)

    @staticmethod
    def _belongs(cell: str, memory: str) -> bool:
        return cell == memory or cell.startswith(memory + ".")

    @staticmethod
    def _reached(root: Node, stop: frozenset[int]) -> list[Node]:
        seen, stack, out = set(), [root], []
        while stack:
            node = stack.pop()
            if id(node) not in seen and id(node) not in stop:
                seen.add(id(node))
                out.append(node)
                stack.extend(node.args)
        return out

    def substitute(self, root: Node, bind: Mapping[int, Node]) -> Node:
        done: dict[int, Node] = {}
        for node in walk(root):
            if id(node) in bind:
                done[id(node)] = bind[id(node)]
            elif any(done[id(a)] is not a for a in node.args):
                args = [done[id(a)] for a in node.args]
                if node.op == "replay":                        # its memories have their values
                    args[0] = node.args[0]
                done[id(node)] = self.al.call(node, args)
            else:
                done[id(node)] = node
        return done[id(root)]


def plains(root: Node) -> list[Node]:
    """Reads of an objective that have no value yet; those within a replay have."""
    seen, stack, found = set(), [root], []
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            found += [node] if node.op == "plain" else []
            stack.extend(reversed(node.args[node.op == "replay":]))
    return found
