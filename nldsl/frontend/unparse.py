"""Syntax tree -> text in the layout of the library's own files, with the comments of the source.

    unparse(parse(Source("a", "nldsl 1 x=(a+b)*2#why"))) == "nldsl 1\nx = (a + b) * 2  ..  # why\n"

Laws: parsing the result gives the same tree, unparsing that gives the same text, and no comment is
lost. A comment behind a statement stays behind it, where it fits; one inside a statement moves
above it. One blank line stays where there were any.
"""

from __future__ import annotations

from nldsl.frontend.expression_text import arguments
from nldsl.frontend.layout import INDENT, WIDTH, commented, groups_by_line, last_call, wrap
from nldsl.frontend.statement_text import block_of, header, one_line
from nldsl.frontend.syntax import Block, Comment, File, Statement, Syntax


def unparse(file: File) -> str:
    """The text of a file in the standard layout."""
    printer = _Printer(file)
    printer.line(f"nldsl {file.version.text}", 0, file.version)
    printer.statements(file.statements, 0)
    printer.comments_before(len(file.span.source.text) + 1, 0)
    return "\n".join(printer.lines) + "\n"


class _Printer:
    def __init__(self, file: File):
        self.source_lines = file.span.source.text.split("\n")
        self.comments = list(reversed(file.comments))  # the next one is last
        self.lines: list[str] = []
        self.opened = True  # nothing stands yet in this block

    def statements(self, statements: tuple[Statement, ...], indent: int) -> None:
        for statement in statements:
            block = block_of(statement)
            if block is None or self._stays_on_one_line(statement, block, indent):
                self.line(one_line(statement), indent, statement)
                continue
            self.line(header(statement) + " {", indent, statement, until=block.span.start + 1)
            self.opened = True
            self.statements(block.statements, indent + INDENT)
            self.comments_before(block.span.end, indent + INDENT)
            self.opened = True
            self.line("}", indent, block, until=block.span.end)
            self.opened = False

    def _stays_on_one_line(self, statement: Statement, block: Block, indent: int) -> bool:
        """As the author wrote it, if it fits."""
        if block.span.line != block.span.end_line or any(
            block_of(inner) for inner in block.statements
        ):
            return False
        has_comment = any(
            block.span.start < comment.span.start < block.span.end for comment in self.comments
        )
        return not has_comment and indent + len(one_line(statement)) <= WIDTH

    def line(self, text: str, indent: int, of: Syntax, until: int | None = None) -> None:
        """One statement, or the part of it that ends at `until`, behind the comments above it and
        with the one behind it.
        """
        closing = text == "}"
        if not closing:
            self.comments_before(of.span.start, indent)
            self._blank_line(of.span.line)
        end = of.span.end if until is None else until
        above = self._take(end)
        end_line = of.span.end_line if until is None else _line_of(of, end)
        behind = self._take_behind(end, end_line)
        wrapped = self._arguments_on_lines(of, text, indent, above, behind) or wrap(text, indent)
        if behind is not None:
            line = commented(wrapped[-1], behind)
            if line is None:
                above.append(behind)
            else:
                wrapped[-1] = line
        self.lines += [
            " " * (indent + INDENT * closing) + comment.text for comment in above
        ] + wrapped
        self.opened = False

    def _arguments_on_lines(
        self, of: Syntax, text: str, indent: int, inside: list[Comment], last: Comment | None
    ) -> list[str] | None:
        """A call that ends a statement keeps the author's lines, with the comments behind them;
        else None.

        They stand below the first argument, or one step in where the author has them there or a
        comment needs the room.
        """
        call = last_call(of)
        if call is None:
            return None
        groups = groups_by_line(call.args)
        if len(groups) < 2 or not text.endswith(f"({arguments(call.args)})"):
            return None
        opening = text[: -len(arguments(call.args)) - 1]
        behind: dict[int, Comment] = {}
        for comment in inside:
            line = comment.span.line
            place = next((n for n, g in enumerate(groups) if g[-1].span.end_line == line), None)
            if (
                place is None
                or place in behind
                or place == len(groups) - 1
                or comment.span.start < groups[place][-1].span.end
            ):
                return None
            behind[place] = comment
        step_in = groups[1][0].span.column == of.span.column + INDENT
        for margin in (indent + INDENT,) if step_in else (indent + len(opening), indent + INDENT):
            lines = [
                " " * margin + arguments(group) + ("," if n < len(groups) - 1 else ")")
                for n, group in enumerate(groups)
            ]
            lines[0] = " " * indent + opening + lines[0].lstrip()
            with_comments = [
                commented(line, behind[n]) if n in behind else line for n, line in enumerate(lines)
            ]
            fits = last is None or commented(lines[-1], last) is not None
            whole = [line for line in with_comments if line is not None and len(line) <= WIDTH]
            if fits and len(whole) == len(with_comments):
                inside.clear()
                return whole
        return None

    def comments_before(self, offset: int, indent: int) -> None:
        for comment in self._take(offset):
            self._blank_line(comment.span.line)
            self.lines.append(" " * indent + comment.text)
            self.opened = False

    def _take(self, offset: int) -> list[Comment]:
        taken = []
        while self.comments and self.comments[-1].span.start < offset:
            taken.append(self.comments.pop())
        return taken

    def _take_behind(self, end: int, line: int) -> Comment | None:
        """The comment on this line, if nothing but space is between."""
        if self.comments and self.comments[-1].span.line == line:
            between = self.comments[-1].span.source.text[end : self.comments[-1].span.start]
            if not between.strip():
                return self.comments.pop()
        return None

    def _blank_line(self, line: int) -> None:
        if (
            not self.opened
            and line > 1
            and not self.source_lines[line - 2].strip()
            and self.lines[-1]
        ):
            self.lines.append("")


def _line_of(node: Syntax, offset: int) -> int:
    return node.span.line + node.span.source.text.count("\n", node.span.start, offset)
