"""What a program may mean and this compiler cannot lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nldsl.core.nodes import Node
from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.source import Span


class Unsupported(Exception):
    """A program that means something but has no lowering; `node` (or `span`) is where, `help` what
    can be said instead.
    """

    def __init__(
        self, message: str, node: Node | None = None, help: str = "", span: Span | None = None
    ) -> None:
        super().__init__(message)
        self.node, self.help = node, help
        self.span = span or (node.span if node is not None else None)


class NoDerivative(Exception):
    """An operator on the path has no derivative rule; `node` is the offender."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.op)
        self.node = node


@contextmanager
def told(program: Program) -> Iterator[None]:
    """What cannot be lowered is a diagnostic at its words."""
    try:
        yield
    except Unsupported as error:
        raise Diagnostics(
            [
                Diagnostic(
                    "N801",
                    f"this compiler cannot lower {error}",
                    error.span or _head(program),
                    help=error.help or "`nldsl explain N801` lists what is lowered",
                )
            ]
        ) from error
    except NoDerivative as error:
        raise Diagnostics(
            [
                Diagnostic(
                    "N505",
                    f"`{error.node.op}` has no second derivative",
                    error.node.span or _head(program),
                    help="put it outside the objective, or in `stop`",
                )
            ]
        ) from error


def _head(program: Program) -> Span:
    assert program.source is not None
    first = program.source.text.splitlines()[0] if program.source.text else ""
    return Span(program.source, 0, len(first), 1, 1, 1, len(first) + 1)
