"""Findings as other programs read them: one JSON object, or the workflow commands by which GitHub
puts them beside the lines of a change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nldsl.diagnostic import Diagnostic, ordered
from nldsl.source import Span

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
Place = dict[str, "str | int"]


def as_json(findings: Sequence[Diagnostic]) -> str:
    """`{"accepted": .., "findings": [..]}`; lines and columns count from 1, columns in characters,
    an end is the first column behind the words. `fix` holds the edits that do what `help` says.
    """
    whole = {
        "accepted": not any(one.severity == "error" for one in findings),
        "findings": [
            {
                "code": one.code,
                "severity": one.severity,
                "message": one.message,
                "label": one.label,
                "help": one.help,
                **placed(one.span),
                "notes": [{"message": words, **placed(span)} for words, span in one.notes],
                "fix": [{"text": edit.text, **placed(edit.span)} for edit in one.fix],
            }
            for one in ordered(findings)
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)


def placed(span: Span | None) -> Place:
    if span is None:
        return {}
    return {
        "file": span.source.place,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def as_github(findings: Sequence[Diagnostic]) -> str:
    """A line for each: `::error file=a.nl,line=3,col=5,..,title=N101::message`."""
    return "\n".join(map(_command, ordered(findings)))


def _command(one: Diagnostic) -> str:
    place = placed(one.span)
    keys = {"file": "file", "line": "line", "end_line": "endLine"}
    if place and place["line"] == place["end_line"]:  # columns are of one line
        keys |= {"column": "col", "end_column": "endColumn"}
    said = {keys[name]: value for name, value in place.items() if name in keys}
    about = ",".join(f"{key}={_property(str(value))}" for key, value in said.items())
    title = f"{',' if about else ''}title={one.code}"
    words = "\n".join([one.message, *([f"help: {one.help}"] if one.help else [])])
    return f"::{COMMANDS[one.severity]} {about}{title}::{_data(words)}"


def _data(text: str) -> str:
    """A line end within a command is written by its code."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
