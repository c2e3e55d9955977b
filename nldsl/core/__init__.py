"""THE CORE: a program as equations over named-axis arrays -> what every stage reads and writes.

`graph` makes a `Program` (equations.py), `rules` judges it, `schedule` orders it, `oracle` is its
meaning. What it guarantees is laws.py: shapes fit at every node, each weight has one owner,
memories hold values of their own type. Nothing here knows the syntax or a backend.

    equations.py    nodes, memories, levels, the operators
    laws.py         what holds of a program after each stage
    text.py         a program as text: `--emit graph`
    initial.py      what begins from the seed
    sight.py        which level is slower, and how far it sees through the ticks of another
    pulse.py        at whose ticks a value is made
    absence.py      from which token on a stream has a value
"""
