"""Is every memory of a recurrence affine in itself?

Inside a piece of tokens the gradients stand at a held copy, so many memories obey

    X_t = c_t X_{t-1} + sum over keys of r_t (X_{t-1} a_t) b_t^T + known terms

with a number c_t for each head, or each channel of the keys. The value at *every* token of the
piece is then a sum of few terms, and a read of it is attention-shaped (chunk.py writes both). This
holds for decay, for momentum (a chain of two such memories; Titans 2501.00663v1, Eqs. 16-18), for
the delta rule and DGD (2512.24695v1, Eqs. 88, 90), read before or after the tick.

Here nothing is written: each node gets a kind and a rule (forms.py). An analysis goes on after an
obstacle, as a checker does after an error; the first one is told.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

from nldsl.core.nodes import Node, Shape, unmade, walk
from nldsl.schedule.objectives import plains
from nldsl.schedule.token_states import State as Memory
from nldsl.step.lowerings.forms import (
    ANSWERS,
    STATES,
    AffineForm,
    After,
    Answer,
    Band,
    Before,
    Contract,
    Detach,
    Divide,
    Erase,
    Factor,
    Initial,
    Itself,
    Kind,
    Known,
    Negate,
    Obstacle,
    Outer,
    Plain,
    Recurrence,
    Rule,
    Scale,
    State,
    Sum,
    Summed,
)
from nldsl.step.lowerings.order import in_order
from nldsl.step.lowerings.past import data
from nldsl.step.lowerings.patterns import (
    answer_axis,
    by_key,
    letters,
    outer_product,
)
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.source import wider

Marks = frozenset[str]
Moving = TypeVar("Moving", bound=State | Answer)
CHANNELS = "a decay for each channel"
ENTRIES = "a decay for each entry"
HOUSEHOLDER = "erases solved in WY form"
BANDS = "windowed objectives as bands"
INSIDE = {"attend": "attention inside", "solve": "a linear system for each token"}


def affine_form(recurrence: Recurrence) -> AffineForm | Obstacle:
    """The form of a recurrence, or the first obstacle on the way.

    Axes in front of a matrix are tried as axes of heads, whether the text has a `per` for them or
    arithmetic keeps them apart.
    """
    wide = matrices(recurrence)
    form = by_entries(wide)
    if isinstance(form, AffineForm) or wide.heads == recurrence.heads:
        return form
    return by_entries(recurrence)


def matrices(recurrence: Recurrence) -> Recurrence:
    """All axes but the last two are heads."""
    heads = recurrence.heads
    wide = {s.name: max(len(s.type) - 2, heads[s.name]) for s in recurrence.region.ticking}
    return replace(recurrence, heads={**heads, **wide})


def by_entries(recurrence: Recurrence) -> AffineForm | Obstacle:
    """The form with these heads. A memory that is no more than a vector for each head is tried with
    a gate for each entry where one for each head is not enough.
    """
    while True:
        analysis = Analysis.of(recurrence)
        form = analysis.form(recurrence)
        if not analysis.obstacles:
            return form
        obstacle = analysis.obstacles[0]
        cell = recurrence.memories.get(obstacle.memory)
        if cell is None or not 0 < len(cell.type) - recurrence.heads[cell.name] <= 1:
            return obstacle
        recurrence = replace(
            recurrence,
            heads={**recurrence.heads, cell.name: len(cell.type)},
            entries=recurrence.entries | {cell.name},
        )


@dataclass
class Analysis:
    """Kinds and rules of the nodes of one recurrence, or of the terms of one stretch in it."""

    cells: Mapping[str, Memory]
    heads: Mapping[str, int]
    read_before: frozenset[str]  # memories that something reads before this token's tick
    given: frozenset[Node]  # streams that are taken as they are
    known: dict[Node, Known]  # what does not depend on the memory being solved
    memo: dict[Node, Kind] = field(default_factory=dict)
    solving: list[str] = field(default_factory=list)
    solved: dict[str, State] = field(default_factory=dict)
    updates: dict[str, dict[Node, Rule]] = field(default_factory=dict)
    reads: dict[Node, Rule] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    obstacles: list[Obstacle] = field(default_factory=list)

    @classmethod
    def of(cls, recurrence: Recurrence) -> Analysis:
        region, cells = recurrence.region, recurrence.memories
        known: dict[Node, Known] = {
            n: Known("B") for n in region.inside if n.op == "read" and n["memory"] not in cells
        }
        known |= dict.fromkeys(recurrence.inputs, Known("BT"))
        known |= dict.fromkeys(region.statics, Known(""))
        given = frozenset(recurrence.inputs)
        return cls(cells, recurrence.heads, recurrence.read_before, given, known)

    # -- the whole

    def form(self, recurrence: Recurrence) -> AffineForm:
        region, given = recurrence.region, set(self.known)
        if recurrence.entries:
            self.remarks[ENTRIES] = None
        for state in region.states:
            if any(when.args[2:] for when in state.ends):
                self.obstacle(state.tick, "documents end in each lane where they will")
        for name in self.cells:
            self.solve(name, self.cells[name].tick)
        met: Marks = frozenset()
        for node in region.outputs:
            met |= self.tensor(self.value(node), node).marks
        for state in in_order(region.ticking):
            if state.seldom:
                self.at_last_token(state, given)
        for node in region.inside:
            if node.op in TEMPORAL:
                self.value(node)
        present = {node.op for node in region.inside}
        self.remarks |= {words: None for op, words in INSIDE.items() if op in present}
        held = {n for n in region.inside if n.op == "read" and n["memory"] in region.copies}
        return AffineForm(
            recurrence,
            self.updates,
            self.reads,
            self.solved,
            not held.isdisjoint(within(region.ticking, self.given)),
            met,
            tuple(self.remarks),
        )

    def at_last_token(self, memory: Memory, given: set[Node]) -> None:
        """What a memory that ticks at most at the end of the piece takes of this token."""
        stack, seen = [memory.tick], set(given)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.op == "now":
                if node["memory"] in self.cells:
                    self.solve(node["memory"], node)
            elif node.op in ("read", "replay", *TEMPORAL):
                self.tensor(self.value(node), node)
            else:
                stack.extend(reversed(node.args))

    def obstacle(self, node: Node, reason: str, memory: str = "") -> None:
        at = node.span or next((n.span for n in reversed([*walk(node)]) if n.span), None)
        if at is None and self.solving:
            at = self.cells[self.solving[-1]].tick.span
        self.obstacles.append(Obstacle(node, reason, memory, at))

    @property
    def current(self) -> str:
        return self.solving[-1] if self.solving else ""

    # -- memories

    def solve(self, name: str, node: Node) -> State:
        if name in self.solved:
            return self.solved[name]
        cell = self.cells[name]
        if name in self.solving:
            self.obstacle(node, f"`{name}` and `{self.current}` need each other at a token")
            return State(cell.type, self.heads[name])
        memo, self.memo = self.memo, {}  # what depends on the memory being solved is not kept
        self.solving.append(name)
        self.updates[name] = {}
        state = self.as_state(self.value(cell.tick), self.heads[name], cell.tick)
        if cell.first:
            ticks, rests = Factor(None, "ticks"), Factor(None, "rests")
            state = self.added(
                self.scaled(state, ticks, cell.tick), replace(bare(state), gate=rests)
            )
        self.solving.pop()
        self.memo = memo
        self.solved[name] = self.accumulated(cell, state)
        return self.solved[name]

    def accumulated(self, cell: Memory, state: State) -> State:
        """The memory at every token, from its affine equation at one."""
        start = Initial(Factor(0.0)) if not cell.first else Initial(Factor())
        if not state.moves:
            late = cell.name in self.read_before
            return replace(state, terms=(start, *state.terms)) if late else state
        terms: list[Initial | Summed] = [Initial(Factor()), *map(over_piece, state.terms)]
        marks = state.marks
        if state.channels:
            self.remarks[CHANNELS] = None
        if state.keys:
            if len(state.shape) != state.heads + 2:
                self.obstacle(cell.tick, f"an erase of `{cell.name}`, which is not a matrix")
            rank = len(set(state.keys))
            self.remarks[HOUSEHOLDER + (f", {rank} a token" if rank > 1 else "")] = None
            before = tuple(map(over_piece, terms))
            marks |= met_by_contraction(before)
            terms += [Summed(kernel=True, dense=False)] * rank
        if cell.tick.op == "stop" and (cell.first or cell.name in self.read_before):
            terms = [start, *terms]
        return State(state.shape, state.heads, tuple(terms), channels=state.channels, marks=marks)

    @overload
    def scaled(self, x: State, by: Factor, node: Node, channels: bool = ...) -> State: ...

    @overload
    def scaled(
        self, x: State | Answer, by: Factor, node: Node, channels: bool = ...
    ) -> State | Answer: ...

    def scaled(
        self, x: State | Answer, by: Factor, node: Node, channels: bool = False
    ) -> State | Answer:
        if isinstance(x, Answer):
            return x
        wide = self.widened(x, node) if channels else x
        terms = tuple(
            Initial(t.factor.times(by)) if isinstance(t, Initial) else t for t in wide.terms
        )
        return replace(wide, terms=terms, gate=None if wide.gate is None else wide.gate.times(by))

    def widened(self, x: State, node: Node) -> State:
        if not x.channels and len(x.shape) != x.heads + 2:
            self.obstacle(node, "a gate for each channel of what is not a matrix", self.current)
        return replace(x, channels=True)

    def added(self, x: State, y: State) -> State:
        gate = x.gate if y.gate is None else y.gate if x.gate is None else x.gate.plus(y.gate)
        return State(
            x.shape,
            x.heads,
            x.terms + y.terms,
            gate,
            x.keys + y.keys,
            x.channels or y.channels,
            x.marks | y.marks,
        )

    # -- values

    def tensor(self, value: Kind, node: Node) -> Known:
        """The value at every token as one tensor."""
        if isinstance(value, Known):
            return value
        if isinstance(value, Answer) or value.moves:
            reason = "the memory being updated is used as a whole"
            self.obstacle(node, reason, self.current)
            return Known("BT")
        terms = [t for t in value.terms if present(t)]
        whole = len(value.shape) > value.heads and any(map(of_earlier, terms))
        marks = value.marks | ({STATES} if whole else frozenset())
        return Known("BT", None, marks) if terms else Known("", 0.0)

    def as_state(self, value: Kind, heads: int, node: Node, shape: Shape | None = None) -> State:
        shape = self.cells[self.current].type if shape is None else shape
        if isinstance(value, Answer):
            reason = "a vector that the memory answered is kept in it"
            self.obstacle(node, reason, self.current)
            return State(shape, heads)
        if isinstance(value, State) and value.heads == heads:
            return value
        value = self.tensor(value, node)
        terms = () if value.literal == 0 else (Summed(kernel=False, dense=True),)
        return State(shape, heads, terms, marks=value.marks)

    def value(self, node: Node) -> Kind:
        for top in unmade(node, self.found, self.needs):
            rules = self.updates[self.current] if self.solving else self.reads
            self.memo[top], rules[top] = self.evaluate(top)
        found = self.found(node)
        assert found is not None
        return found

    def found(self, node: Node) -> Kind | None:
        return self.memo.get(node) or self.known.get(node)

    def needs(self, node: Node) -> tuple[Node, ...]:
        """Arguments to evaluate first."""
        if node.op == "replay":
            return (*node.args[1:], *data(node))
        return node.args

    def evaluate(self, node: Node) -> tuple[Kind, Rule]:
        if node.op == "read" and node["memory"] in self.cells:
            return self.before(node)
        if node.op == "now":
            return self.after(node)
        if node.op == "replay":
            return self.band(node)
        args: list[Any] = [self.found(a) for a in node.args]
        rule = RULES.get(node.op)
        if rule is not None and (
            node.op == "einsum" or any(not isinstance(a, Known) for a in args)
        ):
            found = rule(self, node, *args)
            if found is not None:
                return found
            if any(isinstance(a, Answer) or isinstance(a, State) and a.moves for a in args):
                self.obstacle(node, REASONS[node.op], self.current)
        return self.plain(node, args), Plain()

    def plain(self, node: Node, args: Iterable[Kind]) -> Known:
        """By the operator's own text: its arguments are tensors from here on."""
        tensors = []
        for arg, child in zip(args, node.args, strict=True):
            self.known[child] = tensor = self.tensor(arg, node)
            tensors.append(tensor)
        marks: Marks = frozenset().union(*(t.marks for t in tensors))
        if node.op == "const" and isinstance(node["value"], (int, float)):
            known = Known("", float(node["value"]))
        elif node.op in TEMPORAL:
            known = Known("BT", None, marks)
        elif node.op in ("spread", "stop") or node.op in REDUCTIONS and not node["dims"]:
            known = tensors[0]
        else:
            known = Known(wider([t.lead for t in tensors]), None, marks)
        self.known[node] = known
        return known

    def before(self, node: Node) -> tuple[Kind, Rule]:
        name = node["memory"]
        if name == self.current:
            return State(node.shape, self.heads[name], gate=Factor(1.0)), Itself()
        state = self.solve(name, node)
        return replace(state, terms=tuple(map(over_piece, state.terms))), Before()

    def after(self, node: Node) -> tuple[Kind, Rule]:
        if node["memory"] in self.cells:
            return self.solve(node["memory"], node), After()
        self.obstacle(node, f"`{node['memory']}` is read after its own tick")
        return Known("BT"), After()

    def band(self, node: Node) -> tuple[Kind, Rule]:
        values, rows = (
            [self.tensor(self.value(a), a) for a in args] for args in (node.args[1:], data(node))
        )
        if any(v.lead == "BT" for v in values):
            reason = "a stretch of an objective is evaluated again at every token"
            self.obstacle(node, reason)
        self.remarks[BANDS] = None
        known: dict[Node, Known] = {n: k for n, k in self.known.items() if k.lead == ""}
        known |= dict.fromkeys(data(node), Known("BT"))
        known |= dict(zip(plains(node.args[0]), values, strict=True))
        inner = Analysis({}, {}, frozenset(), frozenset(), known)
        value = inner.value(node.args[0])
        heads = (
            value.heads
            if isinstance(value, State)
            else min(len(node.shape), self.heads[self.current] if self.solving else 0)
        )
        state = inner.as_state(value, heads, node, node.shape)
        self.obstacles += inner.obstacles
        terms = tuple(replace(t, kernel=True) for t in state.terms if isinstance(t, Summed))
        marks = state.marks.union(*(k.marks for k in (*values, *rows)))
        return State(node.shape, heads, terms, marks=marks), Band(heads, inner.reads)

    # -- factors

    def factor(self, node: Node, heads: int) -> tuple[Node, Factor, Marks] | None:
        """The number for each token and head that a value is: the node that gives it; or None."""
        found = self.found(node)
        if isinstance(found, Known) and found.literal is not None:
            return node, Factor(found.literal), frozenset()
        source = node
        if (
            node.op == "spread"
            and node["dims"] == tuple(range(len(node["dims"])))
            and (len(node["dims"]) <= heads)
        ):
            source = node.args[0]
        elif len(node.shape) not in (0, heads):
            return None
        return self.number(source)

    def channels(self, node: Node, x: State) -> tuple[Node, Factor, Marks] | None:
        """The number for each token, head and channel of the last axis that a value is, or None."""
        if (
            node.op != "spread"
            or len(x.shape) != x.heads + 2
            or tuple(node["dims"]) != (*range(x.heads), x.heads + 1)
        ):
            return None
        return self.number(node.args[0])

    def number(self, source: Node) -> tuple[Node, Factor, Marks] | None:
        value = self.value(source)
        if not isinstance(value, Known):
            return None
        return source, Factor(value.literal, source), value.marks

    def contracted(self, x: State, v: Kind, key: Hashable, keyed: bool, node: Node) -> Kind:
        """x times a vector for each token: over its keys, or over its values."""
        marks = x.marks | (v.marks if isinstance(v, Known) else frozenset())
        if not x.moves:
            terms = [t for t in x.terms if present(t)]
            marks |= met_by_contraction(tuple(terms))
            return Known("BT", None, marks) if terms else Known("", 0.0)
        if not keyed:
            self.obstacle(node, "the memory being updated is read across its columns")
        still = replace(x, gate=None, keys=())
        rest = self.contracted(still, v, key, keyed, node) if x.terms else None
        assert rest is None or isinstance(rest, Known)
        own: tuple[Hashable, ...] = () if x.gate is None else (key,)
        if x.channels and x.gate is not None and x.gate.literal is None:
            own = ((key, x.gate),)
        return Answer(x.heads, own + x.keys, rest, marks)


def within(states: Iterable[Memory], given: frozenset[Node]) -> set[Node]:
    """What the equations of a recurrence's memories are made of, up to what it takes."""
    seen: set[Node] = set()
    stack = [s.tick for s in states]
    while stack:
        node = stack.pop()
        if node not in seen and node not in given:
            seen.add(node)
            stack.extend(node.args)
    return seen


def bare(x: State) -> State:
    return State(x.shape, x.heads)


def present(term: Initial | Summed) -> bool:
    """A start that is weighed with the number 0 is not there."""
    return isinstance(term, Summed) or term.factor.literal != 0


def of_earlier(term: Initial | Summed) -> bool:
    return isinstance(term, Initial) or term.kernel


def over_piece(term: Initial | Summed) -> Initial | Summed:
    """A term that a memory has added up, or as it stood one token before."""
    return Initial(Factor()) if isinstance(term, Initial) else replace(term, kernel=True)


def met_by_contraction(terms: tuple[Initial | Summed, ...]) -> Marks:
    found = {ANSWERS for t in terms if of_earlier(t)}
    dense = {STATES for t in terms if isinstance(t, Summed) and t.dense and t.kernel}
    return frozenset(found | dense)


# -- a rule for each operator: the kind of its value and how it is written, or None where it has no
# special form for these arguments


def _mul(form: Analysis, node: Node, a: Kind, b: Kind) -> tuple[Kind, Rule] | None:
    for i, (x, y) in enumerate(((a, b), (b, a))):
        if isinstance(x, Known) or not isinstance(y, Known):
            continue
        other = node.args[1 - i]
        if (found := form.factor(other, x.heads)) is not None:
            source, by, marks = found
            return marked(form.scaled(x, by, node), marks), Scale(i, source)
        if isinstance(x, State) and (found := form.channels(other, x)) is not None:
            source, by, marks = found
            return marked(form.scaled(x, by, node, True), marks), Scale(i, source, True)
    return None


def _div(form: Analysis, node: Node, a: Kind, b: Kind) -> tuple[Kind, Rule] | None:
    if isinstance(a, Known) or not isinstance(b, Known):
        return None
    if (found := form.factor(node.args[1], a.heads)) is None:
        return None
    source, by, marks = found
    inverse = Factor(1 / by.literal) if by.literal else Factor(None, ("inverse", by))
    return marked(form.scaled(a, inverse, node), marks), Divide(source)


def _neg(form: Analysis, node: Node, a: Kind) -> tuple[Kind, Rule]:
    assert not isinstance(a, Known)
    return form.scaled(a, Factor(-1.0), node), Negate()


def _sum(minus: bool) -> Callable[..., tuple[Kind, Rule]]:
    def rule(form: Analysis, node: Node, a: Kind, b: Kind) -> tuple[Kind, Rule]:
        if minus and not isinstance(b, Known):
            b = form.scaled(b, Factor(-1.0), node)
        return _added(form, node, a, b), Sum(minus)

    return rule


def _added(form: Analysis, node: Node, a: Kind, b: Kind) -> Kind:
    if isinstance(a, Answer) or isinstance(b, Answer):
        x, y = (a, b) if isinstance(a, Answer) else (b, a)
        assert isinstance(x, Answer)
        other = y if isinstance(y, Answer) else form.tensor(y, node)
        known = other.rest if isinstance(other, Answer) else other
        rests = [r for r in (x.rest, known) if r is not None and r.literal != 0]
        keys = x.keys + (other.keys if isinstance(other, Answer) else ())
        rest = Known("BT") if rests else None
        return Answer(x.heads, keys, rest, x.marks | other.marks)
    heads = next(v.heads for v in (a, b) if isinstance(v, State))
    x, y = (form.as_state(v, heads, child, node.shape) for v, child in zip((a, b), node.args))
    if x.channels != y.channels:
        x, y = form.widened(x, node), form.widened(y, node)
    return form.added(x, y)


def _einsum(form: Analysis, node: Node, a: Kind, b: Kind | None) -> tuple[Kind, Rule] | None:
    if isinstance(a, Known) and isinstance(b, Known):
        if "BT" not in (a.lead, b.lead) or not outer_product(node):
            return None
        heads = len(letters(node)[0]) - 1
        term = Summed(kernel=False, dense=False)
        return State(node.shape, heads, (term,), marks=a.marks | b.marks), Outer()
    left, right, out = letters(node)
    if isinstance(a, Answer) and isinstance(b, Known) and outer_product(node):
        terms = () if a.rest is None else (Summed(kernel=False, dense=False),)
        marks = a.marks | b.marks
        return State(node.shape, len(left) - 1, terms, None, a.keys, marks=marks), Erase()
    for i, (x, v, lx, lv) in enumerate(((a, b, left, right), (b, a, right, left))):
        if isinstance(x, State) and isinstance(v, Known) and answer_axis(lx, lv, out, x.heads):
            keyed = by_key(lx, lv, out, x.heads)
            return form.contracted(x, v, node.args[1 - i], keyed, node), Contract(i)
    return None


def _stop(form: Analysis, node: Node, x: Kind) -> tuple[Kind, Rule] | None:
    """Term by term.

    A part of an update that stops is not affine: the derivative would pass by the side of it.
    """
    assert not isinstance(x, Known)
    whole = form.solving and form.cells[form.current].tick.op == "stop"
    if (isinstance(x, Answer) or x.moves) and not whole:
        return None
    return replace(x, keys=tuple(("stop", key) for key in x.keys)), Detach()


def marked(x: Moving, marks: Marks) -> Moving:
    return replace(x, marks=x.marks | marks)


REDUCTIONS = ("sum", "mean", "amax")
REASONS = {
    "mul": "the memory being updated is multiplied entry by entry",
    "div": "the memory being updated is divided entry by entry",
    "einsum": "a product with the memory being updated is neither a decay nor an erase",
    "stop": "no derivative passes through a part of the update",
}
RULES: dict[str, Callable[..., tuple[Kind, Rule] | None]] = {
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "add": _sum(minus=False),
    "sub": _sum(minus=True),
    "einsum": _einsum,
    "stop": _stop,
}
