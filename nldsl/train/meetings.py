"""After which steps a run is saved or ends; on ranks, after which of them they agree on it.

What decides is a clock, a signal and a number that is not finite: none of them comes to all ranks
after the same step. So they meet after a step in which they send each other something anyway, about
twice a second: each says whether a signal came to it, rank 0 whether it is time to save and when
they meet again. The losses of the steps since the last meeting are summed over the ranks there, in
one message.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nldsl.step.compile import CompiledStep
from nldsl.train.loop import DRAIN_SECONDS, Interrupt, Log
from nldsl.train.ranks import Ranks

SAVE_SECONDS = 60.0  # between two saves when `--save-every` is not given


def ending(
    ranks: Ranks,
    step: CompiledStep,
    steps: int,
    save_every: int | None,
    log: Log,
    interrupt: Interrupt,
) -> Callable[[int], bool]:
    """Is the state saved after step n: the last one, one in which an interrupt came, one whose time
    it is?
    """
    timed = due(save_every)
    if ranks.count == 1:
        return lambda n: n == steps or interrupt.asked or timed(n)
    interrupt.alone, log.total = False, ranks.total
    meetings = Meetings(ranks)

    def ends(n: int) -> bool:
        must = n == steps or save_every is not None and n % save_every == 0
        if not must and not (step.sends(n) and n >= meetings.next):
            return False
        interrupt.asked, save = meetings.agreed(n, interrupt.heard, timed(n))
        log.drain()
        return must or save or interrupt.asked

    return ends


def due(save_every: int | None) -> Callable[[int], bool]:
    """Save after every `save_every`-th step, or when a minute has passed."""
    last = time.monotonic()

    def answer(n: int) -> bool:
        nonlocal last
        if save_every is not None:
            return n % save_every == 0
        if time.monotonic() - last < SAVE_SECONDS:
            return False
        last = time.monotonic()
        return True

    return answer


class Meetings:
    """`next`: the step after which, or after the first one behind it in which they send each other
    something, the ranks meet.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.next = ranks, 0
        self._last, self._since = 0, time.monotonic()

    def agreed(self, n: int, asked: bool, save: bool) -> tuple[bool, bool]:
        """After step n: whether a signal came to any rank, and whether rank 0 wants to save."""
        told = (save, self.stride(n)) if self.ranks.is_first else (False, 0)
        word = torch.tensor([asked, *told], dtype=torch.float64)
        came, wanted, stride = self.ranks.total(word).tolist()
        self.next = n + int(stride)
        return came > 0, wanted > 0

    def stride(self, n: int) -> int:
        """As many steps as take about the time between two meetings."""
        now = time.monotonic()
        seconds = (now - self._since) / max(1, n - self._last)
        self._last, self._since = n, now
        return max(1, int(DRAIN_SECONDS / max(seconds, 1e-6)))
