"""The training loop, and the two things that may end it early: a signal and a number that is not
finite.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import torch

from nldsl.step.batches import Batch
from nldsl.step.state import State
from nldsl.train import metrics
from nldsl.train.display import Display
from nldsl.train.metrics import Journal
from nldsl.train.skipping import SKIPPED

if TYPE_CHECKING:
    from nldsl.step.gauges import Readings
    from nldsl.train.levels import Watching

DRAIN_SECONDS = 0.5  # metrics are fetched from the device at most this often
FEW, MANY = 3, 100  # skipped steps: so many are told one by one, then every so many


class NotFinite(Exception):
    """The loss of a step, or a tensor that would be saved after it, is not a number."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what


class Next(NamedTuple):
    """What is to be done after a step: is its state to be saved, are there enough steps?"""

    save: bool = False
    enough: bool = False


class Steps(Protocol):
    """What takes steps: a compiled step, or one that leaves out what is not finite."""

    def fired(self, n: int) -> tuple[str, ...]: ...

    def __call__(self, state: State, batches: Sequence[Batch]) -> dict[str, torch.Tensor]: ...


class Moment(Protocol):
    def since(self, other: Self) -> float:
        """Seconds; asked once the work between is done."""


class Now:
    """On the CPU, where a step is done when its call returns."""

    def __init__(self) -> None:
        self.at = time.perf_counter()

    def since(self, other: Now) -> float:
        return self.at - other.at


class Queued:
    """On a CUDA device: when the work that was asked for so far is done."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record()

    def since(self, other: Queued) -> float:
        return float(other.event.elapsed_time(self.event)) / 1000


def loop(
    step: Steps,
    state: State,
    batches: Callable[[int], list[dict[str, torch.Tensor]]],
    steps: int,
    log: Log,
    save: Callable[[State], None],
    due: Callable[[int], bool],
    interrupt: Interrupt,
    before: Callable[[State, Log], None],
    after: Callable[[State, Log], Next],
) -> None:
    """Train from `state.step` to `steps`, or to the step in which the interrupt comes, or after
    which it is enough; the state is saved after the steps that are `due`, the last among them, and
    where that is wanted. Raises NotFinite.
    """
    enough = False
    with interrupt.after_the_step():
        while state.step < steps and not interrupt.asked and not enough:
            n = state.step + 1
            before(state, log)
            with log.timed(n):
                values = step(state, batches(n))
            log.add(n, values, step.fired(n))
            wanted, enough = after(state, log)
            if wanted or enough or due(n):
                log.drain()
                save(state)


class Log:
    """Metrics on their way from the device to the journal and the screen; waits for the device only
    in `drain`.
    """

    def __init__(
        self,
        journal: Journal,
        display: Display,
        tokens: int,
        bits: Callable[[float], float] | None = metrics.bits,
        clock: Callable[[], Moment] = Now,
        watching: Watching | None = None,
    ) -> None:
        """`bits` makes bits per byte of a loss that is one; None of any other. `watching` takes
        what levels did.
        """
        self.journal, self.display, self.tokens, self.bits, self.clock = (
            journal,
            display,
            tokens,
            bits,
            clock,
        )
        self.watching, self.skipped = watching, 0
        self._pending: list[
            tuple[int, dict[str, torch.Tensor], tuple[str, ...], Readings | None]
        ] = []
        self._moments: dict[int, tuple[Moment, Moment]] = {}
        self._since = time.perf_counter()
        self.total: Callable[[torch.Tensor], torch.Tensor] | None = None  # over all ranks

    @contextmanager
    def timed(self, n: int) -> Iterator[None]:
        """Around all of step `n` that is its own: its batch and its work on the device."""
        began = self.clock()
        yield
        self._moments[n] = began, self.clock()

    def add(self, n: int, values: dict[str, torch.Tensor], ticked: tuple[str, ...]) -> None:
        """Take over the 0-d tensors of step `n`; cloned, since a step may write its next ones in
        the same place.
        """
        own = {name: value.detach().clone() for name, value in values.items()}
        taken = self.watching.taken() if self.watching is not None else None
        self._pending.append((n, own, ticked, taken))
        if self.total is None and time.perf_counter() - self._since >= DRAIN_SECONDS:
            self.drain()

    def drain(self) -> None:
        """Write every pending step.

        Raises NotFinite at the first loss that is none: it is written, and not saved.
        """
        every = [
            x
            for _, values, _, taken in self._pending
            for x in (*(v.double() for v in values.values()), *(taken.squares if taken else ()))
        ]
        if self.total is not None and every:
            every = [*self.total(torch.stack(every))]
        found = iter(every)
        numbers = [
            (n, {name: next(found).item() for name in values}, ticked, self.levels(taken, found))
            for n, values, ticked, taken in self._pending
        ]
        self._pending, self._since = [], time.perf_counter()
        for n, values, ticked, levels in numbers:
            skipped = bool(values.pop(SKIPPED, 0))
            began, ended = self._moments.pop(n)
            seconds, loss = ended.since(began), float(values["loss"])
            known = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            if self.bits is not None and math.isfinite(loss):
                known["bits"] = self.bits(loss)
            names = [*values, *(["bits"] if self.bits is not None else ())]
            self.journal.write(
                "step",
                step=n,
                **{name: known.get(name) for name in names},
                tokens=self.tokens,
                seconds=round(seconds, 6),
                ticked=ticked,
                **levels,
                **({SKIPPED: True} if skipped else {}),
            )
            if skipped:
                self.skip(n)
            elif not math.isfinite(loss):
                raise NotFinite(n, "the loss of step")
            else:
                self.display.step(n, known, self.tokens / max(seconds, 1e-9), ticked)

    def levels(self, taken: Readings | None, squares: Iterator[torch.Tensor]) -> dict[str, object]:
        """What levels did, as the journal has it; the next of `squares` are theirs."""
        if taken is None or self.watching is None:
            return {}
        own = [next(squares).item() for _ in taken.names]
        return {"levels": self.watching.told(taken, own)}

    def skip(self, n: int) -> None:
        """Tells of a step that was left out; of many of them, of few."""
        self.skipped += 1
        if self.skipped <= FEW or self.skipped % MANY == 0:
            self.display.say(f"step {n} is not finite: skipped, {self.skipped} in all")


class Interrupt:
    """Ctrl-C and SIGTERM: at once outside the loop, after the step inside it; a second one is
    always at once.
    """

    def __init__(self) -> None:
        self.asked = self.heard = False  # to stop; of several ranks, once they agree
        self.alone = True
        self.doing = "before the first step"  # what an interrupt at once breaks off
        self._patient = False

    def __enter__(self) -> Interrupt:
        self._before = {
            number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self, doing: str) -> Iterator[None]:
        """While entered, a signal breaks off what is done now, inside the loop too; what is saved
        is as it was.
        """
        patient, was = self._patient, self.doing
        self._patient, self.doing = False, f"{doing}:{was.partition(':')[2]}"
        try:
            yield
        finally:
            self._patient = patient
        self.doing = was

    def after_the_step(self) -> Patience:
        return Patience(self)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.heard or not self._patient:
            raise KeyboardInterrupt
        self.heard = True
        self.asked = self.alone


class Patience:
    """While entered, the first signal only sets `interrupt.asked`."""

    def __init__(self, interrupt: Interrupt) -> None:
        self.interrupt = interrupt

    def __enter__(self) -> None:
        self.interrupt._patient = True

    def __exit__(self, *_: object) -> None:
        self.interrupt._patient = False
