"""SCHEDULE, STEP SOURCE -> COMPILED STEP.

whole   one graph per tick kind: forward, inner updates, backward and every level that fires
split   one graph per distinct block (forward and its backward), used again for each layer, and one
        update per tick kind
eager   the emitted source as it is
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nldsl.core.initial import normal
from nldsl.core.program import ENDS
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.schedule.faults import Unsupported, told
from nldsl.schedule.named import Heard, Total, input_of
from nldsl.schedule.plan import Schedule
from nldsl.schedule.timetable import Kind
from nldsl.step import lanes, room
from nldsl.step.loading import Files, loaded
from nldsl.step.module import StepSource
from nldsl.step.reading import Reader, load_module
from nldsl.step.state import State, allocate, draws, planned

PRECISION = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
CAPTURES = ("auto", "split", "whole", "eager")
WHOLE_SECONDS = 120.0  # predicted compile time above which `auto` does not choose `whole`
Batch = Mapping[str, Tensor]
Run = Callable[..., Any]  # an emitted function, compiled or not


class CompiledStep:
    """One training step of a program:

    `init` makes a state, calling it performs one optimizer step in place.
    """

    def __init__(
        self,
        schedule: Schedule,
        source: StepSource,
        device: str = "cpu",
        capture: str = "auto",
        planned_steps: int = 1000,
        accumulate: int = 1,
        files: Files | None = None,
    ) -> None:
        self.program, self.schedule, self.device = schedule.program, schedule, device
        self.source, self.precision = source.text, source.precision
        self.emitted, self.updates = source.emitted, source.updates
        self.dtype, self.steps, self.accumulate = (
            PRECISION[self.precision],
            planned_steps,
            accumulate,
        )
        self.files = files or {}
        self.documents = self.program.counts(ENDS)
        self.heard = list(schedule.steps.streams)
        self.valid_from = schedule.forward.valid_from
        self.capture, self.why = self.choose(capture)
        self.compile_seconds: dict[str, float] = {}
        self.module = load_module(self.source, "step")
        self._planned = planned(self.program, planned_steps, device)
        self.reading = Reader(self)
        self._kinds = self._compile()
        self._met: set[tuple[Any, ...]] = (
            set()
        )  # tick kinds with the sizes of their batches that have run

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
        """Rough compile seconds from the number of emitted statements; measured on two CPU
        cores.
        """
        blocks = self.emitted.block_of if capture == "whole" else self.emitted.functions
        lines = 1.5 * sum(isinstance(x, ast.stmt) for x in ast.walk(ast.parse(self.source)))
        share = len(blocks) / max(1, len(self.emitted.functions))
        kinds = len(self.schedule.table.kinds)
        return lines * share * 0.1 * (kinds if capture == "whole" else 1) + 5.0 * kinds

    def _compile(self) -> list[Run]:
        count = len(self.schedule.table.kinds)
        module = self.module
        self.mode = "scan" if self.capture == "whole" else "loop"
        if self.capture == "split":
            for name in dict.fromkeys(
                [*self.emitted.functions, *(tape.body for tape in self.updates.tapes)]
            ):
                module[name] = torch.compile(module[name], fullgraph=True, dynamic=False)
            for i in range(count):
                module[f"tick_{i + 1}"] = torch.compile(
                    module[f"tick_{i + 1}"], fullgraph=True, dynamic=False
                )
        if self.capture == "whole":
            return [
                torch.compile(module[f"step_{i + 1}"], fullgraph=True, dynamic=False)
                for i in range(count)
            ]
        return [module[f"tick_{i + 1}"] for i in range(count)]

    # -- running

    def init(self, seed: int) -> State:
        """A fresh state; a tensor's value depends on `seed` and its qualified name.

        Raises N803 if no memory holds it.
        """
        room.require(
            room.state_bytes(self.updates.state, self.dtype),
            "the weights and what their optimizers keep",
            self.device,
        )
        state = allocate(self.program, self.updates.state, seed, self.device, self.dtype)
        born = {level.name: 0 for level in self.program.levels.values() if not level.clock.inner}
        with torch.no_grad():
            self.module["birth"](state.tensors, self._draws(born, seed))
        for name in self.emitted.loads:
            state.views[name] = self.loaded[name].to(self.device, self.dtype)
        for name, (shape, scale) in self.emitted.randoms.items():
            state.views[name] = normal(
                seed, name.removeprefix("random:"), [a.size for a in shape], scale
            ).to(self.device, self.dtype)
        return state

    def fired(self, n: int) -> tuple[str, ...]:
        """Levels that tick at step n, counted from 1."""
        return self.schedule.table.fired(n)

    def __call__(self, state: State, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step over the micro-batches, in place.

        Returns 0-d tensors: `loss` is the mean over target tokens.
        """
        kind = self.schedule.table.kind(state.step + 1)
        terms: dict[str, int] = {}
        for batch in batches:
            terms = {name: terms.get(name, 0) + n for name, n in self.terms(batch).items()}
        sums, terms = (
            self._run(kind, state, batches)
            if all(terms.values())
            else self._sparse(state, batches, terms)
        )
        state.step += 1
        return self.metrics(sums, terms)

    def seat(self, state: State, count: int) -> None:
        """Give the state `count` lanes, the sequences of a step, for what outlives a sequence.

        They are fixed from then on.
        """
        if not state.lanes:
            state.lanes = lanes.seat(self.emitted, count, self.device, self.dtype)
        if state.lanes and len(state.lanes[lanes.READ]) != count:
            raise ValueError(
                f"this state has {len(state.lanes[lanes.READ])} lanes, the step {count} sequences"
            )

    def _keep(
        self, state: State, inputs: Sequence[Batch], lasting: Sequence[Mapping[str, Tensor]]
    ) -> None:
        for i, (batch, carry) in enumerate(
            zip(inputs, lasting, strict=True) if self.emitted.lasting else ()
        ):
            here = lanes.part(state.lanes, i, lanes_of(batch))
            lanes.keep(state.lanes, lanes.onward(here, carry), i, lanes_of(batch))

    def metrics(self, sums: Mapping[str, Tensor], terms: Mapping[str, int]) -> dict[str, Tensor]:
        means = {name: (sums[name].sum() / max(1, terms[name])).detach() for name in sums}
        if not self.heard:
            return {}
        first, _ = self.reading.trained
        return {"loss": means[first]} | {n: m for n, m in means.items() if n != first}

    def _run(
        self, kind: int, state: State, batches: Sequence[Batch]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        D = self.draws(state, self.schedule.table.events[kind])
        inputs = [self.place(b) for b in batches]
        self.seat(state, sum(map(lanes_of, inputs)))
        met = (kind, *((name, x.shape) for b in inputs for name, x in b.items()))
        with torch.compiler.set_stance(
            "fail_on_recompile" if met in self._met and self.capture != "eager" else "default"
        ):
            done = (
                self._whole(kind, state, inputs[0], D)
                if self.capture == "whole" and len(inputs) == 1
                else self._apart(str(kind + 1), state, inputs, D)
            )
        self._met.add(met)
        return done

    def _whole(
        self, kind: int, state: State, inputs: Batch, D: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        seat = lanes.part(state.lanes, 0, lanes_of(inputs))
        D = {
            **D,
            **{name: state.views[name] for name in (*self.emitted.loads, *self.emitted.randoms)},
        }
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            self.module[f"before_{kind + 1}"](state.tensors, self.terms(inputs))
            step = self._kinds[kind]
            sums, terms, last = step(state.tensors, inputs, D, self._planned, self.mode, seat)
            self.module[f"after_{kind + 1}"](state.tensors, terms)
        self._keep(state, [inputs], [last])
        return sums, terms

    def _apart(
        self, name: str, state: State, inputs: Sequence[Batch], D: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Forward and backward of each micro-batch, then the tick."""
        seats = [lanes.part(state.lanes, i, lanes_of(b)) for i, b in enumerate(inputs)]
        total: dict[str, Tensor] = {}
        grads: dict[str, Tensor] = {}
        terms: dict[str, int] = {}
        lasting = []
        for batch, here in zip(inputs, seats, strict=True):
            sums, counts, last = self.module["fresh"](state.views, batch, self.mode, here)
            lasting.append(last)
            got = self.module["gradients"](state.views, sums)
            grads = got if not grads else {k: grads[k] + g for k, g in got.items()}
            total = {
                k: total[k] + s.detach() if k in total else s.detach() for k, s in sums.items()
            }
            terms = {k: terms.get(k, 0) + n for k, n in counts.items()}
        with torch.no_grad():
            if self.updates.tapes:
                self.module[f"hear_{name}"](state.tensors, grads, self.mode)
            self.module[f"before_{name}"](state.tensors, terms)
            self.module[f"tick_{name}"](state.tensors, grads, total, terms, D, self._planned)
            self.module[f"after_{name}"](state.tensors, terms)
        self._keep(state, inputs, lasting)
        return total, terms

    def _sparse(
        self, state: State, batches: Sequence[Batch], terms: Mapping[str, int]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """A step in which some stream has no term: levels that have heard none since their last
        tick do not tick (language, section 5). Rare (sequences of one token), so its updates are
        written when it comes, and not compiled.
        """
        kind = self._kind(state, terms)
        heard = enumerate(self.schedule.steps.heard)
        lacking = "_".join(str(i) for i, h in heard if h in kind.unheard)
        name = f"rare_{self.schedule.table.kind(state.step + 1)}_without_{lacking}"
        with told(self.program):
            if f"tick_{name}" not in self.module:
                known = len(self.updates.texts)
                written = self.updates.kind(name, kind)
                text = "\n".join([*self.updates.texts[known:], written])
                exec(compile(text, f"<nldsl {name}>", "exec"), self.module)
            self._require_rows(state, kind)
        inputs = [self.place(b) for b in batches]
        self.seat(state, sum(map(lanes_of, inputs)))
        return self._apart(name, state, inputs, self.draws(state, kind))

    def _kind(self, state: State, terms: Mapping[str, int]) -> Kind:
        """What happens at a step in which streams have so many terms."""
        clock = self.schedule.steps
        kind = clock.table.event(state.step + 1)
        unheard = {
            h
            for needs in clock.needs.values()
            for h in needs
            if not terms[input_of(h).stream] and not self._waits(state, h)
        }
        quiet = {n for n in kind.fired if unheard & {*clock.needs[clock.ticks.root_of(n)]}}
        return replace(
            kind,
            fired=tuple(n for n in kind.fired if n not in quiet),
            silent=tuple(n for n in kind.fired if n in quiet),
            unheard=frozenset(unheard),
        )

    def _require_rows(self, state: State, kind: Kind) -> None:
        """Raises Unsupported where a tape has no room until its viewer ticks again."""
        for tape in self.updates.tapes:
            if not tape.adjoint.fits(kind, float(state.tensors[f"{tape.name}|row"])):
                viewer = tape.adjoint.viewer
                raise Unsupported(
                    f"a step without a target at which `{viewer.name.rsplit('.', 1)[-1]}` would "
                    "tick, again: what it sees through is kept for one of its periods",
                    span=viewer.span,
                    help="sequences of at least two tokens",
                )

    def _waits(self, state: State, terms: Heard) -> bool:
        """Have earlier steps of a stretch had terms?"""
        return isinstance(terms, Total) and float(state.tensors[str(terms)]) > 0

    def draws(self, state: State, kind: Kind) -> dict[str, Tensor]:
        """Fresh draws for what restarts at the end of this step."""
        resets = self.schedule.table.resets
        numbers = {
            name: (state.step + 1 - resets[name].phase) // resets[name].period
            for name in kind.restarted
        }
        return self._draws(numbers, state.seed) if numbers else {}

    def _draws(self, numbers: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        return draws(self.program, numbers, seed, self.device, self.dtype, self.loaded)

    @cached_property
    def loaded(self) -> dict[str, Tensor]:
        """Starts from files. Raises Diagnostics (N731, N732) for what does not fit them."""
        return loaded(self.program, self.files)

    def terms(self, batch: Batch) -> dict[str, int]:
        """Number of terms of each heard stream over a batch: the last tokens of a sequence have no
        next ones, the first may lack others.
        """
        sequences, length = next(iter(batch.values())).shape[:2]
        return {
            name: sequences * max(0, length - sum(self.reading.extent(node)))
            for name, node in self.schedule.steps.streams.items()
        }

    def place(self, batch: Batch) -> dict[str, Tensor]:
        """On the device; ends of documents are numbers.

        Raises N308 if the program counts documents that the batch does not tell.
        """
        if self.documents and ENDS not in batch:
            raise Diagnostics(
                [
                    Diagnostic(
                        "N308",
                        "the program counts documents, and the batch does not say where they end",
                        help=f"`{ENDS}` [sequence, token], true at the last token of each",
                    )
                ]
            )
        return {
            name: x.to(
                self.device, self.dtype if x.is_floating_point() or name == ENDS else torch.long
            )
            for name, x in batch.items()
        }

    def warm(
        self, state: State, batch: Batch, on_event: Callable[[str], None] = lambda text: None
    ) -> None:
        """Compiles every tick kind, on a copy of the state."""
        if self.capture == "eager":
            return
        copy = self.init(0)
        for i, kind in enumerate(self.schedule.table.kinds):
            on_event(
                f"tick kind {i + 1} of {len(self.schedule.table.kinds)}: {len(kind)} levels"
                + (
                    f", with {len(self.emitted.functions)} distinct blocks"
                    if i == 0 and self.capture == "split"
                    else ""
                )
            )
            begin = time.perf_counter()
            self._run(i, copy, [batch] * self.accumulate)
            self.compile_seconds[f"kind {i + 1}"] = time.perf_counter() - begin


def lanes_of(batch: Batch) -> int:
    return len(next(iter(batch.values())))
