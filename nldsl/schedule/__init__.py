"""CHECKED PROGRAM -> STATES -> SCHEDULE: which array is computed when, once a step, once a chunk or
once a token.

Takes the checked `Program` and the streams that are wanted of it, makes the states of both clocks
(token_states.py, step_states.py), a flat text of equations, and gives a `Schedule` of these
(plan.py).
Guaranteed: every node stands before what reads it; each memory of the token clock is in exactly one
region; a kind of step is listed once, with the first step it occurs at. What has no order was
refused by `rules/limits`: an assertion here names the limit that it relies on.

    shares.py          of a program that ranks take together, the part of one
    differentiate.py   the derivative of an objective, as nodes again
    products.py        products in one form, however a text writes them
    square.py          products with matrices that are made of I and outer products
    cells.py           trees become arrays, folds memories that add up their terms
    objectives.py      `grad` becomes the derivative of its objective
    documents.py       where documents end, as streams and states
    instant.py         a state; the order within one instant, for every clock
    token_states.py    states and equations of the token clock
    faults.py          what has a meaning and no lowering
    online.py          memories that learn from the loss of the whole network, and what is run
                       between their ticks
    plan.py            streams, regions, blocks; the length of a chunk; the whole `Schedule`
    arrangement.py     how a region is computed, where not as it is written
    collecting.py      a tick as a sum in which each thing stands once
    factoring.py       products with one matrix that are added are one product
    weighing.py        a held matrix is weighed, where a weighed sum of its answers is taken
    turning.py         a memory that is asked over the axis before its last is turned
    stacking.py        memories that obey the same equations are one, with an axis more
    named.py           what the step clock calls its values that no text has a name for
    ticks.py           levels of the step clock: what each memory becomes at a tick
    step_states.py     states and equations of the step clock; what a step of one kind leaves
    adjoints.py        a level that learns through the ticks of faster ones
    step_clock.py      what the levels of the step clock hear, and the whole of it
    timetable.py       kinds of steps over one hyperperiod

Decisions. Inner gradients are derived here, symbolically, and not by autograd inside the step: what
is affine in the memory is then seen in the equation (2501.00663v1, Eqs. 16-18; 2512.24695v1, sec.
8.2), and the outer gradient is of first-order code. Arrays, not trees, from here on: a tree has no
shape to batch. Blocks are iterations of the outermost loop, so that equal layers are emitted, and
compiled, once.
"""
