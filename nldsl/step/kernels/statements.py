"""The function of a piece, as it is emitted -> one of all pieces: what takes only streams, then the
operator that takes the memory through the rest.

    o = torch.einsum("..", M, q) * phi[..., -1]   ->    x1 = phi[..., -1]
                                                        pieces("o = torch.einsum(.., M, q) * x1")
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from nldsl.step.kernels.tiles import Unfit

MODULES = ("torch", "F")


@dataclass(frozen=True)
class Recurrent:
    """A recurrence as it is rolled: its function, its `region` in the report; sizes of states and
    streams behind batch and tokens, those of what has no time; see `scan_chunks`.
    """

    function: str
    region: str
    states: tuple[tuple[int, ...], ...]
    streams: tuple[tuple[int, ...], ...]
    statics: tuple[tuple[int, ...], ...]
    chunk: int
    clocks: tuple[tuple[int, int, int], ...]
    copies: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Whole:
    """The function of all pieces, of so many streams: `places` gives for each state where its new
    value is in what the function gives; a copy is then its memory.
    """

    name: str
    text: str
    streams: int
    places: tuple[int, ...]


def always(clock: tuple[int, int, int], chunk: int) -> bool | None:
    """Does a clock tick at the end of every whole piece, or of none? None: of some."""
    period, phase, first = clock
    if not period:
        return False
    return True if not phase and not first and chunk % period == 0 else None


def names(node: ast.AST) -> set[str]:
    return {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}


class Settled(ast.NodeTransformer):
    """What is known at the ends of whole pieces: a copy is the memory, a clock has ticked."""

    def __init__(self, empty: Collection[str], ends: dict[str, bool]) -> None:
        self.empty, self.ends = empty, ends

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        tested = names(node.test)
        return node.body if tested and tested <= {*self.empty} else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "select":
            flag, new, old = node.args
            if isinstance(flag, ast.Name) and flag.id in self.ends:
                return new if self.ends[flag.id] else old
        return node


@dataclass
class Hoisting:
    """Takes out of expressions what needs no memory; `given` is what the rest is given."""

    moved: set[str]
    lines: list[ast.stmt] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)  # by text, what it is called

    def of(self, node: ast.expr) -> ast.expr:
        if not names(node) - {*MODULES}:
            return node
        if not names(node) & self.moved and not isinstance(node, ast.BinOp | ast.UnaryOp):
            return self.taken(node)
        match node:
            case ast.BinOp():
                node.left, node.right = self.of(node.left), self.of(node.right)
            case ast.UnaryOp():
                node.operand = self.of(node.operand)
            case ast.Subscript() | ast.Attribute():
                node.value = self.of(node.value)
            case ast.Call(func=ast.Attribute() as method):
                if not (isinstance(method.value, ast.Name) and method.value.id in MODULES):
                    method.value = self.of(method.value)
                node.args = [self.of(x) for x in node.args]
            case ast.Call(func=ast.Name()):
                node.args = [self.of(x) for x in node.args]
            case ast.Name():
                pass
            case _:
                raise Unfit(f"`{ast.unparse(node)}`")
        return node

    def taken(self, node: ast.expr) -> ast.expr:
        text = ast.unparse(node)
        if text not in self.given:
            name = text if isinstance(node, ast.Name) else f"given_{len(self.given) + 1}"
            if name != text:
                self.lines.append(assigned(name, node))
            self.given[text] = name
        return ast.Name(self.given[text], ast.Load())


def assigned(name: str, value: ast.expr) -> ast.stmt:
    (line,) = ast.parse(f"{name} = 0").body
    assert isinstance(line, ast.Assign)
    line.value = value
    return line


def function_of(module: ast.Module, name: str) -> ast.FunctionDef:
    return next(x for x in module.body if isinstance(x, ast.FunctionDef) and x.name == name)


def whole(module: ast.Module, one: Recurrent, apart: tuple[str, str] | None) -> Whole:
    """The function of all pieces of a recurrence. Raises Unfit."""
    ends = [always(clock, one.chunk) for clock in one.clocks]
    if None in ends:
        raise Unfit("a memory ticks at the ends of some pieces")
    body = function_of(module, apart[1] if apart else one.function).body
    unpacked, rest = parted(body)
    states, streams = unpacked["state"], unpacked.get("streams", [])
    fresh = {i for i, clock in one.copies if ends[clock]}
    flags = dict(zip(unpacked.get("ends", []), [bool(x) for x in ends]))
    settled = Settled([states[i] for i in fresh], flags)
    lines = [settled.visit(line) for line in rest]
    *lines, end = lines
    assert isinstance(end, ast.Return) and isinstance(end.value, ast.Tuple)
    chosen, outs = end.value.elts
    assert isinstance(chosen, ast.IfExp) and isinstance(chosen.body, ast.Tuple)
    assert isinstance(outs, ast.Tuple)
    kept = [i for i in range(len(states)) if i not in fresh]
    hoisting = Hoisting({states[i] for i in kept})
    moving: list[ast.stmt] = []
    for line in lines:
        assert isinstance(line, ast.Assign)
        if names(line.value) & hoisting.moved:
            line.value = hoisting.of(line.value)
            hoisting.moved |= names(line.targets[0])
            moving.append(line)
        else:
            hoisting.lines.append(line)
    results = [ast.unparse(x) for x in chosen.body.elts]
    handed = [ast.unparse(hoisting.of(x)) for x in outs.elts]
    if len(streams) == len(one.streams) + 1 and streams[-1] in used(hoisting.lines):
        raise Unfit("what it makes depends on the place of a token")
    behind = [results[i] for i in kept]
    if any(x not in behind for x in results) or not {*behind} <= hoisting.moved:
        raise Unfit("a memory that is made without what it was")
    places = tuple(behind.index(x) for x in results)
    given = [*hoisting.given.values()]
    piece = piece_text([states[i] for i in kept], given, moving, behind, handed)
    text = text_of(one, apart, unpacked, kept, hoisting, piece, len(handed))
    if apart:
        text = f"{as_it_lies(module, apart[0], taken_name(one))}\n\n\n{text}"
    return Whole(whole_name(one), text, len(one.streams), places)


def whole_name(one: Recurrent) -> str:
    return f"pieces_{one.function.rpartition('_')[2]}"


def taken_name(one: Recurrent) -> str:
    return f"taken_{one.function.rpartition('_')[2]}"


def as_it_lies(module: ast.Module, name: str, called: str) -> str:
    """The function of what takes only streams, whose results may lie in any order."""
    found = function_of(module, name)
    end = found.body[-1]
    assert isinstance(end, ast.Return) and isinstance(end.value, ast.Tuple)
    made = [x.func.value for x in end.value.elts
            if isinstance(x, ast.Call) and isinstance(x.func, ast.Attribute)]
    end.value.elts = [*made]
    found.name = called
    return ast.unparse(found)


def used(lines: Sequence[ast.stmt]) -> set[str]:
    return set().union(*map(names, lines)) if lines else set()


def parted(body: Sequence[ast.stmt]) -> tuple[dict[str, list[str]], list[ast.stmt]]:
    """What the parameters are taken apart into, and the other statements."""
    unpacked: dict[str, list[str]] = {}
    rest = []
    for line in body:
        if (
            isinstance(line, ast.Assign)
            and isinstance(line.value, ast.Name)
            and isinstance(line.targets[0], ast.Tuple)
        ):
            unpacked[line.value.id] = [x.id for x in line.targets[0].elts
                                       if isinstance(x, ast.Name)]
        else:
            rest.append(line)
    return unpacked, rest


def tupled(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' * (len(texts) == 1)})"


def piece_text(
    states: Sequence[str],
    given: Sequence[str],
    moving: Sequence[ast.stmt],
    new: Sequence[str],
    outs: Sequence[str],
) -> str:
    """The function that the operator takes."""
    rows = [f"{tupled(states)} = states", f"{tupled(given)} = streams"] if given else []
    rows += [ast.unparse(line) for line in moving]
    rows.append(f"return {tupled(new)}, {tupled(outs)}")
    return "def piece(states, streams):\n" + "\n".join(f"    {row}" for row in rows)


def text_of(
    one: Recurrent,
    apart: tuple[str, str] | None,
    unpacked: dict[str, list[str]],
    kept: Sequence[int],
    hoisting: Hoisting,
    piece: str,
    outs: int,
) -> str:
    states = unpacked["state"]
    timed = len(unpacked.get("streams", [])) > len(one.streams)
    rows = ["streams = tuple(x.reshape(-1, chunk, *x.shape[2:]) for x in streams)"]
    rows += [f"made = {taken_name(one)}(streams, statics)"] if apart else []
    rows += [f"{tupled(states)} = state"]
    streams = unpacked.get("streams", [])[: len(unpacked.get("streams", [])) - timed]
    rows += [f"{tupled(streams)} = streams"] if streams else []
    for name in ("statics", "made"):
        rows += [f"{tupled(unpacked[name])} = {name}"] if name in unpacked else []
    rows += [ast.unparse(line) for line in hoisting.lines]
    held = ", ".join(states[i] for i in kept)
    given = ", ".join(hoisting.given.values())
    rows += [
        f"piece = {piece!r}",
        f"found = torch.ops.nldsl.pieces(piece, [{held}], [{given}], left, "
        "torch.is_grad_enabled())",
        f"new, outs = found[{outs}: {outs + len(kept)}] if left else [], found[: {outs}]",
        f"lanes = {states[kept[0]]}.shape[0]",
        "return tuple(new), tuple(x.reshape(lanes, -1, *x.shape[2:]) for x in outs)",
    ]
    body = "\n".join(f"    {row}" for row in rows)
    return f"def {whole_name(one)}(state, streams, statics, chunk, left):\n{body}\n"
