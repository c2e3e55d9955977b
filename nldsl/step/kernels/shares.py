"""A memory that is too large for one program -> kernels of programs that share it.

The longest axis that all memories of a piece have is parted among programs. What is summed over it
is known when each has made its share: so a piece is several kernels, one after the other. Each
reads these sums; what else it needs of those before it makes again, or they hand it over, whichever
passes less through memory. The sums of the forward pass are kept for the backward pass. Where a
kernel makes new memories, it makes the first shares of the next piece, too, which need no other
kernel then.

    y = W1 silu(W2 k)      first: W1[:, part] silu(W2[part, :] k)      then: y, the sum of them
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import networkx as nx

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


def cheapest(ops: Sequence[Op], wanted: Sequence[int], costs: Mapping[int, int]) -> set[int]:
    """What to bring, and not make, so that what is wanted can be made of it: a minimum cut. `costs`
    of what can be brought; what is made of nothing has to be.
    """
    graph: nx.DiGraph[object] = nx.DiGraph()
    for at in needed(ops, wanted):
        how = {"capacity": costs[at]} if at in costs else {}
        graph.add_edge((at, "needed"), (at, "made"), **how)
        for x in ops[at].args:
            graph.add_edge((at, "made"), (x, "needed"))
        if not ops[at].args:
            graph.add_edge((at, "made"), "end")
    graph.add_edges_from(("begin", (at, "needed")) for at in wanted)
    if not wanted:
        return set()
    _, (here, _) = nx.minimum_cut(graph, "begin", "end")
    return {at for at in costs if (at, "needed") in here and (at, "made") not in here}


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
    """Kernels in order: those before the first piece, those of each; the numbers of what they give
    each other, by name.
    """

    once: tuple[Source, ...]
    each: tuple[Source, ...]
    scratch: dict[str, int]


@dataclass
class Ahead:
    """The operations of a piece, and then those that make the first sums of the one that is next:
    what comes from outside is that of the next piece, what this one makes of memories is made.
    `again`: by a value, what it is in the next piece; `sums`: those whose shares the kernel `at`
    makes; `alone`: see `Settled`.
    """

    ops: list[Op]
    tiles: list[Sizes]
    again: dict[int, int] = field(default_factory=dict)
    sums: Sequence[int] = ()
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
        again, wanted = later.again, needed(ops, first)
        for at, op in enumerate(ops) if later.at and first else ():
            if found.known[at] and at not in wanted or not again.keys() >= {*op.args}:
                continue
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
        later.sums = first if again else []
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
    brought: dict[int, set[int]] = field(default_factory=dict, init=False)  # to a kernel
    handed: dict[int, set[int]] = field(default_factory=dict, init=False)  # by one

    def __post_init__(self) -> None:
        self.ops, self.tiles = self.made.ops, self.made.tiles
        self.found = settled(self.ops, self.tiles, [x.at for x in self.stored])
        self.scratch = {at: f"w{j}" for j, at in enumerate(self.found.sums)}

    def sources(self, name: str) -> Sources:
        made_in = list[set[int]]()
        for n in range(1 + max(self.found.known[x.at] for x in self.stored)):
            self.bring(n, made_in)
            made_in.append(self.makeable(n, self.code(n).done))
        made = tuple(self.assembled(f"{name}_{n + 1}", self.code(n)) for n in range(len(made_in)))
        first = 1 if self.made.sums else 0
        sizes = {x: self.size(at) // BYTES for at, x in self.scratch.items()}
        sizes |= {next_of(x): sizes[x] for x in map(self.scratch.__getitem__, self.again())}
        return Sources(made[:first], made[first:], sizes)

    def again(self) -> list[int]:
        """What is made for the next piece, too."""
        return [*self.made.sums, *sorted(self.handed.get(0, ()))] if self.made.sums else []

    def size(self, at: int) -> int:
        """Bytes of a value of all programs."""
        return BYTES * math.prod(self.tiles[at]) * self.call.programs

    # -- what a kernel need not make again, since it costs less to bring it from one before

    def bring(self, n: int, made_in: Sequence[Collection[int]]) -> None:
        wanted = [at for at in self.found.sums if self.found.known[at] == n + 1]
        wanted += [x.at for x in self.stored if self.kernel_of(x) == n]
        wanted += [self.made.again[at] for at in self.made.sums if n == self.made.at]
        costs = {at: self.size(at) for at in self.found.sums if self.found.known[at] <= n}
        for at, op in enumerate(self.ops):
            if op.kind in CONSTANT:
                costs[at] = 0
            elif not op.args:
                costs[at] = self.moved(self.given(op).tensor, self.tiles[at])
        before = {*()}.union(*made_in) - costs.keys()
        costs |= {at: 2 * self.size(at) for at in before}
        self.brought[n] = cheapest(self.ops, wanted, costs) & before
        for at in sorted(self.brought[n]):
            self.scratch[at] = f"z{at}"
            first = next(m for m, made in enumerate(made_in) if at in made)
            self.handed.setdefault(first, set()).add(at)

    def makeable(self, n: int, made: set[int]) -> set[int]:
        """What a kernel makes, or can make of that."""
        for at, op in enumerate(self.ops):
            if op.args and self.found.known[at] <= n and made.issuperset(op.args):
                made.add(at)
        return made

    def kernel_of(self, one: Stored) -> int:
        return max(self.found.known[one.at], 1 if self.made.sums else 0)

    # -- the lines of a kernel

    def code(self, n: int) -> Code:
        self.bytes, known, sums, scratch = 0, self.found.known, self.found.sums, self.scratch
        code = Code(self.ops, self.tiles, alone=self.found.alone | self.made.alone)
        code.known = {at: self.total(code, scratch[at], at) for at in sums if known[at] <= n}
        code.known |= {at: self.own(code, scratch[at], at) for at in self.brought.get(n, ())}

        def load(op: Op, tile: Sizes) -> str:
            where = self.given(op)
            self.bytes += self.moved(where.tensor, tile)
            return code.load(where.name, where.tensor, tile, where.lane)

        def give(at: int, name: str) -> None:
            code.make([at], load)
            code.lines.append(self.share(code, name, at))

        for at in (at for at in sums if known[at] == n + 1):
            give(at, scratch[at])
        for one in (one for one in self.stored if self.kernel_of(one) == n):
            tile = self.tiles[one.at]
            code.make([one.at], load)
            text = code.store(one.name, one.tensor, tile, one.lane, f"v{one.at}")
            alike = not any(isinstance(size, Share) for size in tile)
            code.lines += ["if part == 0:", f"    {text}"] if alike else [text]
            self.bytes += self.moved(one.tensor, tile)
        for at in sorted(self.handed.get(n, ())):
            give(at, scratch[at])
        for at in self.again() if n == self.made.at else ():
            give(self.made.again[at], next_of(scratch[at]))
        return code

    def moved(self, tensor: Tensor, tile: Sizes) -> int:
        """Bytes of a part of a tensor, that of all programs."""
        roles = {d for d in tensor.dims if d is not None and d >= 0}
        sizes = (self.call.lanes, *self.call.piece.programs[1:])
        numbers = math.prod(tile) * math.prod(sizes[r] for r in roles)
        return BYTES * numbers * (self.call.parts if min(tensor.least, 0) <= -3 else 1)

    # -- what programs add up

    def place(self, code: Code, at: int, part: str) -> tuple[str, str]:
        """Where the share of a part lies, and the mask there."""
        tile = self.tiles[at]
        begin = f"(place * {self.call.parts} + {part}) * {math.prod(tile)}"
        rows = (f"{r} * {s}" for r, s in zip(code.rows(tile), contiguous(tile)))
        return " + ".join([begin, *rows]), code.mask(tile)

    def share(self, code: Code, name: str, at: int) -> str:
        place, mask = self.place(code, at, "part")
        self.bytes += self.size(at)
        return f"tl.store({name} + {place}, v{at}{f', mask={mask}' if mask else ''})"

    def own(self, code: Code, name: str, at: int, part: str = "part") -> str:
        place, mask = self.place(code, at, part)
        return f"tl.load({name} + {place}{f', mask={mask}, other=0.0' if mask else ''})"

    def total(self, code: Code, name: str, at: int) -> str:
        return " + ".join(self.own(code, name, at, str(i)) for i in range(self.call.parts))

    # -- the text

    def assembled(self, name: str, code: Code) -> Source:
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
        leaves = (op for op in self.ops if not op.args and op.kind not in CONSTANT)
        given = [self.given(op).name for op in leaves]
        known = [*given, *(x.name for x in self.stored), *self.scratch.values()]
        known += map(next_of, self.scratch.values())
        names = [x for x in dict.fromkeys(known) if x in words]
        self.bytes += sum(self.size(at) for at in code.known if at in code.done)
        made = [self.ops[at] for at in code.done if at not in code.known]
        flops = sum(products(code, op) for op in made) * call.programs
        largest = max(math.prod(map(padded, self.tiles[at])) for at in code.done)
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
