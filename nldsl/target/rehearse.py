"""PROGRAM -> the graphs of its training step, each with its calls, and what the host does between
them.

The emitted step is run twice on tensors that have a size and no contents: functions are lowered
when they are first called, then calls are counted. Nothing is computed, so neither the memory nor
the time of a real step is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.schedule.timetable import Timetable
from nldsl.step import room
from nldsl.step.batches import Batch
from nldsl.step.compile import CompiledStep
from nldsl.step.functions import Job, Run, Tell, unwatched
from nldsl.step.loading import Files
from nldsl.target.count import Graph, Launch
from nldsl.target.devices import Gpu
from nldsl.target.lower import Lowered, lowered
from nldsl.train.bench import random_batch

IDLE = ("alias", "detach", "empty", "empty_like", "empty_strided", "_unsafe_view")
COPIES = ("lift_fresh", "_local_scalar_dense")  # a list or a number of the host, or one for it


@dataclass(frozen=True)
class Part:
    """A graph of a function of the emitted text; `times` it is called in a mean step."""

    name: str
    graph: Graph
    times: float


@dataclass
class Rehearsal:
    """A mean step over the kinds of steps, whose text is `source`. `eager`: what is launched
    between graphs, and how often; `copies` between host and device; `kept`: bytes of tensors kept
    for the backward pass; `memories`: how each recurrence is computed, by its region.
    """

    source: str
    parts: list[Part] = field(default_factory=list)
    eager: Counter[Launch] = field(default_factory=Counter)
    copies: float = 0.0
    kept: int = 0
    memories: dict[str, str] = field(default_factory=dict)

    def add(self, made: Host, share: float) -> None:
        for launch, n in made.eager.items():
            self.eager[launch] += n * share  # type: ignore[assignment]
        self.copies += made.copies * share


class Host(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what the host calls while graphs are only counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.eager: Counter[Launch] = Counter()
        self.copies = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in COPIES:
            self.copies += 1
        elif func.namespace == "aten" and not func.is_view and name not in IDLE:
            tensors = [x for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)]
            size = sum(x.numel() * x.element_size() for x in tensors)
            if any(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor)):
                self.eager[Launch(True, name, size)] += 1
        return made


def rehearsed(
    program: Program,
    gpu: Gpu,
    batch: int,
    length: int,
    precision: str,
    files: Files | None = None,
    tell: Tell = unwatched,
) -> Rehearsal:
    """Raises Diagnostics as `compile_program` does, and N803 if the GPU cannot hold the state."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = pipeline.compile_program(
            program, "cpu", precision, "split", files=files, at_once=True, kernels=True
        )
        step.budget.measures = False
        inputs: list[Batch] = [step.place(random_batch(program, batch, length, "cpu"))]
        lowering(step, gpu, tell)
        taken = room.state_bytes(step.updates.state, step.dtype)
        if taken > gpu.memory:
            what = "the weights and what their optimizers keep"
            has = room.said(gpu.memory)
            raise room.no_room(f"{what} take {room.said(taken)}, an {gpu.name} has {has}")
        for _ in step.rehearsed(step.drawn(0), inputs):
            pass
        return counted(step, inputs)


def lowering(step: CompiledStep, gpu: Gpu, tell: Tell) -> None:
    """Has functions lowered where they would be compiled."""
    for name, function in step.compiled.items():

        def obtain(jobs: Sequence[Job], _: Tell, name: str = name) -> list[Run]:
            tell(name)
            return [lowered(job, gpu) for job in jobs]

        function.obtain = obtain


def counted(step: CompiledStep, inputs: Sequence[Batch]) -> Rehearsal:
    """A step whose functions are lowered."""
    found = Rehearsal(step.source)
    found.memories = {name: step.lowering(name) for name in step.emitted.recurrences}
    graphs = [
        (name, graph)
        for name, function in step.compiled.items()
        for run in function.made.values()
        if isinstance(run, Lowered)
        for graph in run.graphs
    ]
    for _, graph in graphs:
        graph.calls = 0
    times: Counter[int] = Counter()
    shares = [1.0, *shares_of(step.schedule.table)]
    stretches = step.rehearsed(step.drawn(0), inputs)
    for share in shares:
        with Host() as host:
            found.kept = max(found.kept, kept_in(lambda: next(stretches)))
        found.add(host, share)
        for i, (_, graph) in enumerate(graphs):
            times[i] += graph.calls * share  # type: ignore[assignment]
            graph.calls = 0
    found.parts = [
        Part(name, graph, times[i]) for i, (name, graph) in enumerate(graphs) if times[i]
    ]
    return found


def shares_of(table: Timetable) -> list[float]:
    """Of the steps, those of each kind."""
    kinds = Counter(table.turn)
    return [kinds[i] / table.hyperperiod for i in range(1, 1 + len(table.events))]


def kept_in(run: Callable[[], object]) -> int:
    """Bytes of all that autograd keeps in a call, what shares its memory once."""
    found: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        found[storage._cdata] = storage.nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(found.values())
