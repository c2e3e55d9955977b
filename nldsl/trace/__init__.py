"""TRAINED RUN, TEXT -> WHAT ITS MEMORIES LEARNED WHILE THEY READ IT, token by token; likewise STEP,
STATE, BATCH.

    quantities.py   what is told of a memory, as equations of the program
    measured.py     these of a run, computed by its step
    page.py         the answers as a table, as CSV, as JSON
    picture.py      and as curves above the text

Guarantees: the run stays as it is. What is told is computed by the equations of the program, in the
step as it is written, so it is what the interpreter says.

Decisions: a number stands at the token whose reading made it known. The cost of foretelling a token
stands at that token, and an objective that waits for the next token at the next one. What is told
is of the memories that learn by themselves at a token; what an optimizer keeps is part of them.
"""

from __future__ import annotations

from nldsl.trace.measured import Trace, rows, traced

__all__ = ["Trace", "rows", "traced"]
