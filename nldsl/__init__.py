"""Nested levels of optimization, written down and compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nldsl.registration import register as register

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`nldsl.register`, brought when it is asked for: checking a text loads no torch."""
    if name == "register":
        from nldsl.registration import register

        return register
    raise AttributeError(name)
