"""Memories whose update is affine in themselves: a whole piece of tokens by matrix products, no
state per token.

Inside a piece the gradients stand at a held copy, so every memory obeys

    X_t = c_t X_{t-1} + sum over erases  r_t (X_{t-1} a_t) b_t^T  +  known terms

with a scalar c_t for each head. Its value at *every* token of the piece is then a sum of a few
terms

    phi_t S                       a state S at the start of the piece, scaled
    sum_j K[t, j] u_j z_j^T       writes of this piece, rank one each (kept factored), or any array d_j for u_j z_j^T

and reading it with a query is attention-shaped. One form serves decay, momentum (a chain of two
such memories; Titans 2501.00663v1 Eqs. 16-18), the delta rule and DGD (erases; WY form, Nested
Learning 2512.24695v1 Eqs. 88, 90), with fresh, previous or stale reads. The naive form is the token
loop of `emit.py`, against which it is tested.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nldsl.core.nodes import Node
from nldsl.schedule.cells import Cell
from nldsl.step.lowerings.forms import (
    NONE,
    ONE,
    Carry,
    NotAffine,
    P,
    Rows,
    Run,
    Value,
    Vec,
    Write,
    factored,
    matrix_terms,
)
from nldsl.step.lowerings.past import data
from nldsl.step.lowerings.reads import Reads
from nldsl.step.source import Ref


@dataclass
class Solver(Reads):
    """Evaluates the equations of one region over one piece."""

    def solve(self, name: str) -> Run:
        if name in self.solved:
            return self.solved[name]
        if name in self.solving:
            raise NotAffine(f"`{name}` and `{self.solving[-1]}` need each other at a token")
        memo, self.memo = self.memo, {}  # what depends on the memory being solved is not kept
        self.solving.append(name)
        cell = self.cells[name]
        after = self.as_run(self.value(cell.next), self.prefix[name])
        self.fn.at = cell.next
        if cell.first:
            after = self.begun(after, cell)
        self.solving.pop()
        self.memo = memo
        self.solved[name] = self.filter(cell, after)
        return self.solved[name]

    def begun(self, run: Run, cell: Cell) -> Run:
        """The memory stands still before the first token at which its level may tick."""
        ticks, rests = self.ticking(run, cell)
        return self.added(self.scale(run, ticks), Run(run.shape, run.prefix, own=rests))

    def ticking(self, run: Run, cell: Cell) -> tuple[Rows, Rows]:
        """1 at tokens at which the level may tick and 0 at those before, and the other way round."""
        assert self.past is not None
        rows, text = self.like_rows(run.prefix), f"({self.past.t} >= {cell.first})"
        ticks, rests = (
            Rows(self.fn.let(f"{x}.to({rows}.dtype).expand_as({rows})", "", ()).text)
            for x in (text, f"(~{text})")
        )
        return ticks, rests

    def filter(self, cell: Cell, run: Run) -> Run:
        own, stopped = run.own, cell.next.op == "stop"
        if own is None and not run.erases:
            if cell.name not in self.read_late:
                return run
            return replace(run, terms=(Carry(NONE, self.state[cell.name]), *run.terms))
        own = own or NONE
        if run.wide and own.literal is not None:
            own = Rows(
                self.fn.let(
                    f"torch.full_like({self.like_rows(run.prefix)}, {own.text}).unsqueeze(-2)",
                    "",
                    (),
                ).text
            )
        kernel, prefix = self.decay(own, run.prefix)
        start = self.cut(self.state[cell.name]) if stopped else self.state[cell.name]
        terms = [Carry(Rows(prefix), start)]
        terms += [self.through(kernel, t) for t in run.terms]
        if run.wide:
            self.forms["a decay for each channel"] = True
        if run.erases:
            terms += self.erased(cell, run, terms, kernel)
        if stopped:
            terms = self.unmoved(cell, run, terms)
        return Run(run.shape, run.prefix, tuple(terms), wide=run.wide)

    def unmoved(self, cell: Cell, run: Run, terms: list[Carry | Write]) -> list[Carry | Write]:
        """Of a memory whose ticks nobody sees through, what has not ticked yet is still its start:
        at the tokens before the first tick, and where the first token reads it.
        """
        if not cell.first:
            return (
                [Carry(NONE, self.state[cell.name]), *terms]
                if cell.name in self.read_late
                else terms
            )
        ticks, rests = self.ticking(run, cell)
        if run.wide:
            ticks, rests = (Rows(f"{x.text}.unsqueeze(-2)") for x in (ticks, rests))
        moved = terms[0]
        assert isinstance(moved, Carry)
        return [
            Carry(rests, self.state[cell.name]),
            Carry(self.times(moved.phi, ticks), moved.state),
            *terms[1:],
        ]

    # -- what no derivative passes through

    def cut(self, ref: Ref) -> Ref:
        return (
            ref
            if ref.literal is not None
            else self.fn.let(f"{ref.text}.detach()", ref.lead, ref.shape)
        )

    def cut_rows(self, rows: Rows) -> Rows:
        return (
            rows
            if rows.literal is not None
            else Rows(self.fn.let(f"{rows.text}.detach()", "", ()).text)
        )

    def cut_term(self, term: Carry | Write) -> Carry | Write:
        if isinstance(term, Carry):
            return Carry(self.cut_rows(term.phi), self.cut(term.state))
        kernel = (
            None if term.kernel is None else self.fn.let(f"{term.kernel}.detach()", "", ()).text
        )
        return Write(
            kernel,
            self.cut_rows(term.gate),
            self.cut(term.u),
            None if term.z is None else self.cut(term.z),
        )

    def _stop(self, node: Node, x: Value) -> Value | None:
        """Term by term.

        A part of an update that stops is not affine: the derivative would pass by the side of it.
        """
        whole = self.solving and self.cells[self.solving[-1]].next.op == "stop"
        if isinstance(x, Vec):
            if not whole:
                return self._stuck(node, x)
            reads = tuple((self.cut_rows(g), self.cut(a)) for g, a in x.reads)
            return Vec(x.shape, reads, None if x.rest is None else self.cut(x.rest))
        assert isinstance(x, Run)
        if (x.own is not None or x.erases) and not whole:
            return self._stuck(node, x)
        erases = tuple((self.cut_rows(g), self.cut(a), self.cut(b)) for g, a, b in x.erases)
        own = None if x.own is None else self.cut_rows(x.own)
        return replace(x, terms=tuple(self.cut_term(t) for t in x.terms), own=own, erases=erases)

    def erased(self, cell: Cell, run: Run, terms: list[Carry | Write], kernel: str) -> list[Write]:
        """What the erases of earlier tokens leave, as writes: one triangular system for all answers
        y_t = X_{t-1} a_t of the piece.
        """
        if len(run.shape) != run.prefix + 2:
            raise NotAffine(f"an erase of `{cell.name}`, which is no matrix")
        let, p = self.fn.let, P[: run.prefix]
        erases = self.gathered(run.erases)
        rank = len(erases)
        self.forms["erases solved in WY form" + (f", {rank} a token" if rank > 1 else "")] = True
        known = Run(
            run.shape,
            run.prefix,
            tuple(self.late(t, run, first=i == 0) for i, t in enumerate(terms)),
            wide=run.wide,
        )
        answers = [self.contract(known, a, f"{p}oi", f"{p}i", f"{p}o") for _, a, _ in erases]
        writes = [
            b if g.literal == 1 else let(f"{b.text} * {self.by_token(g, 1)}", "BT", b.shape)
            for g, _, b in erases
        ]
        reach = let(f"late({kernel})", "", ()).text
        keys, values, ys = [a for _, a, _ in erases], writes, answers
        if rank > 1:  # the answers of a token are rows of the system, side by side
            keys, values, ys = (
                [let(f"torch.stack([{', '.join(x.text for x in xs)}], 2).flatten(1, 2)", "", ())]
                for xs in (keys, values, ys)
            )
            reach = let(
                f"{reach}.repeat_interleave({rank}, -1).repeat_interleave({rank}, -2)", "", ()
            ).text
        if run.wide:
            overlap = f'torch.einsum("BT{p}i,BJ{p}i,B{p}iTJ->B{p}TJ", {keys[0].text}, {values[0].text}, {reach})'
        else:
            overlap = (
                f'{reach} * torch.einsum("BT{p}i,BJ{p}i->B{p}TJ", {keys[0].text}, {values[0].text})'
            )
        inverse = let(f"erased(-({overlap}))", "", ())
        solved = let(
            f'torch.einsum("B{p}TJ,BJ{p}o->BT{p}o", {inverse.text}, {ys[0].text})',
            "BT",
            answers[0].shape,
        )
        if rank > 1:
            apart = let(f"{solved.text}.unflatten(1, (T, {rank}))", "", ())
            return [
                self.through(
                    kernel,
                    Write(None, ONE, let(f"{apart.text}[:, :, {i}]", "BT", answers[i].shape), b),
                )
                for i, b in enumerate(writes)
            ]
        return [self.through(kernel, Write(None, ONE, solved, writes[0]))]

    def gathered(self, erases: tuple[tuple[Rows, Ref, Ref], ...]) -> list[tuple[Rows, Ref, Ref]]:
        """Erases that ask the memory the same are one."""
        found: dict[str, tuple[Rows, Ref, Ref]] = {}
        for gate, a, b in erases:
            if a.text not in found:
                found[a.text] = (gate, a, b)
            elif found[a.text][2].text == b.text:
                found[a.text] = (self.plus(found[a.text][0], gate), a, b)
            else:
                scaled = " + ".join(
                    f"{y.text} * {self.by_token(g, 1)}"
                    for g, y in ((found[a.text][0], found[a.text][2]), (gate, b))
                )
                found[a.text] = (ONE, a, self.fn.let(scaled, "BT", b.shape))
        return list(found.values())

    # -- evaluation

    def value(self, node: Node) -> Value:
        stack = [node]
        while stack:
            top = stack[-1]
            if id(top) in self.memo or id(top) in self.fn.env:
                stack.pop()
            elif waiting := [
                a for a in self.needs(top) if id(a) not in self.memo and id(a) not in self.fn.env
            ]:
                stack.extend(reversed(waiting))
            else:
                self.fn.at = top
                found = self.memo[id(top)] = self.evaluate(top)
                if isinstance(found, Ref):
                    self.fn.note(found, top)
                stack.pop()
        return self.memo[id(node)] if id(node) in self.memo else self.fn.env[id(node)]

    def needs(self, node: Node) -> tuple[Node, ...]:
        """Arguments to evaluate first.

        A matrix that the memory is multiplied with stays a sum of I and outer products.
        """
        if node.op == "replay":
            return (*node.args[1:], *data(node))
        if node.op == "einsum" and factored(node, self.given):
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
            return replace(
                run,
                terms=tuple(
                    self.late(
                        t,
                        run,
                        first=i == 0 and isinstance(t, Carry) and t.state is self.state[name],
                    )
                    for i, t in enumerate(run.terms)
                ),
            )
        if node.op == "now":
            if node["memory"] not in self.cells:
                raise NotAffine(f"`{node['memory']}` is read after its own tick")
            return self.solve(node["memory"])
        if node.op == "replay":
            return self.replay(node)
        args = [self.memo.get(id(a), self.fn.env.get(id(a))) for a in node.args]
        rule = getattr(self, f"_{node.op}", None)
        if rule is not None and (any(not isinstance(a, Ref) for a in args) or node.op == "einsum"):
            found = rule(node, *args)
            if found is not None:
                return found
        refs = []
        for arg, child in zip(args, node.args):
            ref = self.fn.note(self.plain(arg), child)
            self.fn.env[id(child)] = ref
            refs.append(ref)
        self.fn.at = node
        out = self.fn.env[id(node)] = self.fn.emit(node, refs)
        return out

    def replay(self, node: Node) -> Run | Ref:
        """Terms of a stretch, evaluated again at memories that stand still in this piece: each
        once, and a band of them at every token.
        """
        assert self.past is not None
        values, streams = (
            [self.plain(self.value(a)) for a in args] for args in (node.args[1:], data(node))
        )
        if any(v.lead == "BT" for v in values):
            raise NotAffine("a stretch of an objective is evaluated again at every token")
        self.forms["windowed objectives as bands"] = True
        fn, size = self.past.terms(node, values, streams)
        inner = Solver(fn, {}, {}, {}, length=fn.let(size, "", (), "S").text)
        value, band = inner.value(node.args[0]), self.past.band(node, size)
        prefix = (
            value.prefix
            if isinstance(value, Run)
            else min(len(node.type), self.prefix[self.solving[-1]] if self.solving else 0)
        )
        run = inner.as_run(value, prefix, node.type)
        kernel = band + "[" + "None, " * (prefix + 1) + ":, :]"
        return Run(
            node.type,
            prefix,
            tuple(
                replace(
                    t,
                    kernel=self.fn.let(
                        kernel
                        if t.gate.literal == 1
                        else f"{kernel} * {t.gate.text}"
                        + ("" if t.gate.literal is not None else ".unsqueeze(-2)"),
                        "",
                        (),
                    ).text,
                    gate=ONE,
                )
                for t in run.terms
                if isinstance(t, Write)
            ),
        )

    def gate(self, node: Node, prefix: int) -> Rows | None:
        """The number for each token and head that a factor is, or None."""
        ref = self.memo.get(id(node), self.fn.env.get(id(node)))
        if isinstance(ref, Ref) and ref.literal is not None:
            return self.rows(ref, prefix)
        source = node
        if (
            node.op == "spread"
            and node["dims"] == tuple(range(len(node["dims"])))
            and len(node["dims"]) <= prefix
        ):
            source = node.args[0]
        elif node.type != ():
            return None
        ref = self.value(source)
        return self.rows(ref, prefix) if isinstance(ref, Ref) else None

    def channels(self, node: Node, x: Run) -> Rows | None:
        """The number for each token, head and channel of the last axis that a factor is, or None."""
        if (
            node.op != "spread"
            or len(x.shape) != x.prefix + 2
            or tuple(node["dims"]) != (*range(x.prefix), x.prefix + 1)
        ):
            return None
        ref = self.value(node.args[0])
        return self.rows(ref, x.prefix + 1) if isinstance(ref, Ref) else None

    def scale(self, x: Run | Vec, gate: Rows, wide: bool = False) -> Run | Vec:
        if isinstance(x, Vec):
            rest = (
                None
                if x.rest is None
                else self.fn.let(f"{x.rest.text} * {self.by_token(gate, 1)}", "BT", x.shape)
            )
            return Vec(x.shape, tuple((self.times(g, gate), a) for g, a in x.reads), rest)
        if wide:
            x = self.widened(x)
            erases = tuple(
                (g, a, self.fn.let(f"{b.text} * {self.by_token(gate, 0)}", "BT", b.shape))
                for g, a, b in x.erases
            )
        else:
            erases = tuple((self.times(g, gate), a, b) for g, a, b in x.erases)
            if x.wide and gate.literal is None:
                gate = Rows(f"{gate.text}.unsqueeze(-2)")
        terms: list[Carry | Write] = []
        for t in x.terms:
            if isinstance(t, Carry):
                terms.append(Carry(self.times(t.phi, gate), t.state))
            elif t.kernel is None:
                terms.append(replace(t, gate=self.times(t.gate, gate)))
            else:
                row = gate.text if gate.literal is not None else f"{gate.text}.unsqueeze(-1)"
                terms.append(replace(t, kernel=self.fn.let(f"{t.kernel} * {row}", "", ()).text))
        return replace(
            x,
            terms=tuple(terms),
            own=None if x.own is None else self.times(x.own, gate),
            erases=erases,
        )

    def _mul(self, node: Node, a: Value, b: Value) -> Value | None:
        for x, y, other in ((a, b, node.args[1]), (b, a, node.args[0])):
            if isinstance(x, (Run, Vec)) and isinstance(y, Ref):
                prefix = x.prefix if isinstance(x, Run) else len(x.shape) - 1
                gate = self.gate(other, prefix)
                if gate is not None:
                    return self.scale(x, gate)
                if isinstance(x, Run) and (gate := self.channels(other, x)) is not None:
                    return self.scale(x, gate, wide=True)
        return self._stuck(node, a, b)

    def _div(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(a, (Run, Vec)) and isinstance(b, Ref):
            gate = self.gate(node.args[1], a.prefix if isinstance(a, Run) else len(a.shape) - 1)
            if gate is not None:
                inverse = (
                    Rows(repr(1 / gate.literal), 1 / gate.literal)
                    if gate.literal
                    else Rows(self.fn.let(f"1 / {gate.text}", "", ()).text)
                )
                return self.scale(a, inverse)
        return self._stuck(node, a, b)

    def _neg(self, node: Node, a: Value) -> Value:
        assert isinstance(a, (Run, Vec))
        return self.scale(a, Rows("-1.0", -1.0))

    def _add(self, node: Node, a: Value, b: Value) -> Value | None:
        return self._sum_of(node, a, b)

    def _sub(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(b, Ref):
            negative = (
                Ref(repr(-b.literal), "", b.shape, -b.literal)
                if b.literal is not None
                else self.fn.let(f"-{b.text}", b.lead, b.shape)
            )
            return self._sum_of(node, a, negative)
        return self._sum_of(node, a, self.scale(b, Rows("-1.0", -1.0)))

    def _sum_of(self, node: Node, a: Value, b: Value) -> Value | None:
        if isinstance(a, Vec) or isinstance(b, Vec):
            x, y = (a, b) if isinstance(a, Vec) else (b, a)
            if isinstance(y, Run):
                y = self.plain(y)
            reads = x.reads + (y.reads if isinstance(y, Vec) else ())
            rests = [
                r
                for r in (x.rest, y.rest if isinstance(y, Vec) else y)
                if r is not None and r.literal != 0
            ]
            rest = self.over_tokens(rests[0]) if rests else None
            if len(rests) == 2:
                rest = self.fn.let(
                    f"{rest.text} + {self.fn.align(rests[1], 'BT', len(x.shape))}", "BT", x.shape
                )
            return Vec(x.shape, reads, rest)
        prefix = next(v.prefix for v in (a, b) if isinstance(v, Run))
        return self.added(self.as_run(a, prefix, node.type), self.as_run(b, prefix, node.type))

    def added(self, x: Run, y: Run) -> Run:
        x, y = self.alike(x, y)
        own = x.own if y.own is None else y.own if x.own is None else self.plus(x.own, y.own)
        return Run(x.shape, x.prefix, x.terms + y.terms, own, x.erases + y.erases, x.wide)

    def _einsum(self, node: Node, a: Value, b: Value) -> Value | None:
        left, out = node["eq"].split("->")
        la, lb = left.split(",")
        if isinstance(a, Run) and factored(node, self.given):
            parts = matrix_terms(node.args[1], self.given)
            assert parts is not None
            return self.right_factor(a, parts)
        if isinstance(a, Ref) and isinstance(b, Ref):
            return self._outer(node, la, lb, out, a, b)
        if isinstance(a, Vec) and isinstance(b, Ref) and out == la + lb[-1] and lb[:-1] == la[:-1]:
            key = self.over_tokens(b)
            rest = () if a.rest is None else (Write(None, ONE, self.over_tokens(a.rest), key),)
            return Run(node.type, len(la) - 1, rest, None, tuple((g, k, key) for g, k in a.reads))
        if isinstance(a, Run) and isinstance(b, Ref) and len(la) == a.prefix + 2:
            if len(set(la) & set(lb) - set(out)) == 1 and (set(la) & set(lb) - set(out)) <= set(
                la[-2:]
            ):
                return self.contract(a, b, la, lb, out)
        if isinstance(b, Run) and isinstance(a, Ref) and len(lb) == b.prefix + 2:
            if len(set(la) & set(lb) - set(out)) == 1 and (set(la) & set(lb) - set(out)) <= set(
                lb[-2:]
            ):
                return self.contract(b, a, lb, la, out)
        return self._stuck(node, a, b)

    def _outer(self, node: Node, la: str, lb: str, out: str, a: Ref, b: Ref) -> Value | None:
        """u z^T for each token stays factored."""
        if "BT" not in (a.lead, b.lead) or out != la + lb[-1] or lb[:-1] != la[:-1] or lb[-1] in la:
            return None
        return Run(
            node.type, len(la) - 1, (Write(None, ONE, self.over_tokens(a), self.over_tokens(b)),)
        )

    def right_factor(self, x: Run, parts: list[tuple[list[Node], Node | None]]) -> Run:
        """X (sum of gate I and gate a b^T), distributed."""
        total: Run | None = None
        p = P[: x.prefix]
        for gates, outer in parts:
            piece: Value = x
            if outer is not None and outer.op == "diag":
                a = self.value(outer.args[0])
                if not isinstance(a, Ref):
                    raise NotAffine("a diagonal of what a memory answered")
                piece = self.scale(x, self.rows(a, x.prefix + 1), wide=True)
            elif outer is not None:
                a, b = (self.over_tokens(self.plain(self.value(n))) for n in outer.args)
                answer = self.contract(x, a, f"{p}oi", f"{p}i", f"{p}o")
                write = (
                    ()
                    if isinstance(answer, Vec) and answer.rest is None
                    else (Write(None, ONE, answer.rest if isinstance(answer, Vec) else answer, b),)
                )
                piece = Run(
                    x.shape,
                    x.prefix,
                    write,
                    None,
                    tuple((g, k, b) for g, k in answer.reads) if isinstance(answer, Vec) else (),
                )
            for g in gates:
                gate = self.gate(g, x.prefix)
                if gate is None:
                    raise NotAffine("a factor of the memory is no number for each head")
                piece = self.scale(piece, gate)
            total = piece if total is None else self.added(total, piece)
        assert total is not None
        return total

    def _stuck(self, node: Node, *args: Value) -> None:
        """No special form: materialise, unless the memory being solved is among the arguments."""
        for a in args:
            if isinstance(a, Vec) or (isinstance(a, Run) and (a.own is not None or a.erases)):
                raise NotAffine(
                    f"`{node.op}` of the memory being updated",
                    self.solving[-1] if self.solving else "",
                )
        return None
