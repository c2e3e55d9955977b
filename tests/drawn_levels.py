"""A second reading of the levels that `nldsl.testing` draws, straight from their text.

A layer of a drawn program is taken out and becomes a program whose data is what the layer was
given. Its levels on the token clock are then carried out statement by statement, token by token
and head by head, on plain tensors: definitions of the program and of the library are followed
where they are called, their levels remember by the place of the call, and every derivative is
torch's. The streams that a level is told are those that the interpreter gives; its memories are
compared.

Shared with the compiler is the syntax tree and nothing else. What this does not read raises
`Beyond`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from nldsl.core.initial import initial_weights
from nldsl.core.nodes import Axis
from nldsl.core.program import Program
from nldsl.frontend import syntax
from nldsl.frontend.parse import parse
from nldsl.oracle.interpreter import Oracle, Result
from nldsl.pipeline import load_text
from nldsl.source import Source
from nldsl.testing import Drawn, laws

STD = Path(__file__).parents[1] / "nldsl" / "std"
Tree = dict[str, Tensor]
AFTER = ("now", "after")  # the instant after a tick


class Beyond(Exception):
    """The text says what this reading does not know."""


@dataclass(frozen=True)
class Eye:
    """`I`, of a size that what it meets decides."""

    scale: Tensor


@dataclass(frozen=True)
class Row:
    """`x^T` of a vector."""

    value: Tensor


@dataclass(frozen=True)
class Clock:
    period: int
    phase: int = 0

    def ticks(self, n: int) -> bool:
        return n > self.phase and (n - self.phase) % self.period == 0


@dataclass(frozen=True)
class Meant:
    """An expression with the names in sight where it stands."""

    expression: syntax.Expr
    names: Mapping[str, Meaning]
    place: tuple[object, ...]


@dataclass(frozen=True)
class Held:
    """A level that has been called, as what its fields are read of."""

    before: Mapping[str, Value]
    after: Mapping[str, Value]


Value = Tensor | Tree
Meaning = Value | Eye | Row | Clock | Meant | Held | syntax.Def | list


def number(x: float) -> Tensor:
    return torch.tensor(float(x), dtype=torch.float64)


def each(f: Callable[..., Tensor], *values: Value) -> Value:
    tree = next((v for v in values if isinstance(v, dict)), None)
    if tree is None:
        return f(*values)
    return {p: f(*(v[p] if isinstance(v, dict) else v for v in values)) for p in tree}


def parts(value: Value) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def root(x: Tensor) -> Tensor:
    return torch.where(x == 0, 0.0, torch.sqrt(torch.where(x == 0, 1.0, x)))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": lambda x: -F.logsigmoid(-x),
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": root,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "cos": torch.cos,
    "max": lambda a, b: torch.where(a >= b, a, b),
    "min": lambda a, b: torch.where(a <= b, a, b),
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    "softmax": lambda x: torch.softmax(x, -1),
    "diag": torch.diag,
}
ENTRYWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    ".*": torch.mul,
    "./": torch.div,
    "/": torch.div,
    "^": torch.pow,
    ".^": torch.pow,
    "<=": lambda a, b: (a <= b).double(),
    ">=": lambda a, b: (a >= b).double(),
    "==": lambda a, b: (a == b).double(),
}


def product(a: Meaning, b: Meaning) -> Meaning:
    """`a * b`: a number times anything, or what matrices and columns and rows give."""
    if isinstance(b, Eye):
        return Eye(a * b.scale) if isinstance(a, Tensor) and a.dim() == 0 else each_of(a, b.scale)
    if isinstance(a, Eye):
        return each_of(b, a.scale)
    if isinstance(b, Row):
        if isinstance(a, Tensor) and a.dim() == 1:
            return torch.outer(a, b.value)
        raise Beyond("a row")
    if isinstance(a, Row):
        if isinstance(b, Tensor) and b.dim() == 2:
            return Row(a.value @ b)
        raise Beyond("a row")
    if isinstance(a, dict) or isinstance(b, dict) or a.dim() == 0 or b.dim() == 0:
        return each_of(a, b)
    if a.dim() == 2:
        return a @ b
    raise Beyond("a product of columns")


def each_of(a: Meaning, b: Meaning) -> Value:
    if not isinstance(a, Tensor | dict) or not isinstance(b, Tensor | dict):
        raise Beyond("a product")
    if any(isinstance(x, Tensor) and x.dim() for x in (a, b)) and (
        isinstance(a, dict) or isinstance(b, dict)
    ):
        raise Beyond("an array beside a tree")
    return each(torch.mul, a, b)


def entrywise(op: str, a: Meaning, b: Meaning) -> Meaning:
    if isinstance(a, Eye) and isinstance(b, Eye):
        return Eye(ENTRYWISE[op](a.scale, b.scale))
    if isinstance(a, Eye) or isinstance(b, Eye):
        other = b if isinstance(a, Eye) else a
        if not isinstance(other, Tensor) or other.dim() != 2 or op not in "+-":
            raise Beyond("I")
        eye = torch.eye(len(other), dtype=torch.float64)
        a = a.scale * eye if isinstance(a, Eye) else a
        b = b.scale * eye if isinstance(b, Eye) else b
    if not isinstance(a, Tensor | dict) or not isinstance(b, Tensor | dict):
        raise Beyond(f"{op} of this")
    shapes = {tuple(x.shape) for v in (a, b) if isinstance(v, Tensor) and v.dim() for x in (v,)}
    if len(shapes) > 1 or shapes and any(isinstance(v, dict) for v in (a, b)):
        raise Beyond("arrays of two shapes")
    return each(ENTRYWISE[op], a, b)


@dataclass
class Ticking:
    """What a level remembers: by the place where it stands, or is called."""

    memories: dict[str, Value]
    count: int = 0  # of the ticks of the level around
    terms: dict[int, list[Value]] = field(default_factory=dict)
    made: tuple[Mapping[str, Value], Mapping[str, Value]] | None = None


@cache
def library(name: str) -> tuple[syntax.Statement, ...]:
    text = (STD / f"{name}.nl").read_text(encoding="utf-8")
    return parse(Source(f"{name}.nl", text)).statements


def definitions(statements: tuple[syntax.Statement, ...], files: Mapping[str, str]) -> dict:
    found: dict[str, syntax.Def] = {}
    for statement in statements:
        if isinstance(statement, syntax.Import):
            for name in statement.names:
                own = f"{name.text}.nl" in files
                inner = (
                    parse(Source("own.nl", files[f"{name.text}.nl"])).statements
                    if own
                    else library(name.text)
                )
                found |= definitions(inner, files)
        if isinstance(statement, syntax.Def):
            found[statement.name.text] = statement
    return found


class Reader:
    """One level of one head over a sequence."""

    def __init__(
        self,
        level: syntax.Level,
        names: Mapping[str, Meaning],
        streams: Callable[[int], Mapping[str, Tensor]],
        starts: Callable[[str], Value | None],
    ) -> None:
        self.level, self.outer, self.streams, self.starts = level, names, streams, starts
        self.statements = level.block.statements
        self.clock = self.every(level.rate)
        reset = next((s.rate for s in self.statements if isinstance(s, syntax.Reset)), None)
        self.reset = None
        if isinstance(reset, syntax.Every) and reset.period.clock.text != "sequence":
            self.reset = self.every(reset)
        self.begun: dict[str, Value] = {}
        for s in self.statements:
            if isinstance(s, syntax.Memory):
                self.begun[s.name.text] = self.start(s)
        self.after: list[dict[str, Value]] = [dict(self.begun)]  # after each instant
        self.anew = 0  # the instant of the last reset
        self.ticked = 0  # that of the last tick
        self.ticks = 0  # since the reset
        self.inner: dict[tuple, Ticking] = {}
        self.objective: Meant | None = None
        self.n = 0

    # -- time

    def every(self, rate: syntax.Every | syntax.Never) -> Clock:
        if isinstance(rate, syntax.Never):
            raise Beyond("never")
        clock = self.stretch(rate.period, self.outer)
        return Clock(clock.period, int(rate.phase.text) if rate.phase else clock.phase)

    def stretch(self, period: syntax.Stretch, names: Mapping[str, Meaning]) -> Clock:
        count = 1
        if isinstance(period.count, syntax.Number):
            count = int(period.count.text)
        elif isinstance(period.count, syntax.Name):
            count = int(self.tensor(period.count, names, (), {}))
        unit = period.clock.text
        if unit in ("token", "update"):
            return Clock(count)
        clock = names.get(unit)
        if not isinstance(clock, Clock):
            raise Beyond(f"every {unit}")
        return clock if period.count is None else Clock(count * clock.period)

    # -- one sequence

    def start(self, memory: syntax.Memory) -> Value:
        learned = self.starts(memory.name.text)
        names = dict(self.outer) | self.begun
        if learned is not None:
            names["learned"] = learned
        value = self.value(memory.start, names, (), {})
        if isinstance(value, Eye):
            raise Beyond("a start of I")
        if isinstance(memory.type, syntax.Like):
            other = self.begun[memory.type.name.text]
            return each(lambda x, v: v.expand_as(x).clone(), other, value)
        if isinstance(memory.type, syntax.Shape):
            sizes = [int(self.tensor(axis, self.outer, (), {})) for axis in memory.type.axes]
            return value.expand(sizes).clone() if isinstance(value, Tensor) else value
        return value

    def run(self, tokens: int) -> None:
        for n in range(1, tokens + 1):
            self.n = n
            memories = dict(self.after[-1])
            if self.clock.ticks(n):
                self.ticks += 1
                memories = self.tick(memories)
                self.ticked = n
            if self.reset is not None and self.reset.ticks(n):
                memories, self.anew, self.ticks = dict(self.begun), n, 0
                self.inner.clear()
            self.after.append(memories)

    def tick(self, memories: dict[str, Value]) -> dict[str, Value]:
        names = self.at(self.n) | memories
        names = self.carry_out(self.statements, names, ())
        return {name: each(Tensor.detach, names[name]) for name in memories}

    def at(self, n: int) -> dict[str, Meaning]:
        return {**self.outer, **self.streams(n - 1)}

    def carry_out(
        self, statements: tuple, names: dict[str, Meaning], place: tuple
    ) -> dict[str, Meaning]:
        for s in statements:
            match s:
                case syntax.Define(name=name, value=value):
                    names = names | {name.text: Meant(value, names, place)}
                case syntax.Minimize(objective=objective):
                    self.objective = Meant(objective, names, place)
                case syntax.Update(place=where, value=value):
                    names = names | self.moved(where, self.value(value, names, place, {}), names)
                case syntax.For(name=name, items=items, block=block):
                    for i in self.iterations(items, names):
                        inner = names | {name.text: number(i)}
                        names = self.carry_out(block.statements, inner, (*place, i))
                case syntax.Memory() | syntax.Context() | syntax.Reset() | syntax.Bptt():
                    pass
                case _:
                    raise Beyond(type(s).__name__)
        return names

    def iterations(self, items: syntax.Expr, names: Mapping[str, Meaning]) -> list[float]:
        match items:
            case syntax.Call(callee=syntax.Name(text="range"), args=(count,)):
                return list(range(int(self.tensor(count, names, (), {}))))
        raise Beyond("a loop over these")

    def moved(
        self, where: syntax.Place, value: Meaning, names: Mapping[str, Meaning]
    ) -> dict[str, Meaning]:
        first, *rest = (name.text for name in where.names)
        old = names[first]
        if isinstance(value, Eye):
            assert isinstance(old, Tensor)
            value = value.scale * torch.eye(len(old), dtype=torch.float64)
        if rest:
            return {first: {**old, ".".join(rest): value}}
        if isinstance(value, Tensor) and isinstance(old, Tensor):
            value = value.expand_as(old)
        if isinstance(value, Tensor) and isinstance(old, dict):
            value = each(lambda x: value.expand_as(x), old)
        return {first: value}

    # -- expressions

    def tensor(self, e: syntax.Expr, names: Mapping, place: tuple, given: Mapping) -> Tensor:
        value = self.value(e, names, place, given)
        if not isinstance(value, Tensor):
            raise Beyond("an array is wanted")
        return value

    def value(self, e: syntax.Expr, names: Mapping, place: tuple, given: Mapping) -> Meaning:
        """`given` holds the memory that a derivative is taken in, under its name."""
        match e:
            case syntax.Number(text=text):
                return number(float(text))
            case syntax.Name(text=text):
                return self.named(text, names, given)
            case syntax.Unary(op=op, operand=operand):
                value = self.value(operand, names, place, given)
                return value if op == "+" else product(number(-1), value)
            case syntax.Binary(op="^" | ".^" as op, left=syntax.Norm() as norm, right=right):
                return self.power(op, norm, right, names, place, given)
            case syntax.Binary(op=op, left=left, right=right):
                a = self.value(left, names, place, given)
                b = self.value(right, names, place, given)
                return product(a, b) if op == "*" else entrywise(op, a, b)
            case syntax.Norm():
                return self.power("^", e, syntax.Number("1", e.span), names, place, given)
            case syntax.Inner(left=left, right=right):
                a, b = (self.value(x, names, place, given) for x in (left, right))
                if not isinstance(a, Tensor | dict) or not isinstance(b, Tensor | dict):
                    raise Beyond("an inner product")
                if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dim() != b.dim():
                    b = b.expand_as(a)
                products = each(torch.mul, a, b)
                return sum((x.sum() for x in parts(products)), number(0))
            case syntax.Transpose(value=value):
                x = self.value(value, names, place, given)
                if isinstance(x, Eye):
                    return x
                if not isinstance(x, Tensor):
                    raise Beyond("a transposed tree")
                return x.T if x.dim() == 2 else Row(x)
            case syntax.Index(value=value, index=index):
                x, i = (
                    self.tensor(value, names, place, given),
                    self.tensor(index, names, place, given),
                )
                return x[int(i)]
            case syntax.Instant(value=value, clock=clock):
                return self.instant(value, clock.text, names, place, given)
            case syntax.Field(value=value, name=name):
                return self.field(self.value(value, names, place, given), name.text)
            case syntax.Call():
                return self.call(e, names, place, given)
        raise Beyond(type(e).__name__)

    def named(self, text: str, names: Mapping, given: Mapping) -> Meaning:
        if text in given:
            return given[text]
        if text in names:
            meant = names[text]
            if isinstance(meant, Meant):
                return self.value(meant.expression, meant.names, meant.place, given)
            return meant
        if text == "I":
            return Eye(number(1))
        if text == "pi":
            return number(math.pi)
        if text == "tick":
            return number(names.get("its tick", number(self.ticks)))
        raise Beyond(f"the name {text}")

    def field(self, value: Meaning, name: str) -> Meaning:
        if isinstance(value, Held):
            return value.before[name]
        if isinstance(value, dict):
            if name in value:
                return value[name]
            below = {p[len(name) + 1 :]: x for p, x in value.items() if p.startswith(f"{name}.")}
            if below:
                return below
        raise Beyond(f"the field {name}")

    def power(
        self, op: str, e: syntax.Norm, n: syntax.Expr, names: Mapping, place: tuple, given: Mapping
    ) -> Tensor:
        value = self.value(e.value, names, place, given)
        if not isinstance(value, Tensor | dict):
            raise Beyond("a norm")
        p = 2.0 if e.order is None else float(self.tensor(e.order, names, place, given))
        q = self.tensor(n, names, place, given)
        total = sum(((x * x if p == 2 else x.abs() ** p).sum() for x in parts(value)), number(0))
        if float(q) == p:
            return total
        return root(total) ** q if p == 2 else total ** (q / p)

    def instant(
        self, value: syntax.Expr, clock: str, names: Mapping, place: tuple, given: Mapping
    ) -> Meaning:
        match value:
            case syntax.Field(value=level, name=name) if clock in AFTER:
                held = self.value(level, names, place, given)
                if isinstance(held, Held):
                    return held.after[name.text]
            case syntax.Name(text=text) if text in self.begun and not place:
                return self.copy(text, names.get(clock))
        raise Beyond(f"@{clock}")

    def copy(self, memory: str, clock: Meaning) -> Value:
        """As it was after the last tick of the clock before this instant."""
        if not isinstance(clock, Clock):
            raise Beyond("a copy at this clock")
        last = max((m for m in range(1, self.n) if clock.ticks(m)), default=0)
        return self.begun[memory] if last < self.anew else self.after[last][memory]

    # -- calls

    def call(self, e: syntax.Call, names: Mapping, place: tuple, given: Mapping) -> Meaning:
        if not isinstance(e.callee, syntax.Name):
            callee = self.value(e.callee, names, place, given)
            return self.applied(e, callee, names, place, given)
        name, args = e.callee.text, e.args
        if id(e) in names.get("its weights", {}):
            W, bias = names["its weights"][id(e)]
            return W @ self.tensor(args[0], names, place, given) + bias
        callee = given[name] if name in given else names.get(name)
        if isinstance(callee, Meant):
            callee = self.named(name, names, given)
        if isinstance(callee, dict):
            return self.applied(e, callee, names, place, given)
        if isinstance(callee, syntax.Def):
            return self.follow(e, callee, names, place, given)
        if args and isinstance(args[0], syntax.Window):
            return self.over(name, e, args[0], names, place, given)
        if name == "grad":
            return self.gradient(args[0], names, place)
        if name == "prox":
            return self.minimiser(args[0], names, place, args[1])
        if name == "stop":
            value = self.value(args[0], names, place, given)
            return each(Tensor.detach, value)
        if name in ("sum", "mean") and len(args) == 1:
            x = self.tensor(args[0], names, place, given)
            return x.sum() if name == "sum" else x.mean()
        if name in ("matrix", "shaped") and name not in names:
            x = self.tensor(args[0], names, place, given)
            if x.dim() != 2:
                raise Beyond("a matrix of other axes")
            return x
        if name in FUNCTIONS:
            given_args = [self.value(arg, names, place, given) for arg in args]
            if not all(isinstance(x, Tensor | dict) for x in given_args):
                raise Beyond(name)
            return each(FUNCTIONS[name], *given_args)
        raise Beyond(f"{name}()")

    def bound(
        self, e: syntax.Call, d: syntax.Def, names: Mapping, place: tuple, given: Mapping
    ) -> dict[str, Meaning]:
        found: dict[str, Meaning] = {}
        waiting = [p for p in d.params]
        for arg in e.args:
            if isinstance(arg, syntax.Named):
                found[arg.name.text] = self.value(arg.value, names, place, given)
                continue
            param = next(p for p in waiting if p.name.text not in found)
            found[param.name.text] = self.value(arg, names, place, given)
        for param in waiting:
            if param.name.text not in found:
                if param.default is None:
                    raise Beyond("an argument")
                found[param.name.text] = self.value(param.default, self.outer, place, {})
            self.measure(param, found)
        return found

    def measure(self, param: syntax.Param, found: dict[str, Meaning]) -> None:
        """Axes that a parameter names are sizes in the body."""
        value = found[param.name.text]
        for i, axis in enumerate(param.shape.axes if param.shape else ()):
            if isinstance(axis, syntax.Name) and axis.text not in self.outer:
                if not isinstance(value, Tensor) or value.dim() != len(param.shape.axes):
                    raise Beyond("a definition mapped over axes")
                found[axis.text] = number(value.shape[i])

    def follow(
        self, e: syntax.Call, d: syntax.Def, names: Mapping, place: tuple, given: Mapping
    ) -> Meaning:
        if any(isinstance(x, dict) for x in self.bound_values(e, names, place, given)) and (
            d.params and d.params[0].shape is not None
        ):
            raise Beyond("a definition of arrays on a tree")
        scope = {**self.outer, **self.bound(e, d, names, place, given)}
        if "its tick" in names:
            scope["its tick"] = names["its tick"]
        where = (*place, id(e))
        if not isinstance(d.body, syntax.Block):
            return self.value(d.body, scope, where, given)
        for s in d.body.statements:
            match s:
                case syntax.Define(name=name, value=value):
                    scope = {**scope, name.text: Meant(value, scope, where)}
                case syntax.Update(place=into, value=value):
                    value = self.value(value, scope, where, given)
                    scope = {**scope, str(into): value}
                case syntax.For(name=name, items=items, block=block):
                    for i in self.iterations(items, scope):
                        for inner in block.statements:
                            if not isinstance(inner, syntax.Update):
                                raise Beyond("a loop in a definition")
                            iteration = {**scope, name.text: number(i)}
                            value = self.value(inner.value, iteration, (*where, i), given)
                            scope = {**scope, str(inner.place): value}
                case syntax.Level():
                    scope = {**scope, s.member.name.text: self.nested(s, scope, where)}
                case syntax.Return(value=value):
                    return self.value(value, scope, where, given)
                case _:
                    raise Beyond(type(s).__name__)
        raise Beyond("no return")

    def bound_values(
        self, e: syntax.Call, names: Mapping, place: tuple, given: Mapping
    ) -> list[Meaning]:
        values = [arg.value if isinstance(arg, syntax.Named) else arg for arg in e.args[:1]]
        return [self.value(value, names, place, given) for value in values]

    def applied(
        self, e: syntax.Call, net: Meaning, names: Mapping, place: tuple, given: Mapping
    ) -> Meaning:
        """A memory of weights on an argument: `net` says which definition it is of."""
        if not isinstance(net, dict) or len(e.args) != 1:
            raise Beyond("a call of this")
        kinds = {
            s.type.place.names[0].text
            for s in self.statements
            if isinstance(s, syntax.Memory) and isinstance(s.type, syntax.Kind)
        }
        if len(kinds) != 1:
            raise Beyond("memories of several kinds")
        d = self.outer[next(iter(kinds))]
        return self.network(d, net, self.value(e.args[0], names, place, given))

    def network(self, d: Meaning, weights: Tree, x: Meaning) -> Meaning:
        if not isinstance(d, syntax.Def):
            raise Beyond("a network that is not a definition")
        scope: dict[str, Meaning] = {**self.outer, d.params[0].name.text: x}
        self.measure(d.params[0], scope)
        if not isinstance(d.body, syntax.Block):
            scope["its weights"] = unnamed(d.body, weights)
            return self.value(d.body, scope, (), {})
        for s in d.body.statements:
            match s:
                case syntax.Define(name=name, value=syntax.Call(callee=syntax.Name(text="weight"))):
                    scope[name.text] = weights[name.text]
                case syntax.Define(
                    name=name, value=syntax.Call(callee=syntax.Name(text=callee), args=(arg,))
                ) if isinstance(self.outer.get(callee), syntax.Def):
                    below = self.field(weights, name.text)
                    inner = self.value(arg, scope, (), {})
                    scope[name.text] = self.network(self.outer[callee], below, inner)
                case syntax.Return(value=value):
                    return self.value(value, scope, (), {})
                case _:
                    raise Beyond("a network of this form")
        raise Beyond("no return")

    # -- stretches

    def over(
        self,
        how: str,
        e: syntax.Call,
        window: syntax.Window,
        names: Mapping,
        place: tuple,
        given: Mapping,
    ) -> Value:
        """A sum or mean over tokens whose terms see the memories of this instant."""
        if place:  # in a level that is called: its terms were kept, one each call
            terms = names["its terms"].get(id(window))
            if terms is None:
                raise Beyond("a stretch of calls")
        else:
            if window.stretch.clock.text == "period":
                first = max(self.ticked, self.anew) + 1
            elif window.stretch.clock.text == "sequence" and window.stretch.count is None:
                first = 1
            else:
                first = max(1, self.n - self.stretch(window.stretch, names).period + 1)
                if not window.stretch.is_unit:
                    raise Beyond("a stretch since a clock")
            others = self.remembers(window.value, names) - given.keys()
            if others and first <= self.ticked:  # they have moved since
                raise Beyond("another memory within a stretch")
            terms = [self.term(window.value, names, n, given) for n in range(first, self.n + 1)]
        total = terms[0]
        for term in terms[1:]:
            total = each(torch.add, total, term)
        return total if how == "sum" else each(lambda x: x / len(terms), total)

    def remembers(self, e: syntax.Expr, names: Mapping) -> set[str]:
        """The memories of the level that an expression reads."""
        found: set[str] = set()
        for piece in syntax.walk(e):
            if isinstance(piece, syntax.Name):
                meant = names.get(piece.text)
                if isinstance(meant, Meant):
                    found |= self.remembers(meant.expression, meant.names)
                elif piece.text in self.begun:
                    found.add(piece.text)
        return found

    def term(self, e: syntax.Expr, names: Mapping, n: int, given: Mapping) -> Value:
        """At token n; a gradient in it is that of the objective there."""
        whole, names = self.objective, self.shifted(names, n)
        if whole is not None:
            there = self.shifted(whole.names, n)
            self.objective = Meant(whole.expression, there, whole.place)
        found = self.value(e, names, (), given)
        self.objective = whole
        return found

    def shifted(self, names: Mapping, n: int) -> dict[str, Meaning]:
        """The names as they stand, with the streams of another token."""
        if n == self.n:
            return dict(names)
        moved: dict[str, Meaning] = {}
        streams = self.streams(n - 1)
        for name, meant in names.items():
            if isinstance(meant, Meant):
                if mentions(meant.expression, AFTER) or copies(meant.expression):
                    raise Beyond("a copy within a stretch")
                meant = Meant(meant.expression, self.shifted(meant.names, n), meant.place)
            moved[name] = meant
        return {**moved, **streams}

    # -- levels that are called

    def nested(self, level: syntax.Level, scope: Mapping, place: tuple) -> Held:
        key = (*place, id(level))
        statements = level.block.statements
        memories = [s for s in statements if isinstance(s, syntax.Memory)]
        state = self.inner.get(key)
        if state is None:
            begun: dict[str, Value] = {}
            for s in memories:
                if not isinstance(s.type, syntax.Like):
                    raise Beyond("a level of this memory")
                value = self.tensor(s.start, {**scope, **begun}, place, {})
                other = {**scope, **begun}[s.type.name.text]
                if isinstance(other, Meant):
                    other = self.value(other.expression, other.names, other.place, {})
                if not isinstance(other, Tensor | dict):
                    raise Beyond("like this")
                begun[s.name.text] = each(lambda x: value.expand_as(x).clone(), other)
            state = self.inner[key] = Ticking(begun)
        if self.asked == (key, self.n, state.count) and state.made:  # once an instant
            return Held(*state.made)
        state.count += 1
        windows = [
            piece
            for s in statements
            for piece in syntax.walk(s)
            if isinstance(piece, syntax.Window)
        ]
        for window in windows:
            term = self.value(window.value, scope, (*place, "term"), {})
            state.terms.setdefault(id(window), []).append(each(Tensor.detach, term))
        before = dict(state.memories)
        if self.stretch(level.rate.period, scope).ticks(state.count):
            ticks = state.count // self.stretch(level.rate.period, scope).period
            names = {**scope, **before, "its terms": dict(state.terms), "its tick": number(ticks)}
            objective = self.objective
            names = self.carry_out(statements, names, key)
            self.objective = objective
            state.memories = {m: each(Tensor.detach, names[m]) for m in before}
            state.terms.clear()
        state.made = before, dict(state.memories)
        self.asked = (key, self.n, state.count)
        return Held(*state.made)

    asked: tuple | None = None

    # -- derivatives

    def gradient(self, at: syntax.Expr, names: Mapping, place: tuple) -> Value:
        name, point = self.point(at, names, place)
        return self.slopes(name, point)

    def point(self, at: syntax.Expr, names: Mapping, place: tuple) -> tuple[str, Value]:
        match at:
            case syntax.Name(text=text):
                value = names[text]
            case syntax.Instant(value=syntax.Name(text=text), clock=clock):
                value = self.copy(text, names.get(clock.text))
            case _:
                raise Beyond("a gradient at this")
        if not isinstance(value, Tensor | dict):
            raise Beyond("a gradient in this")
        return text, each(lambda x: x.detach().clone(), value)

    def loss(self, name: str, value: Value) -> Tensor:
        meant = self.objective
        if meant is None:
            raise Beyond("no objective")
        found = self.value(meant.expression, meant.names, meant.place, {name: value})
        if not isinstance(found, Tensor):
            raise Beyond("an objective of this")
        return found.sum()

    def slopes(self, name: str, point: Value) -> Value:
        leaves = each(lambda x: x.clone().requires_grad_(), point)
        loss = self.loss(name, leaves)
        if not loss.requires_grad:
            return each(torch.zeros_like, point)
        found = torch.autograd.grad(loss, parts(leaves), allow_unused=True)
        made = [torch.zeros_like(x) if g is None else g for x, g in zip(parts(point), found)]
        return dict(zip(point, made)) if isinstance(point, dict) else made[0]

    def minimiser(self, at: syntax.Expr, names: Mapping, place: tuple, rate: syntax.Expr) -> Tensor:
        """argmin of E(W) + |W - P|^2 / (2 rate), for an E of the second degree: by Newton."""
        if isinstance(at, syntax.Name):
            name, p = self.point(at, names, place)
        else:
            name = next(iter(self.begun))
            p = self.tensor(at, names, place, {}).detach()
        if not isinstance(p, Tensor):
            raise Beyond("prox of a tree")
        eta = self.tensor(rate, names, place, {})

        def of(flat: Tensor) -> Tensor:
            return self.loss(name, flat.view_as(p))

        flat = p.reshape(-1)
        curve = torch.autograd.functional.hessian(of, flat)
        slope = self.slopes(name, p).reshape(-1)
        eye = torch.eye(len(flat), dtype=torch.float64)
        return p - torch.linalg.solve(eta * curve + eye, eta * slope).view_as(p)


def unnamed(body: syntax.Expr, weights: Tree) -> dict[int, tuple[Tensor, Tensor]]:
    """The matrix and the bias of each call: the first `linear` of an expression makes `linear`, the
    second `linear2`.
    """
    found, count = {}, Counter[str]()
    for call in syntax.walk(body):
        if isinstance(call, syntax.Call) and isinstance(call.callee, syntax.Name):
            name = call.callee.text
            if name in ("linear", "affine"):
                count[name] += 1
                leaf = f"{name}{count[name]}" if count[name] > 1 else name
                found[id(call)] = weights[leaf], weights.get(f"{leaf}.bias", number(0))
    return found


def copies(e: syntax.Syntax) -> bool:
    return any(isinstance(piece, syntax.Instant) for piece in syntax.walk(e))


def mentions(e: syntax.Syntax, names: tuple[str, ...]) -> bool:
    return any(isinstance(p, syntax.Name) and p.text in names for p in syntax.walk(e))


# -- layers of drawn programs


TAIL = """
loss = |out - next(x)|^2
level training every step {
    memory W: WEIGHTS
    context x
    minimize mean(loss over period)
    W <- W - 0.01 * grad(W)
}
"""


def layers(drawn: Drawn) -> list[str]:
    """The programs that the layers of a drawn one make alone: `def mix(x: [d]) -> [d] { .. }`."""
    chunks = re.split(r"(?m)^(?=\S)(?!})", drawn.text)
    heads = [c for c in chunks if re.match(r"nldsl|import|dim|clock|\w+ = [\d\[(]", c)]
    defs = [c for c in chunks if c.startswith("def ") and not re.match(r"def model\b", c)]
    weights = re.search(r"memory W: (rest = random|weights)$", drawn.text, re.M)
    found = []
    for layer in defs:
        head = re.match(r"def \w+\(x: \[d\]\) -> \[d\] \{\n", layer)
        if not head or "level " not in layer or not weights:
            continue
        body = re.sub(r"(?m)^    ", "", layer[head.end() :].rstrip().removesuffix("}"))
        body = re.sub(r"(?m)^return ", "out = ", body)
        body = re.sub(r"(memory .* = .*?)(?:random|load\(.*\))", r"\1learned", body)
        others = [c for c in defs if c is not layer]
        found.append(
            "".join(["".join(heads), "".join(others), "input x: [d]\n", body])
            + TAIL.replace("WEIGHTS", weights[1])
        )
    return found


def read(text: str, files: Mapping[str, str], x: Tensor) -> dict[str, float | str]:
    """Each level on the token clock of a layer: how far its memories are from the interpreter's,
    over all tokens of x [1, token, d]; or what is beyond this reading.
    """
    with TemporaryDirectory() as folder:
        for name, own in files.items():
            (Path(folder) / name).write_text(own, encoding="utf-8")
        program = load_text(text, search=[Path(folder)])
    statements = parse(Source("layer.nl", text)).statements
    oracle = Oracle(program)
    weights = initial_weights(program, 0)
    runs = [oracle.run({"x": x[:, : n + 1]}) for n in range(x.shape[1])]
    outer: dict[str, Meaning] = dict(definitions(statements, files))
    outer |= {name: number(size) for name, size in program.dims.items()}
    for s in statements:
        if isinstance(s, syntax.Clock) and s.period.clock.text == "token":
            count = s.period.count
            size = outer[count.text] if isinstance(count, syntax.Name) else count and count.value
            outer[s.name.text] = Clock(
                int(size) if size is not None else 1, int(s.phase.text) if s.phase else 0
            )
        if isinstance(s, syntax.Define) and isinstance(s.value, syntax.Number):
            outer[s.name.text] = number(s.value.value)
    found: dict[str, float | str] = {}
    for s in statements:
        if isinstance(s, syntax.Level) and isinstance(s.rate, syntax.Every):
            if s.rate.period.clock.text not in ("step", "sequence", "document"):
                name = s.member.name.text
                try:
                    found[name] = distance(s, program, runs, outer, weights)
                except Beyond as reason:
                    found[name] = str(reason)
    return found


def distance(
    level: syntax.Level,
    program: Program,
    runs: list[Result],
    outer: Mapping[str, Meaning],
    weights: Mapping[str, Tensor],
) -> float:
    label, whole = level.member.name.text, runs[-1].outputs
    tokens = len(runs)
    heads = program.dims[level.per.text] if level.per else 1
    worst = 0.0
    for head in range(heads):

        def mine(value: Tensor, axes: tuple[Axis, ...]) -> Tensor:
            each_head = level.per and axes and axes[0].name == level.per.text
            return value[head] if each_head else value

        def streams(at: int) -> dict[str, Tensor]:
            return {
                name: mine(rows[0, at], program.outputs[name].type)
                for name, rows in whole.items()
                if rows.shape[1] == tokens and isinstance(program.outputs[name].type, tuple)
            }

        def starts(memory: str) -> Value | None:
            at = f"{label}.{memory}.start"
            found = {
                name.removeprefix(at).removeprefix("."): mine(x, program.weights[name].shape)
                for name, x in weights.items()
                if name == at or name.startswith(f"{at}.")
            }
            return (found[""] if list(found) == [""] else found) if found else None

        reader = Reader(level, outer, streams, starts)
        reader.run(tokens)
        for n, run in enumerate(runs, 1):
            for memory, value in reader.after[n].items():
                known = run.memories[f"{label}.{memory}"]
                for a, b in zip(parts(value), parts(known), strict=True):
                    b = b[0, head] if level.per else b[0]
                    if not b.isfinite().all():
                        raise Beyond("numbers beyond float64")
                    worst = max(worst, laws.deviation(a, b))
    return worst
