"""Step-clock levels -> Python: one function per distinct update, one per tick kind.

A tree memory is one flat vector, so an elementwise rule such as AdamW is one fused kernel over all of a level's weights, however
many tensors they are. Leaves are cut out only where a rule speaks of them (Newton-Schulz on each matrix).

    update_i(g.., M.., tick.., planned) -> new values        the equations of one level and of the optimizers it calls
    tick_k(S, G, N, planned)                                 every level that fires in tick kind k, in place, at one instant
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nldsl.graph.equations import Level, Node, Program, Shape, Tree, Type, numel, walk
from nldsl.schedule.algebra import Algebra
from nldsl.schedule.cells import Unsupported
from nldsl.schedule.differentiate import gradient
from nldsl.schedule.timetable import Timetable
from nldsl.step.source import Fn, Ref


@dataclass(frozen=True)
class Hears:
    """The gradient of one fold of a stream: `how` over the tokens since the last tick of `level`, in `memory`."""

    level: str
    memory: str
    stream: str
    how: str

    @property
    def key(self) -> str:
        return f"{self.memory}|{self.stream}"


def size(type: Type) -> int:
    return sum(numel(s) for _, s in type.leaves) if isinstance(type, Tree) else numel(type)


class FlatFn(Fn):
    """Static code in which a tree is a flat vector."""

    def emit(self, node: Node, args: list[Ref]) -> Ref:
        if node.op == "leaf":
            tree = node.args[0].type
            assert isinstance(tree, Tree)
            at = 0
            for path, shape in tree.leaves:
                if path == node["path"]:
                    break
                at += numel(shape)
            sizes = ", ".join(str(a.size) for a in node.type)
            if args[0].literal is not None:
                return Ref(args[0].text, "", node.type, args[0].literal)
            return self.let(f"{args[0].text}[{at}:{at + numel(node.type)}].view({sizes or '()'})", "", node.type)
        if node.op == "tree":
            return self.let(f"torch.cat([{', '.join(self.tensor(a) + '.reshape(-1)' for a in args)}])", "", ())
        if node.op == "total":
            if node["keep"]:
                raise Unsupported("a level on the step clock with one memory for each index of an axis", node)
            (x,) = args
            if x.literal is not None:
                return Ref("", "", (), x.literal * size(node.args[0].type))
            return self.let(f"{x.text}.sum()" if not isinstance(node.args[0].type, Tree) or "." not in x.text else f"({x.text}).sum()", "", ())
        if isinstance(node.type, Tree):
            if node.op == "spread":
                return Ref(args[0].text, "", (), args[0].literal)
            if any(a.type for a in node.args if not isinstance(a.type, Tree)):
                raise Unsupported("an array beside a tree on the step clock", node)
            node = replace(node, type=())
        return super().emit(node, args)

    def bind(self, node: Node, text: str, lead: str) -> Ref:
        ref = self.env[id(node)] = Ref(text, lead, () if isinstance(node.type, Tree) else node.type)
        return ref


class Updates:
    """Emits the updates of a program. `streams` maps the name of a forward output to the node whose folds levels hear."""

    def __init__(self, program: Program, table: Timetable, accumulate: int) -> None:
        self.program, self.table, self.accumulate = program, table, accumulate
        self.al = Algebra()
        self.hears: list[Hears] = []
        self.streams: dict[str, Node] = {}                     # forward output -> node of the program
        self.state: dict[str, int | None] = {}                 # name -> length of the flat vector, None for a scalar
        self.texts: list[str] = []
        self._functions: dict[str, str] = {}
        self._equations: dict[str, Node] = {}
        self.roots = [l for l in program.levels.values() if l.clock.unit == "step" and l.parent is None]
        for level in self.roots:
            for member in self.family(level):
                if member.reset.unit != "never":
                    raise Unsupported("a reset on the step clock", span=member.span, help="reset never")
                for name in member.memories:
                    memory = program.memories[name]
                    self.state[name] = size(memory.type)
                    self._equations[name] = self.rewrite(memory.next)
                self.state[f"{member.name}.tick"] = None
        for level in program.levels.values():
            if level.clock.unit == "never":
                for name in level.memories:
                    self.state[name] = size(program.memories[name].type)
        for heard in self.hears:
            if self.keeps(heard):
                self.state[f"{heard.key}.sum"] = self.state[heard.memory]
                self.state[f"{heard.level}|{heard.stream}.terms"] = None

    def family(self, level: Level) -> list[Level]:
        out = [level]
        for member in out:
            out += [l for l in self.program.levels.values() if l.parent == member.name]
        return out

    def keeps(self, heard: Hears) -> bool:
        """Does the gradient of a step have to wait for a tick?"""
        clock = self.program.levels[heard.level].clock
        return clock.period > 1 or clock.phase > 0 or self.accumulate > 1

    # -- equations

    def rewrite(self, root: Node) -> Node:
        """Inner gradients become their derivatives; the gradient of a task loss becomes a value that the step provides."""
        done: dict[int, Node] = {}
        for node in self.near(root):
            if node.op == "grad":
                level = self.program.levels[self.program.memories[node["memory"]].level]
                done[id(node)] = self.task_gradient(node, level) if self.heard_by(node) else self.inner_gradient(node, done)
            elif node.op in ("held", "held_stream", "input", "random", "load", "window", "grad_stream", "ahead"):
                raise Unsupported(f"`{node.op}` in the update of a level on the step clock", node)
            else:
                done[id(node)] = self.al.call(node, [done[id(a)] for a in node.args])
        return done[id(root)]

    def heard_by(self, node: Node) -> bool:
        """Is this the gradient of a stream, not of something computed at the tick itself?"""
        seen: set[int] = set()
        stack = [node.args[0]]
        while stack:
            part = stack.pop()
            if id(part) not in seen and part.op != "grad":
                seen.add(id(part))
                if part.op == "fold":
                    if not self.local(part):
                        return True
                stack.extend(part.args)
        return False

    def near(self, root: Node) -> list[Node]:
        """Nodes of an equation, arguments first, without the network below the gradient of a stream."""
        seen: set[int] = set()
        out, stack = [], [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                out.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                if node.op != "grad" or not self.heard_by(node):
                    stack.extend((a, False) for a in reversed(node.args))
        return out

    @staticmethod
    def local(node: Node) -> bool:
        return not any(n.op in ("input", "ahead") for n in walk(node))

    def inner_gradient(self, node: Node, done: dict[int, Node]) -> Node:
        objective, point = (done[id(a)] for a in node.args)
        plain = next((n for n in walk(objective) if n.op == "plain" and n["memory"] == node["memory"]), None)
        if plain is None:
            return self.al.const(0, node.type)
        (slope,) = gradient(self.al, objective, [plain], frozenset(id(done[id(c)]) for c in node["context"] if id(c) in done))
        return self.bind(slope, plain, point)

    def bind(self, root: Node, plain: Node, point: Node) -> Node:
        done: dict[int, Node] = {}
        for node in walk(root):
            done[id(node)] = point if node is plain else self.al.call(node, [done[id(a)] for a in node.args])
        return done[id(root)]

    def task_gradient(self, node: Node, level: Level) -> Node:
        objective, point = node.args
        folds = [n for n in walk(objective) if n.op == "fold"]
        done: dict[int, Node] = {}
        inside = {id(x) for f in folds for x in walk(f.args[0])}
        heard: list[Node] = []
        for part in walk(objective):
            if part.op == "fold":
                if part["since"] != level.name:
                    raise Unsupported("a fold on the step clock over another stretch than the level's own period", part, "over period")
                stream = self.stream_of(part.args[0])
                heard_here = Hears(level.name, node["memory"], stream, part["how"])
                if heard_here not in self.hears:
                    self.hears.append(heard_here)
                placeholder = self.al.make("read", type=(), memory=f"fold:{level.name}|{stream}|{part['how']}")
                done[id(part)] = placeholder
                heard.append(placeholder)
            elif id(part) not in inside or part.op in ("const", "plain", "read", "weight"):
                done[id(part)] = self.al.call(part, [done[id(a)] for a in part.args])
        new = done[id(objective)]
        plain = next((n for n in walk(new) if n.op == "plain"), None)
        slopes = gradient(self.al, new, [*heard, *([plain] if plain is not None else [])])
        total = slopes[len(heard)] if plain is not None else self.al.const(0, node.type)
        for slope, fold in zip(slopes, folds):
            g = self.al.make("read", type=node.type, memory=f"grad:{node['memory']}|{self.stream_of(fold.args[0])}|{fold['how']}")
            total = self.al.add(total, self.al.mul(slope, g))
        here = self.al.make("read", type=node.type, memory=node["memory"])
        if point.op != "read" or point["memory"] != node["memory"]:
            raise Unsupported("the gradient of a task loss elsewhere than at the value the memory has held", node, "grad of the memory itself")
        return total if plain is None else self.bind(total, plain, here)

    def stream_of(self, node: Node) -> str:
        for name, found in self.streams.items():
            if found is node:
                return name
        name = next((n for n, out in self.program.outputs.items() if out is node), f"stream{len(self.streams) + 1}")
        self.streams[name] = node
        return name

    # -- source

    def emit_update(self, level: Level, fired: frozenset[str]) -> tuple[str, list[str], list[str]]:
        """Function of one level with the given members firing: its name, its arguments and the names of its results."""
        fn, arguments, values = FlatFn(), [], []
        members = [m for m in self.family(level) if m.name in fired]
        firing = [n for m in members for n in m.memories]
        folds: dict[int, tuple[str, Node, str]] = {}
        roots = [self._equations[n] for n in firing]
        nodes = list(walk(*roots))
        nows = [n["memory"] for n in nodes if n.op == "now"]
        while any(m in firing and self._equations[m] not in roots for m in nows):
            roots += [self._equations[m] for m in nows if m in firing and self._equations[m] not in roots]
            nodes = list(walk(*roots))
            nows = [n["memory"] for n in nodes if n.op == "now"]

        def argument(node: Node, value: str) -> None:
            if value not in values:
                values.append(value)
                arguments.append(f"a{len(values)}")
            fn.bind(node, arguments[values.index(value)], "")

        for node in nodes:
            if node.op == "read":
                name = node["memory"]
                kind, _, rest = name.partition(":")
                if kind == "grad" and "|" in rest:
                    argument(node, self.gradient_text(rest))
                elif kind == "fold" and "|" in rest:
                    argument(node, self.fold_text(rest))
                else:
                    argument(node, f'S["{name}"]')
            elif node.op == "now" and node["memory"] not in firing:
                argument(node, f'S["{node["memory"]}"]')
            elif node.op == "tick":
                argument(node, f'S["{node["level"]}.tick"]' + (" + 1" if node["level"] in fired else ""))
            elif node.op == "ticks":
                argument(node, f'planned["{node["level"]}"]')
            elif node.op == "weight":
                argument(node, f'W["{node["name"]}"]')
            elif node.op == "fold":
                raise Unsupported("a fold over update ticks", node)
        del folds
        fn.like = arguments[0] if arguments else "planned"
        results = []
        for name in self.ordered(firing):
            ref = fn.value(self._equations[name])
            text = fn.tensor(ref) if ref.literal is None or not isinstance(self._equations[name].type, Tree) else \
                f"torch.full_like({arguments[0]}, {ref.literal})"
            for node in nodes:
                if node.op == "now" and node["memory"] == name:
                    fn.bind(node, text, "")
            results.append(text)
        body = [*fn.lines, f"return {''.join(r + ', ' for r in results)}"]
        text = f"({', '.join(arguments)}):\n" + "\n".join("    " + l for l in body)
        name = self._functions.get(text)
        if name is None:
            name = self._functions[text] = f"update_{len(self._functions) + 1}"
            self.texts.append(f"def {name}{text}\n")
        return name, values, self.ordered(firing)

    def ordered(self, firing: list[str]) -> list[str]:
        done: list[str] = []

        def visit(name: str, path: tuple[str, ...] = ()) -> None:
            if name in done:
                return
            if name in path:
                raise Unsupported(f"`{name}` needs itself at one tick", self._equations[name])
            for node in walk(self._equations[name]):
                if node.op == "now" and node["memory"] in firing:
                    visit(node["memory"], (*path, name))
            done.append(name)

        for name in firing:
            visit(name)
        return done

    def gradient_text(self, rest: str) -> str:
        memory, stream, how = rest.split("|")
        level = self.program.memories[memory].level
        heard = next(h for h in self.hears if h.memory == memory and h.stream == stream)
        text = f'S["{heard.key}.sum"]' if self.keeps(heard) else f'G["{heard.key}"]'
        if how == "mean":
            terms = f'S["{level}|{stream}.terms"]' if self.keeps(heard) else f'N["{stream}"]'
            text += f" / {terms}"
        return text

    def fold_text(self, rest: str) -> str:
        raise Unsupported(f"an objective that is no linear function of its fold ({rest})")

    def tick_function(self, index: int) -> str:
        """Source of the function of one tick kind."""
        fired = set(self.table.kinds[index])
        lines = []
        for heard in self.hears:
            if self.keeps(heard):
                lines.append(f'S["{heard.key}.sum"].add_(G["{heard.key}"])')
        if fired:
            lines.append("new = {}")
        pending = [l for l in self.roots if l.name in fired]
        names: list[str] = []
        for level in pending:
            members = frozenset(m.name for m in self.family(level) if m.name in fired)
            function, values, results = self.emit_update(level, members)
            lines.append(f"# {level.name} every {level.clock.period} step")
            lines.append(", ".join(f'new["{r}"]' for r in results) + f", = {function}({', '.join(values)})")
            names += results
        for name in names:
            lines.append(f'S["{name}"].copy_(new["{name}"])')
        for heard in self.hears:
            if self.keeps(heard) and heard.level in fired:
                lines.append(f'S["{heard.key}.sum"].zero_()')
        return f"def tick_{index + 1}(S, W, G, N, planned):\n" + "\n".join("    " + l for l in lines or ["pass"]) + "\n"

    def count_functions(self, index: int) -> str:
        """Source of the two functions that keep the counters of a tick kind: before its updates and after. They stay outside the
        graphs: a compiled CPU graph loses in-place writes to scalars."""
        fired = set(self.table.kinds[index])
        pairs = list(dict.fromkeys((h.level, h.stream) for h in self.hears if self.keeps(h)))
        before = [f'S["{level}|{stream}.terms"].add_(N["{stream}"])' for level, stream in pairs]
        after = [f'S["{m.name}.tick"].add_(1)' for l in self.roots for m in self.family(l) if m.name in fired]
        after += [f'S["{level}|{stream}.terms"].zero_()' for level, stream in pairs if level in fired]
        return "\n\n".join(f"def {stem}_{index + 1}(S, N):\n" + "\n".join("    " + l for l in lines or ["pass"]) + "\n"
                           for stem, lines in (("before", before), ("after", after)))

    def emit(self) -> str:
        kinds = [f(i) for i in range(len(self.table.kinds)) for f in (self.tick_function, self.count_functions)]
        return "\n".join(self.texts) + "\n" + "\n".join(kinds)


def slots(program: Program) -> dict[str, tuple[str, int, Shape]]:
    """Weight name -> (memory that owns it, offset in its flat vector, shape)."""
    out: dict[str, tuple[str, int, Shape]] = {}
    for memory in program.memories.values():
        if memory.slots is not None:
            at = 0
            leaves = memory.type.leaves if isinstance(memory.type, Tree) else (("", memory.type),)
            for path, shape in leaves:
                out[memory.slots[path]] = (memory.name, at, shape)
                at += math.prod(a.size for a in shape)
    return out
