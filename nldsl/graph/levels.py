"""Levels and memories while they are elaborated: declared first, so that anything may read them, their equations later."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from nldsl.frontend import syntax
from nldsl.graph import calls, prox, starts
from nldsl.graph.clocks import NEVER, clock_of, default_reset, rate_of
from nldsl.graph.equations import Bptt, Clock, Level, Memory, Node, Shape, Tree, Type
from nldsl.graph.names import join
from nldsl.graph.scope import Place, Scope, Site, Thunk, show_axes
from nldsl.graph.values import Array, Definition, Eye, Hidden, MemoryValue, Num, kind_of
from nldsl.graph.world import LAST, PARTS, SOON, Poisoned, World, did_you_mean


@dataclass(frozen=True)
class MemoryType:
    """`core` is the type with the hidden axes in front."""

    core: Type
    hidden: tuple[Hidden, ...]
    template: calls.Template | None = None
    rest: bool = False

    @property
    def seen(self) -> Shape:
        assert not isinstance(self.core, Tree)
        return self.core[len(self.hidden):]


class MemoryInstance:
    def __init__(self, level: LevelInstance, text: syntax.Memory, site: Site) -> None:
        self.level, self.text, self.site, self.world = level, text, site, site.world
        self.name = join(level.name, text.name.text)
        self.versions: list[tuple[Place, Thunk]] = []
        self.type = Thunk(self.world, self._type, text.name.text, text.type.span)
        self.start = Thunk(self.world, lambda: starts.start(self), text.name.text, text.start.span)
        self.slots: dict[str, str] | None = None

    def _type(self) -> MemoryType:
        kind, world, hidden = self.text.type, self.world, self.level.scope.hidden
        front = tuple(h.axis for h in hidden)
        with world.at(kind.span, self.site.scope.turn):
            if isinstance(kind, syntax.Shape):
                axes = tuple(world.axis(world.evaluate(axis, self.site), axis.span) for axis in kind.axes)
                return MemoryType((*front, *axes), hidden)
            if isinstance(kind, syntax.Like):
                like = world.as_array(world.evaluate(kind.name, self.site), self.site, kind.span)
                if like.is_tree:
                    leaves = tuple((path, (*front, *leaf.seen)) for path, leaf in world.arrays.leaves(like))
                    return MemoryType(Tree(leaves), hidden)
                return MemoryType((*front, *like.seen), hidden)
            if isinstance(kind, syntax.Rest):
                return MemoryType(world.owners.claim(self), ())
            callee = world.evaluate(kind.place.names[0], self.site) if len(kind.place.names) == 1 else None
            if not isinstance(callee, Definition):
                world.fail("N202", f"a memory's type is a shape, `like x`, `rest` or a def, `{kind.place}` is {kind_of(callee)}", kind.span)
            template = calls.template(callee, kind, self.site)
            return MemoryType(Tree(tuple((leaf.path, (*front, *leaf.shape)) for leaf in template.leaves)), hidden, template)

    def read_at(self, site: Site) -> MemoryValue:
        """The memory by its bare name, in its own level."""
        if site.scope.start is not None:
            return MemoryValue(self, None, "start")
        return MemoryValue(self, sum(place < site.place for place, _ in self.versions))

    def read(self, value: MemoryValue) -> Array:
        """The node of a read, with the changes of hidden axes on the way."""
        type_, world = self.type.force(), self.world
        if value.at == "start":
            node = self.start.force()
            if node is None:
                world.fail("N209", f"the start of `{self.text.name.text}` is no value: it is `random` weights")
        elif isinstance(value.at, Clock):
            node = world.node("held", type=type_.core, memory=self.name, clock=value.at)
        elif value.at == "now":
            node = world.node("now", type=type_.core, memory=self.name)
        elif value.version is None:
            node = world.node("read", type=type_.core, memory=self.name)
        else:
            node = world.node("plain", type=type_.core, memory=f"{self.name}#{value.version}")
        array = Array(node, type_.hidden)
        for name in value.path.split("/") if value.path else ():
            array = world.arrays.field(array, name)
        for how, what in value.views:
            if how == "expose":
                array = show_axes(world, array, what)
            elif what not in array.hidden:
                array = world.arrays.absorb(array, what)
        return array

    def part(self, value: MemoryValue, name: syntax.Name) -> MemoryValue:
        tree = self.type.force().core
        prefix = ".".join([*(value.path.split("/") if value.path else []), name.text])
        paths = tree.paths() if isinstance(tree, Tree) else ()
        if not any(path == prefix or path.startswith(prefix + ".") for path in paths):
            self.world.fail("N101", f"`{self.text.name.text}` has no weight `{prefix}`" + (f": {', '.join(paths)}" if paths else ""),
                            name.span, help=did_you_mean(prefix, paths))
        return replace(value, path=f"{value.path}/{name.text}" if value.path else name.text)

    def add_version(self, text: syntax.Update, site: Site) -> None:
        count = len(self.versions)

        def run() -> Node:
            node = self._version(text, site, count)
            self.world.versions[f"{self.name}#{count + 1}"] = node
            return node

        self.versions.append((site.place, Thunk(self.world, run, text.place.names[0].text, text.span)))

    def _version(self, text: syntax.Update, site: Site, count: int) -> Node:
        world, type_ = self.world, self.type.force()
        if isinstance(text.value, syntax.Call) and isinstance(text.value.callee, syntax.Name) and text.value.callee.text == "prox":
            value = prox.closed_form(self, text, site)
        else:
            value = world.as_array(world.evaluate(text.value, site), site, text.value.span)
        with world.at(text.value.span, site.scope.turn):
            if len(text.place.names) == 1:
                return self.conform(value, f"`{text.place}`")
            path = ".".join(name.text for name in text.place.names[1:])
            paths = type_.core.paths() if isinstance(type_.core, Tree) else ()
            if path not in paths:
                world.fail("N101", f"`{text.place.names[0].text}` has no weight `{path}`" + (f": {', '.join(paths)}" if paths else ""),
                           text.place.span, help=did_you_mean(path, paths))
            before = self.read(MemoryValue(self, count))
            shape = type_.core.shape(path)[len(type_.hidden):]
            new = Array(world.arrays.conform(value, type_.hidden, shape, f"`{text.place}`"), type_.hidden)
            return world.arrays.tree([(p, new if p == path else leaf) for p, leaf in world.arrays.leaves(before)]).node

    def conform(self, value: Array, what: str) -> Node:
        """The value as one of this memory's type."""
        world, type_ = self.world, self.type.force()
        arrays = world.arrays
        if not isinstance(type_.core, Tree):
            if value.is_tree:
                world.fail("N203", f"{what} is an array, the value is a tree")
            return arrays.conform(value, type_.hidden, type_.seen, what)
        if value.node.type == type_.core and value.hidden == type_.hidden:
            return value.node
        if value.is_tree and value.node.type.paths() != type_.core.paths():
            world.fail("N203", f"{what} and its value are trees with different weights")
        k = len(type_.hidden)
        parts = dict(arrays.leaves(value)) if value.is_tree else {}
        if not value.is_tree and not value.is_scalar:
            world.fail("N203", f"{what} is a tree of weights, the value an array")
        return arrays.tree([(path, Array(arrays.conform(parts.get(path, value), type_.hidden, shape[k:], f"{what}, weight `{path}`,"), type_.hidden))
                            for path, shape in type_.core.leaves]).node


class LevelInstance:
    def __init__(self, world: World, text: syntax.Level, around: Scope, place: Place, name: str) -> None:
        self.world, self.text, self.name = world, text, name
        self.memories: dict[str, MemoryInstance] = {}
        self.objectives: list[tuple[Place, Thunk, syntax.Minimize]] = []
        self.read_objectives: set[int] = set()
        self.contexts: list[tuple[syntax.Name, Site]] = []
        self.resets: list[tuple[syntax.Reset, Site]] = []
        self.bptts: list[tuple[syntax.Bptt, Site]] = []
        self.context_nodes = Thunk(world, self._context, "", text.span)
        site = Site(around, place)
        self.parent: LevelInstance | None = None
        self.clock = rate_of(text.rate, site)
        if self.clock.unit == "update":
            self.parent = around.update
            if self.parent is None:
                world.fail("N307", "`update` is the tick of the level that calls this def, and none does", text.rate.span,
                           help="call the def in a level's equation")
            own, up = self.clock, self.parent.clock
            self.clock = Clock(up.unit, own.period * up.period, up.phase + own.phase * up.period,
                               up.name if (own.period, own.phase) == (1, 0) else f"{own.period} x {up.name}")
        self.scope = Scope(world, "level", around, name, place)
        self.scope.level = self
        self.per = world.hide(world.axis(world.evaluate(text.per, site), text.per.span)) if text.per else None
        if self.per is not None:
            self.scope.hidden = (*around.hidden, self.per)

    def member(self, name: syntax.Name, site: Site) -> MemoryValue:
        """`l.M`."""
        memory = self.memories.get(name.text)
        if memory is None:
            self.world.fail("N101", f"level `{self.text.member.name.text}` has no memory `{name.text}`", name.span,
                            help=did_you_mean(name.text, self.memories))
        if site.scope.level is self:
            return memory.read_at(site)
        value = MemoryValue(memory, None, "now" if site.scope.start is not None else None)
        if self.per is None:
            return value
        value = value.viewed("expose", (self.per,))
        reader = site.scope.level
        return value if reader is None or reader.per is None else value.viewed("absorb", reader.per)

    def objective(self, place: Place) -> Thunk | None:
        """The objective last above this place."""
        found = None
        for i, (where, thunk, _) in enumerate(self.objectives):
            if where < place:
                found, last = thunk, i
        if found is not None:
            self.read_objectives.add(last)
        return found

    def add_objective(self, text: syntax.Minimize, site: Site) -> None:
        def run() -> Array:
            value = self.world.as_array(self.world.evaluate(text.objective, site), site, text.objective.span)
            if not value.is_scalar:
                said = "a tree" if value.is_tree else f"the axes {self.world.axes(value)}"
                self.world.fail("N204", f"an objective is one number, this has {said}", text.objective.span, help="`|x|^2`, `<x, y>` or `sum(x)`")
            return value
        self.objectives.append((site.place, Thunk(self.world, run, "", text.objective.span), text))

    def _context(self) -> tuple[Node, ...]:
        found = []
        for name, site in self.contexts:
            value = self.world.evaluate(name, site)
            if isinstance(value, Eye | Num):
                continue                                    # known before the run: data of no stream
            node = self.world.as_array(value, site, name.span).node
            if node not in found:
                found.append(node)
        return tuple(found)

    # ---- the equations

    def when(self) -> int:
        kinds = [m.text.type for m in self.memories.values() if isinstance(m.text.type, syntax.Rest)]
        return SOON if not kinds else PARTS if all(kind.of is not None for kind in kinds) else LAST

    def finish(self) -> None:
        """Elaborate the equations; everything around is declared by now."""
        world = self.world
        self.check()
        for memory in self.memories.values():
            for thunk in (memory.type, memory.start):
                attempt(thunk)
        for _, thunk in sorted((v for memory in self.memories.values() for v in memory.versions), key=lambda v: v[0]):
            attempt(thunk)
        for _, thunk, _ in self.objectives:
            attempt(thunk)
        attempt(self.context_nodes)
        for i, (_, _, text) in enumerate(self.objectives):
            if i not in self.read_objectives and not prox_reads(self):
                world.report("N504", "no `grad` or `prox` reads this objective", text.span, help="an equation with `grad(M)`, or no objective")

    def check(self) -> None:
        world, text = self.world, self.text
        if not self.memories:
            world.report("N502", f"level `{text.member.name.text}` has no memory", text.member.span)
        written = any(memory.versions for memory in self.memories.values())
        if self.clock.unit == "never" and written:
            span = next(thunk.span for memory in self.memories.values() for _, thunk in memory.versions)
            world.report("N503", "a level with rate `never` has no ticks, so no `<-`", span)
        elif self.clock.unit != "never" and not written and self.memories:
            world.report("N502", f"level `{text.member.name.text}` ticks, but no `<-` moves a memory", text.member.span,
                         help="`M <- ..`, or the rate `never`")
        if self.objectives and not self.contexts:
            world.report("N612", "a level with an objective names the streams it learns from", self.objectives[0][2].span,
                         help="`context x, y`: what the objective reads")

    def record(self, resolve: Any) -> Level:
        """The level as the core has it; `resolve` puts versions in the place of reads."""
        root = self
        while root.parent is not None:
            root = root.parent
        reset, bptt = self._reset(), self._bptt()
        objectives = [resolve(thunk.force().node, self.name) for _, thunk, _ in self.objectives]
        context = [resolve(node, self.name) for node in self.context_nodes.force()]
        per = self.per or next((up.per for up in self._ancestors() if up.per), None)
        return Level(self.name, self.clock, per.axis if per else None, reset, bptt, [m.name for m in self.memories.values()], objectives,
                     context, self.parent.name if self.parent else None, self.text.span, label(self.scope))

    def _ancestors(self) -> Any:
        level = self.parent
        while level is not None:
            yield level
            level = level.parent

    def _reset(self) -> Clock:
        if not self.resets:
            return self.parent._reset() if self.parent is not None else default_reset(self.clock)
        return rate_of(self.resets[-1][0].rate, self.resets[-1][1])

    def _bptt(self) -> tuple[Bptt, ...]:
        if not self.bptts:
            return self.parent._bptt() if self.parent is not None else ()
        found = []
        for text, site in self.bptts:
            depth = "full" if isinstance(text.depth, syntax.Full) else "none" if isinstance(text.depth, syntax.Cut) else clock_of(text.depth, site)
            found.append(Bptt(depth, self._viewer(text.viewer, site) if text.viewer else None, text.span))
        return tuple(found)

    def _viewer(self, member: syntax.Member, site: Site) -> str:
        """A level in scope, or one of the main file."""
        for scope in (site.scope, self.world.main):
            if scope.find(member.name.text) is not None:
                here = Site(scope, site.place)
                value = here.value(member.name)
                if member.index is not None:
                    value = getattr(value, "members", {}).get(getattr(self.world.evaluate(member.index, site), "value", None))
                if isinstance(value, LevelInstance):
                    return value.name
        self.world.fail("N101", f"there is no level `{member.name.text}` here", member.span)


def prox_reads(level: LevelInstance) -> bool:
    return any(isinstance(piece, syntax.Name) and piece.text == "prox" for piece in syntax.walk(level.text.block))


def attempt(thunk: Thunk) -> Any:
    try:
        return thunk.force()
    except Poisoned:
        return None


def grad(call: syntax.Call, site: Site) -> Array:
    """`grad(P)`, the derivative of the objective last above; `grad(e, y)`, of one stream in another."""
    world = site.world
    if not 1 <= len(call.args) <= 2 or any(isinstance(arg, syntax.Named | syntax.Window) for arg in call.args):
        world.fail("N107", "`grad` takes a memory, or two streams", call.span)
    if len(call.args) == 2:
        e, y = (world.as_array(world.evaluate(arg, site), site, arg.span) for arg in call.args)
        if not e.is_scalar:
            world.fail("N204", f"`grad(e, y)` differentiates one number, this is {world.axes(e)}", call.args[0].span)
        return Array(world.node("grad_stream", e.node, y.node, type=y.node.type), y.hidden)
    value, level = world.evaluate(call.args[0], site), site.scope.level
    if not isinstance(value, MemoryValue) or value.memory.level is not level or value.path or value.at == "now":
        world.fail("N515", "`grad(P)` takes a memory of the level it stands in, or `M@clock`", call.args[0].span,
                   help="`grad(e, y)` is the derivative of a stream; `grad(M).W` is a part of a gradient")
    objective = level.objective(site.place)
    if objective is None:
        world.fail("N501", "`grad` reads the objective last above it, and there is no `minimize` above", call.span)
    at = value.memory.read(value)
    context = level.context_nodes.force() if level.contexts else ()
    return Array(world.node("grad", objective.force().node, at.node, type=at.node.type, memory=value.memory.name, context=context), at.hidden)


def label(scope: Scope) -> str:
    """The def that a level stands in."""
    callers = scope.home().callers
    return callers[-1].name.text if callers else ""
