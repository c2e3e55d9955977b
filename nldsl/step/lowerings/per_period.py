"""All memories tick at the end of a period: the gradients of its tokens are summed by batched
products, and the update is computed once (LaCT, 2505.23884v1, Eqs. 4 to 9).
"""

from __future__ import annotations

from nldsl.step.lowerings.forms import AffineForm
from nldsl.step.lowerings.lowering import Form, Lowering
from nldsl.step.lowerings.piece import write_piece


def once(form: Form) -> bool:
    """Sums since the last tick are not memories that a reader knows."""
    if not isinstance(form, AffineForm):
        return False
    memories = [s for s in form.recurrence.region.ticking if s.memory]
    return bool(memories) and all(s.seldom for s in memories)


PER_PERIOD = Lowering(
    lambda form: "one update per chunk: the gradients of its tokens by batched products",
    once,
    write_piece,
)
