"""NAMES IN AN EMITTED TEXT -> SOURCE OF THE FUNCTIONS BEHIND THEM: what an emitted step calls.

These are ordinary files, linted and tested as such; the functions that a step needs are copied into
it (see library.py), so an emitted file needs only torch. Nothing here imports the compiler.

    arrays.py        constants, products, solves
    vocabulary.py    the cross entropy of a large vocabulary
    time.py          rows kept of earlier tokens, and which of them a token sees
    attention.py     softmax over rows kept
    recurrence.py    kernels of gates, pieces of tokens, the end of an instant
    inner_loop.py    windows of a task loss: pieces, their gradients, ticks in between
    lanes.py         what outlives a sequence
    learning.py      gradients of what levels on the step clock hear
    workers.py       lanes divided over workers
    ranks.py         what one process has summed, summed over all
    shards.py        arrays of which each process holds a part
    tape.py          the way back through the ticks of faster levels
    alone.py         a state from a seed, one step, a run on random data: for the file by itself
    emitted.py       the tables and functions that every step defines
    library.py       the source of the functions that a text calls

Layouts: B batch, T tokens of this call, J tokens of this piece as keys, P.. the axes shared by a
memory and its gates (heads).
"""
