"""What a trained model writes: how tokens are drawn, several prompts, stops, letters as they come,
and what is held meanwhile.
"""

from __future__ import annotations

import itertools
import random
import resource
import time
from functools import cache
from pathlib import Path

import family
import pytest
import torch
from commands import SMALL, done, nldsl
from torch import Tensor

from nldsl.step.compile import CompiledStep
from nldsl.step.state import State
from nldsl.train import checkpoint, sample
from nldsl.train.data.vocabulary import ByteVocabulary, Tokenizer, trained
from nldsl.train.drawing import Manner, drawn, likelihoods
from nldsl.train.spelling import Spelling

torch.set_num_threads(1)
BAR = 1e-9
WRITERS = ["hope", "lifelong", "transformer_swa"]
LETTERS = "the quick brown fox jumps over the lazy dog; Übermaß, 日本語 and 🦊🦊\n"
PROMPTS = [[1, 2, 3], [4], [1, 2, 3], [0, 4, 2], [2, 2, 2, 2, 1]]


@cache
def made(name: str) -> tuple[CompiledStep, State]:
    """A system whose weights are not those of any seed."""
    step = family.subject(name).step
    state = step.init(1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in state.views.values():
            x += 0.05 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return step, state


def written(
    name: str, prompts: list[list[int]], n: int, how: Manner | None = None, seed: int = 3
) -> list[list[int]]:
    step, state = made(name)
    found: list[list[int]] = [[] for _ in prompts]

    def hears(row: int, token: int) -> bool:
        found[row].append(token)
        return len(found[row]) < n + row  # they end at different times

    seats = step.reading.seats(len(prompts))
    sample.go_on(step, state, prompts, seed, how or Manner(), hears, seats)
    return found


# --- how a token is drawn ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of another package
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 3},
        {"top_k": 400},
        {"top_p": 0.4},
        {"top_p": 1e-6},
        {"repetition": 1.7},
        {"repetition": 0.5, "temperature": 1.3, "top_k": 9, "top_p": 0.8},
    ],
)
def test_tokens_are_as_likely_as_in_transformers(said: dict[str, float]) -> None:
    generation = pytest.importorskip("transformers.generation", reason="needs `nldsl[hf]`")
    scores = 3 * torch.randn(4, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = torch.randint(0, 40, (4, 9), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros(4, 40, dtype=torch.bool).scatter(1, ids, True)
    how = Manner(**{"temperature": 1.0, **said})  # type: ignore[arg-type]
    steps = [
        generation.RepetitionPenaltyLogitsProcessor(float(how.repetition)),
        generation.TemperatureLogitsWarper(float(how.temperature)),
        *([generation.TopKLogitsWarper(how.top_k)] if how.top_k else []),
        generation.TopPLogitsWarper(how.top_p),
    ]
    meant = scores
    for step in steps:
        meant = step(ids, meant)
    assert torch.allclose(likelihoods(scores, seen, how), meant.softmax(-1), rtol=0, atol=1e-12)


def test_temperature_zero_is_the_likeliest() -> None:
    scores = torch.randn(5, 40)
    seen = torch.zeros(5, 40, dtype=torch.bool)
    generators = [torch.Generator() for _ in range(5)]
    found = drawn(likelihoods(scores, seen, Manner(temperature=0)), generators)
    assert found == scores.argmax(-1).tolist()


def test_a_score_that_is_not_finite_is_told() -> None:
    with pytest.raises(FloatingPointError):
        likelihoods(torch.tensor([[0.0, torch.nan]]), torch.zeros(1, 2, dtype=torch.bool), Manner())


# --- prompts beside each other -----------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_a_text_depends_on_its_prompt_and_the_seed_alone(name: str) -> None:
    together = written(name, PROMPTS, 9)
    assert [len(text) for text in together] == [9, 10, 11, 12, 13]
    assert together == written(name, PROMPTS, 9)
    for row in (0, 1, 3, 4):
        assert written(name, [PROMPTS[row]], 9 + row) == [together[row]]
    assert together[2][:9] != together[0]  # the same prompt again
    assert together != written(name, PROMPTS, 9, seed=4)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_what_a_whole_pass_says(name: str) -> None:
    """Of each prompt, read in pieces, and of each token behind it, by one pass over all of them."""
    step, state = made(name)
    (text,) = written(name, [PROMPTS[4]], 9, Manner(temperature=0))
    ids = torch.tensor([PROMPTS[4] + text])
    parts, carry, seats = [], None, step.reading.seats(1)
    for piece in ids.split([3, 2, *[1] * len(text)], 1):
        scores, carry = step.reading.predict(state, piece, carry, seats)
        parts.append(scores)
    whole = torch.cat([step.reading.predict(state, ids[:, :t], None, seats)[0] for t in (3, 7, 14)])
    found = torch.cat([parts[i] for i in (0, 3, 10)])
    assert (found - whole).abs().max() <= BAR * max(1, float(whole.abs().max()))
    assert torch.cat(parts[1:-1]).argmax(-1).tolist() == text


def test_a_prompt_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = written("hope", PROMPTS, 4)
    monkeypatch.setattr(sample, "PIECE", 2)
    assert written("hope", PROMPTS, 4) == at_once


def test_each_lane_keeps_what_its_text_left() -> None:
    step, state = made("lifelong")

    def left(prompts: list[list[int]]) -> dict[str, Tensor]:
        counts = [0] * len(prompts)

        def hears(row: int, token: int) -> bool:
            counts[row] += 1
            return counts[row] < 3 + len(prompts[row])

        seats = step.reading.seats(len(prompts))
        return sample.go_on(step, state, prompts, 0, Manner(), hears, seats)

    together = left(PROMPTS)
    for row in (0, 1, 3, 4):
        for name, x in left([PROMPTS[row]]).items():
            assert torch.allclose(x[0], together[name][row], rtol=0, atol=BAR), name


# --- letters as they come ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    pytest.importorskip("tokenizers", reason="needs `nldsl[data]`")
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    path.write_text(trained([LETTERS.encode()] * 3, 300))
    return Tokenizer(path)


def spelled(text: Spelling, prompt: list[int], tokens: list[int]) -> list[str]:
    return [text.begin(prompt), *map(text.add, tokens), text.rest()]


@pytest.mark.parametrize("kind", ["bytes", "tokens"])
def test_letters_come_whole_and_at_once(kind: str, tokenizer: Tokenizer) -> None:
    vocabulary = ByteVocabulary() if kind == "bytes" else tokenizer
    ids = vocabulary.encode(LETTERS.encode())
    for cut in (0, 3, len(ids) // 2):
        parts = spelled(Spelling(vocabulary), ids[:cut], ids[cut:])
        assert "".join(parts) == LETTERS and not parts[-1]
        for i in range(len(parts) - 1):
            known = vocabulary.decode(ids[: cut + i]).decode(errors="ignore")
            assert "".join(parts[: i + 1]) == known.rstrip("\ufffd")


@pytest.mark.parametrize("kind", ["bytes", "tokens"])
def test_what_is_no_text_is_spelled_as_if_at_once(kind: str, tokenizer: Tokenizer) -> None:
    vocabulary = ByteVocabulary() if kind == "bytes" else tokenizer
    rng = random.Random(0)
    for _ in range(50):
        ids = [rng.randrange(vocabulary.size) for _ in range(200)]
        text = Spelling(vocabulary)
        whole = vocabulary.decode(ids).decode(errors="backslashreplace")
        assert "".join(spelled(text, ids[:20], ids[20:])) == whole
        assert len(text._before) + len(text._new) <= 128


@pytest.mark.parametrize(
    "stops, text",
    [
        (["fox"], "the quick brown "),
        (["fox", "quick b"], "the "),
        (["lazy dog!", "dog; Ü"], "the quick brown fox jumps over the lazy "),
        (["語 a"], "the quick brown fox jumps over the lazy dog; Übermaß, 日本"),
        (["🦊🦊🦊"], LETTERS),
        ([""], LETTERS),
    ],
)
@pytest.mark.parametrize("kind", ["bytes", "tokens"])
def test_a_text_ends_before_its_stop(
    kind: str, tokenizer: Tokenizer, stops: list[str], text: str
) -> None:
    vocabulary = ByteVocabulary() if kind == "bytes" else tokenizer
    made = Spelling(vocabulary, [stop.encode() for stop in stops])
    shown = "".join(spelled(made, [], vocabulary.encode(LETTERS.encode())))
    assert shown == text and made.ended is (text != LETTERS)


def test_a_stop_in_the_prompt_is_none() -> None:
    text = Spelling(ByteVocabulary(), [b"ab"])
    assert "".join(spelled(text, [*b"ab a"], [*b"b ab c"])) == "ab ab "


# --- what is held ------------------------------------------------------------------------------


def held(name: str, tokens: int) -> list[int]:
    """The numbers that a sequence carries after each token."""
    step, state = made(name)
    sizes, carry = [], None
    for t in range(tokens):
        ids = torch.tensor([[t % 5]])
        _, carry = step.reading.predict(state, ids, carry, step.reading.seats(1))
        storages = {x.untyped_storage().data_ptr(): x for x in carry[0].values() if x is not None}
        sizes.append(sum(x.untyped_storage().nbytes() for x in storages.values()))
    return sizes


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_carried_does_not_grow(name: str) -> None:
    sizes = held(name, 54)
    assert max(sizes[36:]) <= max(sizes[18:36])


def test_full_attention_carries_all_that_it_looks_at() -> None:
    sizes = held("transformer", 48)
    assert max(sizes[24:]) > 1.5 * max(sizes[:24])


@pytest.mark.soak
@pytest.mark.parametrize("name", ["titans", "hope", "deltanet", "transformer_swa"])
def test_time_and_memory_of_a_token_do_not_grow(name: str) -> None:
    """A sequence of 20,000 tokens and one of 500 are read in turn, so that a load of the machine
    falls on both.
    """
    step, state = made(name)
    ids = torch.randint(0, 5, (1, 20_000), generator=torch.Generator().manual_seed(0))
    carries, spent = {}, {20_000: [], 500: []}
    for tokens in spent:
        for piece in ids[:, :tokens].split(500, 1):
            _, carries[tokens] = step.reading.predict(state, piece, carries.get(tokens))
    for _ in range(600):
        for tokens, times in spent.items():
            began = time.process_time()
            _, carries[tokens] = step.reading.predict(state, ids[:, :1], carries[tokens])
            times.append(time.process_time() - began)
    late, early = (sorted(times)[300] for times in spent.values())
    assert late < 1.1 * early, (early, late)
    rooms, count = [], itertools.count()

    def hears(row: int, token: int) -> bool:
        rooms.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return next(count) < 4000

    sample.go_on(step, state, [[1, 2, 3]], 0, Manner(top_k=3, repetition=1.1), hears)
    assert rooms[-1] < rooms[500] + 4096, (rooms[500], rooms[-1])  # KiB


@pytest.mark.soak
@pytest.mark.parametrize("name", [n for n in family.SPECS if n not in family.FROM_FILES])
def test_each_system_writes_what_a_whole_pass_says(name: str) -> None:
    if made(name)[0].reading.logits() is None or len(made(name)[0].program.vocab) != 1:
        pytest.skip("it writes no tokens")
    test_what_is_written_is_what_a_whole_pass_says(name)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    (folder / "text.txt").write_text("the quick brown fox\n" * 200)
    sets = ("--set", "d=8", "--set", "head=2", "--set", "depth=1")
    spec, out = family.EXAMPLES / "lifelong.nl", folder / "run"
    done("train", spec, folder / "text.txt", *sets, *SMALL, "--steps", 2, "--out", out)
    return out


def test_several_prompts_stand_under_their_numbers(run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes("the fox\r\n\n caf\u00e9\n".encode())
    how = ("-n", 6, "--temperature", 0)
    out = done("generate", run, "a", "--prompts", tmp_path / "prompts.txt", *how)
    alone = [done("generate", run, prompt, *how) for prompt in ("a", "the fox", " caf\u00e9")]
    heads = [f"--- {i} of 3\n" for i in (1, 2, 3)]
    assert out == "".join(head + text for head, text in zip(heads, alone, strict=True))


def test_a_letter_is_printed_before_the_next_is_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    screen = io.StringIO()
    monkeypatch.setattr("nldsl.cli.models.streamed", lambda: screen.write)
    lengths = []
    before = sample.drawn

    def watched(likely: Tensor, generators: list[torch.Generator]) -> list[int]:
        lengths.append(len(screen.getvalue()))
        before(likely, generators)
        return [ord("x")]

    monkeypatch.setattr(sample, "drawn", watched)
    done("generate", run, "abc", "-n", 4)
    assert screen.getvalue() == "abcxxxx\n" and lengths == [3, 4, 5, 6]


def test_what_several_texts_left_is_kept(run: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.safetensors"
    done("generate", run, "a", "the fox", "b", "-n", 3, "--remember", told)
    kept = checkpoint.tensors_of(told)
    for row, prompt in enumerate(("a", "the fox", "b")):
        done("generate", run, prompt, "-n", 3, "--remember", tmp_path / "alone")
        for name, x in checkpoint.tensors_of(tmp_path / "alone").items():
            assert torch.allclose(x[0], kept[name][row], rtol=0, atol=BAR)
    out = done("generate", run, "x", "x", "x", "-n", 4, "--memory", told, "--temperature", 0)
    one = done("generate", run, "x", "-n", 4, "--memory", told, "--temperature", 0)
    assert out.partition("\n")[2].partition("--- 2")[0] == one


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("--top-k", 0, "'--top-k'"),
        ("--top-p", 0, "'--top-p': 0 is not a number above 0, at most 1"),
        ("--top-p", 1.5, "'--top-p': 1.5 is not a number above 0, at most 1"),
        ("--top-p", "much", "'--top-p': 'much' is not a number"),
        ("--temperature", -1, "'--temperature': -1 is not a number from 0 on"),
        ("--temperature", "nan", "'--temperature': nan is not a number from 0 on"),
        ("--repetition", 0, "'--repetition': 0 is not a number above 0"),
        ("--repetition", "inf", "'--repetition': inf is not a number above 0"),
        ("--prompts", "nowhere.txt", "`nowhere.txt` cannot be read: No such file"),
    ],
)
def test_options_are_refused_at_what_is_wrong(
    run: Path, option: str, value: object, said: str
) -> None:
    status, out, err = nldsl("generate", run, "a", option, value)
    assert status == 2 and said in err and not out


def test_a_file_without_a_prompt_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n\n")
    status, _, err = nldsl("generate", run, "--prompts", tmp_path / "none.txt")
    assert status == 2 and "holds no prompt" in err
