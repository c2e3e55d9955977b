"""lm-evaluation-harness on a trained Hope, by its folder for transformers; and what it asks of a
model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import family
import pytest
import torch
from commands import done
from torch import Tensor

transformers = pytest.importorskip("transformers", reason="needs `pip install 'nldsl[hf]'`")

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
TASKS = ROOT / "tests" / "evaluation"
pytestmark = pytest.mark.filterwarnings("ignore")  # of another package


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hope that was trained on numbers and their squares."""
    made = tmp_path_factory.mktemp("evaluation")
    (made / "text.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(2000)))
    sets = ["d=16", "head=2", "depth=1", "near=4", "span=8", "periods=[1, 2]"]
    said = [word for one in sets for word in ("--set", one)]
    how = ("--batch", 8, "--length", 32, "--capture", "eager", "--steps", 40)
    spec = family.EXAMPLES / "hope.nl"
    done("train", spec, made / "text.txt", *said, *how, "--out", made / "run")
    done("export", made / "run", "--as", "hf", "-o", made / "hf")
    return made / "hf"


def rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in (TASKS / "endings.jsonl").read_text().splitlines()]


def likelihood(logits: Tensor, ids: list[int], begin: int) -> float:
    logs = logits[: len(ids) - 1].double().log_softmax(-1)
    return float(sum(logs[i - 1, ids[i]] for i in range(begin, len(ids))))


def best(folder: Path) -> list[bool]:
    """Is the answer of each row more likely than the other one? One text at a time, in full."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    found = []
    for row in rows():
        scores = []
        for choice in row["choices"]:
            context, ids = str(row["text"]).encode(), [*f"{row['text']}{choice}".encode()]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0]
            scores.append(likelihood(logits, ids, len(context)))
        found.append(scores.index(max(scores)) == row["answer"])
    return found


def test_texts_beside_each_other_are_as_likely_as_alone(folder: Path) -> None:
    """As the harness has them: padded on the right, without a mask, without their last token."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [f"{row['text']}{choice}" for row in rows()[:4] for choice in row["choices"]]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, ids)) - 1
    padded = torch.tensor([one[:-1] + [0] * (longest + 1 - len(one)) for one in ids])
    with torch.no_grad():
        together = model(padded).logits
        for i, one in enumerate(ids):
            alone = model(torch.tensor([one[:-1]])).logits[0]
            found = together[i, : len(one) - 1]
            assert torch.allclose(found, alone, rtol=0, atol=1e-4)
            both = likelihood(found, one, 3), likelihood(alone, one, 3)
            assert abs(both[0] - both[1]) < 1e-3


def test_what_it_learned_decides(folder: Path) -> None:
    assert sum(best(folder)) >= 0.9 * len(rows())


@pytest.mark.soak
def test_the_harness_scores_a_local_task(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs `pip install 'nldsl[eval]'`")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={folder},trust_remote_code=True,dtype=float32"]
    command += ["--tasks", "nldsl_endings", "--include_path", str(TASKS), "--device", "cpu"]
    command += ["--batch_size", "4", "--output_path", str(tmp_path / "scores.json")]
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (scores,) = tmp_path.glob("scores*.json")
    accuracy = json.loads(scores.read_text())["results"]["nldsl_endings"]["acc,none"]
    assert accuracy == sum(best(folder)) / len(rows())
