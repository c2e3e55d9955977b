"""Updates start from a copy that stands still in the piece, reads see every update: a read is the
start's answer and a masked product with the writes so far (the dual form of TTT, 2407.04620v4,
sec. 2.5; Titans, 2501.00663v1, sec. 3.2).
"""

from __future__ import annotations

from nldsl.step.lowerings.forms import ANSWERS, STATES, AffineForm
from nldsl.step.lowerings.lowering import Lowering
from nldsl.step.lowerings.piece import write_piece


def name(form: AffineForm) -> str:
    fresh = "fresh reads by masked products, " if ANSWERS in form.met else ""
    state = "a" if STATES in form.met else "no"
    return f"dual form: gradients at the chunk start, {fresh}{state} state per token"


DUAL = Lowering(name, lambda form: isinstance(form, AffineForm) and form.at_copies, write_piece)
