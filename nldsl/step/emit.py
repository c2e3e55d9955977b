"""SCHEDULE -> PYTHON: readable source of one training step, one function per distinct block.

forward(W, inputs, carry, position, mode)   all blocks in order; returns the wanted streams and the
                                            new carry
start(W, batch, like, lanes)                the carry before the first token of a sequence; lanes:
                                            what outlived the one before
block_i(..)                                 a run of streams and regions (a layer); equal layers
                                            share one function
region_i(state, streams, statics, ends, left)  one piece of tokens of memories that learn while
                                            they read, as two functions where it makes anything of
                                            its streams alone:
still_i(streams, statics)                   what needs no memory
moving_i(.., made)                          the rest, which is given that
online(W, given, carry, position, mode)     the part that is run between ticks of memories that
                                            learn from its loss, see `online.py`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nldsl.core.nodes import Node, Shape, walk
from nldsl.core.program import ENDS, NEVER, STATE, Clock
from nldsl.core.timing import LOOKS_BACK, lookahead
from nldsl.schedule.documents import flag
from nldsl.schedule.plan import Block, Forward, Region, moving
from nldsl.schedule.token_states import State
from nldsl.step.kernels.statements import Recurrent
from nldsl.step.layout import defined, fold
from nldsl.step.listing import Draft, Known, Label, listing, shape_text, written
from nldsl.step.loading import loaded_name
from nldsl.step.loops import iteration_of, looped
from nldsl.step.lowerings.body import stream_name
from nldsl.step.lowerings.temporal import TEMPORAL, stream
from nldsl.step.lowerings.vocabulary import heads, lowered
from nldsl.step.names import Names, short
from nldsl.step.online import SINCE, Part
from nldsl.step.regions import call_region
from nldsl.step.source import Fn, parts, prune


@dataclass
class Emitted:
    """The forward part of a step.

    `lowering` says for each region how its update is computed, `chunk` how many tokens at a time;
    `functions` are what is compiled.
    """

    text: str
    functions: list[str]
    block_of: list[str]  # function of each block, in order
    carries: dict[
        str, tuple[Shape, str]
    ]  # carried tensors: shape without batch, kind ("state", "tail", "before")
    lowering: dict[str, str]
    chunk: dict[str, int]
    lasting: dict[
        str, tuple[str, Clock, Clock]
    ]  # carried tensors that outlive a sequence: the memory, what ends it, what it is copied at
    randoms: dict[str, tuple[Shape, float]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)  # starts from files, by `loaded_name`
    heads: list[Node] = field(default_factory=list)  # cross entropies without their logits
    rolled: list[int] = field(default_factory=list)  # tokens of a piece of each recurrence
    # of a piece, the function of what needs no memory and that of the rest
    apart: dict[str, tuple[str, str]] = field(default_factory=dict)
    # of the regions whose pieces are of many tokens
    recurrences: dict[str, Recurrent] = field(default_factory=dict)
    room: dict[str, int] = field(default_factory=dict)  # of rows that are carried, how many at most
    # of each array that is kept between steps, the number of the block that reads it first
    reads: dict[str, int] = field(default_factory=dict)
    # those that other blocks read too; where a part is run for each window, all
    often: set[str] = field(default_factory=set)

    @property
    def pieces(self) -> set[str]:
        """Functions that are run for one piece of tokens after the other."""
        whole = {*self.functions} - {*self.block_of}
        return whole.union(*(self.apart.get(name, ()) for name in whole))

    def worth(self, at_once: bool) -> list[str]:
        """What is worth compiling, where what needs no memory is made for all pieces at once, or
        with each, but for few matrices.
        """
        parts = {name: self.apart.get(name, ()) for name in self.functions}
        return [
            x for name, two in parts.items() for x in ((*two,) if at_once and two else (name, *two))
        ]


class Carry:
    """What one function takes from the previous call and gives to the next."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.names: list[str] = []  # of the results
        self.results: list[str] = []

    def take(self, name: str) -> str:
        self.names.append(name)
        self.taken.append(name)
        return f"c{len(self.taken)}"

    def leave(self, name: str) -> None:
        """It is given and not taken."""
        self.names.append(name)


class Emitter:
    def __init__(self, schedule: Forward) -> None:
        self.schedule = schedule
        self.functions: dict[str, str] = {}  # body -> name
        self.texts: list[str] = []
        self.carries: dict[str, tuple[Shape, str]] = {}
        self.kept: dict[str, State] = {}  # by name, the states that are carried
        self.lowering: dict[str, str] = {}
        self.chunk: dict[str, int] = {}
        self.rolled: list[int] = []
        self.lasting: dict[str, tuple[str, Clock, Clock]] = {}
        self.randoms: dict[str, tuple[Shape, float]] = {}
        self.loads: list[str] = []
        self.bodies: list[
            str
        ] = []  # functions worth compiling: streams of a block, one piece of a region
        self.apart: dict[str, tuple[str, str]] = {}  # of a piece, its two functions
        self.recurrences: dict[str, Recurrent] = {}
        self.room: dict[str, int] = {}
        self.reads: dict[str, int] = {}
        self.often: set[str] = set()
        self.at = 0  # number of the block that is written
        rows = list(schedule.online.rows.values()) if schedule.online else []
        equations = (x for s in schedule.states.values() for x in s.equations)
        order = list(walk(*schedule.outputs.values(), *rows, *equations))
        self.token = moving(order)
        self.known = Known(
            schedule.names,
            schedule.program.lines,
            schedule.program.source.name if schedule.program.source else "",
        )
        self.valid_from = schedule.valid_from
        self.part = Part(schedule.online) if schedule.online else None
        if self.part:
            self.part.take(order)
        self.heads = heads(schedule, order, self.token)
        self.lag = (
            lookahead(*order) if self.part is None else {}
        )  # known so many tokens late; between ticks what comes next is given

    # -- functions

    def define(self, stem: str, arguments: str, body: list[str]) -> str:
        """The name of a function with these lines, which is written once."""
        key = f"{arguments}\n" + "\n".join(body)
        return self.once(stem, key, lambda name: defined(f"{name}({arguments})", body))

    def written(self, stem: str, draft: Draft) -> str:
        """The name of a function, which is written once: by the first that computes the same."""
        key = "\n".join([", ".join(draft.parameters), *draft.lines, draft.results])
        return self.once(stem, key, lambda name: listing(name, draft, self.known))

    def once(self, stem: str, key: str, write: Callable[[str], str]) -> str:
        if key not in self.functions:
            name = f"{stem}_{1 + sum(n.startswith(stem + '_') for n in self.functions.values())}"
            self.functions[key] = name
            self.texts.append(write(name))
        return self.functions[key]

    def leaves(self, roots: Sequence[Node], stop: set[Node]) -> list[Node]:
        """What the roots reach without crossing `stop`: weights (and held step-clock memories),
        inputs and values held between ticks, in order of use.
        """
        seen, out, stack = set(), [], list(reversed(roots))
        while stack:
            node = stack.pop()
            if node in seen or node in stop:
                continue
            seen.add(node)
            if (
                node.op in ("weight", "random", "load", "input")
                or self.part
                and node in self.part.known
                or (node.op == "read" and node["memory"] not in self.schedule.states)
            ):
                out.append(node)
            else:
                stack.extend(reversed(node.args))
        return out

    @property
    def any_input(self) -> list[Node]:
        """What tells the tokens to what reads no stream."""
        return list(self.schedule.program.inputs.values())[:1]

    def weights_of(self, roots: Sequence[Node], stop: set[Node]) -> list[Node]:
        return [
            n
            for n in self.leaves(roots, stop)
            if n.op != "input" and not (self.part and n in self.part.known)
        ]

    def weight(self, node: Node) -> str:
        if node.op not in ("random", "load"):
            name = weight_name(node)
            if self.reads.setdefault(name, self.at) != self.at:
                self.often.add(name)
        return f'W["{weight_name(node)}"]'

    def block(self, block: Block) -> tuple[str, list[str]]:
        """Emits a block; returns its function and the line that calls it."""
        self.at += 1
        inputs, weights = self.taken(block)
        fn, carry = self.given(inputs, weights), Carry()
        for item in block.items:
            self.item(fn, carry, item, block.online)
        nudges = self.part.nudges(block) if block.online and self.part else {}
        function = self.written("block", self.draft(block, fn, carry, inputs, weights, [*nudges]))
        values = [
            *(self.local(n, block.online) for n in inputs),
            *nudges.values(),
            *map(self.weight, weights),
            *(f'carry["{c}"]' for c in carry.taken),
        ]
        outs = [self.local(n) for n in block.outputs]
        news = [f'new["{c}"]' for c in carry.names]
        call = f"{function}({', '.join([*values, *after_all(block)])})"
        return function, [f"{parts(outs)}, {parts(news)} = {call}"]

    def taken(self, block: Block) -> tuple[list[Node], list[Node]]:
        """The streams that a block is given, and the values without a time."""
        made = {
            n
            for item in block.items
            for n in (item.outputs if isinstance(item, Region) else [item])
        }
        inputs = dict.fromkeys(block.inputs)
        roots: list[Node] = []
        for item in block.items:
            if isinstance(item, Region):
                roots += [*(item.inputs or self.any_input), *item.statics]
                continue
            roots += item.args
            if item.op in LOOKS_BACK and not any(a in self.token for a in item.args):
                roots += self.any_input
            if item.op == "input":
                inputs[item] = None
        leaves = self.leaves(roots, made | set(inputs))
        weights = self.weights_of(roots, made | set(inputs))
        return [*inputs, *(n for n in leaves if n not in weights and n not in inputs)], weights

    def given(self, inputs: Sequence[Node], weights: Sequence[Node]) -> Fn:
        """A function of these streams, x1, x2.., and values without a time, w1, w2.."""
        fn = Fn()
        for i, node in enumerate(inputs):
            lead = "B" if self.part and node in self.part.steady else "BT"
            fn.bind(node, f"x{i + 1}", lead)
        for i, node in enumerate(weights):
            fn.bind(node, f"w{i + 1}", "")
        fn.like = next(
            (f"w{i + 1}" for i, w in enumerate(weights) if w.op not in ("random", "load")),
            "x1" if inputs else "None",
        )
        return fn

    def item(self, fn: Fn, carry: Carry, item: Node | Region, online: bool) -> None:
        """The lines of one stream or region of a block."""
        if isinstance(item, Region):
            call_region(self, fn, carry, item)
        elif item.op != "input" and all(item is not head.logits for head in self.heads.values()):
            fn.at = item
            self.stream(fn, carry, item, online)
            fn.note(fn.env[item], item)
        else:
            return
        if online and self.part:
            self.part.nudge(fn, item)

    def draft(
        self,
        block: Block,
        fn: Fn,
        carry: Carry,
        inputs: Sequence[Node],
        weights: Sequence[Node],
        nudges: Sequence[str],
    ) -> Draft:
        """The function of a block, from its lines."""
        names = [f"x{i + 1}" for i in range(len(inputs))]
        given = [f"w{i + 1}" for i in range(len(weights))]
        kept = [f"c{i + 1}" for i in range(len(carry.taken))]
        results = [fn.tensor(fn.env[n]) for n in block.outputs]
        return Draft(
            [*names, *nudges, *given, *kept, *after_all(block)],
            prune(fn.lines, [*results, *carry.results]),
            f"{parts(results)}, {parts(carry.results)}",
            {
                **self.stream_labels(names, inputs),
                **self.weight_labels(given, weights),
                **self.carry_labels(kept, carry.taken),
            },
            fn.made,
        )

    # -- what the parameters of a block are called

    def stream_labels(self, raw: Sequence[str], nodes: Iterable[Node]) -> dict[str, Label]:
        return {
            x: Label(
                stream_name(node, self.known.names),
                shape_text("B" if self.part and node in self.part.steady else "BT", node.shape),
            )
            for x, node in zip(raw, nodes)
        }

    def weight_labels(self, raw: Sequence[str], nodes: Sequence[Node]) -> dict[str, Label]:
        called = short([weight_name(node) for node in nodes], self.schedule.program.levels)
        return {
            w: Label(called[weight_name(node)], shape_text("", node.shape))
            for w, node in zip(raw, nodes)
        }

    def carry_labels(self, raw: Sequence[str], names: Sequence[str]) -> dict[str, Label]:
        states = [name for name in names if self.carries[name][1] == "state"]
        others = [name for name in names if name not in states]
        called = short(states, self.schedule.program.levels) | short(others, ())
        return {
            c: Label(called[name], carried_text(*self.carries[name])) for c, name in zip(raw, names)
        }

    def local(self, node: Node, online: bool = False) -> str:
        if online and self.part and (text := self.part.given(node)):
            return text
        if node.op == "input":
            return f'inputs["{node["name"]}"]'
        if node not in self._locals:
            iteration = "".join(f"_{i}" for i in re.findall(r"\d+", "".join(node.iteration[:1])))
            name = stream_name(node, self.known.names) + iteration
            self._locals[node] = self._taken.take(name)
        return self._locals[node]

    _locals: dict[Node, str]
    _taken: Names

    def stream(self, fn: Fn, carry: Carry, node: Node, online: bool) -> None:
        """A stream over all tokens of the call; of those between ticks a gradient is taken
        twice."""
        head = self.heads.get(node)
        children = (head.x, head.table, node.args[1]) if head else node.args
        args = [fn.value(a) for a in children]
        late = self.lag.get(node, 0)
        if node.op == "ahead":
            name = self.carry_name(node.args[0], "before", node.args[0].shape, carry)
            fn.env[node] = fn.let(f"newest({args[0].text}, {name})", "BT", node.shape)
            carry.results.append(f"{args[0].text}[:, -1:]")
            return
        if late:
            for i, (arg, child) in enumerate(zip(args, children)):
                if arg.lead and (by := late - self.lag[child]):
                    name = self.carry_name(child, "before", child.shape, carry)
                    args[i] = fn.let(f"behind({arg.text}, {name}, {by})", "BT", child.shape)
                    carry.results.append(f"latest({arg.text}, {name}, {by})")
        if node.op in TEMPORAL:
            assert not late, "limits, ahead_in_time"
            fn.env[node] = fn.note(stream(self, fn, carry, node, args, not online), node)
            return
        fn.env[node] = (
            fn.let(lowered(fn, head, *args), "BT", node.shape) if head else fn.emit(node, args)
        )

    def carry_state(self, state: State) -> None:
        """A place in the carry for a memory, or a copy of one."""
        self.carries[state.name] = state.type, "state"
        self.kept[state.name] = state
        if state.life.outlives:
            copied = state.at if state.at.unit == "sequence" else NEVER
            self.lasting[state.name] = state.copies or state.name, state.life, copied

    def carry_name(
        self,
        node: Node,
        kind: str,
        shape: Shape,
        carry: Carry,
        user: Node | None = None,
        room: int | None = None,
    ) -> str:
        """A place in the carry for what is kept of a stream: called as the stream is, or as the
        kernel that reads it. `room`: the rows of earlier tokens are at most so many.
        """
        name = self.known.names.get(node, "")
        if not name and user is not None:
            kernel = next((a["name"] for a in user.args if a.op == "weight"), "")
            name = kernel or self.known.names.get(user, "")
        name = f"{name or (node['name'] if node.op == 'input' else node.op)}.{kind}"
        count = sum(other.partition("#")[0] == name for other in self.carries)
        key = f"{name}#{count + 1}" if count else name
        self.carries[key] = (shape, kind)
        if room is not None:
            self.room[key] = room
        return carry.take(key)

    # -- the module

    def emit(self) -> Emitted:
        self._locals, self._taken = {}, Names()
        iterations: list[tuple[str, str]] = []
        order: list[str] = []
        for block in self.schedule.blocks:
            if block.online:
                continue
            function, lines = self.block(block)
            order.append(function)
            if not isinstance(block.items[0], Region):
                self.bodies.append(function)
            iterations += [(block.key, line) for line in lines]
        outputs = self.schedule.outputs
        results = {
            name: self.shown(node, self.local(node))
            for name, node in outputs.items()
            if not self.part or node not in self.part.online.ids
        }
        if self.part:
            lines, rows = self.part.emit(self, order)
            iterations += [("", line) for line in lines]
            results |= rows
        iterations.append(("", f"return {{{pairs(results)}}}, new"))
        body = ["new = {}", *looped(iterations, self._locals.values())]
        forward = defined("forward(W, inputs, carry, position, mode)", body)
        text = "\n\n".join([*self.texts, forward, self.start()])
        self.often |= self.reads.keys() if self.part else set()
        found = self.carries, self.lowering, self.chunk, self.lasting, self.randoms, self.loads
        pieces = self.rolled, self.apart, self.recurrences, self.room, self.reads, self.often
        functions = list(dict.fromkeys(self.bodies))
        return Emitted(text, functions, order, *found, [*self.heads], *pieces)

    def shown(self, node: Node, text: str) -> str:
        """An output from the first token on at which it has a value."""
        first = self.valid_from(node)
        late = lookahead(node)[node]
        return (
            f"present({text}, {f'max(0, position - {late})' if late else 'position'}, {first})"
            if first
            else text
        )

    def start(self) -> str:
        """The carry of a fresh sequence: starts of memories, empty tails; `before` values do not
        exist yet.
        """
        fn = Fn("")
        self.at = 0
        states = {**self.schedule.states, **self.schedule.between}
        live = [
            *(s for r in self.schedule.regions for s in r.ticking),
            *self.schedule.between.values(),
        ]
        weights = self.weights_of([s.start for s in live], set())
        for node in weights:
            fn.bind(node, self.weight(node), "")
            if node.op == "random":
                self.randoms[weight_name(node)] = (node.shape, node["scale"])
            if node.op == "load":
                self.loads.append(loaded_name(node))
        fn.like = fn.env[weights[0]].text if weights else "like"
        fn.lazy |= dict.fromkeys(STATE, lambda node: fn.value(states[node["memory"]].start))
        rows = [f'carry["{name}"] = {self.begun(fn, name)}' for name in self.carries]
        if self.lasting:
            rows.append("carry = resumed(carry, lanes, LASTING) if lanes else carry")
        carried = self.part.carried if self.part else []
        since = {f"{SINCE}{name}": f'carry["{name}"]' for name in carried}
        rows.append(f"return carry | {{{pairs(since)}}}" if since else "return carry")
        lines = [*fn.lines, "carry = {}", *looped([(iteration_of(row), row) for row in rows])]
        table = "\n".join(fold(f"LASTING = {quotes(self.lives())}"))
        return f"{table}\n\n\n{defined('start(W, batch, like, lanes=None)', lines)}"

    def begun(self, fn: Fn, name: str) -> str:
        """The text of a carried tensor before the first token."""
        shape, kind = self.carries[name]
        sizes = ", ".join(str(a.size) for a in shape)
        if kind == "state":
            return f"{fn.tensor(fn.value(self.kept[name].start))}.expand(batch, {sizes})"
        if kind == "before":
            return "None"
        return f"like.new_zeros((batch, {f'0, {sizes}' if kind == 'past' else sizes}))"

    def lives(self) -> dict[str, tuple[str, tuple[int, int], tuple[int, int], str]]:
        """Of what outlives a sequence: its memory, what ends it, when it is copied, and what holds
        whether a document ended."""

        def sequences(clock: Clock) -> tuple[int, int]:
            return (clock.period, clock.phase) if clock.unit == "sequence" else (0, 0)

        return {
            name: (
                memory,
                sequences(life),
                sequences(copied),
                flag(life) if life.unit == ENDS else "",
            )
            for name, (memory, life, copied) in self.lasting.items()
        }


def after_all(block: Block) -> tuple[str, ...]:
    """The last arguments of a block: `mode` where it rolls a recurrence."""
    rolls = any(isinstance(item, Region) for item in block.items)
    return ("position", "mode") if rolls else ("position",)


def pairs(values: Mapping[str, str]) -> str:
    """The items of a dict."""
    return ", ".join(f'"{name}": {text}' for name, text in values.items())


def quotes(value: object) -> str:
    """A constant as Python writes it, in the marks that the rest has."""
    return written(ast.parse(repr(value), mode="eval"))


def carried_text(shape: Shape, kind: str) -> str:
    """What a carried tensor holds; of earlier tokens, as many rows as are kept."""
    rows = {"past": "S", "before": "n"}.get(kind, "")
    sizes = [str(a.size) if a.name == "tail" else a.name for a in shape]
    return f"[{', '.join(['B', *([rows] if rows else []), *sizes])}]"


def weight_name(node: Node) -> str:
    match node.op:
        case "weight":
            return node["name"]
        case "random":
            return f"random:{node['name']}"
        case "load":
            return loaded_name(node)
    return node["memory"]
