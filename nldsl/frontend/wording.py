"""The words of a text, with queries that need no grammar: lines, blocks of lines, brackets,
operands.
"""

from __future__ import annotations

from collections.abc import Iterator

from nldsl.diagnostic import Edit
from nldsl.frontend.lex import (
    CLOSING,
    DEEPEST_BRACKETS,
    OPENING,
    RESERVED,
    Places,
    Word,
    is_start,
    statement,
)
from nldsl.source import Span

CONNECTING = frozenset("and or not if else is in lambda".split())
PRODUCTS = frozenset("* / .* ./ ^ .^ . @ ^T".split())
LIMITS = frozenset("= <- , -> <= >= == < > : |".split())
FAR = 2000  # words that are looked back on
ELSE = frozenset("elif else except finally".split())


class Wording:
    """Words are named by their numbers; `i` to `j` are those from i on before j."""

    def __init__(self, words: list[Word], places: Places) -> None:
        self.words, self.places = words, places
        self.ends: list[int] = []  # for each word, the first of the next line
        end = len(words)
        for n in range(len(words) - 1, -1, -1):
            self.ends.append(end)
            end = n if words[n].first else end
        self.ends.reverse()

    # ---- places

    def span(self, i: int, j: int) -> Span:
        return self.places.span(self.words[i].start, self.words[j - 1].end)

    def text_of(self, i: int, j: int) -> str:
        return self.places.source.text[self.words[i].start : self.words[j - 1].end]

    def before(self, i: int) -> Span:
        """The place before a word, of no width."""
        return self.places.span(self.words[i].start, self.words[i].start)

    def behind(self, j: int) -> Span:
        """The place behind the words before j."""
        return self.places.span(self.words[j - 1].end, self.words[j - 1].end)

    def upto(self, i: int, j: int) -> Span:
        """From word i to where word j begins."""
        return self.places.span(self.words[i].start, self.words[j].start)

    def spaced(self, i: int, j: int) -> Span:
        """The words with the space on both sides of them."""
        end = (
            self.words[j].start
            if j < len(self.words) and not self.words[j].first
            else self.words[j - 1].end
        )
        return self.places.span(self.words[i - 1].end, end)

    def column(self, i: int) -> int:
        return self.before(i).column

    # ---- lines

    def end_of_line(self, i: int) -> int:
        return self.ends[i]

    def block(self, i: int) -> tuple[int, int]:
        """The line of a word and the lines further in than it, with the `else` that belongs to
        them, or its braces.
        """
        end = self.end_of_line(i)
        brace = next((n for n in range(i, end) if self.words[n].text == "{"), None)
        if brace is not None:
            end = (self.partner(brace) or end - 1) + 1
        elif self.words[i].first:
            while end < len(self.words) and self.column(end) > self.column(i):
                end = self.end_of_line(end)
        follows = end < len(self.words) and self.words[end].text in ELSE
        return (i, self.block(end)[1]) if follows else (i, end)

    def closing_brace(self, i: int, end: int) -> Edit:
        """A line with the brace of the block that word i begins, behind the line of the last word
        before `end`.
        """
        text = self.places.source.text
        line = text.find("\n", self.words[end - 1].end)
        at = len(text) if line < 0 else line
        return Edit(self.places.span(at, at), "\n" + " " * (self.column(i) - 1) + "}")

    def begins_statement(self, i: int) -> bool:
        return is_start(self.words, i)

    def goes_on(self, i: int) -> bool:
        """Does an `else` belong to a block above it?"""
        if self.words[i - 1].text == "}":
            return True
        above = (
            n
            for n in range(i - 1, max(-1, i - FAR), -1)
            if self.words[n].first and self.column(n) <= self.column(i)
        )
        return self.words[next(above, 0)].text in ELSE | {"if", "try"}

    def is_prose(self, i: int, end: int) -> bool:
        """Are these words no operand, or two without a sign between them?"""
        behind = self.operand_behind(i) if i < end else None
        return (
            behind is None
            or behind < end
            and self.words[behind].kind in ("name", "number", "string", "stray", "unclosed")
        )

    # ---- brackets

    def partner(self, i: int) -> int | None:
        """The bracket that closes this one."""
        open: list[str] = []
        for n in range(i, len(self.words)):
            text = self.words[n].text
            if text in CLOSING:
                open.append(CLOSING[text])
                if len(open) > DEEPEST_BRACKETS:
                    return None
            elif text in OPENING and (not open or open.pop() != text or not open):
                return n if not open else None
        return None

    def opened(self, i: int) -> int | None:
        """The innermost bracket that is open before word i."""
        depth = 0
        for n in range(i - 1, max(-1, i - FAR), -1):
            depth += (self.words[n].text in OPENING) - (self.words[n].text in CLOSING)
            if depth < 0:
                return n
        return None

    def level(self, i: int, end: int | None = None) -> Iterator[int]:
        """The words from i on that stand in no bracket opened behind i, up to a bracket that closes
        around them.
        """
        depth = 0
        for n in range(i, len(self.words) if end is None else end):
            text = self.words[n].text
            depth -= text in OPENING
            if depth < 0:
                return
            if depth == 0:
                yield n
            depth += text in CLOSING

    # ---- operands

    def joined(self, i: int, sign: str) -> int | None:
        """The number behind the words that stand together as `sign`."""
        j, said = i, ""
        while (
            len(said) < len(sign)
            and j < len(self.words)
            and (j == i or self.words[j].start == self.words[j - 1].end)
        ):
            said += self.words[j].text
            j += 1
        return j if said == sign else None

    def ends_operand(self, i: int) -> bool:
        word = self.words[i]
        if word.kind == "name":
            return word.text not in RESERVED | CONNECTING
        return word.kind in ("number", "string") or word.text in (")", "]", "|", "^T", ">")

    def begins_operand(self, i: int) -> bool:
        if i >= len(self.words):
            return False
        word = self.words[i]
        if word.kind == "name":
            return word.text not in RESERVED and word.text not in CONNECTING - {"not", "lambda"}
        return word.kind in ("number", "string") or word.text in ("(", "[", "|", "-", "<")

    def end_of_expression(self, i: int) -> int:
        """Behind the expression that begins at word i."""
        end = i
        for n in self.level(i):
            if (
                self.words[n].text in (",", "=", "<-", "{", ":", "}")
                or n > i
                and is_start(self.words, n)
            ):
                return n
            end = self._past(n) or n + 1
        return end

    def expression_before(self, i: int) -> int | None:
        """The first word of the expression that ends before word i; None if no sign tells it."""
        n = self._back(i, frozenset("= <- , ->".split()), RESERVED)
        return n if n is not None and n < i else None

    def term_before(self, i: int) -> int | None:
        """The first word of the product that ends before word i; None among bars and inner
        products.
        """
        n = self._back(i, LIMITS | {"+", "-"}, RESERVED)
        if n is None or n == i or n and self.words[n - 1].text in ("|", "<", ">"):
            return None
        return n

    def _back(self, i: int, stops: frozenset[str], names: frozenset[str]) -> int | None:
        depth = 0
        for n in range(i - 1, max(-1, i - FAR), -1):
            text = self.words[n].text
            depth += (text in OPENING) - (text in CLOSING)
            if (
                depth < 0
                or depth == 0
                and text not in OPENING | CLOSING.keys()
                and (text in stops or text in names)
            ):
                return n + 1
        return None

    def operand_behind(self, i: int) -> int | None:
        """Behind the operand of `*` that begins at word i; None if it is none, or stands in
        bars.
        """
        start = i
        while start < len(self.words) and self.words[start].text == "-":
            start += 1
        if not self.begins_operand(start) or self.words[start].text in ("|", "<", "-"):
            return None
        n = self._past(start)
        while n is not None and n < len(self.words) and not self.words[n].first:
            if self.words[n].text in (".", "@"):
                n += 2
            elif self.words[n].text == "^T":
                n += 1
            elif self.words[n].text in ("(", "["):
                n = self._past(n)
            elif self.words[n].text in ("^", ".^"):
                return self.operand_behind(n + 1)
            else:
                break
        return None if n is None or n > len(self.words) else n

    def _past(self, i: int) -> int | None:
        if self.words[i].text not in CLOSING:
            return i + 1
        closing = self.partner(i)
        return None if closing is None else closing + 1

    def statement_around(self, opening: int, closing: int) -> tuple[int, int]:
        """The statement that a pair of brackets stands in, whatever they hold."""
        end = closing + 1
        while (
            end < len(self.words) and not is_start(self.words, end) and self.words[end].text != "}"
        ):
            end += 1
        return statement(self.words, opening)[0], end

    def condition(self, i: int, j: int) -> tuple[str, bool] | None:
        """The words as a comparison that nldsl has, and whether it holds where theirs does not."""
        inner = [n for n in self.level(i, j)]
        compared = [n for n in inner if self.words[n].text in ("<=", ">=", "==", "<", ">", "!")]
        if len(compared) != 1 or any(self.words[n].text in CONNECTING | {"|"} for n in inner):
            return None
        n = compared[0]
        sign = "!=" if self.words[n].text == "!" else self.words[n].text
        right = n + 2 if sign == "!=" else n + 1
        if n == i or right >= j:
            return None
        a, b = self.text_of(i, n), self.text_of(right, j)
        return {
            "<": (f"{b} <= {a}", True),
            ">": (f"{a} <= {b}", True),
            "!=": (f"{a} == {b}", True),
        }.get(sign, (f"{a} {sign} {b}", False))
