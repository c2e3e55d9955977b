"""What a lowering is: a row of the table in `table.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.forms import AffineForm, Obstacle

Form = AffineForm | Obstacle
Texts = tuple[dict[str, str], list[str]]  # of each memory after the piece, of what is handed on


@dataclass(frozen=True)
class Lowering:
    """`applies` to a form; its `name`, as the report prints it; `emit` writes the lines of a piece
    into a body. `lead`: what the body is of, all tokens of a piece ("BT") or one ("B").
    """

    name: Callable[[Any], str]
    applies: Callable[[Form], bool]
    emit: Callable[[Any, Body], Texts]
    lead: str = "BT"

    def described(self, form: Form) -> str:
        """The name, and what is to be said of the form; or why a recurrence has none."""
        if isinstance(form, Obstacle):
            return f"{self.name(form)} ({form})"
        return ", ".join([self.name(form), *form.remarks])
