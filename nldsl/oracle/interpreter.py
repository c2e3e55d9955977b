"""The slow interpreter: a `Program` run in float64, token by token and level by level. It is the
meaning that compiled steps must match.

oracle = Oracle(program, seed=0)
oracle.run({"ids": ids}).outputs["loss"]       every sequence, token by token; learning on the token
                                               clock goes on
oracle.gradients({"ids": ids})                 what each level of the step clock would learn from
                                               the batch
oracle.step([{"ids": ids}])                    one step: every level of the step clock that ticks
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nldsl.core.initial import initial_weights
from nldsl.core.program import ENDS, Clock, Program
from nldsl.oracle.lines import Line
from nldsl.oracle.meaning import Meaning
from nldsl.oracle.operators import ABSENT, Value, each, sizes
from nldsl.oracle.time import instants

Batch = Mapping[str, Tensor]
K = TypeVar("K")


@dataclass
class Result:
    """`outputs`: [lane, token, ..] of each output of the program, absent terms left out. `memories`
    and `held`: [lane, ..] after the last tick that is not pending. `state` goes on after the last
    token, in `run(batch, state)`.
    """

    outputs: dict[str, Value]
    memories: dict[str, Value]
    held: dict[tuple[str, Clock], Value]
    state: tuple[Line, ...]


class Oracle:
    """`planned_steps` is the length of the run, from which `ticks` follows; `files` holds the
    tensors that `load` reads.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        planned_steps: int = 1000,
        files: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> None:
        given = initial_weights(program, seed) if weights is None else weights
        self.program = program
        self._meaning = m = Meaning(
            program,
            {n: w.detach().double() for n, w in given.items()},
            seed,
            planned_steps,
            files or {},
        )
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 30 * len(m.facts.nodes) + 10_000))
        levels = program.levels
        self._slow = [
            x for x in program.memories.values() if m.facts.unit(levels[x.level]) == "step"
        ]
        self._fast = [
            x for x in program.memories.values() if m.facts.unit(levels[x.level]) == "token"
        ]
        self._pending = {
            name
            for name, level in levels.items()
            if any(j in m.facts.foresees for j in m.facts.root(level).objectives)
        }
        self._copies = {(n["memory"], n["clock"]) for n in m.facts.nodes if n.op == "held"}
        self._carried = any(
            m.facts.unit(level) == "token"
            and level.reset.unit != "token"
            and level.reset != Clock("sequence", 1)
            for level in levels.values()
        )
        self._apart = program.counts(
            ENDS
        )  # each lane is a line of its own, where documents end in it
        self._furthest = max(m.facts.lag.values(), default=0)
        self._lines: list[Line] = []

    # -- what has been learned

    @property
    def memories(self) -> dict[str, Value]:
        """The memories of the step clock as they stand before the next tick."""
        m = self._meaning
        return {
            x.name: each(lambda v: v[0].detach().clone(), m.settled(x, m.steps, len(m.steps) - 2))
            for x in self._slow
        }

    @property
    def weights(self) -> dict[str, Tensor]:
        """Every weight by name, after the steps so far."""
        now, values = {n: w.clone() for n, w in self._meaning.initial.items()}, self.memories
        for memory in self._slow:
            value = values[memory.name]
            for path, slot in (memory.slots or {}).items():
                now[slot] = value[path] if isinstance(value, dict) else value
        return now

    # -- one batch

    def run(
        self, batch: Batch, state: tuple[Line, ...] | None = None, new_sequence: bool = False
    ) -> Result:
        parts = self._lanes(batch)
        lines = [
            self._read(part, line.copy() if line else None, new_sequence)
            for part, line in zip(parts, state or [None] * len(parts), strict=True)
        ]
        outputs, (memories, held) = (
            [self._outputs(line) for line in lines],
            zip(*map(self._carry, lines), strict=True),
        )
        return Result(together(outputs), together(memories), together(held), tuple(lines))

    def _lanes(self, batch: Batch) -> list[Batch]:
        lanes = len(next(iter(batch.values()))) if self._apart else 1
        return (
            [{name: x[i : i + 1] for name, x in batch.items()} for i in range(lanes)]
            if lanes > 1
            else [batch]
        )

    def _read(
        self, batch: Batch, line: Line | None, new_sequence: bool, learns: bool = False
    ) -> Line:
        """Appends the tokens of a batch one by one; each instant is finished before the next is
        evaluated.
        """
        m = self._meaning
        lanes, tokens = next(iter(batch.values())).shape[:2]
        fresh = line is None or new_sequence
        line = line or Line("token", lanes, learns)
        assert line.lanes == lanes
        for t in range(tokens):
            for back in range(
                1, 1 + min(len(line), self._furthest)
            ):  # what looked ahead from the last tokens can look now
                line.tables[-back] = {
                    n: v for n, v in line.tables[-back].items() if m.facts.lag.get(n, 0) < back
                }
            line.inputs.append(
                {
                    name: x[:, t] if not x.is_floating_point() else x[:, t].double()
                    for name, x in batch.items()
                }
            )
            line.first.append(len(line) if fresh and t == 0 else line.first[-1])
            line.step.append(len(m.steps) - 1)
            line.tables.append({})
            i = len(line) - 1
            for memory in self._fast:
                m.settled(memory, line, i - 1)
            for memory in self._fast:
                if memory.level not in self._pending:
                    m.after(memory, line, i)
        return line

    def _outputs(self, line: Line) -> dict[str, Value]:
        outputs: dict[str, Value] = {}
        for name, node in self.program.outputs.items():
            begin = line.shown.get(name, 0)
            line.shown[name] = max(begin, len(line) - self._meaning.facts.lag[node])
            found = [self._meaning.value(node, line, i) for i in range(begin, len(line))]
            terms = [
                each(lambda x: x.expand([line.lanes, *x.shape[1:]]), v)
                for v in found
                if v is not ABSENT
            ]
            if terms:
                outputs[name] = each(lambda *xs: torch.stack(xs, 1), *terms)
            else:
                outputs[name] = torch.zeros(line.lanes, 0, *sizes(node.shape), dtype=torch.float64)
        return outputs

    def _carry(self, line: Line) -> tuple[dict[str, Value], dict[tuple[str, Clock], Value]]:
        m, last = self._meaning, len(line) - 1

        def lanes(value: Value) -> Value:
            return each(lambda x: x.expand([line.lanes, *x.shape[1:]]), value)

        final = {x.name: last - 1 if x.level in self._pending else last for x in self._fast}
        memories = {x.name: lanes(m.settled(x, line, final[x.name])) for x in self._fast}
        held = {
            (name, clock): lanes(m.held(self.program.memories[name], clock, line, final[name] + 1))
            for name, clock in self._copies
            if name in final
        }
        return memories, held

    # -- one step

    def gradients(self, batches: Batch | Sequence[Batch]) -> dict[str, Tensor]:
        """The first gradient that each level of the step clock takes, by weight (or memory and
        path), as if it ticked now.
        """
        m = self._meaning
        self._load(batches)
        found, now = self._slopes(), len(m.steps) - 1
        m.streams[now] = []
        m.steps.tables[now] = {}
        m.steps.memo = {key: v for key, v in m.steps.memo.items() if key[2] < now}
        return found

    def _slopes(self) -> dict[str, Tensor]:
        m = self._meaning
        now, found = len(m.steps) - 1, {}
        for memory in self._slow:
            if memory.next is not None and self.program.levels[memory.level].parent is None:
                node = next(
                    (n for n in m.facts.nodes if n.op == "grad" and n["memory"] == memory.name),
                    None,
                )
                value = ABSENT if node is None else m.value(node, m.steps, now)
                if value is not ABSENT:
                    paths = value if isinstance(value, dict) else {"": value}
                    for path, x in paths.items():
                        name = (memory.slots or {}).get(
                            path, f"{memory.name}.{path}" if path else memory.name
                        )
                        found[name] = x[0].detach()
        return found

    def step(
        self, batches: Batch | Sequence[Batch], slopes: dict[str, Tensor] | None = None
    ) -> list[dict[str, Value]]:
        """One step of the run over all `batches`; the outputs of each. `slopes`, if given, takes
        what `gradients` would have said before it.
        """
        m = self._meaning
        self._lines = self._load(batches)
        if slopes is not None:
            slopes.update(self._slopes())
        many = [batches] if isinstance(batches, Mapping) else list(batches)
        counts, lines = [len(self._lanes(batch)) for batch in many], iter(self._lines)
        outputs = [together([self._outputs(next(lines)) for _ in range(count)]) for count in counts]
        for memory in self._slow:
            m.settled(memory, m.steps, len(m.steps) - 1)
        m.steps.tables.append({})
        m.streams.append([])
        self._forget()
        return [{name: each(Tensor.detach, x) for name, x in found.items()} for found in outputs]

    def _load(self, batches: Batch | Sequence[Batch]) -> list[Line]:
        m = self._meaning
        many = [
            part
            for batch in ([batches] if isinstance(batches, Mapping) else batches)
            for part in self._lanes(batch)
        ]
        olds = (
            [line.copy() for line in self._lines]
            if self._carried and self._lines
            else [None] * len(many)
        )
        lines = [self._read(batch, old, True, True) for batch, old in zip(many, olds, strict=True)]
        now = len(m.steps) - 1
        m.streams[now] = [(line, range(line.step.index(now), len(line))) for line in lines]
        return lines

    def _forget(self) -> None:
        """Without this a run would keep all its tokens: those of steps that no window reaches any
        more are dropped.
        """
        m = self._meaning
        windows = [
            n for n in m.facts.nodes if n.op in ("fold", "window") and n not in m.facts.by_token
        ]
        spans = [n["since"] if n.op == "fold" else n["length"] for n in windows]
        for s in range(
            min(
                (instants(m, span, m.steps, len(m.steps) - 1).start for span in spans),
                default=len(m.steps) - 1,
            )
        ):
            m.streams[s], m.steps.tables[s] = [], {}


def together(lanes: Sequence[Mapping[K, Value]]) -> dict[K, Value]:
    """The values of all lanes of a batch, one after the other."""
    return {
        name: each(lambda *xs: torch.cat(xs), *(lane[name] for lane in lanes)) for name in lanes[0]
    }
