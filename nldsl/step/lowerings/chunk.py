"""A recurrence with an affine form -> the lines of one piece of tokens: matrix products, no state
per token.

The value of a memory at every token is a few terms (terms.py). Decay is a lower triangular mask;
momentum a product of two such masks; keys that a memory answers and forgets are one triangular
system for all answers of the piece (WY form). A read with a query is attention-shaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from nldsl.core.nodes import Node, unmade
from nldsl.schedule.token_states import State
from nldsl.step.lowerings.forms import (
    AffineForm,
    After,
    Band,
    Before,
    Contract,
    Detach,
    Divide,
    Erase,
    Itself,
    Negate,
    Outer,
    Plain,
    Rules,
    Scale,
    Sum,
)
from nldsl.step.lowerings.gates import Gates
from nldsl.step.lowerings.past import Past, data
from nldsl.step.lowerings.patterns import letters
from nldsl.step.lowerings.reads import Reads
from nldsl.step.lowerings.terms import (
    HEADS,
    ONE,
    ZERO,
    AffineState,
    Gate,
    Householder,
    InitialTerm,
    KernelTerm,
    Readout,
    Term,
    Value,
)
from nldsl.step.source import Fn, Ref


@dataclass
class ChunkWriter:
    """Writes the values of one piece by the rules that were found for their nodes.

    `states` gives the start of each memory that ticks at every token.
    """

    fn: Fn
    cells: Mapping[str, State]
    states: Mapping[str, Ref]
    gates: Gates
    reads: Reads
    read_before: frozenset[str]  # memories that something reads before this token's tick
    seen: frozenset[str]  # memories that something reads as they are at a token
    updates: Mapping[str, Rules]
    rules: Rules
    past: Past | None = None
    solved: dict[str, AffineState] = field(default_factory=dict)
    memo: dict[Node, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, form: AffineForm, fn: Fn, states: Mapping[str, Ref], past: Past) -> ChunkWriter:
        cells = form.recurrence.memories
        states = {name: states[name] for name in cells}
        gates = Gates(fn, states, form.recurrence.heads)
        before = form.recurrence.read_before
        reads = Reads(fn, gates)
        return cls(
            fn, cells, states, gates, reads, before, form.seen, form.updates, form.reads, past
        )

    # -- memories

    def solve(self, name: str) -> AffineState:
        """The memory at every token of the piece, after its tick."""
        if name in self.solved:
            return self.solved[name]
        outer = self.memo, self.rules
        self.memo, self.rules = {}, self.updates[name]
        cell = self.cells[name]
        state = self.reads.state(self.value(cell.tick), self.gates.heads[name])
        self.fn.at = cell.tick
        if cell.first:
            state = self.begun(state, cell)
        self.memo, self.rules = outer
        self.solved[name] = self.accumulated(cell, state)
        return self.solved[name]

    def last(self, name: str) -> str:
        """The memory after the last token of the piece."""
        return self.reads.at_last_token(self.solve(name), self.states)

    def begun(self, state: AffineState, cell: State) -> AffineState:
        """The memory stands still before the first token at which its level may tick."""
        ticks, rests = self.ticking(state, cell)
        still = AffineState(state.shape, state.heads, self_gate=rests)
        return self.gates.sum(self.gates.scale(state, ticks), still)

    def ticking(self, state: AffineState, cell: State) -> tuple[Gate, Gate]:
        """1 where the level may tick and 0 at the tokens before, and the other way round."""
        assert self.past is not None
        like, may = self.gates.like(state.heads), f"({self.past.t} >= {cell.first})"
        ticks, rests = (
            self.gates.named(f"{x}.to({like}.dtype).expand_as({like})") for x in (may, f"(~{may})")
        )
        return ticks, rests

    def accumulated(self, cell: State, state: AffineState) -> AffineState:
        """The memory at every token, from its affine equation at one."""
        start, stopped = self.states[cell.name], cell.tick.op == "stop"
        if state.self_gate is None and not state.householder:
            if cell.name not in self.read_before:
                return state
            return replace(state, terms=(InitialTerm(ZERO, start), *state.terms))
        gate = state.self_gate or ZERO
        if state.channels and gate.literal is not None:
            like = self.gates.like(state.heads)
            gate = self.gates.named(f"torch.full_like({like}, {gate.text}).unsqueeze(-2)")
        mask, decay = self.gates.decay(gate, state.heads)
        start = self.gates.detached_ref(start) if stopped else start
        first = InitialTerm(Gate(decay), start)
        if state.householder:
            terms = self.together(self.corrected(cell.name, state, first, mask))
        else:
            terms = [first, *(self.gates.accumulated(mask, t) for t in state.terms)]
        if stopped:
            terms = self.start_kept(cell, state, terms)
        return AffineState(state.shape, state.heads, tuple(terms), channels=state.channels)

    def together(self, terms: list[Term]) -> list[Term]:
        """Writes at one key that decay alike are one write."""
        found: dict[object, Term] = {}
        for i, term in enumerate(terms):
            if not isinstance(term, KernelTerm) or term.mask is None or term.z is None:
                found[i] = term
                continue
            key = term.mask, term.gate, term.z.text
            other = found.get(key)
            if isinstance(other, KernelTerm):
                u = self.fn.let(f"{other.u.text} + {term.u.text}", "BT", term.u.shape)
                term = replace(term, u=u)
            found[key] = term
        return [*found.values()]

    def start_kept(self, cell: State, state: AffineState, terms: list[Term]) -> list[Term]:
        """Of a memory whose ticks nobody sees through, what has not ticked yet is still its start:
        at the tokens before the first tick, and where the first token reads it.
        """
        start = self.states[cell.name]
        if not cell.first:
            late = cell.name in self.read_before
            return [InitialTerm(ZERO, start), *terms] if late else terms
        ticks, rests = self.ticking(state, cell)
        if state.channels:
            ticks, rests = (Gate(f"{x.text}.unsqueeze(-2)") for x in (ticks, rests))
        moved = terms[0]
        assert isinstance(moved, InitialTerm)
        moved = InitialTerm(self.gates.times(moved.decay, ticks), moved.state)
        return [InitialTerm(rests, start), moved, *terms[1:]]

    # -- what a memory answers and forgets

    def corrected(self, name: str, state: AffineState, start: InitialTerm, mask: str) -> list[Term]:
        """The terms with what the answers of a piece write: solved from one triangular system for
        all answers y_t = X_{t-1} a_t [B, T, P.., out], several a token side by side
        (2512.24695v1, Eq. 90).
        """
        steps = self.gathered(state.householder)
        if len(steps) == 1 and not state.channels:
            return self.corrected_at_a_key(name, state, steps[0], start, mask)
        terms = [start, *(self.gates.accumulated(mask, t) for t in state.terms)]
        let, p, rank = self.fn.let, HEADS[: state.heads], len(steps)
        asked = [a.text for a in self.asked(state, steps, terms)]
        shape = (*state.shape[: state.heads], state.shape[-2])
        writes = [self.weighed(h.write, h.gate) for h in steps]
        reach = let(f"shift_right({mask})", "", ()).text
        keys, values = [h.key.text for h in steps], [w.text for w in writes]
        if rank > 1:
            keys, values, asked = (
                [let(f"torch.stack([{', '.join(xs)}], 2).flatten(1, 2)", "", ()).text]
                for xs in (keys, values, asked)
            )
            rows = f"{reach}.repeat_interleave({rank}, -1).repeat_interleave({rank}, -2)"
            reach = let(rows, "", ()).text
        inverse = self.wy_inverse(state, keys[0], values[0], reach)
        solved = let(f'torch.einsum("B{p}TJ,BJ{p}o->BT{p}o", {inverse}, {asked[0]})', "BT", shape)
        found = [solved]
        if rank > 1:
            apart = let(f"{solved.text}.unflatten(1, (T, {rank}))", "", ()).text
            found = [let(f"{apart}[:, :, {i}]", "BT", shape) for i in range(rank)]
        return terms + [
            self.gates.accumulated(mask, KernelTerm(None, ONE, u, z))
            for u, z in zip(found, writes, strict=True)
        ]

    def corrected_at_a_key(
        self, name: str, state: AffineState, step: Householder, start: InitialTerm, mask: str
    ) -> list[Term]:
        """The same for answers to one key a token.

        All that is written at that key is one write w. With x of it known, y found of all other
        terms and K what it finds of w: w = g_x x + g_y (y + K w), K strictly lower, so
        w = (I - g_y K)^-1 (g_x x + g_y y). A gate that is common to all is kept in the mask.
        """
        gates, let, p = self.gates, self.fn.let, HEADS[: state.heads]
        shape = (*state.shape[: state.heads], state.shape[-2])
        at_key = [t for t in state.terms if written_at(t, step.write)]
        apart = [gates.accumulated(mask, t) for t in state.terms if t not in at_key]
        (asked,) = self.asked(state, [step], [start, *apart])
        common = all(t.gate == step.gate for t in at_key)
        writes = [(t.u, t.gate) for t in at_key] + [(asked, step.gate)]
        if common:
            mask = gates.weighed(mask, step.gate)
        reach = let(f"shift_right({mask})", "", ()).text
        if not common:
            reach = gates.by_row(reach, step.gate)
        met = self.fn.between(f"BT{p}i,BJ{p}i->B{p}TJ", step.key.text, step.write.text)
        overlap = let(f"{let(met, '', ()).text} * {reach}", "", ()).text
        inverse = let(f"wy_inverse(-{overlap})", "", ()).text
        written = " + ".join(x.text if common else self.weighed(x, gate).text for x, gate in writes)
        found = let(written, "BT", shape) if len(writes) > 1 else Ref(written, "BT", shape)
        u = let(f'torch.einsum("B{p}TJ,BJ{p}o->BT{p}o", {inverse}, {found.text})', "BT", shape)
        solved = None if name in self.seen else (inverse, found)
        return [start, *apart, KernelTerm(mask, ONE, u, step.write, solved)]

    def asked(
        self, state: AffineState, steps: Sequence[Householder], terms: Sequence[Term]
    ) -> list[Ref]:
        """What each step finds of the terms, as they stood before its token."""
        p = HEADS[: state.heads]
        before = tuple(self.gates.shifted(t, state, i == 0) for i, t in enumerate(terms))
        known = replace(state, terms=before, self_gate=None, householder=())
        answers = [self.reads.contract(known, h.key, f"{p}oi", f"{p}i", f"{p}o") for h in steps]
        return [a for a in answers if isinstance(a, Ref)]

    def weighed(self, x: Ref, gate: Gate) -> Ref:
        if gate.literal == 1:
            return x
        return self.fn.let(f"{x.text} * {self.gates.by_token(gate, 1)}", "BT", x.shape)

    def wy_inverse(self, state: AffineState, keys: str, writes: str, reach: str) -> str:
        """The inverse of I - what an answer finds of the writes before it."""
        p = HEADS[: state.heads]
        if state.channels:
            letters = f"BT{p}i,BJ{p}i,B{p}iTJ->B{p}TJ"
            overlap = f'torch.einsum("{letters}", {keys}, {writes}, {reach})'
        else:
            overlap = f'{reach} * torch.einsum("BT{p}i,BJ{p}i->B{p}TJ", {keys}, {writes})'
        return self.fn.let(f"wy_inverse(-({overlap}))", "", ()).text

    def gathered(self, steps: tuple[Householder, ...]) -> list[Householder]:
        """Steps that ask the memory the same are one."""
        found: dict[str, Householder] = {}
        for step in steps:
            other = found.get(step.key.text)
            if other is None:
                found[step.key.text] = step
            elif other.write.text == step.write.text:
                found[step.key.text] = replace(other, gate=self.gates.plus(other.gate, step.gate))
            else:
                writes = " + ".join(
                    f"{h.write.text} * {self.gates.by_token(h.gate, 1)}" for h in (other, step)
                )
                write = self.fn.let(writes, "BT", step.write.shape)
                found[step.key.text] = Householder(ONE, step.key, write)
        return list(found.values())

    # -- values

    def value(self, node: Node) -> Value:
        for top in unmade(node, self.found, self.needs):
            rule, self.fn.at = self.rules[top], top
            value = self.memo[top] = WRITE[type(rule)](self, top, rule)
            if isinstance(value, Ref):
                self.fn.note(value, top)
        found = self.found(node)
        assert found is not None
        return found

    def found(self, node: Node) -> Value | None:
        return self.memo.get(node) or self.fn.env.get(node)

    def needs(self, node: Node) -> tuple[Node, ...]:
        """Arguments to evaluate first."""
        if isinstance(self.rules[node], Band):
            return (*node.args[1:], *data(node))
        return node.args

    def args(self, node: Node) -> list[Value]:
        found = [self.found(a) for a in node.args]
        return [x for x in found if x is not None]

    def tensor(self, node: Node) -> Ref:
        """The value of a node at every token."""
        return self.reads.tensor(self.value(node))

    def factor(self, node: Node, heads: int) -> Gate:
        ref = self.value(node)
        assert isinstance(ref, Ref)
        return self.gates.of(ref, heads)

    def scale(self, x: AffineState | Readout, gate: Gate) -> AffineState | Readout:
        if isinstance(x, AffineState):
            return self.gates.scale(x, gate)
        rest = x.rest
        if rest is not None:
            rest = self.fn.let(f"{rest.text} * {self.gates.by_token(gate, 1)}", "BT", x.shape)
        return Readout(x.shape, tuple((self.gates.times(g, gate), a) for g, a in x.reads), rest)


def written_at(term: Term, key: Ref) -> TypeGuard[KernelTerm]:
    """Is it what a token writes at this key?"""
    return (
        isinstance(term, KernelTerm)
        and term.mask is None
        and term.z is not None
        and term.z.text == key.text
    )


def heads_of(x: AffineState | Readout) -> int:
    return x.heads if isinstance(x, AffineState) else len(x.shape) - 1


# -- how each rule is written


def _plain(chunk: ChunkWriter, node: Node, rule: Plain) -> Ref:
    fn, refs = chunk.fn, []
    for arg, child in zip(chunk.args(node), node.args, strict=True):
        fn.env[child] = ref = fn.note(chunk.reads.tensor(arg), child)
        refs.append(ref)
    fn.at = node
    fn.env[node] = out = fn.emit(node, refs)
    return out


def _itself(chunk: ChunkWriter, node: Node, rule: Itself) -> AffineState:
    return AffineState(node.shape, chunk.gates.heads[node["memory"]], self_gate=ONE)


def _before(chunk: ChunkWriter, node: Node, rule: Before) -> AffineState:
    state, start = chunk.solve(node["memory"]), chunk.states[node["memory"]]
    terms = tuple(
        chunk.gates.shifted(t, state, i == 0 and isinstance(t, InitialTerm) and t.state is start)
        for i, t in enumerate(state.terms)
    )
    return replace(state, terms=terms)


def _after(chunk: ChunkWriter, node: Node, rule: After) -> AffineState:
    return chunk.solve(node["memory"])


def _scale(chunk: ChunkWriter, node: Node, rule: Scale) -> Value:
    x = chunk.args(node)[rule.state]
    assert not isinstance(x, Ref)
    if rule.channels:
        assert isinstance(x, AffineState)
        return chunk.gates.scale(x, chunk.factor(rule.factor, x.heads + 1), channels=True)
    return chunk.scale(x, chunk.factor(rule.factor, heads_of(x)))


def _divide(chunk: ChunkWriter, node: Node, rule: Divide) -> Value:
    x = chunk.args(node)[0]
    assert not isinstance(x, Ref)
    return chunk.scale(x, chunk.gates.inverse(chunk.factor(rule.factor, heads_of(x))))


def _negate(chunk: ChunkWriter, node: Node, rule: Negate) -> Value:
    (x,) = chunk.args(node)
    assert not isinstance(x, Ref)
    return chunk.scale(x, Gate("-1.0", -1.0))


def _sum(chunk: ChunkWriter, node: Node, rule: Sum) -> Value:
    a, b = chunk.args(node)
    if rule.minus:
        b = _negative(chunk, b)
    if isinstance(a, Readout):
        return _answers_added(chunk, a, b)
    if isinstance(b, Readout):
        return _answers_added(chunk, b, a)
    heads = next(x.heads for x in (a, b) if isinstance(x, AffineState))
    x = chunk.reads.state(a, heads, node.shape)
    return chunk.gates.sum(x, chunk.reads.state(b, heads, node.shape))


def _negative(chunk: ChunkWriter, x: Value) -> Value:
    if not isinstance(x, Ref):
        return chunk.scale(x, Gate("-1.0", -1.0))
    if x.literal is not None:
        return Ref(repr(-x.literal), "", x.shape, -x.literal)
    return chunk.fn.let(f"-{x.text}", x.lead, x.shape)


def _answers_added(chunk: ChunkWriter, x: Readout, y: Value) -> Readout:
    if isinstance(y, AffineState):
        y = chunk.reads.tensor(y)
    reads = x.reads + (y.reads if isinstance(y, Readout) else ())
    known = y.rest if isinstance(y, Readout) else y
    rests = [r for r in (x.rest, known) if r is not None and r.literal != 0]
    rest = chunk.reads.over_tokens(rests[0]) if rests else None
    if rest is not None and len(rests) == 2:
        other = chunk.fn.align(rests[1], "BT", len(x.shape))
        rest = chunk.fn.let(f"{rest.text} + {other}", "BT", x.shape)
    return Readout(x.shape, reads, rest)


def _outer(chunk: ChunkWriter, node: Node, rule: Outer) -> AffineState:
    u, z = (chunk.reads.over_tokens(chunk.reads.tensor(x)) for x in chunk.args(node))
    return AffineState(node.shape, len(letters(node)[0]) - 1, (KernelTerm(None, ONE, u, z),))


def _erase(chunk: ChunkWriter, node: Node, rule: Erase) -> AffineState:
    answer, at = chunk.args(node)
    assert isinstance(answer, Readout) and isinstance(at, Ref)
    return rewritten(answer, chunk.reads.over_tokens(at), chunk, node)


def rewritten(answer: Readout, key: Ref, chunk: ChunkWriter, node: Node) -> AffineState:
    """What a memory answered, written at a key."""
    write: tuple[Term, ...] = ()
    if answer.rest is not None:
        write = (KernelTerm(None, ONE, chunk.reads.over_tokens(answer.rest), key),)
    steps = tuple(Householder(gate, asked, key) for gate, asked in answer.reads)
    return AffineState(node.shape, len(answer.shape) - 1, write, householder=steps)


def _contract(chunk: ChunkWriter, node: Node, rule: Contract) -> Value:
    args = chunk.args(node)
    left, right, out = letters(node)
    x, v = args[rule.state], args[1 - rule.state]
    assert isinstance(x, AffineState) and isinstance(v, Ref)
    matrix, vector = (right, left) if rule.state else (left, right)
    return chunk.reads.contract(x, v, matrix, vector, out)


def _detach(chunk: ChunkWriter, node: Node, rule: Detach) -> Value:
    (x,), gates = chunk.args(node), chunk.gates
    if isinstance(x, Readout):
        reads = tuple((gates.detached_gate(g), gates.detached_ref(a)) for g, a in x.reads)
        return Readout(x.shape, reads, None if x.rest is None else gates.detached_ref(x.rest))
    assert isinstance(x, AffineState)
    steps = tuple(
        Householder(
            gates.detached_gate(h.gate), gates.detached_ref(h.key), gates.detached_ref(h.write)
        )
        for h in x.householder
    )
    own = None if x.self_gate is None else gates.detached_gate(x.self_gate)
    terms = tuple(gates.detached(t) for t in x.terms)
    return replace(x, terms=terms, self_gate=own, householder=steps)


def _band(chunk: ChunkWriter, node: Node, rule: Band) -> AffineState:
    assert chunk.past is not None
    values, rows = ([chunk.tensor(a) for a in args] for args in (node.args[1:], data(node)))
    fn, size = chunk.past.terms(node, values, rows)
    gates = Gates(fn, {}, {}, fn.let(size, "", (), "S").text)
    reads = Reads(fn, gates)
    inner = ChunkWriter(fn, {}, {}, gates, reads, frozenset(), frozenset(), {}, rule.rules)
    value, band = inner.value(node.args[0]), chunk.past.band(node, size)
    state = reads.state(value, rule.heads, node.shape)
    mask = band + "[" + "None, " * (rule.heads + 1) + ":, :]"

    def banded(term: KernelTerm) -> KernelTerm:
        gate = term.gate
        weight = gate.text + ("" if gate.literal is not None else ".unsqueeze(-2)")
        text = mask if gate.literal == 1 else f"{mask} * {weight}"
        return replace(term, mask=chunk.fn.let(text, "", ()).text, gate=ONE)

    terms = tuple(banded(t) for t in state.terms if isinstance(t, KernelTerm))
    return AffineState(node.shape, rule.heads, terms)


WRITE: Mapping[type, Callable[..., Value]] = {
    Plain: _plain,
    Itself: _itself,
    Before: _before,
    After: _after,
    Scale: _scale,
    Divide: _divide,
    Negate: _negate,
    Sum: _sum,
    Outer: _outer,
    Erase: _erase,
    Contract: _contract,
    Detach: _detach,
    Band: _band,
}
