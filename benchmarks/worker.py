"""One system in a process of its own.

    python -m benchmarks.worker NAME [PARAMETERS]

Builds it and writes a line of JSON, then answers each line that it reads with one: `step` takes a
step and says what it took, `flops` counts what one needs. Bytes are those of the process beyond
what it held before the system was built.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time

from benchmarks.systems import System, named


def held() -> int:
    """Bytes that the process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak() -> int:
    """The most bytes that the process has held since the count was begun."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def main(name: str, parameters: int = 0) -> None:
    before = held()
    began = time.perf_counter()
    system = named(name)(parameters)
    system.step()
    say(parameters=system.parameters, built=time.perf_counter() - began)
    ctypes.CDLL("").malloc_trim(0)  # what building needed is no part of a step
    for order in sys.stdin:
        if order.strip() == "flops":
            say(flops=system.flops())
        else:
            say(**stepped(system, before))


def stepped(system: System, before: int) -> dict[str, float]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted from here on
    began = time.perf_counter()
    system.step()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak": peak() - before}


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
