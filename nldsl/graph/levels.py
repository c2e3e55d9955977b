"""Levels during elaboration: a level is declared first, so that anything may read it; its equations
are elaborated later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from nldsl.core.nodes import Node
from nldsl.core.program import WORKER, Bptt, Clock, Level
from nldsl.frontend import syntax
from nldsl.graph.built_in import FUNCTIONS
from nldsl.graph.builtins import fail_without_level
from nldsl.graph.clauses import clauses
from nldsl.graph.clocks import clock_of, default_reset, rate_of
from nldsl.graph.elaborator import LAST, PARTS, SOON, Elaborator, Poisoned, meant
from nldsl.graph.evaluate import array, as_array, axes_text, axis_of, evaluate, field
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.scope import Place, Scope, Site, Thunk
from nldsl.graph.values import (
    Absorb,
    Array,
    Expose,
    Eye,
    Family,
    Hidden,
    MemoryValue,
    Num,
    Value,
)
from nldsl.source import Span


class Spanned(Protocol):
    """Words of a text, or a value made of them."""

    @property
    def span(self) -> Span | None: ...


class LevelInstance:
    """A level in one place of the program: its clauses as they are met, its memories, and thunks
    for objectives, context and clauses.
    """

    def __init__(
        self, elaborator: Elaborator, text: syntax.Level, around: Scope, place: Place, name: str
    ) -> None:
        self.elaborator, self.text, self.name = elaborator, text, name
        self.memories: dict[str, MemoryInstance] = {}
        self.objectives: list[tuple[Place, Thunk[Array], syntax.Minimize]] = []
        self.read_objectives: set[int] = set()
        self.contexts: list[tuple[syntax.Name, Site]] = []
        self.said: list[syntax.Context] = []
        self.resets: list[tuple[syntax.Reset, Site]] = []
        self.bptts: list[tuple[syntax.Bptt, Site]] = []
        self.flows: list[str] = []  # names of the streams in `context_nodes`
        self.context_nodes = Thunk(elaborator, self._context, "", text.span)
        self.clauses = Thunk(elaborator, lambda: (self._reset(), self._bptt()), "", text.span)
        site = Site(around, place)
        self.parent: LevelInstance | None = None
        self.clock = rate_of(text.rate, site)
        if self.clock.unit == "update":
            self.parent = around.update
            if self.parent is None:
                fail_without_level(
                    "`every update` ticks with the level in whose equation it is called",
                    site,
                    text.rate.span,
                )
            own, up = self.clock, self.parent.clock
            self.clock = Clock(
                up.unit,
                own.period * up.period,
                up.phase + own.phase * up.period,
                up.name if (own.period, own.phase) == (1, 0) else f"{own.period} x {up.name}",
            )
        self.scope = Scope(elaborator, "level", around, name, place)
        self.scope.level = self
        self.per = elaborator.hide(axis_of(text.per, site)) if text.per else None
        if self.per is not None:
            self.scope.hidden = (*around.hidden, self.per)

    @property
    def worker(self) -> Hidden | None:
        """The axis of the workers, of a level that has an entry for each."""
        own = (h for h in self.scope.hidden if h.axis.name == WORKER)
        return next(own, None) if self.clock.unit == "step" else None

    def member(self, name: syntax.Name, site: Site) -> MemoryValue:
        """`l.M`."""
        memory = self.memories.get(name.text)
        if memory is None:
            self.elaborator.fail(
                "N101",
                f"level `{self.text.member.name.text}` has no memory `{name.text}`",
                name.span,
                **(
                    meant(name, self.memories) or {"help": f"it has `{'`, `'.join(self.memories)}`"}
                ),
            )
        self.elaborator.heard(name.span, memory)
        if site.scope.level is self:
            return memory.read_at(site)
        value = MemoryValue(memory, None, "after" if site.scope.start is not None else None)
        if self.per is None:
            return value
        value = value.viewed(Expose((self.per,)))
        reader = site.scope.level
        return value if reader is None or reader.per is None else value.viewed(Absorb(reader.per))

    def objective(self, place: Place) -> Thunk[Array] | None:
        """The objective last above this place."""
        found = None
        for i, (where, thunk, _) in enumerate(self.objectives):
            if where < place:
                found, last = thunk, i
        if found is not None:
            self.read_objectives.add(last)
        return found

    def add_objective(self, text: syntax.Minimize, site: Site) -> None:
        """`minimize e`; N204 if e is not one number."""

        def run() -> Array:
            value = as_array(evaluate(text.objective, site), site, text.objective.span)
            if not value.is_scalar:
                said = "a tree" if value.is_tree else f"the axes {axes_text(value)}"
                self.elaborator.fail(
                    "N204",
                    f"an objective is one number, this has {said}",
                    text.objective.span,
                    help="`|x|^2`, `<x, y>` or `sum(x)`",
                )
            return value

        self.objectives.append(
            (site.place, Thunk(self.elaborator, run, "", text.objective.span), text)
        )

    def _context(self) -> tuple[Node, ...]:
        found: list[Node] = []
        for name, site in self.contexts:
            value = evaluate(name, site)
            if isinstance(value, Eye | Num):
                continue  # known before the run: data of no stream
            node = as_array(value, site, name.span).node
            if node not in found:
                found.append(node)
                self.flows.append(name.text)
        return tuple(found)

    # ---- the equations

    def when(self) -> int:
        """A level of `weights`, and one whose memory is like them, follow those that make some."""
        said = [weights_in(m.text.type, m.site) for m in self.memories.values()]
        kinds = [kind for kind in said if kind is not None]
        return SOON if not kinds else PARTS if all(kind.of is not None for kind in kinds) else LAST

    def finish(self) -> None:
        """Elaborate the equations; everything around is declared by now."""
        self.check()
        self.once("reset", [text for text, _ in self.whole()], "one of the two")
        for memory in self.memories.values():
            again = [text for text, _ in self.alone(memory)]
            self.once(f"reset {memory.text.name.text}", again, "one of the two")
        self.once("context", self.said, "one `context x, y` with all streams")
        for memory in self.memories.values():
            attempt(memory.type)
            attempt(memory.start)
            attempt(memory.restart)
        for _, version in sorted(
            (v for memory in self.memories.values() for v in memory.versions), key=lambda v: v[0]
        ):
            attempt(version)
        for _, objective, _ in self.objectives:
            attempt(objective)
        attempt(self.context_nodes)
        attempt(self.clauses)

    def check_objectives(self) -> None:
        """Each is read. Known when everything is worked out and nothing is missing."""
        for i, (_, _, text) in enumerate(self.objectives):
            if i not in self.read_objectives:
                self.elaborator.report(
                    "N504",
                    "no `grad` or `prox` reads this objective",
                    text.span,
                    help="an equation with `grad(M)`, or no objective",
                )

    def check(self) -> None:
        """Reports N502, N503 and N612: a level without memory or update, and an objective without
        context.
        """
        elaborator, text = self.elaborator, self.text
        if not self.memories:
            elaborator.report(
                "N502",
                f"level `{text.member.name.text}` has no memory",
                text.member.span,
                help="`memory M: [d] = 0`",
            )
        written = any(memory.versions for memory in self.memories.values())
        if self.clock.unit == "never" and written and self.parent is None:
            span = next(
                thunk.span for memory in self.memories.values() for _, thunk in memory.versions
            )
            elaborator.report(
                "N503",
                "a level with rate `never` has no ticks, so no `<-`",
                span,
                help="a rate `every ..`, or no `<-`",
            )
        elif self.clock.unit != "never" and not written and self.memories:
            elaborator.report(
                "N502",
                f"level `{text.member.name.text}` ticks, but no `<-` moves a memory",
                text.member.span,
                help="`M <- ..`, or the rate `never`",
            )
        if self.objectives and not self.contexts:
            elaborator.report(
                "N612",
                "a level with an objective names the streams it learns from",
                self.objectives[0][2].span,
                help="`context x, y`: what the objective reads",
            )

    def once(self, word: str, clauses: Sequence[Spanned], remedy: str) -> None:
        """A clause is said once: of two the reader cannot know which holds."""
        for clause in clauses[1:]:
            self.elaborator.report(
                "N309",
                f"level `{self.text.member.name.text}` says `{word}` twice",
                clause.span,
                "said again",
                notes=[("the first", clauses[0].span)],
                help=remedy,
            )

    def record(self, resolve: Callable[[Node, str], Node]) -> Level:
        """The level as the core has it; `resolve` puts versions in the place of reads."""
        root = self
        while root.parent is not None:
            root = root.parent
        reset, bptt = self.clauses.force()
        objectives = [resolve(thunk.force().node, self.name) for _, thunk, _ in self.objectives]
        context = [resolve(node, self.name) for node in self.context_nodes.force()]
        per = self.per or next((up.per for up in self._ancestors() if up.per), None)
        return Level(
            self.name,
            self.clock,
            per.axis if per else None,
            reset,
            bptt,
            [m.name for m in self.memories.values()],
            objectives,
            context,
            self.parent.name if self.parent else None,
            self.text.span,
            label(self.scope),
            tuple(self.flows),
            self.text.rate.span,
            self.text.member.span,
            tuple(clauses(self.text, self.scope)),
        )

    def _ancestors(self) -> Iterator[LevelInstance]:
        level = self.parent
        while level is not None:
            yield level
            level = level.parent

    def _reset(self) -> Clock:
        said = self.whole()
        if not said:
            return self.parent._reset() if self.parent is not None else default_reset(self.clock)
        return rate_of(said[-1][0].rate, said[-1][1])

    def whole(self) -> list[tuple[syntax.Reset, Site]]:
        """The clauses `reset every ..` of the whole level."""
        return [one for one in self.resets if one[0].memory is None]

    def alone(self, memory: MemoryInstance) -> list[tuple[syntax.Reset, Site]]:
        """The clauses `reset M every ..` that name a memory."""
        own = memory.text.name.text
        named = [(text, site) for text, site in self.resets if text.memory is not None]
        return [(text, site) for text, site in named if str(text.memory) == own]

    def restart(self, memory: MemoryInstance) -> Clock | None:
        """The clock at whose ticks a memory restarts apart from its level."""
        said = self.alone(memory)
        return rate_of(said[-1][0].rate, said[-1][1]) if said else None

    def _bptt(self) -> tuple[Bptt, ...]:
        if not self.bptts:
            return self.parent._bptt() if self.parent is not None else ()
        found = []
        for text, site in self.bptts:
            depth = (
                "full"
                if isinstance(text.depth, syntax.Full)
                else "none"
                if isinstance(text.depth, syntax.Cut)
                else clock_of(text.depth, site, words=("full", "none"))
            )
            found.append(
                Bptt(depth, self._viewer(text.viewer, site) if text.viewer else None, text.span)
            )
        for viewer in dict.fromkeys(clause.viewer for clause in found):
            self.once(
                "bptt",
                [clause for clause in found if clause.viewer == viewer],
                "one of the two, or `bptt .. by learner` for each learner",
            )
        return tuple(found)

    def _viewer(self, member: syntax.Member, site: Site) -> str:
        """A level in scope, or one of the main file."""
        for scope in (site.scope, self.elaborator.main):
            if scope is not None and scope.find(member.name.text) is not None:
                here = Site(scope, site.place)
                value: Value | None = here.value(member.name)
                if member.index is not None and isinstance(value, Family):
                    index = evaluate(member.index, site)
                    value = value.members.get(index.value) if isinstance(index, Num) else None
                if isinstance(value, LevelInstance):
                    return value.name
        self.elaborator.fail(
            "N101",
            f"there is no level `{member.name.text}` here",
            member.span,
            help="a level of this def, or one of the main file",
        )


def weights_in(
    said: syntax.Syntax, site: Site, seen: frozenset[Thunk[Value]] = frozenset()
) -> syntax.Weights | None:
    """The `weights` that a type or an expression stands for, by its words alone: `weights`,
    `like W`, `training.W`, and a name that is given one. `seen` are the values on the way.
    """
    match said:
        case syntax.Weights():
            return said
        case syntax.Like(name):
            return weights_in(name, site)
        case syntax.Name(text):
            found = site.scope.find(text)
            base = found[0].base if found else None
            if isinstance(base, MemoryInstance):
                return weights_in(base.text.type, base.site)
            if isinstance(base, Thunk) and base.expr and base.site and base not in seen:
                return weights_in(base.expr, base.site, seen | {base})
        case syntax.Field(syntax.Name(text), name):
            found = site.scope.find(text)
            level = found[0].base if found else None
            memory = level.memories.get(name.text) if isinstance(level, LevelInstance) else None
            return weights_in(memory.text.type, memory.site) if memory is not None else None
    return None


def attempt(thunk: Thunk[object]) -> None:
    try:
        thunk.force()
    except Poisoned:
        pass


def grad(call: syntax.Call, site: Site) -> Array:
    """`grad(P)`, the derivative of the objective last above; `grad(e, y)`, of one stream in
    another.
    """
    elaborator = site.elaborator
    if not 1 <= len(call.args) <= 2 or any(
        isinstance(arg, syntax.Named | syntax.Window) for arg in call.args
    ):
        elaborator.fail(
            "N107",
            "`grad` takes a memory, or two streams",
            call.span,
            help="`grad(M)` of the objective above, or `grad(e, y)` of two streams",
        )
    if len(call.args) == 2:
        e, y = (array(arg, site) for arg in call.args)
        if not e.is_scalar:
            elaborator.fail(
                "N204",
                f"`grad(e, y)` differentiates one number, this is {axes_text(e)}",
                call.args[0].span,
                help="`grad(sum(e), y)`",
            )
        return Array(elaborator.node("grad_stream", e.node, y.node, type=y.node.type), y.hidden)
    return of_objective(call, site)


def of_objective(call: syntax.Call, site: Site) -> Array:
    """`grad(P)`, with the streams that the level names as its context."""
    elaborator = site.elaborator
    value, level = evaluate(call.args[0], site), site.scope.level
    if (
        not isinstance(value, MemoryValue)
        or value.memory.level is not level
        or value.path
        or value.at == "after"
    ):
        elaborator.fail(
            "N515",
            "`grad(P)` takes a memory of the level it stands in, or `M@clock`",
            call.args[0].span,
            help="`grad(e, y)` is the derivative of a stream; `grad(M).W` is a part of a gradient",
        )
    objective = level.objective(site.place)
    if objective is None:
        elaborator.fail(
            "N501",
            "`grad` reads the objective last above it, and there is no `minimize` above",
            call.span,
            help="`minimize ..` above this line",
        )
    at = value.memory.read(value)
    context = level.context_nodes.force() if level.contexts else ()
    return Array(
        elaborator.node(
            "grad",
            objective.force().node,
            at.node,
            type=at.node.type,
            memory=value.memory.name,
            context=context,
        ),
        at.hidden,
    )


FUNCTIONS["grad"] = grad


@field.register(LevelInstance)
def member(value: LevelInstance, expr: syntax.Field, site: Site) -> MemoryValue:
    return value.member(expr.name, site)


def label(scope: Scope) -> str:
    """The def that a level stands in."""
    callers = scope.home().callers
    return callers[-1].name.text if callers else ""
