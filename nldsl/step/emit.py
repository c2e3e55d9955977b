"""SCHEDULE -> PYTHON: readable source of one training step, one function per distinct block.

    forward(W, inputs, carry, position, mode)   all blocks in order; returns the wanted streams and the new carry
    start(W, batch)                             the carry before the first token of a sequence
    block_i(..)                                 a run of streams and regions (a layer); equal layers share one function
    region_i(state, streams, statics, ends)     one piece of tokens of memories that learn while they read
"""
from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nldsl.graph.equations import Axis, Node, Shape, walk
from nldsl.schedule.cells import Unsupported
from nldsl.schedule.plan import STATE, Block, Region, Schedule, moving
from nldsl.step.lowerings import runtime
from nldsl.step.lowerings.affine import NotAffine, Solver
from nldsl.step.source import Fn, Ref


@dataclass
class Emitted:
    """The forward part of a step. `lowering` says for each region how its update is computed; `functions` are what is compiled."""

    text: str
    functions: list[str]
    block_of: list[str]                       # function of each block, in order
    carries: dict[str, tuple[Shape, str]]     # carried tensors: shape without batch, kind ("state", "tail", "before")
    lowering: dict[str, str]
    randoms: dict[str, tuple[Shape, float]] = field(default_factory=dict)


class _Carry:
    """What one function takes from the previous call and gives to the next."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.results: list[str] = []

    def take(self, name: str) -> str:
        self.names.append(name)
        return f"c{len(self.names)}"


class Emitter:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.functions: dict[str, str] = {}                     # body -> name
        self.texts: list[str] = []
        self.carries: dict[str, tuple[Shape, str]] = {}
        self.lowering: dict[str, str] = {}
        self.bodies: list[str] = []                             # functions worth compiling: streams of a block, one piece of a region
        order = list(walk(*schedule.outputs.values(), *(c.next for c in schedule.cells.cells.values())))
        self.token = moving(order)
        self.shifted: set[int] = set()
        for node in order:
            if node.op == "ahead" or any(id(a) in self.shifted for a in node.args):
                self.shifted.add(id(node))
        for region in schedule.regions:
            if bad := next((n for n in region.inside if id(n) in self.shifted), None):
                raise Unsupported("an objective of a memory on the token clock that looks one token ahead", bad)

    # -- functions

    def define(self, stem: str, arguments: str, body: list[str]) -> str:
        text = arguments + "\n" + "\n".join(body)
        if text not in self.functions:
            name = self.functions[text] = f"{stem}_{1 + sum(n.startswith(stem + '_') for n in self.functions.values())}"
            self.texts.append(f"def {name}({arguments}):\n" + "\n".join("    " + line for line in body) + "\n")
        return self.functions[text]

    def weights_of(self, roots: Sequence[Node], stop: set[int]) -> list[Node]:
        """Weights (and held step-clock memories) that the roots reach without crossing `stop`, in order of use."""
        seen, out, stack = set(), [], list(reversed(roots))
        while stack:
            node = stack.pop()
            if id(node) in seen or id(node) in stop:
                continue
            seen.add(id(node))
            if node.op in ("weight", "random") or (node.op == "read" and node["memory"] not in self.schedule.cells.cells):
                out.append(node)
            stack.extend(reversed(node.args))
        return out

    def block(self, block: Block) -> tuple[str, list[str]]:
        """Emits a block; returns its function and the line that calls it."""
        fn, carry = Fn(), _Carry()
        made = {id(n) for item in block.items for n in (item.outputs if isinstance(item, Region) else [item])}
        inputs = {id(n): n for n in block.inputs}
        roots: list[Node] = []
        for item in block.items:
            roots += (item.inputs + item.statics) if isinstance(item, Region) else list(item.args)
            if not isinstance(item, Region) and item.op == "input":
                inputs.setdefault(id(item), item)
        for root in roots:
            for node in walk(root):
                if node.op == "input":
                    inputs.setdefault(id(node), node)
        names = [f"x{i + 1}" for i in range(len(inputs))]
        for name, node in zip(names, inputs.values()):
            fn.bind(node, name, "BT")
        weights = self.weights_of(roots, made | set(inputs))
        for i, node in enumerate(weights):
            fn.bind(node, f"w{i + 1}", "")
        fn.like = next((f"w{i + 1}" for i, w in enumerate(weights) if w.op != "random"), names[0] if names else "None")
        line = None
        for item in block.items:
            if isinstance(item, Region):
                self.call_region(fn, carry, item)
                continue
            if item.op == "input":
                continue
            if item.span is not None and item.span.line != line:
                line = item.span.line
                fn.lines.append(f"# {item.span.source.name}:{line}  {item.span.source.line(line).strip()[:80]}")
            self.stream(fn, carry, item)
        results = [fn.tensor(fn.env[id(n)]) for n in block.outputs]
        body = prune(fn.lines, [*results, *carry.results])
        body.append(f"return ({''.join(r + ', ' for r in results)}), ({''.join(r + ', ' for r in carry.results)})")
        arguments = ", ".join([*names, *(f"w{i + 1}" for i in range(len(weights))),
                               *(f"c{i + 1}" for i in range(len(carry.names))), "position", "mode"])
        function = self.define("block", arguments, body)
        values = [self.local(n) for n in inputs.values()] + [f'W["{weight_name(w)}"]' for w in weights] + \
            [f'carry["{c}"]' for c in carry.names]
        outs = "".join(self.local(n) + ", " for n in block.outputs)
        news = "".join(f'new["{c}"], ' for c in carry.names)
        return function, [f"({outs}), ({news}) = {function}({', '.join([*values, 'position', 'mode'])})"]

    def local(self, node: Node) -> str:
        if node.op == "input":
            return f'inputs["{node["name"]}"]'
        if id(node) not in self._locals:
            self._locals[id(node)] = f"s{len(self._locals) + 1}"
        return self._locals[id(node)]

    _locals: dict[int, str]

    def stream(self, fn: Fn, carry: _Carry, node: Node) -> None:
        """A stream over all tokens of the call."""
        args = [fn.value(a) for a in node.args]
        late = id(node) in self.shifted
        if node.op == "ahead":
            name = self.carry_name(node.args[0], "before", node.args[0].type, carry)
            fn.env[id(node)] = fn.let(f"newest({args[0].text}, {name})", "BT", node.type)
            carry.results.append(f"{args[0].text}[:, -1:]")
            return
        if late:
            for i, (arg, child) in enumerate(zip(args, node.args)):
                if arg.lead and id(child) not in self.shifted:
                    name = self.carry_name(child, "before", child.type, carry)
                    args[i] = fn.let(f"behind({arg.text}, {name})", "BT", child.type)
                    carry.results.append(f"{arg.text}[:, -1:]")
        if node.op in TEMPORAL:
            if late:
                raise Unsupported(f"`{node.op}` of something one token ahead", node)
            TEMPORAL[node.op](self, fn, carry, node, args)
            return
        fn.env[id(node)] = fn.emit(node, args)

    def carry_name(self, node: Node, kind: str, shape: Shape, carry: _Carry) -> str:
        name = f"{kind}.{len([c for c in self.carries if c.startswith(kind + '.')]) + 1}"
        self.carries[name] = (shape, kind)
        return carry.take(name)

    # -- regions

    def call_region(self, fn: Fn, carry: _Carry, region: Region) -> None:
        inputs = region.inputs or [next(iter(self.schedule.program.inputs.values()))]
        streams = [fn.value(n) for n in inputs]
        statics = [fn.value(n) for n in region.statics]
        starts = [fn.value(c.start) if region_resets(region) else None for c in region.cells]
        state_names = [c.name for c in region.cells] + [f"{m}@{c.name or c.period}" for m, c in region.holds]
        shapes = [c.shape for c in region.cells] + [next(x.shape for x in region.cells if x.name == m) for m, _ in region.holds]
        taken = []
        for name, shape in zip(state_names, shapes):
            self.carries[name] = (shape, "state")
            taken.append(carry.take(name))
        function, chunk, clocks = self.region(region, inputs, starts)
        self.bodies.append(function)
        given = "".join(fn.over(s) + ", " for s in streams)
        for node, n in windowed(region, inputs):
            if node is None:
                given += f"exists({fn.over(streams[0])}, {n}, position), "
                continue
            name = self.carry_name(node, "tail", (Axis("tail", n - 1), *node.type), carry)
            pair = fn.let(f"lookback({fn.over(fn.value(node))}, {name})", "", (), "pair")
            carry.results.append(f"{pair.text}[1]")
            given += f"{pair.text}[0], "
        fixed = "".join(fn.tensor(s) + ", " for s in [*statics, *(s for s in starts if s is not None)])
        ticks = "".join(f"({p}, {f}), " for p, f in clocks)
        call = f"roll({function}, ({''.join(t + ', ' for t in taken)}), ({given}), ({fixed}), position, {chunk}, ({ticks}), mode)"
        rolled = fn.let(call, "", (), "rolled")
        for i in range(len(taken)):
            carry.results.append(f"{rolled.text}[0][{i}]")
        for i, node in enumerate(region.outputs):
            fn.env[id(node)] = fn.let(f"{rolled.text}[1][{i}]", "BT", node.type)

    def region(self, region: Region, inputs: list[Node], starts: list[Ref | None]) -> tuple[str, int, list[tuple[int, int]]]:
        levels = self.schedule.program.levels
        prefix = {c.name: int(c.level in levels and levels[c.level].per is not None) for c in region.cells}
        why = ""
        if all(c.clock.period == 1 and not c.clock.phase for c in region.cells):
            for _ in range(len(region.cells) + 1):
                try:
                    made = self.region_body(region, inputs, starts, "BT", dict(prefix))
                    self.lowering[region.name] = classify(region)
                    return made
                except NotAffine as error:
                    why = str(error)
                    cell = next((c for c in region.cells if c.name == error.cell), None)
                    if cell is None or prefix[cell.name] == len(cell.shape) or len(cell.shape) - prefix[cell.name] > 1:
                        break
                    prefix[cell.name] = len(cell.shape)
        self.lowering[region.name] = "scan: token by token" + (f" ({why})" if why else "")
        return self.region_body(region, inputs, starts, "B", prefix)

    def region_body(self, region: Region, inputs: list[Node], starts: list[Ref | None], lead: str,
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
        reset = {c.name: f"statics[{len(region.statics) + i}]" for i, c in enumerate(region.cells) if starts[i] is not None}
        clocks: list[tuple[int, int]] = []

        def flag(period: int, phase: int) -> str:
            if (period, phase) not in clocks:
                clocks.append((period, phase))
            return f"ends[{clocks.index((period, phase))}]"

        if bad := next((x for x in region.inside if (x.op in TEMPORAL and x.op != "window") or x.op == "grad_stream"), None):
            raise Unsupported(f"`{bad.op}` inside the recurrence of `{region.cells[0].name}`", bad)
        if lead == "BT" and any(x.op == "window" for x in region.inside):
            raise NotAffine("an objective over a sliding window")
        if lead == "BT":
            fn.lines.append("B, T = streams[0].shape[:2]")
            solver = Solver(fn, cells, state, prefix)
            after = {name: solver.last(solver.solve(name)) for name in cells}
            outputs = [solver.over_tokens(solver.plain(solver.value(x))).text for x in region.outputs]
        else:
            for name, ref in state.items():
                for node in region.inside:
                    if node.op == "read" and node["memory"] == name:
                        fn.bind(node, ref.text, "B")
            fn.lazy["window"] = lambda node: self.window(fn, region, inputs, node)
            after = {}
            for cell in in_order(region):
                new = fn.value(cell.next)
                text = expand(fn, new, state[cell.name].text, cell.shape)
                if cell.clock.period > 1 or cell.clock.phase:
                    text = fn.let(f"pick({flag(cell.clock.period, cell.clock.phase)}, {text}, {state[cell.name].text})", "B", cell.shape).text
                after[cell.name] = text
                for node in walk(*region.outputs, *(c.next for c in region.cells)):
                    if node.op == "now" and node["memory"] == cell.name:
                        fn.bind(node, text, "B")
            outputs = [expand(fn, fn.value(x), "state[0]", x.type) for x in region.outputs]
        held = {}
        for cell in region.cells:
            if cell.name in reset:
                start = f"{reset[cell.name]}.expand_as({state[cell.name].text})"
                after[cell.name] = fn.let(f"pick({flag(cell.reset.period, cell.reset.phase)}, {start}, {after[cell.name]})", "B", cell.shape).text
        for k, (memory, clock) in enumerate(region.holds):
            cell = cells[memory]
            copy = fn.let(f"pick({flag(clock.period, clock.phase)}, {after[memory]}, state[{n + k}])", "B", cell.shape).text
            if memory in reset:
                start = f"{reset[memory]}.expand_as(state[{n + k}])"
                copy = fn.let(f"pick({flag(cell.reset.period, cell.reset.phase)}, {start}, {copy})", "B", cell.shape).text
            held[k] = copy
        new = [after[c.name] for c in region.cells] + [held[k] for k in range(len(region.holds))]
        body = prune(fn.lines, [*new, *outputs])
        body.append(f"return ({''.join(x + ', ' for x in new)}), ({''.join(x + ', ' for x in outputs)})")
        if lead == "B":
            inner = self.define("token", "state, streams, statics, ends", body)
            body = [f"state, outs = {inner}(state, tuple(x[:, 0] for x in streams), statics, ends)",
                    "return state, tuple(x.unsqueeze(1) for x in outs)"]
        name = self.define("region", "state, streams, statics, ends", body)
        return name, region.chunk if lead == "BT" else 1, clocks

    def window(self, fn: Fn, region: Region, inputs: list[Node], node: Node) -> Ref:
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

    # -- the module

    def emit(self) -> Emitted:
        self._locals = {}
        calls: list[str] = []
        order: list[str] = []
        for block in self.schedule.blocks:
            function, lines = self.block(block)
            order.append(function)
            if not isinstance(block.items[0], Region):
                self.bodies.append(function)
            calls += lines
        results = "".join(f'"{name}": {self.local(node)}, ' for name, node in self.schedule.outputs.items())
        body = ["new = {}", *calls, "return {" + results + "}, new"]
        text = "\n".join(self.texts)
        text += "\ndef forward(W, inputs, carry, position, mode):\n" + "\n".join("    " + line for line in body) + "\n"
        text += "\n" + self.start()
        return Emitted(PRELUDE + used_runtime(text) + "\n" + text, list(dict.fromkeys(self.bodies)), order, self.carries, self.lowering)

    def start(self) -> str:
        """The carry of a fresh sequence: starts of memories, empty tails; `before` values do not exist yet."""
        fn = Fn("")
        cells = self.schedule.cells.cells
        live = [c for r in self.schedule.regions for c in r.cells]
        weights = self.weights_of([c.start for c in live], set())
        for node in weights:
            fn.bind(node, f'W["{weight_name(node)}"]', "")
        fn.like = fn.env[id(weights[0])].text if weights else "like"
        fn.lines.append("carry = {}")
        for name, (shape, kind) in self.carries.items():
            sizes = ", ".join(str(a.size) for a in shape)
            memory = name.split("@")[0]
            if kind == "state":
                ref = fn.value(cells[memory].start)
                fn.lines.append(f'carry["{name}"] = {fn.tensor(ref)}.expand(batch, {sizes})')
            elif kind == "before":
                fn.lines.append(f'carry["{name}"] = None')
            else:
                sizes = f"0, {sizes}" if kind == "past" else sizes
                fn.lines.append(f'carry["{name}"] = like.new_zeros((batch, {sizes}))')
        body = fn.lines + ["return carry"]
        return "def start(W, batch, like):\n" + "\n".join("    " + line for line in body) + "\n"


def _conv(em: Emitter, fn: Fn, carry: _Carry, node: Node, args: list[Ref]) -> None:
    x, kernel = args
    width = node.args[1].type[0].size
    tail = em.carry_name(node, "tail", (Axis("tail", width - 1), *node.type), carry)
    pair = fn.let(f"conv({fn.over(x)}, {kernel.text}, {tail})", "", (), "pair")
    carry.results.append(f"{pair.text}[1]")
    fn.env[id(node)] = fn.let(f"{pair.text}[0]", "BT", node.type)


def _rope(em: Emitter, fn: Fn, carry: _Carry, node: Node, args: list[Ref]) -> None:
    fn.env[id(node)] = fn.let(f"rope({fn.over(args[0])}, {node['base']!r}, position)", "BT", node.type)


def _attend(em: Emitter, fn: Fn, carry: _Carry, node: Node, args: list[Ref]) -> None:
    """Keys and values of earlier tokens are carried; a window keeps only what it still sees."""
    q, groups = args[0], []
    for i, (score_eq, value_eq, span) in enumerate(node["groups"]):
        k, v = args[1 + 2 * i], args[2 + 2 * i]
        left, scores = score_eq.split("->")
        lq, lk = left.split(",")
        _, values = value_eq.split("->")[0].split(",")
        out = value_eq.split("->")[1]
        pairs = "".join(c for c in scores if c not in out)
        heads = "".join(c for c in scores if c not in pairs)
        if span is None:
            kt, vt = fn.tensor(k), fn.tensor(v)
            eqs = f"BT{lq},{k.lead}{lk}->BT{heads}{pairs}", f"BT{heads}{pairs},{v.lead}{values}->BT{out}"
            text = "None"
        else:
            kept = []
            for x, child in ((k, node.args[1 + 2 * i]), (v, node.args[2 + 2 * i])):
                over = x.text if x.lead == "BT" else fn.let(f"{fn.tensor(x)}.expand(*{fn.over(q)}.shape[:2], "
                                                            f"{', '.join(str(a.size) for a in x.shape)})", "BT", x.shape).text
                name = em.carry_name(child, "past", child.type, carry)
                all_ = fn.let(f"torch.cat([{name}, {over}], 1)", "BT", x.shape)
                kept.append(all_.text)
                carry.results.append(all_.text if span[0] == "since" else f"{all_.text}[:, -{span[1] - 1}:]" if span[1] > 1 else f"{all_.text}[:, :0]")
            kt, vt = kept
            eqs = f"BT{lq},BJ{lk}->BT{heads}{pairs}J", f"BT{heads}{pairs}J,BJ{values}->BT{out}"
            text = repr(span) if span[0] == "last" else repr(("since", span[1].period if span[1].unit == "token" else 0, span[1].phase))
        groups.append(f"({kt}, {vt}, {eqs[0]!r}, {eqs[1]!r}, {2 + len(heads)}, {text}), ")
    fn.env[id(node)] = fn.let(f"attend({fn.over(q)}, ({''.join(groups)}), {node['scale']!r}, position)", "BT", node.type)


def _window(em: Emitter, fn: Fn, carry: _Carry, node: Node, args: list[Ref]) -> None:
    """A sum or mean over the last tokens of a stream that no memory of the sequence takes part in."""
    n = node["length"]
    like = next(iter(r for r in fn.env.values() if r.lead == "BT" and r.shape)) if args[0].lead != "BT" else args[0]
    x = fn.over(args[0]) if args[0].lead == "BT" else fn.let(
        f"{fn.tensor(args[0])}.expand(*{like.text}.shape[:2], {', '.join(str(a.size) for a in node.type)})", "BT", node.type).text
    tail = em.carry_name(node, "tail", (Axis("tail", n - 1), *node.type), carry)
    pair = fn.let(f"lookback({x}, {tail})", "", (), "pair")
    carry.results.append(f"{pair.text}[1]")
    total = f"{pair.text}[0].sum(2)"
    if node["how"] == "mean":
        total += f" / exists({x}, {n}, position).sum(2)" + ("[" + ":, " * 2 + "None, " * len(node.type) + "]" if node.type else "")
    fn.env[id(node)] = fn.let(total, "BT", node.type)


TEMPORAL = {"conv": _conv, "rope": _rope, "attend": _attend, "window": _window}
PRELUDE = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor\n\n\n"


def used_runtime(text: str) -> str:
    """Source of the runtime functions that the text calls, and of those that they call."""
    library = {name: inspect.getsource(f) for name, f in vars(runtime).items()
               if inspect.isfunction(f) and f.__module__ == runtime.__name__}
    wanted: list[str] = []
    frontier = [text]
    while frontier:
        source = frontier.pop()
        for name in library:
            if name not in wanted and re.search(rf"\b{name}\(", source):
                wanted.append(name)
                frontier.append(library[name])
    return "\n\n".join(library[n] for n in library if n in wanted)


def prune(lines: list[str], results: Sequence[str]) -> list[str]:
    """Drops assignments that nothing uses."""
    needed = set(re.findall(r"[A-Za-z_]\w*", " ".join(results)))
    kept = []
    for line in reversed(lines):
        target, _, expression = line.partition(" = ")
        names = re.findall(r"\w+", target)
        if line.startswith("#") or line.startswith("B, T") or not names or names[0] in needed:
            kept.append(line)
            needed |= set(re.findall(r"[A-Za-z_]\w*", expression))
    return kept[::-1]


def weight_name(node: Node) -> str:
    return node["name"] if node.op == "weight" else f"random:{node['name']}" if node.op == "random" else node["memory"]


def region_resets(region: Region) -> bool:
    return any(c.reset.unit == "token" for c in region.cells)


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


def in_order(region: Region) -> list:
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
