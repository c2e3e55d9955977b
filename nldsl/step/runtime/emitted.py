"""What every emitted step defines and the functions copied into it use. Names and types alone:
nothing here is copied.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# name of an array that streams read -> the memory that holds it, first entry, end, sizes
SLOTS: dict[str, tuple[str, int, int, list[int]]]
# streams that a level on the step clock hears
HEARD: list[str]
# stream -> the arrays that learn from it; by memory: its arrays, and whether they are one vector
LEARNERS: dict[str, tuple[list[str], dict[str, tuple[list[str], bool]]]]
# carried tensors that outlive a sequence: see `resumed`
LASTING: dict[str, tuple[str, tuple[int, int], tuple[int, int], str]]

# (W, inputs, carry, position, mode) -> (streams by name, carry)
forward: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]
# (W, batch, like, lanes) -> carry
start: Callable[..., dict[str, Tensor]]
