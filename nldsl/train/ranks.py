"""The processes that `torchrun` starts, as ranks of one run: which lanes each of them has, what
they tell each other, and which of them is gone.

    lanes   of each micro-batch a rank has the sequences from rank * n on, n = batch / ranks
    workers a rank has those that its lanes belong to
    state   every rank holds all of it, but of levels per worker the entries of its own workers, and
            of the sums that a period adds up its own part
    files   rank 0 alone writes them, and the screen

A value that not all ranks would find alike (a time, a signal, what a folder holds) is that of rank
0, or of a message that all of them take part in.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.schedule.shares import share
from nldsl.step import reductions
from nldsl.step.compile import CompiledStep
from nldsl.step.flat import shape_of
from nldsl.step.state import State
from nldsl.train import faults
from nldsl.train.records import Settings

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # one rank may score, or compile, while the others wait
FOUND = timedelta(seconds=120)  # the others are there
TELLING = 1.0  # seconds that telling takes at most
ENDING = 50  # tenths of a second that a process takes to end when its sockets are closed
FOLDER = "nldsl folder"  # in the store, which outlives a restart


class Ranks:
    """This process among `count`; `attempt` counts the restarts of `torchrun`."""

    def __init__(self, rank: int = 0, count: int = 1, attempt: int = 0) -> None:
        self.rank, self.count, self.attempt = rank, count, attempt
        self.store: Store | None = None
        self.speaks: bool | None = None  # is this the rank that tells what went wrong?

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    # -- lanes

    def share(self, batch: int) -> int:
        """Sequences of a micro-batch on each rank. Raises N722 if they are not equally many."""
        if batch % self.count:
            raise faults.undivided(batch, self.count)
        return batch // self.count

    def hold(self, settings: Settings, program: Program | None = None) -> None:
        """Raises N722, N724 or N760 for what they cannot part."""
        self.share(settings.batch)
        if program is not None and program.workers is not None:
            share(program, self.count)
            if settings.batch % program.workers.size:
                raise faults.unshared(settings.batch, program.workers.size)

    def micro(self, micro: int) -> int:
        """The number of a micro-batch of this rank among those of all."""
        return micro * self.count + self.rank

    def own(self, lanes: Tensor, accumulate: int) -> Tensor:
        """Those of [lane, ..] that this rank has."""
        parted = lanes.reshape(accumulate, self.count, -1, *lanes.shape[1:])
        return parted[:, self.rank].flatten(0, 1)

    # -- messages

    def first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on every rank; what it raises as Diagnostics, too."""
        if self.count == 1:
            return make()
        import torch.distributed as dist

        told: list[object] = [None]
        failed: Diagnostics | None = None
        if self.is_first:
            try:
                told = [make()]
            except Diagnostics as found:
                self.tells()
                told, failed = [found], found
        dist.broadcast_object_list(told, 0)
        if isinstance(told[0], Diagnostics):
            raise failed or told[0]
        found_there: T = told[0]  # type: ignore[assignment]
        return found_there

    def total(self, x: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(x)
        return x

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Within, the first rank of a machine goes before the others, which find what it kept."""
        leads = self.count == 1 or os.environ.get("LOCAL_RANK", "0") == "0"
        if not leads:
            self.wait()
        yield
        if self.count > 1 and leads:
            self.wait()

    def wait(self) -> None:
        """For all ranks."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()

    # -- states

    def parted(self, step: CompiledStep, state: State, accumulate: int) -> State:
        """A state of all lanes -> that of this rank: its lanes; of what a period has added up, all
        on rank 0 and nothing on the others. Of workers it has this rank's anyway.
        """
        if self.count == 1:
            return state
        whole, state.lanes = state.lanes, {}
        if whole:
            step.seat(state, len(next(iter(whole.values()))) // self.count)
        with torch.no_grad():
            for name, lanes in state.lanes.items():
                lanes.copy_(self.own(whole[name], accumulate))
            for name in reductions.parts(step.updates) if not self.is_first else ():
                state.tensors[name].zero_()
        return step.parted(state)

    def gathered(self, step: CompiledStep, state: State, accumulate: int) -> State:
        """The state of one process with all lanes, on rank 0; on the others, what they have."""
        if self.count == 1:
            return state
        import torch.distributed as dist

        tensors, lanes = self.wholes(step, state), dict(state.lanes)
        for name in reductions.parts(step.updates):
            tensors[name] = state.tensors[name].clone()
            dist.reduce(tensors[name], 0)
        workers, types = step.program.workers, reductions.entries(step.updates)
        for name, type in types.items():
            if workers is not None and (found := self.collected(state.tensors[name])):
                tensors[name] = reductions.joined(found, type, workers)
        for name, x in state.lanes.items():
            if found := self.collected(x):
                parts = [each.reshape(accumulate, -1, *x.shape[1:]) for each in found]
                lanes[name] = torch.stack(parts, 1).flatten(0, 2)
        if step.shards.are:
            made = replace(state, tensors=tensors, lanes=lanes)
            return step.as_whole(made) if self.is_first else made
        places = step.whole_places if types and self.is_first else state.places
        return replace(state, tensors=tensors, lanes=lanes, places=places)

    def seen(self, step: CompiledStep, state: State) -> State:
        """A state that rank 0 can score: whole there; on the others what they have."""
        if not step.shards.are:
            return state
        found = replace(state, tensors=self.wholes(step, state))
        return step.as_whole(found) if self.is_first else found

    def wholes(self, step: CompiledStep, state: State) -> dict[str, Tensor]:
        """The tensors of a state, on rank 0 whole."""
        tensors = dict(state.tensors)
        for name, type in step.updates.divided.items():
            if parts := self.collected(state.tensors[name]):
                whole = step.shards.whole(torch.stack(parts), type)
                tensors[name] = whole.view(shape_of(type))
        return tensors

    def collected(self, x: Tensor) -> list[Tensor]:
        """What each rank has, on rank 0; nothing on the others."""
        import torch.distributed as dist

        found = [torch.empty_like(x) for _ in range(self.count)] if self.is_first else None
        dist.gather(x.contiguous(), found)
        return found or []

    # -- what goes wrong

    def tells(self) -> bool:
        """Is this the first rank that something went wrong on? It alone tells."""
        if self.speaks is None:
            self.speaks = self.store is None or self.store.add(f"told {self.attempt}", 1) == 1
        return self.speaks

    def sign(self) -> None:
        """Leaves for the others where this rank is."""
        assert self.store is not None, "ranks meet in a store"
        place = f"{socket.gethostname()} {os.getpid()}"
        self.store.set(f"place {self.attempt} {self.rank}", place)

    def gone(self) -> list[int]:
        """The ranks of this machine whose processes have ended: soon after a message failed."""
        for _ in range(ENDING):
            if found := self.ended():
                return found
            time.sleep(0.1)
        return []

    def ended(self) -> list[int]:
        assert self.store is not None, "ranks meet in a store"
        found = []
        for rank in range(self.count):
            with suppress(RuntimeError):
                place = self.store.get(f"place {self.attempt} {rank}").decode()
                host, _, pid = place.rpartition(" ")
                if host == socket.gethostname() and ended(int(pid)):
                    found.append(rank)
        return found

    # -- restarts

    def note_folder(self, folder: Path) -> None:
        """For a restart of `torchrun`, which says the same command again."""
        if self.store is not None and self.is_first:
            self.store.set(FOLDER, str(folder.resolve()))

    def noted_folder(self) -> Path | None:
        """The folder of the run that was begun before a restart."""
        if self.store is None or not self.attempt or not self.store.check([FOLDER]):
            return None
        return Path(self.store.get(FOLDER).decode())


ALONE = Ranks()


def ended(pid: int) -> bool:
    """Has a process of this machine ended, whether or not its parent knows?"""
    try:
        os.kill(pid, 0)
        said = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return True
    except OSError:  # of another user, or no /proc
        return False
    return said.rpartition(")")[2].split()[0] in "ZX"


def launched() -> bool:
    """Did `torchrun` start this process as one of several?"""
    told = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return told and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """This process among the ranks of `torchrun`, or alone. A rank that is gone is N723, told once;
    ranks other than 0 say nothing else.
    """
    if not launched():
        yield ALONE
        return
    if "cuda" in device:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    ranks = met()
    screen, nowhere = sys.stderr, open(os.devnull, "w", encoding="utf-8")  # till the process ends
    if not ranks.is_first:
        sys.stdout = sys.stderr = nowhere
    try:
        yield ranks
        ranks.wait()  # none closes its connections while another still uses its own
    except RuntimeError as error:
        if type(error) is not RuntimeError and not isinstance(error, torch.distributed.DistError):
            raise  # an exit
        gone = ranks.gone()
        sys.stderr = screen if told(ranks) else nowhere
        raise faults.rank_gone(gone, ranks.count) if gone else error from None
    except Exception:
        sys.stderr = screen if told(ranks) else nowhere
        raise
    torch.distributed.destroy_process_group()


def told(ranks: Ranks) -> bool:
    """Is it this rank that tells what went wrong? The others wait until it has: when the first of
    them ends, `torchrun` ends the rest.
    """
    if ranks.tells():
        return True
    time.sleep(TELLING)
    return False


def met() -> Ranks:
    """Joins the others. The store is told of restarts: what an earlier attempt left there is not
    read by mistake.
    """
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    def number(name: str) -> int:
        return int(os.environ.get(name, "0"))

    ranks = Ranks(number("RANK"), number("WORLD_SIZE"), number("TORCHELASTIC_RESTART_COUNT"))
    keeps = ranks.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    place = os.environ["MASTER_ADDR"], number("MASTER_PORT"), ranks.count
    ranks.store = TCPStore(*place, is_master=keeps, timeout=FOUND)
    ranks.sign()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore(f"attempt {ranks.attempt}", ranks.store),
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=PATIENCE,
    )
    return ranks
