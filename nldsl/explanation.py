"""The explanation of each code, for `nldsl explain CODE`: the claim, its reason, a mistake and its
correction.

The texts are in rules/explained, a file for each family:

    ## N013 A comparison by `<` or `>`
    why ..
    ```wrong
    ..
    ```
    ```right
    ..
    ```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "rules" / "explained"
CODE = re.compile(r"^## (N\d\d\d) (.+)$", re.MULTILINE)
SNIPPET = re.compile(r"^```(wrong|right)\n(.*?)^```$\n*", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Explanation:
    """The text of one code: title, reason, a wrong and a right program; the file and the line where
    it stands.
    """

    code: str
    title: str
    why: str
    wrong: str  # a whole program, or nothing where the smallest one is too long to read
    right: str
    path: Path
    line: int

    def __str__(self) -> str:
        said = [f"{self.code}: {self.title}", self.why]
        for heading, snippet in (("Wrong:", self.wrong), ("Right:", self.right)):
            if snippet:
                said.append(
                    heading
                    + "\n\n"
                    + "".join(f"    {line}\n" for line in snippet.splitlines()).rstrip()
                )
        return "\n\n".join(said) + "\n"


@cache
def explanations() -> dict[str, Explanation]:
    """By code, in the order of the codes."""
    found: dict[str, Explanation] = {}
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        _, *parts = CODE.split(text)
        for code, title, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if code in found:
                raise ValueError(f"{path.name} explains {code} a second time")
            snippets = dict(SNIPPET.findall(body))
            found[code] = Explanation(
                code,
                title,
                SNIPPET.sub("", body).strip(),
                snippets.get("wrong", ""),
                snippets.get("right", ""),
                path,
                text.count("\n", 0, text.index(f"## {code} ")) + 1,
            )
    return dict(sorted(found.items()))


def near(code: str) -> list[str]:
    """Codes that are near the one written."""
    return get_close_matches(code.upper(), explanations(), n=3, cutoff=0.6)
