"""CHECKED PROGRAM -> ITS MEANING: the slow interpreter, one token at a time.

It is the definition that every faster path is compared with, so it shares nothing with them: it
imports the core and the drawing of starts, and no schedule, emitter or lowering.

    interpreter.py   runs a program on a batch: outputs, states, gradients
    meaning.py       the value of a memory or an equation at an instant, and how far learners see
    lines.py         time lines: values with their past
    time.py          the operators of time
    operators.py     the operators at one instant
    files.py         what a start takes of a file
"""
