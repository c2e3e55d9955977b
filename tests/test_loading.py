"""Tensors of others that are laid out in another way: what a text says of them is what torch makes
of them by hand, in the step and in the interpreter; what does not fit is refused with its sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nldsl.core.program import Program
from nldsl.diagnostic import Diagnostics
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import compile_program, load_text
from nldsl.step.loading import sized

TEXT = """nldsl 1
dim d = 3, head = 2, e = 4
input x: [d]
def block(x: [d]) -> [d] {{
    q = weight([head, e, d])
    k = weight([e, d])
    v = weight([head, e, d])
    o = weight([d, head, e])
    s = sum(q * x) + 2 * sum(k * x) + 3 * sum(v * x)
    return x + s * sum(o)
}}
for layer in range(2) {{ x <- block(x) }}
y = x
level frozen never {{
    memory W: weights = load("base", {pairs})
}}
"""
SIZES = {"q": (2, 4, 3), "k": (4, 3), "v": (2, 4, 3), "o": (3, 2, 4)}
Arrays = dict[str, Tensor]


def program(names: str, pair: str) -> Program:
    """What `pair` loads is called `names`; the rest is loaded as it is."""
    plain = [f'"{n}.{{layer}}" -> layer.block.{n}' for n in SIZES if n not in names]
    return load_text(TEXT.format(pairs=", ".join([*plain, pair])))


def ours() -> Arrays:
    """`q.0`, .. as the program is to hold them."""
    generator = torch.Generator().manual_seed(5)
    return {
        f"{name}.{layer}": torch.randn(sizes, generator=generator, dtype=torch.float64)
        for name, sizes in SIZES.items()
        for layer in range(2)
    }


def without(arrays: Arrays, names: str) -> Arrays:
    return {name: x for name, x in arrays.items() if name[0] not in names}


def transposed(a: Arrays) -> Arrays:
    """[in, out], as the layers of GPT-2 have it."""
    return {f"c.{i}": a[f"q.{i}"].reshape(8, 3).T.contiguous() for i in range(2)}


def one_behind_the_other(a: Arrays) -> Arrays:
    """Queries of two heads, one key, in one array of rows."""
    return {
        f"qkv.{i}": torch.cat([a[f"q.{i}"].reshape(8, 3), a[f"k.{i}"], a[f"v.{i}"].reshape(8, 3)])
        for i in range(2)
    }


def both(a: Arrays) -> Arrays:
    return {name: x.T.contiguous() for name, x in one_behind_the_other(a).items()}


def of_all_layers(a: Arrays) -> Arrays:
    return {"all": torch.stack([a["q.0"].reshape(8, 3), a["q.1"].reshape(8, 3)])}


def apart(a: Arrays) -> Arrays:
    """A tensor for each head."""
    return {f"head{h}.{i}": a[f"q.{i}"][h].clone() for h in range(2) for i in range(2)}


def head_by_head(a: Arrays) -> Arrays:
    """Of each head its query, then its value: the rows of GPT-NeoX, which has a key between."""
    return {
        f"qv.{i}": torch.cat([a[f"{n}.{i}"][h] for h in range(2) for n in "qv"]) for i in range(2)
    }


def head_by_head_turned(a: Arrays) -> Arrays:
    return {name: x.T.contiguous() for name, x in head_by_head(a).items()}


def pairs_beside_one_another(a: Arrays) -> Arrays:
    """Rotary positions that turn entries 0 and 1, 2 and 3, .. of a head."""
    return {
        f"wq.{i}": torch.stack([a[f"q.{i}"][:, :2], a[f"q.{i}"][:, 2:]], 2).reshape(8, 3)
        for i in range(2)
    }


def pairs_in_halves(a: Arrays) -> Arrays:
    return {
        f"wq.{i}": torch.cat([a[f"q.{i}"][:, 0::2], a[f"q.{i}"][:, 1::2]], 1).reshape(8, 3)
        for i in range(2)
    }


LAYOUTS: dict[str, tuple[str, Callable[[Arrays], Arrays]]] = {
    '"c.{layer}"^T -> layer.block.q': ("q", transposed),
    '"qkv.{layer}" -> [layer.block.q, layer.block.k, layer.block.v]': ("qkv", one_behind_the_other),
    '"qkv.{layer}"^T -> [layer.block.q, layer.block.k, layer.block.v]': ("qkv", both),
    '"all"[layer] -> layer.block.q': ("q", of_all_layers),
    '["head0.{layer}", "head1.{layer}"] -> layer.block.q': ("q", apart),
    'interleaved("qv.{layer}", head) -> [layer.block.q, layer.block.v]': ("qv", head_by_head),
    'interleaved("qv.{layer}"^T, head) -> [layer.block.q, layer.block.v]': (
        "qv",
        head_by_head_turned,
    ),
    'halves("wq.{layer}", e) -> layer.block.q': ("q", pairs_beside_one_another),
    'neighbours("wq.{layer}", e) -> layer.block.q': ("q", pairs_in_halves),
}


@pytest.mark.parametrize("pair", LAYOUTS)
def test_a_layout_of_others_is_ours(pair: str) -> None:
    names, make = LAYOUTS[pair]
    made, arrays = program(names, pair), ours()
    files = {"base": without(arrays, names) | make(arrays)}
    state = compile_program(made, precision="float64", capture="eager", files=files).init(0)
    meant = Oracle(made, files=files).weights
    for name, x in arrays.items():
        own = f"layer[{name[2:]}].block.{name[0]}"
        assert torch.equal(state.arrays[own], x) and torch.equal(meant[own], x), own
    wanted = {name: x.numel() for name, x in files["base"].items()}
    assert {name: torch.zeros(sizes).numel() for _, name, sizes in sized(made)} == wanted


def test_a_model_whose_layouts_are_all_other_is_the_same() -> None:
    """Its output, of a fused attention as GPT-2 has it."""
    pair = '"qkv.{layer}"^T -> [layer.block.q, layer.block.k, layer.block.v]'
    arrays, x = ours(), torch.randn(1, 2, 3, dtype=torch.float64)
    files = {"base": without(arrays, "qkv") | both(arrays)}
    wanted = x
    for i in range(2):
        sums = sum(
            n * torch.einsum("...d,btd->bt", arrays[f"{w}.{i}"], wanted)
            for n, w in enumerate("qkv", 1)
        )
        wanted = wanted + (sums * arrays[f"o.{i}"].sum()).unsqueeze(-1)
    found = Oracle(program("qkv", pair), files=files).run({"x": x}).outputs["y"]
    assert isinstance(found, Tensor) and torch.allclose(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("pair", "tensors", "message"),
    [
        ('"t"[layer]^T -> layer.block.q', (2, 8, 3), "`t[0]^T` of `base` is [3, 8]"),
        ('"t"^T -> layer.block.q', (2, 8, 3), "`t` is [2, 8, 3], `^T` turns two axes"),
        ('"t"[layer] -> layer.block.q', (1, 8, 3), "`t` is [1, 8, 3], it has no entry 1"),
        (
            '"t" -> [layer.block.q, layer.block.k]',
            (16, 3),
            "`t` is [16, 3], which is not 2 parts of 24, 12 numbers, one behind the other",
        ),
        (
            '["t", "u"] -> layer.block.q',
            (4, 2),
            "`t` is [4, 2] and `u` [4, 3]: what is stacked has rows of the same sizes",
        ),
        (
            'interleaved("t", head) -> [layer.block.q, layer.block.v]',
            (12, 3),
            "`t` is [12, 3], which is not 2 parts of 12, 12 numbers, one behind the other in each "
            "of 2 groups",
        ),
        ('halves("t", e) -> layer.block.q', (3, 8), "`t` is [3, 8], what starts from it is "),
        ('"t" -> layer.block.q', (3, 8), '`"t"^T` fits'),
    ],
)
def test_what_does_not_fit_is_refused_with_its_sizes(
    pair: str, tensors: tuple[int, ...], message: str
) -> None:
    files = {"base": ours() | {"t": torch.zeros(tensors), "u": torch.zeros(4, 3)}}
    names = "qv" if "block.v]" in pair else "qk" if "[layer.block.q" in pair else "q"
    step = compile_program(program(names, pair), files=files)
    with pytest.raises(Diagnostics) as found:
        step.init(0)
    assert {d.code for d in found.value.diagnostics} == {"N732"} and message in str(found.value)


@pytest.mark.parametrize(
    ("pair", "code", "message"),
    [
        ("2 -> layer.block.q", "N107", '`"w"^T`, `"w"[layer]`'),
        ('turned("t", e) -> layer.block.q', "N107", "a pair"),
        ('"t"[depth] -> layer.block.q', "N101", "depth"),
        ('halves("t", f) -> layer.block.q', "N204", "has the axes [head, e, d]"),
        ('halves("t", d) -> layer.block.q', "N204", "`d` is 3: an odd axis has no halves"),
        ('interleaved("t", e) -> [layer.block.q, layer.block.v]', "N204", "first of which is not"),
        ('interleaved("t", head) -> layer.block.q', "N107", "goes to several"),
        ('interleaved("t", head)^T -> [layer.block.q, layer.block.v]', "N107", "as a whole"),
        ('"t" -> [layer.block.q, layer.block.nothing]', "N116", "no weight `layer.block.nothing`"),
        ('"t" -> [layer.block.q, layer.block.q]', "N107", "loaded twice"),
    ],
)
def test_what_no_layout_is_is_told_at_its_words(pair: str, code: str, message: str) -> None:
    with pytest.raises(Diagnostics) as found:
        program("qv" if "block.v]" in pair else "q", pair)
    assert {d.code for d in found.value.diagnostics} == {code} and message in str(found.value)
