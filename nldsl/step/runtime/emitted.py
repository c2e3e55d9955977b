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
# stream -> the memories that learn from it: their arrays, and whether they are one vector
LEARNERS: dict[str, dict[str, tuple[list[str], bool]]]
# carried tensors that outlive a sequence: see `resumed`
LASTING: dict[str, tuple[str, tuple[int, int], tuple[int, int], str]]

# weight -> the array of W that holds the entry of each worker, which their lanes read
WORKERS: dict[str, str]
# `fresh` of one worker: (W, inputs, mode, lanes) -> (sums, numbers of terms, what outlives)
one_worker: Callable[..., tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]]

# where ranks hold a part each: how many they are; sizes of the arrays that a pass reads, first of
# those that are read more than once, then of those of each block
RANKS: int
GATHERED: list[dict[str, list[int]]]
# `fresh` of whole arrays
fresh_of_wholes: Callable[..., tuple[dict[str, Tensor], dict[str, int], dict[str, Tensor]]]

# (W, inputs, carry, position, mode) -> (streams by name, carry)
forward: Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]
# (W, batch, like, lanes) -> carry
start: Callable[..., dict[str, Tensor]]

# What the file needs to run by itself, see alone.py.
# what is kept between steps: sizes of each tensor, None of a counter
STATE: dict[str, tuple[int, ...] | None]
# name of a start -> the level that begins with it ("" at every sequence), is it one vector of its
# arrays, and they: (qualified name, sizes, "normal" or "fill", standard deviation or value)
DRAWS: dict[str, tuple[str, bool, list[tuple[str, list[int], str, float]]]]
# sizes of the starts that lie in files; the starts of memories that tick within a sequence
FILES: dict[str, list[int]]
STARTS: list[str]
# levels that begin at step 0; levels that begin anew, and after which steps: (period, phase)
BORN: list[str]
RESTARTS: dict[str, tuple[int, int]]
# the clocks that tell kinds of steps apart; which of them tick -> the kind; ticks of the whole run
CLOCKS: list[tuple[int, int]]
KINDS: dict[tuple[bool, ...], int]
PLANNED: dict[str, float]
# name of an input -> how many tokens there are, "number" or "end" (of a document), and its axes
INPUTS: dict[str, tuple[int | str, list[int]]]
# sizes of what outlives a sequence
LANES: dict[str, list[int]]
# kind of step -> (before, hear, tick, after); hear is None where nobody learns through ticks
TICKS: dict[int, tuple[Callable[..., None], ...]]
# (S, D): writes the starts of all levels
birth: Callable[..., None]
