"""Models of transformers: saved, loaded, and writing on with what their sequences carry; a model of
transformers' own, read by a text.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import family
import pytest
import torch
from commands import SMALL, done, nldsl
from torch import Tensor

from nldsl import api, cli
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import load_text
from nldsl.train.data.vocabulary import ByteVocabulary, Tokenizer
from nldsl.train.specs import texts_of
from nldsl.train.spelling import visible

transformers = pytest.importorskip("transformers", reason="needs `pip install 'nldsl[hf]'`")

from nldsl.hf import NldslForCausalLM  # noqa: E402
from nldsl.hf.config import configured  # noqa: E402
from nldsl.hf.tokenizer import tokenizer_of  # noqa: E402

torch.set_num_threads(1)
BAR = 1e-9
WRITERS = ["titans", "hope", "titans_mac", "mesa", "transformer", "lifelong", "cms", "tnt"]
PADDED = [3, 0, 1]  # tokens of padding on the left of each sequence
pytestmark = pytest.mark.filterwarnings("ignore")  # of another package


def model(name: str) -> NldslForCausalLM:
    """A system in float64, whose weights are not those of any seed."""
    sizes = family.fitting(name, family.BASE | dict(family.SPECS[name].sizes))
    spec = family.EXAMPLES / f"{name}.nl"
    config = configured(texts_of(spec), spec.name, {k: str(v) for k, v in sizes.items()})
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        made = NldslForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in made.parameters():
            x.add_(0.05 * torch.randn(x.shape, generator=generator, dtype=x.dtype))
    return made


def prompt(made: NldslForCausalLM) -> tuple[Tensor, Tensor]:
    ids = torch.randint(
        0, made.config.vocab_size, (3, 7), generator=torch.Generator().manual_seed(1)
    )
    mask = torch.ones_like(ids)
    for row, skip in enumerate(PADDED):
        mask[row, :skip] = 0
    return ids, mask


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_read_back_exactly(name: str, tmp_path: Path) -> None:
    made = model(name)
    made.save_pretrained(tmp_path)
    for reader in (NldslForCausalLM, transformers.AutoModelForCausalLM):
        again = reader.from_pretrained(tmp_path, dtype=torch.float64)
        ours, theirs = made.state_dict(), again.state_dict()
        assert ours.keys() == theirs.keys() and again.dtype == torch.float64
        assert all(torch.equal(x, theirs[n]) for n, x in ours.items())
        ids, mask = prompt(made)
        assert torch.allclose(again(ids, mask).logits, made(ids, mask).logits, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_what_a_whole_pass_says(name: str) -> None:
    made = model(name)
    ids, mask = prompt(made)
    said = dict(max_new_tokens=6, do_sample=False, pad_token_id=0)
    out = made.generate(ids, attention_mask=mask, **said)
    with torch.no_grad():
        read = made(ids, mask)
        steps = [read.logits[:, -1]]
        for token in out[:, 7:12].split(1, 1):
            read = made(token, cache=read.cache)
            steps.append(read.logits[:, -1])
        for row, skip in enumerate(PADDED):
            whole = made(out[row : row + 1, skip:]).logits[0]
            found = torch.stack([x[row] for x in steps])
            assert (found - whole[-7:-1]).abs().max() <= BAR * max(1, float(whole.abs().max()))
            assert torch.equal(whole[-7:-1].argmax(-1), out[row, 7:])
            padded = made(ids, mask).logits[row]
            assert not padded[:skip].any()
            assert (padded[skip:] - whole[:-6]).abs().max() <= BAR * max(
                1, float(whole.abs().max())
            )


def test_beams_carry_their_own_pasts() -> None:
    made = model("titans")
    ids, mask = prompt(made)
    said = dict(max_new_tokens=5, do_sample=False, pad_token_id=0, num_beams=4)
    cached, anew = (
        made.generate(ids, attention_mask=mask, use_cache=c, **said) for c in (True, False)
    )
    assert torch.equal(cached, anew)


def test_the_loss_is_the_mean_over_labels() -> None:
    made = model("titans")
    ids, _ = prompt(made)
    labels = ids.clone()
    labels[:, :3] = -100
    said = made(ids, labels=labels)
    logs = said.logits.log_softmax(-1)[:, 2:-1].gather(-1, ids[:, 3:, None])
    assert torch.allclose(said.loss, -logs.mean())
    said.loss.backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in made.parameters())


def test_a_sequence_of_padding_is_refused() -> None:
    made = model("titans")
    ids, mask = prompt(made)
    mask[1] = 0
    with pytest.raises(api.Diagnostics, match="padding alone"):
        made(ids, mask)


def test_a_run_becomes_a_folder(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 200)
    sets = ("--set", "d=8", "--set", "head=2", "--set", "depth=1", "--set", "chunk=4")
    spec = family.EXAMPLES / "titans.nl"
    done(
        "train", spec, tmp_path / "text.txt", *sets, *SMALL, "--steps", 2, "--out", tmp_path / "run"
    )
    assert "config.json" in done("export", tmp_path / "run", "--as", "hf", "-o", tmp_path / "hf")
    made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    done("export", tmp_path / "run", "--as", "safetensors", "-o", tmp_path / "plain")
    import safetensors.torch

    plain = safetensors.torch.load_file(tmp_path / "plain" / "model.safetensors")
    arrays = made.weights.arrays()
    assert plain.keys() == arrays.keys() and all(torch.equal(plain[n], arrays[n]) for n in plain)


def text_of(rng: random.Random) -> str:
    """Letters of every kind, the 256 first above all."""
    return "".join(
        chr(rng.choice([rng.randrange(256), rng.randrange(0xD7FF)]))
        for _ in range(rng.randrange(60))
    )


def test_the_tokens_of_a_folder_are_the_bytes(tmp_path: Path) -> None:
    tokenizer_of(ByteVocabulary()).save_pretrained(tmp_path)
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (read.eos_token_id, read.pad_token_id, len(read)) == (0, 0, 256)
    rng = random.Random(0)
    for text in [
        "",
        "a\0b\0",
        "  x\r\n\t y ",
        "Ā Ġ <|endoftext|> 🦊",
        *(text_of(rng) for _ in range(200)),
    ]:
        ids = read(text)["input_ids"]
        assert ids == [*text.encode()] and read.decode(ids) == text
    padded = read(["ab", "abcd"], padding=True)
    assert padded["attention_mask"] == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_a_folder_reads_and_writes_as_its_run(tmp_path: Path) -> None:
    """Its own tokenizer, greedily; found by programs that do not know this package."""
    words = "the quick brown fox\njumps over the lazy dog; Übermaß\n"
    (tmp_path / "text.txt").write_text(words * 100)
    own = tmp_path / "own.json"
    done("tokenizer", "train", tmp_path / "text.txt", "--vocab", 280, "--out", own)
    spec, run = family.EXAMPLES / "lifelong.nl", tmp_path / "run"
    sets = ("--set", "d=8", "--set", "head=2", "--set", "depth=1", "--set", "vocab=280")
    said = ("--tokenizer", own, *sets, *SMALL, "--steps", 2, "--out", run)
    done("train", spec, tmp_path / "text.txt", *said)
    done("export", run, "--as", "hf", "-o", tmp_path / "hf")
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    vocabulary = Tokenizer(own)
    for text in (words, "  a  b", "foxes\n\n"):
        assert read(text)["input_ids"] == vocabulary.encode(text.encode())
        assert read.decode(read(text)["input_ids"]) == text
    assert read.eos_token_id == vocabulary.boundary and read.eos_token == "<|endoftext|>"
    program = (
        "import sys, transformers; "
        "m = transformers.AutoModelForCausalLM; "
        "m = m.from_pretrained(sys.argv[1], trust_remote_code=True); "
        "t = transformers.AutoTokenizer.from_pretrained(sys.argv[1]);"
        "x = t('the quick', return_tensors='pt');"
        "print(t.decode(m.generate(**x, max_new_tokens=5, do_sample=False)[0]), end='')"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, tmp_path / "hf"],
        capture_output=True,
        env=environment,
        check=True,
    )
    meant = done("generate", run, "the quick", "-n", 5, "--temperature", 0)
    assert visible(found.stdout.decode()) + "\n" == meant
    made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert made.config.boundary == made.generation_config.eos_token_id == vocabulary.boundary


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 200)
    spec = family.EXAMPLES / "transformer.nl"
    sets = ("--set", "d=8", "--set", "head=2", "--set", "depth=1")
    done(
        "train", spec, tmp_path / "text.txt", *sets, *SMALL, "--steps", 1, "--out", tmp_path / "run"
    )
    for name in [n for n in sys.modules if n.startswith("nldsl.hf")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    status, _, err = nldsl("export", tmp_path / "run", "--as", "hf", "-o", tmp_path / "hf")
    assert status == cli.BACKEND and "N890" in err and "pip install 'nldsl[hf]'" in err


def test_a_llama_of_transformers_is_read_as_it_is(tmp_path: Path) -> None:
    """examples/retrofit_llama.nl with the weights of a random `LlamaForCausalLM`."""
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=11,
            hidden_size=16,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 5e5},
            initializer_range=0.3,
            tie_word_embeddings=True,
        )
    ).eval()
    theirs.save_pretrained(tmp_path / "llama")
    sizes = dict(d=16, group=2, share=2, vocab=11, hidden=12, depth=2, periods=[2, 4, 4, 8])
    program = api.load(family.EXAMPLES / "retrofit_llama.nl", **sizes)
    step = program.compile(capture="eager", files={"base": tmp_path / "llama"})
    ids = torch.randint(0, 11, (2, 19))
    with torch.no_grad():
        found, meant = program.module(step.init(0))(ids), theirs(ids).logits
    assert found.dtype == torch.float32 and meant.abs().max() > 1
    assert torch.allclose(found, meant, rtol=1e-5, atol=1e-5)


HEADS = """nldsl 1
dim d = 12, head = 3, group = 2, share = 2, e = 4, f = 3
input x: [d]
def attention(x: [d]) -> {sizes} {{
    q = affine(x, [{queries}])
    k = affine(x, [{keys}])
    v = affine(x, [{keys}])
    return {returned}
}}
y = attention(x)
level frozen never {{
    memory W: weights = load("base",
        interleaved("query_key_value.weight", {first}) -> [y.q, y.k, y.v],
        interleaved("query_key_value.bias", {first}) -> [y.q.bias, y.k.bias, y.v.bias]{more})
}}
"""


def read(text: str, theirs: torch.nn.Module, x: Tensor) -> Tensor:
    """`y` of a text that starts from the weights of a module, in the interpreter."""
    files = {"base": dict(theirs.state_dict())}
    found = Oracle(load_text(text), files=files).run({"x": x.double()}).outputs["y"]
    assert isinstance(found, Tensor)
    return found.float()


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in module.parameters():
            x.copy_(torch.randn(x.shape, generator=generator) / x.shape[-1] ** 0.5)
    return module.eval()


def test_the_attention_of_gpt_neox_is_read_head_by_head() -> None:
    neox = pytest.importorskip("transformers.models.gpt_neox.modeling_gpt_neox")
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    config = transformers.GPTNeoXConfig(
        hidden_size=12, num_attention_heads=3, rope_parameters=rope, attn_implementation="sdpa"
    )
    theirs = drawn(neox.GPTNeoXAttention(config, layer_idx=0))
    text = HEADS.format(
        sizes="[d]",
        queries="head, e",
        keys="head, e",
        returned="affine(attend(rope(q), rope(k) -> v over sequence), [d])",
        first="head",
        more=', "dense.weight" -> y.affine, "dense.bias" -> y.affine.bias',
    )
    x = torch.randn(2, 7, 12)
    angles = neox.GPTNeoXRotaryEmbedding(config)(x, torch.arange(7)[None])
    with torch.no_grad():
        meant, _ = theirs(x, None, position_embeddings=angles)
    found = read(text, theirs, x)
    assert meant.abs().max() > 0.1 and torch.allclose(found, meant, rtol=1e-5, atol=1e-5)


def test_a_gpt_neox_of_transformers_is_read_whole(tmp_path: Path) -> None:
    """The text of the manual; positions turn a quarter of each head."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}
    config = transformers.GPTNeoXConfig(
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        hidden_act="gelu_pytorch_tanh",
        use_parallel_residual=True,
        rope_parameters=rope,
    )
    theirs = drawn(transformers.GPTNeoXForCausalLM(config))
    theirs.save_pretrained(tmp_path / "neox")
    page = (Path(__file__).parent / "language" / "ownership_and_starts.md").read_text()
    (text,) = (part for part in page.split("```nl\n") if "gpt_neox.embed_in" in part)
    text = text.partition("```")[0]
    ids = torch.randint(0, 16, (2, 19))
    for whole, alike in ((text, True), (text.replace(", part = e / 4", ""), False)):
        program, files = api.loads(whole), {"base": tmp_path / "neox"}
        model = program.module(program.compile(capture="eager", files=files).init(0))
        with torch.no_grad():
            found, meant = model(ids), theirs(ids).logits
        assert meant.abs().max() > 0.3
        assert torch.allclose(found, meant, rtol=1e-5, atol=1e-5) == alike
        told = program.interpret({"ids": ids}, model.state_dict(), files=files)["model"]
        assert torch.allclose(told.float(), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_heads_of_falcon_are_read_group_by_group(at: int) -> None:
    """Behind the queries of a group its key, then its value."""
    falcon = pytest.importorskip("transformers.models.falcon.modeling_falcon")
    config = transformers.FalconConfig(
        hidden_size=12,
        num_attention_heads=4,
        num_kv_heads=2,
        new_decoder_architecture=True,
        bias=True,
        vocab_size=11,
    )
    theirs = drawn(falcon.FalconAttention(config, layer_idx=0))
    queries, keys = "group, share, f", "group, f"
    text = HEADS.format(
        sizes=f"[{keys if at else queries}]",
        queries=queries,
        keys=keys,
        returned="qkv"[at],
        first="group",
        more="",
    )
    x = torch.randn(2, 5, 12)
    with torch.no_grad():
        meant = theirs._split_heads(theirs.query_key_value(x))[at].reshape(2, 5, 2, 2, 3)
    found = read(text, theirs, x)
    assert torch.allclose(found, meant[..., 0, :] if at else meant, rtol=1e-5, atol=1e-5)
