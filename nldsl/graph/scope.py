"""Scopes: names and their values, versions by place in the text, and lazy values.

`x = e` is an equation, so its order does not matter: it becomes a thunk. `x <- e` makes a version
that is visible from its place on; places are tuples that compare in textual order, iterations of a
loop included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeAlias, TypeVar

from nldsl.core.nodes import Shape
from nldsl.core.program import Fill
from nldsl.frontend import syntax
from nldsl.graph import foreign
from nldsl.graph.built_in import built_in
from nldsl.graph.elaborator import Elaborator, Poisoned, meant
from nldsl.graph.values import Absorb, Array, Expose, Hidden, Items, MemoryValue, Value
from nldsl.source import Span

if TYPE_CHECKING:
    from nldsl.graph.levels import LevelInstance

Place = tuple[int, ...]
STD = Path(__file__).parent.parent / "std"  # the library
LIBRARY = "std/"  # how the names of its files begin, in what is said of them


T = TypeVar("T", covariant=True)


class Thunk(Generic[T]):
    """A value to be worked out once. `name` is that of a definition, "" of an argument; `expr`
    says it, at `site`. `value` is there once `state` is "done".
    """

    value: T

    def __init__(
        self,
        elaborator: Elaborator,
        run: Callable[[], T],
        name: str = "",
        span: Span | None = None,
        expr: syntax.Syntax | None = None,
        site: Site | None = None,
    ) -> None:
        self.elaborator, self.run, self.name, self.span = elaborator, run, name, span
        self.expr, self.site = expr, site
        self.state = "new"

    def force(self) -> T:
        """The value. Raises Poisoned where a finding stands in its way, N401 or N105 of a cycle."""
        if self.state == "done":
            return self.value
        if self.state == "poisoned":
            raise Poisoned
        if self.state == "forcing":
            code, message, remedy = cycle(self)
            self.elaborator.fail(code, message, self.span, help=remedy)
        self.state = "forcing"
        self.elaborator.forcing.append(self)
        try:
            self.value = self.run()
            self.state = "done"
            return self.value
        except Poisoned:
            self.state = "poisoned"
            raise
        finally:
            self.elaborator.forcing.pop()


def cycle(thunk: Thunk[object]) -> tuple[str, str, str]:
    """Code, message and remedy for a value that needs itself at one instant."""
    forcing = thunk.elaborator.forcing
    names = [t.name for t in forcing[forcing.index(thunk) :] if t.name]
    if len(names) <= 1:
        name = names[0] if names else "the value"
        return (
            "N105",
            f"`{name}` is defined by itself at one instant",
            f"`{name} <- ..` makes a next version",
        )
    chain = ", ".join(
        f"`{a}` needs `{b}`" for a, b in zip(names, [*names[1:], names[0]], strict=True)
    )
    return (
        "N401",
        f"a cycle at one instant: {chain}",
        "let one of them read an earlier value: a memory, or `@c` of a clock",
    )


class Make(Protocol):
    """Makes a weight: its name, axes, how it begins."""

    def __call__(
        self, site: Site, name: str, shape: Shape, init: str, scale: float, fill: Fill, /
    ) -> Array: ...


def unmade(site: Site, name: str, shape: Shape, init: str, scale: float, fill: Fill) -> Array:
    raise AssertionError("no file is being read")


class Start(Protocol):
    """The names and functions that only the start of a memory can use."""

    def drawn(self) -> Array:
        """`random`"""

    def learned(self) -> Array:
        """`learned`"""

    def loaded(self, call: syntax.Call, site: Site) -> Array:
        """`load(..)`"""


@dataclass
class Entry:
    """A name in a scope: its first value, and its versions in the order of the text."""

    base: Named
    span: Span | None = None
    constant: bool = False  # visible in the defs of its file
    versions: list[tuple[Place, Thunk[Value]]] = field(default_factory=list)

    def at(self, place: Place) -> Named:
        k = bisect_left(self.versions, place, key=lambda version: version[0])
        return self.versions[k - 1][1] if k else self.base


class Scope:
    """`kind` is "file", "def", "level" or "iteration"."""

    def __init__(
        self,
        elaborator: Elaborator,
        kind: str,
        parent: Scope | None,
        path: str = "",
        place: Place = (),
    ) -> None:
        self.elaborator, self.kind, self.parent, self.path, self.place = (
            elaborator,
            kind,
            parent,
            path,
            place,
        )
        self.names: dict[str, Entry] = {}
        self.iteration: tuple[str, ...] = parent.iteration if parent else ()
        # the level in whose text this is, and the one whose equation called this def
        self.level: LevelInstance | None = parent.level if parent else None
        self.update: LevelInstance | None = parent.update if parent else None
        # axes hidden from everything in here
        self.hidden: tuple[Hidden, ...] = parent.hidden if parent else ()
        self.components: dict[int, str] = {}  # id of a call -> its part of a qualified name
        # how `weight` is made here
        self.weights: Make = parent.weights if parent else unmade
        self.leaf: str = parent.leaf if parent else ""  # the leaf that a call was mapped over
        self.result: tuple[syntax.Expr, Site] | None = None
        self.imported: dict[str, Entry] = {}
        self.template: bool = parent.template if parent else False  # in the def of a memory's type
        # in the start of a memory
        self.start: Start | None = parent.start if parent and kind == "iteration" else None
        # the defs that this text is inlined in
        self.callers: tuple[syntax.Def, ...] = parent.callers if parent else ()
        self.called: Span | None = None  # the call in the main file that led here
        self.pending: list[Thunk[Value]] = []  # versions made in this def or file, in textual order

    def frame(self) -> Scope:
        """The def, level or file around the iterations of loops."""
        return next(scope for scope in self.chain() if scope.kind != "iteration")

    def home(self) -> Scope:
        """The def or file around."""
        return next(scope for scope in self.chain() if scope.kind in ("def", "file"))

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def define(self, name: syntax.Name, base: Named, constant: bool = False) -> Entry:
        """A new name in this scope; N105 if it is there already."""
        if name.text in self.names:
            self.elaborator.report(
                "N105",
                f"`{name.text}` is defined twice",
                name.span,
                help=f"`{name.text} <- ..` makes a next version",
                notes=[("first here", self.names[name.text].span)],
            )
            return self.names[name.text]
        entry = self.names[name.text] = Entry(base, name.span, constant)
        return entry

    def find(self, name: str, without: Scope | None = None) -> tuple[Entry, Scope] | None:
        """The entry that a name means here, `without` the names of one scope.

        From a def only the constants of its file are seen.
        """
        through_def = False
        for scope in self.chain():
            entry = (None if scope is without else scope.names.get(name)) or scope.imported.get(
                name
            )
            if entry is not None:
                if scope.kind == "file" and through_def and not entry.constant:
                    return None
                return entry, scope
            through_def = through_def or scope.kind == "def"
        return None

    def hides(self, name: str) -> Entry | None:
        """The outer definition that an inner `name = ..` would hide."""
        found = self.find(name, self)
        return found[0] if found else None

    def settle(self) -> None:
        """Work out the values that nothing has asked for: they may be wrong too."""
        for entry in self.names.values():
            for thunk in (entry.base, *(version for _, version in entry.versions)):
                if isinstance(thunk, Thunk) and thunk.name:
                    try:
                        thunk.force()
                    except Poisoned:
                        pass

    def visible(self) -> set[str]:
        return {name for scope in self.chain() for name in (*scope.names, *scope.imported)}


class Bound(ABC):
    """A name whose value depends on the place of the read: a memory in its own level."""

    @abstractmethod
    def read_at(self, site: Site) -> Value: ...


Named: TypeAlias = "Value | Bound | Thunk[Value]"  # what a name may stand for


@dataclass(frozen=True)
class Site:
    """The place of an expression: its scope, and its position in the text."""

    scope: Scope
    place: Place

    @property
    def elaborator(self) -> Elaborator:
        return self.scope.elaborator

    def value(self, name: syntax.Name) -> Value:
        """The value of a name here, with versions and hidden axes taken into account."""
        value = self._value(name)
        self.elaborator.heard(name.span, value)
        return value

    def _value(self, name: syntax.Name) -> Value:
        found = self.scope.find(name.text)
        main = self.elaborator.main
        if found is None and name.text == "loss" and main is not None and "loss" in main.names:
            return self._loss(main.names["loss"])
        if found is None:
            unknown(self, name)
        entry, scope = found
        own = scope.home() is self.scope.home()
        base = entry.at(self.place) if own else entry.base
        value = base.force() if isinstance(base, Thunk) else base
        if isinstance(value, Bound):
            return value.read_at(self)
        for hidden in reversed(list(self._hidden_between(scope))):
            value = hide_axis(self.elaborator, value, hidden)
        return value

    def _loss(self, entry: Entry) -> Value:
        """The program's loss in a def, which no call hands over: its last version."""
        loss = entry.versions[-1][1] if entry.versions else entry.base
        value = loss.force() if isinstance(loss, Thunk) else loss
        assert not isinstance(value, Bound), "a memory of the file"
        for hidden in self.scope.hidden:
            value = hide_axis(self.elaborator, value, hidden)
        return value

    def _hidden_between(self, scope: Scope) -> Iterator[Hidden]:
        """The axes of the levels with a `per` that lie inside `scope`, inner first."""
        for inner in self.scope.chain():
            if inner is scope:
                return
            if inner.kind == "level" and inner.level is not None and inner.level.per is not None:
                yield inner.level.per

    @property
    def level(self) -> LevelInstance:
        """The level in whose text this is; for statements that stand in one alone."""
        assert self.scope.level is not None
        return self.scope.level


def hide_axis(elaborator: Elaborator, value: Value, hidden: Hidden) -> Value:
    """The value as a place reads it that lies behind a level `per` this axis."""
    if isinstance(value, Array) and hidden not in value.hidden:
        return elaborator.shapes.absorb(value, hidden)
    if isinstance(value, MemoryValue):
        return value.viewed(Absorb(hidden))
    return value


def show_axes(elaborator: Elaborator, value: Value, which: tuple[Hidden, ...]) -> Value:
    """The value of a call outside it: the axes mapped over are visible again."""
    if not which:
        return value
    if isinstance(value, Array):
        return elaborator.shapes.expose(value, which)
    if isinstance(value, MemoryValue):
        return value.viewed(Expose(which))
    if isinstance(value, Items):
        return replace(
            value, items=tuple(show_axes(elaborator, item, which) for item in value.items)
        )
    return value


def unknown(site: Site, name: syntax.Name) -> NoReturn:
    """Fails with N102 for a stream inside a def, else N101 with the nearest known name, an import,
    or the word of this language for a foreign one.
    """
    elaborator = site.elaborator
    for scope in site.scope.chain():
        if name.text in scope.names:
            elaborator.fail(
                "N102",
                "a def sees its parameters and constants of its file, not the stream "
                f"`{name.text}`",
                name.span,
                help=f"make `{name.text}` a parameter of the def",
            )
    if any(finding.code == "N106" for finding in elaborator.findings):
        raise Poisoned  # it may well stand in the file that is not there
    home = next(
        (
            path.stem
            for path in sorted(STD.glob("*.nl"))
            if f"\ndef {name.text}(" in path.read_text(encoding="utf-8")
        ),
        "",
    )
    if home:
        elaborator.fail(
            "N101",
            f"there is no `{name.text}` here",
            name.span,
            help=f"`import {home}` brings it",
            fix=foreign.imported(name, home),
        )
    span, said = foreign.name(name, built_in())
    elaborator.fail(
        "N101",
        f"there is no `{span.text()}` here",
        span,
        **said or meant(name, site.scope.visible() | built_in() | set(syntax.UNITS)),
    )
