"""Nested levels of optimization, written down and compiled.

    program = nldsl.load("hope.nl", d=512)      a text, checked
    step = program.compile()                    its training step
    model = program.module(step.init(0))        its model, a torch.nn.Module

See api.py; the manual is tests/language, its page on Python tests/language/python.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nldsl.api import Program as Program
    from nldsl.api import Step as Step
    from nldsl.api import load as load
    from nldsl.api import loads as loads
    from nldsl.diagnostic import Diagnostics as Diagnostics
    from nldsl.registration import register as register

__version__ = "0.1.0"

# brought when they are asked for: checking a text loads no torch
PLACES = {
    "load": "api",
    "loads": "api",
    "Program": "api",
    "Step": "api",
    "Diagnostics": "diagnostic",
    "register": "registration",
}


def __getattr__(name: str) -> object:
    if name in PLACES:
        return getattr(import_module(f"nldsl.{PLACES[name]}"), name)
    raise AttributeError(f"module `nldsl` has no `{name}`")


def __dir__() -> list[str]:
    return [*PLACES, "__version__"]
