"""Updates start from the memory of the token before: linear recurrences, with a decay, momentum or
delta rules, by masks of decays and the WY form (2406.06484v6, sec. 3).
"""

from __future__ import annotations

from nldsl.step.lowerings.forms import STATES, AffineForm
from nldsl.step.lowerings.lowering import Lowering
from nldsl.step.lowerings.piece import write_piece

CHUNKED = Lowering(
    lambda form: "chunked recurrence" + (", a state per token" if STATES in form.met else ""),
    lambda form: isinstance(form, AffineForm),
    write_piece,
)
