"""What a program may mean and this compiler cannot lower."""
from __future__ import annotations

from nldsl.graph.equations import Node


class Unsupported(Exception):
    """A program that means something but has no lowering; `node` (or `span`) is where, `help` what can be said instead."""

    def __init__(self, message: str, node: Node | None = None, help: str = "", span: object = None) -> None:
        super().__init__(message)
        self.node, self.help = node, help
        self.span = span or (node.span if node is not None else None)
