"""`nldsl compile --target`: what a step would launch on a GPU that is not there. Counts are held to
what is known of a program, and to the code that the compiler wrote.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import family
import pages
import pytest
import torch
from commands import done, nldsl
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from nldsl.pipeline import load_text
from nldsl.step.functions import Compiled, Job, Run, Tell, kind_of
from nldsl.step.gathering import Gathering
from nldsl.target.absent import present
from nldsl.target.count import Graph, Launch
from nldsl.target.devices import GPUS
from nldsl.target.lower import lowered
from nldsl.target.predict import FLOORS, launched, seconds, step_seconds, sums
from nldsl.target.rehearse import Host, Part, Rehearsal, rehearsed

H100 = GPUS["h100"]
BATCH, LENGTH, D, WIDE = 2, 16, 32, 48
INSTALL = "needs Triton: pip install 'nldsl[target]'"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason=INSTALL)
MLP = f"""nldsl 1
import optimizers
dim d = {D}, wide = {WIDE}
input x: [d]
input y: [d]
W1 = weight([wide, d])
W2 = weight([d, wide])
loss = |W2 * silu(W1 * x) - y|^2
level training every step {{
    memory W: weights
    context x, y
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}}
"""
SLOW = MLP.replace("W1 = weight([wide, d])", "W1 = slow.S").replace(
    "level training",
    """level slow every 4 step {
    memory S: [wide, d] = random
    context x, y
    minimize mean(loss over period)
    S <- S - 0.1 * grad(S)
}
level training""",
)

CHUNKS: dict[str, dict[str, object]] = {"titans": {"chunk": 8}}
TWO_QUESTIONS = """import torch

def entry(matrix, x):
    return torch.bmm(matrix, x).tanh() + torch.bmm(matrix, x * 2)
"""


def questions() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(2, 64, 32), torch.ones(2, 32, 3)


def unasked(jobs: Sequence[Job], tell: Tell) -> list[Run]:
    raise AssertionError("nothing is compiled here")


@cache
def made(name: str, length: int = LENGTH, precision: str = "float32", **sets: object) -> Rehearsal:
    own = {"mlp": MLP, "slow": SLOW}.get(name)
    sizes = {"d": 16, "vocab": 8, "depth": 1} | CHUNKS.get(name, {}) | sets
    program = load_text(own) if own else family.tiny(name, **sizes)
    return rehearsed(program, H100, BATCH, length, precision)


def calls(found: Rehearsal, function: str, backward: bool = False) -> list[float]:
    return [
        part.times
        for part in found.parts
        if part.name.startswith(function) and part.graph.backward == backward
    ]


def written(code: str) -> tuple[int, int]:
    """Kernels and library calls in the code of a graph."""
    body = code[code.index("def call(") :]
    library = re.findall(r"\bextern_kernels\.\w+\(|= torch\.ops\.\w+\.\w+\.\w+\(", body)
    return len(re.findall(r"\.run\(", body)), len(library)


def hold(found: Rehearsal) -> None:
    """What is counted stands in the code, on the GPU, and each function is called."""
    assert found.parts
    for part in found.parts:
        shared = [x for x in part.graph.launches if x.name.endswith(" in shares")]
        library = sum(launch.library for launch in part.graph.launches) - len(shared)
        counted = len(part.graph.launches) - library - len(shared), library + (shared != [])
        assert counted == written(part.graph.code), part.name
        assert "cpp_fused" not in part.graph.code, part.name
        assert part.times > 0, part.name
    times = [*step_seconds(found, H100).values()]
    assert times == sorted(times, reverse=True) and times[-1] > 0


# -- what is counted


@needs_triton
def test_an_mlp_has_five_products() -> None:
    """Two forward; backward two of weights and one of what lies between, for nobody learns `x`."""
    found = made("mlp")
    products = [x for x, n in launched(found) if x.flops for _ in range(int(n))]
    assert len(products) == 5
    assert {x.flops for x in products} == {2 * BATCH * LENGTH * D * WIDE}
    hold(found)


@needs_triton
def test_a_product_passes_its_matrices_through_memory() -> None:
    rows = BATCH * LENGTH
    for product in (x for x, _ in launched(made("mlp")) if x.flops):
        assert product.bytes == 4 * (rows * D + rows * WIDE + D * WIDE)
        assert product.dtype is torch.float32
    low = [x for x, _ in launched(made("mlp", precision="bfloat16")) if x.flops]
    assert {x.dtype for x in low} == {torch.bfloat16} and len(low) == 5


@needs_triton
def test_twice_the_layers_are_twice_the_calls() -> None:
    one, two = made("transformer", depth=1), made("transformer", depth=2)
    alike = [(part.name, part.graph.backward, part.graph.launches) for part in one.parts]
    block = [part for part in one.parts if part.name == "block_2"]
    assert [p.times for p in block] == [1, 1]
    assert calls(two, "block_2") == [2] and calls(two, "block_2", backward=True) == [2]
    assert [(part.name, part.graph.backward) for part in two.parts] == [x[:2] for x in alike]
    per_layer = sum(len(part.graph.launches) for part in block)
    several = [
        sum(p.times * len(p.graph.launches) for p in found.parts if p.name != "tick_1")
        for found in (one, two)
    ]
    assert several[1] - several[0] == per_layer > 20


@needs_triton
def test_a_recurrence_is_called_once_a_piece() -> None:
    """And what needs no memory once for all pieces of a layer."""
    found, pieces = made("delta_product", 192), 192 // 64
    for backward in (False, True):
        assert sum(calls(found, "moving", backward=backward)) == pieces
        assert sum(calls(found, "still", backward=backward)) == 1
    assert ", no chunk kernel: " in found.memories["loss.layer[0].mixer.recall"]


@needs_triton
def test_a_memory_on_the_chip_is_one_launch_a_layer_and_direction() -> None:
    """Its products, of one lane and head: forward M k, M q, q k, twice what was solved, twice v."""
    layers, e, heads, chunk, pieces = 2, 8, 2, 64, 3
    found = made("deltanet", 192, depth=layers)
    count = {x.name: (x, n) for x, n in launched(found) if x.name.startswith("pieces")}
    assert {name: n for name, (_, n) in count.items()} == {"pieces": 2, "pieces_back": 2}
    of_state, of_tokens = 2 * chunk * e * e, 2 * chunk * chunk * e
    forward, _ = count["pieces"]
    assert forward.flops == BATCH * heads * pieces * (3 * of_state + 3 * of_tokens)
    assert calls(found, "pieces") == [layers] and not calls(found, "moving")
    assert {how.rpartition(", ")[2] for how in found.memories.values()} == {"a chunk kernel"}


@needs_triton
def test_a_level_that_ticks_rarely_counts_for_its_share() -> None:
    found = made("slow")
    assert sorted(calls(found, "tick")) == [0.25, 0.75]
    hold(found)


@needs_triton
def test_products_are_gathered_as_in_the_compiled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Compiled(len, TWO_QUESTIONS, unasked).job(given := questions(), kind_of(given))
    with FakeTensorMode():
        few = lowered(job, H100)
        monkeypatch.setattr(Gathering, "__call__", lambda self, graph: None)
        many = lowered(job, H100)
    counts = [[x.name for x in made.graphs[0].launches].count("bmm") for made in (few, many)]
    assert counts == [1, 2]


@needs_triton
def test_what_the_host_does_between_graphs() -> None:
    """Pieces are put side by side; nothing is copied there in the middle of a step."""
    plain, pieces = made("transformer", depth=1), made("delta_product", 128)
    assert plain.copies == pieces.copies == 0
    assert "cat" in {x.name for x in pieces.eager}
    assert plain.kept > 0


def test_a_list_of_the_host_is_copied() -> None:
    with FakeTensorMode(), Host() as host:
        x = torch.zeros(3)
        assert host.copies == 0
        x + torch.tensor([1.0, 2.0, 3.0])
    assert host.copies == 1


@needs_triton
def test_attention_is_one_call_of_a_library() -> None:
    found = made("transformer", depth=1)
    (forward,) = [x for x, _ in launched(found) if x.name == "scaled_dot_product_flash_attention"]
    e, heads = 8, 2  # half of the pairs are seen, in two products
    assert forward.flops == BATCH * heads * LENGTH * LENGTH * 2 * e


@needs_triton
@pytest.mark.parametrize(
    "name", ["transformer", "deltanet", "titans", "series", "linear_attention"]
)
def test_a_spec_is_lowered(name: str) -> None:
    hold(made(name, depth=1))


@needs_triton
@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(family.SPECS))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_spec_is_lowered(name: str, precision: str) -> None:
    hold(rehearsed(family.program(name), H100, BATCH, LENGTH, precision))


# -- what is made of the counts


def test_a_launch_takes_what_bounds_it() -> None:
    size, flops = int(H100.streamed), int(H100.peak(torch.bfloat16))
    floor = FLOORS["in CUDA graphs"]
    assert seconds(Launch(False, "add", size), H100, floor) == pytest.approx(1.0)
    product = Launch(True, "bmm", size // 4, flops // 2, torch.bfloat16)
    assert seconds(product, H100, floor) == pytest.approx(0.5)
    assert seconds(Launch(False, "add", 4), H100, floor) == floor
    assert seconds(Launch(True, "linalg_solve_triangular", 4), H100, floor) > floor


def test_what_no_graph_holds_is_launched_alone() -> None:
    held, alone = Launch(False, "add", 4), Launch(True, "nonzero", 4)
    graph = Graph(False, (held, alone), ("nonzero",), 0, "")
    found = Rehearsal("", [Part("block_1", graph, 10.0)])
    times = step_seconds(found, H100)
    assert times["as it is"] == pytest.approx(20 * FLOORS["as it is"])
    assert times["in CUDA graphs"] == pytest.approx(10 * sum([*FLOORS.values()][:2]))
    assert sums(launched(found))[:2] == (10.0, 10.0)


# -- the command


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("target") / "mlp.nl"
    path.write_text(MLP)
    yield str(path)


@needs_triton
def test_the_page_says_that_it_predicts(spec: str) -> None:
    said = done("compile", spec, "--target", "h100", "--batch", BATCH, "--length", LENGTH)
    rows = {row.split()[1]: row for row in said.splitlines() if row.startswith("│ ")}
    assert {"block_1", "tick_1"} <= rows.keys()
    assert "predicted for NVIDIA H100" in said and "assumed: " in said
    kernels, library, size, flops = sums(launched(made("mlp")))
    assert f"{kernels + library:.0f} launches, {kernels:.0f} kernels" in said
    assert "bmm 5" in said


@needs_triton
def test_kernels_are_assembled(spec: str) -> None:
    said = done("compile", spec, "--target", "h100", "--cubins", "--batch", 2, "--length", 8)
    table = said.partition("kernels assembled")[2]
    rows = re.findall(r"│ triton_\S+ +│ +(\d+) │ +(\d+) │ +([\d,]+) │ +(\d+) │", table)
    assert rows and ", 0 spill" in said
    assert all(0 < int(registers) < 256 and int(warps) > 0 for registers, _, _, warps in rows)


@needs_triton
def test_a_gpu_that_is_too_small_is_told(spec: str) -> None:
    status, _, err = nldsl("compile", spec, "--target", "h100", "--set", "wide=1000000000")
    assert status == 4 and "error[N803]" in err and "an NVIDIA H100 SXM has 80.0 GiB" in err


def test_an_unknown_target_is_told_those_there_are(spec: str) -> None:
    status, _, err = nldsl("compile", spec, "--target", "b17")
    assert status == 2 and all(name in err for name in GPUS)


@pytest.mark.parametrize(
    "options",
    [
        ("--target", "h100", "--capture", "whole"),
        ("--target", "h100", "-o", "out"),
        ("--target", "h100", "--emit", "python"),
        ("--cubins",),
    ],
)
def test_what_does_not_go_together_is_told(spec: str, options: tuple[str, ...]) -> None:
    status, out, err = nldsl("compile", spec, *options)
    assert (status, out) == (2, "") and "--target" in err


def test_without_triton_the_way_to_it_is_told(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    status, out, err = nldsl("compile", spec, "--target", "h100")
    assert (status, out) == (4, "")
    assert "error[N890]" in err and "pip install 'nldsl[target]'" in err


@needs_triton
def test_the_gpu_is_gone_afterwards() -> None:
    from torch.utils._triton import has_triton

    def seen() -> list[object]:
        return [torch.cuda.is_available(), torch.cuda.device_count(), has_triton()]

    before = seen()
    with pytest.raises(ZeroDivisionError), present(H100):
        assert seen() == [True, 1, True]
        raise ZeroDivisionError
    assert seen() == before
    assert "copy_" not in vars(FakeTensor)


@needs_triton
def test_the_manual_shows_what_is_said(tmp_path: Path) -> None:
    shutil.copytree(pages.ROOT / "examples", tmp_path / "examples")
    shown = [block for page in pages.PAGES for block in pages.blocks(page, "console target")]
    assert shown
    for block in shown:
        pages.check(block, tmp_path, 300)
