"""Finds the constructs of the language that a text uses, those of the library definitions that it
calls included.

constructs("nldsl 1 .. level recall per head every token { .. }")  ->  {"level", "per", "every
token", ..}
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nldsl.core.program import WORKER
from nldsl.frontend import syntax as s
from nldsl.frontend.parse import parse
from nldsl.source import Source

STANDARD = Path(__file__).parent.parent / "std"
BUILTINS = frozenset(
    "weight linear affine conv embed attend rope next stop grad prox sum mean softmax exp log sqrt "
    "abs sign tanh sigmoid silu gelu "
    "softplus max min where floor cos diag join stack flat matrix shaped shape range cross_entropy "
    "load".split()
)
NAMES = frozenset("learned random tick ticks pi I".split())
OPERATORS = frozenset("+ - * / .* ./ ^ .^ <= >= ==".split())
FORMS = frozenset(
    (
        "import",
        "dim",
        "constant",
        "list constant",
        "clock",
        "clock phase",
        "clock of a clock",
        "input index",
        "input shape",
        "def block",
        "def expression",
        "def result",
        "param shape",
        "param letter",
        "param default",
        "named argument",
        "definition as argument",
        "clock as argument",
        "annotation",
        "return",
        "level",
        "per",
        "family",
        "every token",
        "every n token",
        "every clock",
        "every step",
        "every n step",
        "every update",
        "every n update",
        "never",
        "level phase",
        "memory shape",
        "memory like",
        "memory def",
        "memory def(..)",
        "weights",
        "weights of",
        "several memories",
        "start number",
        "start learned",
        "start random",
        "start expression",
        "start memory",
        "context",
        "minimize",
        "several objectives",
        "<- memory",
        "<- part",
        "<- stream",
        "two <-",
        "equation in level",
        "for in level",
        "reset sequence",
        "reset n token",
        "reset clock",
        "reset n step",
        "reset M",
        "per worker",
        "reset never",
        "bptt full",
        "bptt none",
        "bptt n clock",
        "bptt n token",
        "bptt by",
        "report",
        "for range",
        "for list",
        "plain read",
        "@after",
        "@clock",
        "grad(M)",
        "grad(M@c)",
        "grad moved",
        "grad(e, y)",
        "x@clock",
        "over n token",
        "over clock",
        "over period",
        "over sequence",
        "^T",
        "|a|",
        "|a|_p",
        "<a, b>",
        "a[i]",
        "list",
        "a -> b",
        "unary -",
    )
)
ALL = FORMS | OPERATORS | BUILTINS | NAMES


@cache
def library() -> dict[str, s.Def]:
    """The definitions of the library by name."""
    found = {}
    for path in sorted(STANDARD.glob("*.nl")):
        for statement in parse(Source(path.name, path.read_text(encoding="utf-8"))).statements:
            if isinstance(statement, s.Def):
                found[statement.name.text] = statement
    return found


def constructs(text: str, *imported: str) -> frozenset[str]:
    """Of a text and of the texts of the files that it imports, the library aside."""
    files = [parse(Source("drawn.nl", x)) for x in (text, *imported)]
    own = {x.name.text for file in files for x in file.statements if isinstance(x, s.Def)}
    roots: list[s.Syntax] = list(files)
    called: set[str] = set()
    found: set[str] = set()
    while roots:
        root = roots.pop()
        found |= set(_forms(root))
        for node in s.walk(root):
            if (
                isinstance(node, s.Name)
                and node.text in library()
                and node.text not in own | called
            ):
                called.add(node.text)
                roots.append(library()[node.text])
    return frozenset(found)


def _forms(root: s.Syntax) -> Iterator[str]:
    nodes = list(s.walk(root))
    levels = {n.member.name.text: n for n in nodes if isinstance(n, s.Level)}
    memories = {
        m.name.text for n in levels.values() for m in n.block.statements if isinstance(m, s.Memory)
    }
    clocks = {n.name.text for n in nodes if isinstance(n, s.Clock)}
    defs = {n.name.text for n in nodes if isinstance(n, s.Def)} | set(library())
    instants = {id(n.value) for n in nodes if isinstance(n, s.Instant)}
    for node in nodes:
        yield from _form(node, memories, clocks, defs)
        if (
            isinstance(node, s.Field)
            and isinstance(node.value, s.Name)
            and node.value.text in levels
            and id(node) not in instants
        ):
            yield "plain read"
    for level in levels.values():
        yield from _level(level, memories)
    if isinstance(root, s.File):
        for top in root.statements:
            if isinstance(top, s.Define) and isinstance(top.value, s.Number):
                yield "constant"
            if isinstance(top, s.Define) and isinstance(top.value, s.List):
                yield "list constant"


PLAIN = {
    s.Import: "import",
    s.Dims: "dim",
    s.Return: "return",
    s.Report: "report",
    s.Transpose: "^T",
    s.Inner: "<a, b>",
    s.Index: "a[i]",
    s.List: "list",
    s.Pair: "a -> b",
}
STRETCHES = {"token": "over n token", "period": "over period", "sequence": "over sequence"}


def _form(node: s.Syntax, memories: set[str], clocks: set[str], defs: set[str]) -> Iterator[str]:
    """The constructs of one node, whatever stands around it."""
    if type(node) in PLAIN:
        yield PLAIN[type(node)]
    match node:
        case s.Clock() | s.Input() | s.Def() | s.Param() | s.For() | s.Define():
            yield from _declared(node)
        case s.Update() if node.place.names[0].text not in memories:
            yield "<- stream"
        case s.Call(callee=s.Name(text=name)):
            yield from _call(node, name, memories, clocks, defs)
        case s.Name(text=name) if name in NAMES:
            yield name
        case s.Binary(op=op):
            yield op
        case s.Unary(op="-"):
            yield "unary -"
        case s.Norm():
            yield "|a|" if node.order is None else "|a|_p"
        case s.Window():
            yield STRETCHES.get(node.stretch.clock.text, "over clock")
        case s.Instant():
            yield _instant(node, memories)


def _declared(node: s.Syntax) -> Iterator[str]:
    match node:
        case s.Clock():
            yield "clock"
            if node.phase is not None:
                yield "clock phase"
            if not node.period.is_unit:
                yield "clock of a clock"
        case s.Input():
            yield "input shape" if isinstance(node.type, s.Shape) else "input index"
        case s.Def():
            yield "def block" if isinstance(node.body, s.Block) else "def expression"
            if node.result is not None:
                yield "def result"
        case s.Param():
            if node.default is not None:
                yield "param default"
            if node.shape is not None:
                yield "param shape"
                if any(isinstance(a, s.Name) and len(a.text) == 1 for a in node.shape.axes):
                    yield "param letter"
        case s.For():
            yield "for range" if isinstance(node.items, s.Call) else "for list"
        case s.Define(shape=s.Shape()):
            yield "annotation"


def _call(
    node: s.Call, name: str, memories: set[str], clocks: set[str], defs: set[str]
) -> Iterator[str]:
    if name == "grad":
        yield from _grad(node, memories)
    elif name in BUILTINS:
        yield name
    for arg in node.args:
        value = arg.value if isinstance(arg, s.Named) else arg
        if isinstance(arg, s.Named):
            yield "named argument"
        if isinstance(value, s.Name) and value.text in clocks:
            yield "clock as argument"
        if isinstance(value, s.Name) and value.text in defs and name not in defs - {name}:
            yield "definition as argument"


def _instant(node: s.Instant, memories: set[str]) -> str:
    place = node.value.name if isinstance(node.value, s.Field) else node.value
    held = isinstance(node.value, s.Field) or (
        isinstance(place, s.Name) and (place.text in memories or place.text[:1].isupper())
    )
    return "@after" if node.clock.text == "after" else "@clock" if held else "x@clock"


def _grad(node: s.Call, memories: set[str]) -> Iterator[str]:
    yield "grad"
    if len(node.args) == 2:
        yield "grad(e, y)"
    else:
        yield "grad(M@c)" if isinstance(node.args[0], s.Instant) else "grad(M)"


def _level(level: s.Level, memories: set[str]) -> Iterator[str]:
    yield "level"
    if level.per is not None:
        yield "per"
        if str(level.per) == WORKER:
            yield "per worker"
    if level.member.index is not None:
        yield "family"
    yield _rate(level.rate, "every")
    if isinstance(level.rate, s.Every) and level.rate.phase is not None:
        yield "level phase"
    body = level.block.statements
    inner = [x for x in s.walk(level.block) if not isinstance(x, s.Block)]
    own = [x for x in body if isinstance(x, s.Memory)]
    if len(own) > 1:
        yield "several memories"
    for memory in own:
        yield from _memory(memory)
    objectives = [x for x in inner if isinstance(x, s.Minimize)]
    if objectives:
        yield "minimize"
    looped = any(isinstance(x, s.For) for x in body)
    if looped:
        yield "for in level"
    if len(objectives) > 1 or looped and objectives:
        yield "several objectives"
    yield from _writes(body, inner, memories)
    for statement in body:
        yield from _clause(statement)


def _memory(memory: s.Memory) -> Iterator[str]:
    match memory.type:
        case s.Shape():
            yield "memory shape"
        case s.Like():
            yield "memory like"
        case s.Weights():
            yield "weights" if memory.type.of is None else "weights of"
        case s.Kind():
            yield "memory def" if memory.type.args is None else "memory def(..)"
    match memory.start:
        case s.Number():
            yield "start number"
        case s.Name(text="learned" | "random" as how):
            yield f"start {how}"
        case s.Name() | s.Field():
            yield "start memory"
        case _:
            yield "start expression"


def _clause(statement: s.Statement) -> Iterator[str]:
    match statement:
        case s.Context():
            yield "context"
        case s.Define():
            yield "equation in level"
        case s.Reset():
            yield _rate(statement.rate, "reset")
            if statement.memory is not None:
                yield "reset M"
        case s.Bptt():
            match statement.depth:
                case s.Full():
                    yield "bptt full"
                case s.Cut():
                    yield "bptt none"
                case s.Stretch():
                    yield "bptt n token" if statement.depth.is_unit else "bptt n clock"
            if statement.viewer is not None:
                yield "bptt by"


def _writes(
    body: tuple[s.Statement, ...], inner: list[s.Syntax], memories: set[str]
) -> Iterator[str]:
    seen: list[str] = []
    for update in (x for x in inner if isinstance(x, s.Update)):
        place = str(update.place)
        head = update.place.names[0].text
        if head in memories:
            yield "<- part" if len(update.place.names) > 1 else "<- memory"
        if place in seen:
            yield "two <-"
        moved = any(
            isinstance(x, s.Call)
            and isinstance(x.callee, s.Name)
            and x.callee.text == "grad"
            and len(x.args) == 1
            and isinstance(x.args[0], s.Name)
            and x.args[0].text in seen
            for x in s.walk(update.value)
        )
        if moved:
            yield "grad moved"
        seen.append(place)


def _rate(rate: s.Every | s.Never, stem: str) -> str:
    if isinstance(rate, s.Never):
        return "never" if stem == "every" else "reset never"
    count, unit = rate.period.count, rate.period.clock.text
    if not rate.period.is_unit:
        return f"{stem} clock"
    if unit == "sequence":
        return f"{stem} sequence"
    return f"{stem} {unit}" if count is None and stem == "every" else f"{stem} n {unit}"
