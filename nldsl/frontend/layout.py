"""Lays out code in lines: breaks long lines, and places comments."""

from __future__ import annotations

from nldsl.frontend.syntax import Arg, Call, Comment, Syntax

WIDTH = 100
INDENT = 4
COMMENT_COLUMN = 54


def commented(code: str, comment: Comment) -> str | None:
    """A line with the comment behind it, at the comments' column if it can; None if there is no
    room.
    """
    for column in (max(COMMENT_COLUMN, len(code) + 2), len(code) + 2):
        if column + len(comment.text) <= WIDTH:
            return code.ljust(column) + comment.text
    return None


def last_call(node: Syntax) -> Call | None:
    """The call that is the right side of a statement."""
    for side in ("value", "start", "body", "objective"):
        value = getattr(node, side, None)
        if isinstance(value, Call):
            return value
    return None


def groups_by_line(args: tuple[Arg, ...]) -> list[tuple[Arg, ...]]:
    """The arguments that the source has on one line stay together."""
    groups: list[tuple[Arg, ...]] = []
    for arg in args:
        if groups and groups[-1][-1].span.end_line == arg.span.line:
            groups[-1] += (arg,)
        else:
            groups.append((arg,))
    return groups


def wrap(text: str, indent: int) -> list[str]:
    """A line of code in as many as it takes; further ones are indented. Strings are not broken."""
    lines: list[str] = []
    margin = " " * indent
    if len(margin) + len(text) > WIDTH and text.startswith("def ") and ") = " in text.split('"')[0]:
        head, text = text[: text.index(") = ") + 3], text[text.index(") = ") + 4 :]
        lines, margin = wrap(head, indent), " " * (indent + INDENT)
    while len(margin) + len(text) > WIDTH:
        place = _end_of_line(text, WIDTH - len(margin))
        if place is None:
            break
        lines.append(margin + text[:place])
        text = text[place + 1 :]
        margin = " " * (indent + INDENT)
    return [*lines, margin + text]


def _end_of_line(text: str, room: int) -> int | None:
    """The best space to end a line at: in the fewest brackets, behind a comma, late; but not in the
    first third.

    Without one in reach it is the next space there is.
    """
    depth, quoted = 0, False
    found: list[tuple[bool, int, bool, int]] = []
    for i, c in enumerate(text):
        if c == '"':
            quoted = not quoted
        elif not quoted:
            depth += (c in "([{") - (c in ")]}")
            if c == " ":
                if i > room and found:
                    break
                found.append((i < room // 3, depth, text[i - 1] != ",", -i))
                if i > room:
                    break
    return -min(found)[3] if found else None
