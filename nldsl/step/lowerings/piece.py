"""Gates and kernels of one piece: how the forms of `forms.py` are combined and accumulated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nldsl.schedule.cells import Cell
from nldsl.step.lowerings.forms import ONE, Carry, NotAffine, Rows, Run, Value, Write
from nldsl.step.lowerings.past import Past
from nldsl.step.source import Fn, Ref


@dataclass
class Piece:
    """Evaluates the equations of one region over one piece.

    `state` gives the start of each cell, `prefix` its gate axes.
    """

    fn: Fn
    cells: dict[str, Cell]
    state: dict[str, Ref]
    prefix: dict[str, int]
    past: Past | None = None
    read_late: set[str] = field(
        default_factory=set
    )  # cells that someone reads before this token's write
    solved: dict[str, Run] = field(default_factory=dict)
    memo: dict[int, Value] = field(default_factory=dict)
    solving: list[str] = field(default_factory=list)
    forms: dict[str, bool] = field(
        default_factory=dict
    )  # what a reader is told of how it is computed, in order
    read: dict[str, str] = field(
        default_factory=dict
    )  # variables that are a moving memory's answers, or its states
    length: str = "T"  # text of the number of rows that a value over tokens has
    given: frozenset[int] = frozenset()  # what the region takes, by id

    # -- gates

    def rows(self, ref: Ref, prefix: int) -> Rows:
        if ref.literal is not None:
            return Rows(ref.text, ref.literal)
        text = ref.text + "[..., None]" * (prefix - ref.rank)
        if ref.lead != "BT":
            text = (
                f"{text}.expand(B, {self.length}, {'-1, ' * prefix})"
                if ref.lead == ""
                else f"{text}.unsqueeze(1).expand(-1, {self.length}, {'-1, ' * prefix})"
            )
        if prefix:
            text = f"{text}.movedim(1, -1)"
        return Rows(self.fn.let(text, "", ()).text)

    def times(self, a: Rows, b: Rows) -> Rows:
        if a.literal is not None and b.literal is not None:
            return Rows(repr(a.literal * b.literal), a.literal * b.literal)
        for x, y in ((a, b), (b, a)):
            if x.literal == 1:
                return y
        return Rows(self.fn.let(f"{a.text} * {b.text}", "", ()).text)

    def plus(self, a: Rows, b: Rows) -> Rows:
        if a.literal is not None and b.literal is not None:
            return Rows(repr(a.literal + b.literal), a.literal + b.literal)
        return Rows(self.fn.let(f"{a.text} + {b.text}", "", ()).text)

    def by_token(self, rows: Rows, trailing: int) -> str:
        """[B, P.., T] -> [B, T, P.., 1..]"""
        if rows.literal is not None:
            return rows.text
        return f"{rows.text}.movedim(-1, 1)" + (
            "[" + "..., " + "None, " * trailing + "]" if trailing else ""
        )

    def decay(self, c: Rows, prefix: int) -> tuple[str, str]:
        if c.literal is None:
            text = f"decay_kernel({c.text})"
        elif c.literal == 1:
            text = f"running({self.like_rows(prefix)})"
        else:
            text = f"powers({self.like_rows(prefix)}, {c.literal!r})"
        kernel, phi = self.fn.lets(text, "kernel", "phi")
        return kernel, phi

    def like_rows(self, prefix: int) -> str:
        state = next(s for n, s in self.state.items() if self.prefix[n] == prefix)
        sizes = ", ".join(str(a.size) for a in state.shape[:prefix])
        return self.fn.let(
            f"{self.fn.like}.new_zeros((B, {sizes + ', ' if sizes else ''}T))", "", ()
        ).text

    def through(self, kernel: str, term: Carry | Write) -> Carry | Write:
        """The term after the memory has accumulated it."""
        let = self.fn.let
        if isinstance(term, Carry):
            if term.phi.literal is not None:
                return Carry(
                    Rows(let(f"{kernel}.sum(-1) * {term.phi.text}", "", ()).text), term.state
                )
            return Carry(
                Rows(let(f"({kernel} @ {term.phi.text}.unsqueeze(-1)).squeeze(-1)", "", ()).text),
                term.state,
            )
        if term.kernel is not None:
            return replace(term, kernel=let(f"{kernel} @ {term.kernel}", "", ()).text)
        if term.gate.literal == 1:
            return replace(term, kernel=kernel, gate=ONE)
        scaled = f"{kernel} * {term.gate.text}" + (
            "" if term.gate.literal is not None else ".unsqueeze(-2)"
        )
        return replace(term, kernel=let(scaled, "", ()).text, gate=ONE)

    def widened(self, run: Run) -> Run:
        """The same run with gates that have the memory's last axis."""
        if run.wide:
            return run
        if len(run.shape) != run.prefix + 2:
            raise NotAffine(
                "a gate for each channel of what is no matrix",
                self.solving[-1] if self.solving else "",
            )

        def gates(g: Rows) -> Rows:
            return g if g.literal is not None else Rows(f"{g.text}.unsqueeze(-2)")

        terms = tuple(
            Carry(gates(t.phi), t.state)
            if isinstance(t, Carry)
            else replace(
                t,
                gate=gates(t.gate),
                kernel=None if t.kernel is None else f"{t.kernel}.unsqueeze(-3)",
            )
            for t in run.terms
        )
        return replace(run, terms=terms, own=None if run.own is None else gates(run.own), wide=True)

    def alike(self, *runs: Run) -> tuple[Run, ...]:
        return tuple(self.widened(r) for r in runs) if any(r.wide for r in runs) else runs

    def late(self, term: Carry | Write, run: Run, first: bool = False) -> Carry | Write:
        """A term of the run as it stood before each token."""

        def full(literal: str) -> str:
            return f"torch.full_like({self.like_rows(run.prefix)}, {literal})" + (
                ".unsqueeze(-2)" if run.wide else ""
            )

        if isinstance(term, Carry):
            phi = term.phi.text if term.phi.literal is None else full(term.phi.text)
            return Carry(
                Rows(self.fn.let(f"late_prefix({phi}, {1.0 if first else 0.0})", "", ()).text),
                term.state,
            )
        if term.kernel is None:
            diagonal = term.gate.text if term.gate.literal is None else full(term.gate.text)
            return replace(
                term,
                kernel=self.fn.let(f"late(torch.diag_embed({diagonal}))", "", ()).text,
                gate=ONE,
            )
        return replace(term, kernel=self.fn.let(f"late({term.kernel})", "", ()).text)
