"""The level graph as one HTML file: everything is in it, and a browser shows it in any width, in
either colour scheme, by pointer, by keyboard and without its script.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import done

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
SMALL = ("--set", "d=16", "--set", "head=2", "--set", "depth=2", "--set", "vocab=16")
VOID = ("meta", "wbr")


class Page(HTMLParser):
    """The elements of a page, each with its attributes and the text in it; tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.found) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for i in self.open:
            self.found[i][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for found, _, text in self.found if found == tag]


@pytest.fixture(scope="module")
def hope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "hope.html"
    done("graph", ROOT / "examples" / "hope.nl", *SMALL, "--as", "html", "-o", path)
    return path


def test_every_memory_has_its_card(hope: Path) -> None:
    page = Page(hope.read_text(encoding="utf-8"))
    cards = {a["id"]: "".join(text) for tag, a, text in page.found if tag == "article"}
    links = [a["href"] for tag, a, _ in page.found if tag == "a"]
    assert sorted(links) == sorted(f"#{place}" for place in cards) and len(cards) > 8
    recall = next(text for text in cards.values() if "M_mem.recall" in text and "|M(k)" in text)
    for words in (
        "M.W2 <- M.W2 * (keep * I - rate * k * k^T) + S.W2",
        "every token, reset every sequence; frequency 1 per token; chunk 64 token",
        "one for each head",
        "1,024 numbers",
        "64 tokens at a time",
        "hope.nl:22",
        "22 level recall per head every token {",
    ):
        assert words in recall, words
    slow = next(text for text in cards.values() if "ffn[64]" in text)
    assert "once a step at its ticks" in slow
    clocks = ["64 steps", "16 steps", "4 steps", "step", "token"]
    assert page.texts("h2") == [f"every {clock}" for clock in clocks]


@pytest.mark.parametrize("name", ["titans", "transformer", "series", "lifelong", "ttt_e2e"])
def test_a_page_needs_nothing_beside_it(name: str) -> None:
    text = done("graph", ROOT / "examples" / f"{name}.nl", "--as", "html")
    page = Page(text)
    assert page.texts("title")[0] == f"{name}: levels"
    loading = ("script", "img", "link", "iframe", "object")
    assert [a.get("src") for tag, a, _ in page.found if tag in loading] == [None]
    assert "@import" not in text and "url(" not in text
    assert set(re.findall(r"https?://[^\"<\s]*", text)) <= {"http://www.w3.org/2000/svg"}


# What a browser says of the page in a frame of some width, whose cards are reached by keyboard.
PROBE = """<!doctype html><iframe id="frame" src="%s" width="%d" height="900"></iframe><script>
const frame = document.getElementById("frame");
frame.onload = () => {
  const inner = frame.contentDocument, view = frame.contentWindow;
  const look = (element) => view.getComputedStyle(element);
  const cards = [...inner.querySelectorAll("article")];
  const seen = cards.map((card) => {
    card.focus();
    const shown = cards.filter((one) => look(one.querySelector(".more")).visibility === "visible");
    return [inner.activeElement === card, shown.length, shown.includes(card)];
  });
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify({
    width: inner.documentElement.scrollWidth,
    ground: look(inner.body).backgroundColor,
    ink: look(inner.body).color,
    font: parseFloat(look(inner.querySelector("dd")).fontSize),
    seen,
  });
  document.body.append(pre);
};
</script>"""
POINTER = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"


def seen(page: Path, width: int, *settings: str) -> dict[str, object]:
    probe = page.with_name("probe.html")
    probe.write_text(PROBE % (page.name, width))
    assert CHROMIUM is not None
    shown = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
            f"--blink-settings={','.join(settings or ('imagesEnabled=true',))}",
            "--window-size=1800,1200",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', shown)
    assert found, shown[-2000:]
    return json.loads(found[1])


@pytest.mark.soak
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_shows_it(hope: Path) -> None:
    narrow = seen(hope, 400)
    assert narrow["width"] <= 400 and narrow["font"] >= 14
    assert all(shown == len(narrow["seen"]) for _, shown, _ in narrow["seen"])  # all, beneath names
    wide = seen(hope, 1600, POINTER)
    assert wide["width"] <= 1600
    assert wide["seen"] == [[True, 1, True]] * len(wide["seen"])  # that of the focus, alone
    light, dark = wide, seen(hope, 1600, POINTER, "preferredColorScheme=0")
    assert (light["ground"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(26, 26, 26)")
    assert (dark["ground"], dark["ink"]) == ("rgb(20, 23, 26)", "rgb(232, 234, 237)")


@pytest.mark.soak
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_shows_it_without_script(hope: Path) -> None:
    text = hope.read_text(encoding="utf-8")
    bare = hope.with_name("bare.html")
    bare.write_text(re.sub("<script>.*?</script>", "", text, flags=re.DOTALL), encoding="utf-8")
    found = seen(bare, 1600, POINTER)
    assert found["seen"] == [[True, 1, True]] * len(found["seen"])
