"""Laws that hold of every program, as functions that measure the largest deviation from them.

    subject = Subject(load_text(text))     the emitted source, run as it is in float64
    agreement(subject, batches)            against the interpreter: {"outputs loss": 3e-16, ..}
    causality(subject, batch, t) == 0.0    later tokens change nothing earlier

Every function returns the largest deviation that it found, relative to `max(1, max|expected|)` for
each tensor; a value that is not a number deviates by infinity. `causality`, `independence`,
`stillness` and `repeatability` must be exactly zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nldsl.core.nodes import Node, Tree, walk
from nldsl.core.program import ENDS, STATE, Clock, Memory, Program, per_worker
from nldsl.oracle.interpreter import Oracle
from nldsl.oracle.operators import Value, array, leaves
from nldsl.pipeline import compile_program
from nldsl.schedule.plan import moving, plan
from nldsl.step.compile import CompiledStep
from nldsl.step.emit import Emitter
from nldsl.step.loading import Files
from nldsl.step.module import in_precision
from nldsl.step.reading import load_module

EXACT = 1e-9  # float64, the same equations in another order
DIFFERENCE = 1e-6  # derivatives from differences
VALUES, GRADIENTS = 1e-4, 1e-3  # float32, other kernels
Batch = dict[str, Tensor]
Carry = dict[str, Tensor]  # what goes on after the tokens of a batch


def deviation(found: Tensor, wanted: Tensor) -> float:
    """max|found - wanted| / max(1, max|wanted|); infinity where one is not finite, or the shapes
    differ.
    """
    if found.shape != wanted.shape or not (
        bool(found.isfinite().all()) and bool(wanted.isfinite().all())
    ):
        return math.inf
    if found.numel() == 0:
        return 0.0
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


def beyond(found: Mapping[str, float], bar: float = EXACT) -> dict[str, float]:
    """Of the deviations found, those that a law does not allow; one that is not a number among
    them.
    """
    return {name: x for name, x in found.items() if not x <= bar}


def flat(value: Value) -> Tensor:
    return torch.cat([x.reshape(-1) for x in leaves(value)])


class Subject:
    """A program with its emitted step, a state, and a function that returns all its streams."""

    def __init__(
        self,
        program: Program,
        seed: int = 0,
        capture: str = "eager",
        precision: str = "float64",
        step: CompiledStep | None = None,
        files: Files | None = None,
    ) -> None:
        self.program, self.seed = program, seed
        self.step = step or compile_program(
            program, precision=precision, capture=capture, files=files
        )
        self.state = self.step.init(seed)
        self.streams = self._streams()
        self.module = load_module(
            in_precision(Emitter(plan(program, self.streams)).emit(), "float64"), "streams"
        )
        self._start = {name: t.clone() for name, t in self.state.tensors.items()}

    def _streams(self) -> dict[str, Node]:
        """The outputs of the program that have a value for each token and read no memory but those
        of the loss.
        """
        moved, schedule = moving(self.program.outputs.values()), self.step.schedule.forward
        live = [
            *schedule.states,
            *(
                cell.name
                for family in (schedule.online.families if schedule.online else ())
                for cell in family.states
            ),
        ]

        def is_live(node: Node) -> bool:
            memory = self.program.memories[node["memory"]]
            return not self.program.levels[memory.level].clock.inner or any(
                c.startswith(memory.name) for c in live
            )

        return {
            name: node
            for name, node in self.program.outputs.items()
            if node in moved
            and not isinstance(node.type, Tree)
            and not (node.op in STATE and self.program.slow(node["memory"]))  # compared as such
            and all(is_live(n) for n in walk(node) if n.op in STATE)
        }

    def restart(self) -> Subject:
        """Back to the state before step 1."""
        for name, tensor in self._start.items():
            self.state.tensors[name].copy_(tensor)
        self.state.step = 0
        self.state.lanes.clear()
        return self

    def forward(
        self,
        batch: Batch,
        carry: Carry | None = None,
        position: int = 0,
        weights: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], Carry]:
        """All streams over the tokens of a batch, and the carry after them."""
        w = self.state.views if weights is None else weights
        inputs = self.step.place(batch)
        first = next(iter(inputs.values()))
        if carry is None:
            carry = self.module["start"](w, first.shape[0], next(iter(w.values())))
        streams, after = self.module["forward"](w, inputs, carry, position, "loop")
        return streams, after

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Of each weight that a level of the step clock learns from a fold over its period;
        unscaled by the rest of the objective.
        """
        sums, terms, _ = self.step.module["fresh"](
            self.state.views, self.step.place(batch), self.step.mode, {}
        )
        G, found = self.step.module["gradients"](self.state.views, sums), {}
        seeing = {
            adjoint.viewer.name for adjoint in self.step.schedule.steps.adjoints
        }  # they hear more than what one batch gives
        for heard in self.step.schedule.steps.hears:
            memory = self.program.memories[heard.memory]
            if memory.level in seeing:
                continue
            objectives = self.program.levels[memory.level].objectives
            means = [o for o in objectives if o.op == "fold" and o["how"] == "mean"]
            workers = self.program.workers if any(map(per_worker, means)) else None
            count = terms[heard.stream] / (workers.size if workers else 1) if means else 1
            whole = G[f"{heard.memory}|{heard.stream}"].reshape(-1) / max(1, count)
            for name, (at, size) in _places(memory).items():
                found[name] = whole[at : at + size]
        return found


def _places(memory: Memory) -> dict[str, tuple[int, int]]:
    """Weight -> offset and length in the flat vector of its memory."""
    out, at = {}, 0
    for path, shape in (
        memory.type.leaves if isinstance(memory.type, Tree) else (("", memory.type),)
    ):
        size = math.prod(a.size for a in shape)
        name = (
            memory.slots[path]
            if memory.slots is not None
            else f"{memory.name}.{path}"
            if path
            else memory.name
        )
        out[name] = (at, size)
        at += size
    return out


def agreement(subject: Subject, batches: Sequence[Batch]) -> dict[str, float]:
    """The emitted step against the slow interpreter: streams, memories and held copies after the
    first batch, its gradients, and everything that is kept after one step on each batch.
    """
    subject.restart()
    oracle = Oracle(
        subject.program,
        seed=subject.seed,
        planned_steps=subject.step.steps,
        files=subject.step.files,
    )
    slopes = subject.gradients(batches[0])
    found = _agreement_of_one_pass(subject, oracle, batches[0])
    learned: dict[str, Tensor] = {}
    for i, batch in enumerate(batches):
        subject.step(subject.state, [batch])
        oracle.step(batch, learned if i == 0 else None)
        for name, value in oracle.memories.items():
            if name in subject.state.tensors:
                found[f"step {i + 1} {name}"] = deviation(
                    subject.state.tensors[name].reshape(-1), flat(value)
                )
        for name, value in oracle.weights.items():
            if name in subject.state.views:
                found[f"step {i + 1} {name}"] = deviation(subject.state.views[name], value)
    return found | _agreement_of_slopes(subject.program, slopes, learned)


def _agreement_of_slopes(
    program: Program, slopes: Mapping[str, Tensor], learned: Mapping[str, Tensor]
) -> dict[str, float]:
    """Of the weights of levels with one objective, the gradients of the first batch."""
    single = {
        name
        for name, level in program.levels.items()
        if len(level.objectives) == 1 and level.objectives[0].op == "fold"
    }
    owners = {name: m.level for m in program.memories.values() for name in _places(m)}
    return {
        f"gradient {name}": deviation(g, learned[name].reshape(-1))
        for name, g in slopes.items()
        if name in learned and owners[name] in single
    }


def _agreement_of_one_pass(subject: Subject, oracle: Oracle, batch: Batch) -> dict[str, float]:
    """Streams and the carry of one batch."""
    program, result = subject.program, oracle.run(batch)
    with torch.no_grad():
        outputs, carry = subject.forward(batch)
    found = {
        f"output {name}": deviation(outputs[name], array(result.outputs[name]))
        for name in subject.streams
    }
    held = {f"{m}@{c.name or c.period}": value for (m, c), value in reversed(result.held.items())}
    for name, value in carried(program, carry).items():
        wanted = held.get(name) if "@" in name else result.memories[name]
        if wanted is not None:
            found[f"state {name}"] = deviation(flat(value), flat(wanted))
    return found


def carried(program: Program, carry: Mapping[str, Tensor]) -> dict[str, Value]:
    """The memories and held copies in a carry; trees put together again from their leaves."""
    out: dict[str, Value] = {}
    for memory in program.memories.values():
        paths = memory.type.paths() if isinstance(memory.type, Tree) else ("",)
        names = [f"{memory.name}.{path}" if path else memory.name for path in paths]
        for tail in {name[len(names[0]) :] for name in carry if name.split("@")[0] == names[0]}:
            parts = {
                path: carry[name + tail] for path, name in zip(paths, names) if name + tail in carry
            }
            if len(parts) == len(paths):
                out[memory.name + tail] = parts if isinstance(memory.type, Tree) else parts[""]
    return out


def causality(subject: Subject, batch: Batch, at: int, seed: int = 0) -> float:
    """Tokens from `at` on are replaced; values before them may not change. Streams that look ahead
    are one token behind, those that begin late lack their first rows.
    """
    other = {name: x.clone() for name, x in batch.items()}
    for name, x in other.items():
        x[:, at:] = _elsewhere(subject.program, name, x[:, at:], seed)
    with torch.no_grad():
        a, b = subject.forward(batch)[0], subject.forward(other)[0]
    tokens = next(iter(batch.values())).shape[1]
    shown = {name: max(0, at - (tokens - x.shape[1])) for name, x in a.items()}
    return max((_apart(a[n][:, :rows], b[n][:, :rows]) for n, rows in shown.items()), default=0.0)


def independence(subject: Subject, batch: Batch, seed: int = 0) -> float:
    """All sequences but the first are replaced; the first may not change."""
    other = {name: x.clone() for name, x in batch.items()}
    for name, x in other.items():
        x[1:] = _elsewhere(subject.program, name, x[1:], seed)
    with torch.no_grad():
        a, b = subject.forward(batch), subject.forward(other)
    return max(
        (_apart(x[:1], y[:1]) for x, y in zip(_tensors(a), _tensors(b), strict=True)), default=0.0
    )


def _apart(a: Tensor, b: Tensor) -> float:
    """Zero for the same bits, which a number that is not one has too."""
    return (
        0.0
        if torch.equal(_bits(a), _bits(b))
        else max(deviation(a, b), torch.finfo(torch.float64).tiny)
    )


def _bits(x: Tensor) -> Tensor:
    return x.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()])


def _tensors(result: tuple[dict[str, Tensor], Carry]) -> list[Tensor]:
    return [x for part in result for x in part.values() if isinstance(x, Tensor)]


def _elsewhere(program: Program, name: str, x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    if name in program.vocab:
        return (
            x + torch.randint(1, max(2, program.vocab[name]), x.shape, generator=generator)
        ) % program.vocab[name]
    if name == ENDS:
        return ~x
    return torch.randn(x.shape, dtype=x.dtype, generator=generator)


def splits(subject: Subject, batch: Batch) -> float:
    """A sequence cut in two at every token, the carry handed on, against one pass: streams and
    carry.
    """
    with torch.no_grad():
        whole, last = subject.forward(batch)
        worst, tokens = 0.0, next(iter(batch.values())).shape[1]
        for at in range(1, tokens):
            first, carry = subject.forward({n: x[:, :at] for n, x in batch.items()})
            second, end = subject.forward({n: x[:, at:] for n, x in batch.items()}, carry, at)
            for name in whole:
                worst = max(
                    worst, deviation(torch.cat([first[name], second[name]], 1), whole[name])
                )
            for name, x in last.items():
                if isinstance(x, Tensor):
                    worst = max(worst, deviation(end[name], x))
    return worst


def stillness(subject: Subject, batches: Sequence[Batch]) -> tuple[list[tuple[str, ...]], float]:
    """One step on each batch: the levels whose memories moved at each, and how far any moved that
    should have stood still.
    """
    subject.restart()
    slow = {name: level for name, level in subject.program.levels.items() if not level.clock.inner}
    moved, worst = [], 0.0
    for i, batch in enumerate(batches):
        before = {n: t.clone() for n, t in subject.state.tensors.items()}
        subject.step(subject.state, [batch])
        now = []
        for name, level in slow.items():
            apart = max(
                (
                    _apart(subject.state.tensors[m], before[m])
                    for m in level.memories
                    if m in before
                ),
                default=0.0,
            )
            root = subject.program.root(level)
            if root.clock.ticks(i + 1) and level.clock.ticks(i + 1) or level.reset.ticks(i + 1):
                if apart:
                    now.append(name)
            else:
                worst = max(worst, apart)
        moved.append(tuple(now))
    return moved, worst


def stillness_within(subject: Subject, batch: Batch) -> float:
    """Token by token: how far a memory of the token clock moved at a token at which neither its
    clock nor its reset ticks. A tick that waits for the next token is due one token later.
    """
    worst, tokens, carry, old = 0.0, next(iter(batch.values())).shape[1], None, None
    with torch.no_grad():
        for t in range(tokens):
            _, carry = subject.forward({n: x[:, t : t + 1] for n, x in batch.items()}, carry, t)
            now = carried(subject.program, carry)
            for name, value in now.items():
                memory, _, held = name.partition("@")
                level = subject.program.levels[subject.program.memories[memory].level]
                clock = (
                    level.clock
                    if not held
                    else next(
                        (c for c in _clocks(subject, memory) if (c.name or str(c.period)) == held),
                        None,
                    )
                )
                waits = any(n.op == "ahead" for n in walk(*subject.program.root(level).objectives))
                due = t if waits else t + 1
                still = (
                    clock is not None
                    and not clock.ticks(due)
                    and not (level.reset.unit == "token" and level.reset.ticks(due))
                )
                if old is not None and still:
                    worst = max(
                        worst, *(_apart(a, b) for a, b in zip(leaves(value), leaves(old[name])))
                    )
            old = {
                n: {p: x.clone() for p, x in v.items()} if isinstance(v, dict) else v.clone()
                for n, v in now.items()
            }
    return worst


def _clocks(subject: Subject, memory: str) -> list[Clock]:
    """At which copies of the memory are read."""
    roots = [m.next for m in subject.program.memories.values() if m.next is not None] + list(
        subject.program.outputs.values()
    )
    return [n["clock"] for n in walk(*roots) if n.op == "held" and n["memory"] == memory]


def repeatability(
    program: Program, batches: Sequence[Batch], seed: int = 0, files: Files | None = None
) -> float:
    """Two runs of one seed."""
    runs = []
    for _ in range(2):
        subject = Subject(program, seed, files=files)
        for batch in batches:
            subject.step(subject.state, [batch])
        runs.append(subject.state.tensors)
    return max(_apart(a, runs[1][name]) for name, a in runs[0].items())


def slope(subject: Subject, batch: Batch, seed: int = 0) -> float:
    """The gradient of the first learned-from stream's sum along a random direction, against central
    differences of fourth order: the best of several distances, since unit lengths and norms of
    small vectors bend sharply.
    """
    step, generator = subject.step, torch.Generator().manual_seed(seed)
    inputs, name = step.place(batch), step.heard[0]
    heard = [h for h in step.schedule.steps.hears if h.stream == name]
    weights = [n for h in heard for n in _places(subject.program.memories[h.memory])]
    weights = [n for n in dict.fromkeys(weights) if n in subject.state.views]
    direction = {
        n: torch.randn(subject.state.views[n].shape, dtype=torch.float64, generator=generator)
        for n in weights
    }

    def value(moved: float) -> tuple[dict[str, Tensor], Tensor]:
        W = {
            n: w.detach() + moved * direction[n] if n in direction else w.detach()
            for n, w in subject.state.views.items()
        }
        W = {n: w.requires_grad_() for n, w in W.items()}
        return W, step.module["fresh"](W, inputs, step.mode, {})[0][name]

    W, total = value(0.0)
    if not total.requires_grad:
        return 0.0
    slopes = torch.autograd.grad(total, [W[n] for n in weights], allow_unused=True)
    along = sum(float((g * direction[n]).sum()) for n, g in zip(weights, slopes) if g is not None)
    worst = math.inf
    for distance in (1e-6, 1e-5, 1e-7, 1e-4):
        near, far = (
            float(value(h)[1].detach() - value(-h)[1].detach()) / (2 * h)
            for h in (distance, 2 * distance)
        )
        worst = min(worst, abs((4 * near - far) / 3 - along) / max(1.0, abs(along)))
        if worst < DIFFERENCE:
            break
    return worst


def sensitivity(subject: Subject, batch: Batch, seed: int = 0) -> float:
    """The deviation of streams and gradients when every weight and every real input moves by one
    unit in the last place. A whole number stays: it is exact, and may well be where a kink is.
    """
    generator = torch.Generator().manual_seed(seed)

    def nudged(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        near = torch.nextafter(
            x.detach(), x.detach() + torch.randn(x.shape, dtype=x.dtype, generator=generator).sign()
        )
        return torch.where(x.detach() % 1 == 0, x.detach(), near)

    outputs, gradients = subject.forward(batch)[0], subject.gradients(batch)
    old = {n: t.clone() for n, t in subject.state.tensors.items()}
    with torch.no_grad():
        for tensor in subject.state.tensors.values():
            tensor.copy_(nudged(tensor))
    moved = {n: nudged(x) for n, x in batch.items()}
    others, slopes = subject.forward(moved)[0], subject.gradients(moved)
    with torch.no_grad():
        for name, tensor in old.items():
            subject.state.tensors[name].copy_(tensor)
    pairs = [(others[n], x) for n, x in outputs.items()] + [
        (slopes[n], x) for n, x in gradients.items()
    ]
    return max((deviation(a, b) for a, b in pairs), default=0.0)


def cut(program: Program) -> bool:
    """Does some equation hide a derivative from the levels of the step clock, so that differences
    do not give what they learn?
    """
    return any(
        b.depth != "full"
        for level in program.levels.values()
        if level.clock.unit == "token"
        for b in level.bptt
    ) or any(n.op in ("stop", "sign") for n in walk(*program.roots()))


def stride(subject: Subject, batches: Sequence[Batch], times: float) -> None:
    """One step on each batch, then everything that moved is moved `times` as far: a training with a
    large learning rate.
    """
    subject.restart()
    for batch in batches:
        subject.step(subject.state, [batch])
    with torch.no_grad():
        for view in subject.state.views.values():
            owner = next(
                (t for n, t in subject.state.tensors.items() if t.data_ptr() == view.data_ptr()),
                None,
            )
            if owner is not None:
                owner.add_((owner - subject._start[_name(subject, owner)]) * (times - 1))


def _name(subject: Subject, tensor: Tensor) -> str:
    return next(n for n, t in subject.state.tensors.items() if t is tensor)


def renaming(subject: Subject, other: Subject, batches: Sequence[Batch]) -> float:
    """Two programs that differ in names alone, from one start: streams, and all that is kept after
    a step on each batch.
    """
    subject.restart()
    drawn = [
        [x.detach() for n, x in s.state.views.items() if n.startswith("random:")]
        for s in (subject, other)
    ]  # by their names
    for a, b in zip(
        [*subject.state.tensors.values(), *drawn[0]],
        [*other.state.tensors.values(), *drawn[1]],
        strict=True,
    ):
        b.copy_(a)
    worst = 0.0
    for batch in batches:
        same = dict(zip(other.program.inputs, batch.values(), strict=True))
        with torch.no_grad():
            pairs = zip(
                subject.forward(batch)[0].values(), other.forward(same)[0].values(), strict=True
            )
            worst = max([worst, *(_apart(a, b) for a, b in pairs)])
        subject.step(subject.state, [batch])
        other.step(other.state, [same])
        worst = max(
            [
                worst,
                *(
                    _apart(a, b)
                    for a, b in zip(
                        subject.state.tensors.values(), other.state.tensors.values(), strict=True
                    )
                ),
            ]
        )
    return worst
