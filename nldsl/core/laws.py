"""The laws of the core: invariants of a program that every stage keeps.

Verified after each stage in tests; the law of each operator's types stands in its row (ops.py).
"""

from __future__ import annotations

from nldsl.core.nodes import Node, Tree
from nldsl.core.ops import OPS
from nldsl.core.program import Program


def check_program(program: Program) -> None:
    """Raise AssertionError at the first node that breaks a law."""
    for node in program.nodes():
        check_node(node)
    for memory in program.memories.values():
        for node in memory.equations:
            assert node.type == memory.type, memory.name
        assert memory.start is not None or memory.slots is not None, memory.name
        for path, name in (memory.slots or {}).items():
            assert (
                isinstance(memory.type, Tree)
                and memory.type.shape(path) == program.weights[name].shape
            ), name
            assert program.weights[name].owner == memory.name, name
    for level in program.levels.values():
        assert all(not isinstance(node.type, Tree) for node in level.objectives), level.name


def check_node(node: Node) -> None:
    """Raise AssertionError where arguments, attributes or types do not fit the operator."""
    row = OPS[node.op]
    assert row.arity is None or row.arity == len(node.args), f"{node!r}: arguments"
    assert set(row.attrs) == {name for name, _ in node.attrs}, f"{node!r}: attributes"
    assert row.law(node), f"{node!r}: {node.type} of {[arg.type for arg in node.args]}"
