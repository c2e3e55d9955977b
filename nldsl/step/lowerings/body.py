"""One piece of a region as a function of its state: by matrix products over its tokens, or of one
token.

state      memories, their copies, rows of earlier tokens
streams    the region's inputs, then the tokens' positions
statics    values without a time
ends       for each clock, whether it ticks at the last token
left       whether the new state is wanted
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nldsl.core.nodes import Axis, Node, Shape, walk
from nldsl.core.program import STATE, TOKEN, Clock
from nldsl.schedule.plan import Region
from nldsl.schedule.token_states import State
from nldsl.step.listing import Draft, Label, shape_text
from nldsl.step.lowerings.order import in_order
from nldsl.step.lowerings.past import Past, keeps
from nldsl.step.lowerings.still import parted
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.names import identifier, last, short
from nldsl.step.source import Fn, Ref, parts, prune

WHOLE = ("state", "streams", "statics", "ends", "left")  # parameters of a piece


@dataclass
class Body:
    """The lines of one piece of a region. `lead` is "BT" for all tokens at once, "B" for one."""

    region: Region
    inputs: list[Node]
    lead: str
    first: Callable[[Node], int]  # the token at which a stream begins
    timed: bool = True  # are the tokens' positions the last of its streams?
    begins: bool = False  # may a sequence begin with the instant?
    clocks: list[tuple[int, int, int]] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)  # what each of `clocks` is called
    # places of copies that may be empty, and their clocks
    fresh: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        region, fn = self.region, Fn(self.lead)
        assert all(x.op != "grad_stream" for x in region.inside), region.states[0].name
        self.fn = fn
        n = len(region.states)
        slots = keeps(region)
        self.kept = [f"c{i + 1}" for i in range(n + len(slots))]
        self.streams = [f"x{i + 1}" for i in range(len(self.inputs) + 1)]  # tokens are the last
        self.statics = [f"w{i + 1}" for i in range(len(region.statics))]
        self.state = {
            s.name: Ref(text, "B", s.type)
            for s, text in zip(region.states, self.kept, strict=False)
        }
        fn.ranks |= {ref.text: 1 + ref.rank for ref in self.state.values()}
        if self.lead == "BT":
            self.renewed()
        self.seldom = [s for s in in_order(region.ticking) if s.seldom]
        self.like = self.kept[0]
        computed = (x for x, n in zip(self.streams, self.inputs) if n.op not in ("input", "ahead"))
        fn.like = next(computed, self.like) if self.lead == "BT" else self.like
        self.given: dict[Node, Ref] = {}  # what has a value before the first line
        still = region.copies | {s.name for s in self.seldom}
        for node in [*region.inside, *(a for s in region.ticking for a in s.after.args[1:2])]:
            if node.op == "read" and (self.lead == "B" or node["memory"] in still):
                self.given[node] = self.state[node["memory"]]
        for i, node in enumerate(self.inputs):
            self.given[node] = Ref(self.streams[i], self.lead, node.shape)
        for i, node in enumerate(region.statics):
            self.given[node] = Ref(self.statics[i], "", node.shape)
        fn.env |= self.given
        self.past = Past(
            fn,
            slots,
            self.kept[n:],
            self.streams[-1] + (".reshape(-1)" if self.lead == "B" else "[0]"),
            self.first,
        )
        fn.rules |= {op: self.past.operator for op in TEMPORAL}

    def renewed(self) -> None:
        """A copy that has just been made is the memory itself: its place in the state is empty."""
        states = {s.name: s for s in self.region.states}
        for i, copy in enumerate(self.region.states):
            if copy.copies and renews(copy, states[copy.copies], self.region.chunk):
                was, memory = self.kept[i], self.state[copy.copies]
                text = f"{memory.text} if {was} is None else {was}"
                held = self.state[copy.name] = self.fn.let(text, "B", copy.type, "held")
                self.fn.twins |= {memory.text: (held.text, was), held.text: (memory.text, was)}
                tick = self.tick(copy.next)
                self.fresh.append((i, int(tick[1:]) - 1))

    def draft(
        self,
        after: dict[str, str],
        outputs: Sequence[str],
        names: Mapping[Node, str],
        levels: Collection[str],
    ) -> Draft:
        """The function, from (state, streams, statics, ends, left) to (new state), (outputs):
        `after` is the text of each memory before the end of the instant, `outputs` that of what is
        handed on.
        """
        new = self.ended(after)
        lines = prune(self.fn.lines, [*new, *outputs])
        return Draft(
            WHOLE,
            [*self.unpacked(*WHOLE), *lines],
            f"{parts(new)} if left else (), {parts(outputs)}",
            self.labels(names, levels),
            self.fn.made,
        )

    def drafts(
        self,
        after: dict[str, str],
        outputs: Sequence[str],
        names: Mapping[Node, str],
        levels: Collection[str],
    ) -> tuple[Draft, Draft, list[str]] | None:
        """`draft` as two functions, if there is anything for the first: what needs no memory, from
        (streams, statics), and the rest, which is given that as well; what it is given.
        """
        new = self.ended(after)
        streams, others = self.streams[:-1], [*self.kept, self.streams[-1], *self.ends]
        own = parted(self.fn.lines, streams, self.statics, others, [*new, *outputs])
        if not own.made:
            return None
        labels = self.labels(names, levels)
        still = Draft(
            ("streams", "statics"),
            [f"{parts(streams)} = streams", *self.unpacked("statics"), *own.still],
            parts([f"{x}.contiguous()" for x in own.made]),
            labels,
            self.fn.made,
        )
        moving = Draft(
            (*WHOLE, "made"),
            [*self.unpacked(*WHOLE), f"{parts(own.made)} = made", *own.moving],
            f"{parts(new)} if left else (), {parts(outputs)}",
            labels,
            self.fn.made,
        )
        return still, moving, own.made

    def ended(self, after: dict[str, str]) -> list[str]:
        """Texts of the new state."""
        new = [
            *self.settled(after),
            *(self.past.after.get(i, name) for i, name in enumerate(self.past.names)),
        ]
        for given, text in zip(self.kept, new, strict=True):
            if text in self.fn.made:
                self.fn.made[text] = replace(self.fn.made[text], after=given)
        return new

    def unpacked(self, *parameters: str) -> list[str]:
        """The lines that take parameters apart."""
        held = {
            "state": self.kept,
            "streams": self.streams if self.timed else self.streams[:-1],
            "statics": self.statics,
            "ends": self.ends,
        }
        return [f"{parts(held[x])} = {x}" for x in parameters if held.get(x)]

    @property
    def ends(self) -> list[str]:
        return [f"e{i + 1}" for i in range(len(self.clocks))]

    def labels(self, names: Mapping[Node, str], levels: Collection[str]) -> dict[str, Label]:
        """What the parts of state, streams, statics and ends are called."""
        region = self.region
        called = short([s.name for s in region.states], levels)
        out = [Label(called[s.name], shape_text("B", s.type)) for s in region.states]
        for kept in keeps(region):
            rows = "S" if kept.rows is None else str(kept.rows)
            name = f"{last(names.get(kept.node, kept.node.op))}_rows"
            out.append(Label(name, shape_text("B", (Axis(rows, 0), *kept.node.shape))))
        streams = [
            *(Label(stream_name(n, names), shape_text(self.lead, n.shape)) for n in self.inputs)
        ]
        starts = {s.start for s in region.states}
        statics = [
            Label("start" if n in starts else static_name(n, names), shape_text("", n.shape))
            for n in region.statics
        ]
        ticks = [Label(name, "does its clock tick at the last token?") for name in self.spoken]
        return dict(zip(self.kept, out)) | dict(
            zip(
                [*self.streams, *self.statics, *(f"e{i + 1}" for i in range(len(ticks)))],
                [*streams, Label("t", "[1, T] tokens before each"), *statics, *ticks],
            )
        )

    # -- clocks

    def chosen(self, fn: Fn) -> Callable[[Node], Ref]:
        """How `when` is written in a function."""

        def choose(node: Node) -> Ref:
            new, old, *ends = node.args
            clock, first = node["clock"], node["first"]
            if ends:
                tick = fn.value(ends[0]).text
            elif clock.unit != "token" and not self.begins:
                return fn.value(old)
            elif clock == TOKEN and not first:
                return fn.value(new)
            else:
                tick = self.tick(node)
            was, now = self.expanded(fn, fn.value(old), node.shape), fn.value(new)
            text = fn.tensor(now) + ("" if now.lead else f".expand_as({was})")
            return fn.let(f"select({tick}, {text}, {was})", "B", node.shape)

        return choose

    def tick(self, when: Node) -> str:
        """The name of what says whether a clock ticks at the last token."""
        clock, tick = when["clock"], instants(when["clock"], when["first"])
        if tick not in self.clocks:
            called = identifier(clock.name or f"every {clock.period} {clock.unit}")
            self.clocks.append(tick)
            self.spoken.append(f"{called}_ends" if tick[0] else "begins")
        return f"e{self.clocks.index(tick) + 1}"

    def settled(self, after: dict[str, str]) -> list[str]:
        """Texts of the states when the instant is finished."""
        fn = self.fn.child()
        fn.token_lead, fn.rules, fn.lazy = "B", {}, {}
        fn.lazy["when"] = self.chosen(fn)
        fn.env = dict(self.given)
        for node in walk(*(s.next for s in self.region.states)):
            if node.op in STATE and node["memory"] in self.state:
                was = self.state[node["memory"]].text
                fn.bind(node, after.get(node["memory"], was) if node.op == "now" else was, "B")
        return [self.expanded(fn, fn.value(s.next), s.type) for s in self.region.states]

    def expanded(self, fn: Fn, ref: Ref, shape: Shape) -> str:
        """Text of the value with its batch dimension."""
        text = fn.tensor(ref)
        if ref.lead:
            return text
        sizes = ", ".join(str(a.size) for a in shape)
        return fn.let(f"{text}.expand({self.like}.shape[0], {sizes})", "B", shape).text


def renews(copy: State, memory: State, chunk: int) -> bool:
    """Is a copy what the memory is at the start of a sequence and after every piece?"""
    made = copy.next
    return (
        made.op == "when"
        and made.args[0] is memory.next
        and len(made.args) == 2
        and (made["clock"].unit, made["clock"].period, made["late"]) == ("token", chunk, 0)
        and copy.start is memory.start
        and not memory.life.outlives
    )


def instants(clock: Clock, first: int = 0) -> tuple[int, int, int]:
    """Ticks from the first token on at which there is something to learn from; (0, 0, 0) where a
    sequence begins.
    """
    return (clock.period, clock.phase, first) if clock.unit == "token" else (0, 0, 0)


def stream_name(node: Node, names: Mapping[Node, str]) -> str:
    """What a function calls a stream that it is given."""
    called = {n: input_name(n["name"]) for n in (node, *node.args) if n.op == "input"}
    called |= {n: last(names[n]) for n in (node, *node.args) if n in names}
    return called.get(node) or f"{node.op}_{next(iter(called.values()), '1')}"


def input_name(name: str) -> str:
    """An input, or a gradient that the inner loop gives: `gradient 1 of net.F.up` is grad_F_up."""
    kind, _, of = name.rpartition(" of ")
    return identifier(f"grad_{'_'.join(of.split('.')[-2:])}" if kind else name)


def static_name(node: Node, names: Mapping[Node, str]) -> str:
    """What a function calls a value without a time that it is given."""
    if node.op in ("weight", "random"):
        return last(node["name"])
    return last(names.get(node, node.op))
