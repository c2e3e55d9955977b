"""Functions of a step are compiled once for each kind of arguments, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from family import tiny

from nldsl.pipeline import compile_program
from nldsl.step import functions
from nldsl.step.functions import Compiled, Job, kind_of, known, obtained, recording, remember, texts
from nldsl.train.bench import random_batch

torch.set_num_threads(1)
MODULE = """from __future__ import annotations
import torch
SCALE = 3.0


def twice(x):
    return x + x


def block_1(a, position):
    # a comment
    return twice(a) * SCALE


def block_2(a, position):
    return twice(a) * SCALE


def block_3(a, position):
    return block_1(a, position) - 1.0
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    functions.folder.cache_clear()


def job(*args: object, name: str = "block_3") -> Job:
    text = texts(MODULE, [name])[name]
    return Compiled(lambda *given: None, text, obtained).job(args, kind_of(args))


def test_a_text_is_a_function_with_what_it_calls() -> None:
    found = texts(MODULE, ["block_1", "block_2", "block_3"])
    assert found["block_1"] == found["block_2"] != found["block_3"]
    for name, result in (("block_1", 6.0), ("block_3", 5.0)):
        assert (
            job(torch.ones(2), 0, name=name).function()(torch.ones(2), 0).tolist() == [result] * 2
        )


def test_kinds_differ_in_what_a_compiled_function_depends_on() -> None:
    x, y = torch.ones(2, 3), torch.ones(2, 3)
    kinds = [
        kind_of((x, y)),
        kind_of((x, x)),
        kind_of((x.t().contiguous().t(), y)),
        kind_of((x.double(), y)),
        kind_of((torch.ones(2, 3, requires_grad=True), y)),
        kind_of(({"a": x}, y)),
        kind_of(({"b": x}, y)),
        kind_of((x[:1], y)),
        kind_of((x, 0)),
        kind_of((x, 1)),
    ]
    with torch.no_grad():
        kinds.append(kind_of((x, y)))
    assert len(set(kinds)) == len(kinds) and kind_of((y, x)) == kinds[0]


def test_what_is_compiled_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are those of the text; the second time it is loaded."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (run,) = obtained([job(x, 0)])
    monkeypatch.setattr(Job, "compiled", None)
    (again,) = obtained([job(x, 0)])
    for found in (run, again):
        y = found(x, 0)
        assert y.tolist() == [5.0, 11.0]
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [6.0, 6.0]


def test_several_are_compiled_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "compiled", None)  # not in this process
    jobs = [job(torch.ones(2), 0, name=name) for name in ("block_1", "block_2", "block_3")]
    told: list[str] = []
    runs = obtained(jobs, told.append)
    assert [run(torch.ones(2), 0).tolist() for run in runs] == [[6.0] * 2, [6.0] * 2, [5.0] * 2]
    assert told == ["1 of 2 functions", "2 of 2 functions"]


def test_a_function_that_cannot_be_compiled_is_told() -> None:
    jobs = [job(torch.ones(2), 0), job(torch.ones(2), "x" * 3, name="block_1")]
    broken = [Job(j.text.replace("x + x", "x + nothing"), j.args, j.kind) for j in jobs]
    with pytest.raises(RuntimeError, match="a function was not compiled"):
        obtained(broken)


def test_a_disk_that_takes_nothing_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*files: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(functions.os, "replace", full)
    (run,) = obtained([job(torch.ones(2), 0)])
    assert run(torch.ones(2), 0).tolist() == [5.0, 5.0]
    assert list(functions.folder().iterdir()) == []


def test_what_functions_were_given_is_remembered() -> None:
    one = Compiled(lambda a, n: a, texts(MODULE, ["block_1"])["block_1"], obtained)
    with recording([one]):
        one(torch.ones(2), 0)
        one(torch.ones(3), 0)
        jobs = {"block_1": list((one.met or {}).values())}
    remember("some", jobs)
    assert known("some") is None  # what they give is not there yet
    for one_of_them in jobs["block_1"]:  # each alone is compiled in this process
        obtained([one_of_them])
    assert known("some") == jobs and known("other") is None


def test_what_calls_a_function_says_what_it_is_given() -> None:
    """Two lengths of a chunk: the same functions, and pieces of other sizes."""
    steps = [compile_program(tiny("titans", chunk=n), capture="split") for n in (2, 3)]
    places = {
        step.place_of_jobs(step.place(random_batch(step.program, 1, 6, "cpu"))) for step in steps
    }
    assert len(places) == 2


def test_the_names_of_a_program_stay() -> None:
    """Functions are renamed, and no memory that is called as one."""
    module = MODULE + "\n\ndef tick_1(S):\n    return block_1(S['block_1.W'], 0) - S['tick_1']\n"
    text = texts(module, ["tick_1"])["tick_1"]
    run = Compiled(len, text, obtained).job((0,), kind_of((0,))).function()
    assert float(run({"block_1.W": torch.tensor(1.0), "tick_1": 2.0})) == 4.0


@pytest.mark.parametrize("damage", [b"", b"other bytes"])
def test_what_is_damaged_is_made_again(damage: bytes) -> None:
    obtained([job(torch.ones(2), 0)])
    remember("some", {})
    for file in functions.folder().iterdir():
        file.write_bytes(damage)
    assert known("some") is None
    (run,) = obtained([job(torch.ones(2), 0)])
    assert run(torch.ones(2), 0).tolist() == [5.0, 5.0]


def test_where_nothing_can_be_kept_it_is_compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions.writing, "home", lambda: None)
    monkeypatch.setattr(functions, "compile_apart", None)
    functions.folder.cache_clear()
    jobs = [job(torch.ones(2), 0, name=name) for name in ("block_1", "block_3")]
    assert [run(torch.ones(2), 0).tolist() for run in obtained(jobs)] == [[6.0] * 2, [5.0] * 2]


def test_the_folder_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "KEPT_BYTES", 25)
    for n in range(4):
        (functions.folder() / str(n)).write_bytes(b"0123456789")
        functions.os.utime(functions.folder() / str(n), (n, n))
    functions.folder.cache_clear()
    assert sorted(file.name for file in functions.folder().iterdir()) == ["2", "3"]


EMBEDDING = """import torch
import torch.nn.functional as F


def block_1(ids, table):
    return F.embedding(ids, table)
"""


@pytest.mark.parametrize("service", ["true", ""])
def test_threads_sum_a_gradient_in_one_order(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tokens share a row of the table: adding to it as they come would round in any order.
    PyTorch is stricter about such sums where `CI` is set.
    """
    monkeypatch.setenv("CI", service)
    torch.set_num_threads(2)
    try:
        ids, table = torch.arange(4096) % 3, torch.zeros(3, 64, requires_grad=True)
        text = texts(EMBEDDING, ["block_1"])["block_1"]
        given = (ids, table)
        run = obtained([Compiled(lambda *_: None, text, obtained).job(given, kind_of(given))])[0]
        slopes = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
        found = [torch.autograd.grad(run(ids, table), table, slopes)[0] for _ in range(50)]
        assert all(torch.equal(found[0], x) for x in found)
    finally:
        torch.set_num_threads(1)


def test_pieces_of_a_recurrence_keep_products_alone() -> None:
    step = compile_program(tiny("deltanet"), capture="split")
    kept = {name for name, function in step.compiled.items() if function.again}
    assert kept == {"region_1", "still_1", "moving_1"}  # a piece, and where it is made in two parts


SMOOTH = """import torch


def region_1(x, w):
    return torch.tanh(torch.sigmoid(x @ w) * x) @ w
"""


def test_what_is_made_again_is_not_kept() -> None:
    given = tuple(torch.randn(8, 8, requires_grad=True) for _ in range(2))
    text = texts(SMOOTH, ["region_1"])["region_1"]
    kept, values = [], []
    for again in (False, True):
        compiled = Compiled(lambda *_: None, text, obtained, again)
        made = compiled(*given)
        assert isinstance(made, torch.Tensor) and made.grad_fn is not None
        kept.append(len({x.data_ptr() for x in made.grad_fn.saved_tensors}))
        values.append(torch.autograd.grad(made.sum(), given))
    assert kept[1] < kept[0]
    torch.testing.assert_close(values[0], values[1])
