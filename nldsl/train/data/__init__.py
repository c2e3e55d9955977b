"""DATA -> DATASET: the data that a program is trained on and scored on.

A kind of data says which programs take it and makes a `Dataset` of a file, a folder or nothing; a
format is one file that makes the array of a kind.

    dataset.py     `Dataset`: a training part, a held-out part, batches, and a score's predictors
    kinds.py       the kinds of data; which of them a program takes
    text.py        a file, a folder or the standard library -> bytes, parted into documents
    table.py       a file of numbers, or a chaotic series computed here -> points [time, channel]
    formats/       a file for each format of a table; it registers the suffixes that it reads
    sequences.py   the tokens that a step reads, and those that a score reads
    filetype.py    the kind of a file that is not text
    baseline.py    bits per byte of a model of two bytes of context, Witten-Bell

Guarantee: a batch depends on (seed, step, lane) and the data alone.
"""
