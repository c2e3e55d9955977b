"""For tests of programs and of the compiler itself: valid programs at random, and the laws that every program keeps.

    programs()      a Hypothesis strategy of program texts                      (programs.py)
    laws            what must hold of any program, as functions that measure    (laws.py)
    constructs      which constructs of the language a text uses                (constructs.py)
"""
from nldsl.testing.constructs import ALL, constructs
from nldsl.testing.programs import Drawn, corners, data, programs, sample

__all__ = ["ALL", "Drawn", "constructs", "corners", "data", "programs", "sample"]
