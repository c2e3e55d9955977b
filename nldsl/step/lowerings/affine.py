"""Memories whose update is affine in themselves: a whole piece of tokens by matrix products, no state per token.

Inside a piece the gradients stand at a held copy, so every memory obeys

    X_t = c_t X_{t-1} + sum over erases  r_t (X_{t-1} a_t) b_t^T  +  known terms

with a scalar c_t for each head. Its value at *every* token of the piece is then a sum of a few terms

    phi_t S                       a state S at the start of the piece, scaled
    sum_j K[t, j] u_j z_j^T       writes of this piece, rank one each (kept factored), or any array d_j for u_j z_j^T

and reading it with a query is attention-shaped. One form serves decay, momentum (a chain of two such memories; Titans
2501.00663v1 Eqs. 16-18), the delta rule and DGD (erases; WY form, Nested Learning 2512.24695v1 Eqs. 88, 90), with fresh,
previous or stale reads. The naive form is the token loop of `emit.py`, against which it is tested.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

from nldsl.graph.equations import Node, Shape
from nldsl.schedule.cells import Cell
from nldsl.step.source import Fn, Ref

NONNEGATIVE = {"sigmoid", "exp", "softplus", "abs", "sqrt", "softmax"}


class NotAffine(Exception):
    """The update is not affine with scalar gates; `cell` names a memory that could be tried with a gate per entry."""

    def __init__(self, why: str, cell: str = "") -> None:
        super().__init__(why)
        self.cell = cell


@dataclass(frozen=True)
class Rows:
    """A number for each token (and head): text of a tensor [B, P.., T], or a literal."""

    text: str
    literal: float | None = None
    nonnegative: bool = False


ONE = Rows("1.0", 1.0, True)


@dataclass(frozen=True)
class Carry:
    phi: Rows
    state: Ref                        # [B, P.., rest]


@dataclass(frozen=True)
class Write:
    """sum_j K[t, j] x_j. `kernel` is None where K is diagonal, then `gate` is its diagonal. x_j is u_j z_j^T, or u_j if z is None."""

    kernel: str | None
    gate: Rows
    u: Ref                            # [B, T, P.., out] or [B, T, P.., rest]
    z: Ref | None                     # [B, T, P.., in]


@dataclass(frozen=True)
class Run:
    """A value for each token of the piece, unmaterialised. `own` is the coefficient of the memory being solved, at t - 1."""

    shape: Shape
    prefix: int
    terms: tuple[Carry | Write, ...] = ()
    own: Rows | None = None
    erases: tuple[tuple[Rows, Ref, Ref], ...] = ()


@dataclass(frozen=True)
class Vec:
    """sum of gate_t (X_{t-1} a_t) + rest_t: what a memory being solved answers to a key."""

    shape: Shape
    reads: tuple[tuple[Rows, Ref], ...]
    rest: Ref | None


Value = Ref | Run | Vec
P = "pqrs"                            # letters of the prefix axes


@dataclass
class Solver:
    """Evaluates the equations of one region over one piece. `state` gives the start of each cell, `prefix` its gate axes."""

    fn: Fn
    cells: dict[str, Cell]
    state: dict[str, Ref]
    prefix: dict[str, int]
    solved: dict[str, Run] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)
    solving: list[str] = field(default_factory=list)

    # -- gates

    def rows(self, ref: Ref, node: Node | None, prefix: int) -> Rows:
        if ref.literal is not None:
            return Rows(ref.text, ref.literal, ref.literal >= 0)
        text = ref.text + "[..., None]" * (prefix - ref.rank)
        if ref.lead != "BT":
            text = f"{text}.expand(B, T, {'-1, ' * prefix})" if ref.lead == "" else f"{text}.unsqueeze(1).expand(-1, T, {'-1, ' * prefix})"
        if prefix:
            text = f"{text}.movedim(1, -1)"
        return Rows(self.fn.let(text, "", ()).text, None, node is not None and nonnegative(node))

    def times(self, a: Rows, b: Rows) -> Rows:
        if a.literal is not None and b.literal is not None:
            return Rows(repr(a.literal * b.literal), a.literal * b.literal, a.literal * b.literal >= 0)
        for x, y in ((a, b), (b, a)):
            if x.literal == 1:
                return y
        return Rows(self.fn.let(f"{a.text} * {b.text}", "", ()).text, None, a.nonnegative and b.nonnegative)

    def plus(self, a: Rows, b: Rows) -> Rows:
        if a.literal is not None and b.literal is not None:
            return Rows(repr(a.literal + b.literal), a.literal + b.literal, a.literal + b.literal >= 0)
        return Rows(self.fn.let(f"{a.text} + {b.text}", "", ()).text, None, a.nonnegative and b.nonnegative)

    def by_token(self, rows: Rows, trailing: int) -> str:
        """[B, P.., T] -> [B, T, P.., 1..]"""
        if rows.literal is not None:
            return rows.text
        return f"{rows.text}.movedim(-1, 1)" + ("[" + "..., " + "None, " * trailing + "]" if trailing else "")

    # -- the recurrences

    def solve(self, name: str) -> Run:
        if name in self.solved:
            return self.solved[name]
        if name in self.solving:
            raise NotAffine(f"`{name}` and `{self.solving[-1]}` need each other at a token")
        memo, self.memo = self.memo, {}                        # what depends on the memory being solved is not kept
        self.solving.append(name)
        cell = self.cells[name]
        after = self.as_run(self.value(cell.next), self.prefix[name])
        self.solving.pop()
        self.memo = memo
        self.solved[name] = self.filter(cell, after)
        return self.solved[name]

    def filter(self, cell: Cell, run: Run) -> Run:
        own = run.own
        if own is None and not run.erases:
            return replace(run, own=None)
        own = own or Rows("0.0", 0.0, True)
        kernel, prefix = self.decay(own, run.prefix)
        terms = [Carry(Rows(prefix), self.state[cell.name])]
        terms += [self.through(kernel, t) for t in run.terms]
        if run.erases:
            if len(run.erases) > 1 or len(run.shape) != run.prefix + 2:
                raise NotAffine(f"`{cell.name}` erases more than once a token")
            gate, a, b = run.erases[0]
            delayed = [self.late(t, first=i == 0) for i, t in enumerate(terms)]
            p, o, i = P[:run.prefix], "o", "i"
            answers = self.contract(Run(run.shape, run.prefix, tuple(delayed)), a, f"{p}oi", f"{p}i", f"{p}o")
            assert isinstance(answers, Ref)
            overlap = self.fn.let(f'torch.einsum("BT{p}{i},BJ{p}{i}->B{p}TJ", {a.text}, {b.text})', "", ())
            reach = self.fn.let(f"late({kernel})" + ("" if gate.literal is not None else f" * {gate.text}.unsqueeze(-2)"), "", ())
            factor = "-" if gate.literal is None else f"{-gate.literal!r} * "
            inverse = self.fn.let(f"erased({factor}{reach.text} * {overlap.text})", "", ())
            y = self.fn.let(f'torch.einsum("B{p}TJ,BJ{p}{o}->BT{p}{o}", {inverse.text}, {answers.text})', "BT", answers.shape)
            terms.append(self.through(kernel, Write(None, gate, y, b)))
        return Run(run.shape, run.prefix, tuple(terms))

    def decay(self, c: Rows, prefix: int) -> tuple[str, str]:
        if c.literal is not None:
            like = self.like_rows(prefix)
            text = f"running({like})" if c.literal == 1 else f"decay(torch.full_like({like}, {c.literal!r}).abs().clamp_min(1e-30).log())"
            if c.literal < 0:
                text = f"signed(torch.full_like({like}, {c.literal!r}), {text})"
        elif c.nonnegative:
            text = f"decay(log_decay({c.text}))"
        else:
            text = f"signed({c.text}, decay(log_decay({c.text}.abs())))"
        pair = self.fn.let(text, "", (), "pair")
        return self.fn.let(f"{pair.text}[0]", "", (), "kernel").text, self.fn.let(f"{pair.text}[1]", "", (), "phi").text

    def like_rows(self, prefix: int) -> str:
        state = next(s for n, s in self.state.items() if self.prefix[n] == prefix)
        sizes = ", ".join(str(a.size) for a in state.shape[:prefix])
        return self.fn.let(f"{self.fn.like}.new_zeros((B, {sizes + ', ' if sizes else ''}T))", "", ()).text

    def through(self, kernel: str, term: Carry | Write) -> Carry | Write:
        """The term after the memory has accumulated it."""
        let = self.fn.let
        if isinstance(term, Carry):
            if term.phi.literal is not None:
                return Carry(Rows(let(f"{kernel}.sum(-1) * {term.phi.text}", "", ()).text), term.state)
            return Carry(Rows(let(f"({kernel} @ {term.phi.text}.unsqueeze(-1)).squeeze(-1)", "", ()).text), term.state)
        if term.kernel is not None:
            return replace(term, kernel=let(f"{kernel} @ {term.kernel}", "", ()).text)
        if term.gate.literal == 1:
            return replace(term, kernel=kernel, gate=ONE)
        scaled = f"{kernel} * {term.gate.text}" + ("" if term.gate.literal is not None else ".unsqueeze(-2)")
        return replace(term, kernel=let(scaled, "", ()).text, gate=ONE)

    def late(self, term: Carry | Write, first: bool = False) -> Carry | Write:
        """The term as it stood before each token."""
        if isinstance(term, Carry):
            phi = term.phi.text if term.phi.literal is None else f"torch.full_like({self.like_rows(self._prefix_of(term))}, {term.phi.text})"
            return Carry(Rows(self.fn.let(f"late_prefix({phi}, {1.0 if first else 0.0})", "", ()).text), term.state)
        if term.kernel is None:
            diagonal = term.gate.text if term.gate.literal is None else \
                f"torch.full_like({self.like_rows(self._prefix_of(term))}, {term.gate.text})"
            return replace(term, kernel=self.fn.let(f"late(torch.diag_embed({diagonal}))", "", ()).text, gate=ONE)
        return replace(term, kernel=self.fn.let(f"late({term.kernel})", "", ()).text)

    def _prefix_of(self, term: Carry | Write) -> int:
        return next(iter(self.prefix.values()))

    # -- evaluation

    def value(self, node: Node) -> Value:
        stack = [node]
        while stack:
            top = stack[-1]
            if id(top) in self.memo or id(top) in self.fn.env:
                stack.pop()
            elif waiting := [a for a in self.needs(top) if id(a) not in self.memo and id(a) not in self.fn.env]:
                stack.extend(reversed(waiting))
            else:
                self.memo[id(top)] = self.evaluate(top)
                stack.pop()
        return self.memo[id(node)] if id(node) in self.memo else self.fn.env[id(node)]

    def needs(self, node: Node) -> tuple[Node, ...]:
        """Arguments to evaluate first. A matrix that the memory is multiplied with stays a sum of I and outer products."""
        if node.op == "einsum" and factored(node):
            first = self.memo.get(id(node.args[0]))
            if first is None and id(node.args[0]) not in self.fn.env:
                return node.args[:1]
            return node.args[:1] if isinstance(first, Run) else node.args
        return node.args

    def evaluate(self, node: Node) -> Value:
        if node.op == "read" and node["memory"] in self.cells:
            name = node["memory"]
            if self.solving and name == self.solving[-1]:
                return Run(node.type, self.prefix[name], own=ONE)
            run = self.solve(name)
            keeps = self.cells[name].next.op != "read"
            return replace(run, terms=tuple(self.late(t, first=i == 0 and isinstance(t, Carry) and t.state is self.state[name])
                                            for i, t in enumerate(run.terms))) if keeps else run
        if node.op == "now":
            return self.solve(node["memory"])
        args = [self.memo.get(id(a), self.fn.env.get(id(a))) for a in node.args]
        rule = getattr(self, f"_{node.op}", None)
        if rule is not None and (any(not isinstance(a, Ref) for a in args) or node.op == "einsum"):
            found = rule(node, *args)
            if found is not None:
                return found
        refs = []
        for arg, child in zip(args, node.args):
            ref = self.plain(arg)
            self.fn.env[id(child)] = ref
            refs.append(ref)
        out = self.fn.env[id(node)] = self.fn.emit(node, refs)
        return out

    def gate(self, node: Node, prefix: int) -> Rows | None:
        """The number for each token and head that a factor is, or None."""
        ref = self.memo.get(id(node), self.fn.env.get(id(node)))
        if isinstance(ref, Ref) and ref.literal is not None:
            return self.rows(ref, node, prefix)
        source = node
        if node.op == "spread" and node["dims"] == tuple(range(len(node["dims"]))) and len(node["dims"]) <= prefix:
            source = node.args[0]
        elif node.type != ():
            return None
        ref = self.value(source)
        return self.rows(ref, source, prefix) if isinstance(ref, Ref) else None

    def scale(self, x: Run | Vec, gate: Rows) -> Run | Vec:
        if isinstance(x, Vec):
            rest = None if x.rest is None else self.fn.let(f"{x.rest.text} * {self.by_token(gate, 1)}", "BT", x.shape)
            return Vec(x.shape, tuple((self.times(g, gate), a) for g, a in x.reads), rest)
        terms: list[Carry | Write] = []
        for t in x.terms:
            if isinstance(t, Carry):
                terms.append(Carry(self.times(t.phi, gate), t.state))
            elif t.kernel is None:
                terms.append(replace(t, gate=self.times(t.gate, gate)))
            else:
                row = gate.text if gate.literal is not None else f"{gate.text}.unsqueeze(-1)"
                terms.append(replace(t, kernel=self.fn.let(f"{t.kernel} * {row}", "", ()).text))
        return replace(x, terms=tuple(terms), own=None if x.own is None else self.times(x.own, gate),
                       erases=tuple((self.times(g, gate), a, b) for g, a, b in x.erases))

    def _mul(self, node: Node, a: Value, b: Value) -> Value | None:
        for x, y, other in ((a, b, node.args[1]), (b, a, node.args[0])):
            if isinstance(x, (Run, Vec)) and isinstance(y, Ref):
                prefix = x.prefix if isinstance(x, Run) else len(x.shape) - 1
                gate = self.gate(other, prefix)
                if gate is not None:
                    return self.scale(x, gate)
        return self._stuck(node, a, b)

    def _div(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(a, (Run, Vec)) and isinstance(b, Ref):
            gate = self.gate(node.args[1], a.prefix if isinstance(a, Run) else len(a.shape) - 1)
            if gate is not None:
                inverse = Rows(repr(1 / gate.literal), 1 / gate.literal, gate.nonnegative) if gate.literal else \
                    Rows(self.fn.let(f"1 / {gate.text}", "", ()).text, None, gate.nonnegative)
                return self.scale(a, inverse)
        return self._stuck(node, a, b)

    def _neg(self, node: Node, a: Value) -> Value:
        assert isinstance(a, (Run, Vec))
        return self.scale(a, Rows("-1.0", -1.0))

    def _add(self, node: Node, a: Value, b: Value) -> Value | None:
        return self._sum_of(node, a, b)

    def _sub(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(b, Ref):
            negative = Ref(repr(-b.literal), "", b.shape, -b.literal) if b.literal is not None else \
                self.fn.let(f"-{b.text}", b.lead, b.shape)
            return self._sum_of(node, a, negative)
        return self._sum_of(node, a, self.scale(b, Rows("-1.0", -1.0)))

    def _sum_of(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(a, Vec) or isinstance(b, Vec):
            x, y = (a, b) if isinstance(a, Vec) else (b, a)
            if isinstance(y, Run):
                y = self.plain(y)
            reads = x.reads + (y.reads if isinstance(y, Vec) else ())
            rests = [r for r in (x.rest, y.rest if isinstance(y, Vec) else y) if r is not None]
            rest = rests[0] if rests else None
            if len(rests) == 2:
                rest = self.fn.let(f"{rests[0].text} + {self.fn.align(rests[1], 'BT', len(x.shape))}", "BT", x.shape)
            return Vec(x.shape, reads, rest)
        prefix = next(v.prefix for v in (a, b) if isinstance(v, Run))
        x, y = self.as_run(a, prefix, node.type), self.as_run(b, prefix, node.type)
        own = x.own if y.own is None else y.own if x.own is None else self.plus(x.own, y.own)
        return Run(node.type, prefix, x.terms + y.terms, own, x.erases + y.erases)

    def _einsum(self, node: Node, a: Value, b: Value) -> Value | None:
        left, out = node["eq"].split("->")
        la, lb = left.split(",")
        if isinstance(a, Run) and factored(node):
            parts = matrix_terms(node.args[1])
            assert parts is not None
            return self.right_factor(a, parts)
        if isinstance(a, Ref) and isinstance(b, Ref):
            return self._outer(node, la, lb, out, a, b)
        if isinstance(a, Vec) and isinstance(b, Ref) and out == la + lb[-1] and lb[:-1] == la[:-1]:
            key = self.over_tokens(b)
            rest = () if a.rest is None else (Write(None, ONE, self.over_tokens(a.rest), key),)
            return Run(node.type, len(la) - 1, rest, None, tuple((g, k, key) for g, k in a.reads))
        if isinstance(a, Run) and isinstance(b, Ref) and len(la) == a.prefix + 2:
            if len(set(la) & set(lb) - set(out)) == 1 and (set(la) & set(lb) - set(out)) <= set(la[-2:]):
                return self.contract(a, b, la, lb, out)
        if isinstance(b, Run) and isinstance(a, Ref) and len(lb) == b.prefix + 2:
            if len(set(la) & set(lb) - set(out)) == 1 and (set(la) & set(lb) - set(out)) <= set(lb[-2:]):
                return self.contract(b, a, lb, la, out)
        return self._stuck(node, a, b)

    def _outer(self, node: Node, la: str, lb: str, out: str, a: Ref, b: Ref) -> Value | None:
        """u z^T for each token stays factored."""
        if "BT" not in (a.lead, b.lead) or out != la + lb[-1] or lb[:-1] != la[:-1] or lb[-1] in la:
            return None
        return Run(node.type, len(la) - 1, (Write(None, ONE, self.over_tokens(a), self.over_tokens(b)),))

    def right_factor(self, x: Run, parts: list[tuple[list[Node], Node | None]]) -> Run:
        """X (sum of gate I and gate a b^T), distributed."""
        total: Run | None = None
        p = P[:x.prefix]
        for gates, outer in parts:
            piece: Value = x
            if outer is not None:
                a, b = (self.over_tokens(self.plain(self.value(n))) for n in outer.args)
                answer = self.contract(x, a, f"{p}oi", f"{p}i", f"{p}o")
                write = () if isinstance(answer, Vec) and answer.rest is None else \
                    (Write(None, ONE, answer.rest if isinstance(answer, Vec) else answer, b),)
                piece = Run(x.shape, x.prefix, write, None, tuple((g, k, b) for g, k in answer.reads) if isinstance(answer, Vec) else ())
            for g in gates:
                gate = self.gate(g, x.prefix)
                if gate is None:
                    raise NotAffine("a factor of the memory is no number for each head")
                piece = self.scale(piece, gate)
            total = piece if total is None else Run(x.shape, x.prefix, total.terms + piece.terms,
                                                    total.own if piece.own is None else piece.own if total.own is None
                                                    else self.plus(total.own, piece.own), total.erases + piece.erases)
        assert total is not None
        return total

    def contract(self, x: Run, v: Ref, lx: str, lv: str, out: str) -> Ref | Vec:
        """x times a vector for each token: einsum over one of the last two axes of x."""
        v = self.over_tokens(v)
        shared = (set(lx) & set(lv) - set(out)).pop()
        p, (o, i) = lx[:x.prefix], (lx[-2], lx[-1])
        swap = shared == o
        kept, gone = (i, o) if swap else (o, i)
        sizes = dict(zip(lx, x.shape)) | dict(zip(lv, v.shape))
        shape: Shape = tuple(sizes[c] for c in out)
        if x.own is not None or x.erases:
            if swap or x.erases or out != p + o or lv != p + i:
                raise NotAffine("the memory being updated is read twice at a token")
            rest = self.contract(replace(x, own=None), v, lx, lv, out) if x.terms else None
            assert rest is None or isinstance(rest, Ref)
            return Vec(shape, ((x.own, v),), rest)
        let, total = self.fn.let, None
        side = "".join(dict.fromkeys(p + lv.replace(gone, "")))
        for t in x.terms:
            if isinstance(t, Carry):
                y = f'torch.einsum("B{lx},BT{lv}->BT{out}", {t.state.text}, {v.text})'
                if t.phi.literal != 1:
                    factor = self.fn.let(f'torch.einsum("B{p}T->BT{p}", {t.phi.text})', "", ()).text if t.phi.literal is None else t.phi.text
                    y = f'torch.einsum("BT{out},BT{p}->BT{out}", {y}, {factor})' if t.phi.literal is None else f"{y} * {factor}"
            elif t.z is None:
                dense = self.plain(Run(x.shape, x.prefix, (t,)))
                y = f'torch.einsum("BT{lx},BT{lv}->BT{out}", {dense.text}, {v.text})'
            else:
                near, far = (t.u, t.z) if swap else (t.z, t.u)
                if t.kernel is None:
                    match = let(f'torch.einsum("BT{lv},BT{p}{gone}->BT{side}", {v.text}, {near.text})', "BT", ())
                    y = f'torch.einsum("BT{side},BT{p}{kept}->BT{out}", {match.text}, {far.text})'
                    if t.gate.literal != 1:
                        y = f'torch.einsum("BT{out},B{p}T->BT{out}", {y}, {t.gate.text})' if t.gate.literal is None else f"{y} * {t.gate.text}"
                else:
                    match = let(f'torch.einsum("BT{lv},BJ{p}{gone}->B{side}TJ", {v.text}, {near.text})', "", ())
                    seen = f"{match.text} * {t.kernel}" if side == p else f'torch.einsum("B{side}TJ,B{p}TJ->B{side}TJ", {match.text}, {t.kernel})'
                    y = f'torch.einsum("B{side}TJ,BJ{p}{kept}->BT{out}", {let(seen, "", ()).text}, {far.text})'
            ref = let(y, "BT", shape)
            total = ref if total is None else let(f"{total.text} + {ref.text}", "BT", shape)
        assert total is not None
        return total

    def _stuck(self, node: Node, *args: Value) -> None:
        """No special form: materialise, unless the memory being solved is among the arguments."""
        for a in args:
            if isinstance(a, Vec) or (isinstance(a, Run) and (a.own is not None or a.erases)):
                raise NotAffine(f"`{node.op}` of the memory being updated", self.solving[-1] if self.solving else "")
        return None

    # -- tensors

    def over_tokens(self, ref: Ref) -> Ref:
        """A real tensor with a value for each token."""
        if ref.lead == "BT":
            return ref
        text = self.fn.tensor(ref)
        sizes = ", ".join(str(a.size) for a in ref.shape)
        text = f"{text}.expand(B, T, {sizes})" if ref.lead == "" else f"{text}.unsqueeze(1).expand(B, T, {sizes})"
        return self.fn.let(text, "BT", ref.shape)

    def as_run(self, value: Value, prefix: int, shape: Shape | None = None) -> Run:
        if isinstance(value, Vec):
            raise NotAffine("a vector that the memory answered is kept in it", self.solving[-1] if self.solving else "")
        if isinstance(value, Run):
            if value.prefix == prefix:
                return value
            value = self.plain(value)
        if value.literal == 0:
            return Run(shape or value.shape, prefix)
        if shape is not None and value.shape != shape:
            value = Ref(f"{self.fn.align(value, value.lead, len(shape))}.expand(*{value.text}.shape[:{len(value.lead)}], "
                        + ", ".join(str(a.size) for a in shape) + ")", value.lead, shape) if value.literal is None else \
                Ref(value.text, "", shape, value.literal)
        return Run(value.shape, prefix, (Write(None, ONE, self.over_tokens(value), None),))

    def plain(self, value: Value) -> Ref:
        """The value at every token as one tensor [B, T, ..]."""
        if isinstance(value, Ref):
            return value
        if isinstance(value, Vec) or value.own is not None or value.erases:
            raise NotAffine("the memory being updated is used as a whole", self.solving[-1] if self.solving else "")
        p, total = P[:value.prefix], None
        rest = len(value.shape) - value.prefix
        r = "uvwxyz"[:rest]
        for t in value.terms:
            if isinstance(t, Carry):
                text = f"{self.by_token(t.phi, rest)} * {t.state.text}.unsqueeze(1)"
                if t.phi.literal is not None:
                    text = f"{t.phi.text} * {t.state.text}.unsqueeze(1).expand(-1, T, {'-1, ' * len(value.shape)})"
            else:
                parts = f"BJ{p}{r[:1]},BJ{p}{r[1:2]}" if t.z is not None else f"BJ{p}{r}"
                tensors = f"{t.u.text}, {t.z.text}" if t.z is not None else t.u.text
                if t.kernel is None:
                    text = f'torch.einsum("{parts.replace("J", "T")}->BT{p}{r}", {tensors})' if t.z is not None else t.u.text
                    text += "" if t.gate.literal == 1 else f" * {self.by_token(t.gate, rest)}"
                else:
                    text = f'torch.einsum("B{p}TJ,{parts}->BT{p}{r}", {t.kernel}, {tensors})'
            ref = self.fn.let(text, "BT", value.shape)
            total = ref if total is None else self.fn.let(f"{total.text} + {ref.text}", "BT", value.shape)
        return total if total is not None else Ref("0.0", "", value.shape, 0.0)

    def last(self, run: Run) -> str:
        """The value after the last token of the piece, [B, ..]."""
        p, total = P[:run.prefix], None
        rest = len(run.shape) - run.prefix
        r = "uvwxyz"[:rest]
        tail = "[..., " + "None, " * rest + "]" if rest else ""
        for t in run.terms:
            if isinstance(t, Carry):
                text = f"{t.phi.text} * {t.state.text}" if t.phi.literal is not None else f"{t.phi.text}[..., -1]{tail} * {t.state.text}"
            elif t.kernel is None:
                gate = "" if t.gate.literal == 1 else f" * {t.gate.text}" + ("" if t.gate.literal is not None else f"[..., -1]{tail}")
                text = (f'torch.einsum("B{p}u,B{p}v->B{p}uv", {t.u.text}[:, -1], {t.z.text}[:, -1])' if t.z is not None
                        else f"{t.u.text}[:, -1]") + gate
            else:
                row = self.fn.let(f"{t.kernel}[..., -1, :]", "", ())
                if t.z is None:
                    text = f'torch.einsum("B{p}J,BJ{p}{r}->B{p}{r}", {row.text}, {t.u.text})'
                else:
                    u = self.fn.let(f"{t.u.text} * {row.text}.movedim(-1, 1)[..., None]", "BT", ())
                    text = f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {u.text}, {t.z.text})'
            ref = self.fn.let(text, "B", run.shape)
            total = ref if total is None else self.fn.let(f"{total.text} + {ref.text}", "B", run.shape)
        return total.text if total is not None else f"torch.zeros_like({self.state_text(run)})"

    def state_text(self, run: Run) -> str:
        return next(s.text for s in self.state.values() if s.shape == run.shape)


def nonnegative(node: Node) -> bool:
    """Is the value provably >= 0?"""
    if node.op in NONNEGATIVE:
        return True
    if node.op == "const":
        return isinstance(node["value"], (int, float)) and node["value"] >= 0
    if node.op in ("mul", "add", "div", "max"):
        return all(nonnegative(a) for a in node.args) or (node.op == "max" and any(nonnegative(a) for a in node.args))
    if node.op == "sub":
        one, x = node.args
        return one.op == "const" and one["value"] == 1 and x.op == "sigmoid"
    if node.op in ("spread", "select", "sum", "mean", "permute"):
        return nonnegative(node.args[0])
    return False


def factored(node: Node) -> bool:
    """Is this X times a square matrix that is a sum of gate * I and gate * a b^T?"""
    left, out = node["eq"].split("->")
    la, lb = left.split(",")
    return (len(la) >= 2 and len(lb) == len(la) and lb[:-1] == la[:-2] + la[-1] and out == la[:-1] + lb[-1]
            and matrix_terms(node.args[1]) is not None)


def matrix_terms(node: Node) -> list[tuple[list[Node], Node | None]] | None:
    """A square matrix as a sum of gate * I and gate * a b^T: [(gates, None or the outer product)], or None."""
    if node.op in ("add", "sub"):
        a, b = (matrix_terms(x) for x in node.args)
        if a is None or b is None:
            return None
        return a + ([(g + [MINUS], o) for g, o in b] if node.op == "sub" else b)
    if node.op == "neg":
        inner = matrix_terms(node.args[0])
        return None if inner is None else [(g + [MINUS], o) for g, o in inner]
    if node.op == "mul":
        for x, g in (node.args, node.args[::-1]):
            inner = matrix_terms(x)
            if inner is not None:
                return [(gates + [g], o) for gates, o in inner]
        return None
    if node.op == "eye" or (node.op == "spread" and node.args[0].op == "eye"):
        return [([], None)]
    if node.op == "einsum":
        left, out = node["eq"].split("->")
        la, lb = left.split(",")
        if out == la + lb[-1] and lb[:-1] == la[:-1]:
            return [([], node)]
    return None


MINUS = Node("const", (), (("value", -1.0),), ())
