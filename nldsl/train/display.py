"""Shows a run to a person: a live line on a terminal, plain lines anywhere else.

Both say the same things.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

LINE_SECONDS = 10.0  # between two plain lines of steps
BAR, CLOCK = 8, 7  # columns of a terminal
NEWEST = 0.1  # weight of the newest step in the shown rates


class Display(ABC):
    """Told of everything as it happens; `say` is for lines that stay."""

    @abstractmethod
    def say(self, text: str) -> None: ...

    @abstractmethod
    def compiling(self, what: str) -> None:
        """Begin to compile `what`; what was being compiled before is done."""

    @abstractmethod
    def compiled(self) -> None: ...

    @abstractmethod
    def training(self, done: int, steps: int) -> None:
        """Begin the loop, `done` of `steps` being behind."""

    @abstractmethod
    def step(
        self, n: int, known: Mapping[str, float], rate: float, ticked: tuple[str, ...]
    ) -> None:
        """Step `n` had this mean loss (and `bits` per byte, if tokens are bytes) and ran at `rate`
        tokens a second.
        """

    @abstractmethod
    def close(self) -> None: ...


def shown_on(console: Console) -> Display:
    return Live(console) if console.is_terminal else Lines(console)


class Lines(Display):
    """Plain lines, one every few seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._what: str | None = None
        self._rate: float | None = None  # tokens a second, smoothed

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def compiling(self, what: str) -> None:
        self.compiled()
        self._what, self._began = what, time.perf_counter()
        self.say(f"compiling {what}")

    def compiled(self) -> None:
        if self._what is not None:
            self.say(f"compiled {self._what} in {time.perf_counter() - self._began:.1f} s")
            self._what = None

    def training(self, done: int, steps: int) -> None:
        self.compiled()
        self._done, self._steps = done, steps
        self._began, self._printed, self._rate = time.perf_counter(), -LINE_SECONDS, None

    def step(
        self, n: int, known: Mapping[str, float], rate: float, ticked: tuple[str, ...]
    ) -> None:
        self._rate = smoothed(self._rate, rate)
        now = time.perf_counter()
        if n == self._steps or now - self._printed >= LINE_SECONDS:
            self._printed = now
            left = (now - self._began) / (n - self._done) * (self._steps - n)
            self.say(
                f"step {n}/{self._steps}  {measured(known)}  {self._rate:,.0f} tokens/s  "
                f"{clock(left)} left  ticked {short(ticked)}"
            )

    def close(self) -> None:
        self.compiled()


class Live(Display):
    """One line that is redrawn, on a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self._what: str | None = None

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def compiling(self, what: str) -> None:
        self.close()
        self._what, self._began = what, time.perf_counter()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("compiling {task.description}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._progress.add_task(what, total=None)
        self._progress.start()

    def compiled(self) -> None:
        self.close()

    def training(self, done: int, steps: int) -> None:
        self.close()
        self._known: dict[str, float] = {}
        self._rate: float | None = None
        count = MofNCompleteColumn(
            table_column=Column(no_wrap=True, min_width=2 * len(str(steps)) + 1)
        )
        told = TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        )
        left = TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=CLOCK))
        self._progress = Progress(
            count, BarColumn(BAR), told, left, console=self.console, expand=True
        )
        self._task = self._progress.add_task("", total=steps, completed=done)
        self._progress.start()

    def step(
        self, n: int, known: Mapping[str, float], rate: float, ticked: tuple[str, ...]
    ) -> None:
        assert self._progress is not None, "`training` comes before `step`"
        self._known = {
            name: smoothed(self._known.get(name), value)
            for name, value in known.items()
            if name in ("loss", "bits")
        }
        self._rate = smoothed(self._rate, rate)
        self._progress.update(
            self._task,
            completed=n,
            description=(f"{measured(self._known)}  {self._rate:,.0f} tokens/s  {short(ticked)}"),
        )

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._what is not None:
            self.say(f"compiled {self._what} in {time.perf_counter() - self._began:.1f} s")
            self._what = None


def measured(known: Mapping[str, float]) -> str:
    return f"loss {known['loss']:.4f}" + (
        f"  {known['bits']:.3f} bits per byte" if "bits" in known else ""
    )


def smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + NEWEST * (new - old)


def short(ticked: tuple[str, ...]) -> str:
    """The last part of each level's name, with how many have it, without the levels inside them:

    `ffn[1] x3, training`.
    """
    inside = {name for name in ticked for outer in ticked if name.startswith(outer + ".")}
    counts = Counter(name.rsplit(".", 1)[-1] for name in ticked if name not in inside)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in counts.items()) or "none"


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
