"""Run by `torchrun`: ranks take the steps of small examples together, and each of them compares
some with the same steps of one process.

    torchrun --nproc-per-node 2 tests/ranked.py OUT [--shard] hope=20 titans=5

OUT/NAME.json: `losses` and `states`, the largest difference between the two, lanes and sums of a
period included; `replicas`, how far what all ranks hold is apart; `sent`, in each step the bytes of
each message; `levels`, what the report says of a level; of examples of workers `loop`, how far the
ranks are from a loop over workers, as torch would write it. With --shard each rank holds a part of
the state: `bytes` are those of a rank and of one process, `gathered` and `scattered` those that a
rank gives in each step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from test_workers import HEAD, TEXTS, Loop
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nldsl import pipeline
from nldsl.core.program import Program
from nldsl.step import reductions
from nldsl.step.compile import CompiledStep
from nldsl.step.gathers import held
from nldsl.step.state import State, bytes_of
from nldsl.testing import data
from nldsl.train.checkpoint import by_name
from nldsl.train.ranks import Ranks

SMALL = {
    "hope": "d=8 head=2 vocab=5 depth=1 span=4 near=2",
    "cms": "d=8 head=2 vocab=5 depth=1",
    "titans": "d=8 head=2 vocab=5 depth=1",
    "ttt_e2e": "d=8 head=2 vocab=5 depth=4 minibatch=3 window=4",
    "optimizer_m3": "d=8 head=2 vocab=5 depth=1",
    "lifelong": "d=8 head=2 vocab=5 depth=1",
    "titans_carried": "d=8 head=2 vocab=5 depth=1",
    "transfer_backpropagation": "d=8 head=2 vocab=5 depth=1",
    "learned_optimizer": "d=8 head=2 vocab=5 depth=1",
    "diloco": "d=8 head=2 vocab=5 depth=1 worker=4 round=3",
    "local_sgd": "d=8 head=2 vocab=5 depth=1 worker=4 round=3",
}
EXAMPLES = Path(__file__).parent.parent / "examples"
BATCH, ACCUMULATE, LENGTH = 4, 2, 8


def program_of(name: str, **sizes: str) -> Program:
    """An example, or what tests of workers say of four of them. `sizes`: others than `SMALL`."""
    if name in TEXTS:
        return pipeline.load_text(HEAD + TEXTS[name], f"{name}.nl", {"worker": "4"})
    text = (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8")
    named = dict(row.split("=") for row in SMALL[name].split()) | sizes
    return pipeline.load_text(
        text, f"{name}.nl", {key: value for key, value in named.items() if f"{key} = " in text}
    )


def batches(program: Program, n: int, ranks: Ranks) -> list[dict[str, Tensor]]:
    """Those of step n, of the lanes of one rank."""
    whole = [data(program, BATCH, LENGTH, 10 * n + micro) for micro in range(ACCUMULATE)]
    share = ranks.share(BATCH)
    mine = slice(ranks.rank * share, (ranks.rank + 1) * share)
    return [{name: x[mine] for name, x in batch.items()} for batch in whole]


class Counted(TorchDispatchMode):
    """Within, the bytes of each message are noted, those of a step together."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, list[int]]] = []

    def begin(self) -> None:
        self.steps.append(
            {"all_reduce": [], "all_gather_into_tensor": [], "reduce_scatter_tensor": []}
        )

    def of(self, message: str) -> list[list[int]]:
        return [step[message] for step in self.steps]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if func.namespace == "_c10d_functional" and name in self.steps[-1]:
            self.steps[-1][name].append(args[0].numel() * args[0].element_size())
        return func(*args, **(kwargs or {}))


def trained(
    program: Program, steps: int, ranks: Ranks, shard: bool = False
) -> tuple[CompiledStep, State, Tensor, Counted]:
    step = pipeline.compile_program(
        program,
        precision="float64",
        capture="eager",
        accumulate=ACCUMULATE,
        ranks=ranks.count,
        rank=ranks.rank,
        shard=shard,
    )
    state = step.init(0)
    step.seat(state, BATCH * ACCUMULATE)
    state = ranks.parted(step, state, ACCUMULATE)
    losses, messages = [], Counted()
    for n in range(1, 1 + steps):
        messages.begin()
        with messages:
            losses.append(step(state, batches(program, n, ranks))["loss"].double())
    return step, state, ranks.total(torch.stack(losses)), messages


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((float((x - b[name]).abs().max()) for name, x in a.items() if x.numel()), default=0)


def replicas(step: CompiledStep, state: State) -> float:
    """The largest difference between what ranks hold alike."""
    own = [*reductions.parts(step.updates), *reductions.entries(step.updates)]
    own += step.updates.divided
    shared = [x.double().reshape(-1) for name, x in state.tensors.items() if name not in own]
    high, low = torch.cat(shared), torch.cat(shared)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    dist.all_reduce(low, dist.ReduceOp.MIN)
    return float((high - low).max())


def from_a_loop(name: str, steps: int, made: Mapping[str, Tensor], losses: Tensor) -> float:
    """The largest difference of losses, of what is shared and of what each worker has."""
    program = program_of(name)
    start = pipeline.compile_program(program, precision="float64", capture="eager").init(0)
    workers = program.workers.size if program.workers else 1
    loop = Loop({n: start.views[n] for n in program.weights}, name, workers)
    found = []
    for n in range(1, 1 + steps):
        micros = torch.stack([one["ids"] for one in batches(program, n, Ranks())])
        each = micros.reshape(ACCUMULATE, workers, -1, LENGTH).transpose(0, 1).flatten(0, 2)
        found.append(float(abs(loop.step(each, n) - losses[n - 1])))
    for weight, shared in loop.shared.items():
        own = torch.stack([worker.w[weight].detach() for worker in loop.workers])
        found.append(float((made[weight] - shared.detach()).abs().max()))
        found.append(float((made[f"local.W.{weight}"] - own).abs().max()))
    return max(found)


def main() -> None:
    dist.init_process_group("gloo")
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    out, shard = Path(sys.argv[1]), "--shard" in sys.argv
    asked = [word.split("=") for word in sys.argv[2:] if "=" in word]
    steps = {name: int(count) for name, count in asked}
    for name in steps:
        program = program_of(name)
        step, state, losses, messages = trained(program, steps[name], ranks, shard)
        found = {
            "sent": messages.of("all_reduce"),
            "gathered": messages.of("all_gather_into_tensor"),
            "scattered": messages.of("reduce_scatter_tensor"),
            "bytes": [bytes_of(state.tensors)],
            "replicas": replicas(step, state),
            "levels": [asdict(one) for one in reductions.traffic(step.updates, 8)],
            "held": [asdict(one) for one in held(step.updates, step.emitted, 8)] if shard else [],
        }
        made = by_name(ranks.gathered(step, state, ACCUMULATE))
        if ranks.is_first:
            torch.save((made, losses, found), out / f"{name}.pt")
    dist.barrier()
    for name in [*steps][ranks.rank :: ranks.count]:
        program = program_of(name)
        made, losses, found = torch.load(out / f"{name}.pt")
        _, state, alone, _ = trained(program, steps[name], Ranks())
        found["bytes"].append(bytes_of(state.tensors))
        found["losses"] = float((losses - alone).abs().max())
        found["states"] = apart(made, by_name(state))
        if name in ("diloco", "local_sgd"):
            found["loop"] = from_a_loop(name, steps[name], made, losses)
        (out / f"{name}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
