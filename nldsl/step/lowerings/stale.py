"""Updates start from a copy that stands still in the piece, and so do all reads: no state of any
token is needed, the memory is moved once a chunk by batched products (2512.24695v1, sec. 8.2).
"""

from __future__ import annotations

from nldsl.step.lowerings.forms import AffineForm
from nldsl.step.lowerings.lowering import Lowering
from nldsl.step.lowerings.piece import write_piece

STALE = Lowering(
    lambda form: "stale form: batched products, one state per chunk",
    lambda form: isinstance(form, AffineForm) and form.at_copies and not form.met,
    write_piece,
)
