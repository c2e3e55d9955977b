"""Arithmetic of gates, and what memories accumulate of the terms in `terms.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nldsl.step.lowerings.terms import ONE, AffineState, Gate, InitialTerm, KernelTerm, Term
from nldsl.step.source import Fn, Ref


@dataclass
class Gates:
    """Writes gates of one piece into a function.

    `state` gives the start of each memory, `heads` its axes of heads, `length` the text of the
    number of rows that a value over tokens has.
    """

    fn: Fn
    state: Mapping[str, Ref]
    heads: Mapping[str, int]
    length: str = "T"

    def of(self, ref: Ref, heads: int) -> Gate:
        """A number for each token and head, from [B, T, P..] or what is the same for some of it."""
        if ref.literal is not None:
            return Gate(ref.text, ref.literal)
        text = ref.text + "[..., None]" * (heads - ref.rank)
        if ref.lead != "BT":
            text = (
                f"{text}.expand(B, {self.length}, {'-1, ' * heads})"
                if ref.lead == ""
                else f"{text}.unsqueeze(1).expand(-1, {self.length}, {'-1, ' * heads})"
            )
        if heads:
            text = f"{text}.movedim(1, -1)"
        return self.named(text)

    def named(self, text: str) -> Gate:
        return Gate(self.fn.let(text, "", ()).text)

    def times(self, a: Gate, b: Gate) -> Gate:
        if a.literal is not None and b.literal is not None:
            return Gate(repr(a.literal * b.literal), a.literal * b.literal)
        for x, y in ((a, b), (b, a)):
            if x.literal == 1:
                return y
        return self.named(f"{a.text} * {b.text}")

    def plus(self, a: Gate, b: Gate) -> Gate:
        if a.literal is not None and b.literal is not None:
            return Gate(repr(a.literal + b.literal), a.literal + b.literal)
        return self.named(f"{a.text} + {b.text}")

    def inverse(self, gate: Gate) -> Gate:
        if gate.literal:
            return Gate(repr(1 / gate.literal), 1 / gate.literal)
        return self.named(f"1 / {gate.text}")

    def by_token(self, gate: Gate, trailing: int) -> str:
        """[B, P.., T] -> [B, T, P.., 1..]"""
        if gate.literal is not None:
            return gate.text
        return f"{gate.text}.movedim(-1, 1)" + (
            "[" + "..., " + "None, " * trailing + "]" if trailing else ""
        )

    def like(self, heads: int) -> str:
        """A tensor [B, P.., T]."""
        state = next(s for n, s in self.state.items() if self.heads[n] == heads)
        sizes = ", ".join(str(a.size) for a in state.shape[:heads])
        text = f"{self.fn.like}.new_zeros((B, {sizes + ', ' if sizes else ''}T))"
        return self.fn.let(text, "", ()).text

    def full(self, literal: str, state: AffineState) -> str:
        """A gate that is a number for all, as a tensor."""
        text = f"torch.full_like({self.like(state.heads)}, {literal})"
        return text + (".unsqueeze(-2)" if state.channels else "")

    def decay(self, gate: Gate, heads: int) -> tuple[str, str]:
        """mask [B, P.., T, J] of the products of gates between two tokens, and decay [B, P.., T] of
        those since the piece began.
        """
        if gate.literal is None:
            text = f"decay_kernel({gate.text})"
        elif gate.literal == 1:
            text = f"running({self.like(heads)})"
        else:
            text = f"powers({self.like(heads)}, {gate.literal!r})"
        mask, decay = self.fn.lets(text, "kernel", "phi")
        return mask, decay

    def accumulated(self, mask: str, term: Term) -> Term:
        """The term after the memory has added up its values, each decayed by `mask`."""
        let = self.fn.let
        if isinstance(term, InitialTerm):
            text = (
                f"{mask}.sum(-1) * {term.decay.text}"
                if term.decay.literal is not None
                else f"({mask} @ {term.decay.text}.unsqueeze(-1)).squeeze(-1)"
            )
            return InitialTerm(self.named(text), term.state)
        if term.mask is not None:
            return replace(term, mask=let(f"{mask} @ {term.mask}", "", ()).text)
        return replace(term, mask=self.weighed(mask, term.gate), gate=ONE)

    def weighed(self, mask: str, gate: Gate) -> str:
        """A mask over tokens that weigh what they write by a gate."""
        if gate.literal == 1:
            return mask
        row = gate.text + ("" if gate.literal is not None else ".unsqueeze(-2)")
        return self.fn.let(f"{mask} * {row}", "", ()).text

    def shifted(self, term: Term, state: AffineState, start: bool = False) -> Term:
        """A term of the state as it stood before each token; `start`: is it the memory's own start,
        which the first token finds whole?
        """
        if isinstance(term, InitialTerm):
            decay = term.decay
            text = decay.text if decay.literal is None else self.full(decay.text, state)
            first = 1.0 if start else 0.0
            return InitialTerm(self.named(f"shift_decay({text}, {first})"), term.state)
        if term.mask is None:
            gate = term.gate
            diagonal = gate.text if gate.literal is None else self.full(gate.text, state)
            mask = self.fn.let(f"shift_right(torch.diag_embed({diagonal}))", "", ()).text
            return replace(term, mask=mask, gate=ONE)
        return replace(term, mask=self.fn.let(f"shift_right({term.mask})", "", ()).text)

    def scaled(self, term: Term, gate: Gate) -> Term:
        if isinstance(term, InitialTerm):
            return InitialTerm(self.times(term.decay, gate), term.state)
        if term.mask is None:
            return replace(term, gate=self.times(term.gate, gate))
        return replace(term, mask=self.by_row(term.mask, gate))

    def by_row(self, mask: str, gate: Gate) -> str:
        """A mask over tokens that weigh what they find by a gate."""
        row = gate.text if gate.literal is not None else f"{gate.text}.unsqueeze(-1)"
        return self.fn.let(f"{mask} * {row}", "", ()).text

    # -- gates for each channel

    def by_channel(self, state: AffineState) -> AffineState:
        """The same state with gates that have the memory's last axis."""
        if state.channels:
            return state
        terms = tuple(
            InitialTerm(over_channels(t.decay), t.state)
            if isinstance(t, InitialTerm)
            else replace(
                t,
                gate=over_channels(t.gate),
                mask=None if t.mask is None else f"{t.mask}.unsqueeze(-3)",
            )
            for t in state.terms
        )
        gate = None if state.self_gate is None else over_channels(state.self_gate)
        return replace(state, terms=terms, self_gate=gate, channels=True)

    def sum(self, x: AffineState, y: AffineState) -> AffineState:
        if x.channels or y.channels:
            x, y = self.by_channel(x), self.by_channel(y)
        gate = (
            x.self_gate
            if y.self_gate is None
            else y.self_gate
            if x.self_gate is None
            else self.plus(x.self_gate, y.self_gate)
        )
        return AffineState(
            x.shape,
            x.heads,
            x.terms + y.terms,
            gate,
            x.householder + y.householder,
            x.channels,
        )

    def scale(self, x: AffineState, gate: Gate, channels: bool = False) -> AffineState:
        """A state times a number for each token and head, or each channel of its last axis."""
        if channels:
            x = self.by_channel(x)
            householder = tuple(
                replace(
                    h,
                    write=self.fn.let(
                        f"{h.write.text} * {self.by_token(gate, 0)}", "BT", h.write.shape
                    ),
                )
                for h in x.householder
            )
        else:
            householder = tuple(replace(h, gate=self.times(h.gate, gate)) for h in x.householder)
            if x.channels:
                gate = over_channels(gate)
        terms = tuple(self.scaled(t, gate) for t in x.terms)
        own = None if x.self_gate is None else self.times(x.self_gate, gate)
        return replace(x, terms=terms, self_gate=own, householder=householder)

    # -- what no derivative passes through

    def detached_ref(self, ref: Ref) -> Ref:
        if ref.literal is not None:
            return ref
        return self.fn.let(f"{ref.text}.detach()", ref.lead, ref.shape)

    def detached_gate(self, gate: Gate) -> Gate:
        return gate if gate.literal is not None else self.named(f"{gate.text}.detach()")

    def detached(self, term: Term) -> Term:
        if isinstance(term, InitialTerm):
            return InitialTerm(self.detached_gate(term.decay), self.detached_ref(term.state))
        mask = None if term.mask is None else self.fn.let(f"{term.mask}.detach()", "", ()).text
        gate = self.detached_gate(term.gate)
        u = self.detached_ref(term.u)
        return KernelTerm(mask, gate, u, None if term.z is None else self.detached_ref(term.z))


def over_channels(gate: Gate) -> Gate:
    return gate if gate.literal is not None else Gate(f"{gate.text}.unsqueeze(-2)")
