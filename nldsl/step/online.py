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

from nldsl.core.nodes import Node, walk
from nldsl.core.program import NEVER, STATE, TOKEN, Clock
from nldsl.schedule.objectives import Slope
from nldsl.schedule.online import Family, Online, at_a_tick
from nldsl.schedule.plan import Block, Region, fixed_parts
from nldsl.step.layout import defined
from nldsl.step.listing import Draft
from nldsl.step.lowerings.body import Body, instants
from nldsl.step.lowerings.token_scan import write_token
from nldsl.step.regions import region_body
from nldsl.step.source import Fn, Ref, parts, prune

if TYPE_CHECKING:
    from nldsl.step.emit import Emitter

# of what is carried: as it stood when the oldest window opened that may have to be run again
SINCE = "start of "


def record(kind: str, **fields: object) -> str:
    """A record of the emitted driver: see `runtime/inner_loop.py`."""
    return f"{kind}({', '.join(f'{name}={text}' for name, text in fields.items())})"


def rows_of(name: str, records: list[str]) -> str:
    return f"{name} = {parts(records)}"


class Part:
    def __init__(self, online: Online) -> None:
        self.online = online
        self.steady = online.steady
        self.ahead: list[Node] = []
        self.known = set(online.held)
        self.names = {node: name for name, node in online.rows.items()}
        self.streams = {x: name for s in online.slopes for name, x in s.streams.items()}
        self.nudged: set[Node] = set()
        self.carried: list[
            str
        ] = []  # what is carried also as it stood at the start of what is run again

    def take(self, nodes: list[Node]) -> None:
        """Registers what is given one token later."""
        self.ahead = [n for n in dict.fromkeys(nodes) if n.op == "ahead"]
        self.known |= {n for n in self.ahead}

    def given(self, node: Node) -> str | None:
        if node in self.online.held:
            return f'held["{self.online.held[node]}"]'
        if node in self.ahead:
            return f"rows[{len(self.online.given) + self.ahead.index(node)}]"
        return f"rows[{self.online.given.index(node)}]" if node in self.online.given else None

    # -- derivatives of one stream in another: zeros that are added to it

    def nudges(self, block: Block) -> dict[str, str]:
        made = [
            n
            for item in block.items
            for n in (item.outputs if isinstance(item, Region) else [item])
            if n in self.streams
        ]
        return {self.zero(n): f'held["{self.streams[n]}"]' for n in made}

    def zero(self, node: Node) -> str:
        return "z" + self.streams[node].removeprefix("nudge ")

    def nudge(self, fn: Fn, item: Node | Region) -> None:
        for node in item.outputs if isinstance(item, Region) else [item]:
            if node in self.streams:
                ref = fn.env[node]
                zero = self.zero(node)
                fn.env[node] = fn.let(
                    f"{fn.tensor(ref)} + {zero if ref.lead == 'B' else zero + '.unsqueeze(1)'}",
                    ref.lead or "B",
                    node.shape,
                )
                self.nudged.add(node)

    # -- functions

    def emit(self, em: Emitter, order: list[str]) -> tuple[list[str], dict[str, str]]:
        """Emits the functions of this part; returns the lines that call it, and the text of each
        output that it makes.
        """
        online, schedule = self.online, em.schedule
        before, compiled = set(em.carries), len(em.bodies)
        calls = self.blocks(em, order)
        names = {
            name: self.names.setdefault(node, name)
            for name, node in schedule.outputs.items()
            if node in online.ids
        }
        made = {
            self.names[node]: node
            for node in [*online.rows.values(), *schedule.outputs.values()]
            if node in self.names
        }
        rows = {name: self.row(em, node) for name, node in made.items()}
        body = [
            "new = {}",
            *calls,
            "return {" + ", ".join(f'"{name}": {text}' for name, text in rows.items()) + "}, new",
        ]
        em.texts.append(defined("piece(W, held, rows, carry, position, mode)", body))
        late = sorted(
            {self.names[n] for n in made.values() if any(x.op == "ahead" for x in walk(n))}
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

    def blocks(self, em: Emitter, order: list[str]) -> list[str]:
        """The functions of the blocks of a piece; the lines that call them."""
        calls = []
        for block in (b for b in em.schedule.blocks if b.online):
            function, lines = em.block(block)
            order.append(function)
            calls += lines
            if not isinstance(block.items[0], Region):
                em.bodies.append(function)
        for slope in self.online.slopes:
            assert self.nudged.issuperset(slope.streams.values()), "limits, slope_of_a_past"
        return calls

    def row(self, em: Emitter, node: Node) -> str:
        """Text of what a piece gives of a stream, at each of its tokens."""
        text = em.local(node, True)
        if node not in self.steady:
            return text
        axes = "-1, " * len(node.shape)
        return f"{text}.unsqueeze(1).expand(-1, rows[0].shape[1], {axes})"

    def held(self, em: Emitter) -> list[str]:
        """The names of what is held between ticks, which is carried."""
        held: list[str] = []
        for family in self.online.families:
            for state in (*family.states, *family.copies):
                em.carry_state(state)
                held.append(state.name)
                assert not (state.life.outlives and family.clock != TOKEN), (
                    "limits, task_that_outlives"
                )
        return held

    def driver(self, em: Emitter, carried: list[str], late: list[str]) -> None:
        online, fn, held = self.online, Fn("B"), self.held(em)
        self.carried = [*held, *carried]
        for i, node in enumerate(online.given):
            em.carries[f"rows.{i + 1}"] = node.shape, "before"
        statics = [s for f in online.families for s in f.tick.statics]
        for node in em.weights_of(statics, set()):
            fn.bind(node, em.weight(node), "")
        fn.like = "like"
        slopes = [self.slope(em, i) for i in range(len(online.slopes))]
        families = [self.family(em, fn, f) for f in online.families]
        count = len(online.given)
        kept = parts([f'after(carry["rows.{i + 1}"], given[{i}])' for i in range(count)])
        shifted = "".join(f"ahead(rows[{online.given.index(n.args[0])}]), " for n in self.ahead)
        states = [f'"{n}": carry["{SINCE}{n}"]' for n in held]
        for name, x in (item for s in online.slopes for item in s.streams.items()):
            sizes = "".join(f"{a.size}, " for a in x.shape)
            states.append(f'"{name}": like.new_zeros((rows[0].shape[0], {sizes}))')
        since = [f'"{n}": carry["{SINCE}{n}"]' for n in carried]
        lines = [
            f"rows = {kept}",
            "begin = position + given[0].shape[1] - rows[0].shape[1]",
            f"rows = (*rows, {shifted})",
            f'like = carry["{SINCE}{self.carried[0]}"]',
            f"state = {{{', '.join(states)}}}",
            f"carried = {{{', '.join(since)}}}",
            *prune(fn.lines, families),
            rows_of("slopes", slopes),
            rows_of("families", families),
            "def network(held, rows, carry, at):",
            "    return piece(W, held, rows, carry, at, "
            f"{'mode' if not online.families else repr('within')})",
            "return learn(network, slopes, families, "
            f"{tuple(instants(c) for c in online.clocks())!r}, state, rows, carried, begin, "
            "position, "
            f"{count}, {tuple(late)!r}, {self.pending(em, carried)!r})",
        ]
        em.texts.append(defined("online(W, given, carry, position, mode)", lines))

    def pending(self, em: Emitter, carried: list[str]) -> tuple[str, ...]:
        """Of what is carried, the states whose last tick waits for the next token."""
        return tuple(
            name
            for name in sorted(set(carried) & set(em.kept))
            if (em.kept[name].copies or name) in self.online.pending
        )

    def slope(self, em: Emitter, i: int) -> str:
        slope = self.online.slopes[i]
        level = em.schedule.program.levels.get(slope.level)
        every, reset = (TOKEN, NEVER) if level is None else (level.clock, level.reset)
        first = em.valid_from(slope.objective) if level else 0
        function = self.objective(em, i, every)
        return record(
            "Slope",
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
            formula.statics + [online.folds[n][0] for n in formula.taken if n in online.folds],
            set(),
        ):
            fn.bind(node, em.weight(node), "")
        for node in formula.rows:
            fn.env[node] = fn.let(f'rows["{self.names[node]}"][:, -1]', "B", node.shape)
        for node in formula.taken:
            if node in online.held:
                fn.bind(node, f'held["{online.held[node]}"]', "B")
        for node in formula.taken:
            if node in online.folds:
                fn.env[node] = self.stretch(em, fn, node, slope, every)
        result = fn.tensor(fn.value(slope.objective))
        given = ("W", "held", "rows", "start", "stop")
        lines = prune(fn.lines, [result])
        return em.written("objective", Draft(given, lines, f"{result}.sum()", {}, fn.made))

    def stretch(self, em: Emitter, fn: Fn, node: Node, slope: Slope, every: Clock) -> Ref:
        """The terms of a stretch of an objective, added up over the rows of its window."""
        term, how, span = self.online.folds[node]
        first = em.valid_from(term)
        start = f"max(start, {first})" if first else "start"
        if whole := span in (slope.level, every):
            n = f"stop - {start}"
        elif isinstance(span, Clock) and span.unit == "token":
            n = f"stop - max({start}, since({instants(span)!r}, stop))"
        else:
            assert isinstance(span, int), span
            n = f"min({span}, stop - {start})"
        if term in self.names:
            rows = f'rows["{self.names[term]}"]'
            those = "" if whole and not first else f"[:, {rows}.shape[1] - ({n}):]"
            text, lead = f"{rows}{those}.sum(1)", "B"
        else:
            ref = fn.value(term)
            text, lead = f"{fn.tensor(ref)} * ({n})", ref.lead
        return fn.let(text + (f" / ({n})" if how == "mean" else ""), lead, node.shape)

    def family(self, em: Emitter, fn: Fn, family: Family) -> str:
        states, formula = at_a_tick(family), family.tick
        inputs = [*formula.taken, *formula.rows]
        taken = [self.online.held.get(n) or self.names.get(n) or n["name"] for n in inputs]
        region = Region(
            states, formula.inside, inputs, formula.statics, [], 1, True, (), family.level.name
        )
        body = Body(region, inputs, "B", em.valid_from, timed=False)
        function, clocks = region_body(em, body, *write_token(body))
        em.lowering[family.level.name] = (
            "between ticks: the network is run over each window, and its objective differentiated "
            "in what the window held"
        )
        return record(
            "Family",
            every=instants(family.clock, family.first),
            waits=family.waits,
            slopes=tuple(family.slopes),
            tick=function,
            moves=tuple(s.name for s in family.states),
            takes=tuple(taken),
            statics=parts([fn.tensor(fn.value(n)) for n in formula.statics]),
            clocks=tuple(clocks),
            state=tuple(s.name for s in (*family.states, *family.copies)),
            **self.settling(em, fn, family),
        )

    def settling(self, em: Emitter, fn: Fn, family: Family) -> dict[str, object]:
        """What follows the ticks of an instant: its function, what that takes of others, which have
        finished the instant if they are slower, and the clocks it asks for.
        """
        states = [*family.states, *family.copies]
        others = {s.next: s.name for f in self.online.families if f is not family for s in f.states}
        own, taken = {s.name for s in states}, dict[Node, str]()
        stack, seen = [s.next for s in states], set[Node]()
        while stack:
            node = stack.pop()
            if node in others or node.op in STATE and node["memory"] not in own:
                taken[node] = others.get(node) or node["memory"]
            elif node not in seen:
                seen.add(node)
                stack.extend(node.args)
        fixed = dict.fromkeys(n for s in family.states for n in fixed_parts(s.start))
        for node in em.weights_of([*fixed], set()):
            fn.bind(node, em.weight(node), "")
        region = Region(states, [], [*taken], [*fixed], [], 1, True, (), family.level.name)
        body = Body(region, [*taken], "B", em.valid_from, timed=False, begins=True)
        draft = body.draft(
            {name: ref.text for name, ref in body.state.items()},
            (),
            em.known.names,
            em.schedule.program.levels,
        )
        return {
            "settle": em.written("settle", draft),
            "others": tuple(taken.values()),
            "starts": parts([fn.tensor(fn.value(n)) for n in fixed]),
            "ends": tuple(body.clocks),
        }
