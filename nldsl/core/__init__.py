"""THE CORE: a program as equations over named-axis arrays -> what every stage reads and writes.

`graph` makes a `Program`, `rules` judges it, `schedule` orders it, `oracle` defines its meaning.
laws.py holds the guarantees: shapes fit at every node, each weight has one owner, memories hold
values of their own type. Nothing here knows the syntax or a backend.

    nodes.py        axes, types, nodes: one equation each
    program.py      clocks, memories, levels, programs, and what follows from these records alone
    build.py        nodes that simplify as they are made; `Op`, a row of ops.py
    ops.py          the operators, one row each
    shapes.py       type laws of the operators
    simplify.py     simplifications of elementwise operators
    derivatives.py  derivatives of the operators
    flow.py         reachability: which memories affect a value
    timing.py       sample clocks: the tokens at which a stream has a value
    laws.py         invariants of a program that every stage keeps
    text.py         a program as text: `--emit graph`
    initial.py      initial values, from the seed
    theirs.py       what a start takes of a file
"""
