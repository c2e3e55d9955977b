"""SYNTAX TREE -> CORE EQUATIONS AND LEVEL GRAPH.

Takes the `File` of `frontend` and gives a `Program` (core): every def is inlined, every loop is
unrolled, every axis, read and owner is explicit. The laws of core hold of it. `rules` judges
clocks, causality, context and the paths of gradients.

    desugar.py      the passes in order, the entry point `elaborate`
    files.py        imports, dims, clocks, literals, --set
    elaborator.py   the state of an elaboration: nodes, findings, bounds, work put off
    names.py        qualified names
    values.py       values of expressions
    scope.py        names, versions by place in the text, lazy values
    statements.py   blocks, loops, `<-`
    evaluate.py     `evaluate`, `declare`, `make`: one function, a form each
    built_in.py, builtins.py, parameters.py, arguments.py    built-in names and functions
    expressions.py  each form of expression
    foreign.py      names of torch, numpy and Python, for findings about names
    clauses.py      the clauses of a level as rules point at them
    calls.py        defs inlined; the mapping rule, with axes.py
    templates.py    defs as types of memories
    levels.py       levels, `grad`
    memories.py, starts.py    memories and their starts
    loads.py        starts that come from files
    ownership.py    `weights`
    prox.py         `prox`, in closed form by quadratic.py
    reported.py     `report`
    shapes.py, arrays.py      nodes of named-axis arithmetic
    windows.py, attention.py, clocks.py    stretches of time
    guards.py       keeps branches that are not chosen out of derivatives
    versions.py     replaces reads inside a level by versions; in its objective by `plain`

Decisions. Values are worked out when first asked for, since `loss` is an argument of the model that
it comes from, and keys come from memories whose equations need the keys; levels are declared where
they stand and their equations follow when all streams are known, those of `weights` last, when all
weights are. Each file registers the forms that it works out and imports evaluate.py, which imports
none of them. An error ends its own statement only: statements that need the missing value stay
silent, all others are still checked. A level's definitions are elaborated once, with numbered reads
(`plain(M#2)`): an equation and an objective then give the same text different versions, and no
weight is made twice. Bounds (iterations, calls, equations, depth) are in elaborator.py; a program
beyond them is a finding, not a hang.
"""
