"""PROGRAM -> THE PAPER'S VIEW OF IT: every part as an associative memory, in levels, with what it
takes from others.

Takes a checked `Program` and computes what 2512.24695v1 says by hand; nothing is read off a name.
Nothing here changes a program.

    express.py        equations as short text
    folding.py        many qualified names as one
    associations.py   key -> value of levels, attention, layers
    retention.py      what an update keeps and adds
    transfer.py       the five kinds of knowledge transfer
    geometry.py       what an update keeps true
    level_graph.py    levels, edges, the order of Def. 2
    boxes.py          all of it, one record a memory
    families.py       the graph with boxes that are alike as one
    level_table.py    the table, and as plain text
    mermaid.py        a flowchart
    page.py           the picture (SVG), of what these four place:
    bundles.py        lines that meet in a point
    sketch.py         words, rows, the size of the text
    layout.py         places, by Graphviz
    labels.py         where labels stand
    report.py         what `nldsl compile` prints of a step
"""
