"""What a memory is or answers at every token of a piece, as tensors, from the forms that it is
written down in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nldsl.core.nodes import Shape
from nldsl.step.lowerings.forms import ONE, Carry, NotAffine, P, Rows, Run, Value, Vec, Write
from nldsl.step.lowerings.piece import Piece
from nldsl.step.source import Ref

Let = Callable[..., Ref]
ANSWERS, STATES = "answers", "states"  # what a read of a moving memory leaves at each token


def present(run: Run) -> list[Carry | Write]:
    """The terms, but a start that is weighed with the number 0."""
    return [t for t in run.terms if not isinstance(t, Carry) or t.phi.literal != 0]


@dataclass
class Reads(Piece):
    """Tensors of what `Piece` writes down: at every token, after the last, or times a vector for
    each token.
    """

    def over_tokens(self, ref: Ref) -> Ref:
        """A real tensor with a value for each token."""
        if ref.lead == "BT":
            return ref
        text = self.fn.tensor(ref)
        sizes = ", ".join(str(a.size) for a in ref.shape)
        text = (
            f"{text}.expand(B, {self.length}, {sizes})"
            if ref.lead == ""
            else f"{text}.unsqueeze(1).expand(B, {self.length}, {sizes})"
        )
        return self.fn.let(text, "BT", ref.shape)

    def as_run(self, value: Value, prefix: int, shape: Shape | None = None) -> Run:
        if isinstance(value, Vec):
            raise NotAffine(
                "a vector that the memory answered is kept in it",
                self.solving[-1] if self.solving else "",
            )
        if isinstance(value, Run):
            if value.prefix == prefix:
                return value
            value = self.plain(value)
        if value.literal == 0:
            return Run(shape or value.shape, prefix)
        if shape is not None and value.shape != shape:
            value = (
                Ref(
                    f"{self.fn.align(value, value.lead, len(shape))}.expand(*{value.text}.shape[:{len(value.lead)}], "
                    + ", ".join(str(a.size) for a in shape)
                    + ")",
                    value.lead,
                    shape,
                )
                if value.literal is None
                else Ref(value.text, "", shape, value.literal)
            )
        return Run(value.shape, prefix, (Write(None, ONE, self.over_tokens(value), None),))

    def plain(self, value: Value) -> Ref:
        """The value at every token as one tensor [B, T, ..]."""
        if isinstance(value, Ref):
            return value
        if isinstance(value, Vec) or value.own is not None or value.erases:
            raise NotAffine(
                "the memory being updated is used as a whole",
                self.solving[-1] if self.solving else "",
            )
        p, total = P[: value.prefix], None
        rest = len(value.shape) - value.prefix
        r = "uvwxyz"[:rest]

        def entries(gate: Rows) -> str:
            return (
                f"{gate.text}.movedim(-1, 1).unsqueeze(-2)"
                if value.wide and gate.literal is None
                else self.by_token(gate, rest)
            )

        for t in present(value):
            if isinstance(t, Carry):
                text = f"{entries(t.phi)} * {t.state.text}.unsqueeze(1)"
                if t.phi.literal is not None:
                    text = f"{t.phi.text} * {t.state.text}.unsqueeze(1).expand(-1, T, {'-1, ' * len(value.shape)})"
            else:
                parts = f"BJ{p}{r[:1]},BJ{p}{r[1:2]}" if t.z is not None else f"BJ{p}{r}"
                tensors = f"{t.u.text}, {t.z.text}" if t.z is not None else t.u.text
                if t.kernel is None:
                    text = (
                        f'torch.einsum("{parts.replace("J", "T")}->BT{p}{r}", {tensors})'
                        if t.z is not None
                        else t.u.text
                    )
                    text += "" if t.gate.literal == 1 else f" * {entries(t.gate)}"
                else:
                    text = f'torch.einsum("B{p}{r[-1] if value.wide else ""}TJ,{parts}->BT{p}{r}", {t.kernel}, {tensors})'
            ref = self.fn.let(text, "BT", value.shape)
            if rest and (isinstance(t, Carry) or t.kernel is not None):
                self.read[ref.text] = STATES
            total = (
                ref
                if total is None
                else self.fn.let(f"{total.text} + {ref.text}", "BT", value.shape)
            )
        return total if total is not None else Ref("0.0", "", value.shape, 0.0)

    def last(self, run: Run) -> str:
        """The value after the last token of the piece, [B, ..]."""
        p, total = P[: run.prefix], None
        rest = len(run.shape) - run.prefix
        r = "uvwxyz"[:rest]
        tail = ".unsqueeze(-2)" if run.wide else "[..., " + "None, " * rest + "]" if rest else ""
        for t in present(run):
            if isinstance(t, Carry):
                text = (
                    f"{t.phi.text} * {t.state.text}"
                    if t.phi.literal is not None
                    else f"{t.phi.text}[..., -1]{tail} * {t.state.text}"
                )
            elif t.kernel is None:
                gate = (
                    ""
                    if t.gate.literal == 1
                    else f" * {t.gate.text}"
                    + ("" if t.gate.literal is not None else f"[..., -1]{tail}")
                )
                text = (
                    f'torch.einsum("B{p}u,B{p}v->B{p}uv", {t.u.text}[:, -1], {t.z.text}[:, -1])'
                    if t.z is not None
                    else f"{t.u.text}[:, -1]"
                ) + gate
            else:
                row = self.fn.let(f"{t.kernel}[..., -1, :]", "", ())
                if t.z is None:
                    text = f'torch.einsum("B{p}{r[-1] if run.wide else ""}J,BJ{p}{r}->B{p}{r}", {row.text}, {t.u.text})'
                elif run.wide:
                    z = self.fn.let(f"{t.z.text} * {row.text}.movedim(-1, 1)", "BT", ())
                    text = f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {t.u.text}, {z.text})'
                else:
                    u = self.fn.let(f"{t.u.text} * {row.text}.movedim(-1, 1)[..., None]", "BT", ())
                    text = f'torch.einsum("BJ{p}u,BJ{p}v->B{p}uv", {u.text}, {t.z.text})'
            ref = self.fn.let(text, "B", run.shape)
            total = (
                ref if total is None else self.fn.let(f"{total.text} + {ref.text}", "B", run.shape)
            )
        return total.text if total is not None else f"torch.zeros_like({self.state_text(run)})"

    def state_text(self, run: Run) -> str:
        return next(s.text for s in self.state.values() if s.shape == run.shape)

    def contract(self, x: Run, v: Ref, lx: str, lv: str, out: str) -> Ref | Vec:
        """x times a vector for each token: einsum over one of the last two axes of x."""
        v = self.over_tokens(v)
        shared = (set(lx) & set(lv) - set(out)).pop()
        p, (o, i) = lx[: x.prefix], (lx[-2], lx[-1])
        sizes = dict(zip(lx, x.shape)) | dict(zip(lv, v.shape))
        shape: Shape = tuple(sizes[c] for c in out)
        if x.own is not None or x.erases:
            if shared == o or out != p + o or lv != p + i:
                raise NotAffine("the memory being updated is read across its columns")
            rest = (
                self.contract(replace(x, own=None, erases=()), v, lx, lv, out) if x.terms else None
            )
            assert rest is None or isinstance(rest, Ref)
            own = (x.own, v)
            if x.wide and x.own is not None and x.own.literal is None:
                own = (ONE, self.fn.let(f"{v.text} * {self.by_token(x.own, 0)}", "BT", v.shape))
            reads = [] if x.own is None else [own]
            for gate, a, b in x.erases:  # what the erases of this token have left of it
                met = self.fn.let(
                    f'torch.einsum("BT{p}{i},BT{p}{i}->B{p}T", {b.text}, {v.text})', "", ()
                )
                reads.append((self.times(gate, Rows(met.text)), a))
            return Vec(shape, tuple(reads), rest)
        term = self.channels_with if x.wide else self.heads_with
        total = None
        for t in present(x):
            if not isinstance(t, Carry) and t.z is None:
                dense = self.plain(Run(x.shape, x.prefix, (t,), wide=x.wide))
                y = f'torch.einsum("BT{lx},BT{lv}->BT{out}", {dense.text}, {v.text})'
            else:
                y = term(t, v, lx, lv, out, p)
            ref = self.fn.let(y, "BT", shape)
            if isinstance(t, Carry) or t.kernel is not None:
                self.read.setdefault(ref.text, ANSWERS)
            total = ref if total is None else self.fn.let(f"{total.text} + {ref.text}", "BT", shape)
        return total if total is not None else Ref("0.0", "", shape, 0.0)

    def heads_with(self, t: Carry | Write, v: Ref, lx: str, lv: str, out: str, p: str) -> str:
        """One term times v, where a gate is a number for each head."""
        let, near, far, gone, kept, side = self.sides(t, lx, lv, out, p)
        if isinstance(t, Carry):
            y = f'torch.einsum("B{lx},BT{lv}->BT{out}", {t.state.text}, {v.text})'
            if t.phi.literal is None:
                factor = let(f'torch.einsum("B{p}T->BT{p}", {t.phi.text})', "", ())
                return f'torch.einsum("BT{out},BT{p}->BT{out}", {y}, {factor.text})'
            return y if t.phi.literal == 1 else f"{y} * {t.phi.text}"
        if t.kernel is None:
            match = let(f'torch.einsum("BT{lv},BT{p}{gone}->BT{side}", {v.text}, {near})', "BT", ())
            y = f'torch.einsum("BT{side},BT{p}{kept}->BT{out}", {match.text}, {far})'
            if t.gate.literal is None:
                return f'torch.einsum("BT{out},B{p}T->BT{out}", {y}, {t.gate.text})'
            return y if t.gate.literal == 1 else f"{y} * {t.gate.text}"
        match = let(f'torch.einsum("BT{lv},BJ{p}{gone}->B{side}TJ", {v.text}, {near})', "", ())
        seen = (
            f"{match.text} * {t.kernel}"
            if side == p
            else f'torch.einsum("B{side}TJ,B{p}TJ->B{side}TJ", {match.text}, {t.kernel})'
        )
        return f'torch.einsum("B{side}TJ,BJ{p}{kept}->BT{out}", {let(seen, "", ()).text}, {far})'

    def channels_with(self, t: Carry | Write, v: Ref, lx: str, lv: str, out: str, p: str) -> str:
        """One term times v, where a gate has the memory's last axis: it weighs the entries of that
        axis before they are summed, or those that are left.
        """
        let, near, far, gone, kept, side = self.sides(t, lx, lv, out, p)
        i = lx[-1]
        if isinstance(t, Carry):
            y = f'"B{lx},BT{lv}->BT{out}", {t.state.text}'
            if t.phi.literal is not None:
                return f"torch.einsum({y}, {v.text}) * {t.phi.text}"
            if gone == i:
                weighed = let(
                    f'torch.einsum("BT{lv},B{p}{i}T->BT{lv}", {v.text}, {t.phi.text})', "BT", ()
                )
                return f"torch.einsum({y}, {weighed.text})"
            return f'torch.einsum("BT{out},B{p}{i}T->BT{out}", torch.einsum({y}, {v.text}), {t.phi.text})'
        if t.kernel is None:
            gate = "" if t.gate.literal is not None else f"B{p}{i}T"
            rows = f", {t.gate.text}" if gate else ""
            times = "" if gate or t.gate.literal == 1 else f" * {t.gate.text}"
            first, last = (
                ((f",{gate}", rows), ("", ""))
                if gate and gone == i
                else (("", ""), (f",{gate}" if gate else "", rows))
            )
            match = let(
                f'torch.einsum("BT{lv},BT{p}{gone}{first[0]}->BT{side}", {v.text}, {near}{first[1]})',
                "BT",
                (),
            )
            return f'torch.einsum("BT{side},BT{p}{kept}{last[0]}->BT{out}", {match.text}, {far}{last[1]}){times}'
        if gone == i:
            match = let(
                f'torch.einsum("BT{lv},BJ{p}{gone},B{p}{i}TJ->B{side}TJ", {v.text}, {near}, {t.kernel})',
                "",
                (),
            )
            return f'torch.einsum("B{side}TJ,BJ{p}{kept}->BT{out}", {match.text}, {far})'
        match = let(f'torch.einsum("BT{lv},BJ{p}{gone}->B{side}TJ", {v.text}, {near})', "", ())
        return f'torch.einsum("B{side}TJ,BJ{p}{kept},B{p}{i}TJ->BT{out}", {match.text}, {far}, {t.kernel})'

    def sides(
        self, t: Carry | Write, lx: str, lv: str, out: str, p: str
    ) -> tuple[Let, str, str, str, str, str]:
        """Which factor of a write meets the vector, and which is left: their texts, the letter
        summed, the letter kept, those of the match.
        """
        gone = (set(lx) & set(lv) - set(out)).pop()
        swap = gone == lx[-2]
        near, far = (
            ("", "")
            if isinstance(t, Carry) or t.z is None
            else (t.u.text, t.z.text)
            if swap
            else (t.z.text, t.u.text)
        )
        return (
            self.fn.let,
            near,
            far,
            gone,
            lx[-1] if swap else lx[-2],
            "".join(dict.fromkeys(p + lv.replace(gone, ""))),
        )
