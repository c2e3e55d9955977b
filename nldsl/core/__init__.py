"""THE CORE: a program as equations over named-axis arrays -> what every stage reads and writes.

`graph` makes a `Program`, `rules` judges it, `schedule` orders it, `oracle` is its meaning. What it
guarantees is laws.py: shapes fit at every node, each weight has one owner, memories hold values of
their own type. Nothing here knows the syntax or a backend.

    nodes.py        axes, types, nodes: one equation each
    program.py      clocks, memories, levels, programs, and what follows from these records alone
    build.py        nodes that simplify as they are made; what a row of ops.py says
    ops.py          the operators, one row each
    shapes.py       laws of the types that an operator takes and gives
    simplify.py     what an operator's node is made shorter to
    derivatives.py  the cotangents that an operator hands back
    flow.py         who hears whom
    timing.py       at which tokens a stream has a value
    laws.py         what holds of a program after each stage
    text.py         a program as text: `--emit graph`
    initial.py      what begins from the seed
"""
