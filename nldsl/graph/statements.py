"""Statements: a block declares its names, then its loops are unrolled and its levels and versions
made, in textual order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from nldsl.core.nodes import Node
from nldsl.frontend import syntax
from nldsl.graph import calls
from nldsl.graph.built_in import built_in
from nldsl.graph.clocks import clock_of
from nldsl.graph.elaborator import MOST_ITERATIONS, Elaborator, Poisoned, meant
from nldsl.graph.evaluate import declare, evaluate, instantiate, make
from nldsl.graph.levels import LevelInstance
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.names import join
from nldsl.graph.reported import reported
from nldsl.graph.scope import Entry, Scope, Site, Thunk
from nldsl.graph.values import Array, ClockValue, Definition, Family, Items, Num, Value, kind_of
from nldsl.source import Span


@declare.register(syntax.Define)
def define(statement: syntax.Define, site: Site) -> None:
    """`x = e`: a thunk under its name."""
    scope, name = site.scope, statement.name
    if name.text in scope.names and scope.names[name.text].constant and scope.kind == "file":
        return  # a literal of the file, declared before
    if not next_version(statement, scope):
        hides(name, scope)
    scope.define(
        name,
        Thunk(
            site.elaborator,
            lambda: definition(statement, site),
            name.text,
            name.span,
            statement.value,
            site,
        ),
    )


@declare.register(syntax.Clock)
def declare_clock(statement: syntax.Clock, site: Site) -> None:
    """`clock c = ..` in a def."""
    if site.scope.kind != "file":  # those of the file are known by now
        hides(statement.name, site.scope)
        site.scope.define(
            statement.name,
            Thunk(
                site.elaborator,
                lambda: clock(statement, site),
                statement.name.text,
                statement.name.span,
            ),
        )


@declare.register(syntax.Memory)
def declare_memory(statement: syntax.Memory, site: Site) -> None:
    """`memory M: type = start`"""
    scope = site.scope
    if statement.name.text in scope.names:
        scope.define(statement.name, poisoned(site.elaborator))  # says that it is there twice
        return
    memory = MemoryInstance(site.level, statement, site)
    site.elaborator.heard(statement.name.span, memory)
    scope.define(statement.name, memory)
    site.level.memories[statement.name.text] = memory
    if isinstance(statement.type, syntax.Weights) and site.level.worker is None:
        site.elaborator.owners.register(memory)


def next_version(statement: syntax.Define, scope: Scope) -> bool:
    """`x = x + ..` of an outer x: the cycle is the finding."""
    outer = scope.hides(statement.name.text)
    return (
        outer is not None
        and not outer.constant
        and any(
            isinstance(piece, syntax.Name) and piece.text == statement.name.text
            for piece in syntax.walk(statement.value)
        )
    )


def hides(name: syntax.Name, scope: Scope) -> None:
    """Reports N103 for a name that an outer scope or the language has."""
    outer = scope.hides(name.text)
    if outer is not None:
        notes = [("the outer one", outer.span)] if outer.span else []
        scope.elaborator.report(
            "N103",
            f"`{name.text}` hides an outer name",
            name.span,
            help="another name",
            notes=notes,
        )
    elif name.text in built_in():
        scope.elaborator.report(
            "N103", f"`{name.text}` hides a built-in name", name.span, help="another name"
        )


def definition(statement: syntax.Define, site: Site) -> Value:
    """The value of `x = e` or `x: [d] = e`."""
    value = evaluate(statement.value, site)
    if statement.shape is not None:
        value = calls.check_shape(value, statement.shape, site, f"`{statement.name.text}`")
    name_node(value, site.scope, statement.name.text, statement.span)
    site.elaborator.heard(statement.name.span, value)
    return value


def name_node(value: Value, scope: Scope, text: str, span: Span) -> None:
    """Reports speak of a node by the first definition it is the value of."""
    if isinstance(value, Array) and not scope.template:
        node: Node = value.node
        name = join(scope.path, text)
        scope.elaborator.lines[name] = (*scope.elaborator.lines.get(name, ()), span)
        if not node.name and node.op not in (
            "input",
            "weight",
            "read",
            "now",
            "held",
            "plain",
            "const",
        ):
            object.__setattr__(node, "name", name)


def clock(statement: syntax.Clock, site: Site) -> ClockValue:
    found = replace(clock_of(statement.period, site, statement.phase), name=statement.name.text)
    site.elaborator.clocks.setdefault(join(site.scope.path, statement.name.text), found)
    return ClockValue(found)


@make.register(syntax.Return)
def result(statement: syntax.Return, site: Site) -> None:
    site.scope.result = (statement.value, site)


@make.register(syntax.Report)
def report(statement: syntax.Report, site: Site) -> None:
    thunk = site.elaborator.reported = reported(statement, site)
    site.elaborator.later(lambda: thunk.force())


@make.register(syntax.Minimize)
def objective(statement: syntax.Minimize, site: Site) -> None:
    site.level.add_objective(statement, site)


@make.register(syntax.Context)
def context(statement: syntax.Context, site: Site) -> None:
    site.level.contexts += [(name, site) for name in statement.names]
    site.level.said.append(statement)


@make.register(syntax.Reset)
def reset(statement: syntax.Reset, site: Site) -> None:
    name = statement.memory
    if name is not None and name.text not in site.level.memories:
        site.elaborator.fail(
            "N101",
            f"this level has no memory `{name.text}` above",
            name.span,
            **meant(name, site.level.memories),
        )
    if name is not None:
        site.elaborator.heard(name.span, site.level.memories[name.text])
    site.level.resets.append((statement, site))


@make.register(syntax.Bptt)
def bptt(statement: syntax.Bptt, site: Site) -> None:
    site.level.bptts.append((statement, site))


@make.register(syntax.Level)
def level(statement: syntax.Level, site: Site) -> None:
    """Makes the level; where that fails, its name stands for a poisoned value."""
    try:
        instance(statement, site)
    except Poisoned:
        member = statement.member
        site.scope.names.setdefault(member.name.text, Entry(poisoned(site.elaborator), member.span))
        raise


def poisoned(elaborator: Elaborator) -> Thunk[NoReturn]:
    """A value that could not be made; reading it is not a second finding."""

    def fail() -> NoReturn:
        raise Poisoned

    return Thunk(elaborator, fail)


def instance(statement: syntax.Level, site: Site) -> None:
    """Makes a level, or a member of a family; its equations are put off until all around is
    declared.
    """
    scope, elaborator, member = site.scope, site.elaborator, statement.member
    if scope.template:
        elaborator.fail(
            "N208",
            "a def that is a memory's type holds no level",
            statement.span,
            help="a level outside it that owns the memory",
        )
    home = scope.home()
    if member.index is None:
        name = join(scope.path, member.name.text)
        index: Value | None = None
    else:
        index = evaluate(member.index, site)
        if not isinstance(index, Num):
            elaborator.fail(
                "N202",
                f"the index of a family is a number, this is {kind_of(index)}",
                member.index.span,
                help="a number, or the variable of a loop",
            )
        name = join(home.path, f"{member.name.text}[{index.value:g}]")
    if home.leaf:
        name += f"[{home.leaf}]"
    found = LevelInstance(elaborator, statement, scope, site.place, name)
    elaborator.heard(member.name.span, found)
    if not isinstance(index, Num):
        scope.define(member.name, found)
    else:
        join_family(found, index, member, home)
    if name in elaborator.instances:
        elaborator.fail(
            "N105", f"the level `{name}` is defined twice", member.span, help="another name"
        )
    elaborator.instances[name] = found
    instantiate(statement.block.statements, found.scope, (*site.place, 0))
    elaborator.later(found.finish, found.when())
    elaborator.later(found.scope.settle, found.when())


def join_family(found: LevelInstance, index: Num, member: syntax.Member, home: Scope) -> None:
    """`level l[i]`: one name for all iterations of a loop, a member for each."""
    family = home.names.get(member.name.text)
    if family is None:
        family = home.define(member.name, Family(member.name.text))
    if not isinstance(family.base, Family) or index.value in family.base.members:
        home.elaborator.fail(
            "N105",
            f"`{found.name}` is defined twice",
            member.span,
            notes=[("first here", family.span)],
            help="another name",
        )
    family.base.members[index.value] = found


@make.register(syntax.For)
def unroll(statement: syntax.For, site: Site) -> None:
    """`for i in items { .. }`: the block once for each item, in a scope of its own."""
    scope, elaborator = site.scope, site.elaborator
    items = evaluate(statement.items, site)
    if not isinstance(items, Items) or items.paths is not None:
        elaborator.fail(
            "N202",
            f"`for` runs over a list or `range(n)`, this is {kind_of(items)}",
            statement.items.span,
            help="`join(a, b)` of two lists is one behind the other"
            if isinstance(statement.items, syntax.Binary)
            else "",
        )
    elaborator.iterations += len(items.items)
    if elaborator.iterations > MOST_ITERATIONS:
        elaborator.fail(
            "N212",
            f"more than {MOST_ITERATIONS} iterations of `for` in the whole program",
            statement.items.span,
            help="fewer iterations; a level `every token` goes through tokens by itself",
        )
    for t, item in enumerate(items.items):
        value = f"{item.value:g}" if isinstance(item, Num) else str(t)
        iteration = f"{statement.name.text}[{value}]"
        inner = Scope(elaborator, "iteration", scope, join(scope.path, iteration))
        if scope.level is None:
            inner.iteration = (*scope.iteration, iteration)
        inner.define(statement.name, Num(item.value, value) if isinstance(item, Num) else item)
        instantiate(statement.block.statements, inner, (*site.place, t))
        if not scope.template:
            elaborator.later(inner.settle)


def moved(memory: MemoryInstance, statement: syntax.Update, site: Site) -> None:
    """`M <- e` of a memory: in its own level."""
    name = statement.place.names[0]
    site.elaborator.heard(name.span, memory)
    if site.scope.level is not memory.level:
        site.elaborator.fail(
            "N109",
            "a memory is moved in its own level",
            name.span,
            help=f"`{name.text} <- ..` in the level that has it",
        )
    memory.add_version(statement, site)


@make.register(syntax.Update)
def version(statement: syntax.Update, site: Site) -> None:
    """`M <- e` of a memory of this level, or `x <- e` of a stream."""
    scope, elaborator, name = site.scope, site.elaborator, statement.place.names[0]
    entry = next(
        (inner.names[name.text] for inner in up_to_home(scope) if name.text in inner.names), None
    )
    if entry is None:
        elaborator.fail(
            "N101",
            f"there is no `{name.text}` in this scope to give a next version",
            name.span,
            help=f"`{name.text} = ..` defines it",
        )
    if isinstance(entry.base, MemoryInstance):
        return moved(entry.base, statement, site)
    if len(statement.place.names) > 1:
        elaborator.fail(
            "N109",
            f"only a memory of a def's weights has parts to move, `{name.text}` is none",
            statement.place.span,
            help=f"`{name.text} <- ..` moves all of it",
        )
    has_versions(name, entry, elaborator)

    def run() -> Value:
        value = evaluate(statement.value, site)
        name_node(value, scope, name.text, statement.span)
        elaborator.heard(name.span, value)
        return value

    thunk = Thunk(elaborator, run, name.text, statement.span, statement.value, site)
    entry.versions.append((site.place, thunk))
    if scope.level is None:
        scope.home().pending.append(thunk)


def has_versions(name: syntax.Name, entry: Entry, elaborator: Elaborator) -> None:
    """Fails if the name has one value throughout: that of a def, a clock, a level, a dim."""
    base = entry.base.force() if entry.constant and isinstance(entry.base, Thunk) else entry.base
    if isinstance(base, Definition | ClockValue | LevelInstance | Family) or (
        name.text in elaborator.dims and base is elaborator.dims[name.text][0]
    ):
        what = "a dim" if isinstance(base, Num) else kind_of(base)
        elaborator.fail(
            "N109",
            f"only a stream or a memory has versions, `{name.text}` is {what}",
            name.span,
            help=f"another name: `{name.text}_1 = ..`",
        )


def up_to_home(scope: Scope) -> list[Scope]:
    """The scopes from here to the def or file around, both included."""
    found = []
    for inner in scope.chain():
        found.append(inner)
        if inner is scope.home():
            return found
    return found
