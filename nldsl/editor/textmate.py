"""The words of the language as a TextMate grammar, which most editors read for colours."""

from __future__ import annotations

import json

from nldsl.frontend.lex import RESERVED
from nldsl.frontend.syntax import UNITS


def textmate() -> str:
    """The text of grammar/editors/nldsl.tmLanguage.json."""
    whole = {
        "name": "nldsl",
        "scopeName": "source.nldsl",
        "fileTypes": ["nl"],
        "patterns": patterns(),
    }
    return json.dumps(whole, indent=2) + "\n"


def patterns() -> list[dict[str, object]]:
    """The patterns, the more specific first: a name behind `def` before the word `def`."""
    keywords = "|".join(sorted(RESERVED - set(UNITS)))
    return [
        {"name": "comment.line.number-sign.nldsl", "match": "#.*$"},
        {"name": "string.quoted.double.nldsl", "match": '"[^"\\n]*"'},
        {
            "match": r"\b(def|level)\s+([A-Za-z][A-Za-z0-9_]*)",
            "captures": {
                "1": {"name": "keyword.control.nldsl"},
                "2": {"name": "entity.name.function.nldsl"},
            },
        },
        {
            "match": r"\b(bptt)\s+(full|none)\b",
            "captures": {
                "1": {"name": "keyword.control.nldsl"},
                "2": {"name": "constant.language.nldsl"},
            },
        },
        {"name": "keyword.control.nldsl", "match": rf"\b({keywords})\b"},
        {"name": "support.type.unit.nldsl", "match": rf"\b({'|'.join(UNITS)})\b"},
        {
            "match": r"(@)([A-Za-z][A-Za-z0-9_]*)",
            "captures": {
                "1": {"name": "keyword.operator.nldsl"},
                "2": {"name": "variable.language.instant.nldsl"},
            },
        },
        {"name": "entity.name.function.call.nldsl", "match": r"\b[A-Za-z][A-Za-z0-9_]*(?=\()"},
        {"name": "constant.numeric.nldsl", "match": r"\b[0-9]+(\.[0-9]+)?(e-?[0-9]+)?\b"},
        {"name": "keyword.operator.nldsl", "match": r"<-|->|<=|>=|==|\^T\b|\.?[*/^]|[-+=]"},
    ]
