"""Step-clock levels -> Python: one function per distinct update, one per tick kind.

    update_i(M.., g.., tick.., planned) -> new values        the equations of one level and of the
                                                             optimizers it calls
    tick_k(S, G, V, N, D, planned)                            what happens at the end of a step of
                                                              tick kind k, in place: every level
                                                              that fires, at one instant; then
                                                              restarts, slow levels first; then
                                                              copies

S is what is kept (`state`: sizes of each tensor, None for a counter), G the gradients of the step,
V the sums and N the numbers of terms of the streams that levels hear, D fresh draws for the starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from nldsl.core.build import number
from nldsl.core.nodes import Node, Tree, Type, numel, walk
from nldsl.core.program import STATE, Level
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.step_clock import StepClock
from nldsl.schedule.ticks import Given
from nldsl.schedule.timetable import Kind
from nldsl.step.flat import FlatFn, shape_of, size, stored
from nldsl.step.layout import defined
from nldsl.step.listing import Draft, Known, Label, listing, shape_text
from nldsl.step.loading import loaded_name
from nldsl.step.loops import looped, turn_of
from nldsl.step.names import identifier, last
from nldsl.step.source import parts, prune
from nldsl.step.tape import Tape

Sizes = tuple[int, ...]


class Updates:
    """Emits the updates of a program."""

    def __init__(self, clock: StepClock) -> None:
        self.clock, self.ticks, self.program = clock, clock.ticks, clock.program
        self.texts: list[str] = []
        source = self.program.source
        self.known = Known(self.ticks.al.names, self.program.lines, source.name if source else "")
        self._functions: dict[str, str] = {}
        self.tapes = [
            Tape(self, adjoint, 1 + clock.ticks.roots.index(adjoint.viewer))
            for adjoint in clock.adjoints
        ]
        self.state = self._state()

    def _state(self) -> dict[str, Sizes | None]:
        program, out = self.program, {}
        for memory in program.memories.values():
            if not program.levels[memory.level].clock.inner:
                if program.levels[memory.level].reset.inner:
                    raise Unsupported(
                        "a level on the step clock that restarts with the sequences",
                        span=program.levels[memory.level].span,
                    )
                out[memory.name] = shape_of(memory.type)
        for name, equation in self.ticks.next.items():
            out.setdefault(name, shape_of(equation.type))
        for level in self.ticks.roots:
            out |= {f"{m.name}.tick": None for m in self.ticks.family(level)}
        for given in self.clock.given:
            if given.kind == "copy" or self.clock.keeps(given):
                sizes = None if given.kind == "terms" else shape_of(self.clock.type_of(given))
                out[given.name] = sizes
        for tape in self.tapes:
            out |= tape.state()
        return out

    # -- what the equations read

    def text(self, node: Node, kind: Kind, new: Callable[[str], str | None]) -> str | None:
        """Where a leaf of an equation is found in the tick of a kind; None for what is computed."""
        if node.op == "weight":
            memory, path = self.clock.owners[node["name"]]
            return self.part(memory.name, memory.type, path)
        if node.op == "tick":
            return f'S["{node["level"]}.tick"]' + (" + 1" if node["level"] in kind.fired else "")
        if node.op == "ticks":
            return f'planned["{node["level"]}"]'
        if node.op == "now":
            found = (
                new(node["memory"])
                if self.ticks.level_of(node["memory"]) in kind.fired
                else f'S["{node["memory"]}"]'
            )
            return found and stored(found, node.type)
        if node.op != "read":
            return None
        given, kept = self.ticks.given.get(node["memory"]), f'S["{node["memory"]}"]'
        if given is None or given.kind == "copy" or self.clock.keeps(given):
            return kept if given is not None and given.kind == "terms" else stored(kept, node.type)
        return self.fresh(given)

    @staticmethod
    def fresh(given: Given) -> str:
        """What one step gives."""
        return {
            "grad": f'G["{given.memory}|{given.stream}"]',
            "sum": f'V["{given.stream}"]',
            "terms": f'N["{given.stream}"]',
        }[given.kind]

    def part(self, name: str, type: Type, path: str) -> str:
        """One leaf of a kept tree."""
        if not isinstance(type, Tree):
            return stored(f'S["{name}"]', type)
        at = 0
        for other, shape in type.leaves:
            if other == path:
                sizes = ", ".join(str(a.size) for a in shape)
                return f'S["{name}"][{at}:{at + numel(shape)}].view({sizes or "()"})'
            at += numel(shape)
        raise KeyError(path)

    def define(self, stem: str, draft: Draft) -> str:
        """The name of a function, which is written once: by the first that computes the same."""
        key = "\n".join([", ".join(draft.parameters), *draft.lines, draft.results])
        if key not in self._functions:
            count = 1 + sum(n.startswith(stem + "_") for n in self._functions.values())
            name = self._functions[key] = f"{stem}_{count}"
            self.texts.append(listing(name, draft, self.known))
        return self._functions[key]

    def function(
        self,
        stem: str,
        roots: dict[str, Node],
        text: Callable[[Node], str | None],
        results: Callable[[FlatFn, list[str]], list[str]],
        like: str = "",
    ) -> str:
        """A call of the function whose arguments are the leaves of the roots; `results` writes its
        body.
        """
        fn, values, nodes = FlatFn(), [], {}
        for node in walk(*roots.values()):
            value = text(node)
            if value is not None:
                nodes.setdefault(value, node)
                if value not in values:
                    values.append(value)
                fn.bind(node, f"a{values.index(value) + 1}")
        arguments = [f"a{i + 1}" for i in range(len(values))]
        fn.like = next(
            (
                a
                for a, v in zip(arguments, values)
                if v == like
                or v.startswith(("S", "G", "D"))
                and ".tick" not in v
                and '"terms ' not in v
            ),
            "like",
        )
        if fn.like == "like":
            arguments, values = [*arguments, "like"], [*values, like or "next(iter(S.values()))"]
        written = results(fn, list(roots))
        kept = {value: a for a, value in zip(arguments, values)}
        for root, text in zip(roots, written):
            if text in fn.made and (given := kept.get(stored(f'S["{root}"]', roots[root].type))):
                fn.made[text] = replace(fn.made[text], after=given)
        draft = Draft(
            arguments,
            prune(fn.lines, written),
            parts(written),
            {a: given_label(value, nodes.get(value)) for a, value in zip(arguments, values)},
            fn.made,
        )
        return f"{self.define(stem, draft)}({', '.join(values)})"

    # -- ticks

    def update(self, root: Level, kind: Kind) -> list[str]:
        """Lines of the tick of one level and of the optimizers that it calls."""
        firing = [n for n in self.ticks.memories(root.name) if self.ticks.level_of(n) in kind.fired]
        roots = {n: self.ticks.next[n] for n in self.clock.ordered(firing)}

        def new(name: str) -> str | None:
            return None if name in roots else f'new["{name}"]'

        def write(fn: FlatFn, names: list[str]) -> list[str]:
            out = []
            for name in names:
                out.append(fn.vector(fn.value(roots[name]), roots[name].type))
                for node in walk(*roots.values()):
                    if node.op == "now" and node["memory"] == name:
                        fn.bind(node, out[-1])
            return out

        call = self.function("update", roots, lambda node: self.text(node, kind, new), write)
        return [
            f"# {root.name} every {root.clock.period} step",
            parts([f'new["{n}"]' for n in roots]) + f" = {call}",
        ]

    def tick(self, kind: Kind) -> list[str]:
        heard = [g for g in self.clock.given if g.kind in ("grad", "sum") and self.clock.keeps(g)]
        lines = [f'S["{g.name}"].add_({self.fresh(g)})' for g in heard]
        fired = [level for level in self.ticks.roots if level.name in kind.fired]
        lines += ["new = {}"] if fired else []
        for level in self.clock.order(fired):
            lines += self.update(level, kind)
        lines += [line for tape in self.tapes for line in tape.record(kind)]
        lines += [
            f'S["{n}"].copy_(new["{n}"])'
            for level in fired
            for n in self.ticks.memories(level.name)
            if self.ticks.level_of(n) in kind.fired
        ]
        lines += [f'S["{g.name}"].zero_()' for g in heard if kind.at(g.since)]
        lines += [
            f'S["{name}"].zero_()' for name, fold in self.ticks.folds.items() if kind.at(fold.since)
        ]
        return lines + self.starts(kind.restarted) + self.copies(kind)

    # -- starts

    def starts(self, levels: tuple[str, ...]) -> list[str]:
        return [line for name in self.clock.begun(levels) for line in self.start(name)]

    def start(self, name: str) -> list[str]:
        memory = self.program.memories[name]
        if memory.start is None:
            return [f'S["{name}"].copy_(D["{name}"])']
        value = number(memory.start)
        if value is not None:
            return [f'S["{name}"].fill_({value!r})']

        def text(node: Node) -> str | None:
            if node.op in STATE:
                return stored(f'S["{node["memory"]}"]', node.type)
            if node.op in ("random", "load"):
                return f'D["{drawn(node)}"]'
            return self.text(node, Kind(()), lambda _: None)

        call = self.function(
            "start",
            {name: memory.start},
            text,
            lambda fn, _: [fn.vector(fn.value(memory.start), memory.type)],
        )
        return [f'S["{name}"].copy_({call}[0])']

    def copies(self, kind: Kind, birth: bool = False) -> list[str]:
        return [
            f'S["{g.name}"].copy_(S["{g.memory}"])'
            for g in self.clock.given
            if g.kind == "copy"
            and (
                birth
                or g.since in kind.clocks
                or self.program.memories[g.memory].level in kind.restarted
            )
        ]

    # -- source

    def counts(self, kind: Kind) -> tuple[list[str], list[str]]:
        """Lines that keep the counters: before the updates of a tick kind and after. They stay
        outside the graphs: a compiled CPU graph loses in-place writes to scalars.
        """
        terms = [g for g in self.clock.given if g.kind == "terms" and self.clock.keeps(g)]
        members = [m.name for level in self.ticks.roots for m in self.ticks.family(level)]
        after = [line for tape in self.tapes for line in tape.after(kind)]
        after += [f'S["{m}.tick"].add_(1)' for m in members if m in kind.fired] + [
            f'S["{m}.tick"].zero_()' for m in members if m in kind.restarted
        ]
        return [f'S["{g.name}"].add_(N["{g.stream}"])' for g in terms], after + [
            f'S["{g.name}"].zero_()' for g in terms if kind.at(g.since)
        ]

    def kind(self, name: str | int, kind: Kind) -> str:
        """Source of the functions of one tick kind."""
        before, after = self.counts(kind)
        hear = [line for tape in self.tapes for line in tape.hear(kind)]
        return "\n\n".join(
            [
                *([block(f"hear_{name}(S, G, mode)", hear)] if hear else []),
                block(f"tick_{name}(S, G, V, N, D, planned)", self.tick(kind)),
                block(f"before_{name}(S, N)", before),
                block(f"after_{name}(S, N)", after),
            ]
        )

    def emit(self) -> str:
        for tape in self.tapes:
            tape.write()
        kinds = [self.kind(i + 1, kind) for i, kind in enumerate(self.clock.table.events)]
        everything = tuple(
            level.name for level in self.program.levels.values() if not level.clock.inner
        )
        begun = [
            f'S["{r.name}|event"][0] = {float(r.adjoint.birth)}'
            for r in self.tapes
            if r.adjoint.birth
        ]
        birth = block("birth(S, D)", self.starts(everything) + self.copies(Kind(()), True) + begun)
        return "\n\n".join([*self.texts, *kinds, birth])


def block(head: str, lines: list[str]) -> str:
    """A function of these statements, with a loop for equal layers."""
    return defined(head, looped([(turn_of(line), line) for line in lines]) or ["pass"])


def given_label(text: str, node: Node | None) -> Label:
    """What an update calls what it is given, and what that holds."""
    if node is None:
        return Label("like")
    return Label(called(text) or identifier(node_name(node)), holds(node.type))


def node_name(node: Node) -> str:
    """`bar_W` for the cotangent of W."""
    name = dict(node.attrs).get("memory") or dict(node.attrs).get("name") or node.op
    kind, _, of = str(name).rpartition(" ")
    return f"{kind}_{last(of)}"


def called(text: str) -> str:
    """The name of a kept tensor: `S["training.W"]` is W, `G["training.W|loss"]` grad_W."""
    found = re.match(r'(\w+)\["([^"]*)"\]', text)
    if found is None:
        return ""
    kind, name = found.groups()
    names = [last(part) for part in re.sub(r"^(grad|sum|terms) ", "", name).split("|")]
    if kind == "S" and re.match(r"(grad|sum|terms) ", name):
        kind = {"grad": "G", "sum": "V", "terms": "N"}[name.split(" ")[0]]
    return {
        "G": f"grad_{names[0]}",
        "V": f"sum_{names[0]}",
        "N": f"terms_{names[0]}",
        "D": f"drawn_{names[0]}",
        "planned": "ticks",
    }.get(kind, names[0])


def holds(type: Type | None) -> str:
    """What a tensor of the step clock holds."""
    if type is None:
        return ""
    return f"[{size(type)}] all its arrays" if isinstance(type, Tree) else shape_text("", type)


def drawn(node: Node) -> str:
    """The name of a start that is made outside the step: a draw, or what a file holds."""
    return node["name"] if node.op == "random" else loaded_name(node)
