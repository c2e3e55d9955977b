"""For tests of programs and of the compiler itself: valid programs at random, and the laws that
hold of every program.

    programs()      a Hypothesis strategy of programs                           (programs.py)
    sample(n, seed) the same without Hypothesis; corners() are always among the draws
    laws            the laws, as functions that measure deviations              (laws.py)
    constructs      the constructs of the language that a text uses             (constructs.py)
    coverage        the alternatives of the grammar, and names of the library   (coverage.py)
    renamed         the same program under other names                          (renaming.py)
    over(n)         a law as a test over n drawn programs                       (properties.py)
    traced_once     a step under other compilers                                (captures.py)

mixers.py and recurrences.py draw layers of levels.py, moves.py and streams.py; training.py draws
the step clock; page.py collects the declarations that stand above.

A drawn program has at most a few hundred weights, 1 to 3 sequences of 1 to 9 tokens, rates of at
most 0.1 and gates between 0 and 1, so that float64 results do not hang on rounding. Only the
compiler raises (`Diagnostics`).
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
