"""The words of the language for Pygments, which colours pages and terminals."""

from __future__ import annotations

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Text,
)

from nldsl.editor.words import BUILT_IN
from nldsl.frontend.lex import RESERVED
from nldsl.frontend.syntax import UNITS


class NldslLexer(RegexLexer):
    """Found as `nldsl`, and by the names of files: `*.nl`."""

    name = "nldsl"
    aliases = ["nldsl"]
    filenames = ["*.nl"]
    mimetypes = ["text/x-nldsl"]
    tokens = {
        "root": [
            (r"\s+", Text),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String.Double),
            (r"\b(def)(\s+)([A-Za-z]\w*)", bygroups(Keyword, Text, Name.Function)),
            (r"\b(level)(\s+)([A-Za-z]\w*)", bygroups(Keyword, Text, Name.Class)),
            (r"\b(bptt)(\s+)(full|none)\b", bygroups(Keyword, Text, Keyword.Constant)),
            (r"(@)([A-Za-z]\w*)", bygroups(Operator, Name.Decorator)),
            (words(tuple(UNITS), r"\b", r"\b"), Keyword.Type),
            (words(tuple(sorted(RESERVED - set(UNITS))), r"\b", r"\b"), Keyword),
            (words(tuple(sorted(BUILT_IN)), r"\b", r"\b"), Name.Builtin),
            (r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?\b", Number),
            (r"[A-Za-z]\w*(?=\()", Name.Function),
            (r"[A-Za-z]\w*", Name),
            (r"<-|->|<=|>=|==|\^T\b|\.?[*/^]|[-+=|<>]", Operator),
            (r"[][(){},.:_]", Punctuation),
        ]
    }
