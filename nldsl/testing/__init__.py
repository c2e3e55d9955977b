"""For tests of programs and of the compiler itself: valid programs at random, and the laws that
every program keeps.

    programs()      a Hypothesis strategy of programs                           (programs.py)
    sample(n, seed) the same without Hypothesis; corners() are always among the draws
    laws            what must hold of any program, as functions that measure    (laws.py)
    constructs      which constructs of the language a text uses                (constructs.py)
    coverage        which alternatives of the grammar, and names of the library (coverage.py)
    renamed         the same program under other names                          (renaming.py)
    over(n)         a law as a test over n drawn programs                       (properties.py)
    traced_once     a step under other compilers                                (captures.py)

Layers are drawn by mixers.py and recurrences.py, what they are made of by levels.py, moves.py and
streams.py, the step clock by training.py; page.py collects what must stand above.

A drawn program has at most a few hundred weights, 1 to 3 sequences of 1 to 9 tokens, rates of at
most 0.1 and gates between 0 and 1, so that float64 results do not hang on rounding. Nothing here
raises of its own but what the compiler does (`Diagnostics`).
"""

from nldsl.testing import coverage, laws
from nldsl.testing.constructs import ALL, constructs
from nldsl.testing.programs import Drawn, corners, data, programs, sample
from nldsl.testing.renaming import renamed

__all__ = [
    "ALL",
    "Drawn",
    "constructs",
    "corners",
    "coverage",
    "data",
    "laws",
    "programs",
    "renamed",
    "sample",
]
