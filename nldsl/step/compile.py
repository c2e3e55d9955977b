"""STEP SOURCE -> COMPILED STEP.

    whole   one graph per tick kind: forward, inner updates, backward and every level that fires
    split   one graph per distinct block (forward and its backward), used again for each layer, and one update per tick kind
    eager   the emitted source as it is
"""
from __future__ import annotations

import linecache
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nldsl.graph.equations import Node, Program, numel, walk
from nldsl.schedule.cells import Unsupported
from nldsl.schedule.plan import Schedule, plan
from nldsl.step import lanes
from nldsl.step.emit import Emitted, Emitter
from nldsl.step.initial import normal
from nldsl.step.state import State, allocate, layout, planned
from nldsl.step.updates import Updates

PRECISION = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
CAPTURES = ("auto", "split", "whole", "eager")
WHOLE_SECONDS = 120.0                  # predicted compile time above which `auto` does not choose `whole`
Batch = Mapping[str, Tensor]
GLUE = '''
def weights(S):
    """Leaves for differentiation that share the storage of the flat state."""
    W = {name: S[owner].view(-1)[at:end].view(sizes) for name, (owner, at, end, sizes) in SLOTS.items()}
    return {name: w.detach().requires_grad_() for name, w in W.items()}


def fresh(W, inputs, mode, lanes):
    """Over sequences from their first token: sums and numbers of terms of every stream that a level hears, and what outlives them."""
    like = next(iter(W.values()))
    batch = next(iter(inputs.values())).shape[0]
    outputs, new = forward(W, inputs, start(W, batch, like, lanes), 0, mode)
    return {name: outputs[name].sum() for name in HEARD}, {name: outputs[name].numel() for name in HEARD}, {name: new[name].detach() for name in LASTING}


def gradients(W, sums):
    """Gradient of each heard stream's sum in each memory, laid out as the memory."""
    G = {}
    for stream, (names, owners) in LEARNERS.items():
        parts = torch.autograd.grad(sums[stream], [W[n] for n in names], allow_unused=True, retain_graph=len(LEARNERS) > 1)
        at = dict(zip(names, (torch.zeros_like(W[n]) if g is None else g for n, g in zip(names, parts))))
        for owner, (leaves, flat) in owners.items():
            G[owner + "|" + stream] = torch.cat([at[n].reshape(-1) for n in leaves]) if flat else at[leaves[0]]
    return G
'''


def load_module(text: str, name: str) -> dict[str, Any]:
    """Runs emitted source; tracebacks and debuggers see its lines."""
    filename = f"<nldsl {name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    module = types.ModuleType(name)
    exec(compile(text, filename, "exec"), module.__dict__)
    return module.__dict__


class CompiledStep:
    """One training step of a program: `init` makes a state, calling it performs one optimizer step in place."""

    def __init__(self, program: Program, device: str = "cpu", precision: str = "float32", capture: str = "auto",
                 planned_steps: int = 1000, accumulate: int = 1) -> None:
        self.program, self.device, self.precision, self.accumulate = program, device, precision, accumulate
        self.dtype = PRECISION[precision]
        self.steps = planned_steps
        probe = Updates(program, _no_kinds(program), accumulate)
        self.heard = list(probe.streams)
        if not self.heard:
            raise Unsupported("no level on the step clock learns from a stream", span=None, help="a level `every step` with `minimize mean(loss over period)`")
        self.schedule: Schedule = plan(program, probe.streams)
        self.updates = Updates(program, self.schedule.table, accumulate)
        self.emitted: Emitted = Emitter(self.schedule).emit()
        self.source = self.module_text()
        self.capture, self.why = self.choose(capture)
        self.compile_seconds: dict[str, float] = {}
        self.module = load_module(self.source, "step")
        self._planned = planned(program, planned_steps, device)
        self._readers: dict[str, dict[str, Any]] = {}
        self._kinds = self._compile()

    # -- source

    def module_text(self) -> str:
        learners: dict[str, tuple[list[str], dict[str, tuple[list[str], bool]]]] = {}
        for heard in self.updates.hears:
            memory = self.program.memories[heard.memory]
            names, owners = learners.setdefault(heard.stream, ([], {}))
            flat = memory.slots is not None and not isinstance(memory.type, tuple)
            leaves = list(memory.slots.values()) if memory.slots is not None else [memory.name]
            if heard.memory not in owners:
                names += leaves
                owners[heard.memory] = (leaves, flat)
        kinds = "\n\n".join(
            f"def step_{i + 1}(S, inputs, planned, mode, lanes):\n"
            "    W = weights(S)\n"
            "    sums, terms, lasting = fresh(W, inputs, mode, lanes)\n"
            "    G = gradients(W, sums)\n"
            "    with torch.no_grad():\n"
            f"        tick_{i + 1}(S, W, G, terms, planned)\n"
            "    return {name: s.detach() for name, s in sums.items()}, terms, lasting\n" for i in range(len(self.schedule.table.kinds)))
        return "\n".join([self.emitted.text, f"HEARD = {self.heard!r}\nLEARNERS = {learners!r}\nSLOTS = {layout(self.program, self.updates.state)!r}\n", GLUE, self.updates.emit(), kinds])

    # -- capture

    def choose(self, capture: str) -> tuple[str, str]:
        if capture != "auto":
            return capture, "asked for"
        seconds = self.predict("whole")
        if self.device == "cpu":
            return "split", f"on a CPU; `whole` would take about {seconds:.0f} s to compile"
        if seconds > WHOLE_SECONDS:
            return "split", f"`whole` would take about {seconds:.0f} s to compile"
        return "whole", f"on {self.device}, about {seconds:.0f} s to compile"

    def predict(self, capture: str) -> float:
        """Rough compile seconds from the number of emitted lines; measured on two CPU cores."""
        blocks = self.emitted.block_of if capture == "whole" else self.emitted.functions
        lines = self.source.count("\n    ")
        share = len(blocks) / max(1, len(self.emitted.functions))
        kinds = len(self.schedule.table.kinds)
        return lines * share * 0.1 * (kinds if capture == "whole" else 1) + 5.0 * kinds

    def _compile(self) -> list[Callable[..., Any]]:
        count = len(self.schedule.table.kinds)
        module = self.module
        self.mode = "scan" if self.capture == "whole" else "loop"
        if self.capture == "split":
            for name in self.emitted.functions:
                module[name] = torch.compile(module[name], fullgraph=True, dynamic=False)
            for i in range(count):
                module[f"tick_{i + 1}"] = torch.compile(module[f"tick_{i + 1}"], fullgraph=True, dynamic=False)
        if self.capture == "whole":
            return [torch.compile(module[f"step_{i + 1}"], fullgraph=True, dynamic=False) for i in range(count)]
        return [module[f"tick_{i + 1}"] for i in range(count)]

    # -- running

    def init(self, seed: int) -> State:
        """A fresh state; a tensor's value depends on `seed` and its qualified name."""
        state = allocate(self.program, self.updates.state, seed, self.device, self.dtype)
        for name, (shape, scale) in self.emitted.randoms.items():
            state.views[name] = normal(seed, name.removeprefix("random:"), [a.size for a in shape], scale).to(self.device, self.dtype)
        return state

    def fired(self, n: int) -> tuple[str, ...]:
        """Levels that tick at step n, counted from 1."""
        return self.schedule.table.fired(n)

    def __call__(self, state: State, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step over the micro-batches, in place. Returns 0-d tensors: `loss` is the mean over target tokens."""
        kind = self.schedule.table.kind(state.step + 1)
        if not any(n for b in batches for n in self.terms(b).values()):
            self._read(state, batches)
            state.step += 1                                    # no objective has a term: the tick is skipped (language, section 5)
            return {"loss": torch.zeros((), dtype=self.dtype, device=self.device)}
        sums, terms = self._run(kind, state, batches)
        state.step += 1
        return self.metrics(sums, terms)

    def seat(self, state: State, count: int) -> None:
        """Give the state `count` lanes, the sequences of a step, for what outlives a sequence. They are fixed from then on."""
        if not state.lanes:
            state.lanes = lanes.seat(self.emitted, count, self.device, self.dtype)
        if state.lanes and len(state.lanes[lanes.READ]) != count:
            raise ValueError(f"this state has {len(state.lanes[lanes.READ])} lanes, the step {count} sequences")

    def _read(self, state: State, batches: Sequence[Batch]) -> None:
        """A step in which nothing is learned from the batch: what outlives a sequence has read it all the same."""
        if self.emitted.lasting:
            inputs = [self.place(b) for b in batches]
            self.seat(state, sum(map(lanes_of, inputs)))
            with torch.no_grad(), self.autocast():
                self._keep(state, inputs, [self.module["fresh"](state.views, b, self.mode, lanes.part(state.lanes, i, lanes_of(b)))[2]
                                           for i, b in enumerate(inputs)])

    def _keep(self, state: State, inputs: Sequence[Batch], lasting: Sequence[Mapping[str, Tensor]]) -> None:
        for i, (batch, carry) in enumerate(zip(inputs, lasting) if self.emitted.lasting else ()):
            here = lanes.part(state.lanes, i, lanes_of(batch))
            lanes.keep(state.lanes, lanes.onward(here, carry), i, lanes_of(batch))

    def metrics(self, sums: Mapping[str, Tensor], terms: Mapping[str, int]) -> dict[str, Tensor]:
        means = {name: (sums[name] / max(1, terms[name])).detach() for name in sums}
        first = "loss" if "loss" in means else self.heard[0]
        return {"loss": means[first]} | {n: m for n, m in means.items() if n != first}

    def _run(self, kind: int, state: State, batches: Sequence[Batch]) -> tuple[dict[str, Tensor], dict[str, int]]:
        inputs = [self.place(b) for b in batches]
        self.seat(state, sum(map(lanes_of, inputs)))
        seats = [lanes.part(state.lanes, i, lanes_of(b)) for i, b in enumerate(inputs)]
        if self.capture == "whole" and len(inputs) == 1:
            with torch._dynamo.config.patch(trace_autograd_ops=True), self.autocast():
                self.module[f"before_{kind + 1}"](state.tensors, self.terms(inputs[0]))
                done = self._kinds[kind](state.tensors, inputs[0], self._planned, self.mode, seats[0])
                self.module[f"after_{kind + 1}"](state.tensors, done[1])
                self._keep(state, inputs, [done[2]])
                return done[:2]
        total: dict[str, Tensor] = {}
        grads: dict[str, Tensor] = {}
        terms: dict[str, int] = {}
        lasting = []
        for batch, here in zip(inputs, seats):
            with self.autocast():
                sums, counts, last = self.module["fresh"](state.views, batch, self.mode, here)
            lasting.append(last)
            got = self.module["gradients"](state.views, sums)
            grads = got if not grads else {k: grads[k] + g for k, g in got.items()}
            total = {k: total.get(k, 0.0) + s.detach() for k, s in sums.items()}
            terms = {k: terms.get(k, 0) + n for k, n in counts.items()}
        with torch.no_grad():
            self.module[f"before_{kind + 1}"](state.tensors, terms)
            self.module[f"tick_{kind + 1}"](state.tensors, state.views, grads, terms, self._planned)
            self.module[f"after_{kind + 1}"](state.tensors, terms)
        self._keep(state, inputs, lasting)
        return total, terms

    def terms(self, batch: Batch) -> dict[str, int]:
        """Number of terms of each heard stream over a batch: the last token of a sequence has no next one."""
        sequences, length = next(iter(batch.values())).shape[:2]
        return {name: sequences * (length - any(n.op == "ahead" for n in walk(node))) * numel(node.type) for name, node in self.updates.streams.items()}

    def place(self, batch: Batch) -> dict[str, Tensor]:
        return {name: x.to(self.device, self.dtype if x.is_floating_point() else torch.long) for name, x in batch.items()}

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.precision == "bfloat16")

    def warm(self, state: State, batch: Batch, on_event: Callable[[str], None] = lambda text: None) -> None:
        """Compiles every tick kind, on a copy of the state."""
        if self.capture == "eager":
            return
        copy = self.init(0)
        for i, kind in enumerate(self.schedule.table.kinds):
            on_event(f"tick kind {i + 1} of {len(self.schedule.table.kinds)}: {len(kind)} levels"
                     + (f", with {len(self.emitted.functions)} distinct blocks" if i == 0 and self.capture == "split" else ""))
            begin = time.perf_counter()
            self._run(i, copy, [batch] * self.accumulate)
            self.compile_seconds[f"kind {i + 1}"] = time.perf_counter() - begin

    # -- reading

    def reader(self, name: str, node: Node) -> dict[str, Any]:
        """Emitted source of one stream alone, uncompiled, for evaluation and generation."""
        if name not in self._readers:
            emitted = Emitter(plan(self.program, {name: node})).emit()
            self._readers[name] = load_module(emitted.text, f"read {name}")
        return self._readers[name]

    def evaluate(self, state: State, batch: Batch, carry: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Sum of the loss over the tokens that have a target, their number, and the carry for the next piece of the sequences.

        Memories on the token clock go on learning; the step clock does not move."""
        name = "loss" if "loss" in self.heard else self.heard[0]
        inputs = self.place(batch)
        first = next(iter(inputs.values()))
        fresh = carry is None
        with torch.set_grad_enabled(fresh and self.capture == "split"), self.autocast():   # the graphs of training serve here too
            carried, position = carry or (self.module["start"](state.views, first.shape[0], next(iter(state.views.values()))), 0)
            if fresh and self.capture != "eager":
                outputs, new = self.module["forward"](state.views, inputs, carried, 0, self.mode)
            else:
                outputs, new = self.reader(name, self.updates.streams[name])["forward"](state.views, inputs, carried, position, "loop")
        value, new = outputs[name].detach(), {key: x if x is None else x.detach() for key, x in new.items()}
        return value.sum(), torch.tensor(value.numel()), (new, position + first.shape[1])

    def logits(self) -> Node:
        """What the next token is scored with: the first argument of the loss's cross entropy."""
        name = "loss" if "loss" in self.heard else self.heard[0]
        found = next((n for n in walk(self.updates.streams[name]) if n.op == "cross_entropy"), None)
        if found is None:
            raise Unsupported("only a model with a cross entropy generates", self.updates.streams[name])
        return found.args[0]

    def generate(self, state: State, prompt: Tensor, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Samples n tokens after prompt [1, T]; memories learn from every token, sampled ones too. Returns [n]."""
        module = self.reader("logits", self.logits())
        name = next(iter(self.program.inputs))
        ids, out, position = prompt.to(self.device), [], 0
        with torch.no_grad():
            carry = module["start"](state.views, ids.shape[0], next(iter(state.views.values())))
            for _ in range(n):
                outputs, carry = module["forward"](state.views, {name: ids}, carry, position, "loop")
                position += ids.shape[1]
                scores = outputs["logits"][:, -1].float().cpu() / max(temperature, 1e-6)
                ids = torch.multinomial(scores.softmax(-1), 1, generator=generator).to(self.device)
                out.append(ids)
        return torch.cat(out, 1)[0]


def lanes_of(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _no_kinds(program: Program) -> Any:
    from nldsl.schedule.timetable import timetable
    return timetable({n: l.clock for n, l in program.levels.items() if l.clock.unit == "step"})
