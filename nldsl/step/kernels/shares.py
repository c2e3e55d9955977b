"""A memory that is too large for one program -> kernels of programs that share it.

The longest axis that all memories of a piece have is parted among programs. What is summed over it
is known when each has made its share: so a piece is several kernels, one after the other. Each
makes again what it needs of those before, but for these sums, which it reads. The sums of the
forward pass are kept for the backward pass. Where a kernel makes new memories, it makes the first
shares of the next piece, too, which need no other kernel then.

    y = W1 silu(W2 k)      first: W1[:, part] silu(W2[part, :] k)      then: y, the sum of them
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from nldsl.step.kernels.adjoint import Backward
from nldsl.step.kernels.code import Code, Tensor, padded
from nldsl.step.kernels.source import (
    ROW,
    Call,
    Grads,
    Shape,
    Source,
    backward_of,
    contiguous,
    gradient_sizes,
    lacking,
    lanewise,
    placed,
    products,
    text_of,
    whole,
)
from nldsl.step.kernels.tiles import CONSTANT, Op, Share, Sizes, Unfit, View

AHEAD, NEXT = "ahead", "next "
NUMBERS = ("piece", "at", "to")  # which piece; where its states begin, and those behind it
BYTES = 4


def summed_over(op: Op, tiles: Sequence[Sizes]) -> bool:
    """Does an operation sum over the axis that programs share?"""
    given, out = op.letters
    return op.kind == "einsum" and any(
        isinstance(n, Share) and c not in out
        for letters, x in zip(given, op.args)
        for c, n in zip(letters, tiles[x])
    )


@dataclass
class Settled:
    """The first kernel in which each value is known; `sums`: what programs add up; `alone`: by a
    sum of a share and something else, the latter, which one program adds.
    """

    known: list[int]
    sums: list[int] = field(default_factory=list)
    alone: dict[int, int] = field(default_factory=dict)


def settled(ops: Sequence[Op], tiles: Sequence[Sizes], roots: Collection[int]) -> Settled:
    """Shares stay shares through sums, and products with what all know, and are added up where
    something else is made of them: earlier, where that costs all that take them less.
    """
    live = sorted(needed(ops, roots))

    def cost(found: Settled) -> tuple[int, int]:
        return max(found.known[at] for at in roots), sum(math.prod(tiles[at]) for at in found.sums)

    best, shares = added_up(ops, tiles, roots, live, set())
    users = Counter(x for at in live for x in {*ops[at].args})
    for at in sorted(x for x in shares if users[x] > 1):
        other, _ = added_up(ops, tiles, roots, live, {*best.sums, at})
        best = min(best, other, key=cost)
    return best


def added_up(
    ops: Sequence[Op],
    tiles: Sequence[Sizes],
    roots: Collection[int],
    live: Sequence[int],
    asked: Collection[int],
) -> tuple[Settled, set[int]]:
    """Where these are, and whatever else must be; the shares that are not."""
    found, shares, missed = Settled([0] * len(ops)), set[int](), set[int]()
    for at in live:
        op = ops[at]
        parts = [x for x in op.args if x in shares]
        found.known[at] = max((found.known[x] for x in op.args), default=0)
        share = joins(op, at, parts, tiles, found.known)
        if share and op.kind == "add":
            found.alone.update((at, x) for x in op.args if x not in shares)
        if not share:
            missed |= {*parts}
            share = summed_over(op, tiles)
            found.known[at] += share
        if share:
            found.sums += [at] if at in asked else []
            shares |= {at} - {*asked}
    missed |= shares & {*roots}
    if not missed:
        return found, shares
    first = min(found.known[at] for at in missed)  # what comes later depends on these
    early = [at for at in missed if found.known[at] == first]
    return added_up(ops, tiles, roots, live, {*asked, *early})


def joins(
    op: Op, at: int, parts: Sequence[int], tiles: Sequence[Sizes], known: Sequence[int]
) -> bool:
    """Can the shares in these arguments stay shares, as those in the result?"""
    others = [x for x in op.args if x not in parts]
    if len({known[x] for x in parts}) != 1 or any(known[x] >= known[parts[0]] for x in others):
        return False
    if any(isinstance(n, Share) for x in (at, *others) for n in tiles[x]):
        return False
    if op.kind in ("add", "scale"):
        return True
    smaller = math.prod(tiles[at]) <= math.prod(tiles[parts[0]])
    return op.kind == "einsum" and len(parts) == 1 and smaller


def needed(ops: Sequence[Op], roots: Collection[int]) -> set[int]:
    """Values that these are made of."""
    found, stack = set[int](), [*roots]
    while stack:
        at = stack.pop()
        if at not in found:
            found.add(at)
            stack += ops[at].args
    return found


@dataclass(frozen=True)
class Stored:
    """A value that is handed out: under which name, how the tensor lies, the text of its first
    axis.
    """

    at: int
    name: str
    tensor: Tensor
    lane: str


@dataclass(frozen=True)
class Sources:
    """Kernels in order: those before the first piece, those of each."""

    once: tuple[Source, ...]
    each: tuple[Source, ...]


@dataclass
class Ahead:
    """The operations of a piece, and then those that make the first sums of the one that is next:
    what comes from outside is that of the next piece, what this one makes of memories is made.
    `sums`: by a sum, what it is in the next piece; `at`: the kernel that makes shares of it;
    `alone`: see `Settled`.
    """

    ops: list[Op]
    tiles: list[Sizes]
    sums: dict[int, int] = field(default_factory=dict)
    at: int = 0
    alone: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, ops: Sequence[Op], tiles: Sequence[Sizes], found: Settled, made: Mapping[Op, int]
    ) -> Ahead:
        """`made`: what the next piece is given, by the operation, and what it is here. Nothing is
        made ahead where the first kernel is the only one that makes any of it.
        """
        later = cls([*ops], [*tiles], at=max(found.known[at] for at in made.values()))
        first = [at for at in found.sums if found.known[at] == 1]
        again: dict[int, int] = {}
        for at in sorted(needed(ops, first)) if later.at else ():
            op = ops[at]
            here = made.get(op, at if op.kind in CONSTANT else None)
            if here is not None and found.known[here] in (0, later.at):
                again[at] = here
                continue
            kind = op.kind if op.args else "stored" if op in made else f"{NEXT}{op.kind}"
            again[at] = len(later.ops)
            later.ops.append(replace(op, args=tuple(again[x] for x in op.args), kind=kind))
            later.tiles.append(tiles[at])
            if at in found.alone:
                later.alone[again[at]] = again[found.alone[at]]
        later.sums = {at: again[at] for at in first if at in again}
        return later


@dataclass
class Kernels:
    """Those of one direction. `given`: where what comes from outside lies."""

    call: Call
    made: Ahead
    stored: Sequence[Stored]
    given: Callable[[Op], Stored]
    ahead: int = 1  # where the next piece is
    bytes: int = field(default=0, init=False)

    def sources(self, name: str) -> Sources:
        found = settled(self.made.ops, self.made.tiles, [x.at for x in self.stored])
        count = 1 + max(found.known[x.at] for x in self.stored)
        made = tuple(self.source(f"{name}_{n + 1}", n, found) for n in range(count))
        first = 1 if self.made.sums else 0
        return Sources(made[:first], made[first:])

    def source(self, name: str, n: int, found: Settled) -> Source:
        self.bytes, known, sums, later = 0, found.known, found.sums, self.made.sums
        code = Code(self.made.ops, self.made.tiles, alone=found.alone | self.made.alone)
        scratch = {at: f"w{j}" for j, at in enumerate(sums)}
        code.known = {at: self.total(code, scratch[at], at) for at in sums if known[at] <= n}

        def load(op: Op, tile: Sizes) -> str:
            where = self.given(op)
            self.count(where.tensor, tile)
            return code.load(where.name, where.tensor, tile, where.lane)

        for at in sums:
            if known[at] == n + 1:
                code.make([at], load)
                code.lines.append(self.share(code, scratch[at], at))
        for one in self.stored:
            if max(known[one.at], 1 if later else 0) == n:
                tile = self.made.tiles[one.at]
                code.make([one.at], load)
                text = code.store(one.name, one.tensor, tile, one.lane, f"v{one.at}")
                alike = not any(isinstance(size, Share) for size in tile)
                code.lines += ["if part == 0:", f"    {text}"] if alike else [text]
                self.count(one.tensor, tile)
        for at, next_at in later.items() if n == self.made.at else ():
            code.make([next_at], load)
            code.lines.append(self.share(code, next_of(scratch[at]), next_at))
        names = [*scratch.values(), *map(next_of, scratch.values())]
        return self.assembled(name, code, names)

    def count(self, tensor: Tensor, tile: Sizes) -> None:
        roles = {d for d in tensor.dims if d is not None and d >= 0}
        sizes = (self.call.lanes, *self.call.piece.programs[1:])
        numbers = math.prod(tile) * math.prod(sizes[r] for r in roles)
        self.bytes += BYTES * numbers * (self.call.parts if min(tensor.least, 0) <= -3 else 1)

    # -- what programs add up

    def place(self, code: Code, at: int, part: str) -> tuple[str, str]:
        """Where the share of a part lies, and the mask there."""
        tile = self.made.tiles[at]
        begin = f"(place * {self.call.parts} + {part}) * {math.prod(tile)}"
        rows = (f"{r} * {s}" for r, s in zip(code.rows(tile), contiguous(tile)))
        return " + ".join([begin, *rows]), code.mask(tile)

    def share(self, code: Code, name: str, at: int) -> str:
        place, mask = self.place(code, at, "part")
        self.bytes += BYTES * math.prod(self.made.tiles[at]) * self.call.programs
        return f"tl.store({name} + {place}, v{at}{f', mask={mask}' if mask else ''})"

    def total(self, code: Code, name: str, at: int) -> str:
        texts = []
        for part in range(self.call.parts):
            place, mask = self.place(code, at, str(part))
            said = f", mask={mask}, other=0.0" if mask else ""
            texts.append(f"tl.load({name} + {place}{said})")
        return " + ".join(texts)

    # -- the text

    def assembled(self, name: str, code: Code, scratch: Sequence[str]) -> Source:
        call = self.call
        rows = ["pid = tl.program_id(0).to(tl.int64)", f"part = pid % {call.parts}"]
        rows += [f"place = pid // {call.parts}", "lane = place"]
        for i, n in reversed([*enumerate(call.piece.programs[1:], 1)]):
            rows += [f"p{i} = lane % {n}", f"lane = lane // {n}"]
        rows += [f"r{n} = tl.arange(0, {padded(n)})" for n in sorted(code.ranges)]
        rows += [f"{ROW} = lane * {call.pieces} + piece"]
        last = f"lane * {call.pieces} + {call.pieces - 1 if self.ahead > 0 else 0}"
        least = "tl.minimum" if self.ahead > 0 else "tl.maximum"
        rows += [f"{AHEAD} = {least}({ROW} + {self.ahead}, {last})", *code.lines]
        words = {*re.findall(r"\w+", "\n".join(code.lines))}
        leaves = (op for op in self.made.ops if not op.args and op.kind not in CONSTANT)
        given = [self.given(op).name for op in leaves]
        known = [*given, *(x.name for x in self.stored), *scratch]
        names = [x for x in dict.fromkeys(known) if x in words]
        self.bytes += sum(
            BYTES * math.prod(self.made.tiles[at]) * call.programs
            for at in code.known
            if at in code.done
        )
        made = [self.made.ops[at] for at in code.done if at not in code.known]
        flops = sum(products(code, op) for op in made) * call.programs
        largest = max(math.prod(map(padded, self.made.tiles[at])) for at in code.done)
        return Source(
            name,
            text_of(name, [*names, *NUMBERS], rows, NUMBERS),
            tuple(names),
            call.programs,
            8 if largest >= 2048 else 4,
            flops,
            any(op.low for op in made),
            self.bytes,
            NUMBERS,
        )


def states_at(name: str, at: int, view: View, sizes: Sizes, base: str) -> Stored:
    """The value `at` of a state, in rows that begin at `base`, one for each lane."""
    tensor = placed(view, (0, *view.dims[1:]), contiguous(sizes))
    return Stored(at, f"{name}{view.tensor}", tensor, f"({base} + lane)")


def state_at(name: str, view: View, call: Call, base: str) -> Stored:
    return states_at(name, view.at, view, call.states[view.tensor].sizes, base)


@cache
def settled_of(call: Call) -> Settled:
    """Of the values of a piece."""
    found = call.piece
    return settled(found.ops, found.tiles, [x.at for x in (*found.outs, *found.new)])


def sums_of(call: Call) -> list[int]:
    """The values of a piece that programs add up."""
    return settled_of(call).sums


@cache
def ahead_of(call: Call) -> Ahead:
    piece = call.piece
    made = {piece.ops[old.at]: new.at for old, new in zip(piece.states, piece.new)}
    return Ahead.of(piece.ops, piece.tiles, settled_of(call), made)


def next_of(scratch: str) -> str:
    return f"next_{scratch}"


def sum_sizes(call: Call) -> list[Sizes]:
    """Of what is kept of them, for all pieces."""
    front = (call.rows, *call.piece.programs[1:])
    return [(*front, *call.piece.tiles[at]) for at in sums_of(call)]


def sum_at(call: Call, i: int, row: str = ROW) -> Stored:
    """One that is kept."""
    at, sizes = sums_of(call)[i], sum_sizes(call)[i]
    tile = len(call.piece.tiles[at])
    dims = (*range(len(sizes) - tile), *(-1 - k for k in range(tile)))
    return Stored(at, f"u{i}", Tensor(dims, contiguous(sizes)), row)


@cache
def forward_sources(call: Call) -> Sources:
    """The kernels of a piece: they read states `s`, streams `x`, write states `t` and what is
    handed on, `o`, and if states are kept, sums `u`. Raises Unfit.
    """
    found = call.piece

    def given(op: Op) -> Stored:
        i = int(op.number)
        if op.kind == "state":
            return state_at("s", found.states[i], call, "at")
        if op.kind == "stored":
            return state_at("t", found.new[i], call, "to")
        view, row = found.streams[i], AHEAD if op.kind.startswith(NEXT) else ROW
        return Stored(view.at, f"x{i}", lanewise(view, call.streams[i]), row)

    stored = [
        Stored(view.at, f"o{view.tensor}", whole(view, view.sizes), ROW) for view in found.outs
    ]
    stored += [state_at("t", view, call, "to") for view in found.new]
    stored += [sum_at(call, i) for i in range(len(sums_of(call)) if call.keep else 0)]
    return Kernels(call, ahead_of(call), stored, given).sources("forward")


@cache
def made_back(call: Call, grads: Grads) -> Backward:
    return backward_of(call, grads, sums_of(call))


@cache
def settled_back(call: Call, grads: Grads) -> Settled:
    made = made_back(call, grads)
    return settled(made.ops, made.tiles, [*made.streams.values(), *made.states.values()])


@cache
def ahead_back(call: Call, grads: Grads) -> Ahead:
    """Raises Unfit."""
    made = made_back(call, grads)
    if len(made.states) < len(call.piece.states):
        raise Unfit("a memory of which nothing is made")
    new = {op: made.states[int(op.number)] for op in made.ops if op.kind == "grad_new"}
    return Ahead.of(made.ops, made.tiles, settled_back(call, grads), new)


@cache
def backward_sources(call: Call, grads: Grads) -> Sources:
    """Those of the backward pass of a piece: they read its states `s`, streams `x`, sums `u`, the
    gradients in what it handed on, `g`, and in the states behind it, `e`; they write the gradients
    in its states, `h`, and in streams, `y`. Raises Unfit.
    """
    found, handed = call.piece, dict(grads.outs)
    made = made_back(call, grads)

    def given(op: Op) -> Stored:
        i, kind = int(op.number), op.kind.removeprefix(NEXT)
        begin, row = ("at", ROW) if kind == op.kind else ("to", AHEAD)
        if kind == "state":
            return state_at("s", found.states[i], call, begin)
        if kind == "kept":
            return sum_at(call, i, row)
        if kind == "grad_new":
            return state_at("e", found.new[i], call, "0")
        if kind == "stored":
            return state_at("h", found.states[i], call, "0")
        if kind == "grad_out":
            view = found.outs[i]
            tensor = lanewise(view, Shape(view.sizes, handed[view.tensor]))
            return Stored(view.at, f"g{view.tensor}", tensor, row)
        view = found.streams[i]
        return Stored(view.at, f"x{i}", lanewise(view, call.streams[i]), row)

    stored = []
    for i, at in made.streams.items():
        view = found.streams[i]
        strides = contiguous(gradient_sizes(found, i))
        tensor = placed(view, view.dims, strides, lacking(found, view))
        stored.append(Stored(at, f"y{i}", tensor, ROW))
    for i, at in made.states.items():
        view = found.states[i]
        stored.append(states_at("h", at, view, call.states[view.tensor].sizes, "0"))
    return Kernels(call, ahead_back(call, grads), stored, given, -1).sources("backward")


def scratch_sizes(call: Call, grads: Grads | None) -> dict[str, int]:
    """Numbers of what programs add up, by name."""
    if grads is None:
        found, later = settled_of(call), ahead_of(call)
    else:
        found, later = settled_back(call, grads), ahead_back(call, grads)
    sizes = {f"w{j}": math.prod(later.tiles[at]) * call.programs for j, at in enumerate(found.sums)}
    twice = [f"w{j}" for j, at in enumerate(found.sums) if at in later.sums]
    return sizes | {next_of(name): sizes[name] for name in twice}
