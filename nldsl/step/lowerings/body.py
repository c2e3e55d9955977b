"""One piece of a region as a function of its state: by matrix products over its tokens, or of one
token.

state      cells, held copies, rows of earlier tokens
streams    the region's inputs, then the tokens' positions
statics    values without a time, then the starts that cells return to
ends       for each clock, whether it ticks at the last token
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nldsl.core.flow import takes
from nldsl.core.nodes import Axis, Node, Shape
from nldsl.core.program import ENDS, Clock
from nldsl.schedule.cells import Cell, Unsupported
from nldsl.schedule.plan import Region
from nldsl.step.listing import Draft, Label, shape_text
from nldsl.step.lowerings.order import in_order
from nldsl.step.lowerings.past import Past, keeps
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.names import identifier, last, short
from nldsl.step.source import Fn, Ref, parts, prune


@dataclass
class Body:
    """The lines of one piece of a region. `lead` is "BT" for all tokens at once, "B" for one."""

    region: Region
    inputs: list[Node]
    starts: list[Ref]
    lead: str
    first: Callable[[Node], int]  # the token at which a stream begins
    timed: bool = True  # are the tokens' positions the last of its streams?
    clocks: list[tuple[int, int, int]] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)  # what each of `clocks` is called

    def __post_init__(self) -> None:
        if bad := next((x for x in self.region.inside if x.op == "grad_stream"), None):
            raise Unsupported(
                f"`grad` of a stream inside the recurrence of `{self.region.cells[0].name}`", bad
            )
        region, fn = self.region, Fn(self.lead)
        self.fn = fn
        self.ended = {
            clock: node
            for c in region.cells
            if c.next.op == "ended"
            for clock, node in zip(c.next["clocks"], c.next.args[1:], strict=True)
        }
        self.cells = {c.name: c for c in region.cells}
        n = len(region.cells)
        slots = keeps(region)
        self.kept = [f"c{i + 1}" for i in range(n + len(region.holds) + len(slots))]
        self.streams = [f"x{i + 1}" for i in range(len(self.inputs) + 1)]  # tokens are the last
        self.statics = [f"w{i + 1}" for i in range(len(region.statics) + len(self.starts))]
        self.state = {c.name: Ref(self.kept[i], "B", c.shape) for i, c in enumerate(region.cells)}
        self.slow = [c for c in in_order(region.cells) if c.clock.period > 1 or c.clock.phase]
        fn.like = self.like = self.kept[0]
        self.given: dict[int, Ref] = {}  # what has a value before the first line
        for node in region.inside:
            if node.op == "held":
                self.given[id(node)] = Ref(
                    self.kept[n + region.holds.index((node["memory"], node["clock"]))],
                    "B",
                    node.type,
                )
            elif node.op == "read" and (
                self.lead == "B" or node["memory"] in {c.name for c in self.slow}
            ):
                self.given[id(node)] = self.state[node["memory"]]
        for i, node in enumerate(self.inputs):
            self.given[id(node)] = Ref(self.streams[i], self.lead, node.type)
        for i, node in enumerate(region.statics):
            self.given[id(node)] = Ref(self.statics[i], "", node.type)
        fn.env |= self.given
        self.past = Past(
            fn,
            slots,
            self.kept[n + len(region.holds) :],
            self.streams[-1] + (".reshape(-1)" if self.lead == "B" else "[0]"),
            self.first,
        )
        fn.rules |= {op: self.past.operator for op in TEMPORAL}

    def draft(
        self,
        after: dict[str, str],
        outputs: Sequence[str],
        names: Mapping[Node, str],
        levels: Collection[str],
    ) -> Draft:
        """The function, from (state, streams, statics, ends) to (new state), (outputs): `after` is
        the text of each memory before the end of the instant, `outputs` that of what is handed on.
        """
        new = [
            *self.settled(after),
            *(self.past.after.get(i, name) for i, name in enumerate(self.past.names)),
        ]
        for given, text in zip(self.kept, new, strict=True):
            if text in self.fn.made:
                self.fn.made[text] = replace(self.fn.made[text], after=given)
        lines = [
            f"{parts(xs)} = {name}"
            for name, xs in (
                ("state", self.kept),
                ("streams", self.streams if self.timed else self.streams[:-1]),
                ("statics", self.statics),
                ("ends", [f"e{i + 1}" for i in range(len(self.clocks))]),
            )
            if xs
        ]
        results = f"{parts(new)}, {parts(outputs)}"
        return Draft(
            ("state", "streams", "statics", "ends"),
            [*lines, *prune(self.fn.lines, [*new, *outputs])],
            results,
            self.labels(names, levels),
            self.fn.made,
        )

    def labels(self, names: Mapping[Node, str], levels: Collection[str]) -> dict[str, Label]:
        """What the parts of state, streams, statics and ends are called."""
        region = self.region
        copies = [(f"{m}@{c.name or c.period}", self.cells[m].shape) for m, c in region.holds]
        cells = [*((c.name, c.shape) for c in region.cells), *copies]
        called = short([name for name, _ in cells], levels)
        out = [Label(called[name], shape_text("B", shape)) for name, shape in cells]
        for kept in keeps(region):
            rows = "S" if kept.rows is None else str(kept.rows)
            name = f"{last(names.get(kept.node, kept.node.op))}_rows"
            out.append(Label(name, shape_text("B", (Axis(rows, 0), *kept.node.type))))
        streams = [
            *(Label(stream_name(n, names), shape_text(self.lead, n.type)) for n in self.inputs)
        ]
        statics = [
            *(Label(static_name(n, names), shape_text("", n.type)) for n in region.statics),
            *(Label("start", shape_text("", r.shape)) for r in self.starts),
        ]
        ticks = [Label(name, "does its clock tick at the last token?") for name in self.spoken]
        return dict(zip(self.kept, out)) | dict(
            zip(
                [*self.streams, *self.statics, *(f"e{i + 1}" for i in range(len(ticks)))],
                [*streams, Label("t", "[1, T] tokens before each"), *statics, *ticks],
            )
        )

    # -- the end of an instant

    def flag(self, clock: Clock, first: int = 0) -> str:
        if clock in self.ended:
            return self.fn.value(self.ended[clock]).text
        tick = (
            (clock.period, clock.phase, first) if clock.unit == "token" else (0, 0, 0)
        )  # a sequence ends between two calls
        if tick not in self.clocks:
            self.clocks.append(tick)
            self.spoken.append(
                f"{identifier(clock.name or f'every {clock.period} {clock.unit}')}_ends"
            )
        return f"e{self.clocks.index(tick) + 1}"

    def select(self, clock: Clock, new: str, old: str, shape: Shape, first: int = 0) -> str:
        return self.fn.let(f"select({self.flag(clock, first)}, {new}, {old})", "B", shape).text

    def ticked(self, cell: Cell, text: str) -> str:
        if cell in self.slow or cell.first:
            return self.select(cell.clock, text, self.state[cell.name].text, cell.shape, cell.first)
        return text

    def begun(self, cell: Cell, after: dict[str, str]) -> str:
        """Text of a start from what other memories hold by now."""
        fn = self.fn.child()
        fn.token_lead, fn.rules = "B", {}
        fn.env = {i: r for i, r in self.given.items() if r.lead == ""}
        for node in takes(cell.start):
            fn.bind(node, after[node["memory"]], "B")
        return fn.tensor(fn.value(cell.start))

    def settled(self, after: dict[str, str]) -> list[str]:
        """Cuts, then resets, then copies: later tokens are cut, this one is not, and a start that
        begins here is heard.
        """
        region, n = self.region, len(self.region.cells)
        fixed = [c for c in region.cells if not takes(c.start)] if self.starts else []
        starts = {c.name: self.statics[len(region.statics) + i] for i, c in enumerate(fixed)}
        held: list[str] = []

        def restarted(cell: Cell, text: str, like: str) -> str:
            for clock in dict.fromkeys(
                c for c in (cell.reset, cell.ends) if c is not None and c.unit in ("token", ENDS)
            ):
                text = self.select(
                    clock, f"{starts[cell.name]}.expand_as({like})", text, cell.shape, cell.kept
                )
            return text

        def hidden(cell: Cell, text: str) -> str:
            return (
                text
                if cell.cut is None
                else self.select(cell.cut, f"{text}.detach()", text, cell.shape)
            )

        for name, cell in sorted(
            self.cells.items(), key=lambda item: -item[1].clock.period
        ):  # slow ones first
            if takes(cell.start) and cell.reset.unit == "token":
                starts[name] = self.begun(cell, after)
            after[name] = restarted(cell, hidden(cell, after[name]), self.state[name].text)
        for k, (name, clock) in enumerate(region.holds):
            cell = self.cells[name]
            copy = self.select(clock, after[name], hidden(cell, self.kept[n + k]), cell.shape)
            held.append(restarted(cell, copy, self.kept[n + k]))
        return [*(after[c.name] for c in region.cells), *held]


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


def expand(fn: Fn, ref: Ref, like: str, shape: Shape) -> str:
    """Text of the value with its batch dimension."""
    text = fn.tensor(ref)
    if ref.lead == "":
        return fn.let(
            f"{text}.expand({like}.shape[0], {', '.join(str(a.size) for a in shape)})", "B", shape
        ).text
    return text
