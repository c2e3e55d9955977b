"""The built-in names: the constants, and the functions, which other files register here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nldsl.frontend import syntax

if TYPE_CHECKING:
    from nldsl.graph.scope import Site
    from nldsl.graph.values import Value

CONSTANTS = frozenset({"learned", "random", "tick", "ticks", "pi", "I"})
FUNCTIONS: dict[str, Callable[[syntax.Call, Site], Value]] = {}


def built_in() -> frozenset[str]:
    return CONSTANTS | FUNCTIONS.keys()


def name_of(call: syntax.Call) -> str:
    """The name by which a function is called."""
    assert isinstance(call.callee, syntax.Name)
    return call.callee.text
