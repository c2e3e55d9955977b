"""The part of a step that is run between ticks of memories that learn from it -> Python.

piece(W, held, rows, carry, position, mode)      its blocks over some tokens; `held` is what ticks
                                                 move, `rows` the streams it takes
objective_i(W, held, rows, start, stop)          what one gradient is of, from the values of a
                                                 window's tokens
online(W, given, carry, position, mode)          pieces and ticks in order, see
                                                 `runtime/inner_loop.py`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.core.flow import takes
from nldsl.core.nodes import Node, walk
from nldsl.core.program import NEVER, TOKEN, Clock
from nldsl.schedule.cells import Cell, Unsupported
from nldsl.schedule.online import Family, Online, tick_cells
from nldsl.schedule.plan import Block, Region
from nldsl.step.layout import defined
from nldsl.step.listing import Draft
from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.token_scan import write_token
from nldsl.step.regions import region_body
from nldsl.step.source import Fn, parts, prune

if TYPE_CHECKING:
    from nldsl.step.emit import Emitter

# of what is carried: as it stood when the oldest window opened that may have to be run again
SINCE = "start of "


def instants(clock: Clock, first: int = 0) -> tuple[int, int, int]:
    """Ticks from the first token on at which there is something to learn from."""
    return (clock.period, clock.phase, first) if clock.unit == "token" else (0, 0, 0)


def record(**fields: object) -> str:
    """A dict of the emitted driver."""
    return "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"


def rows_of(name: str, records: list[str]) -> str:
    return f"{name} = {parts(records)}"


class Part:
    def __init__(self, online: Online) -> None:
        self.online = online
        self.steady = online.steady
        self.ahead: list[Node] = []
        self.known = set(online.held)
        self.names = {id(node): name for name, node in online.rows.items()}
        self.streams = {id(x): name for s in online.slopes for name, x in s.streams.items()}
        self.nudged: set[int] = set()
        self.carried: list[
            str
        ] = []  # what is carried also as it stood at the start of what is run again

    def take(self, nodes: list[Node]) -> None:
        """Registers what is given one token later."""
        self.ahead = [n for n in dict.fromkeys(nodes) if n.op == "ahead"]
        self.known |= {id(n) for n in self.ahead}

    def given(self, node: Node) -> str | None:
        if id(node) in self.online.held:
            return f'held["{self.online.held[id(node)]}"]'
        if node in self.ahead:
            return f"rows[{len(self.online.given) + self.ahead.index(node)}]"
        return f"rows[{self.online.given.index(node)}]" if node in self.online.given else None

    # -- derivatives of one stream in another: zeros that are added to it

    def nudges(self, block: Block) -> dict[str, str]:
        made = [
            n
            for item in block.items
            for n in (item.outputs if isinstance(item, Region) else [item])
            if id(n) in self.streams
        ]
        return {self.zero(n): f'held["{self.streams[id(n)]}"]' for n in made}

    def zero(self, node: Node) -> str:
        return "z" + self.streams[id(node)].removeprefix("nudge ")

    def nudge(self, fn: Fn, item: Node | Region) -> None:
        for node in item.outputs if isinstance(item, Region) else [item]:
            if id(node) in self.streams:
                if isinstance(item, Region) and any(node in n.args for n in item.inside):
                    raise Unsupported(
                        "the derivative in a stream that a memory within the sequence takes part "
                        "in",
                        node,
                    )
                ref = fn.env[id(node)]
                zero = self.zero(node)
                fn.env[id(node)] = fn.let(
                    f"{fn.tensor(ref)} + {zero if ref.lead == 'B' else zero + '.unsqueeze(1)'}",
                    ref.lead or "B",
                    node.type,
                )
                self.nudged.add(id(node))

    # -- functions

    def emit(self, em: Emitter, order: list[str]) -> tuple[list[str], dict[str, str]]:
        """Emits the functions of this part; returns the lines that call it, and the text of each
        output that it makes.
        """
        online, schedule = self.online, em.schedule
        before, compiled = set(em.carries), len(em.bodies)
        calls = []
        for block in schedule.blocks:
            if block.online:
                function, lines = em.block(block)
                order.append(function)
                calls += lines
                if not isinstance(block.items[0], Region):
                    em.bodies.append(function)
        if missed := next(
            (s for s in online.slopes if any(id(x) not in self.nudged for x in s.streams.values())),
            None,
        ):
            raise Unsupported(
                "the derivative in this stream",
                missed.span,
                "a stream that the loss is computed from",
            )
        names = {
            name: self.names.setdefault(id(node), name)
            for name, node in schedule.outputs.items()
            if id(node) in online.ids
        }
        made = {
            self.names[id(node)]: node
            for node in [*online.rows.values(), *schedule.outputs.values()]
            if id(node) in self.names
        }
        rows = {name: em.local(node, True) for name, node in made.items()}
        rows = {
            name: f"{text}.unsqueeze(1).expand(-1, rows[0].shape[1], "
            f"{'-1, ' * len(made[name].type)})"
            if id(made[name]) in self.steady
            else text
            for name, text in rows.items()
        }
        body = [
            "new = {}",
            *calls,
            "return {" + ", ".join(f'"{name}": {text}' for name, text in rows.items()) + "}, new",
        ]
        em.texts.append(defined("piece(W, held, rows, carry, position, mode)", body))
        late = sorted(
            {self.names[id(n)] for n in made.values() if any(x.op == "ahead" for x in walk(n))}
        )
        carried = [n for n in em.carries if n not in before]
        self.driver(em, carried, late)
        if online.families:
            del em.bodies[compiled:]
            em.bodies.append("online")
        given = "".join(em.local(n) + ", " for n in online.given)
        return [
            f"learned, kept = online(W, ({given}), carry, position, mode)",
            "new.update(kept)",
        ], {
            name: em.shown(schedule.outputs[name], f'learned["{row}"]')
            for name, row in names.items()
        }

    def driver(self, em: Emitter, carried: list[str], late: list[str]) -> None:
        online = self.online
        fn = Fn("B")
        held: list[str] = []
        for family in online.families:
            for cell in family.cells:
                em.carries[cell.name] = cell.shape, "state"
                held.append(cell.name)
                if cell.lasts and family.clock != TOKEN:
                    raise Unsupported(
                        "a window of a task loss that goes on in the next sequence",
                        span=family.level.span,
                        help="reset every sequence",
                    )
                if cell.lasts:
                    em.lasting[cell.name] = cell.name, cell.life, NEVER
            for name, clock in family.copies:
                key = f"{name}@{clock.name or clock.period}"
                cell = next(c for c in family.cells if c.name == name)
                em.carries[key] = cell.shape, "state"
                held.append(key)
                if cell.lasts:
                    em.lasting[key] = name, cell.life, clock if clock.unit == "sequence" else NEVER
        self.carried = [*held, *carried]
        for i, node in enumerate(online.given):
            em.carries[f"rows.{i + 1}"] = node.type, "before"
        statics = [s for f in online.families for s in f.tick.statics]
        for node in em.weights_of(statics, set()):
            fn.bind(node, em.weight(node), "")
        fn.like = "like"
        slopes = [self.slope(em, i) for i in range(len(online.slopes))]
        families = [self.family(em, fn, f) for f in online.families]
        count = len(online.given)
        kept = parts([f'after(carry["rows.{i + 1}"], given[{i}])' for i in range(count)])
        shifted = "".join(f"ahead(rows[{online.given.index(n.args[0])}]), " for n in self.ahead)
        state = [f'"{n}": carry["{SINCE}{n}"]' for n in held] + [
            f'"{name}": like.new_zeros((rows[0].shape[0], {"".join(str(a.size) + ", " for a in x.type)}))'
            for s in online.slopes
            for name, x in s.streams.items()
        ]
        pending = sorted(name for name in carried if name.split("@")[0] in online.pending)
        lines = [
            f"rows = {kept}",
            "begin = position + given[0].shape[1] - rows[0].shape[1]",
            f"rows = (*rows, {shifted})",
            f'like = carry["{SINCE}{self.carried[0]}"]',
            *(
                f"{name} = {{{', '.join(parts)}}}"
                for name, parts in (
                    ("state", state),
                    ("carried", [f'"{n}": carry["{SINCE}{n}"]' for n in carried]),
                )
            ),
            *prune(fn.lines, families),
            rows_of("slopes", slopes),
            rows_of("families", families),
            "def network(held, rows, carry, at):",
            "    return piece(W, held, rows, carry, at, "
            f"{'mode' if not online.families else repr('within')})",
            "return learn(network, slopes, families, "
            f"{tuple(instants(c) for c in online.clocks())!r}, state, rows, carried, begin, "
            "position, "
            f"{count}, {tuple(late)!r}, {tuple(pending)!r})",
        ]
        em.texts.append(defined("online(W, given, carry, position, mode)", lines))

    def slope(self, em: Emitter, i: int) -> str:
        slope = self.online.slopes[i]
        level = em.schedule.program.levels.get(slope.level)
        every, reset = (TOKEN, NEVER) if level is None else (level.clock, level.reset)
        first = em.valid_from(slope.objective) if level else 0
        function = self.objective(em, i, every)
        return record(
            objective=f"lambda *window: {function}(W, *window)",
            of=tuple(slope.atoms),
            atoms=tuple(a["name"] for a in slope.atoms.values()),
            every=instants(every, first),
            reset=instants(reset),
            sees=tuple(self.online.sees[i]),
        )

    def objective(self, em: Emitter, i: int, every: Clock) -> str:
        """The function of one objective, from the rows of its window."""
        online = self.online
        slope, formula = online.slopes[i], online.objectives[i]
        fn = Fn("B")
        fn.like = "next(iter(held.values()))"
        for node in em.weights_of(
            formula.statics
            + [online.folds[id(n)][0] for n in formula.taken if id(n) in online.folds],
            set(),
        ):
            fn.bind(node, em.weight(node), "")
        for node in formula.rows:
            fn.env[id(node)] = fn.let(f'rows["{self.names[id(node)]}"][:, -1]', "B", node.type)
        for node in formula.taken:
            if id(node) in online.held:
                fn.bind(node, f'held["{online.held[id(node)]}"]', "B")
        for node in formula.taken:
            if id(node) in online.folds:
                term, how, span = online.folds[id(node)]
                whole = span in (slope.level, every)
                if not whole and (
                    isinstance(span, str) or isinstance(span, Clock) and span.unit != "token"
                ):
                    raise Unsupported(
                        "a stretch of a task loss that is not the period of its level",
                        slope.span,
                        "over period",
                    )
                first = em.valid_from(term)
                start = f"max(start, {first})" if first else "start"
                n = (
                    f"stop - {start}"
                    if whole
                    else f"stop - max({start}, since({instants(span)!r}, stop))"
                    if isinstance(span, Clock)
                    else f"min({span}, stop - {start})"
                )
                if id(term) in self.names:
                    text = (
                        f'rows["{self.names[id(term)]}"]'
                        + (
                            ""
                            if whole and not first
                            else f"[:, rows[{self.names[id(term)]!r}].shape[1] - ({n}):]"
                        )
                        + ".sum(1)"
                    )
                else:
                    text = f"{fn.tensor(fn.value(term))} * ({n})"
                fn.env[id(node)] = fn.let(
                    text + (f" / ({n})" if how == "mean" else ""),
                    "B" if id(term) in self.names else fn.env[id(term)].lead,
                    node.type,
                )
        result = fn.tensor(fn.value(slope.objective))
        given = ("W", "held", "rows", "start", "stop")
        lines = prune(fn.lines, [result])
        return em.written("objective", Draft(given, lines, f"{result}.sum()", {}, fn.made))

    def start(self, em: Emitter, cell: Cell) -> str:
        """The function of what a memory starts from within a sequence: weights, and what slower
        memories hold by then.
        """
        fn = Fn("B")
        fn.like = f'now["{cell.name}"]'
        for node in em.weights_of([cell.start], set()):
            fn.bind(node, em.weight(node), "")
        for node in takes(cell.start):
            fn.bind(node, f'now["{node["memory"]}"]', "B")
        result = fn.tensor(fn.value(cell.start))
        draft = Draft(("W", "now"), prune(fn.lines, [result]), result, {}, fn.made)
        function = em.written("begin", draft)
        return f"lambda now: {function}(W, now)"

    def family(self, em: Emitter, fn: Fn, family: Family) -> str:
        cells, formula = tick_cells(family), family.tick
        inputs = [*formula.taken, *formula.rows]
        taken = [self.online.held.get(id(n)) or self.names.get(id(n)) or n["name"] for n in inputs]
        region = Region(
            cells, formula.inside, inputs, formula.statics, [], [], 1, True, (), family.level.name
        )
        body = Body(region, inputs, [], "B", em.valid_from, timed=False)
        function, clocks = region_body(em, body, *write_token(body))
        em.lowering[family.level.name] = (
            "between ticks: the network is run over each window, and its objective differentiated "
            "in what the window held"
        )
        starts = [
            f'("{c.name}", {self.start(em, c)}, {instants(c.reset)!r})'
            for c in family.cells
            if c.reset.unit == "token" or takes(c.start)
        ]
        keys = [
            (f"{name}@{clock.name or clock.period}", name, instants(clock))
            for name, clock in family.copies
        ]
        cuts = [(c.name, instants(c.cut)) for c in family.cells if c.cut is not None]
        statics = parts([fn.tensor(fn.value(n)) for n in formula.statics])
        names = tuple(c.name for c in family.cells)
        return record(
            every=instants(family.clock, family.first),
            waits=family.waits,
            slopes=tuple(family.slopes),
            tick=function,
            cells=names,
            takes=tuple(taken),
            statics=statics,
            clocks=tuple(clocks),
            starts=parts(starts),
            copies=tuple(keys),
            copied={key: source for key, source, _ in keys},
            cuts=tuple(cuts),
            state=names + tuple(key for key, _, _ in keys),
        )
