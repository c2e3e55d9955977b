"""Specs of this project beside what people would use instead, in one run on this machine.

    python -m benchmarks [NAME..] [--rounds 9] [--out benchmarks/RESULTS.md]

    systems.py    what is measured: a spec, a transformer of PyTorch with as many parameters
    worker.py     one system in a process of its own: builds it, and takes a step when it is told to
    __main__.py   tells the workers in turn, so that all see the same machine; the table

A number is the median of one step over the rounds, with what half of them lie within. A ratio
is that of tokens per second to those of the transformer, which is the first and the last of each
round, as often as others.
"""
