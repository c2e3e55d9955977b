"""A few lines that run states and equations over one sequence, by the interpreter's operators: the
value of every equation at every token, asked for on demand.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from nldsl.core.initial import normal
from nldsl.core.nodes import Node, walk
from nldsl.core.program import ENDS, STATE, Clock
from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.lines import Inside, Line, cut, mark, viewed_by
from nldsl.oracle.operators import ABSENT, APPLY, Value
from nldsl.oracle.time import TIME, instants
from nldsl.schedule.states import States

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
            new = self.value(node.args[0], line, t) if self.ticks(node, t) else ABSENT
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

    def ticks(self, node: Node, t: int) -> bool:
        clock: Clock = node["clock"]
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
