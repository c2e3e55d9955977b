"""TRAINED RUN -> WHETHER IT IS WHAT ITS TEXT SAYS, measured on the model itself and its held-out
data.

    opened.py        a run with a step that is run as it is written, and held-out sequences
    laws.py          causality, independence of sequences: no bit may differ
    cadence.py       at which steps and tokens the state of each level moved, beside its clock
    reach.py         how far back the gradient of the loss reaches in each memory; what it misses
    contribution.py  the held-out score without what a memory learned, and without the memory
    page.py          the answers as a table, and as JSON

Guarantees: the run stays as it is. A law is broken only where the run does what its text excludes:
a token changes something before it, a sequence another one, a level moves while its clock stands
still, a gradient passes an update that hides it. What is measured beside the laws breaks none: a
weight that nothing reaches, a memory that contributes nothing.

Decisions: memories of one line of the text and one clock are one row, as layers are. Levels of the
step clock are watched from the start of a run on, with the trained weights in their place, since a
schedule of rates may have come to its end.
"""

from __future__ import annotations

from nldsl.audit.page import Audit, audited

__all__ = ["Audit", "audited"]
