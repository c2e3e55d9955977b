"""SCHEDULE, STEP SOURCE -> COMPILED STEP.

whole   one graph per tick kind: forward, inner updates, backward and every level that fires
split   one graph per distinct block (forward and its backward), used again for each layer, and one
        update per tick kind; kept on the disk, see `functions.py`
eager   the emitted source as it is
"""

from __future__ import annotations

import ast
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from importlib.util import find_spec
from types import FunctionType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from nldsl.core.initial import normal
from nldsl.core.nodes import resized, walk
from nldsl.core.program import ENDS, Program
from nldsl.diagnostic import Diagnostic, Diagnostics, counted
from nldsl.schedule.faults import Unsupported, told
from nldsl.schedule.named import Heard, Total, input_of
from nldsl.schedule.plan import Schedule
from nldsl.schedule.timetable import Kind
from nldsl.step import functions, lanes, room
from nldsl.step.batches import Batch, shared
from nldsl.step.kernels.statements import Whole
from nldsl.step.loading import Files, loaded
from nldsl.step.module import StepSource
from nldsl.step.reading import Reader, load_module
from nldsl.step.recompute import Budget, unbounded
from nldsl.step.runtime.recurrence import at_once as together
from nldsl.step.sending import Sending
from nldsl.step.shards import RANK
from nldsl.step.state import (
    Place,
    State,
    allocate,
    draws,
    parted,
    places,
    planned,
    views,
)
from nldsl.step.updates import drawn

PRECISION = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
CAPTURES = ("auto", "split", "whole", "eager")
PIECES = 32  # of a recurrence in one graph, where no loop of the compiler rolls them
WHOLE_SECONDS = 120.0  # predicted compile time above which `auto` does not choose `whole`
Run = Callable[..., Any]  # an emitted function, compiled or not


class Given(NamedTuple):
    """What one step gives: gradients, sums and numbers of terms of the streams that levels hear,
    and what each micro-batch leaves in its lanes.
    """

    grads: Mapping[str, Tensor]
    sums: dict[str, Tensor]
    terms: dict[str, int]
    lasting: Sequence[Mapping[str, Tensor]]


class CompiledStep:
    """One training step of a program:

    `init` makes a state, calling it performs one optimizer step in place.
    """

    obtain: functions.Obtain = staticmethod(functions.obtained)

    def __init__(
        self,
        schedule: Schedule,
        source: StepSource,
        device: str = "cpu",
        capture: str = "auto",
        planned_steps: int = 1000,
        accumulate: int = 1,
        files: Files | None = None,
        budget: int | None = None,
        at_once: bool | None = None,
        kernels: bool | None = None,
        whole: Program | None = None,
        rank: int = 0,
    ) -> None:
        """`whole`: the program of all ranks, of which `schedule` has the part of one."""
        self.program, self.schedule, self.device = schedule.program, schedule, device
        self.whole, self.rank = whole or self.program, rank
        self.source, self.precision = source.text, source.precision
        self.emitted, self.updates = source.emitted, source.updates
        self.ranks, self.shards = source.updates.ranks, source.updates.shards
        self.dtype, self.steps, self.accumulate = (
            PRECISION[self.precision],
            planned_steps,
            accumulate,
        )
        self.files = files or {}
        self.documents = self.program.counts(ENDS)
        self.workers = self.program.workers.size if self.program.workers else 1
        self.heard = list(schedule.steps.streams)
        self.valid_from = schedule.forward.valid_from
        self.budget = Budget(device, budget)
        self.capture, self.why = self.choose(capture)
        if budget is not None and (where := self.keeps_all()):
            raise unbounded(where)
        self.compile_seconds: dict[str, float] = {}
        self.module = load_module(self.source, "step")
        self._planned = planned(self.program, planned_steps, device)
        if self.shards.are:
            self._planned[RANK] = torch.tensor([self.rank], device=device)
        self.reading = Reader(self)
        self.compiled: dict[str, functions.Compiled] = {}
        self.at_once = together(self.reading.like()) if at_once is None else at_once
        self.module["at_once"] = lambda like: self.at_once
        self.kernels = self.on_chip(kernels)
        self._kinds = self._compile()
        self._met: set[tuple[Any, ...]] = (
            set()
        )  # tick kinds with the sizes of their batches that have run

    # -- capture

    def choose(self, capture: str) -> tuple[str, str]:
        if capture != "auto":
            return capture, "asked for"
        if self.budget.asked is not None:
            return "split", "to stay within the budget"
        seconds = self.predict("whole")
        if self.device == "cpu":
            return "split", f"on a CPU; `whole` would take about {seconds:.0f} s to compile"
        if self.emitted.rolled:
            return "split", f"on {self.device}, where `whole` would write out every piece"
        if seconds > WHOLE_SECONDS:
            return "split", f"`whole` would take about {seconds:.0f} s to compile"
        return "whole", f"on {self.device}, about {seconds:.0f} s to compile"

    def keeps_all(self) -> str:
        """Why no call of a function can run again; empty if calls can."""
        if self.capture == "whole":
            return "in a step that is one graph (`--capture whole`)"
        online = self.schedule.forward.online
        return "where a level learns from the network's own run of a sequence" if online else ""

    def predict(self, capture: str) -> float:
        """Rough compile seconds from the number of emitted statements; measured on two CPU cores,
        on which functions are compiled two at a time.
        """
        blocks = self.emitted.block_of if capture == "whole" else self.emitted.functions
        lines = 1.5 * sum(isinstance(x, ast.stmt) for x in ast.walk(ast.parse(self.source)))
        share = len(blocks) / max(1, len(self.emitted.functions))
        kinds = len(self.schedule.table.kinds)
        if capture == "whole":
            return lines * share * 0.1 * kinds + 5.0 * kinds
        return lines * share * 0.07 + 2.0 * kinds

    def on_chip(self, asked: bool | None) -> dict[str, Whole | str]:
        """The recurrences that are one kernel through all pieces, or why they are none."""
        wanted = self.device.startswith("cuda") if asked is None else asked
        if not wanted or self.capture == "whole" or self.precision == "float64":
            return {}
        if find_spec("triton") is None:
            return {}
        from nldsl.step.kernels.rolling import on_chip

        distinct = {one.function: one for one in self.emitted.recurrences.values()}
        found = on_chip(self.source, [*distinct.values()], self.emitted.apart)
        for one in found.values():
            if isinstance(one, Whole):
                exec(compile(one.text, f"<nldsl {one.name}>", "exec"), self.module)
        return found

    def lowering(self, region: str) -> str:
        """How a region is computed."""
        said, one = self.emitted.lowering[region], self.emitted.recurrences.get(region)
        found = self.kernels.get(one.function) if one else None
        if isinstance(found, Whole) and found.parts > 1:
            return f"{said}, kernels for each chunk, {found.parts} programs share a head's memories"
        if isinstance(found, Whole):
            return f"{said}, a chunk kernel"
        return f"{said}, no chunk kernel: {found}" if found else said

    def _compile(self) -> list[Run]:
        count = len(self.schedule.table.kinds)
        module = self.module
        self.mode = "scan" if self.capture == "whole" and not self.at_once else "loop"
        regions = self.emitted.apart if self.capture != "whole" else {}
        for name in regions:  # it calls its parts as they are written
            module[name] = FunctionType(module[name].__code__, {**module}, name)
        wholes = {n: x for n, x in self.kernels.items() if isinstance(x, Whole)}
        written = "\n\n".join([self.source, *(x.text for x in wholes.values())])
        worth = [*self.emitted.worth(self.at_once), *(x.name for x in wholes.values())]
        if self.capture == "split":
            bodies = [*worth, *(tape.body for tape in self.updates.tapes)]
            names = dict.fromkeys([*bodies, *(f"tick_{i + 1}" for i in range(count))])
            online = self.schedule.forward.online
            blocks = () if online else {*self.emitted.block_of}
            for name, text in functions.texts(written, names, blocks).items():
                module[name] = self.compiled[name] = functions.Compiled(
                    module[name], text, self.obtain, name in self.emitted.pieces
                )
        if not self.keeps_all():
            for name in worth:
                module[name] = self.budget.function(name, module[name])
        if wholes:
            from nldsl.step.kernels.rolling import rolled

            found = {module[name]: (x, module[x.name]) for name, x in wholes.items()}
            module["scan_chunks"] = rolled(module["scan_chunks"], found)
        if self.capture == "whole":
            return [
                torch.compile(module[f"step_{i + 1}"], fullgraph=True, dynamic=False)
                for i in range(count)
            ]
        return [module[f"tick_{i + 1}"] for i in range(count)]

    # -- running

    def init(self, seed: int, begun: Mapping[str, Tensor] | None = None) -> State:
        """A fresh state; a tensor's value depends on `seed` and its qualified name. `begun`: arrays
        of memories, by qualified name and of their sizes, that are given and not drawn; what starts
        from them follows.

        Where ranks hold a part each, it is the whole, to be `parted`.

        Raises N803 if no memory holds it.
        """
        room.require(
            room.state_bytes(self.updates.whole_state, self.dtype),
            "the weights and what their optimizers keep",
            self.device,
        )
        return self.drawn(seed, begun)

    def drawn(self, seed: int, begun: Mapping[str, Tensor] | None = None) -> State:
        """`init`, whatever memory there is."""
        updates = self.updates
        kept = updates.whole_state, updates.types
        state = allocate(self.program, *kept, seed, self.device, self.dtype)
        self._fix(state.tensors)
        born = {level.name: 0 for level in self.program.levels.values() if not level.clock.inner}
        with torch.no_grad():
            self._birth(state, self._draws(born, seed), begun or {})
        for name in self.emitted.loads:
            state.views[name] = self.loaded[name].to(self.device, self.dtype)
        for name, (shape, scale) in self.emitted.randoms.items():
            state.views[name] = normal(
                seed, name.removeprefix("random:"), [a.size for a in shape], scale
            ).to(self.device, self.dtype)
        return state

    def _fix(self, tensors: Mapping[str, Tensor]) -> None:
        """Their addresses stay: a CUDA graph need not copy them. Without the compiler nothing asks,
        and it is not imported.
        """
        if self.capture != "eager":
            for tensor in tensors.values():
                torch._dynamo.mark_static_address(tensor)

    def parted(self, state: State) -> State:
        """What this rank holds of a whole state, which is used up."""
        if not self.shards.are:
            return state
        found = parted(self.program, state, self.updates.divided, self.shards, self.rank)
        self._fix(found.tensors)
        return found

    def as_whole(self, state: State) -> State:
        """A state as one process has it, of tensors that are whole again."""
        if not self.shards.are:
            return state
        found = places(self.program, self.updates.types)
        kept = {name: x for name, x in state.views.items() if name not in found}
        leaves = views(self.program, state.tensors)
        return replace(state, views=kept | leaves, places=found)

    def trial(self) -> State:
        """A state to try steps on."""
        return self.parted(self.init(0))

    def _birth(self, state: State, D: Mapping[str, Tensor], begun: Mapping[str, Tensor]) -> None:
        """First values; where some are given, one memory after the other."""
        if not begun:
            self.module["birth"](state.tensors, D)
            return
        arrays = state.arrays
        given: dict[str, list[str]] = {}
        for name in begun:
            given.setdefault(state.places[name][0], []).append(name)
        for owner, line in self.updates.births():
            exec(line, self.module, {"S": state.tensors, "D": D})
            for name in given.get(owner, ()):
                arrays[name].copy_(self.own(begun[name], arrays[name].shape))

    def fired(self, n: int) -> tuple[str, ...]:
        """Levels that tick at step n, counted from 1."""
        return self.schedule.table.fired(n)

    def sends(self, n: int) -> bool:
        """Do ranks send each other something in step n?"""
        return self.shards.are or bool(self.updates.sent[self.schedule.table.kind(n) + 1])

    def __call__(self, state: State, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One optimizer step over the micro-batches, in place.

        Returns 0-d tensors: `loss` is the mean over target tokens; on ranks, what the lanes of this
        one add to the mean over all.
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
            self._fix(state.lanes)
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
        if self.capture != "whole" or len(inputs) > 1:
            return self._apart(str(kind + 1), state, inputs, D)
        met = (kind, *((name, x.shape) for b in inputs for name, x in b.items()))
        with torch.compiler.set_stance("fail_on_recompile" if met in self._met else "default"):
            done = self._whole(kind, state, inputs[0], D)
        self._met.add(met)
        return done

    def _whole(
        self, kind: int, state: State, inputs: Batch, D: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        shared([inputs], self.workers)
        if self.mode == "loop":
            self._require_few(next(iter(inputs.values())).shape[1])
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

    def _require_few(self, length: int) -> None:
        """Raises N806 if one graph would hold more than `PIECES` of a recurrence."""
        tokens = min(self.emitted.rolled, default=length)
        if length > PIECES * tokens:
            raise Diagnostics(
                [
                    Diagnostic(
                        "N806",
                        f"a step that is one graph writes out every piece of a recurrence: "
                        f"{math.ceil(length / tokens):,} pieces of {counted(tokens, 'token')}, "
                        f"and {PIECES} are the most",
                        help="`--capture split`; or sequences of at most "
                        f"{PIECES * tokens:,} tokens",
                    )
                ]
            )

    def _apart(
        self, name: str, state: State, inputs: Sequence[Batch], D: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Forward and backward of each micro-batch, then the tick."""
        with self.budget.step([(name, x.shape) for b in inputs for name, x in b.items()]):
            heard = self.given(state, inputs)
            self._ticked(name, state, heard, D)
        self._keep(state, inputs, heard.lasting)
        return heard.sums, heard.terms

    def rehearsed(self, state: State, inputs: Sequence[Batch]) -> Iterator[int]:
        """A step of each kind, in place: after forward and backward, which all have in common, and
        what becomes of them in each kind, the number of the kind, 0 of the former.
        """
        self.seat(state, sum(map(lanes_of, inputs)))
        heard = self.given(state, inputs)
        yield 0
        for i, kind in enumerate(self.schedule.table.events, 1):
            self._ticked(str(i), state, heard, self.draws(state, kind))
            yield i

    def given(self, state: State, inputs: Sequence[Batch]) -> Given:
        """What a step over these micro-batches would give; the state stays as it is. On ranks, of
        their own lanes, but for the gradients that every tick takes.
        """
        shared(inputs, self.workers)
        seats = [lanes.part(state.lanes, i, lanes_of(b)) for i, b in enumerate(inputs)]
        total: dict[str, Tensor] = {}
        grads: dict[str, Tensor] = {}
        terms: dict[str, int] = {}
        lasting = []
        for batch, here in zip(inputs, seats, strict=True):
            self.budget.begin()
            sums, counts, last = self.module["fresh"](state.views, batch, self.mode, here)
            lasting.append(last)
            sending = self.sending(state.views, grads) if len(lasting) == len(inputs) else None
            derive = sending.derive if sending else None
            got = self.module["gradients"](state.views, sums, derive)
            grads = got if not grads else {k: grads[k] + g for k, g in got.items()}
            if sending:
                grads |= sending.wholes(grads)
            total = {
                k: total[k] + s.detach() if k in total else s.detach() for k, s in sums.items()
            }
            terms = {k: terms.get(k, 0) + self.ranks * n for k, n in counts.items()}
        return Given(grads, total, terms, lasting)

    def sending(self, W: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Sending | None:
        """What sends the derivatives of the last micro-batch that every tick takes as they come; no
        rank sends any if there are none.
        """
        early, module = frozenset(heard.key for heard in self.updates.early), self.module
        if not early:
            return None
        return Sending(
            module["LEARNERS"],
            W,
            early,
            self.emitted.reads,
            before,
            module["slopes"],
            partial(module["over_ranks"], ranks=self.ranks),
        )

    def _ticked(self, name: str, state: State, heard: Given, D: Mapping[str, Tensor]) -> None:
        S, G, V, N = state.tensors, heard.grads, heard.sums, heard.terms
        with torch.no_grad():
            if self.updates.tapes:
                self.module[f"hear_{name}"](S, G, self.mode)
            self.module[f"before_{name}"](S, N)
            self.module[f"tick_{name}"](S, G, V, N, D, self._planned)
            self.module[f"after_{name}"](S, N)

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
        found = self._draws(numbers, state.seed) if numbers else {}
        divided = self.updates.divided
        return {
            name: self.shards.of(x, divided[name], self.rank)
            if name in divided and self.program.memories[name].start is None
            else x
            for name, x in found.items()
        }

    def _draws(self, numbers: Mapping[str, int], seed: int) -> dict[str, Tensor]:
        found = draws(self.whole, numbers, seed, self.device, self.dtype, self.loaded)
        return {name: self.own(x, self.sizes.get(name, x.shape)) for name, x in found.items()}

    @cached_property
    def sizes(self) -> dict[str, list[int]]:
        """Of what starts are made of, as this rank has them."""
        starts = [m.start for m in self.program.memories.values() if m.start is not None]
        nodes = (node for node in walk(*starts) if node.op in ("random", "load"))
        return {drawn(node): [axis.size for axis in node.shape] for node in nodes}

    def own(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Of an array of all workers, the entries of those of this rank, as far as `sizes` say that
        it has so many; any other array as it is.
        """
        for axis, (whole, here) in enumerate(zip(x.shape, sizes)):
            if whole == here * self.ranks != here:
                return x.chunk(self.ranks, axis)[self.rank]
        return x

    @property
    def whole_places(self) -> dict[str, Place]:
        """Where each array lies in what one process holds for all ranks."""
        types, own = self.updates.types, self.program.workers
        if own is not None and self.whole.workers is not None:
            types = {n: resized(type, own, self.whole.workers) for n, type in types.items()}
        return places(self.whole, types)

    @cached_property
    def loaded(self) -> dict[str, Tensor]:
        """Starts from files. Raises Diagnostics (N731, N732) for what does not fit them."""
        return loaded(self.whole, self.files)

    def terms(self, batch: Batch) -> dict[str, int]:
        """Number of terms of each heard stream over a batch, and over those of all ranks: the last
        tokens of a sequence have no next ones, the first may lack others.
        """
        sequences, length = next(iter(batch.values())).shape[:2]
        return {
            name: self.ranks * sequences * max(0, length - sum(self.reading.extent(node)))
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
        begin = time.perf_counter()
        if self.capture == "split":
            jobs = self._jobs(batch)
            runs = iter(self.obtain([j for some in jobs.values() for j in some], on_event))
            for name, some in jobs.items():
                self.compiled[name].made |= {job.kind: next(runs) for job in some}
            self.compile_seconds["functions"] = time.perf_counter() - begin
        if self.capture == "whole":
            copy = self.trial()
            for i, kind in enumerate(self.schedule.table.kinds):
                on_event(
                    f"tick kind {i + 1} of {len(self.schedule.table.kinds)}: {len(kind)} levels"
                )
                self._run(i, copy, [batch] * self.accumulate)
                self.compile_seconds[f"kind {i + 1}"] = time.perf_counter() - begin
                begin = time.perf_counter()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Within, nothing is sent to other ranks."""
        alone = {
            "over_ranks": lambda x, ranks: x,
            "every_part": lambda part, ranks: part.expand(ranks, -1),
        }
        with patch.dict(self.module, alone):
            yield

    def measure(self, batch: Batch) -> None:
        """Takes steps of such a batch on a state of their own, until it is known what they take."""
        if not self.keeps_all():
            room.give_back()
            copy = self.trial()
            for _ in range(2):
                self(copy, [batch] * self.accumulate)

    def as_written(self, now: bool) -> None:
        """Runs functions as they are written, or compiled."""
        for function in self.compiled.values():
            function.as_written = now
        self.budget.forget()

    @property
    def is_as_written(self) -> bool:
        return any(function.as_written for function in self.compiled.values())

    def is_kept(self, batch: Batch) -> bool:
        """Is all that is compiled for batches like this one kept from an earlier run?"""
        return functions.known(self.place_of_jobs(self.place(batch))) is not None

    def place_of_jobs(self, inputs: Batch) -> str:
        """Where it is kept what functions are given: what those that call them say counts too, such
        as how many tokens a piece has.
        """
        sizes = sorted((name, x.shape, x.dtype) for name, x in inputs.items())
        text = functions.bare(self.source)
        where = self.dtype, self.device, self.at_once
        said = repr((functions.FORMAT, text, sizes, *where, functions.machine()))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def _jobs(self, batch: Batch) -> dict[str, list[functions.Job]]:
        """What is to be compiled for batches like this one: what functions are given in a step of
        each kind, which is run as it is written, unless it is known from an earlier run.
        """
        inputs = self.place(batch)
        key = self.place_of_jobs(inputs)
        jobs = functions.known(key)
        if jobs is None:
            with functions.recording(self.compiled.values()), self.apart():
                copy = self.trial()
                for _ in self.rehearsed(copy, [inputs] * self.accumulate):
                    pass
                jobs = {name: list((f.met or {}).values()) for name, f in self.compiled.items()}
            functions.remember(key, jobs)
        return jobs


def lanes_of(batch: Batch) -> int:
    return len(next(iter(batch.values())))
