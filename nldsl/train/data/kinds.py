"""Chooses the kind of data that a program takes."""

from __future__ import annotations

from typing import Protocol

from nldsl.core.program import Program
from nldsl.train import faults
from nldsl.train.data import columns, language, table
from nldsl.train.data.dataset import Dataset
from nldsl.train.data.given import Given
from nldsl.train.records import Data


class Kind(Protocol):
    """A kind of data, such as text."""

    def takes(self, program: Program) -> bool:
        """Can the inputs of the program be filled from this kind?"""

    def of(self, program: Program, given: Given) -> Dataset:
        """The data that is given, or its default. Raises N701 to N709, N751 to N757."""

    def whole(self, program: Program, given: Given, trained: Data) -> Dataset:
        """All of another file or folder, held out, scaled as the training data were."""


KINDS: tuple[Kind, ...] = (language, table, columns)


def kind_of(program: Program) -> Kind:
    """Raises N705 if no kind of data fits the inputs."""
    for kind in KINDS:
        if kind.takes(program):
            return kind
    raise faults.other_inputs(program.inputs)
