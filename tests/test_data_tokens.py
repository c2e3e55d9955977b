"""Tokens: files of them as others write them, tokenizers of others and of one's own, and a score
that stays one of bytes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from commands import SMALL, done, nldsl
from test_data_text import DOCUMENTS, SPEC, jsonl, split
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from nldsl import cli
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.train import metrics
from nldsl.train import run as runs
from nldsl.train.data import maps, tokens
from nldsl.train.data.dataset import Cost, Dataset, sequences_of
from nldsl.train.data.given import Given
from nldsl.train.data.kinds import kind_of
from nldsl.train.data.text import Corpus, Score
from nldsl.train.data.tokens import TokenCorpus
from nldsl.train.data.vocabulary import Tokenizer, trained

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 50257, 30_000)
FEW = RANDOM.integers(0, 65, 30_000)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def data_of(given: Given, vocab: int = 50257, text: str = SPEC) -> Dataset:
    program = load_text(text, sets={"vocab": str(vocab)})
    return kind_of(program).of(program, given)


def refused(given: Given, vocab: int = 50257, text: str = SPEC) -> tuple[str, str]:
    with pytest.raises(Diagnostics) as found:
        data_of(given, vocab, text)
    (said,) = found.value.diagnostics
    assert said.help
    return said.code, said.message


def all_of(data: Dataset) -> list[int]:
    return [*data.train.tolist(), *data.held_out.tolist()]


# Files of tokens


def llm_c(path: Path, ids: np.ndarray, magic: int = 20240520, version: int = 1) -> Path:
    """As `dev/data/data_common.py` of llm.c writes them."""
    header = np.zeros(256, np.int32)
    header[:3] = magic, version, len(ids)
    kind = np.uint16 if magic == 20240520 else np.uint32
    path.write_bytes(header.tobytes() + ids.astype(kind).tobytes())
    return path


def nano_gpt(path: Path, ids: np.ndarray) -> Path:
    """As `data/*/prepare.py` of nanoGPT writes them."""
    ids.astype(np.uint16).tofile(path)
    return path


def npy(path: Path, ids: np.ndarray) -> Path:
    np.save(path, ids)
    return path


@pytest.mark.parametrize("ids", [IDS, FEW], ids=["of GPT-2", "of letters"])
def test_tokens_in_a_file_are_its_tokens(ids: np.ndarray, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    for path in (
        nano_gpt(tmp_path / "a.bin", ids),
        llm_c(tmp_path / "b.bin", ids),
        llm_c(tmp_path / "c.bin", ids, 20240801, 7),
        npy(tmp_path / "a.npy", ids),
        npy(tmp_path / "b.npy", ids.astype(np.uint16)),
        npy(tmp_path / "c.npy", ids.astype(np.uint32)),
        nano_gpt(large, np.concatenate([ids] * 30)),
    ):
        data = data_of(Given(path))
        wanted = ids.tolist() * (30 if path == large else 1)
        assert all_of(data) == wanted and data.unit == "tokens"
        assert len(data.held_out) == len(wanted) // 20
        assert sequences_of(data.train, 0, 1, 0, 2, 16).shape == (2, 16)


def test_a_file_of_tokens_is_mapped(tmp_path: Path) -> None:
    nano_gpt(tmp_path / "a.bin", RANDOM.integers(0, 50257, 1_000_000))
    (tmp_path / "a.bin").chmod(0o444)
    data = data_of(Given(tmp_path / "a.bin"))
    assert not data.train.flags.owndata and not data.train.flags.writeable


def test_parts_of_a_folder(tmp_path: Path) -> None:
    nano_gpt(tmp_path / "train.bin", IDS)
    nano_gpt(tmp_path / "val.bin", FEW)
    (tmp_path / "readme.md").write_text("about\n")
    data = data_of(Given(tmp_path))
    assert data.train.tolist() == IDS.tolist() and data.held_out.tolist() == FEW.tolist()
    shards = tmp_path / "shards"
    shards.mkdir()
    for n in range(3):
        llm_c(shards / f"fineweb_train_{n:06}.bin", IDS[n * 1000 : n * 1000 + 1000])
    llm_c(shards / "fineweb_val_000000.bin", FEW)
    data = data_of(Given(shards))
    assert data.train.tolist() == IDS[:3000].tolist() and data.held_out.tolist() == FEW.tolist()


@pytest.mark.parametrize(
    "name, content, code, words",
    [
        ("a.bin", nano_gpt, "N705", "50,256"),
        ("a.npy", npy, "N705", "50,256"),
        ("odd.bin", b"\xff\x01\x02" * 333, "N754", "999 bytes"),
        ("empty.bin", b"", "N703", "no text"),
        ("wide.bin", IDS.astype(np.uint32).tobytes(), "N703", "uint32"),
        ("gzip.bin", b"\x1f\x8b\x08\0\0" + RANDOM.bytes(501), "N703", "gzip"),
        ("floats.npy", lambda path, _: npy(path, RANDOM.normal(size=9)), "N758", "float64"),
        ("rows.npy", lambda path, _: npy(path, IDS.reshape(-1, 10)), "N758", "2 axes"),
        ("below.npy", lambda path, _: npy(path, IDS - 1000), "N758", "below 0"),
        ("soup.npy", b"soup", "N709", "soup.npy"),
        ("other.bin", lambda path, ids: llm_c(path, ids, 20240520, 2), "N754", "version 2"),
        ("eval.bin", lambda path, ids: llm_c(path, ids, 20240522, 1), "N754", "20240522"),
    ],
)
def test_a_file_that_holds_no_such_tokens(
    name: str, content: object, code: str, words: str, tmp_path: Path
) -> None:
    ids = np.append(IDS, 50256)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content(tmp_path / name, ids)
    found, message = refused(Given(tmp_path / name), 256)
    assert found == code and words in message


def test_tokens_that_are_cut_are_told(tmp_path: Path) -> None:
    path = llm_c(tmp_path / "a.bin", IDS)
    path.write_bytes(path.read_bytes()[:-100])
    code, message = refused(Given(path))
    assert code == "N754" and "30,000" in message


def test_text_in_a_bin_file_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("\n".join(DOCUMENTS))
    assert data_of(Given(tmp_path / "a.bin"), 256).unit == "bytes"


def test_options_that_tokens_do_not_take(tmp_path: Path) -> None:
    path = nano_gpt(tmp_path / "a.bin", IDS)
    assert refused(Given(path, ("text",)))[0] == "N753"
    assert refused(Given(path, encoding="latin-1"))[0] == "N753"


COUNTS = SPEC.replace(
    "level training",
    """level seen every token {
    memory M: [] = 0
    context ids
    M <- M + 1
    reset every document
}
level training""",
).replace("loss = cross_entropy(linear(conv", "loss = 0 * seen.M + cross_entropy(linear(conv")


def test_a_program_that_counts_documents_needs_their_ends(tmp_path: Path) -> None:
    path = nano_gpt(tmp_path / "a.bin", IDS)
    assert refused(Given(path), text=COUNTS)[0] == "N757"
    own = bpe(tmp_path / "t.json")
    few = nano_gpt(tmp_path / "b.bin", FEW)
    assert data_of(Given(few, tokenizer=own), 600, COUNTS).vocabulary.boundary == 0


def test_a_run_of_tokens_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(SPEC)
    data, run = nano_gpt(tmp_path / "a.bin", FEW), tmp_path / "run"
    out = done("train", tmp_path / "spec.nl", data, "--set", "vocab=65", *SMALL, "--out", run)
    assert "30,000 tokens, 1,500 held out" in out and "tokens scored" in out
    assert "bits per byte" not in out and "sample after" not in out
    assert "1,485 tokens scored" in done("eval", run, "--length", 100)
    assert "tokens scored" in done("eval", run, npy(tmp_path / "b.npy", FEW[:500]))
    status, _, err = nldsl("generate", run, "a")
    assert status == cli.RUN and "error[N719]" in err and "--tokenizer" in err
    nano_gpt(data, FEW + 1)
    status, _, err = nldsl("train", "--resume", run, "--steps", 1001)
    assert status == cli.RUN and "error[N705]" in err
    nano_gpt(data, FEW[::-1])
    status, _, err = nldsl("train", "--resume", run, "--steps", 1001)
    assert status == cli.RUN and "error[N711]" in err


# Tokenizers


def bpe(path: Path, size: int = 600) -> Path:
    path.write_text(trained([text.encode() for text in DOCUMENTS], size))
    return path


def other(path: Path, kind: str) -> Path:
    """A tokenizer of another kind, as the ecosystem's own trainers make it."""
    made = tokenizers.Tokenizer(
        {
            "word pieces": models.WordPiece(unk_token="[UNK]"),
            "unigram": models.Unigram(),
            "words": models.WordLevel(unk_token="[UNK]"),
        }[kind]
    )
    special = ["[UNK]", "</s>"]
    match kind:
        case "word pieces":  # as BERT: lower case, without accents and spaces
            made.normalizer = normalizers.BertNormalizer()
            made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            made.decoder = decoders.WordPiece()
            trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
        case "unigram":  # as SentencePiece: a space before every text
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            made.decoder = decoders.Metaspace()
            trainer = trainers.UnigramTrainer(
                vocab_size=300, special_tokens=special, unk_token="[UNK]"
            )
        case _:
            made.pre_tokenizer = pre_tokenizers.Whitespace()
            trainer = trainers.WordLevelTrainer(vocab_size=200, special_tokens=special)
    trainer.show_progress = False
    made.train_from_iterator(DOCUMENTS, trainer)
    made.save(str(path))
    return path


KINDS = ("word pieces", "unigram", "words")


def test_a_byte_level_bpe_gives_back_every_text(tmp_path: Path) -> None:
    own = Tokenizer(bpe(tmp_path / "t.json"))
    assert own.size == 600
    for text in ("".join(DOCUMENTS[:20]), "天地玄黄\n\t  x🙂 \r\n", " ", "a" * 1000):
        assert own.decode(own.encode(text.encode())) == text.encode()
    assert len(own.encode("".join(DOCUMENTS).encode())) < len("".join(DOCUMENTS)) / 2


@pytest.mark.parametrize("size", [257, 300])
def test_a_small_vocabulary_has_every_byte(size: int, tmp_path: Path) -> None:
    own = Tokenizer(bpe(tmp_path / "t.json", size))
    assert own.size == size and own.decode(own.encode("🙂".encode())) == "🙂".encode()


def test_the_documents_of_a_text_are_tokenized_each(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in DOCUMENTS])
    path = bpe(tmp_path / "t.json")
    found, plain = data_of(Given(data, tokenizer=path), 600), data_of(Given(data), 256)
    assert isinstance(found, TokenCorpus) and isinstance(plain, Corpus) and found.ends is not None
    own = tokenizers.Tokenizer.from_file(str(path))
    for part, text in ((found.train, plain.train), (found.held_out, plain.held_out)):
        wanted = [[*own.encode(one.decode()).ids, 0] for one in split(text)]
        assert part.tolist() == sum(wanted, []) and part.dtype == np.uint16
    assert found.ends[-1] == len(plain.held_out)
    assert [end for _, end in found.extents(found.held_out)] == [
        n + 1 for n, token in enumerate(found.held_out) if token == 0
    ]


def test_a_long_document_is_tokenized_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces that are parted where a token ends anyway."""
    text = "".join(DOCUMENTS)
    (tmp_path / "a.txt").write_text(text)
    path = bpe(tmp_path / "t.json")
    monkeypatch.setattr(tokens, "PASSAGE", 512)
    found = data_of(Given(tmp_path / "a.txt", tokenizer=path), 600)
    own = tokenizers.Tokenizer.from_file(str(path))
    plain = data_of(Given(tmp_path / "a.txt"), 256)
    assert found.train.tolist() == [*own.encode(plain.train[:-1].tobytes().decode()).ids, 0]


@pytest.mark.parametrize(
    "text", ["no line ends but spaces " * 50, "天地玄黄" * 200, "\n\n \n" * 300, "x" * 999]
)
def test_every_text_is_parted_between_letters(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PASSAGE", 64)
    joined = np.frombuffer(text.encode() + b"\0", np.uint8)
    pieces = [(begin, end) for begin, end, _ in tokens.passages(joined)]
    assert pieces[0][0] == 0 and pieces[-1][1] == len(joined) - 1
    assert all(a[1] == b[0] for a, b in zip(pieces, pieces[1:], strict=False))
    assert all(0 < end - begin <= 64 for begin, end in pieces)
    assert "".join(joined[a:b].tobytes().decode() for a, b in pieces) == text


@pytest.mark.parametrize("kind", [*KINDS, "bytes"])
def test_a_score_is_one_of_the_bytes_that_were_scored(kind: str, tmp_path: Path) -> None:
    """Whatever a tokenizer drops or adds: all tokens but the first of each document stand for all
    bytes but those of that first.
    """
    data = jsonl(tmp_path / "a.jsonl", [{"text": text + "🙂"} for text in DOCUMENTS])
    path = bpe(tmp_path / "t.json") if kind == "bytes" else other(tmp_path / "t.json", kind)
    found = data_of(Given(data, tokenizer=path), 600)
    assert isinstance(found, TokenCorpus) and found.text is not None and found.ends is not None
    assert (np.diff(found.ends.astype(np.int64)) >= 0).all()
    assert found.ends[-1] == len(found.text.held_out)
    for begin, end in found.extents(found.held_out):
        text, places = found.spelled(np.arange(begin, end))
        said = text[places].tobytes()
        assert said.endswith(b"\0") and said[:-1].decode() in [one + "🙂" for one in DOCUMENTS]
    every = np.arange(len(found.held_out) - 1)
    result = found.compared(Cost(1000.0, every, True, 1), found, True)
    size = len(found.text.held_out) - int(found.ends[0])
    assert isinstance(result, Score) and (result.terms, result.tokens) == (size, len(every))
    assert result.model == pytest.approx(1000 / size / math.log(2))
    bytewise = found.text.compared(
        Cost(0.0, np.arange(int(found.ends[0]) - 1, len(found.text.held_out) - 1), True, 1),
        found.text,
        True,
    )
    assert isinstance(bytewise, Score) and bytewise.order2 == pytest.approx(result.order2)


def test_tokens_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in DOCUMENTS])
    given = Given(data, tokenizer=bpe(tmp_path / "t.json"))
    first = data_of(given, 600)
    with monkeypatch.context() as patch:
        patch.setattr(tokens, "encode", None)
        again = data_of(given, 600)
    assert all_of(again) == all_of(first) and again.sha256 == first.sha256
    other_size = data_of(Given(data, tokenizer=bpe(tmp_path / "u.json", 500)), 600)
    assert other_size.sha256 != first.sha256


@pytest.mark.parametrize(
    "content, words",
    [
        (b"soup", "Expecting value"),
        (b"[]", "not an object"),
        (b'{"version": "1.0"}', ""),
        (None, "cannot be read"),
        ("without end", "no token that ends a document"),
    ],
)
def test_a_file_that_is_no_tokenizer(
    content: bytes | str | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("".join(DOCUMENTS))
    path = tmp_path / "t.json"
    if isinstance(content, str):
        tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")).save(str(path))
    elif content is not None:
        path.write_bytes(content)
    code, message = refused(Given(tmp_path / "a.txt", tokenizer=path))
    assert code == "N756" and words in message


def test_a_tokenizer_reads_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("".join(DOCUMENTS).encode("latin-1"))
    own = bpe(tmp_path / "t.json")
    assert refused(Given(tmp_path / "a.txt", tokenizer=own), 600)[0] == "N755"
    found = data_of(Given(tmp_path / "a.txt", encoding="latin-1", tokenizer=own), 600)
    assert isinstance(found, TokenCorpus)


def test_a_vocabulary_that_is_too_small_is_told_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(DOCUMENTS))
    own = bpe(tmp_path / "t.json")
    code, message = refused(Given(tmp_path / "a.txt", tokenizer=own), 599)
    assert code == "N705" and "599" in message and "599 values" in message
    assert isinstance(data_of(Given(tmp_path / "a.txt", tokenizer=own), 640), TokenCorpus)


def test_a_run_with_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "spec.nl").write_text(SPEC)
    data = jsonl(tmp_path / "a.jsonl", [{"text": text} for text in DOCUMENTS])
    own = tmp_path / "own.json"
    out = done("tokenizer", "train", data, "--vocab", 400, "--out", own)
    assert out.startswith(f"{own}: 400 tokens of {data}")
    whole = ("train", tmp_path / "spec.nl", data, "--tokenizer", own, "--set", "vocab=400", *SMALL)
    once, twice = tmp_path / "once", tmp_path / "twice"
    out = done(*whole, "--steps", 6, "--out", once)
    held_out = metrics.events(once / "metrics.jsonl", "held_out")[0]
    assert f"{held_out['bits']:.3f} bits per byte" in out
    assert f"({held_out['terms']:,} bytes in {held_out['tokens']:,} tokens scored)" in out
    assert "bits" not in metrics.events(once / "metrics.jsonl", "step")[0]
    done(*whole, "--steps", 3, "--out", twice)
    own.unlink()
    done("train", "--resume", twice, "--steps", 6)
    losses = [
        [step["loss"] for step in metrics.events(run / "metrics.jsonl", "step")]
        for run in (once, twice)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    assert done("generate", once, "document 1: ", "-n", 5).startswith("document 1: ")
    assert done("generate", once, "-n", 5)
    (tmp_path / "b.txt").write_text("".join(DOCUMENTS[:50]))
    assert "bits per byte" in done("eval", once, tmp_path / "b.txt")
    data.unlink()
    assert "not at hand" in done("eval", once, tmp_path / "b.txt")
    assert runs.without_data(once).vocabulary.size == 400
    kept = once / "tokenizer.json"
    kept.write_text(json.dumps(json.loads(kept.read_text())))
    status, _, err = nldsl("generate", once, "a")
    assert status == cli.RUN and "error[N711]" in err
    kept.unlink()
    status, _, err = nldsl("generate", once, "a")
    assert status == cli.RUN and "error[N756]" in err


def test_a_prompt_that_is_no_text(tmp_path: Path) -> None:
    own = Tokenizer(bpe(tmp_path / "t.json"))
    with pytest.raises(Diagnostics) as found:
        own.encode(b"caf\xe9")
    assert found.value.diagnostics[0].code == "N755"


def test_what_is_kept_and_not_used_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    first = maps.kept("first", lambda folder: made.append(folder.name))
    assert maps.kept("first", lambda folder: made.append(folder.name)) == first
    monkeypatch.setattr(maps, "UNUSED", -1)
    maps.kept("second", lambda folder: made.append(folder.name))
    assert not first.exists() and made == ["first", "second"]


def test_what_is_made_by_half_is_not_kept() -> None:
    def broken(folder: Path) -> None:
        (folder / "train").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maps.kept("third", broken)
    assert not list((maps.cache() / "data").iterdir())


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    """/dev/full is one."""
    text = maps.Growing(np.uint8, Path("/dev/full"))
    with pytest.raises(Diagnostics) as found:
        text.append(bytes(1 << 20))
        text.array()
    assert found.value.diagnostics[0].code == "N713"
