"""What the benchmarks put beside the specs is what they say it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.hope_by_hand import MEMORIES, Hope, Training
from benchmarks.systems import (
    NEAR,
    PEAK,
    TABLES,
    Attention,
    LanguageModel,
    count_of,
    fitted,
    loaded,
    named,
    parameters_of,
    product,
)
from benchmarks.systems import (
    SIZES as MEASURED,
)
from nldsl import pipeline
from nldsl.testing import data, laws

torch.set_num_threads(1)
EXAMPLES = Path(__file__).parent.parent / "examples"
PERIODS = [1, 2, 3]
SIZES = {"d": 8, "head": 2, "depth": 2, "vocab": 7, "near": 4, "span": 4, "periods": PERIODS}
Part = Callable[[Tensor], Tensor]


def whole(x: Tensor) -> Tensor:
    return x


def by_name(hope: Hope) -> Iterator[tuple[str, nn.Parameter, Part]]:
    """Each tensor of the spec: its name, and in which parameter it lies how."""
    yield "loss.x", hope.embed, whole
    yield "loss.rmsnorm", hope.norm, whole
    yield "loss.linear", hope.head, whole
    for i, layer in enumerate(hope.layers):
        at, inner = f"loss.layer[{i}]", f"loss.layer[{i}].self_modifying_titans"
        yield f"{at}.rmsnorm", layer.norm, whole
        yield f"{inner}.rmsnorm", layer.inner_norm, whole
        yield f"{inner}.linear", layer.out, whole
        for n, (stream, gate) in enumerate(("zr", "qa")):
            yield f"{inner}.{stream}", layer.maps, lambda w, n=n: w[n]
            yield f"{inner}.{stream}.conv", layer.taps, lambda w, n=n: w[:, n]
            yield f"{inner}.{gate}", layer.gates, lambda w, n=n: w[n]
        for n, memory in enumerate(MEMORIES):
            start = f"{inner}.{memory}.recall.M.start"
            yield f"{start}.W1", layer.second, lambda w, n=n: w[:, n].mT
            yield f"{start}.W2", layer.first, lambda w, n=n: w[:, :, n].mT
        for p, memory in layer.continuum.items():
            yield f"{at}.continuum.p[{p}].rmsnorm", memory.norm, whole
            yield f"{at}.continuum.ffn[{p}].F.gate", memory.gate_up, lambda w: w[0]
            yield f"{at}.continuum.ffn[{p}].F.up", memory.gate_up, lambda w: w[1]
            yield f"{at}.continuum.ffn[{p}].F.down", memory.down, whole


@pytest.fixture
def spec() -> laws.Subject:
    sets = {name: str(value) for name, value in SIZES.items()}
    return laws.Subject(pipeline.load(EXAMPLES / "hope.nl", sets))


@pytest.fixture
def hope(spec: laws.Subject) -> Hope:
    made = Hope(d=8, heads=2, depth=2, span=4, vocab=7, periods=PERIODS).double()
    parts = {name: part(parameter) for name, parameter, part in by_name(made)}
    assert parts.keys() == spec.state.views.keys()
    with torch.no_grad():
        for name, part in parts.items():
            part.copy_(spec.state.views[name])
    return made


def test_hope_by_hand_has_the_loss_and_the_slopes_of_the_spec(
    spec: laws.Subject, hope: Hope
) -> None:
    batch = data(spec.program, 2, 16, 0)
    loss = hope(batch["ids"])
    assert laws.deviation(loss, spec.forward(batch)[0]["loss"].mean()) <= laws.EXACT
    loss.backward()
    slopes = spec.gradients(batch)
    for name, parameter, part in by_name(hope):
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name
        assert laws.deviation(part(parameter.grad).reshape(-1), slopes[name]) <= laws.EXACT, name


def test_hope_by_hand_moves_as_the_spec(spec: laws.Subject, hope: Hope) -> None:
    """Seven steps, in which every level has ticked twice, or has heard some and not ticked."""
    training = Training(hope)
    for n in range(7):
        batch = data(spec.program, 2, 12, n)
        hope(batch["ids"]).backward()
        training.step()
        spec.step(spec.state, [batch])
        for name, parameter, part in by_name(hope):
            assert laws.deviation(part(parameter), spec.state.views[name]) <= laws.EXACT, (n, name)


@pytest.mark.parametrize("parameters", [4_330_000, 4_884_000, 16_140_000])
def test_a_transformer_has_as_many_parameters(parameters: int) -> None:
    attention = partial(Attention, MEASURED["d"], MEASURED["head"])
    model = fitted(partial(LanguageModel, attention), parameters)
    assert abs(count_of(model) / parameters - 1) <= NEAR


def test_hope_by_hand_has_the_parameters_of_the_spec() -> None:
    with torch.device("meta"):
        hope = Hope(MEASURED["d"], MEASURED["head"], MEASURED["depth"])
    assert count_of(hope) == parameters_of(loaded("hope.nl"))


def test_the_product_is_counted() -> None:
    assert product(0).flops() == 2 * PEAK**3


def test_what_stands_beside_a_spec_is_known_whether_installed_or_not() -> None:
    for beside in TABLES.values():
        for name in beside:
            assert callable(named(name))
            assert bool(peers.version(name)) <= peers.is_installed(name)
    assert not peers.is_installed("nested-learning") or peers.version("nested-learning, Hope")
