"""Step-clock levels -> Python: one function per distinct update, one per tick kind.

    update_i(M.., g.., tick.., planned) -> new values        the equations of one level and of the
                                                             optimizers it calls
    tick_k(S, G, V, N, D, planned)                            what happens at the end of a step of
                                                              tick kind k, in place: totals, then
                                                              every level that fires, at one
                                                              instant; then what each state keeps

On ranks, each of which holds some of the lanes, G, V and what S sums up of them are those of its
own lanes. R holds the sums over all lanes of what a tick takes, and of nothing else: what a period
adds up is sent when it ends. What every tick takes is sent before (sending.py), and G has the sums.
What is of one worker stays on its rank; what a tick makes of all of them is in R too.

Where ranks hold a part of the state each (`shards`), S, G and D hold the parts of one of them, and
G is of all lanes. What an equation reads of a single array is gathered; see flat.py for trees.

S is what is kept (`state`: sizes of each tensor, None for a counter), G the gradients of the step,
V the sums and N the numbers of terms of the streams that levels hear, D fresh draws for the starts.
What a step leaves of each state is said in schedule/step_states.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from nldsl.core.build import number
from nldsl.core.nodes import Axis, Node, Tree, Type, has, walk
from nldsl.schedule.instant import behind, substituted, together
from nldsl.schedule.named import (
    Bar,
    Copy,
    Counter,
    Draw,
    Heard,
    Input,
    Memory,
    Met,
    Name,
    Total,
    input_of,
    name_of,
)
from nldsl.schedule.step_clock import StepClock
from nldsl.schedule.step_states import At
from nldsl.schedule.timetable import Kind
from nldsl.step.flat import Flat, leaf_texts, shape_of, size, sizes_of, stored
from nldsl.step.layout import defined
from nldsl.step.listing import Draft, Known, Label, listing, shape_text
from nldsl.step.loading import loaded_name
from nldsl.step.loops import iteration_of, looped
from nldsl.step.names import identifier, last
from nldsl.step.shards import RANK, Shards, require_divisible
from nldsl.step.source import parts, prune
from nldsl.step.tape import Tape

Sizes = tuple[int, ...]
Root = Name | Bar | Met  # what a function computes
Text = Callable[[Node], str | None]
# where a step finds what it gives
GIVEN = {"grad": "G", "sum": "V", "terms": "N"}
KEPT = ("read", "now", "weight")
SUMS = ("sum", "mean", "einsum", "total")  # of parts of an axis, that of their sums
VIEWS = ("spread", "permute", "reshape", "select", "leaf", "stop")


class Updates:
    """Emits the updates of a program."""

    def __init__(self, clock: StepClock, ranks: int = 1, shard: bool = False) -> None:
        """`shard`: does each rank hold a part of the state? Raises N725 if that cannot be."""
        self.clock, self.ticks, self.program = clock, clock.ticks, clock.program
        self.ranks, self.shards = ranks, Shards(ranks if shard else 1)
        self.taken: dict[Heard, str] = {}  # by the tick that is written: where a rank has its own
        self.meets: list[Met] = []  # of that tick
        self.sent: dict[str | int, tuple[Heard | Met, ...]] = {}  # by the tick of each kind
        # calls of functions, each with the first state that it makes, by the tick of each kind
        self.calls: dict[str | int, list[tuple[Root, str]]] = {}
        self._calls: list[tuple[Root, str]] = []  # of the tick that is written
        self.states = clock.states.states
        self.texts: list[str] = []
        source = self.program.source
        self.known = Known(self.ticks.al.names, self.program.lines, source.name if source else "")
        self._functions: dict[str, str] = {}
        self.tapes = [
            Tape(self, adjoint, 1 + clock.ticks.roots.index(adjoint.viewer))
            for adjoint in clock.adjoints
        ]
        self.whole_state: dict[str, Sizes | None] = {
            str(s.name): None if counts(s.name) else shape_of(s.type) for s in self.states.values()
        }
        self.divided = {str(s.name): s.type for s in self.states.values() if self.parted(s.name)}
        self.state = self.whole_state | {
            name: (self.shards.size(type),) for name, type in self.divided.items()
        }
        self.types = {str(s.name): s.type for s in self.states.values() if not counts(s.name)}
        if self.shards.are:
            require_divisible(self.program, [tape.adjoint.viewer for tape in self.tapes])
        for tape in self.tapes:
            self.state |= tape.state()
            self.whole_state |= tape.state()

    # -- what the equations read

    def text(self, node: Node, own: Collection[Memory] = ()) -> str | None:
        """Where a leaf of an equation is found in a tick; None for what is computed, and for new
        values that the function makes itself.
        """
        if node.op == "weight":
            memory, path = self.clock.owners[node["name"]]
            return self.part(memory.name, memory.type, path)
        if node.op == "ticks":
            return f'planned["{node["level"]}"]'
        if node.op == "input":
            name = name_of(node)
            if isinstance(name, Met):
                return f'R["{name}"]'
            assert isinstance(name, Input | Draw)
            text = self.whole(name, given(name)) if isinstance(name, Input) else given(name)
            return self.stored(name, text, node.type)
        if node.op in ("random", "load"):
            return f'D["{drawn(node)}"]'
        if node.op not in ("read", "now"):
            return None
        name, kept = node["memory"], f'S["{node["memory"]}"]'
        if node.op == "read" or isinstance(name, Total):
            kept = self.whole(name, kept) if isinstance(name, Total) else kept
            return kept if counts(name) else self.stored(name, kept, node.type)
        if isinstance(name, Counter):
            return f"{kept} + 1"
        return None if name in own else self.stored(name, f'new["{name}"]', node.type)

    def stored(self, name: Name | Input | Draw, text: str, type: Type) -> str:
        """What is kept or given as the equations see it."""
        if self.parted(name) and not isinstance(type, Tree):
            return f"from_ranks({text}, {sizes_of(type)}, {self.shards.count})"
        return text if isinstance(name, Input | Draw) else stored(text, type)

    def parted(self, name: Name | Input | Draw) -> bool:
        """Does a rank hold, or is it given, a part? Sums of a stream are small: each rank has its
        own until it is sent.
        """
        if not self.shards.are or counts(name):
            return False
        return not isinstance(name, Input | Total) or input_of(name).what == "grad"

    def whole(self, heard: Heard, own: str) -> str:
        """Where a tick finds what it takes of the steps: on ranks, the sum over all. Each of them
        counts the terms of all.
        """
        if self.ranks == 1 or counts(heard) or self.own(heard):
            return own
        self.taken[heard] = own
        return own if heard in self.early else f'R["{heard}"]'

    @cached_property
    def early(self) -> frozenset[Input]:
        """Gradients of which every tick takes the sum over all ranks, and nobody the own part: they
        are sent as they come, and G holds the sums.
        """
        if self.ranks == 1:
            return frozenset()
        taped = {Input("grad", stream, str(name)) for name, stream in self.clock.taped}
        found = (h for h in self.clock.heard if isinstance(h, Input) and h.what == "grad")
        return frozenset(heard for heard in found if not self.own(heard)) - taped

    def own(self, heard: Heard) -> bool:
        """Is it one rank's, and sent to no other?"""
        return self.apart(heard) or self.parted(heard)

    def apart(self, heard: Heard) -> bool:
        """Is it of each worker, who is one rank's?"""
        given, workers = input_of(heard), self.program.workers
        if workers is None or given.what != "grad":
            return given.lanes == "each"
        return has(self.program.memories[given.memory].type, workers)

    def texts_of(self, own: Collection[Memory]) -> Text:
        return lambda node: self.text(node, own)

    def part(self, name: str, type: Type, path: str) -> str:
        """One leaf of a kept tree."""
        if not isinstance(type, Tree):
            return self.stored(name, f'S["{name}"]', type)
        return leaf_texts(f'S["{name}"]', type, self.shards)[type.paths().index(path)]

    def source(self, node: Node) -> Name | None:
        """The state that a leaf is a value of."""
        if node.op == "weight":
            return self.clock.owners[node["name"]][0].name
        name: Name | None = node["memory"] if node.op in KEPT else None
        return name

    # -- functions

    def define(self, stem: str, draft: Draft) -> str:
        """The name of a function, which is written once: by the first that computes the same."""
        key = "\n".join([", ".join(draft.parameters), *draft.lines, draft.results])
        if key not in self._functions:
            count = 1 + sum(n.startswith(stem + "_") for n in self._functions.values())
            name = self._functions[key] = f"{stem}_{count}"
            self.texts.append(listing(name, draft, self.known))
        return self._functions[key]

    def function(self, stem: str, roots: Mapping[Root, Node], text: Text, like: str = "") -> str:
        """A call of the function that computes the roots, each behind those whose new values it
        takes; its arguments are their leaves.
        """
        flat = Flat(self.program.workers is not None, self.shards)
        fn = flat.fn
        leaves = {node: value for node in walk(*roots.values()) if (value := text(node))}
        labels: dict[str, Label] = {}  # by value
        for node, value in leaves.items():
            labels.setdefault(value, self.label(node))
        arguments = {value: f"a{i + 1}" for i, value in enumerate(labels)}
        for node, value in leaves.items():
            fn.bind(node, arguments[value])
        real = (v for n, v in leaves.items() if v == like or real_tensor(n))
        fn.like = arguments.get(next(real, ""), "like")
        if fn.like == "like":
            value = like or "next(iter(S.values()))"
            labels[value], arguments[value] = Label("like"), "like"
        results = [self.result(flat, name, root) for name, root in roots.items()]
        if flat.rank:
            value = f'planned["{RANK}"]'
            labels[value], arguments[value] = Label("rank", "[1] of which the parts are"), "rank"
        for (name, root), result in zip(roots.items(), results):
            before = arguments.get(stored(f'S["{name}"]', root.type))
            if before and result in fn.made:
                fn.made[result] = replace(fn.made[result], after=before)
        draft = Draft(
            list(arguments.values()),
            prune(fn.lines, results),
            parts(results),
            {arguments[value]: label for value, label in labels.items()},
            fn.made,
        )
        call = f"{self.define(stem, draft)}({', '.join(arguments)})"
        self._calls.append((next(iter(roots)), call))
        return call

    def label(self, node: Node) -> Label:
        """What an update calls what it is given, and what that holds."""
        return Label(identifier(called(node)), holds(node.type, self.shards))

    def result(self, flat: Flat, name: Root, root: Node) -> str:
        """Computes the new value of a state; what is kept elsewhere, and may be written before it,
        is copied. Those that take it take an array whole.
        """
        fn = flat.fn
        ref = fn.value(root)
        text = flat.vector(ref, root.type)
        if is_kept(root):
            text = fn.let(f"{text}.clone()", "", ()).text
        taken = text if isinstance(root.type, Tree) else flat.whole(ref, root.type).text
        fn.bind(self.ticks.al.make("now", type=root.type, memory=name), taken)
        return text

    # -- ticks

    def tick(self, kind: Kind, at: At) -> list[str]:
        """Totals first, in place, so that S holds their new values; then new values from old ones;
        then what the step leaves.
        """
        self.taken, self.meets, self._calls = {}, [], []
        lines = [
            f'S["{name}"].add_({given(name.input)})'
            for name in at.moved
            if isinstance(name, Total) and not counts(name)
        ]
        updates = self.updates(at)
        after = ["new = {}", *updates] if updates else []
        after += [line for tape in self.tapes for line in tape.record(kind, at)]
        after += self.left(at)
        return [*lines, *self.together({}), *after]

    def together(self, later: Mapping[Total, str]) -> list[str]:
        """Sums over all ranks of what the tick takes, in one message; `later`: what totals have not
        taken yet.
        """
        own = {heard: own for heard, own in self.taken.items() if heard not in self.early}
        if not own:
            return ["R = {}"] if self.meets else []
        rows = [
            f'own["{heard}"] = {text}'
            + (f" + {later[heard]}" if isinstance(heard, Total) and heard in later else "")
            for heard, text in own.items()
        ]
        return ["own = {}", *rows, f"R = sums_over_ranks(own, {self.ranks})"]

    def updates(self, at: At) -> list[str]:
        """New values: a call for each level that ticks, with the optimizers that it calls."""
        after = {n: at.moved[n].after for n in at.needed() if isinstance(n, Memory)}
        needs = {
            name: {n["memory"] for n in walk(x) if n.op == "now" and n["memory"] in after}
            for name, x in after.items()
        }
        lines = []
        for names in together(after, needs, self.root_of):
            level = self.root_of(names[0])
            roots, meetings = self.met(level, {n: after[n] for n in names}, self.texts_of(names))
            call = self.function("update", roots, self.texts_of(names))
            lines += [
                *meetings,
                f"# {level} every {self.program.levels[level].clock.period} step",
                parts([f'new["{n}"]' for n in names]) + f" = {call}",
            ]
        return lines

    def met(
        self, level: str, roots: Mapping[Root, Node], text: Text
    ) -> tuple[Mapping[Root, Node], list[str]]:
        """On ranks, sums and means over all workers, those of this rank first: equations that are
        given them, and the lines that send them, a message for all that do not need each other.
        """
        lines: list[str] = []
        al, workers = self.ticks.al, self.program.workers
        if self.ranks == 1 or workers is None:
            return roots, lines
        while found := over_workers(roots.values(), workers):
            tree = Tree(tuple((f"x{i}", node.shape) for i, node in enumerate(found)))
            met = Met(level, len(self.meets) + 1, size(tree))
            own = [al.div(n, al.const(self.ranks, n.type)) if n.op == "mean" else n for n in found]
            share = self.function("share", {met: al.make("tree", *own, type=tree)}, text)
            self.meets.append(met)
            lines.append(f'R["{met}"] = over_ranks({share}[0], {self.ranks})')
            whole = al.make("input", type=tree, name=met)
            parts = [
                al.make("leaf", whole, type=n.type, path=p) for p, n in zip(tree.paths(), found)
            ]
            bind = dict(zip(found, parts))
            roots = {name: substituted(al, root, bind) for name, root in roots.items()}
        return roots, lines

    def root_of(self, name: Memory) -> str:
        return self.ticks.root_of(self.ticks.level_of(name))

    def left(self, at: At) -> list[str]:
        """What each state keeps. A value is worked out before anything is written."""
        before, lines = [], []
        kept: dict[Node, Name] = {}  # a value -> the state that holds it
        for state in self.states.values():
            name, moved = state.name, at.moved.get(state.name)
            value = at.before(state) if moved is None else moved.next
            own = name if number(value) is not None else kept.setdefault(value, name)
            if moved is None or value is at.before(state) or counts(name):
                continue
            if own != name:
                lines.append(f'S["{name}"].copy_(S["{own}"])')
            elif value.op == "now" and isinstance(name, Total):
                continue
            elif value.op == "now" and value["memory"] == name:
                lines.append(f'S["{name}"].copy_(new["{name}"])')
            elif number(value) is None and any(n.op in KEPT for n in walk(value)):
                before.append(f'begun["{name}"] = {self.start(name, value)}')
                lines.append(f'S["{name}"].copy_(begun["{name}"])')
            else:
                lines.append(self.begin(name, value))
        return [*(["begun = {}"] if before else []), *before, *lines]

    def begin(self, name: Name, value: Node) -> str:
        """A state that takes a number, a draw, or what is made of them."""
        same = number(value)
        if same is not None:
            return f'S["{name}"].zero_()' if same == 0 else f'S["{name}"].fill_({same!r})'
        given = value.op == "input" or value.op in ("random", "load") and not self.shards.are
        found = self.given(value) if given else self.start(name, value)
        return f'S["{name}"].copy_({found})'

    def given(self, value: Node) -> str | None:
        """Where what a state takes is found, as it is kept."""
        name = name_of(value)
        if isinstance(name, Input | Draw) and self.parted(name):
            return given(name)
        return self.text(value)

    def start(self, name: Name, value: Node) -> str:
        return self.function("start", {name: value}, self.text) + "[0]"

    # -- source

    def counts(self, kind: Kind, at: At) -> tuple[list[str], list[str]]:
        """Lines that keep the counters: before the updates of a tick kind and after. They stay
        outside the graphs: a compiled CPU graph loses in-place writes to scalars.
        """
        before, after = [], [line for tape in self.tapes for line in tape.after(kind)]
        for name, moved in at.moved.items():
            if isinstance(name, Total) and counts(name):
                before.append(f'S["{name}"].add_({given(name.input)})')
            if counts(name) and number(moved.next) is not None:
                after.append(f'S["{name}"].zero_()')
            elif isinstance(name, Counter):
                after.append(f'S["{name}"].add_(1)')
        return before, after

    def kind(self, name: str | int, kind: Kind) -> str:
        """Source of the functions of one tick kind."""
        at = At(self.clock.states, kind)
        before, after = self.counts(kind, at)
        hear = [line for tape in self.tapes for line in tape.hear(kind)]
        tick = self.tick(kind, at)
        self.sent[name] = (*self.taken, *self.meets)
        self.calls[name] = self._calls
        return "\n\n".join(
            [
                *([block(f"hear_{name}(S, G, mode)", hear)] if hear else []),
                block(f"tick_{name}(S, G, V, N, D, planned)", tick),
                block(f"before_{name}(S, N)", before),
                block(f"after_{name}(S, N)", after),
            ]
        )

    def births(self) -> list[tuple[str, str]]:
        """What is kept and the line that gives it its first value: each memory, behind those that
        it starts from; then copies. They are of a state that is whole.
        """
        held, self.shards = self.shards, Shards()
        try:
            return self._births()
        finally:
            self.shards = held

    def _births(self) -> list[tuple[str, str]]:
        names = [n for n in self.states if isinstance(n, str | Copy)]

        def needs(name: str | Copy) -> list[str | Copy]:
            found = map(self.source, walk(self.states[name].start))
            return [x for x in found if isinstance(x, str | Copy)]

        lines = []
        for name in behind(names, needs):
            start = self.states[name].start
            line = (
                f'S["{name}"].copy_(S["{start["memory"]}"])'
                if start.op == "read"
                else self.begin(name, start)
            )
            lines.append((str(name), line))
        return lines + [(tape.name, line) for tape in self.tapes for line in tape.birth()]

    def emit(self) -> str:
        for tape in self.tapes:
            tape.write()
        kinds = [self.kind(i + 1, kind) for i, kind in enumerate(self.clock.table.events)]
        birth = [line for _, line in self.births()]
        return "\n\n".join([*self.texts, *kinds, block("birth(S, D)", birth)])


def block(head: str, lines: list[str]) -> str:
    """A function of these statements, with a loop for equal layers."""
    return defined(head, looped([(iteration_of(line), line) for line in lines]) or ["pass"])


def over_workers(roots: Iterable[Node], workers: Axis) -> list[Node]:
    """Sums over the workers, and means, that need no other of them."""
    behind: dict[Node, None] = {}  # what they are needed for
    found: dict[Node, None] = {}
    for node in walk(*roots):
        if any(arg in behind or arg in found for arg in node.args):
            behind[node] = None
        elif not has(node.type, workers) and any(has(arg.type, workers) for arg in node.args):
            assert node.op in SUMS, f"{node!r} crosses workers"
            found[node] = None
    return list(found)


def is_kept(root: Node) -> bool:
    """Is the value, as it is or seen otherwise, one that a state holds?"""
    while root.op in VIEWS:
        root = root.args[0]
    if root.op == "read":
        return not isinstance(root["memory"], Bar)
    return root.op == "weight" or root.op == "now" and isinstance(root["memory"], Total)


def counts(name: Name | Input | Draw) -> bool:
    """Is it a number that is counted, of ticks or terms?"""
    given = name.input if isinstance(name, Total) else name
    return isinstance(given, Counter) or isinstance(given, Input) and given.what == "terms"


def given(name: Input | Draw) -> str:
    """Where what a step gives is found; a sum is one of each worker, where there are any."""
    if isinstance(name, Draw):
        return f'D["{name.memory}"]'
    return f'{GIVEN[name.what]}["{name.key}"]' + (".sum(0)" if name.lanes == "all" else "")


def real_tensor(node: Node) -> bool:
    """Has a leaf of an equation the precision and device of the run?"""
    name = name_of(node)
    return node.op != "ticks" and (isinstance(name, Bar | Met) or not counts(name or ""))


def called(node: Node) -> str:
    """`W` for the memory training.W, `grad_W` for its gradient, `bar_W` for its cotangent."""
    name = name_of(node)
    if isinstance(name, Total):
        name = name.input
    if isinstance(name, Input):
        return f"{name.what}_{last(name.memory or name.stream)}"
    if isinstance(name, Bar):
        return f"bar_{last(str(name.of))}"
    if isinstance(name, Draw):
        return f"drawn_{last(name.memory)}"
    if node.op in ("random", "load"):
        return f"drawn_{last(drawn(node))}"
    return node.op if name is None else last(str(name))


def holds(type: Type, shards: Shards) -> str:
    """What a tensor of the step clock holds."""
    if not isinstance(type, Tree):
        return shape_text("", type)
    part = "a part of all its arrays" if shards.are else "all its arrays"
    return f"[{shards.size(type)}] {part}"


def drawn(node: Node) -> str:
    """The name of a start that is made outside the step: a draw, or what a file holds."""
    name: str = node["name"] if node.op == "random" else loaded_name(node)
    return name
