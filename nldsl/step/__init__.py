"""SCHEDULE -> COMPILED STEP.

Takes a `Schedule`, gives a `CompiledStep` (compile.py): `init(seed)` makes a state, a call performs
one step of the optimizer in place. Guaranteed, and tested: the emitted source is the interpreter's
meaning in float64, values, states and gradients, to 1e-9; whichever capture compiles it; whatever
the cuts of a sequence.

    source.py, regions.py, emit.py     array equations -> torch code, by the rules of lowerings/; a
                                       function for each distinct block
    runtime/                           the functions that emitted code calls; copied into it
    online.py                          what is run piece by piece, between ticks of memories that
                                       learn from the loss of the network
    flat.py, updates.py                levels of the step clock -> one function for each kind of
                                       step
    tape.py                            a slower level that learns through the ticks of faster ones
    sending.py                         gradients that are sent while others are still worked out
    reductions.py                      what processes that take a step together send each other,
                                       and what each keeps to itself
    shards.py, gathers.py              a state of which each process holds a part; what is gathered
    listing.py, names.py, loops.py,    the statements of a function -> its text: names, order,
    layout.py                          comments, loops, lines of 100 columns
    module.py, compile.py              one Python module, which needs torch alone; captured as
                                       `whole`, `split`, or run as it is
    functions.py                       compiled functions, one for each kind of arguments, kept on
                                       the disk
    kernels/                           memories that stay on the chip through all pieces
    gathering.py, inverses.py,         a graph with fewer products of matrices, fewer triangular
    results.py                         solves, results in order, for the compiler
    loading.py                         starts that lie in files
    state.py, lanes.py                 what is kept between steps; what outlives a sequence
    batches.py                         what a batch must hold
    reading.py, freeze.py              scoring and generation, learning on the token clock or not
    looking.py                         losses, gradients and streams, without a step
    gauges.py                          learning rate, gradient and update of each level at its ticks
    network.py, decoding.py            a stream as a plain `torch.nn.Module`; its next token as one
    recompute.py                       what calls keep for the backward pass within a budget of
                                       memory
    room.py                            sizes that no memory holds; what is held

Decisions. Readable source rather than a graph of closures: a reader can open it, debug it and take
it away; each kind of step has a function of its own, since torch.compile counts recompilations for
each code object. State is flat static tensors written in place: one vector for a memory of many
arrays, so an elementwise optimizer is one kernel, and a graph's addresses never move.
"""
