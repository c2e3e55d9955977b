"""Sizes that no memory holds: what is asked for is told before the machine is brought down."""

from __future__ import annotations

import ctypes
import math
import os
import re
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from nldsl.diagnostic import Diagnostic, Diagnostics

CGROUP = Path("/sys/fs/cgroup/memory.max")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
REFUSED = re.compile(
    r"allocate ([\d.]+ ?[A-Za-z]+)|overflowed? with sizes=(\[[^]]*\])"
    r"|(multiplication overflow)|(bad_alloc)"
)


def require(asked: int, what: str, device: str) -> None:
    """Raises Diagnostics (N803) if the device has less memory than the bytes that are asked for."""
    has = memory_of(device)
    if asked > has:
        raise no_room(f"{what} take {said(asked)}, `{device}` has {said(has)}")


def state_bytes(names: Mapping[str, tuple[int, ...] | None], dtype: torch.dtype) -> int:
    """Of tensors of these sizes; counters have none."""
    return sum(
        8 if sizes is None else math.prod(sizes) * dtype.itemsize for sizes in names.values()
    )


def memory_of(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[1]
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = CGROUP.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdecimal() else physical


def count_anew(device: str) -> None:
    """Lets `peak` begin with what is held now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text("5")


def give_back() -> None:
    """Returns to the system what the C library has kept of freed memory, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def held(device: str) -> int:
    """Bytes that tensors take on a GPU, or this process on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device)
    return told_of_process("VmRSS")


def peak(device: str) -> int:
    """The most that `held` has been since the count began."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return told_of_process("VmHWM")


def told_of_process(what: str) -> int:
    """In bytes; without a /proc, the most so far for either."""
    try:
        return int(re.findall(rf"{what}:\s+(\d+)", STATUS.read_text())[0]) * 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def refused(error: Exception) -> Diagnostics | None:
    """What an allocator that gave up was asked for; None for another error."""
    found = REFUSED.search(str(error))
    if found is None and not isinstance(error, MemoryError):
        return None
    asked = next(filter(None, found.groups()), "") if found else ""
    return no_room(
        "the memory of this machine is not enough" + (f": {asked} were asked for" if asked else "")
    )


def no_room(message: str) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N803",
                message,
                help="smaller sizes (`--set`), a smaller `--batch` or a shorter `--length`",
            )
        ]
    )


def said(count: int) -> str:
    power = min(len(UNITS) - 1, max(0, (count.bit_length() - 1) // 10))
    return f"{count:,} bytes" if power == 0 else f"{count / 1024**power:,.1f} {UNITS[power]}"
