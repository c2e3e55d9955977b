"""One system in a process of its own.

    python -m benchmarks.worker NAME [PARAMETERS]

Builds it, writes a line of JSON, then takes a step for each line that it reads and writes what the
step took. Bytes are those of the process beyond what it held before the system was built.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch

from benchmarks.systems import SPECS, TRANSFORMER, transformer


def held() -> int:
    """Bytes that the process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def main(name: str, parameters: int = 0) -> None:
    began = time.perf_counter()
    system = transformer(parameters) if name == TRANSFORMER else SPECS[name]()
    before = held()
    system.step()
    say(parameters=system.parameters, built=time.perf_counter() - began, torch=torch.__version__)
    for _ in sys.stdin:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak is counted from here on
        began = time.perf_counter()
        system.step()
        seconds = time.perf_counter() - began
        say(seconds=seconds, peak=peak() - before)


def peak() -> int:
    """The most bytes that the process has held since the count was begun."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
