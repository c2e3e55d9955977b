"""A region -> the function that computes one piece of it, and the line of its block that rolls it over the tokens.

A piece is computed by matrix products where every memory is affine in itself (`lowerings.affine`), else token by token.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from nldsl.graph.equations import Axis, Clock, Node, Shape, walk
from nldsl.schedule.cells import Cell, Unsupported
from nldsl.schedule.plan import STATE, Region
from nldsl.step.lowerings.affine import NotAffine, Solver
from nldsl.step.lowerings.temporal import TEMPORAL
from nldsl.step.source import Fn, Ref, prune

if TYPE_CHECKING:
    from nldsl.step.emit import Carry, Emitter

NEVER = Clock("never", 0)


def call_region(em: Emitter, fn: Fn, carry: Carry, region: Region) -> None:
    inputs = region.inputs or em.any_input
    streams = [fn.value(n) for n in inputs]
    statics = [fn.value(n) for n in region.statics]
    starts = [fn.value(s) for s in resets(region)]
    state_names = [c.name for c in region.cells] + [f"{m}@{c.name or c.period}" for m, c in region.holds]
    shapes = [c.shape for c in region.cells] + [next(x.shape for x in region.cells if x.name == m) for m, _ in region.holds]
    taken = []
    owners = region.cells + [next(x for x in region.cells if x.name == m) for m, _ in region.holds]
    copied = [None] * len(region.cells) + [clock for _, clock in region.holds]
    for name, shape, cell, clock in zip(state_names, shapes, owners, copied):
        em.carries[name] = (shape, "state")
        if cell.lasts:
            em.lasting[name] = (cell.name, cell.life, clock if clock is not None and clock.unit == "sequence" else NEVER)
        taken.append(carry.take(name))
    function, chunk, clocks = region_function(em, region, inputs, starts)
    em.bodies.append(function)
    given = "".join(fn.over(s) + ", " for s in streams)
    tails = []
    for node, n in windowed(region, inputs):
        if node is None:
            given += f"exists({fn.over(streams[0])}, {n}, position), "
            continue
        name = em.carry_name(node, "tail", (Axis("tail", n - 1), *node.type), carry)
        pair = fn.let(f"lookback({fn.over(fn.value(node))}, {name})", "", (), "pair")
        tails.append(f"{pair.text}[1]")
        given += f"{pair.text}[0], "
    fixed = "".join(fn.tensor(s) + ", " for s in [*statics, *starts])
    ticks = "".join(f"({p}, {f}), " for p, f in clocks)
    call = f"roll({function}, ({''.join(t + ', ' for t in taken)}), ({given}), ({fixed}), position, {chunk}, ({ticks}), mode)"
    rolled = fn.let(call, "", (), "rolled")
    for i in range(len(taken)):
        carry.results.append(f"{rolled.text}[0][{i}]")
    carry.results += tails                                     # in the order in which the names were taken
    for i, node in enumerate(region.outputs):
        fn.env[id(node)] = fn.let(f"{rolled.text}[1][{i}]", "BT", node.type)


def region_function(em: Emitter, region: Region, inputs: list[Node], starts: list[Ref]) -> tuple[str, int, list[tuple[int, int]]]:
    levels = em.schedule.program.levels
    prefix = {c.name: int(bool(c.shape) and c.level in levels and levels[c.level].per is not None) for c in region.cells}
    why = ""
    if all(c.clock.period == 1 and not c.clock.phase for c in region.cells):
        for _ in range(len(region.cells) + 1):
            try:
                made = region_body(em, region, inputs, starts, "BT", dict(prefix))
                em.lowering[region.name] = classify(region)
                return made
            except NotAffine as error:
                why = str(error)
                cell = next((c for c in region.cells if c.name == error.cell), None)
                if cell is None or prefix[cell.name] == len(cell.shape) or len(cell.shape) - prefix[cell.name] > 1:
                    break
                prefix[cell.name] = len(cell.shape)
    em.lowering[region.name] = "scan: token by token" + (f" ({why})" if why else "")
    return region_body(em, region, inputs, starts, "B", prefix)


def region_body(em: Emitter, region: Region, inputs: list[Node], starts: list[Ref], lead: str,
                prefix: dict[str, int]) -> tuple[str, int, list[tuple[int, int]]]:
    fn = Fn(lead)
    cells = {c.name: c for c in region.cells}
    n = len(region.cells)
    state = {c.name: Ref(f"state[{i}]", "B", c.shape) for i, c in enumerate(region.cells)}
    fn.like = "state[0]"
    for node in region.inside:
        if node.op == "held":
            k = region.holds.index((node["memory"], node["clock"]))
            fn.bind(node, f"state[{n + k}]", "B")
    for i, node in enumerate(inputs):
        fn.bind(node, f"streams[{i}]", lead)
    for i, node in enumerate(region.statics):
        fn.bind(node, f"statics[{i}]", "")
    reset = {c.name: f"statics[{len(region.statics) + i}]" for i, c in enumerate(region.cells)
             if starts and c.reset.unit == "token"}
    clocks: list[tuple[int, int]] = []

    def flag(clock: Clock) -> str:
        period, phase = (clock.period, clock.phase) if clock.unit == "token" else (0, 0)    # a sequence ends between two calls
        if (period, phase) not in clocks:
            clocks.append((period, phase))
        return f"ends[{clocks.index((period, phase))}]"

    if bad := next((x for x in region.inside if (x.op in TEMPORAL and x.op != "window") or x.op == "grad_stream"), None):
        raise Unsupported(f"`{bad.op}` inside the recurrence of `{region.cells[0].name}`", bad)
    if lead == "BT" and any(x.op == "window" for x in region.inside):
        raise NotAffine("an objective over a sliding window")
    if lead == "BT":
        fn.lines.append("B, T = streams[0].shape[:2]")
        nodes = walk(*region.outputs, *(c.next for c in region.cells))
        solver = Solver(fn, cells, state, prefix, {x["memory"] for x in nodes if x.op == "read"})
        after = {name: solver.last(solver.solve(name)) for name in cells}
        outputs = [solver.over_tokens(solver.plain(solver.value(x))).text for x in region.outputs]
    else:
        for name, ref in state.items():
            for node in region.inside:
                if node.op == "read" and node["memory"] == name:
                    fn.bind(node, ref.text, "B")
        fn.lazy["window"] = lambda node: window(em, fn, region, inputs, node)
        after = {}
        for cell in in_order(region):
            new = fn.value(cell.next)
            text = expand(fn, new, state[cell.name].text, cell.shape)
            if cell.clock.period > 1 or cell.clock.phase:
                text = fn.let(f"pick({flag(cell.clock)}, {text}, {state[cell.name].text})", "B", cell.shape).text
            after[cell.name] = text
            for node in walk(*region.outputs, *(c.next for c in region.cells)):
                if node.op == "now" and node["memory"] == cell.name:
                    fn.bind(node, text, "B")
        outputs = [expand(fn, fn.value(x), "state[0]", x.type) for x in region.outputs]
    held = {}
    for cell in region.cells:
        if cell.name in reset:
            start = f"{reset[cell.name]}.expand_as({state[cell.name].text})"
            after[cell.name] = fn.let(f"pick({flag(cell.reset)}, {start}, {after[cell.name]})", "B", cell.shape).text
    for k, (memory, clock) in enumerate(region.holds):
        cell = cells[memory]
        copy = fn.let(f"pick({flag(clock)}, {after[memory]}, state[{n + k}])", "B", cell.shape).text
        if memory in reset:
            start = f"{reset[memory]}.expand_as(state[{n + k}])"
            copy = fn.let(f"pick({flag(cell.reset)}, {start}, {copy})", "B", cell.shape).text
        held[k] = copy
    for cell in region.cells:
        if cell.cut is not None:                               # at the end of the instant: later tokens are cut, this one is not
            seen = flag(cell.cut)
            after[cell.name] = fn.let(f"pick({seen}, {after[cell.name]}.detach(), {after[cell.name]})", "B", cell.shape).text
            for k, (memory, _) in enumerate(region.holds):
                if memory == cell.name:
                    held[k] = fn.let(f"pick({seen}, {held[k]}.detach(), {held[k]})", "B", cell.shape).text
    new = [after[c.name] for c in region.cells] + [held[k] for k in range(len(region.holds))]
    body = prune(fn.lines, [*new, *outputs])
    body.append(f"return ({''.join(x + ', ' for x in new)}), ({''.join(x + ', ' for x in outputs)})")
    if lead == "B":
        inner = em.define("token", "state, streams, statics, ends", body)
        body = [f"state, outs = {inner}(state, tuple(x[:, 0] for x in streams), statics, ends)",
                "return state, tuple(x.unsqueeze(1) for x in outs)"]
    name = em.define("region", "state, streams, statics, ends", body)
    return name, region.chunk if lead == "BT" else 1, clocks


def window(em: Emitter, fn: Fn, region: Region, inputs: list[Node], node: Node) -> Ref:
    """A term of this instant's memory over the last tokens: the streams look back, the memory does not."""
    extra, ids = windowed(region, inputs), {id(x) for x in inputs}
    inner = fn.child()
    inner.token_lead = "BT"
    for part in walk(node.args[0]):
        if id(part) in ids:
            at = len(inputs) + extra.index((part, node["length"]))
            inner.bind(part, f"streams[{at}]", "BT")
        elif part.op in STATE or (id(part) in fn.env and fn.env[id(part)].lead == ""):
            inner.env[id(part)] = fn.value(part)
    term = inner.value(node.args[0])
    mask = f"streams[{len(inputs) + extra.index((None, node['length']))}]"
    rank = len(node.type)
    shaped = mask + "[" + ":, " * 2 + "None, " * rank + "]" if rank else mask
    total = f"({fn.tensor(term)} * {shaped}).sum(1)" if term.lead == "BT" else f"{fn.align(term, 'B', rank)} * {shaped}.sum(1)"
    if node["how"] == "mean":
        total = f"{total} / {shaped}.sum(1)"
    return fn.let(total, "B", node.type)


def resets(region: Region) -> list[Node]:
    """Starts that a region returns to within a sequence: one for each cell, or none."""
    return [c.start for c in region.cells] if any(c.reset.unit == "token" for c in region.cells) else []


def windowed(region: Region, inputs: list[Node]) -> list[tuple[Node | None, int]]:
    """Inputs that a sliding window of the region looks back on, with its length; (None, n) for which of the tokens exist."""
    ids = {id(x): x for x in inputs}
    found: dict[tuple[int, int], tuple[Node | None, int]] = {}
    for node in region.inside:
        if node.op == "window":
            for part in walk(node.args[0]):
                if id(part) in ids:
                    found[id(part), node["length"]] = (part, node["length"])
            found[0, node["length"]] = (None, node["length"])
    return list(found.values())


def expand(fn: Fn, ref: Ref, like: str, shape: Shape) -> str:
    """Text of the value with its batch dimension."""
    text = fn.tensor(ref)
    if ref.lead == "":
        return fn.let(f"{text}.expand({like}.shape[0], {', '.join(str(a.size) for a in shape)})", "B", shape).text
    return text


def in_order(region: Region) -> list[Cell]:
    """Cells so that one whose `now` another reads comes first."""
    names = {c.name: c for c in region.cells}
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in path:
            raise Unsupported(f"`{name}` at a token needs itself at that token", names[name].next)
        for node in walk(names[name].next):
            if node.op == "now" and node["memory"] in names and node["memory"] != name:
                visit(node["memory"], (*path, name))
        done.append(name)

    for name in names:
        visit(name, ())
    return [names[n] for n in done]


def classify(region: Region) -> str:
    """What a reader calls the lowering of this region."""
    anchored = bool(region.holds)
    names = {c.name for c in region.cells}
    fresh = any(n.op in ("now", "read") and n["memory"] in names for x in region.outputs for n in walk(x))
    erases = any(n.op == "eye" for n in walk(*(c.next for c in region.cells)))
    if anchored and fresh:
        return "dual form: gradients at the chunk start, fresh reads by masked products, no state per token"
    if anchored:
        return "stale form: batched products, one state per chunk" + (", erases solved in WY form" if erases else "")
    return "chunked recurrence" + (" in WY form" if erases else "")
