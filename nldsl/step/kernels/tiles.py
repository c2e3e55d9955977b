"""Statements of a piece -> operations on tiles: what one lane and head of a memory does.

The statements are run on symbols in the place of tensors. An axis that memories have in front of a
matrix, or that is matched with one, is one of programs, which need nothing of each other; what is
left of a value is a tile of at most two axes. Where an entry of such an axis is picked, it is
written out instead: each entry of a value is a value then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import add
from types import SimpleNamespace

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST = 16  # entries of an axis that is written out
Sizes = tuple[int, ...]


class Share(int):
    """The size of an axis of a tile that is one program's share of it."""


class Unfit(Exception):
    """Why statements are none of a kernel."""


class Picked(Unfit):
    """An entry is picked of an axis of programs."""

    def __init__(self, role: int) -> None:
        super().__init__("an entry of one head or lane")
        self.role = role


@dataclass(eq=False)
class Axis:
    """An axis of a value; `role`: which of the programs' axes it is, the lane's being 0. Of axes
    that are matched one speaks for all, the `root`.
    """

    size: int
    role: int | None = None
    parent: Axis | None = None

    @property
    def root(self) -> Axis:
        return self if self.parent is None else self.parent.root

    def match(self, other: Axis) -> None:
        one, two = self.root, other.root
        if one is two:
            return
        if one.size != two.size:
            raise Unfit(f"sizes {one.size} and {two.size}")
        if None not in (one.role, two.role) and one.role != two.role:
            raise Unfit("a product over heads or lanes")
        two.role = one.role if two.role is None else two.role
        one.parent = two


@dataclass(eq=False)
class Written:
    """An axis that is written out."""

    size: int


@dataclass(frozen=True)
class Op:
    """`kind` is a row of the tables that differentiate and write it. `eq` has the letters of the
    axes of each argument and of the result, as in `ab,bc->ac`; `low`: of numbers rounded to
    bfloat16; `number`: of a scale, or the sign of the second term of a sum.
    """

    kind: str
    args: tuple[int, ...]
    eq: str
    number: float = 1.0
    low: bool = False

    @property
    def letters(self) -> tuple[list[str], str]:
        given, _, out = self.eq.partition("->")
        return given.split(",") if self.args else [], out


@dataclass
class Tape:
    """Operations in order, and the axes of what each makes."""

    ops: list[Op] = field(default_factory=list)
    axes: list[tuple[Axis, ...]] = field(default_factory=list)
    known: dict[Op, int] = field(default_factory=dict)
    shared: Axis | None = None
    parts: int = 1

    def share(self, states: Sequence[Symbol], parts: int) -> None:
        """Raises Unfit where states have no axis in common that so many programs can share."""
        if parts == 1:
            return
        first, *rest = (at for x in states for at in x.ats)
        common = [a.root for a in tile(self, first) if a.size % parts == 0]
        for at in rest:
            common = [a for a in common if a in [b.root for b in tile(self, at)]]
        if not common:
            raise Unfit("its memories have no axis in common that programs could share")
        self.shared, self.parts = max(common, key=lambda a: a.size), parts
        for at, op in enumerate(self.ops):
            count = [a.root for a in tile(self, at)].count(self.shared)
            if count > 1:
                raise Unfit("a value of two axes that programs share")
            if count and op.kind in CONSTANT:
                raise Unfit("an entry of an axis that programs share")

    def extent(self, axis: Axis) -> int:
        return Share(axis.size // self.parts) if axis.root is self.shared else axis.size

    def add(self, op: Op, axes: Sequence[Axis]) -> int:
        if op not in self.known:
            self.known[op] = len(self.ops)
            self.ops.append(op)
            self.axes.append(tuple(axes))
        return self.known[op]

    def given(self, kind: str, number: int, sizes: Sizes, written: int | None = None) -> Symbol:
        """What comes from outside, from this number on; an axis of size 1 broadcasts."""
        if written is None:
            dims = [Axis(n) if n > 1 else None for n in sizes]
            at = self.add(Op(kind, (), "", number), [d for d in dims if d is not None])
            return Symbol(self, (at,), tuple(dims))
        count, one = sizes[written], (*sizes[:written], 1, *sizes[written + 1 :])
        entries = [self.given(kind, number + i, one) for i in range(count)]
        for x in entries[1:]:
            for mine, other in zip(x.dims, entries[0].dims):
                if isinstance(mine, Axis) and isinstance(other, Axis):
                    mine.match(other)
        return piled(entries, written)

    def constant(self, kind: str, size: int, axes: int, number: int = 0) -> Symbol:
        """Of equal axes; see `CONSTANT`."""
        dims = tuple(Axis(size) for _ in range(axes))
        self.ops.append(Op(kind, (), "", number))
        self.axes.append(dims)
        return Symbol(self, (len(self.ops) - 1,), dims)

    def record(
        self,
        kind: str,
        args: Sequence[Symbol],
        names: Sequence[Sequence[str]],
        out: Sequence[str],
        number: float = 1.0,
        low: bool = False,
    ) -> Symbol:
        """A new value. `names`: for each dimension of each argument what it is called here; `out`:
        those of the result.
        """
        named = [pair for x, called in zip(args, names) for pair in zip(x.dims, called)]
        written = {n: d.size for d, n in named if isinstance(d, Written)}
        if written:
            if len(written) > 1 or any(n in written for d, n in named if isinstance(d, Axis)):
                raise Unfit("an axis that is written out, and another")
            ((name, count),) = written.items()
            entries = [
                self.record(kind, [x.entry(i) for x in args], names, out, number, low)
                for i in range(count)
            ]
            return piled(entries, [*out].index(name)) if name in out else reduce(add, entries)
        letter: dict[str, str] = {}
        axes: dict[str, Axis] = {}
        given = []
        for x, called in zip(args, names, strict=True):
            here = {id(d): n for d, n in zip(x.dims, called, strict=True) if d is not None}
            for axis in self.axes[x.at]:
                name = here[id(axis)]
                letter.setdefault(name, LETTERS[len(letter)])
                axis.match(axes.setdefault(name, axis))
            given.append("".join(letter[here[id(axis)]] for axis in self.axes[x.at]))
        made = {n: Axis(axes[n].root.size) for n in out if n in axes}
        for n, axis in made.items():
            axis.match(axes[n])
        eq = f"{','.join(given)}->{''.join(letter[n] for n in made)}"
        at = self.add(Op(kind, tuple(x.at for x in args), eq, number, low), [*made.values()])
        known = dict(zip(made, self.axes[at]))
        return Symbol(self, (at,), tuple(known.get(n) for n in out))


@dataclass(frozen=True)
class Symbol:
    """A value as the statements see it: `dims` are its axes in order, None where it broadcasts;
    `ats`: the values of an axis that is written out, or one.
    """

    tape: Tape
    ats: tuple[int, ...]
    dims: tuple[Axis | Written | None, ...]

    @property
    def at(self) -> int:
        (at,) = self.ats
        return at

    def entry(self, i: int) -> Symbol:
        """Of the axis that is written out, which has size 1 then; if there is none, the value."""
        if len(self.ats) == 1:
            return self
        first, own = (self.tape.axes[self.ats[j]] for j in (0, i))
        dims = (own[first.index(d)] if isinstance(d, Axis) else None for d in self.dims)
        return Symbol(self.tape, (self.ats[i],), tuple(dims))

    # -- entry by entry

    def __add__(self, other: Symbol | float) -> Symbol:
        if isinstance(other, Symbol):
            return entries("add", self, other)
        return single("shift", self, other)

    __radd__ = __add__

    def __sub__(self, other: Symbol | float) -> Symbol:
        if isinstance(other, Symbol):
            return entries("add", self, other, -1.0)
        return single("shift", self, -other)

    def __rsub__(self, other: float) -> Symbol:
        return -self + other

    def __neg__(self) -> Symbol:
        return single("scale", self, -1.0)

    def __mul__(self, other: Symbol | float) -> Symbol:
        if isinstance(other, Symbol):
            return entries("einsum", self, other)
        return single("scale", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Symbol | float) -> Symbol:
        return self * (single("inverse", other) if isinstance(other, Symbol) else 1.0 / other)

    def __rtruediv__(self, other: float) -> Symbol:
        return single("inverse", self) * other

    def __pow__(self, power: float) -> Symbol:
        if power != 2:
            raise Unfit(f"a power of {power:g}")
        return self * self

    # -- the same numbers, other axes

    def movedim(self, source: int, target: int) -> Symbol:
        dims = [*self.dims]
        axis = dims.pop(source)
        dims.insert(target % len(self.dims), axis)
        return Symbol(self.tape, self.ats, tuple(dims))

    def unsqueeze(self, at: int) -> Symbol:
        place = at % (len(self.dims) + 1)
        return Symbol(self.tape, self.ats, (*self.dims[:place], None, *self.dims[place:]))

    def expand(self, *sizes: int) -> Symbol:
        dims, ats = [*self.dims], self.ats
        for i, n in enumerate(sizes):
            if dims[i] is None and n > 1:
                if len(ats) > 1 or n > LONGEST:
                    raise Unfit(f"{n} times the same")
                dims[i], ats = Written(n), ats * n
        return Symbol(self.tape, ats, tuple(dims))

    @property
    def mT(self) -> Symbol:
        return self.movedim(-1, -2)

    def contiguous(self) -> Symbol:
        return self

    def __getitem__(self, key: object) -> Symbol:
        keys = [*key] if isinstance(key, tuple) else [key]
        if ... not in keys:
            keys.append(...)
        at = keys.index(...)
        named = sum(k is not None for k in keys) - 1
        keys[at : at + 1] = [slice(None)] * (len(self.dims) - named)
        x, place = self, 0
        for one in keys:
            if one is None:
                x = x.unsqueeze(place)
            elif isinstance(one, int):
                x, place = x.select(place, one), place - 1
            elif one in (slice(-1, None), slice(None, 1)):
                x = x.select(place, -1 if one == slice(-1, None) else 0).unsqueeze(place)
            elif one != slice(None):
                raise Unfit("a part of what a memory makes")
            place += 1
        return x

    def select(self, dim: int, i: int) -> Symbol:
        """An entry of an axis, which is gone then."""
        dim %= len(self.dims)
        axis = self.dims[dim]
        if axis is None or isinstance(axis, Written):
            one = self if axis is None else self.entry(i % axis.size)
            return Symbol(self.tape, one.ats, (*one.dims[:dim], *one.dims[dim + 1 :]))
        if axis.root.role is not None:
            raise Picked(axis.root.role)
        unit, names = self.tape.constant("unit", axis.size, 1, i % axis.size), called(self)
        rest = [*names[:dim], *names[dim + 1 :]]
        return self.tape.record("einsum", [self, unit], [names, [names[dim]]], rest)

    # -- sums

    def sum(self, over: Sequence[int]) -> Symbol:
        gone = {d % len(self.dims) for d in over}
        names = called(self)
        kept = [n for i, n in enumerate(names) if i not in gone]
        return self.tape.record("einsum", [self], [names], kept)

    def mean(self, over: Sequence[int]) -> Symbol:
        sizes = [d.size for i in over if (d := self.dims[i]) is not None]
        return self.sum(over) * (1.0 / math.prod(sizes))

    def detach(self) -> Symbol:
        return single("stop", self)


def piled(entries: Sequence[Symbol], place: int) -> Symbol:
    """Values of one form as one; they have size 1 at this place."""
    dims = [*entries[0].dims]
    dims[place] = Written(len(entries))
    return Symbol(entries[0].tape, tuple(x.at for x in entries), tuple(dims))


def called(x: Symbol) -> list[str]:
    """A name for each dimension, counted from the last."""
    return [str(i) for i in range(len(x.dims), 0, -1)]


def single(kind: str, x: Symbol, number: float = 1.0) -> Symbol:
    names = called(x)
    return x.tape.record(kind, [x], [names], names, float(number))


def entries(kind: str, x: Symbol, y: Symbol, number: float = 1.0) -> Symbol:
    """As tensors broadcast."""
    names = called(x), called(y)
    return x.tape.record(kind, [x, y], names, max(names, key=len), number)


def einsum(eq: str, *xs: Symbol) -> Symbol:
    given, _, out = eq.partition("->")
    if len(xs) > 2 or "..." in eq:
        raise Unfit(f"a product `{eq}`")
    return xs[0].tape.record("einsum", xs, [*map(list, given.split(","))], [*out])


def product(eq: str, *xs: Symbol) -> Symbol:
    """As the step's own `product` in bfloat16: what has the axes of a product of matrices is one of
    rounded numbers.
    """
    given, _, out = eq.partition("->")
    left, right = (
        (set(x) & set(out) for x in given.split(",", 1)) if len(xs) == 2 else ({""}, set())
    )
    summed = set.intersection(*map(set, given.split(","))) - set(out)
    if not summed or left <= right or right <= left:
        return einsum(eq, *xs)
    return xs[0].tape.record("einsum", xs, [*map(list, given.split(","))], [*out], 1.0, True)


def entrywise(kind: str) -> Callable[[Symbol], Symbol]:
    return lambda x: single(kind, x)


# -- kernels of gates; see the functions of these names in the step's runtime


def tokens(x: Symbol) -> int:
    """How many there are in the last axis."""
    axis = x.dims[-1]
    if not isinstance(axis, Axis):
        raise Unfit("a kernel of one token")
    return axis.size


def wy_inverse(kernel: Symbol) -> Symbol:
    tokens(kernel)
    names = called(kernel)
    ordered = kernel.tape.record("einsum", [kernel], [names], names)
    return single("solve", ordered)


def decay_kernel(c: Symbol) -> tuple[Symbol, Symbol]:
    below = c.tape.constant("below", tokens(c), 2)
    kernel = wy_inverse(-(c.unsqueeze(-1) * below))
    return kernel, kernel[..., 0] * c[..., :1]


def later(x: Symbol, dim: int) -> Symbol:
    """One token later; 0 at the first."""
    below, names = x.tape.constant("below", tokens(x), 2), called(x)
    before = [*names]
    before[dim] = "before"
    given = [[names[dim], "before"], before]
    return x.tape.record("einsum", [below, x], given, names)


def shift_right(kernel: Symbol) -> Symbol:
    return later(kernel, -2)


def shift_decay(prefix: Symbol, first: float) -> Symbol:
    return later(prefix, -1) + prefix.tape.constant("unit", tokens(prefix), 1) * first


TORCH = {"sigmoid": entrywise("sigmoid"), "sqrt": entrywise("sqrt"), "exp": entrywise("exp")}
WORDS = {
    "torch": SimpleNamespace(einsum=einsum, **TORCH),
    "F": SimpleNamespace(silu=entrywise("silu")),
    "product": product,
    "decay_kernel": decay_kernel,
    "wy_inverse": wy_inverse,
    "shift_right": shift_right,
    "shift_decay": shift_decay,
}
CONSTANT = {
    "unit": "{row} == {number}",  # 1 at one place
    "below": "{row} == {column} + 1",
    "strict": "{row} > {column}",
}


@dataclass(frozen=True)
class View:
    """Of the tensor of this number, or what is made for it: the value `at`, and what its dimensions
    are: an axis of programs (0 the lane's), an axis of the tile (-1 the first, -2 the second; -3
    and -4 if programs share it), None of size 1 or written out. `entry`: the dimension that is
    written out, and which of it this is.
    """

    at: int
    dims: tuple[int | None, ...]
    sizes: Sizes
    tensor: int
    entry: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Piece:
    """What a piece does for one lane and head: operations, and the tile that each makes; `new`
    states, and `outs`, what is handed on, of the sizes `handed`. `programs`: lanes times pieces,
    then heads.
    """

    ops: tuple[Op, ...]
    tiles: tuple[Sizes, ...]
    states: tuple[View, ...]
    streams: tuple[View, ...]
    new: tuple[View, ...]
    outs: tuple[View, ...]
    handed: tuple[Sizes, ...]
    programs: Sizes


@cache
def piece(
    text: str, states: tuple[Sizes, ...], streams: tuple[Sizes, ...], parts: int = 1
) -> Piece:
    """The function `piece(states, streams)` of the text, for tensors of these sizes; states are
    given as many lanes as streams have, one for each piece. So many programs share the longest axis
    that all states have. Raises Unfit.
    """
    try:
        return traced(text, states, streams, parts, None)
    except Picked as axis:
        if not axis.role:
            raise
        return traced(text, states, streams, parts, axis.role)


def traced(
    text: str,
    states: tuple[Sizes, ...],
    streams: tuple[Sizes, ...],
    parts: int,
    written: int | None,
) -> Piece:
    """`written`: the axis of the widest states that is written out. Raises Unfit."""
    space: dict[str, object] = {**WORDS}
    exec(compile(text, "<nldsl kernel>", "exec"), space)
    tape, widest, old = Tape(), max(states, key=len), list[Symbol]()
    if written is not None and widest[written] > LONGEST:
        raise Unfit(f"an entry of an axis of {widest[written]}")
    for size in states:
        place = written if len(size) == len(widest) else None
        old.append(tape.given("state", sum(len(y.ats) for y in old), size, place))
    taken = [tape.given("given", i, x) for i, x in enumerate(streams)]
    front = widest[: max(1, len(widest) - 2)]
    roles = [i for i in range(len(front)) if i != written]
    for x in (memory.entry(i) for memory in old for i in range(len(memory.ats))):
        for role, at in enumerate(roles if len(x.dims) > 1 else roles[:1]):
            axis = x.dims[at] if at < len(x.dims) else None
            if isinstance(axis, Axis):
                axis.match(Axis(axis.size, role))
    run = space["piece"]
    assert callable(run)
    try:
        new, outs = run(old, taken)
    except (AttributeError, NameError) as error:
        raise Unfit(f"`{error.name}` is none of its operations") from None
    except TypeError:
        raise Unfit("numbers that no tile holds") from None
    if [(tuple(x), len(y.ats)) for x, y in zip(states, old)] != [
        (sizes(x), len(x.ats)) for x in new
    ]:
        raise Unfit("a memory that is made without what it was")
    hold(tape)
    tape.share(old, parts)
    return Piece(
        tuple(stripped(tape, at) for at in range(len(tape.ops))),
        tuple(tuple(map(tape.extent, tile(tape, at))) for at in range(len(tape.ops))),
        views(old),
        views(taken),
        views(new),
        views(outs),
        tuple(map(sizes, outs)),
        tuple(front[i] for i in roles),
    )


def sizes(x: Symbol) -> Sizes:
    return tuple(1 if d is None else d.size for d in x.dims)


def tile(tape: Tape, at: int) -> list[Axis]:
    return [a for a in tape.axes[at] if a.root.role is None]


def views(some: Sequence[Symbol]) -> tuple[View, ...]:
    """One for each value."""
    found = []
    for tensor, x in enumerate(some):
        place = next((i for i, d in enumerate(x.dims) if isinstance(d, Written)), 0)
        found += [view(x.entry(i), sizes(x), tensor, (place, i)) for i in range(len(x.ats))]
    return tuple(found)


def view(x: Symbol, whole: Sizes, tensor: int, entry: tuple[int, int]) -> View:
    here = tile(x.tape, x.at)

    def place(d: Axis | Written | None) -> int | None:
        if not isinstance(d, Axis):
            return None
        if d.root.role is not None:
            return d.root.role
        return (-3 if d.root is x.tape.shared else -1) - here.index(d)

    return View(x.at, tuple(map(place, x.dims)), whole, tensor, entry)


def stripped(tape: Tape, at: int) -> Op:
    """The operation without axes of programs."""
    op = tape.ops[at]
    given, out = op.letters
    rows = [*(zip(x, tape.axes[i]) for x, i in zip(given, op.args)), zip(out, tape.axes[at])]
    *given, out = ("".join(c for c, a in row if a.root.role is None) for row in rows)
    return Op(op.kind, op.args, f"{','.join(given)}->{out}", op.number, op.low)


def hold(tape: Tape) -> None:
    """Raises Unfit where programs need each other, or a value is no tile."""
    for at, op in enumerate(tape.ops):
        roles = [a.root.role for a in tape.axes[at] if a.root.role is not None]
        if op.kind in CONSTANT and roles:
            raise Picked(roles[0])
        if len(tile(tape, at)) > 2:
            raise Unfit("a value of three axes")
        if len({*roles}) < len(roles):
            raise Unfit("heads with heads")
        given, out = op.letters
        for x, letters in zip(op.args, given):
            for axis, letter in zip(tape.axes[x], letters):
                if axis.root.role is not None and letter not in out:
                    raise Unfit("a sum over heads or lanes")
