"""One statement -> lines of at most 100 columns.

y = f(a, b)                  as it is where it fits; else the longest bracket is opened,
                             its items on a line of their own or on one each
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDTH, INDENT = 100, 4
PAIRS = {"(": ")", "[": "]", "{": "}"}
STRING = re.compile(r'f?"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
OPERATOR = re.compile(r" (?:[-+*/@|&]|//|\*\*|and|or|if|else) ")


def defined(head: str, lines: Sequence[str]) -> str:
    """A function of these statements, in one kind of quotation marks."""
    rows = [
        row
        for line in map(marked, lines)
        for row in fold(line.strip(), INDENT + len(line) - len(line.lstrip()))
    ]
    return "\n".join([*fold(f"def {head}:"), *rows]) + "\n"


def marked(text: str) -> str:
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', text)


def fold(text: str, indent: int = 0, tail: str = "") -> list[str]:
    """The lines of one statement, or of one item in brackets, that starts at a column."""
    pad = " " * indent
    if indent + len(text) + len(tail) <= WIDTH:
        return [pad + text + tail]
    at = assigned(text)
    if at is not None and text[0] == "(":
        head = text[at + 3 :].partition("(")[0]
        if indent + at + 4 + len(head) > WIDTH or indent + at > WIDTH // 2:
            left, value = opened(text[:at], indent, " ="), text[at + 3 :]
            right = fold(value, indent, tail)
            if len(right[0]) + len(left[-1]) - indent >= WIDTH and brackets(value):
                right = opened(value, indent, tail)
            return [*left[:-1], f"{left[-1]} {right[0].strip()}", *right[1:]]
    start = len("return ") if text.startswith("return ") else 0 if at is None else at + 3
    if not brackets(text) or start and summed(text[start:]):
        return bracketed(text, start, indent, tail)
    return opened(text, indent, tail)


def opened(text: str, indent: int, tail: str) -> list[str]:
    """The lines with the longest bracket opened, and those beside it if there is no room."""
    start, end = max(brackets(text), key=lambda pair: pair[1] - pair[0])
    pad, body = " " * indent, text[start + 1 : end].strip()
    head, last = [pad + text[: start + 1]], [pad + text[end:] + tail]
    if len(head[0]) > WIDTH and brackets(text[:start]):
        head = opened(text[:start], indent, text[start])
    if len(last[0]) > WIDTH and brackets(text[end + 1 :]):
        more = opened(text[end + 1 :], indent, tail)
        last = [pad + text[end] + more[0].removeprefix(pad), *more[1:]]
    return [*head, *items(body, indent + INDENT), *last]


def items(body: str, indent: int) -> list[str]:
    """What stands between two brackets."""
    if indent + len(body) <= WIDTH:
        return [" " * indent + body]
    parts = split(body)
    if len(parts) > 1 or body.endswith(","):
        return [line for part in parts for line in fold(part, indent, ",")]
    return operands(body, indent) or fold(body, indent)


def operands(text: str, indent: int) -> list[str]:
    """A long sum or product, an operand a line; nothing if it is neither."""
    covered = outside(text)
    cuts = [m.start() + 1 for m in OPERATOR.finditer(covered)]
    if not cuts:
        return []
    parts = [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)])]
    return [line for part in parts for line in fold(part, indent)]


def summed(text: str) -> bool:
    """Is the text a sum or a product, and nothing around it?"""
    covered = outside(text)
    return "," not in covered and OPERATOR.search(covered) is not None


def bracketed(text: str, start: int, indent: int, tail: str) -> list[str]:
    """A long statement whose value gets brackets of its own."""
    pad = " " * indent
    if re.fullmatch(STRING, text):
        pieces = pieces_of(text, WIDTH - indent - 4)
        return [pad + piece for piece in pieces[:-1]] + [pad + pieces[-1] + tail]
    if not start:
        return [pad + text + tail]
    return [pad + text[:start] + "(", *items(text[start:], indent + INDENT), pad + ")" + tail]


def pieces_of(text: str, room: int) -> list[str]:
    """A long string as several that Python joins."""
    kind = "f" if text.startswith("f") else ""
    pieces = [""]
    for part in re.findall(r"\{\w+\}|.", text[len(kind) + 1 : -1]):
        if len(pieces[-1]) + len(part) > room:
            pieces.append("")
        pieces[-1] += part
    return [f'{kind}"{piece}"' for piece in pieces]


def outside(text: str) -> str:
    """The text with everything in brackets or quotation marks blotted out, of the same length."""
    text = STRING.sub(lambda m: "_" * len(m.group()), text)
    out, depth = [], 0
    for letter in text:
        depth -= letter in PAIRS.values()
        out.append("_" if depth else letter)
        depth += letter in PAIRS
    return "".join(out)


def assigned(text: str) -> int | None:
    """Where ` = ` stands."""
    at = outside(text).find(" = ")
    return None if at < 0 else at


def split(text: str) -> list[str]:
    """The items between top commas."""
    covered, parts, start = outside(text), [], 0
    for at, letter in enumerate(covered):
        if letter == ",":
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, *([last] if (last := text[start:].strip()) else [])]


def brackets(text: str) -> list[tuple[int, int]]:
    """Places of the outermost brackets that hold something."""
    covered = STRING.sub(lambda m: "_" * len(m.group()), text)
    found, stack = [], []
    for at, letter in enumerate(covered):
        if letter in PAIRS:
            stack.append(at)
        elif letter in PAIRS.values():
            start = stack.pop()
            if not stack and text[start + 1 : at].strip():
                found.append((start, at))
    return found
