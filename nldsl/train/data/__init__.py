"""DATA -> DATASET: the data that a program is trained on and scored on.

A kind of data says which programs take it and makes a `Dataset` of a file, a folder or nothing; a
format is one file that reads what a kind is made of.

    given.py       DATA, and how it is to be read
    dataset.py     `Dataset`: a training part, a held-out part, batches, and a score's predictors
    kinds.py       the kinds of data; which of them a program takes
    language.py    bytes or tokens, for a program of one `index(n)`
    text.py        a file, a folder or the standard library -> bytes, parted into documents
    tokens.py      a text and a tokenizer, or a file of tokens -> tokens
    vocabulary.py  what tokens stand for: bytes, or the pieces of a tokenizer.json; makes one
    table.py       a file of numbers, or a chaotic series computed here -> points [time, channel]
    columns.py     columns of a file -> rows, for a program of several inputs
    formats/       a file for each format; it registers the suffixes that it reads
    encodings.py   a file of text in any encoding -> UTF-8
    maps.py        arrays in files that are mapped: of any size, in the same memory
    sequences.py   the tokens that a step reads, and those that a score reads
    filetype.py    the kind of a file that is not text
    baseline.py    bits per byte of a model of two bytes of context, Witten-Bell

Guarantee: a batch depends on (seed, step, lane) and the data alone; so its number is the position
in the data, and a resumed run goes on exactly. Memory does not grow with a text.
"""
