"""CHECKED PROGRAM -> CHECKED PROGRAM in which nothing is learned while reading: every memory on the
token clock keeps the value it has.

M first s, then M - rate * grad(..)       M first s, then M
"""

from __future__ import annotations

from dataclasses import replace

from nldsl.core.nodes import Node
from nldsl.core.program import Memory, Program


def frozen(program: Program) -> Program:
    on_token = {name for name, level in program.levels.items() if level.clock.inner}
    return replace(
        program,
        memories={
            name: still(memory) if memory.level in on_token else memory
            for name, memory in program.memories.items()
        },
    )


def still(memory: Memory) -> Memory:
    return replace(
        memory, next=Node("read", (), (("memory", memory.name),), memory.type, memory.span)
    )
