"""Gates, kernels and tensors of one piece: how the forms of `forms.py` are combined, accumulated and read off."""
from __future__ import annotations

from dataclasses import dataclass, field, replace

from nldsl.graph.equations import Node, Shape
from nldsl.schedule.cells import Cell
from nldsl.step.lowerings.forms import ONE, Carry, NotAffine, P, Rows, Run, Value, Vec, Write, nonnegative
from nldsl.step.lowerings.past import Past
from nldsl.step.source import Fn, Ref


@dataclass
class Piece:
    """Evaluates the equations of one region over one piece. `state` gives the start of each cell, `prefix` its gate axes."""

    fn: Fn
    cells: dict[str, Cell]
    state: dict[str, Ref]
    prefix: dict[str, int]
    past: Past | None = None
    read_late: set[str] = field(default_factory=set)           # cells that someone reads before this token's write
    solved: dict[str, Run] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)
    solving: list[str] = field(default_factory=list)
    length: str = "T"                                          # text of the number of rows that a value over tokens has

    # -- gates

    def rows(self, ref: Ref, node: Node | None, prefix: int) -> Rows:
        if ref.literal is not None:
            return Rows(ref.text, ref.literal, ref.literal >= 0)
        text = ref.text + "[..., None]" * (prefix - ref.rank)
        if ref.lead != "BT":
            text = f"{text}.expand(B, {self.length}, {'-1, ' * prefix})" if ref.lead == "" else \
                f"{text}.unsqueeze(1).expand(-1, {self.length}, {'-1, ' * prefix})"
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

    def late(self, term: Carry | Write, prefix: int, first: bool = False) -> Carry | Write:
        """The term as it stood before each token."""
        if isinstance(term, Carry):
            phi = term.phi.text if term.phi.literal is None else f"torch.full_like({self.like_rows(prefix)}, {term.phi.text})"
            return Carry(Rows(self.fn.let(f"late_prefix({phi}, {1.0 if first else 0.0})", "", ()).text), term.state)
        if term.kernel is None:
            diagonal = term.gate.text if term.gate.literal is None else \
                f"torch.full_like({self.like_rows(prefix)}, {term.gate.text})"
            return replace(term, kernel=self.fn.let(f"late(torch.diag_embed({diagonal}))", "", ()).text, gate=ONE)
        return replace(term, kernel=self.fn.let(f"late({term.kernel})", "", ()).text)

    # -- tensors

    def over_tokens(self, ref: Ref) -> Ref:
        """A real tensor with a value for each token."""
        if ref.lead == "BT":
            return ref
        text = self.fn.tensor(ref)
        sizes = ", ".join(str(a.size) for a in ref.shape)
        text = f"{text}.expand(B, {self.length}, {sizes})" if ref.lead == "" else f"{text}.unsqueeze(1).expand(B, {self.length}, {sizes})"
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


