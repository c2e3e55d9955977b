"""Syntax tree -> the declaration that each name in the text stands for, by the scopes of the
language.

The elaborator knows this of what it works out; here it is known of the whole text: defs that
nothing calls, statements beside one that is wrong, files that are only imported. What only values
tell (a weight of a gradient, a keyword of a def that came as an argument) has no declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nldsl.frontend import syntax
from nldsl.frontend.syntax import Name, Syntax
from nldsl.graph.files import NUMERIC
from nldsl.source import Span

SEEN_IN_DEFS = frozenset({"dim", "clock", "def", "constant", "file"})
IN_WORDS = frozenset({"after", "period", *syntax.UNITS})  # stand where a name may, and are none
LONGEST_CHAIN = 20  # of names for names


@dataclass(eq=False)
class Scope:
    """`kind` is "file", "def", "level" or "loop"; `span` is the part of the text where it holds."""

    kind: str
    span: Span
    parent: Scope | None = None
    names: dict[str, Declared] = field(default_factory=dict)

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def find(self, name: str) -> Declared | None:
        """What a name means here: a def sees of its file the constants alone, and `loss`."""
        through_def = False
        for scope in self.chain():
            found = scope.names.get(name)
            if found is not None and (
                scope.kind != "file"
                or not through_def
                or found.kind in SEEN_IN_DEFS
                or name == "loss"
            ):
                return found
            through_def = through_def or scope.kind == "def"
        return None

    def visible(self) -> dict[str, Declared]:
        """Every name that means something here."""
        known = {name for scope in self.chain() for name in scope.names}
        return {name: found for name in sorted(known) if (found := self.find(name)) is not None}


@dataclass(eq=False)
class Declared:
    """A name where it is declared. `kind` is "file", "dim", "clock", "constant", "input", "def",
    "parameter", "axis", "level", "memory", "stream" or "index"; `inner` the scope that it opens.
    """

    name: Name
    kind: str
    path: Path
    made: Syntax  # the statement, or the parameter
    home: Scope
    inner: Scope | None = None

    @property
    def place(self) -> tuple[Path, int]:
        return self.path, self.name.span.start


@dataclass(eq=False)
class Bindings:
    """The scopes of a file, outer before inner, and every name in it with what it stands for."""

    path: Path
    scopes: list[Scope]
    names: dict[int, tuple[Name, Declared | None]]  # by the first character

    def at(self, offset: int) -> tuple[Name, Declared | None] | None:
        """The name at a character, or just before it."""
        near = (start for start in self.names if start <= offset <= self.names[start][0].span.end)
        start = max(near, default=None)
        return None if start is None else self.names[start]

    def scope(self, offset: int) -> Scope:
        """The innermost scope around a character."""
        around = [s for s in self.scopes if s.span.start <= offset <= s.span.end]
        return around[-1] if around else self.scopes[0]

    def declared(self) -> list[Declared]:
        """What this file declares, in the order of the text."""
        found = {d.place: d for _, d in self.names.values() if d is not None}
        own = [d for d in found.values() if d.path == self.path]
        return sorted(own, key=lambda d: d.name.span.start)

    def uses(self, meant: Declared) -> list[Name]:
        """Every place of a name in this file, its declaration included."""
        return [
            name
            for _, (name, found) in sorted(self.names.items())
            if found is not None and found.place == meant.place
        ]


Brought = Callable[[str], "Bindings | None"]  # an imported file, by its name


def nothing(name: str) -> None:
    """No import is followed."""


def bind(file: syntax.File, path: Path, brought: Brought = nothing) -> Bindings:
    """The names of a file; `brought` reads what it imports."""
    binder = _Binder(path, brought)
    top = binder.scope("file", file.span, None)
    binder.block(file.statements, top)
    return Bindings(path, binder.scopes, binder.names)


class _Binder:
    def __init__(self, path: Path, brought: Brought) -> None:
        self.path, self.brought = path, brought
        self.scopes: list[Scope] = []
        self.names: dict[int, tuple[Name, Declared | None]] = {}

    def scope(self, kind: str, span: Span, parent: Scope | None) -> Scope:
        found = Scope(kind, span, parent)
        self.scopes.append(found)
        return found

    def declare(self, name: Name, kind: str, made: Syntax, scope: Scope) -> Declared:
        """The first of two declarations holds, as in the compiler, which reports the second."""
        found = scope.names.setdefault(name.text, Declared(name, kind, self.path, made, scope))
        self.names[name.span.start] = name, found
        return found

    def use(self, name: Name, scope: Scope) -> Declared | None:
        if name.text in IN_WORDS:
            return None
        found = scope.find(name.text)
        self.names[name.span.start] = name, found
        return found

    # ---- statements: the names of a block first, since order says nothing

    def block(self, statements: tuple[syntax.Statement, ...], scope: Scope) -> None:
        for statement in statements:
            self.names_of(statement, scope)
        for statement in statements:
            self.inside(statement, scope)

    def names_of(self, statement: syntax.Statement, scope: Scope) -> None:
        match statement:
            case syntax.Import(names):
                for name in names:
                    self.imported(name, statement, scope)
            case syntax.Dims(bindings):
                for binding in bindings:
                    self.declare(binding.name, "dim", binding, scope)
            case syntax.Clock(name) | syntax.Input(name) | syntax.Def(name) | syntax.Memory(name):
                self.declare(name, type(statement).__name__.lower(), statement, scope)
            case syntax.Define(name, shape, value):
                literal = scope.kind == "file" and shape is None and constant(value, scope)
                self.declare(name, "constant" if literal else "stream", statement, scope)
            case syntax.Level(member):
                family = member.index is not None
                home = next(s for s in scope.chain() if not family or s.kind != "loop")
                self.declare(member.name, "level", statement, home)
            case syntax.For(block=block):
                families = [s for s in block.statements if isinstance(s, syntax.Level)]
                for level in families:
                    if level.member.index is not None:
                        self.names_of(level, scope)

    def imported(self, name: Name, statement: syntax.Import, scope: Scope) -> None:
        found = self.brought(name.text)
        stands = Declared(
            name, "file", self.path if found is None else found.path, statement, scope
        )
        self.names[name.span.start] = name, stands
        for text, known in found.scopes[0].names.items() if found is not None else ():
            if known.kind == "def":
                scope.names.setdefault(text, known)

    def inside(self, statement: syntax.Statement, scope: Scope) -> None:
        match statement:
            case syntax.Def():
                self.definition(statement, scope)
            case syntax.Level(member, per, rate, block):
                for head in (member.index, per, rate):
                    self.read(head, scope)
                inner = self.scope("level", block.span, scope)
                if (found := scope.find(member.name.text)) is not None:
                    found.inner = inner
                self.block(block.statements, inner)
            case syntax.For(name, items, block):
                self.read(items, scope)
                inner = self.scope("loop", statement.span, scope)
                self.declare(name, "index", statement, inner)
                self.block(block.statements, inner)
            case syntax.Dims(bindings):
                for binding in bindings:
                    self.read(binding.value, scope)
            case syntax.Import():
                pass
            case _:
                named = getattr(statement, "name", None)
                for piece in syntax.children(statement):
                    if piece is not named:
                        self.read(piece, scope)

    def definition(self, statement: syntax.Def, scope: Scope) -> None:
        inner = self.scope("def", statement.span, scope)
        if (found := scope.names.get(statement.name.text)) is not None:
            found.inner = inner
        for param in statement.params:
            self.declare(param.name, "parameter", param, inner)
        for param in statement.params:
            for axis in param.shape.axes if param.shape is not None else ():
                if isinstance(axis, Name) and inner.find(axis.text) is None:
                    self.declare(axis, "axis", param, inner)
            self.read(param.shape, inner)
            self.read(param.default, inner)
        self.read(statement.result, inner)
        if isinstance(statement.body, syntax.Block):
            self.block(statement.body.statements, inner)
        else:
            self.read(statement.body, inner)

    # ---- expressions

    def read(self, piece: Syntax | None, scope: Scope) -> None:
        match piece:
            case None:
                pass
            case Name():
                if piece.span.start not in self.names:
                    self.use(piece, scope)
            case syntax.Field(value, name):
                self.read(value, scope)
                self.names[name.span.start] = name, self.member(value, name, scope)
            case syntax.Place(names):
                self.place(names, scope)
            case syntax.Kind(place, args):
                self.place(place.names, scope)
                self.arguments(args or (), scope.find(place.names[0].text), scope)
            case syntax.Call(Name("load") as callee, args):  # names weights by their paths
                self.use(callee, scope)
                for arg in args:
                    if isinstance(arg, syntax.Pair):
                        self.theirs(arg.key, scope)
            case syntax.Call(callee, args):
                self.read(callee, scope)
                known = scope.find(callee.text) if isinstance(callee, Name) else None
                self.arguments(args, known, scope)
            case syntax.Member(name, index):  # a learner: a level in sight, or one of the file
                level = scope.find(name.text) or self.scopes[0].names.get(name.text)
                self.names[name.span.start] = name, level
                self.read(index, scope)
            case syntax.Weights(_, shape):  # `of` names a path; an axis may be a letter
                for axis in shape.axes if shape is not None else ():
                    if not isinstance(axis, Name) or scope.find(axis.text) is not None:
                        self.read(axis, scope)
            case _:
                for child in syntax.children(piece):
                    self.read(child, scope)

    def theirs(self, piece: Syntax, scope: Scope) -> None:
        """The left side of a pair of `load`: a loop's variable and an axis are names in sight."""
        match piece:
            case syntax.Transpose(value):
                self.theirs(value, scope)
            case syntax.Index(value, named) | syntax.Call(_, (value, named)):
                self.theirs(value, scope)
                self.read(named, scope)
            case syntax.List(items):
                for item in items:
                    self.theirs(item, scope)

    def arguments(
        self, args: tuple[syntax.Arg, ...], callee: Declared | None, scope: Scope
    ) -> None:
        for arg in args:
            if not isinstance(arg, syntax.Named):
                self.read(arg, scope)
                continue
            known = callee.made if callee is not None else None
            params = known.params if isinstance(known, syntax.Def) else ()
            param = next((p for p in params if p.name.text == arg.name.text), None)
            if callee is not None and param is not None:
                home = callee.inner or callee.home
                found = Declared(param.name, "parameter", callee.path, param, home)
                self.names[arg.name.span.start] = arg.name, found
            self.read(arg.value, scope)

    def place(self, names: tuple[Name, ...], scope: Scope) -> None:
        """`M.W2 <- ..`, `net`"""
        found = self.use(names[0], scope)
        for name in names[1:]:
            found = part(found, name)
            self.names[name.span.start] = name, found

    def member(self, value: syntax.Expr, name: Name, scope: Scope) -> Declared | None:
        return part(standing_for(value, scope), name)


def part(whole: Declared | None, name: Name) -> Declared | None:
    """A memory of a level, or a weight of the def that is a memory's type."""
    if whole is None:
        return None
    if whole.kind == "memory" and isinstance(whole.made, syntax.Memory):
        kind = whole.made.type
        net = whole.home.find(kind.place.names[0].text) if isinstance(kind, syntax.Kind) else None
        found = net.inner.names.get(name.text) if net is not None and net.inner else None
        return found if found is not None and found.kind == "stream" else None
    if whole.kind == "level" and whole.inner is not None:
        found = whole.inner.names.get(name.text)
        return found if found is not None and found.kind == "memory" else None
    return None


def standing_for(value: syntax.Expr, scope: Scope, depth: int = 0) -> Declared | None:
    """The level or the memory that an expression is, behind names and instants."""
    if depth > LONGEST_CHAIN:
        return None
    match value:
        case Name(text):
            found = scope.find(text)
            if found is not None and isinstance(found.made, syntax.Define):
                return standing_for(found.made.value, found.home, depth + 1)
            return found
        case syntax.Index(inner) | syntax.Instant(inner):
            return standing_for(inner, scope, depth + 1)
        case syntax.Field(inner, name):
            return part(standing_for(inner, scope, depth + 1), name)
    return None


def constant(value: syntax.Expr, scope: Scope) -> bool:
    """A number or a list, or arithmetic on such constants above it: what a def may see."""
    return all(
        isinstance(piece, NUMERIC)
        and (
            not isinstance(piece, Name)
            or piece.text in scope.names
            and scope.names[piece.text].kind in ("dim", "constant")
        )
        for piece in syntax.walk(value)
    )
