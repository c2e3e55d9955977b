"""PROGRAM -> THE PAPER'S VIEW OF IT: every part as an associative memory, in levels, with the
knowledge that it takes from others.

Takes a checked `Program` and computes the tables that 2512.24695v1 makes by hand; it reads nothing
off a name and changes no program.

    express.py        equations as short text
    folding.py        many qualified names as one
    associations.py   key -> value of levels, attention, layers
    retention.py      the retention and the step of an update
    transfer.py       the five kinds of knowledge transfer
    geometry.py       the constraint that an update keeps: sums to 1, fixed norms, ..
    level_graph.py    levels, edges, the order of Def. 2
    boxes.py          all of it, one record a memory
    families.py       the graph with boxes that are alike as one
    level_table.py    the table, for a terminal and as plain text
    mermaid.py        a flowchart
    page.py           the picture (SVG), with these four:
    bundles.py        lines that meet in a point
    sketch.py         words, rows, the size of the text
    layout.py         places, by Graphviz
    labels.py         places of labels
    webpage.py        the picture with a card for each memory, as one HTML file
    report.py         the report that `nldsl compile` prints
    communication.py  what ranks would send each other, and the time of it
    parts.py          what each of them would hold of a state, and what they would gather
"""
