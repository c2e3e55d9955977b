"""The function of a piece, as it is emitted -> one of all pieces: what takes only streams, then the
operator that takes the memory through the rest.

    o = torch.einsum("..", M, q) * phi[..., -1]   ->    x1 = phi[..., -1]
                                                        pieces("o = torch.einsum(.., M, q) * x1")
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from nldsl.step.kernels.tiles import Unfit

MODULES = ("torch", "F")


@dataclass(frozen=True)
class Recurrent:
    """A recurrence as it is rolled: the function of a piece; sizes of states and streams behind
    batch and tokens, those of what has no time; see `scan_chunks`.
    """

    function: str
    states: tuple[tuple[int, ...], ...]
    streams: tuple[tuple[int, ...], ...]
    statics: tuple[tuple[int, ...], ...]
    chunk: int
    clocks: tuple[tuple[int, int, int], ...]
    copies: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Whole:
    """The function of all pieces, of so many streams: `places` gives for each state where its new
    value is in what the function gives; a copy is then its memory. `parts`: the programs that share
    what a head has.
    """

    name: str
    text: str
    streams: int
    places: tuple[int, ...]
    parts: int = 1


def always(clock: tuple[int, int, int], chunk: int) -> bool | None:
    """Does a clock tick at the end of every whole piece, or of none? None: of some."""
    period, phase, first = clock
    if not period:
        return False
    return True if not phase and not first and chunk % period == 0 else None


def names(node: ast.AST) -> set[str]:
    return {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}


def settled(node: ast.AST, empty: Collection[str], ends: Mapping[str, bool]) -> ast.AST:
    """What is known at the ends of whole pieces: a copy is the memory, a clock has ticked."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            setattr(node, name, settled(value, empty, ends))
        elif isinstance(value, list):
            value[:] = [settled(x, empty, ends) for x in value if isinstance(x, ast.AST)]
    match node:
        case ast.IfExp() if names(node.test) and names(node.test) <= {*empty}:
            return node.body
        case ast.Call(func=ast.Name("select"), args=[ast.Name(flag), new, old]) if flag in ends:
            return new if ends[flag] else old
    return node


@dataclass
class Hoisting:
    """Takes out of expressions what needs no memory; `given` is what the rest is given. `sinks`:
    what can be made on the chip, and is not wanted outside, is made there: so are products of
    streams, and what is cheaper to make again than to bring.
    """

    moved: set[str]
    defined: dict[str, ast.Assign]  # statements that need no memory, by the variable
    sinks: bool
    given: dict[str, str] = field(default_factory=dict)  # by text, what it is called
    lines: list[ast.stmt] = field(default_factory=list)  # outside
    inside: list[ast.stmt] = field(default_factory=list)

    def line(self, line: ast.Assign) -> None:
        """A statement that is made on the chip."""
        line.value = self.of(line.value)
        self.moved |= names(line.targets[0])
        self.inside.append(line)

    def of(self, node: ast.expr) -> ast.expr:
        if not names(node) - {*MODULES}:
            return node
        if not names(node) & self.moved and not self.descends(node):
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

    def descends(self, node: ast.expr) -> bool:
        """Is this operation made on the chip, of streams?"""
        return entrywise(node) or self.sinks and multiplies(node)

    def taken(self, node: ast.expr) -> ast.expr:
        text = ast.unparse(node)
        if isinstance(node, ast.Name) and self.sinks and self.sinking(node.id):
            self.line(deepcopy(self.defined[node.id]))
            return node
        if text not in self.given:
            name = text if isinstance(node, ast.Name) else f"given_{len(self.given) + 1}"
            if name != text:
                self.lines.append(assigned(name, node))
            self.given[text] = name
        return ast.Name(self.given[text], ast.Load())

    def sinking(self, name: str) -> bool:
        """Is a variable made on the chip?"""
        line = self.defined.get(name)
        if line is None or not isinstance(line.targets[0], ast.Name):
            return False
        if entrywise(line.value) and not any(map(multiplies, ast.walk(line.value))):
            return True
        return self.descends(line.value) and self.here_alone(name)

    def here_alone(self, name: str) -> bool:
        users = {x for x, line in self.defined.items() if name in names(line.value)}
        return all(self.descends(self.defined[x].value) and self.here_alone(x) for x in users)


def entrywise(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp | ast.UnaryOp)


def multiplies(node: ast.AST) -> bool:
    """Is it a product of at most two?"""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.einsum", "product")
        and len(node.args) <= 3
    )


def assigned(name: str, value: ast.expr) -> ast.stmt:
    (line,) = ast.parse(f"{name} = 0").body
    assert isinstance(line, ast.Assign)
    line.value = value
    return line


def function_of(module: ast.Module, name: str) -> ast.FunctionDef:
    return next(x for x in module.body if isinstance(x, ast.FunctionDef) and x.name == name)


def whole(module: ast.Module, one: Recurrent, apart: tuple[str, str] | None, sinks: bool) -> Whole:
    """The function of all pieces of a recurrence. Raises Unfit."""
    ends = [always(clock, one.chunk) for clock in one.clocks]
    if None in ends:
        raise Unfit("a memory ticks at the ends of some pieces")
    body = deepcopy(function_of(module, apart[1] if apart else one.function).body)
    unpacked, lines = parted(body)
    if apart:
        lines = [*before(module, apart[0], unpacked, body), *lines]
    states, streams = unpacked["state"], unpacked.get("streams", [])
    fresh = {i for i, clock in one.copies if ends[clock]}
    kept = [i for i in range(len(states)) if i not in fresh]
    flags = dict(zip(unpacked.get("ends", []), [bool(x) for x in ends]))
    empty = [states[i] for i in fresh]
    *lines, end = (line for line in lines if settled(line, empty, flags))
    assert isinstance(end, ast.Return) and isinstance(end.value, ast.Tuple)
    chosen, outs = end.value.elts
    assert isinstance(chosen, ast.IfExp) and isinstance(chosen.body, ast.Tuple)
    assert isinstance(outs, ast.Tuple)
    hoisting = hoisted(lines, {states[i] for i in kept}, sinks)
    results = [same(ast.unparse(x), lines) for x in chosen.body.elts]
    handed = [ast.unparse(hoisting.of(x)) for x in outs.elts]
    if len(streams) > len(one.streams) and streams[-1] in used(hoisting.lines):
        raise Unfit("what it makes depends on the place of a token")
    behind = [results[i] for i in kept]
    if any(x not in behind for x in results) or not {*behind} <= hoisting.moved:
        raise Unfit("a memory that is made without what it was")
    held = [states[i] for i in kept]
    piece = piece_text(held, [*hoisting.given.values()], hoisting.inside, behind, handed)
    text = text_of(one, unpacked, held, hoisting, piece, len(handed))
    places = tuple(behind.index(x) for x in results)
    return Whole(whole_name(one), text, len(one.streams), places)


def same(name: str, lines: Sequence[ast.stmt]) -> str:
    """The variable that this one is another name of."""
    for line in lines:
        if (
            isinstance(line, ast.Assign)
            and ast.unparse(line.targets[0]) == name
            and isinstance(line.value, ast.Name)
        ):
            return same(line.value.id, lines)
    return name


def hoisted(lines: Sequence[ast.stmt], states: set[str], sinks: bool) -> Hoisting:
    """The statements, parted. Those outside that nothing takes are left out."""
    moved, moving, still = {*states}, list[ast.Assign](), list[ast.Assign]()
    for line in lines:
        assert isinstance(line, ast.Assign)
        if names(line.value) & moved:
            moved |= names(line.targets[0])
            moving.append(line)
        else:
            still.append(line)
    defined = {x: line for line in still for x in names(line.targets[0])}
    found = Hoisting({*states}, defined, sinks)
    for line in moving:
        found.line(line)
    wanted, kept = used(found.lines) | {*found.given.values()}, list[ast.stmt]()
    for line in reversed(still):
        if names(line.targets[0]) & wanted:
            wanted |= names(line.value)
            kept.insert(0, line)
    found.lines = kept + found.lines
    return found


def before(
    module: ast.Module, name: str, unpacked: dict[str, list[str]], body: Sequence[ast.stmt]
) -> list[ast.stmt]:
    """The statements of what takes only streams, with the names that they have for the rest."""
    own, (*lines, end) = parted(deepcopy(function_of(module, name).body))
    assert isinstance(end, ast.Return) and isinstance(end.value, ast.Tuple)
    made = [ast.unparse(x).removesuffix(".contiguous()") for x in end.value.elts]
    called = dict(zip(made, unpacked.pop("made")))
    for kind, some in own.items():
        called |= dict(zip(some, unpacked.setdefault(kind, some)))
    taken = {*used(body), *called.values()}
    for line in lines:
        assert isinstance(line, ast.Assign)
        for x in names(line.targets[0]) - called.keys():
            called[x] = f"own_{x}" if x in taken else x
    for node in (x for line in lines for x in ast.walk(line) if isinstance(x, ast.Name)):
        node.id = called.get(node.id, node.id)
    return lines


def whole_name(one: Recurrent) -> str:
    return f"pieces_{one.function.rpartition('_')[2]}"


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
            unpacked[line.value.id] = [
                x.id for x in line.targets[0].elts if isinstance(x, ast.Name)
            ]
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
    unpacked: dict[str, list[str]],
    states: Sequence[str],
    hoisting: Hoisting,
    piece: str,
    outs: int,
) -> str:
    """The function of all pieces: the new states if `left`, what is handed on."""
    rows = ["count = streams[0].shape[1] // chunk"]
    rows += ["streams = tuple(x.reshape(-1, chunk, *x.shape[2:]) for x in streams)"]
    of = {**unpacked, "streams": unpacked.get("streams", [])[: len(one.streams)]}
    for name in ("state", "streams", "statics"):
        rows += [f"{tupled(of[name])} = {name}"] if of.get(name) else []
    rows += [ast.unparse(line) for line in hoisting.lines]
    rows += [
        f"piece = {piece!r}",
        f"given = [{', '.join(hoisting.given.values())}]",
        f"state = [{', '.join(states)}]",
        "keep = torch.is_grad_enabled()",
        "found = torch.ops.nldsl.pieces(piece, state, given, count, left, keep)",
        f"new, outs = found[{outs}: {outs + len(states)}] if left else [], found[: {outs}]",
        f"lanes = {states[0]}.shape[0]",
        "return tuple(new), tuple(x.reshape(lanes, -1, *x.shape[2:]) for x in outs)",
    ]
    body = "\n".join(f"    {row}" for row in rows)
    return f"def {whole_name(one)}(state, streams, statics, chunk, left):\n{body}\n"
