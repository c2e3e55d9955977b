"""Specs of this project beside what people would use instead, in one run on this machine.

    python -m benchmarks systems [NAME..]     training steps, at as many parameters
    python -m benchmarks sweep [NAME..]       what a token costs by the length of the text
    python -m benchmarks captures [NAME..]    every shipped spec with and without the compiler
    python -m benchmarks gpu [NAME..]         what steps would launch on an H100, measured nowhere

    systems.py       what is measured: a spec, a transformer of PyTorch, what stands beside a spec
    peers.py         what others publish; optional, `pip install nldsl[bench]`
    hope_by_hand.py  the equations of examples/hope.nl as one would write them in PyTorch
    worker.py        one system in a process of its own: builds it, and takes a step when told to
    table.py         tells the workers in turn, so that all see the same machine; the table
    sweep.py         training, scoring and writing, by the length of the text
    captures.py      a compiled step beside the same step as it is written
    gpu_counts.py    launches, bytes and FLOPs of steps that are lowered for a GPU
    __main__.py      the commands
    learning/        whether they learn as their papers say: a command of its own

A number is the median of one step over the rounds, with what half of them lie within. A ratio
is that of tokens per second to those of the transformer, which is the first and the last of each
round, as often as others. FLOPs are those of the matrix products of the step as it is written,
forward and backward, counted by torch.utils.flop_counter; the peak is what one product of square
matrices reaches in the same rounds.

With `--kept FOLDER` what is compiled is kept, and what was built with `--build` is only measured.
"""
