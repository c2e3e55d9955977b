"""A few lines that run states and equations by the interpreter's operators: those of the token
clock over one sequence, the value of every equation at every token, asked for on demand; those of
the step clock over some steps.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nldsl.core.initial import initial, normal
from nldsl.core.nodes import Node, Shape, Tree, walk
from nldsl.core.program import ENDS, STATE, Clock
from nldsl.oracle.files import taken
from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.lines import Inside, Line, cut, mark, viewed_by
from nldsl.oracle.operators import ABSENT, APPLY, Value, conform, each, leaves, like
from nldsl.oracle.time import TIME, instants
from nldsl.schedule.named import Draw, Input, Name
from nldsl.schedule.step_states import StepStates
from nldsl.schedule.token_states import States

LOOKS = ("conv", "rope", "ahead", "held_stream", "attend", "window")


class StateMachine:
    def __init__(self, made: States, oracle: Oracle, batch: Mapping[str, Tensor]) -> None:
        self.made, self.program, self.oracle = made, made.program, oracle
        lanes, self.length = next(iter(batch.values())).shape[:2]
        self.line = Line("token", lanes, first=[0] * self.length)
        for t in range(self.length):
            self.line.inputs.append({n: number(n, x[:, t]) for n, x in batch.items()})
            self.line.tables.append({})
        self.begun: dict[Node, Value] = {}
        self.slopes = {n: (s, of) for s in made.slopes for n, of in s.inputs.items()}
        self.learn = {of for _, of in self.slopes.values()}
        self.marks: dict[str, list[tuple[Value, Value]]] = defaultdict(list)
        self.ends = {state.next: name for name, state in made.states.items()}
        sys.setrecursionlimit(1_000_000)

    def output(self, name: str) -> list[Value]:
        return [self.value(self.made.outputs[name], self.line, t) for t in range(self.length)]

    def final(self, state: str, t: int) -> Tensor:
        return self.value(self.made.states[state].next, self.line, t)

    def value(self, node: Node, line: Line, t: int, inside: Inside | None = None) -> Value:
        table = line.tables[t] if t >= 0 else self.begun
        if node not in table:
            table[node] = self.compute(node, line, t)
            if node in self.learn and table[node] is not ABSENT:
                table[node] = mark(table[node], line.lanes)
            if node in self.ends:
                table[node] = self.marked(self.ends[node], table[node])
        return table[node]

    def compute(self, node: Node, line: Line, t: int) -> Value:
        if node.op in STATE:
            return self.state(node, line, t)
        if node.op == "input":
            name = node["name"]
            return self.slope(name, line, t) if name in self.slopes else line.inputs[t][name]
        if node.op == "weight":
            return self.weight(node["name"])
        if node.op == "random":
            shape = [axis.size for axis in node.type]
            return normal(self.oracle._meaning.seed, node["name"], shape, node["scale"])[None]
        if node.op == "when":
            new = self.value(node.args[0], line, t) if self.ticks(node, line, t) else ABSENT
            return self.value(node.args[1], line, t) if new is ABSENT else new
        if node.op == "constant_for":
            return cut(self.value(node.args[0], line, t), frozenset(node["learners"]))
        if node.op == "replay":
            return self.replay(node, line, t)
        if node.op in LOOKS:
            return TIME[node.op](self, node, line, t, None)
        args = [self.value(a, line, t) for a in node.args]
        return ABSENT if any(a is ABSENT for a in args) else APPLY[node.op](node, *args)

    def state(self, node: Node, line: Line, t: int) -> Value:
        state = self.made.states[node["memory"]]
        if node.op == "now" and t >= 0:
            return self.value(state.after, line, t)
        value = self.value(state.next, line, t - 1) if t > 0 else self.value(state.start, line, -1)
        value = self.marked(state.name, value)
        return value

    def marked(self, name: str, value: Tensor) -> Tensor:
        """What a level differentiates in: an object of its own from tick to tick."""
        if name not in self.learn:
            return value
        known = [one for old, one in self.marks[name] if value is old or value is one]
        if not known:
            known = [mark(value, self.line.lanes)]
            self.marks[name].append((value, known[0]))
        return known[0]

    def ticks(self, node: Node, line: Line, t: int) -> bool:
        clock: Clock = node["clock"]
        if node.args[2:]:
            return bool(self.value(node.args[2], line, t).any())
        if clock.unit != "token" or t < node["first"] or t >= self.length - node["late"]:
            return False
        return clock.ticks(t + 1)

    def fires(self, clock: Clock, line: Line, t: int) -> bool:
        return clock.unit == "token" and clock.ticks(t + 1)

    def pulse(self, node: Node) -> frozenset[str]:
        return frozenset({"token"})

    def weight(self, name: str) -> Tensor:
        meaning = self.oracle._meaning
        if name in self.program.weights:
            return meaning.initial[name].unsqueeze(0)
        whole = name.partition("@")[0]
        memory = next(
            m for m in self.program.memories.values() if whole == m.name or name.startswith(m.name)
        )
        value = meaning.settled(memory, meaning.steps, -1)
        return value[name.rpartition(".")[2]] if isinstance(value, dict) else value

    def replay(self, node: Node, line: Line, t: int) -> Value:
        points = dict(zip(node["names"], (self.value(a, line, t) for a in node.args[1:])))

        def at(part: Node, j: int, done: dict[Node, Value]) -> Value:
            if part not in done:
                if part.op == "plain":
                    done[part] = points[part["memory"]]
                elif not any(x.op == "plain" for x in below(part)):
                    done[part] = self.value(part, line, j)
                else:
                    args = [at(a, j, done) for a in part.args]
                    absent = any(a is ABSENT for a in args)
                    done[part] = ABSENT if absent else APPLY[part.op](part, *args)
            return done[part]

        terms = [at(node.args[0], j, {}) for j in instants(self, node["since"], line, t)]
        terms = [x for x in terms if x is not ABSENT]
        if not terms:
            return ABSENT
        return sum(terms[1:], terms[0]) / (len(terms) if node["how"] == "mean" else 1)

    def slope(self, name: str, line: Line, t: int) -> Value:
        slope, of = self.slopes[name]
        point = (
            self.value(of, line, t)
            if isinstance(of, Node)
            else self.value(read(self.made, of), line, t)
        )
        value = self.value(slope.objective, line, t)
        if value is ABSENT:
            return ABSENT
        with viewed_by(slope.level):
            (found,) = torch.autograd.grad(value.sum(), point, create_graph=True, allow_unused=True)
        return torch.zeros_like(point) if found is None else found


def below(root: Node) -> list[Node]:
    return list(walk(root))


def read(made: States, name: str) -> Node:
    return next(n for r in made.roots() for n in below(r) if n.op == "read" and n["memory"] == name)


def number(name: str, x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() or name == ENDS else x


class StepMachine:
    """Runs the states of the step clock. What a step gives comes of the interpreter: the sums of
    streams over its tokens, and their derivatives in what a memory has been since its last tick.
    """

    def __init__(self, made: StepStates, oracle: Oracle) -> None:
        self.made, self.program = made, made.program
        streams = dict(made.ticks.streams)
        heard = replace(self.program, outputs={**self.program.outputs, **streams})
        self.oracle = Oracle(heard, seed=oracle._meaning.seed, files=oracle._meaning.files)
        self.meaning, self.streams = self.oracle._meaning, streams
        self.level_of = {n: s.level for s in made.states.values() for n in walk(s.start)}
        self.number, self.given = 0, {}
        self.values: dict[Name, Value] = {}
        starts = {name: state.start for name, state in made.states.items()}
        self.table: dict[Node, Value] = {}
        while waiting := {n: x for n, x in starts.items() if n not in self.values}:
            for name, start in waiting.items():
                if all(n["memory"] in self.values for n in walk(start) if n.op == "read"):
                    self.values[name] = conform(self.value(start), self.made.states[name].type)

    def step(self, batch: Mapping[str, Tensor]) -> None:
        self.number, self.table, self.given = self.number + 1, {}, self.gifts(batch)
        self.oracle.step(batch)
        states = self.made.states.values()
        self.values = {s.name: conform(self.value(s.next), s.type) for s in states}

    def value(self, node: Node) -> Value:
        for part in walk(node):
            if part not in self.table:
                self.table[part] = self.compute(part)
        return self.table[node]

    def compute(self, node: Node) -> Value:
        if node.op == "read":
            return self.values[node["memory"]]
        if node.op == "now":
            return self.value(self.made.states[node["memory"]].after)
        if node.op == "when":
            return self.table[node.args[0 if node["clock"].ticks(self.number) else 1]]
        if node.op == "input" and not isinstance(node["name"], Draw):
            return self.given[node["name"]]
        if node.op == "weight":
            owner = self.program.memories[self.program.weights[node["name"]].owner]
            path = next(p for p, slot in owner.slots.items() if slot == node["name"])
            return self.values[owner.name][path] if path else self.values[owner.name]
        if node.op in ("input", "random", "load"):
            level = self.program.levels[self.level_of[node]]
            return self.drawn(node, self.number and count(level.reset, self.number))
        if node.op == "ticks":
            clock = self.program.levels[node["level"]].clock
            planned = (self.meaning.planned - clock.phase) // max(1, clock.period)
            return torch.tensor([float(max(1, planned))], dtype=torch.float64)
        if node.op == "constant_for":
            return self.table[node.args[0]]
        if node.op == "spread" and isinstance(node.type, Tree):
            return conform(self.table[node.args[0]], node.type)
        return APPLY[node.op](node, *(self.table[a] for a in node.args))

    def drawn(self, node: Node, number: int) -> Value:
        seed = self.meaning.seed
        if node.op == "load":
            sizes = [a.size for a in node.shape]
            return taken(node["key"], self.meaning.files[node["file"]], sizes)[None]
        if node.op == "random":
            shape = [a.size for a in node.shape]
            return normal(seed, node["name"], shape, node["scale"], number)[None]
        slots = self.program.memories[node["name"].memory].slots
        values = {p: initial(self.program.weights[w], seed, number)[None] for p, w in slots.items()}
        return values if isinstance(node.type, Tree) else values[""]

    def gifts(self, batch: Mapping[str, Tensor]) -> dict[Input, Value]:
        """What a step gives, before anything ticks."""
        m, found = self.meaning, {}
        lines, now = self.oracle._load(batch), len(self.meaning.steps) - 1
        here = [(line, i) for line in lines for i in range(line.step.index(now), len(line))]
        inputs = {n["name"] for n in walk(*self.made.roots()) if n.op == "input"}
        for what in sorted((x for x in inputs if isinstance(x, Input)), key=str):
            stream = self.streams[what.stream]
            terms = [(m.value(stream, line, i), line.lanes) for line, i in here]
            terms = [x.expand([n, *x.shape[1:]]) for x, n in terms if x is not ABSENT]
            total = sum(x.sum(0) for x in terms) if terms else zeros(stream.shape)
            if what.what == "sum":
                found[what] = total[None].detach()
            elif what.what == "terms":
                found[what] = torch.tensor([float(sum(len(x) for x in terms))], dtype=torch.float64)
            else:
                found[what] = self.slope(what, total)
        m.streams[now], m.steps.tables[now] = [], {}
        m.steps.memo = {key: v for key, v in m.steps.memo.items() if key[2] < now}
        return found

    def slope(self, what: Input, total: Tensor) -> Value:
        m, memory = self.meaning, self.program.memories[what.memory]
        point = m.marked(memory, m.steps, len(m.steps) - 1)
        if not total.requires_grad:
            return each(torch.zeros_like, point)
        with viewed_by(memory.level):
            found = torch.autograd.grad(
                total.sum(), leaves(point), retain_graph=True, allow_unused=True
            )
        parts = [torch.zeros_like(p) if f is None else f for f, p in zip(found, leaves(point))]
        return like(point, parts)


def zeros(shape: Shape) -> Tensor:
    return torch.zeros([a.size for a in shape], dtype=torch.float64)


def count(reset: Clock, step: int) -> int:
    """Which restart of a level this is."""
    return (step - reset.phase) // reset.period if reset.period else 0
