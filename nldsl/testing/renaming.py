"""The same text with every name of its own changed.

    dim d = 2  input x: [d]     ->     dim name9 = 2  input name8: [name9]

Names of the library keep their names, so do its parameters.
"""
from __future__ import annotations

from nldsl.frontend import syntax as s
from nldsl.frontend.parse import parse
from nldsl.source import Source
from nldsl.testing.constructs import library


def renamed(text: str) -> str:
    file = parse(Source("named.nl", text))
    nodes = list(s.walk(file))
    own: dict[str, None] = {}
    for node in nodes:
        match node:
            case s.Clock() | s.Input() | s.Def() | s.Param() | s.Binding() | s.Define() | s.Memory() | s.For():
                own[node.name.text] = None
            case s.Level():
                own[node.member.name.text] = None
    foreign = {id(arg.name) for node in nodes if _callee(node) in library() for arg in node.args or () if isinstance(arg, s.Named)}
    foreign |= {id(node.name) for node in nodes if isinstance(node, s.Named) and node.name.text in ("init", "base")}
    new = {name: f"name{len(own) - i:03}" for i, name in enumerate(own)}      # the order of the alphabet is turned round
    places = sorted({(n.span.start, n.span.end, n.text) for n in nodes if isinstance(n, s.Name) and n.text in new and id(n) not in foreign})
    for start, end, name in reversed(places):
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
