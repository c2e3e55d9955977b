"""A piece of a memory -> two Triton kernels, that of all pieces and that of its backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from nldsl.step.kernels.adjoint import Backward, backward
from nldsl.step.kernels.code import HEAD, Code, Tensor, padded
from nldsl.step.kernels.tiles import Op, Piece, Sizes, Unfit, View, piece

Strides = tuple[int, ...]
ROW = "row"
ROOM = 1 << 14  # numbers of a head's memories, 64 KiB of a processor's registers and shared memory
SHARE = 1 << 15  # of what one program has of larger ones, in each piece
MOST = 16  # programs that share a head's memories
Load = Callable[[Op, Sizes], str]


@dataclass(frozen=True)
class Shape:
    """Of a tensor that a kernel is given."""

    sizes: Sizes
    strides: Strides


@dataclass(frozen=True)
class Call:
    """What kernels are written for: the statements of a piece, the states and streams that they are
    given, how many `pieces` each lane has. `left`: is the state behind the last piece wanted?
    `keep`: are those before each?
    """

    text: str
    states: tuple[Shape, ...]
    streams: tuple[Shape, ...]
    pieces: int
    left: bool
    keep: bool

    @property
    def lanes(self) -> int:
        return self.states[0].sizes[0]

    @property
    def rows(self) -> int:
        """Pieces of all lanes."""
        return self.lanes * self.pieces

    @property
    def piece(self) -> Piece:
        """Raises Unfit."""
        return self.shared(self.parts)

    def shared(self, parts: int) -> Piece:
        """Raises Unfit."""
        old = tuple((self.rows, *x.sizes[1:]) for x in self.states)
        return piece(self.text, old, tuple(x.sizes for x in self.streams), parts)

    @property
    def parts(self) -> int:
        """The programs that share a head's memories. Raises Unfit if they would be too many."""
        return parts_of(self)

    @property
    def starts(self) -> list[Sizes]:
        """Sizes of the states before each piece."""
        return [(self.rows, *x.sizes[1:]) for x in self.states]

    @property
    def programs(self) -> int:
        return math.prod((self.lanes, *self.piece.programs[1:])) * self.parts


@cache
def parts_of(call: Call) -> int:
    found = call.shared(1)
    numbers = sum(math.prod(map(padded, found.tiles[x.at])) for x in found.states)
    if numbers <= ROOM:
        return 1
    parts = max(2, 1 << (math.ceil(numbers / SHARE) - 1).bit_length())
    if parts > MOST:
        raise Unfit(f"{numbers:,} numbers a head, more than {MOST} programs share")
    return parts


@dataclass(frozen=True)
class Grads:
    """Which gradients come in, of states behind the last piece and of what was handed on, with
    their strides, and of which streams they are wanted.
    """

    new: tuple[tuple[int, Strides], ...]
    outs: tuple[tuple[int, Strides], ...]
    streams: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A kernel as text, the names of the tensors that it takes, and what it runs on; the operations
    of its products, and whether any of them is of numbers rounded to bfloat16. Of one that is run
    for each piece: the bytes that it moves, and the numbers that it takes behind the tensors.
    """

    name: str
    text: str
    tensors: tuple[str, ...]
    programs: int
    warps: int
    flops: int
    low: bool
    bytes: int = 0
    numbers: tuple[str, ...] = ()


def contiguous(sizes: Sizes) -> Strides:
    return tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))


def whole(view: View, sizes: Sizes) -> Tensor:
    """A tensor of these sizes that is made for a value."""
    return placed(view, view.dims, contiguous(sizes))


def placed(
    view: View, dims: tuple[int | None, ...], strides: Strides, front: tuple[int, ...] = ()
) -> Tensor:
    """Where the entry of a view is; `front`: axes before those of the view."""
    dim, entry = view.entry
    return Tensor((*front, *dims), strides, entry * strides[len(front) + dim])


def lanewise(view: View, shape: Shape) -> Tensor:
    """A tensor that is given; what has one row for all lanes and pieces has no stride there."""
    strides = tuple(0 if n == 1 else s for n, s in zip(shape.sizes, shape.strides, strict=True))
    dims = (
        0 if i == 0 and d is None and n > 1 else d
        for i, (d, n) in enumerate(zip(view.dims, shape.sizes))
    )
    return placed(view, tuple(dims), strides)


def lacking(found: Piece, view: View) -> tuple[int, ...]:
    """Axes of programs that a stream does not have: its gradient is a sum over them."""
    return tuple(r for r, n in enumerate(found.programs) if n > 1 and r not in view.dims)


def gradient_sizes(found: Piece, stream: int) -> Sizes:
    """Of the gradient in a stream, before it is summed over what the stream lacks."""
    view = found.streams[stream]
    return (*(found.programs[r] for r in lacking(found, view)), *view.sizes)


@cache
def forward_source(call: Call) -> Source:
    """Raises Unfit."""
    found = call.piece
    code = Code(found.ops, found.tiles)
    names, first, last = list[str](), list[str](), list[str]()
    for i, view in enumerate(found.states):
        name, tile = f"s{view.tensor}", found.tiles[view.at]
        names.append(name)
        given = lanewise(view, call.states[view.tensor])
        first.append(f"m{i} = {code.load(name, given, tile, 'lane')}")
    names += [f"x{i}" for i in range(len(found.streams))]
    for i, view in enumerate(found.states if call.keep else ()):
        names.append(f"k{view.tensor}")
        kept = whole(view, call.starts[view.tensor])
        code.lines.append(code.store(names[-1], kept, found.tiles[view.at], ROW, f"m{i}"))

    def load(op: Op, tile: Sizes) -> str:
        i = int(op.number)
        if op.kind == "state":
            return f"m{i}"
        return code.load(f"x{i}", lanewise(found.streams[i], call.streams[i]), tile, ROW)

    for view in found.outs:
        names.append(f"o{view.tensor}")
        code.make([view.at], load)
        out = whole(view, view.sizes)
        code.lines.append(code.store(names[-1], out, found.tiles[view.at], ROW, f"v{view.at}"))
    code.make([view.at for view in found.new], load)
    code.lines += [f"m{i} = v{view.at}" for i, view in enumerate(found.new)]
    for i, view in enumerate(found.new if call.left else ()):
        names.append(f"n{view.tensor}")
        new = whole(view, call.states[view.tensor].sizes)
        last.append(code.store(names[-1], new, found.tiles[view.at], "lane", f"m{i}"))
    return assembled("forward", call, code, names, first, "piece", last)


@cache
def backward_source(call: Call, grads: Grads) -> Source:
    """Raises Unfit."""
    found = call.piece
    made = backward_of(call, grads)
    code = Code(made.ops, made.tiles)
    names, first, last, unseen = list[str](), list[str](), list[str](), list[str]()
    behind, handed = dict(grads.new), dict(grads.outs)
    for i, (view, new) in enumerate(zip(found.states, found.new)):
        tile, kept = found.tiles[view.at], whole(view, call.starts[view.tensor])
        names.append(f"k{view.tensor}")
        code.lines.append(f"m{i} = {code.load(names[-1], kept, tile, ROW)}")
        shape = ", ".join(str(padded(n)) for n in tile)
        zero = nothing = f"tl.full([{shape}], 0.0, tl.float32)"
        if view.tensor in behind:
            names.append(f"e{view.tensor}")
            given = Shape(call.states[view.tensor].sizes, behind[view.tensor])
            zero = code.load(names[-1], lanewise(new, given), found.tiles[new.at], "lane")
        first.append(f"d{i} = {zero}")
        unseen += [f"d{i} = {nothing}"] if i not in made.states else []
    names += [f"x{i}" for i in range(len(found.streams))]
    names += [f"g{i}" for i in handed]

    def load(op: Op, tile: Sizes) -> str:
        i = int(op.number)
        if op.kind in ("state", "grad_new"):
            return f"{'m' if op.kind == 'state' else 'd'}{i}"
        if op.kind == "grad_out":
            view = found.outs[i]
            here = lanewise(view, Shape(view.sizes, handed[view.tensor]))
            return code.load(f"g{view.tensor}", here, tile, ROW)
        return code.load(f"x{i}", lanewise(found.streams[i], call.streams[i]), tile, ROW)

    write_gradients(found, made, code, load, names)
    code.lines += [*(f"d{i} = v{at}" for i, at in made.states.items()), *unseen]
    for i, view in enumerate(found.states):
        names.append(f"h{view.tensor}")
        start = whole(view, call.states[view.tensor].sizes)
        last.append(code.store(names[-1], start, found.tiles[view.at], "lane", f"d{i}"))
    return assembled("backward", call, code, names, first, f"{call.pieces - 1} - piece", last)


def backward_of(call: Call, grads: Grads, kept: Sequence[int] = ()) -> Backward:
    """Raises Unfit."""
    found, handed = call.piece, dict(grads.outs)
    outs = [i for i, view in enumerate(found.outs) if view.tensor in handed]
    return backward(found, grads.streams, range(len(found.new)), outs, kept)


def write_gradients(found: Piece, made: Backward, code: Code, load: Load, names: list[str]) -> None:
    """The gradients in streams, each stored when it is known, then those in states."""
    for i, at in made.streams.items():
        names.append(f"y{i}")
        code.make([at], load)
        view = found.streams[i]
        sizes = gradient_sizes(found, i)
        grad = placed(view, view.dims, contiguous(sizes), lacking(found, view))
        code.lines.append(code.store(f"y{i}", grad, found.tiles[view.at], ROW, f"v{at}"))
    code.make(made.states.values(), load)


def assembled(
    name: str,
    call: Call,
    code: Code,
    names: Sequence[str],
    first: Sequence[str],
    at: str,
    last: Sequence[str],
) -> Source:
    """The kernel around the lines of a piece: `first` before all pieces, `last` behind them."""
    heads = call.piece.programs[1:]
    rows = ["lane = tl.program_id(0).to(tl.int64)"]
    for i, n in reversed([*enumerate(heads, 1)]):
        rows += [f"p{i} = lane % {n}", f"lane = lane // {n}"]
    rows += [f"r{n} = tl.arange(0, {padded(n)})" for n in sorted(code.ranges)]
    rows += [*first, f"for piece in range({call.pieces}):"]
    rows += [f"    {line}" for line in (f"{ROW} = lane * {call.pieces} + {at}", *code.lines)]
    rows += last
    names = [*dict.fromkeys(names)]
    text = text_of(name, names, rows)
    largest = max(math.prod(map(padded, tile)) for tile in code.tiles)
    made = [op for at, op in enumerate(code.ops) if at in code.done]
    flops = sum(products(code, op) for op in made) * call.pieces * call.programs
    warps = 8 if largest > 2048 else 4
    low = any(op.low for op in made)
    return Source(name, text, tuple(names), call.programs, warps, flops, low)


def text_of(
    name: str, names: Sequence[str], rows: Sequence[str], numbers: Sequence[str] = ()
) -> str:
    """`numbers`: arguments that a kernel is not written anew for."""
    body = "\n".join(f"    {row}" for row in rows)
    how = f"(do_not_specialize={[*numbers]})" if numbers else ""
    return f"{HEAD}\n@triton.jit{how}\ndef {name}({', '.join(names)}):\n{body}\n"


def products(code: Code, op: Op) -> int:
    """Operations of a product that sums over an axis."""
    given, out = op.letters
    size = {c: n for letters, x in zip(given, op.args) for c, n in zip(letters, code.tiles[x])}
    sums = op.kind == "einsum" and len(given) == 2 and {*size} - {*out}
    return 2 * math.prod(size.values()) if sums else 0
