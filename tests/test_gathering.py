"""Products of a compiled graph are gathered: fewer of them, the same values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from nldsl.step.gathering import PRODUCTS, Gathering

Graph = Callable[..., object]
B, T, E, H = 2, 3, 32, 64  # few tokens, large matrices


def given(*shape: int) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64
    )


def asks(matrix: Tensor, keys: Tensor) -> Tensor:
    return torch.einsum("Bij,BTj->BTi", matrix, keys)


def writes(values: Tensor, keys: Tensor) -> Tensor:
    return torch.einsum("BTi,BTj->Bij", values, keys)


def gradient_of_a_memory(matrix: Tensor, x: Tensor) -> Tensor:
    """It is asked three times, once for what it answered."""
    with torch.enable_grad():
        own = matrix.detach().requires_grad_()
        first = asks(own, x).tanh()
        loss = (asks(own, first[..., :E]).sin() + asks(own, x * 2).cos()).sum()
        return torch.autograd.grad(loss, own)[0]


def two_questions(matrix: Tensor, x: Tensor) -> Tensor:
    return asks(matrix, x).tanh() + asks(matrix, x * 2) ** 2


def a_question_about_an_answer(matrix: Tensor, x: Tensor) -> Tensor:
    return asks(matrix[:, :E], asks(matrix[:, :E], x))


def turned_writes(matrix: Tensor, x: Tensor) -> Tensor:
    answers = asks(matrix, x)
    return matrix + writes(answers, x) + writes(x.sin(), answers.cos()).mT + writes(answers, x * 3)


def a_sum_that_others_take(matrix: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    answers = asks(matrix, x)
    some = writes(answers, x) + writes(answers.sin(), x)
    return some, some * 2 + writes(answers.cos(), x) + some


def one_product_twice(matrix: Tensor, x: Tensor) -> Tensor:
    made = writes(asks(matrix, x), x)
    return made + made


def matrices_without_sequences(matrix: Tensor, x: Tensor) -> Tensor:
    u, z = asks(matrix, x)[0], x[0]
    return u.T @ z + u.sin().T @ z.cos() + (z.T @ u).T


def products_of_other_sizes(matrix: Tensor, x: Tensor) -> Tensor:
    """Seen flat, both have as many entries."""
    answers = asks(matrix, x)
    some = torch.bmm(answers.mT, x)
    others = torch.bmm(answers[..., : H // 2].mT, torch.cat([x, x], -1))
    return some.flatten(1) + others.flatten(1)


CASES: list[tuple[Graph, int, int]] = [  # products as they are written, and gathered
    (gradient_of_a_memory, 7, 4),
    (two_questions, 2, 1),
    (a_question_about_an_answer, 2, 2),
    (turned_writes, 4, 2),
    (a_sum_that_others_take, 4, 3),
    (one_product_twice, 2, 2),
    (matrices_without_sequences, 4, 2),
    (products_of_other_sizes, 3, 3),
]


def products(graph: GraphModule) -> int:
    return sum(node.target in PRODUCTS for node in graph.graph.nodes)


def gathered(function: Graph, *args: Tensor) -> tuple[int, GraphModule]:
    graph = make_fx(function, tracing_mode="fake")(*args)
    graph.graph = fx_graph_cse(graph.graph)
    before = products(graph)
    Gathering()(graph.graph)
    graph.graph.lint()
    graph.recompile()
    return before, graph


@pytest.mark.parametrize(
    ("function", "written", "left"), CASES, ids=lambda x: getattr(x, "__name__", "")
)
def test_fewer_products_give_the_same(function: Graph, written: int, left: int) -> None:
    matrix, x = given(B, H, E), given(B, T, E)
    before, graph = gathered(function, matrix, x)
    assert (before, products(graph)) == (written, left)
    torch.testing.assert_close(graph(matrix, x), function(matrix, x), rtol=1e-12, atol=1e-12)


def test_what_is_small_stays() -> None:
    """Many tokens side by side are larger than the matrix."""
    matrix, x = given(B, H, E), given(B, 4 * H, E)
    for function, written, _ in CASES[:3]:
        before, graph = gathered(function, matrix, x)
        assert products(graph) == before == written, function


def test_a_new_node_knows_what_it_is_like() -> None:
    _, graph = gathered(turned_writes, given(B, H, E), given(B, T, E))
    seen: dict[str, Tensor] = {}
    args = given(B, H, E), given(B, T, E)

    class Watched(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            found = super().run_node(n)
            if isinstance(found, Tensor):
                seen[n.name] = found
            return found

    Watched(graph).run(*args)
    for node in graph.graph.nodes:
        if node.name in seen and "val" in node.meta:
            like = node.meta["val"]
            assert (like.shape, like.stride()) == (seen[node.name].shape, seen[node.name].stride())
