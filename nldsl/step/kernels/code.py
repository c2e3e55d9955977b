"""Operations on tiles -> the text of a Triton kernel.

A program takes one lane and head through all pieces: the memory stays on the chip, each piece's
streams come to it, and what is handed on goes out. Sizes and strides are written as numbers. A tile
is as large as the next power of two, at least 16, and 0 where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nldsl.step.kernels.tiles import CONSTANT, Op, Sizes, Unfit

LEAST = 16  # of an axis of a product of matrices
HEAD = """import triton
import triton.language as tl


@triton.jit
def plus(a, b):
    return a + b

"""


def padded(n: int) -> int:
    return max(LEAST, 1 << (n - 1).bit_length())


@dataclass
class Code:
    """Lines of a loop over pieces; `tiles` are those of the values, called `v` and a number.
    `alone`: by a sum, the term that the first of the programs adds that share a memory.
    """

    ops: Sequence[Op]
    tiles: Sequence[Sizes]
    lines: list[str] = field(default_factory=list)
    ranges: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    known: dict[int, str] = field(default_factory=dict)  # texts of values that are made elsewhere
    alone: Mapping[int, int] = field(default_factory=dict)

    def let(self, at: int, text: str) -> None:
        self.lines.append(f"v{at} = {text}")

    def rows(self, tile: Sizes) -> list[str]:
        """The places along each axis, as they broadcast."""
        self.ranges |= {*tile}
        if len(tile) < 2:
            return [f"r{n}" for n in tile]
        return [f"r{tile[0]}[:, None]", f"r{tile[1]}[None, :]"]

    def mask(self, tile: Sizes) -> str:
        """Where a tile has numbers; empty if everywhere."""
        rows = zip(self.rows(tile), tile)
        return " & ".join(f"({row} < {n})" for row, n in rows if padded(n) != n)

    def guarded(self, at: int, text: str) -> str:
        """0 where there is nothing, of what need not be 0 there."""
        mask = self.mask(self.tiles[at])
        return f"tl.where({mask}, {text}, 0.0)" if mask else text

    def pointer(self, name: str, tensor: Tensor, tile: Sizes, lane: str) -> str:
        """`lane`: the text of the first axis of programs."""
        rows, text = self.rows(tile), [name, *([str(tensor.begin)] if tensor.begin else [])]
        for dim, stride in zip(tensor.dims, tensor.strides, strict=True):
            if dim is None or stride == 0:
                continue
            if dim <= -3:
                at = f"({rows[-3 - dim]} + part * {tile[-3 - dim]})"
            else:
                at = rows[-1 - dim] if dim < 0 else lane if dim == 0 else f"p{dim}"
            text.append(at if stride == 1 else f"{at} * {stride}")
        return " + ".join(text)

    def load(self, name: str, tensor: Tensor, tile: Sizes, lane: str) -> str:
        mask = self.mask(tile)
        said = f", mask={mask}, other=0.0" if mask else ""
        # a pointer that broadcasts along an axis is one of the whole tile
        there = [d for d, s in zip(tensor.dims, tensor.strides) if s]
        missing = any(-1 - k not in there and -3 - k not in there for k in range(len(tile)))
        pointer = self.pointer(name, tensor, tile, lane)
        if missing and tile:
            shape = ", ".join(str(padded(n)) for n in tile)
            pointer = f"{pointer} + tl.full([{shape}], 0, tl.int32)"
        return f"tl.load({pointer}{said}).to(tl.float32)"

    def store(self, name: str, tensor: Tensor, tile: Sizes, lane: str, text: str) -> str:
        mask = self.mask(tile)
        said = f", mask={mask}" if mask else ""
        return f"tl.store({self.pointer(name, tensor, tile, lane)}, {text}{said})"

    def make(self, wanted: Iterable[int], load: Callable[[Op, Sizes], str]) -> None:
        """Lines for these values, and what they need, each where it is first needed."""
        stack = [*reversed([*wanted])]
        while stack:
            at = stack[-1]
            args = () if at in self.known else self.ops[at].args
            needed = [x for x in args if x not in self.done]
            if at in self.done or not needed:
                stack.pop()
                if at not in self.done:
                    self.done.add(at)
                    op = self.ops[at]
                    text = self.known.get(at, "")
                    if not text:
                        written = op.kind in WRITE
                        text = WRITE[op.kind](self, op, at) if written else load(op, self.tiles[at])
                    self.let(at, text)
            else:
                stack += reversed(needed)


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies, or the entry of one: what its dimensions are (see `View`), and their
    strides; where it begins.
    """

    dims: tuple[int | None, ...]
    strides: tuple[int, ...]
    begin: int = 0

    @property
    def least(self) -> int:
        return min((d for d in self.dims if d is not None), default=0)


# -- each kind of operation


def aligned(text: str, letters: str, onto: str) -> str:
    """A tile with these letters as it broadcasts against one with the letters `onto`."""
    if len(letters) < 2:
        if len(onto) < 2 or not letters:
            return text
        return f"{text}[:, None]" if onto[0] == letters else f"{text}[None, :]"
    return text if letters == onto else f"tl.trans({text})"


def summed(text: str, letters: str, over: str) -> tuple[str, str]:
    """A tile summed over letters."""
    for c in over:
        text = f"tl.reduce({text}, {letters.index(c)}, plus)"
        letters = letters.replace(c, "")
    return text, letters


def product(code: Code, op: Op, at: int) -> str:
    given, out = op.letters
    rows = []
    for i, letters in enumerate(given):
        others = out + "".join(given[:i] + given[i + 1 :])
        rows.append(
            summed(f"v{op.args[i]}", letters, "".join(c for c in letters if c not in others))
        )
    if len(rows) == 1:
        return spread(code, *rows[0], out, at)
    (x, a), (y, b) = rows
    over = "".join(c for c in a if c in b and c not in out)
    left, right = a.replace(over, "", 1), b.replace(over, "", 1)
    if len(over) == 1 and len(a) == len(b) == 2 and left != right:
        if out == right + left:
            (x, a), (y, b) = (y, b), (x, a)
        return dot(op, turned(x, a[1] == over), turned(y, b[0] == over))
    onto = out + over
    if len(onto) > 2 or {*onto} != {*a, *b}:
        raise Unfit(f"a product of tiles `{op.eq}`")
    return summed(f"({aligned(x, a, onto)} * {aligned(y, b, onto)})", onto, over)[0]


def spread(code: Code, text: str, letters: str, out: str, at: int) -> str:
    """A tile with more letters, the same along them."""
    if sorted(letters) == sorted(out):
        return aligned(text, letters, out)
    shape = ", ".join(str(padded(n)) for n in code.tiles[at])
    whole = f"tl.full([{shape}], 0.0, tl.float32)"
    return code.guarded(at, f"{whole} + {aligned(text, letters, out)}")


def turned(text: str, straight: bool) -> str:
    return text if straight else f"tl.trans({text})"


def dot(op: Op, x: str, y: str) -> str:
    """A product of matrices."""
    if op.low:
        return f"tl.dot(({x}).to(tl.bfloat16), ({y}).to(tl.bfloat16))"
    return f'tl.dot({x}, {y}, input_precision="ieee")'


def added(code: Code, op: Op, at: int) -> str:
    (a, b), out = op.letters
    x, y = (
        aligned(f"v{i}" if code.alone.get(at) != i else f"(v{i} * (part == 0))", c, out)
        for i, c in zip(op.args, (a, b))
    )
    text = f"{x} {'+' if op.number == 1 else '-'} {y}"
    return text if {*a} == {*b} else code.guarded(at, text)


def entrywise(text: str, at_zero: bool) -> Callable[[Code, Op, int], str]:
    """Of a tile x; `at_zero`: is it 0 where x is?"""

    def write(code: Code, op: Op, at: int) -> str:
        said = text.format(x=f"v{op.args[0]}", number=op.number)
        return said if at_zero else code.guarded(at, said)

    return write


def constant(code: Code, op: Op, at: int) -> str:
    row, *column = code.rows(code.tiles[at])
    said = CONSTANT[op.kind].format(row=row, column=column and column[0], number=op.number)
    return code.guarded(at, f"tl.where({said}, 1.0, 0.0)")


def solve(code: Code, op: Op, at: int) -> str:
    """The inverse of I + K for K below the diagonal, whose powers end: (I - K) (I + K^2) (I + K^4)
    and so on.
    """
    n, _ = code.tiles[at]
    row, column = code.rows(code.tiles[at])
    power, found = f"power{at}", f"found{at}"
    code.lines.append(f"{power} = tl.where({row} > {column}, -v{op.args[0]}, 0.0)")
    code.lines.append(f"{found} = {power} + tl.where({row} == {column}, 1.0, 0.0)")
    for _ in range((n - 1).bit_length() - 1):
        code.lines.append(f"{power} = {dot(op, power, power)}")
        code.lines.append(f"{found} += {dot(op, found, power)}")
    return code.guarded(at, found)


def inverse(code: Code, op: Op, at: int) -> str:
    """1 where there is nothing to invert, so that no zero is."""
    x, mask = f"v{op.args[0]}", code.mask(code.tiles[at])
    return code.guarded(at, f"1.0 / tl.where({mask}, {x}, 1.0)" if mask else f"1.0 / {x}")


WRITE: Mapping[str, Callable[[Code, Op, int], str]] = {
    "einsum": product,
    "add": added,
    "scale": entrywise("{x} * {number!r}", True),
    "shift": entrywise("{x} + {number!r}", False),
    "stop": entrywise("{x}", True),
    "exp": entrywise("tl.exp({x})", False),
    "silu": entrywise("{x} / (1.0 + tl.exp(-{x}))", True),
    "sigmoid": entrywise("1.0 / (1.0 + tl.exp(-{x}))", False),
    "inverse": inverse,
    "solve": solve,
    "sqrt": entrywise("tl.sqrt({x})", True),
    **dict.fromkeys(CONSTANT, constant),
}
