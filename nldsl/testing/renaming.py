"""The same text with every name of its own changed.

    dim d = 2  input x: [d]     ->     dim name9 = 2  input name8: [name9]

Names of the library keep their names, so do its parameters, and files; so does `loss`, which a
definition may read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nldsl.core.program import WORKER
from nldsl.frontend import syntax as s
from nldsl.frontend.parse import parse
from nldsl.source import Source
from nldsl.testing.constructs import library
from nldsl.testing.programs import Drawn


def renamed(text: str) -> str:
    return together([text])[0]


def renamed_program(drawn: Drawn) -> Drawn:
    """A drawn program and the files that it imports."""
    text, *others = together(drawn.texts())
    return replace(
        drawn,
        text=text,
        files=tuple((name, other) for (name, _), other in zip(drawn.files, others, strict=True)),
    )


def together(texts: Sequence[str]) -> list[str]:
    """The texts of one program: one name is one name in all of them."""
    files = [list(s.walk(parse(Source("named.nl", text)))) for text in texts]
    own: dict[str, None] = {}
    for node in (node for nodes in files for node in nodes):
        match node:
            case (
                s.Clock()
                | s.Input()
                | s.Def()
                | s.Param()
                | s.Binding()
                | s.Define()
                | s.Memory()
                | s.For()
            ):
                own[node.name.text] = None
            case s.Level():
                own[node.member.name.text] = None
    for meant in ("loss", WORKER):
        own.pop(meant, None)
    new = {
        name: f"name{len(own) - i:03}" for i, name in enumerate(own)
    }  # the order of the alphabet is turned round
    return [_replaced(text, nodes, new) for text, nodes in zip(texts, files, strict=True)]


def _replaced(text: str, nodes: list[s.Syntax], new: dict[str, str]) -> str:
    foreign = {
        id(arg.name)
        for node in nodes
        if isinstance(node, s.Call | s.Kind) and _callee(node) in library()
        for arg in node.args or ()
        if isinstance(arg, s.Named)
    }
    foreign |= {
        id(node.name)
        for node in nodes
        if isinstance(node, s.Named) and node.name.text in ("init", "base")
    }
    places = {
        (n.span.start, n.span.end, n.text)
        for n in nodes
        if isinstance(n, s.Name) and n.text in new and id(n) not in foreign
    }
    for pair in (n for n in nodes if isinstance(n, s.Pair)):
        at = pair.key.span.start
        places |= {
            (at + m.start(1), at + m.end(1), m[1])
            for m in re.finditer(r"\{(\w+)\}", text[at : pair.key.span.end])
            if m[1] in new
        }
    for start, end, name in sorted(places, reverse=True):
        assert text[start:end] == name
        text = text[:start] + new[name] + text[end:]
    return text


def _callee(node: s.Syntax) -> str:
    match node:
        case s.Call(callee=s.Name(text=name)):
            return name
        case s.Kind():
            return str(node.place)
    return ""
