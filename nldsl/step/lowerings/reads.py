"""What a memory is or answers at every token of a piece, as tensors, from the terms that it is
written down in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nldsl.core.nodes import Shape
from nldsl.step.lowerings.gates import Gates
from nldsl.step.lowerings.terms import (
    HEADS,
    ONE,
    AffineState,
    Gate,
    InitialTerm,
    KernelTerm,
    Readout,
    Term,
    Value,
    present,
)
from nldsl.step.source import Fn, Ref, einsum


@dataclass(frozen=True)
class Product:
    """A matrix for each head, [.., P.., o, i], times a vector: letters of both and of the result.

    `summed` is the axis of the matrix that meets the vector, `kept` the other; `match` are the
    letters of a write's own factor after it has met the vector.
    """

    matrix: str
    vector: str
    out: str
    heads: str
    summed: str
    kept: str

    @classmethod
    def of(cls, matrix: str, vector: str, out: str, heads: int) -> Product:
        summed = (set(matrix) & set(vector) - set(out)).pop()
        kept = matrix[-1] if summed == matrix[-2] else matrix[-2]
        return cls(matrix, vector, out, matrix[:heads], summed, kept)

    @property
    def match(self) -> str:
        return "".join(dict.fromkeys(self.heads + self.vector.replace(self.summed, "")))

    @property
    def key(self) -> str:
        """The last axis, which gates for each channel have too."""
        return self.matrix[-1]

    def factors(self, term: KernelTerm) -> tuple[str, str]:
        """The factor of a write that meets the vector, and the other."""
        assert term.z is not None
        over_values = self.summed == self.matrix[-2]
        pair = (term.u.text, term.z.text)
        return pair if over_values else pair[::-1]


@dataclass
class Reads:
    """Tensors of what `terms.py` writes down."""

    fn: Fn
    gates: Gates

    def over_tokens(self, ref: Ref) -> Ref:
        """A real tensor with a value for each token, [B, T, ..]."""
        if ref.lead == "BT":
            return ref
        text = self.fn.tensor(ref)
        sizes = ", ".join(str(a.size) for a in ref.shape)
        rows = self.gates.length
        text = (
            f"{text}.expand(B, {rows}, {sizes})"
            if ref.lead == ""
            else f"{text}.unsqueeze(1).expand(B, {rows}, {sizes})"
        )
        return self.fn.let(text, "BT", ref.shape)

    def state(self, value: Value, heads: int, shape: Shape | None = None) -> AffineState:
        """A value as a state: a tensor is what each token writes."""
        if isinstance(value, AffineState) and value.heads == heads:
            return value
        ref = self.tensor(value)
        if ref.literal == 0:
            return AffineState(shape or ref.shape, heads)
        if shape is not None and ref.shape != shape:
            ref = self.broadcast(ref, shape)
        return AffineState(ref.shape, heads, (KernelTerm(None, ONE, self.over_tokens(ref), None),))

    def broadcast(self, ref: Ref, shape: Shape) -> Ref:
        if ref.literal is not None:
            return Ref(ref.text, "", shape, ref.literal)
        aligned = self.fn.align(ref, ref.lead, len(shape))
        sizes = ", ".join(str(a.size) for a in shape)
        text = f"{aligned}.expand(*{ref.text}.shape[:{len(ref.lead)}], {sizes})"
        return Ref(text, ref.lead, shape)

    def add(self, total: Ref | None, ref: Ref) -> Ref:
        if total is None:
            return ref
        return self.fn.let(f"{total.text} + {ref.text}", ref.lead, ref.shape)

    def tensor(self, value: Value) -> Ref:
        """The value at every token as one tensor [B, T, ..]."""
        if isinstance(value, Ref):
            return value
        assert isinstance(value, AffineState)
        total = None
        for term in present(value):
            text = self.at_every_token(term, value)
            total = self.add(total, self.fn.let(text, "BT", value.shape))
        return total if total is not None else Ref("0.0", "", value.shape, 0.0)

    def at_every_token(self, term: Term, x: AffineState) -> str:
        p, rest = HEADS[: x.heads], len(x.shape) - x.heads
        r = "uvwxyz"[:rest]

        def entries(gate: Gate) -> str:
            if x.channels and gate.literal is None:
                return f"{gate.text}.movedim(-1, 1).unsqueeze(-2)"
            return self.gates.by_token(gate, rest)

        if isinstance(term, InitialTerm):
            if term.decay.literal is None:
                return f"{entries(term.decay)} * {term.state.text}.unsqueeze(1)"
            whole = f"{term.state.text}.unsqueeze(1).expand(-1, T, {'-1, ' * len(x.shape)})"
            return f"{term.decay.text} * {whole}"
        parts = f"BJ{p}{r[:1]},BJ{p}{r[1:2]}" if term.z is not None else f"BJ{p}{r}"
        tensors = f"{term.u.text}, {term.z.text}" if term.z is not None else term.u.text
        if term.mask is not None:
            mask = f"B{p}{r[-1] if x.channels else ''}TJ"
            return f'torch.einsum("{mask},{parts}->BT{p}{r}", {term.mask}, {tensors})'
        text = (
            f'torch.einsum("{parts.replace("J", "T")}->BT{p}{r}", {tensors})'
            if term.z is not None
            else term.u.text
        )
        return text + ("" if term.gate.literal == 1 else f" * {entries(term.gate)}")

    # -- after the last token

    def at_last_token(self, x: AffineState, states: Mapping[str, Ref]) -> str:
        """The value after the last token of the piece, [B, ..]."""
        total = None
        for term, *others in self.at_one_key(x):
            text = (
                self.initial_at_last(term, x)
                if isinstance(term, InitialTerm)
                else self.written_together(term, others, x)
                if others
                else self.written_at_last(term, x)
            )
            total = self.add(total, self.fn.let(text, "B", x.shape))
        if total is not None:
            return total.text
        like = next(s.text for s in states.values() if s.shape == x.shape)
        return f"torch.zeros_like({like})"

    def at_one_key(self, x: AffineState) -> list[list[Term]]:
        """The terms, writes of several tokens at the same keys together."""
        found: dict[object, list[Term]] = {}
        for i, term in enumerate(present(x)):
            key: object = i
            if isinstance(term, KernelTerm) and term.mask and term.z and not x.channels:
                key = i if solved_late(term) else term.z.text
            found.setdefault(key, []).append(term)
        return [*found.values()]

    def written_together(self, term: Term, others: Sequence[Term], x: AffineState) -> str:
        """Writes at the same keys after the last token: one product."""
        p, total = HEADS[: x.heads], None
        for t in (term, *others):
            assert isinstance(t, KernelTerm)
            total = self.add(total, self.gated_at_last(t))
        assert total is not None and isinstance(term, KernelTerm) and term.z is not None
        return f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {total.text}, {term.z.text})'

    def solved_at_last(self, term: KernelTerm, p: str) -> str:
        """What is written at keys after the last token, the keys solved in the place of what is
        written at them: sum_t (sum_j inverse[t, j] x_j) z_t^T = sum_j x_j (sum_t inverse[t, j]
        z_t)^T.
        """
        assert term.solved is not None and term.z is not None
        inverse, x = term.solved
        row = self.fn.let(f"{term.mask}[..., -1, :]", "", ())
        z = self.fn.broadcast[term.z.text].narrow if term.z.text in self.fn.broadcast else term.z
        gated = self.fn.let(f"{z.text} * {row.text}.movedim(-1, 1)[..., None]", "BT", z.shape)
        keys = f'torch.einsum("B{p}TJ,BT{p}v->BJ{p}v", {inverse}, {gated.text})'
        keys = self.fn.let(keys, "BT", z.shape).text
        return f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {x.text}, {keys})'

    def gated_at_last(self, term: KernelTerm) -> Ref:
        """The values that are written, each with what is left of it after the last token."""
        row = self.fn.let(f"{term.mask}[..., -1, :]", "", ())
        gated = f"{term.u.text} * {row.text}.movedim(-1, 1)[..., None]"
        return self.fn.let(gated, "BT", term.u.shape)

    def last(self, gate: Gate, x: AffineState) -> str:
        """A gate at the last token, as what the memory's axes are multiplied with."""
        if gate.literal is not None:
            return gate.text
        rest = len(x.shape) - x.heads
        tail = ".unsqueeze(-2)" if x.channels else "[..., " + "None, " * rest + "]" if rest else ""
        return f"{gate.text}[..., -1]{tail}"

    def initial_at_last(self, term: InitialTerm, x: AffineState) -> str:
        return f"{self.last(term.decay, x)} * {term.state.text}"

    def written_at_last(self, term: KernelTerm, x: AffineState) -> str:
        p = HEADS[: x.heads]
        r = "uvwxyz"[: len(x.shape) - x.heads]
        if term.mask is None:
            text = (
                f'torch.einsum("B{p}u,B{p}v->B{p}uv", {term.u.text}[:, -1], {term.z.text}[:, -1])'
                if term.z is not None
                else f"{term.u.text}[:, -1]"
            )
            return text + ("" if term.gate.literal == 1 else f" * {self.last(term.gate, x)}")
        row = self.fn.let(f"{term.mask}[..., -1, :]", "", ())
        if term.z is None:
            weights = f"B{p}{r[-1] if x.channels else ''}J"
            return f'torch.einsum("{weights},BJ{p}{r}->B{p}{r}", {row.text}, {term.u.text})'
        if solved_late(term):
            return self.solved_at_last(term, p)
        if x.channels:
            z = self.fn.let(f"{term.z.text} * {row.text}.movedim(-1, 1)", "BT", term.z.shape)
            return f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {term.u.text}, {z.text})'
        u = self.gated_at_last(term)
        return f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {u.text}, {term.z.text})'

    # -- times a vector for each token

    def contract(self, x: AffineState, v: Ref, matrix: str, vector: str, out: str) -> Ref | Readout:
        """The state times a vector for each token: einsum over one of its last two axes."""
        v = self.over_tokens(v)
        product = Product.of(matrix, vector, out, x.heads)
        sizes = dict(zip(matrix, x.shape)) | dict(zip(vector, v.shape))
        shape: Shape = tuple(sizes[c] for c in out)
        if x.self_gate is not None or x.householder:
            return self.readout(x, v, product, shape)
        term = self.by_channels if x.channels else self.by_heads
        total = None
        for t in present(x):
            if isinstance(t, KernelTerm) and t.z is None:
                dense = self.tensor(replace(x, terms=(t,)))
                y = f'torch.einsum("BT{matrix},BT{vector}->BT{out}", {dense.text}, {v.text})'
            else:
                y = term(t, v, product)
            total = self.add(total, self.fn.let(y, "BT", shape))
        return total if total is not None else Ref("0.0", "", shape, 0.0)

    def readout(self, x: AffineState, v: Ref, product: Product, shape: Shape) -> Readout:
        """What the memory being solved answers to a key."""
        rest = None
        if x.terms:
            known = replace(x, self_gate=None, householder=())
            found = self.contract(known, v, product.matrix, product.vector, product.out)
            assert isinstance(found, Ref)
            rest = found
        reads = []
        if x.self_gate is not None:
            gate = (x.self_gate, v)
            if x.channels and x.self_gate.literal is None:
                weighed = f"{v.text} * {self.gates.by_token(x.self_gate, 0)}"
                gate = (ONE, self.fn.let(weighed, "BT", v.shape))
            reads.append(gate)
        p, i = product.heads, product.key
        for h in x.householder:  # what this token's other steps have left of it
            met = f'torch.einsum("BT{p}{i},BT{p}{i}->B{p}T", {h.write.text}, {v.text})'
            reads.append((self.gates.times(h.gate, self.gates.named(met)), h.key))
        return Readout(shape, tuple(reads), rest)

    def by_heads(self, t: Term, v: Ref, at: Product) -> str:
        """One term times v, where a gate is a number for each head."""
        let, p, out = self.fn.let, at.heads, at.out
        if isinstance(t, InitialTerm):
            y = f'torch.einsum("B{at.matrix},BT{at.vector}->BT{out}", {t.state.text}, {v.text})'
            if t.decay.literal is None:
                factor = let(f'torch.einsum("B{p}T->BT{p}", {t.decay.text})', "", ())
                return f'torch.einsum("BT{out},BT{p}->BT{out}", {y}, {factor.text})'
            return y if t.decay.literal == 1 else f"{y} * {t.decay.text}"
        near, far = at.factors(t)
        vector, summed, kept, side = at.vector, at.summed, at.kept, at.match
        if t.mask is None:
            y = f'torch.einsum("BT{vector},BT{p}{summed}->BT{side}", {v.text}, {near})'
            y = f'torch.einsum("BT{side},BT{p}{kept}->BT{out}", {let(y, "BT", ()).text}, {far})'
            if t.gate.literal is None:
                return f'torch.einsum("BT{out},B{p}T->BT{out}", {y}, {t.gate.text})'
            return y if t.gate.literal == 1 else f"{y} * {t.gate.text}"
        product = self.fn.between if far not in self.fn.broadcast else einsum
        match = let(product(f"BT{vector},BJ{p}{summed}->B{side}TJ", v.text, near), "", ()).text
        seen = (
            f"{match} * {t.mask}"
            if side == p
            else f'torch.einsum("B{side}TJ,B{p}TJ->B{side}TJ", {match}, {t.mask})'
        )
        seen = let(seen, "", ()).text
        return f'torch.einsum("B{side}TJ,BJ{p}{kept}->BT{out}", {seen}, {far})'

    def by_channels(self, t: Term, v: Ref, at: Product) -> str:
        """One term times v, where a gate has the memory's last axis: it weighs the entries of that
        axis before they are summed, or those that are left.
        """
        let, p, i, out = self.fn.let, at.heads, at.key, at.out
        if isinstance(t, InitialTerm):
            y = f'"B{at.matrix},BT{at.vector}->BT{out}", {t.state.text}'
            if t.decay.literal is not None:
                return f"torch.einsum({y}, {v.text}) * {t.decay.text}"
            if at.summed == i:
                weighed = f'torch.einsum("BT{at.vector},B{p}{i}T->BT{at.vector}", '
                weighed = let(f"{weighed}{v.text}, {t.decay.text})", "BT", ()).text
                return f"torch.einsum({y}, {weighed})"
            answered = f"torch.einsum({y}, {v.text})"
            return f'torch.einsum("BT{out},B{p}{i}T->BT{out}", {answered}, {t.decay.text})'
        near, far = at.factors(t)
        vector, summed, kept, side = at.vector, at.summed, at.kept, at.match
        if t.mask is None:
            return self.present_by_channels(t, v, at)
        if summed == i:
            match = f'"BT{vector},BJ{p}{summed},B{p}{i}TJ->B{side}TJ", {v.text}, {near}, {t.mask}'
            match = let(f"torch.einsum({match})", "", ()).text
            return f'torch.einsum("B{side}TJ,BJ{p}{kept}->BT{out}", {match}, {far})'
        match = f'torch.einsum("BT{vector},BJ{p}{summed}->B{side}TJ", {v.text}, {near})'
        terms = f"{let(match, '', ()).text}, {far}, {t.mask}"
        return f'torch.einsum("B{side}TJ,BJ{p}{kept},B{p}{i}TJ->BT{out}", {terms})'

    def present_by_channels(self, t: KernelTerm, v: Ref, at: Product) -> str:
        """A write of this token alone, times v."""
        p, i, side = at.heads, at.key, at.match
        near, far = at.factors(t)
        gated = t.gate.literal is None
        letters, rows = (f",B{p}{i}T", f", {t.gate.text}") if gated else ("", "")
        first, last = ((letters, rows), ("", "")) if at.summed == i else (("", ""), (letters, rows))
        match = f'torch.einsum("BT{at.vector},BT{p}{at.summed}{first[0]}->BT{side}", '
        match = self.fn.let(f"{match}{v.text}, {near}{first[1]})", "BT", ()).text
        y = f'torch.einsum("BT{side},BT{p}{at.kept}{last[0]}->BT{at.out}", {match}, {far}{last[1]})'
        return y if gated or t.gate.literal == 1 else f"{y} * {t.gate.text}"


def solved_late(term: KernelTerm) -> bool:
    """Are the keys of a write solved, not what is written? They are no longer."""
    assert term.z is not None
    return term.solved is not None and term.z.shape[-1].size <= term.u.shape[-1].size
