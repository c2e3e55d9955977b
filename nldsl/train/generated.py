"""A trained model and prompts -> the texts that it goes on with, shown as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train import faults, memory
from nldsl.train.data.vocabulary import Vocabulary
from nldsl.train.drawing import Manner
from nldsl.train.results import seated
from nldsl.train.run import Run
from nldsl.train.sample import go_on
from nldsl.train.spelling import Spelling, visible


@dataclass(frozen=True)
class Wish:
    """`n` tokens after each prompt, or up to one of the `stops`, drawn by `seed`; with `freeze`
    nothing is learned. Sequences begin with the memories of `begin`, and what they hold at the end
    is written to `remember`.
    """

    n: int
    seed: int
    how: Manner = Manner()
    stops: tuple[bytes, ...] = ()
    begin: Path | None = None
    remember: Path | None = None
    freeze: bool = False


def write_on(
    run: Run,
    step: CompiledStep,
    state: State,
    prompts: Sequence[bytes],
    wish: Wish,
    show: Callable[[str], None],
) -> None:
    """Shows each prompt and what follows it (after a document boundary if it is empty), as readable
    text: of one prompt letter by letter, of several one after the other, each under its number.
    Raises N719, N721, and what memory.py raises.
    """
    vocabulary = run.vocabulary
    if vocabulary is None or step.reading.logits() is None:
        raise faults.writes_nothing(run.folder, run.record.data.tokens is not None)
    ids = [vocabulary.encode(prompt) for prompt in prompts]
    lanes = seated(step, len(prompts), wish.begin)
    page = Page(vocabulary, ids, wish, show)
    begun = [own or [vocabulary.boundary] for own in ids]
    how = wish.how, page.hears, lanes, wish.freeze, vocabulary.boundary
    try:
        after = go_on(step, state, begun, wish.seed, *how)
    except FloatingPointError:
        raise faults.no_next_byte(run.folder) from None
    if wish.remember is not None:
        memory.save(wish.remember, after)


class Page:
    """Texts that are written at the same time, shown in the order of their prompts."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Sequence[int]],
        wish: Wish,
        show: Callable[[str], None],
    ) -> None:
        self.show, self.left = show, [wish.n] * len(prompts)
        self.texts = [Spelling(vocabulary, wish.stops) for _ in prompts]
        self.waiting = [text.begin(ids) for text, ids in zip(self.texts, prompts, strict=True)]
        self.now, self.line = 0, ""
        self.flush()

    def hears(self, row: int, token: int) -> bool:
        """Takes the next token of a text; does the text go on?"""
        text = self.texts[row]
        self.waiting[row] += text.add(token)
        self.left[row] = 0 if text.ended else self.left[row] - 1
        if not self.left[row]:
            self.waiting[row] += text.rest()
        if row == self.now:
            self.flush()
        return self.left[row] > 0

    def flush(self) -> None:
        """Shows what waits of the text whose turn it is, and of the next ones if it is done."""
        while self.now < len(self.texts):
            if not self.line and len(self.texts) > 1:
                self.line = f"--- {self.now + 1} of {len(self.texts)}\n"
                self.show(self.line)
            if text := visible(self.waiting[self.now]):
                self.show(text)
                self.line = text
            self.waiting[self.now] = ""
            if self.left[self.now]:
                return
            if not self.line.endswith("\n"):
                self.show("\n")
            self.now, self.line = self.now + 1, ""
