"""Reads files: imports, constants, dims, and `--set`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from nldsl.core.program import Setting
from nldsl.frontend import syntax
from nldsl.frontend.parse import parse
from nldsl.graph.built_in import built_in
from nldsl.graph.clocks import clock_of
from nldsl.graph.elaborator import Elaborator, Poisoned, did_you_mean, meant
from nldsl.graph.evaluate import evaluate
from nldsl.graph.names import join
from nldsl.graph.scope import LIBRARY, STD, Entry, Named, Scope, Site, Thunk
from nldsl.graph.statements import hides
from nldsl.graph.values import ClockValue, Definition, Items, Num, Value
from nldsl.source import Source, decoded

MOST_EXACT = 2**63  # whole numbers beyond it are taken as real ones
NUMERIC = (syntax.Number, syntax.Unary, syntax.Binary, syntax.List, syntax.Name, syntax.Index)


class Files:
    """The files of one program, each elaborated once."""

    def __init__(self, elaborator: Elaborator, search: Sequence[Path]) -> None:
        self.elaborator, self.search = elaborator, tuple(search)
        self.scopes: dict[Path, Scope] = {}
        self.settable: set[str] = set()
        self.own: set[Path] = set()  # where the main file itself may lie

    def main(self, file: syntax.File, source: Source) -> Scope:
        """The scope of the main file with its constants; reports each `--set` of an unknown
        name.
        """
        self.elaborator.main = scope = Scope(self.elaborator, "file", None)
        self.own = {place / source.name for place in (source.folder, *self.search) if place != STD}
        self.constants(file, scope, None if source.folder == Path() else source.folder, "")
        for name in self.elaborator.sets.keys() - self.elaborator.used_sets:
            self.elaborator.report(
                "N112",
                f"--set {name}: there is no such dim, clock or constant",
                help=self.can_be_set(name),
            )
        return scope

    def can_be_set(self, name: str) -> str:
        """The name that was meant, if one is near, and all that can be set."""
        shown = ", ".join(f"`{known}`" for known in sorted(self.settable)) or "nothing"
        near = did_you_mean(name, self.settable)
        return (f"{near} " if near else "") + f"what can be set here: {shown}"

    def constants(self, file: syntax.File, scope: Scope, folder: Path | None, name: str) -> None:
        """Imports, dims, clocks, defs and literals: all that a def of this file sees."""
        for statement in file.statements:
            try:
                if isinstance(statement, syntax.Import):
                    for imported in statement.names:
                        self.load(imported, scope, folder)
                elif isinstance(statement, syntax.Def):
                    define(scope, statement.name, Definition(statement, scope))
                elif isinstance(statement, syntax.Dims):
                    for binding in statement.bindings:
                        self.dim(binding, scope, name)
                elif isinstance(statement, syntax.Clock):
                    self.clock(statement, scope, name)
                elif (
                    isinstance(statement, syntax.Define)
                    and statement.shape is None
                    and literal(statement.value, scope)
                ):
                    self.literal(statement, scope, name)
            except Poisoned:
                pass
        for entry in list(scope.names.values()):
            if isinstance(entry.base, Thunk):
                try:
                    entry.base.force()
                except Poisoned:
                    pass

    def load(self, imported: syntax.Name, scope: Scope, folder: Path | None) -> None:
        """Imports a file: from the folder of the importing file, the search path, or the
        library.
        """
        elaborator = self.elaborator
        path = Path(os.path.realpath(self.found(imported, folder)))
        if path not in self.scopes:
            self.scopes[path] = Scope(elaborator, "file", None)
            source = self.source(path, imported)
            tree = of_library(source) if source.name.startswith(LIBRARY) else parse(source)
            self.constants(tree, self.scopes[path], path.parent, imported.text)
        for name, entry in self.scopes[path].names.items():
            if isinstance(entry.base, Definition):
                other = scope.imported.get(name) or scope.names.get(name)
                if other is not None and other.base is not entry.base:
                    elaborator.report(
                        "N104",
                        f"two files define `{name}`",
                        imported.span,
                        notes=[("here", other.span), ("and here", entry.span)],
                        help="import one of the two, or rename one",
                    )
                scope.imported.setdefault(name, Entry(entry.base, entry.span, True))

    @staticmethod
    def source(path: Path, imported: syntax.Name) -> Source:
        """A file that another one imports; messages show it in that one's folder."""
        text = decoded(path.read_bytes())
        if path.parent == STD.resolve():
            return Source(f"{LIBRARY}{path.name}", text)
        return Source(path.name, text, imported.span.source.folder)

    def found(self, imported: syntax.Name, folder: Path | None) -> Path:
        """The file of that name: beside the one that imports it, where the caller says, then in
        the library. A file does not import itself.
        """
        elaborator = self.elaborator
        places = [*([] if folder is None else [folder]), *map(Path, self.search), STD]
        path = beside(imported.text, places, self.own)
        if path is None and any(found.name == f"{imported.text}.nl" for found in self.own):
            elaborator.fail(
                "N106",
                f"`{imported.text}.nl` is this file: it does not import itself",
                imported.span,
                help="what it defines is there without an import",
            )
        if path is None:
            known = {
                found.stem
                for place in places
                if place.is_dir()
                for found in sorted(place.glob("*.nl"))
            }
            elaborator.fail(
                "N106",
                f"there is no file `{imported.text}.nl`",
                imported.span,
                **meant(imported, known),
            )
        return path

    def dim(self, binding: syntax.Binding, scope: Scope, file: str) -> None:
        """`dim d = 4`"""
        elaborator, name = self.elaborator, binding.name

        def run() -> Num:
            given = self.given(name.text, "")
            value = given if given is not None else evaluate(binding.value, Site(scope, ()))
            size = elaborator.whole(value, binding.value.span, least=1)
            found = Num(size, name.text)
            elaborator.heard(name.span, found)
            before = elaborator.dims.setdefault(name.text, (found, name.span))
            if before[0].value != size:
                elaborator.report(
                    "N104",
                    f"`dim {name.text}` is {before[0].value} in one file and {size} in another",
                    name.span,
                    notes=[("the other one", before[1])],
                    help="one size for both, or two names",
                )
            return found

        self.settable.add(name.text)
        define(scope, name, Thunk(elaborator, run, name.text, name.span))

    def clock(self, statement: syntax.Clock, scope: Scope, file: str) -> None:
        """`clock c = 4 token phase 1`"""
        elaborator, name = self.elaborator, statement.name

        def run() -> ClockValue:
            given = self.given(name.text, file)
            count = (
                None if given is None else elaborator.whole(given, statement.period.span, least=1)
            )
            made = clock_of(statement.period, Site(scope, ()), statement.phase, count)
            found = replace(made, name=name.text)
            elaborator.clocks.setdefault(join(file, name.text), found)
            elaborator.heard(name.span, ClockValue(found))
            return ClockValue(found)

        self.settable.add(join(file, name.text))
        define(scope, name, Thunk(elaborator, run, name.text, name.span))

    def literal(self, statement: syntax.Define, scope: Scope, file: str) -> None:
        """`name = 3`, `name = [1, 4]`: a constant that `--set` can replace."""
        elaborator, name = self.elaborator, statement.name

        def run() -> Value:
            given = self.given(name.text, file)
            value = given if given is not None else evaluate(statement.value, Site(scope, ()))
            value = Num(value.value, name.text) if isinstance(value, Num) else value
            elaborator.heard(name.span, value)
            return value

        hides(name, scope)
        self.settable.add(join(file, name.text))
        define(scope, name, Thunk(elaborator, run, name.text, name.span))

    def given(self, name: str, file: str) -> Num | Items | None:
        """The value of `--set name=value`."""
        full = join(file, name)
        if full not in self.elaborator.sets:
            return None
        self.elaborator.used_sets.add(full)
        said = self.elaborator.sets[full]
        value = read_value(said)
        if value is None:
            self.elaborator.fail(
                "N112",
                f"--set {full}={said}: a number or a list of numbers is needed",
                help="a list is written `[1, 4]`, between quotes for the shell",
            )
        self.elaborator.used[full] = plain(value)
        return value


def beside(name: str, places: Iterable[Path], own: Collection[Path] = ()) -> Path | None:
    """The file that `import name` brings: that of the first folder that has one, `own` left out."""
    files = (place / f"{name}.nl" for place in places)
    return next((path for path in files if path.is_file() and path not in own), None)


@lru_cache(maxsize=32)
def of_library(source: Source) -> syntax.File:
    """The tree of a file of the library, which is the same for all programs."""
    return parse(source)


def define(scope: Scope, name: syntax.Name, base: Named) -> None:
    """A constant of a file; fails of names that an import or the language has."""
    if name.text in scope.imported:
        scope.elaborator.report(
            "N104",
            f"`{name.text}` is defined here and in an imported file",
            name.span,
            notes=[("the other one", scope.imported[name.text].span)],
            help="another name here",
        )
    elif name.text in built_in():
        scope.elaborator.report(
            "N103", f"`{name.text}` hides a built-in name", name.span, help="another name"
        )
    scope.define(name, base, constant=True)


def literal(expr: syntax.Expr, scope: Scope) -> bool:
    """A number or a list, or arithmetic on such constants above it."""
    for piece in syntax.walk(expr):
        if not isinstance(piece, NUMERIC):
            return False
        if isinstance(piece, syntax.Name) and not (
            piece.text in scope.names and isinstance(scope.names[piece.text].base, Thunk)
        ):
            return False
    return True


def read_value(text: str) -> Num | Items | None:
    """`64`, `-1e-3`, `[1, 2, 4]`."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        items = [read_value(item) for item in text[1:-1].split(",") if item.strip()]
        numbers = [item for item in items if isinstance(item, Num)]
        return Items(tuple(numbers)) if len(numbers) == len(items) else None
    try:
        whole = int(text)
        return Num(whole if abs(whole) <= MOST_EXACT else float(whole), text)
    except (ValueError, OverflowError):
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return Num(value, text) if value == value and abs(value) != float("inf") else None


def plain(value: Value) -> Setting:
    if isinstance(value, Items):
        return [plain(item) for item in value.items]
    assert isinstance(value, Num)
    return value.value
