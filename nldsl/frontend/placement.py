"""Checks that each statement stands in a block that allows it.

The grammar takes any statement in any block; this says what it cannot.
"""

from __future__ import annotations

from nldsl.diagnostic import Diagnostic
from nldsl.frontend import syntax
from nldsl.frontend.lex import UNNAMEABLE
from nldsl.frontend.syntax import (
    Block,
    Def,
    File,
    For,
    Level,
    Name,
    Return,
    Statement,
    Syntax,
    walk,
)
from nldsl.source import Span

FILE, DEF, LEVEL = "the file", "a def", "a level"
PLACES: dict[type, tuple[str, ...]] = {
    syntax.Import: (FILE,),
    syntax.Dims: (FILE,),
    syntax.Input: (FILE,),
    syntax.Def: (FILE,),
    syntax.Clock: (FILE, DEF),
    syntax.Level: (FILE, DEF),
    syntax.Memory: (LEVEL,),
    syntax.Context: (LEVEL,),
    syntax.Minimize: (LEVEL,),
    syntax.Reset: (LEVEL,),
    syntax.Bptt: (LEVEL,),
    syntax.Return: (DEF,),
    syntax.Report: (FILE,),
}
WORDS: dict[type[Syntax], str] = {syntax.Dims: "dim"}
NAMED = (
    syntax.Clock,
    syntax.Input,
    syntax.Def,
    syntax.Member,
    syntax.For,
    syntax.Memory,
    syntax.Define,
    syntax.Binding,
    syntax.Param,
)


def misplaced(file: File, complete: bool) -> list[Diagnostic]:
    """`complete` is false if statements that could not be read are left out: one of them may be the
    missing `return`.
    """
    found: list[Diagnostic] = []
    waiting: list[tuple[tuple[Statement, ...], str, bool]] = [(file.statements, FILE, False)]
    while waiting:
        statements, place, looping = waiting.pop()
        for i, statement in enumerate(statements):
            found += _wrong_place(statement, place, looping, last=i == len(statements) - 1)
            if isinstance(statement, Level):
                waiting.append((statement.block.statements, LEVEL, False))
            elif isinstance(statement, For):
                waiting.append((statement.block.statements, place, True))
            elif isinstance(statement, Def) and isinstance(statement.body, Block):
                waiting.append((statement.body.statements, DEF, False))
                found += _without_return(statement, statement.body) if complete else []
    found += _said_again(file)
    return found + [
        _unnameable(node.name)
        for node in walk(file)
        if isinstance(node, NAMED) and node.name.text in UNNAMEABLE
    ]


def _wrong_place(statement: Statement, place: str, looping: bool, last: bool) -> list[Diagnostic]:
    allowed = PLACES.get(type(statement), (FILE, DEF, LEVEL))
    word = WORDS.get(type(statement), type(statement).__name__.lower())
    span = _first_word(statement, len(word))
    if isinstance(statement, Level) and place == LEVEL:
        return [_level_inside(span)]
    if isinstance(statement, Return) and (place != DEF or looping or not last):
        return [_lost_return(span, place, looping)]
    if place in allowed and not (looping and allowed == (FILE,)):
        return []
    if allowed == (LEVEL,):
        return [
            Diagnostic(
                "N017",
                f"`{word}` is a clause of a level, it cannot stand in {place}",
                span,
                help="move it between the braces of `level .. every .. { }`",
            )
        ]
    where = (
        "at the top of the file, outside all blocks"
        if allowed == (FILE,)
        else "in the file or in a def"
    )
    inside = "a loop" if looping else place
    return [
        Diagnostic(
            "N017",
            f"`{word}` cannot stand in {inside}",
            span,
            help=f"move it out: it stands {where}",
        )
    ]


def _level_inside(span: Span) -> Diagnostic:
    return Diagnostic(
        "N019",
        "a level cannot stand inside a level",
        span,
        help="put it beside this one, or into a def whose result this level's equation reads:\n"
        "a level `every update` in that def ticks with this one",
    )


def _lost_return(span: Span, place: str, looping: bool) -> Diagnostic:
    why = (
        "only a def returns a value"
        if place != DEF
        else "`return` stands last in the block of its def"
    )
    instead = {FILE: "remove it", LEVEL: "read the memory outside: `level.M`"}.get(
        place,
        "a `for` takes all its iterations: bind the value with `x <- ..` and return it behind the "
        "loop"
        if looping
        else "move it behind the other statements",
    )
    return Diagnostic("N018", why, span, help=instead)


def _said_again(file: File) -> list[Diagnostic]:
    said = [statement for statement in file.statements if isinstance(statement, syntax.Report)]
    return [
        Diagnostic(
            "N035",
            "what is reported is said once",
            _first_word(other, len("report")),
            notes=(("here", said[0].span),),
            help="leave one of the two",
        )
        for other in said[1:]
    ]


def _without_return(definition: Def, body: Block) -> list[Diagnostic]:
    if any(isinstance(statement, Return) for statement in body.statements):
        return []
    return [
        Diagnostic(
            "N018",
            f"`{definition.name}` returns nothing",
            definition.name.span,
            help="end its block with `return ..`: a value or a memory",
        )
    ]


def _unnameable(name: Name) -> Diagnostic:
    return Diagnostic(
        "N012",
        f"`{name}` is a word of the language and cannot name anything here",
        name.span,
        help=f"choose another name, such as `{name}_1`",
    )


def _first_word(node: Syntax, length: int) -> Span:
    span = node.span
    return type(span)(
        span.source,
        span.start,
        span.start + length,
        span.line,
        span.column,
        span.line,
        span.column + length,
    )
