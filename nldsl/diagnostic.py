"""Diagnostics: each has a code, a message, the words that it is about, and what to write instead.

    error[N301]: `loss` has a value every token, this level ticks every 4 step
      --> cms.nl:12:18
       |
    12 |         minimize loss
       |                  ^^^^ every token
       |
       = help: write `mean(loss over period)`

The first digit of a code is its family: N0 syntax, N1 names and ownership, N2 shapes and types, N3
clocks, N4 causality and starts, N5 gradients, N6 flow of data, N7 data and runs, N8 backend. What a
code means at length is in `nldsl.explanation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from rich.console import Console
from rich.text import Text

from nldsl.source import Source, Span

Severity = Literal["error", "warning", "note"]
COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
EDGE = "bold blue"
LINES_OF_ONE_SPAN = 6  # a longer span shows its first line only
EFFECTS = ("N513",)  # a weight has no gradient where a memory is not read, or nothing is learned
WIDEST_LINE = 160  # of a longer line, only what is near the words is shown


@dataclass(frozen=True)
class Edit:
    """`text` in the place of the words of `span`; an empty span is where text is put in."""

    span: Span
    text: str


class Advice(TypedDict, total=False):
    """The help of a message, and the edits that write it."""

    help: str
    fix: tuple[Edit, ...]


@dataclass(frozen=True)
class Diagnostic:
    """One finding: `code` and `message`, the words at `span` under a `label`, further `notes` with
    their places, `help` and the edits that do what it says.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""  # stands beside the carets
    notes: tuple[tuple[str, Span | None], ...] = ()  # each with the place it speaks of, if any
    help: str = ""  # what to write instead
    severity: Severity = field(default="error")
    fix: tuple[Edit, ...] = ()  # makes the text what `help` says: all of them together


def counted(n: int, what: str, several: str = "") -> str:
    """`1 level`, `2 levels`; `several` where it is not formed with an s."""
    return f"{n:,} {what if n == 1 else several or what + 's'}"


def edited(text: str, fix: Iterable[Edit]) -> str:
    """The text with a fix applied. Edits of one fix do not overlap."""
    for edit in sorted(fix, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


class Diagnostics(Exception):
    """All that was found wrong at once.

    A program with warnings or notes only does not raise this.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return render(self.diagnostics)


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """In the order of the text; what may be the effect of another comes behind all others."""
    return sorted(diagnostics, key=lambda found: (found.code in EFFECTS, _place(found)))


def render(diagnostics: Iterable[Diagnostic], color: bool = False) -> str:
    """All diagnostics in order, with excerpts and a closing count; with ANSI colours on demand."""
    found = ordered(diagnostics)
    page = Text()
    for diagnostic in found:
        page.append_text(_draw(diagnostic))
        page.append("\n")
    page.append(_count(found))
    if not color:
        return page.plain
    console = Console(force_terminal=True, color_system="standard", width=10_000, highlight=False)
    with console.capture() as capture:
        console.print(page, end="", soft_wrap=True)
    return capture.get()


def _place(diagnostic: Diagnostic) -> tuple[str, int]:
    """Those without a place come last."""
    span = diagnostic.span
    return (span.source.name, span.start) if span else ("\U0010ffff", 0)


def _count(diagnostics: list[Diagnostic]) -> str:
    counts = [(sum(d.severity == severity for d in diagnostics), severity) for severity in COLOURS]
    said = [counted(n, severity) for n, severity in counts if n]
    return ", ".join(said) + "\n" if said else ""


def _draw(diagnostic: Diagnostic) -> Text:
    colour = COLOURS[diagnostic.severity]
    page = Text()
    page.append(f"{diagnostic.severity}[{diagnostic.code}]", style=colour)
    page.append(f": {diagnostic.message}\n", style="bold")
    spans = [span for span in (diagnostic.span, *(span for _, span in diagnostic.notes)) if span]
    margin = max((len(str(_last_line(span))) for span in spans), default=0)
    if diagnostic.span:
        page.append_text(_excerpt(diagnostic.span, diagnostic.label, "^", colour, margin))
    for words, span in diagnostic.notes:
        if span:
            page.append_text(_excerpt(span, words, "-", EDGE, margin))
        else:
            page.append_text(_remark("note", words, margin))
    if diagnostic.help:
        page.append_text(_remark("help", diagnostic.help, margin))
    return page


def _remark(kind: str, words: str, margin: int) -> Text:
    """` = help: ...`; the further lines of a remark stand under its first word."""
    page = Text()
    page.append(" " * margin + " = ", style=EDGE)
    page.append(f"{kind}: ", style="bold")
    page.append(words.replace("\n", "\n" + " " * (margin + 5 + len(kind))) + "\n")
    return page


def _last_line(span: Span) -> int:
    """The last line that an excerpt of the span shows."""
    return span.end_line if span.end_line - span.line < LINES_OF_ONE_SPAN else span.line


def _excerpt(span: Span, label: str, mark: str, colour: str, margin: int) -> Text:
    page = Text()
    page.append(" " * margin + "--> ", style=EDGE)
    page.append(f"{span.source.place}:{span.line}:{span.column}\n")
    page.append(" " * margin + " |\n", style=EDGE)
    last = _last_line(span)
    for number in range(span.line, last + 1):
        text = _line(span.source, number)
        start = span.column - 1 if number == span.line else len(text) - len(text.lstrip())
        end = span.end_column - 1 if number == span.end_line else len(text.rstrip())
        if len(text) > WIDEST_LINE:
            left = max(0, start - WIDEST_LINE // 2)
            text, start, end = (
                text[left : left + WIDEST_LINE],
                start - left,
                min(end - left, WIDEST_LINE),
            )
        page.append(f"{number:>{margin}} | ", style=EDGE)
        page.append(_printable(text) + "\n")
        page.append(" " * margin + " | ", style=EDGE)
        carets = " " * start + mark * max(1, end - start)
        page.append(carets + (f" {label}" if label and number == last else "") + "\n", style=colour)
    return page


def _line(source: Source, number: int) -> str:
    """Lines end at "\\n" alone, as the parser counts them."""
    lines = source.text.split("\n")
    return lines[number - 1] if number <= len(lines) else ""


def _printable(text: str) -> str:
    """One column for each character: a tab or a control character would move the carets away from
    their words.
    """
    return "".join(c if c.isprintable() else " " for c in text).rstrip()
