"""The lowerings, best first: the first that applies to a form writes its code, and its name is what
the report prints. A new one is a file beside these and a row here.
"""

from __future__ import annotations

from nldsl.step.lowerings.chunked import CHUNKED
from nldsl.step.lowerings.dual import DUAL
from nldsl.step.lowerings.lowering import Form, Lowering
from nldsl.step.lowerings.per_period import PER_PERIOD
from nldsl.step.lowerings.stale import STALE
from nldsl.step.lowerings.token_scan import TOKEN_SCAN

LOWERINGS: tuple[Lowering, ...] = (PER_PERIOD, STALE, DUAL, CHUNKED, TOKEN_SCAN)


def chosen(form: Form) -> Lowering:
    """The first row that applies; the last one always does."""
    return next(row for row in LOWERINGS if row.applies(form))
