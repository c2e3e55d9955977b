"""`load("file", theirs -> ours, ..)`: the start of a memory from the tensors of a file, one to one
both ways.

    "mlp.up.{layer}" -> layer.up      a tensor; the iteration of that loop in its name
    "conv1d.weight"^T -> up           its two axes the other way round
    "stacked"[layer] -> layer.up      one entry of its first axis
    "c_attn.weight" -> [q, k, v]      parts that stand one behind the other
    interleaved("qkv", head) -> [q, k, v]
                                      they stand so in each entry of `head`, the first axis of ours
    ["q", "k", "v"] -> qkv            parts of ours that they have apart
    halves("wq", e) -> q              entries of the axis `e` that are neighbours there stand in
                                      two halves here, as `rope` turns them
    neighbours("wq", e) -> q          the other way round
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from nldsl.core.nodes import Shape, Tree
from nldsl.core.theirs import Made, Theirs
from nldsl.frontend import syntax
from nldsl.graph.elaborator import Elaborator, did_you_mean
from nldsl.graph.evaluate import evaluate
from nldsl.graph.scope import Site
from nldsl.graph.values import Array, Num, Text

if TYPE_CHECKING:
    from nldsl.graph.memories import MemoryInstance

Iterations = tuple[tuple[str, str], ...]  # variable of a loop and its value, of each around ours


@dataclass(frozen=True)
class Wanted:
    """One of ours in a pair: `place` in `among`, the names that share what is theirs."""

    pair: syntax.Pair
    name: syntax.Expr
    among: tuple[str, ...]
    place: int


def load(memory: MemoryInstance, call: syntax.Call, site: Site) -> Array:
    """Every array of the memory, and nothing else."""
    elaborator, core = memory.elaborator, memory.type.force().core
    file = evaluate(call.args[0], site) if call.args else None
    if not isinstance(file, Text):
        elaborator.fail(
            "N107",
            '`load` takes the name of a checkpoint and pairs "theirs" -> ours',
            call.span,
            help='`load("base", "theirs" -> ours)`',
        )
    wanted = pairs_of(call, elaborator)
    paths = core.paths() if isinstance(core, Tree) else ("",)
    shapes = {
        ours_of(memory, path): core.shape(path) if isinstance(core, Tree) else core
        for path in paths
    }
    used, nodes = set(), []
    for path, ((ours, iterations), shape) in zip(paths, shapes.items(), strict=True):
        if ours not in wanted:
            elaborator.fail(
                "N116",
                f"no pair loads the weight `{path or ours}`",
                call.span,
                help=f'one more pair: `"theirs" -> {ours or memory.text.name.text}`',
            )
        used.add(ours)
        one = wanted[ours]
        theirs = theirs_of(one, Left(site, iterations, shape), shapes)
        with elaborator.at(one.pair.key.span, site.scope.iteration):
            nodes.append(elaborator.node("load", type=shape, file=file.text, key=theirs))
    for ours in wanted.keys() - used:
        elaborator.report(
            "N116",
            f"there is no weight `{ours}` to load",
            wanted[ours].name.span,
            help=did_you_mean(ours, [path or memory.text.name.text for path in paths]),
        )
    if not isinstance(core, Tree):
        return Array(nodes[0], memory.type.force().hidden)
    return Array(elaborator.node("tree", *nodes, type=core), memory.type.force().hidden)


def ours_of(memory: MemoryInstance, path: str) -> tuple[str, Iterations]:
    """The name of an array in pairs, in which a loop is the name of its variable."""
    name = re.sub(r"\[[^\]]*\]", "", path) or memory.text.name.text
    return name, tuple(re.findall(r"(\w+)\[([^\]]*)\]", path))


def pairs_of(call: syntax.Call, elaborator: Elaborator) -> dict[str, Wanted]:
    """Our name -> the pair that says what it is of theirs."""
    wanted: dict[str, Wanted] = {}
    for arg in call.args[1:]:
        if not isinstance(arg, syntax.Pair):
            elaborator.fail(
                "N107",
                'a pair "theirs" -> ours is needed here',
                arg.span,
                help='`load("base", "theirs" -> ours)`',
            )
        names = arg.value.items if isinstance(arg.value, syntax.List) else (arg.value,)
        among = tuple(name.span.text().replace(" ", "") for name in names)
        for place, (ours, name) in enumerate(zip(among, names, strict=True)):
            if ours in wanted:
                elaborator.fail(
                    "N107", f"`{ours}` is loaded twice", arg.span, help="each weight once"
                )
            wanted[ours] = Wanted(arg, name, among, place)
    return wanted


def theirs_of(one: Wanted, left: Left, shapes: Mapping[tuple[str, Iterations], Shape]) -> Theirs:
    """Of parts that one tensor holds, the one that is meant: parts are as large as what they go
    to; a name that is none is told elsewhere.
    """
    key: syntax.Arg = one.pair.key
    groups = 1
    match key:
        case syntax.Call(syntax.Name("interleaved"), (value, axis)) if len(one.among) > 1:
            key, groups = value, left.leading(axis)
    theirs = left.read(key)
    if len(one.among) == 1:
        return theirs
    sizes = tuple(
        math.prod(axis.size for axis in shapes.get((name, left.iterations), ()))
        for name in one.among
    )
    return Made("part", (theirs,), one.place, sizes, groups)


@dataclass(frozen=True)
class Left:
    """The left side of a pair, for one array of ours."""

    site: Site
    iterations: Iterations
    shape: Shape

    def read(self, expr: syntax.Arg) -> Theirs:
        match expr:
            case syntax.String(text):
                return self.named(text, expr)
            case syntax.Transpose(value):
                return Made("transposed", (self.read(value),))
            case syntax.Index(value, index):
                return Made("entry", (self.read(value),), self.number(index))
            case syntax.List(items) if items:
                return Made("stacked", tuple(map(self.read, items)))
            case syntax.Call(syntax.Name("halves"), (value, axis)):
                return Made("halves", (self.read(value),), self.axis(axis))
            case syntax.Call(syntax.Name("neighbours"), (value, axis)):
                return Made("neighbours", (self.read(value),), self.axis(axis))
            case syntax.Call(syntax.Name("interleaved"), (_, _)):
                self.site.elaborator.fail(
                    "N107",
                    "what is interleaved goes to several, and nothing is done to it as a whole",
                    expr.span,
                    help=f"`{expr.span.text()} -> [q, k, v]`",
                )
        self.fail(expr)

    def fail(self, expr: syntax.Arg) -> NoReturn:
        self.site.elaborator.fail(
            "N107",
            'a pair "theirs" -> ours is needed here',
            expr.span,
            help='theirs is a name, `"w"^T`, `"w"[layer]`, `["q", "k"]`, `halves("w", e)`, '
            '`neighbours("w", e)` or `interleaved("w", head)`',
        )

    def named(self, text: str, expr: syntax.String) -> str:
        known = dict(self.iterations)
        for name in re.findall(r"\{(\w+)\}", text):
            text = text.replace(f"{{{name}}}", known.get(name) or self.variable(name, expr))
        return text

    def variable(self, name: str, expr: syntax.Expr) -> str:
        found = self.site.scope.find(name)
        if found is None or not isinstance(found[0].base, Num):
            self.site.elaborator.fail(
                "N101",
                f"`{{{name}}}` is not a loop variable here",
                expr.span,
                help="the variable of a `for` around it",
            )
        return f"{found[0].base.value:g}"

    def number(self, expr: syntax.Expr) -> int:
        known = dict(self.iterations)
        if isinstance(expr, syntax.Name) and expr.text in known:
            return int(float(known[expr.text]))
        return self.site.elaborator.whole(evaluate(expr, self.site), expr.span)

    def axis(self, expr: syntax.Arg) -> int:
        """Of ours, the axis of that name: an even one."""
        names = [axis.name for axis in self.shape]
        text = expr.span.text()
        if names.count(text) != 1:
            self.site.elaborator.fail(
                "N204",
                f"what starts here has the axes [{', '.join(names)}], one of which is to be turned",
                expr.span,
                help="the axis that `rope` turns, by its name",
            )
        at = names.index(text)
        if self.shape[at].size % 2:
            self.site.elaborator.fail(
                "N204",
                f"`{text}` is {self.shape[at].size}: an odd axis has no halves",
                expr.span,
                help="an axis of an even size",
            )
        return at

    def leading(self, expr: syntax.Arg) -> int:
        """The size of the axis of that name, the first of ours."""
        text = expr.span.text()
        if not self.shape or self.shape[0].name != text:
            names = ", ".join(axis.name for axis in self.shape)
            self.site.elaborator.fail(
                "N204",
                f"what starts here has the axes [{names}], the first of which is not `{text}`",
                expr.span,
                help="the axis that theirs has in front, such as that of the heads, by its name; "
                "each of ours has it in front",
            )
        return self.shape[0].size
