"""The systems of the examples, each at a size that a test can afford, with its reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from references import (
    attention,
    cms,
    delta,
    dgd,
    hidden,
    hope,
    inner,
    lact,
    learned,
    linear,
    mac,
    miras,
    network,
    omega,
    online,
    optimizers,
    series,
    small,
    titans,
    tnt,
    ttt,
)
from torch import Tensor

from nldsl.core.program import Program
from nldsl.pipeline import load_text
from nldsl.testing import laws

EXAMPLES = Path(__file__).parent.parent / "examples"
BASE = {"d": 6, "head": 2, "vocab": 5, "depth": 1}
FROM_FILES = {
    "retrofit",
    "retrofit_llama",
}  # what they start from is made in test_retrofit.py, which holds them to the same bars
WITH_WORKERS = {
    "diloco",
    "local_sgd",
}  # a lane reads its worker's entry: test_workers.py holds them to the same bars
Losses = Callable[[dict[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Spec:
    losses: Losses
    sizes: Mapping[str, object] = field(default_factory=dict)
    trained: Mapping[str, object] = field(
        default_factory=dict
    )  # in the place of `sizes`, where it learns from text
    whole: Mapping[str, object] = field(
        default_factory=dict
    )  # beside `sizes` where one graph would hold many long pieces
    update: Callable[[], optimizers.Update] | None = (
        None  # where the text is about how weights move
    )
    through: str = "$."  # names of what is learned only through the ticks of others


def layer(
    mixer: Callable[..., Tensor],
    sizes: Mapping[str, object] | None = None,
    trained: Mapping[str, object] | None = None,
    whole: Mapping[str, object] | None = None,
    **known: object,
) -> Spec:
    """A sequence layer in the network of the library; `known` is what its loop must be told, and is
    set in the text too.
    """
    return Spec(
        partial(network.losses, mixer=partial(mixer, **known)),
        {**known, **(sizes or {})},
        trained or {},
        whole or {},
    )


PERIODS = [1, 2, 3]
NARROW = {"head": 8, "chunk": 8}  # products of features grow with the square of a head
HOPE = {"near": 2, "span": 4, "periods": PERIODS}
SPECS: dict[str, Spec] = {
    "linear_attention": layer(linear.linear_attention),
    "retnet": layer(linear.retnet, {"d": 8}),
    "gla": layer(linear.gla, {"rank": 4}),
    "hgrn2": layer(linear.hgrn2),
    "deltanet": layer(delta.deltanet),
    "gated_deltanet": layer(delta.gated_deltanet),
    "lifelong": layer(partial(delta.gated_deltanet, slow=6)),
    "delta_product": layer(delta.delta_product),
    "longhorn": layer(delta.longhorn),
    "oja": layer(delta.oja),
    "mesa": layer(linear.mesa),
    "ttt_linear": layer(ttt.ttt_linear, chunk=2),
    "ttt_mlp": layer(ttt.ttt_mlp, chunk=2),
    "titans": layer(titans.gated, chunk=2),
    "titans_mac": layer(mac.mac, {"persistent": 2}, segment=3),
    "titans_mag": layer(titans.mag, {"persistent": 2}, chunk=2, window=3),
    "titans_mal": layer(titans.mal, {"persistent": 2}, chunk=2, window=3),
    "titans_carried": layer(titans.memory, chunk=2),
    "moneta": layer(miras.moneta, {"rank": 4}, chunk=2),
    "yaad": layer(miras.yaad, {"rank": 4}, chunk=2),
    "memora": layer(miras.memora, {"rank": 4}, chunk=2),
    "omeganet": layer(omega.omeganet, trained=NARROW, chunk=2, c=3),
    "atlas": layer(omega.atlas, trained=NARROW, whole={"chunk": 16}, chunk=2, c=3),
    "lact": layer(lact.lact, {"d": 8, "hidden": 5}, span=3),
    "tnt": layer(tnt.tnt, shard=4, wide=4, narrow=[1, 2]),
    "transformer": layer(attention.attention, {"d": 8}),
    "transformer_swa": layer(attention.attention, {"d": 8}, window=3),
    "hope": Spec(
        partial(
            network.continuum,
            mixer=partial(hope.self_modifying, near=2, length=4, beta=0.0),
            name="self_modifying_titans",
            periods=PERIODS,
        ),
        HOPE,
    ),
    "hope_ablation": Spec(
        partial(
            network.continuum,
            mixer=partial(hope.self_modifying, near=2, length=4),
            name="self_modifying_titans",
            periods=PERIODS,
        ),
        HOPE,
    ),
    "hope_attention": Spec(
        partial(
            network.continuum,
            mixer=partial(attention.attention, window=3),
            name="attention",
            periods=PERIODS,
        ),
        {"d": 8, "window": 3, "periods": PERIODS},
        update=partial(cms.sequential, PERIODS),
    ),
    "cms": Spec(
        partial(cms.losses, window=3),
        {"d": 8, "window": 3, "periods": [1, 2, 4, 8]},
        update=partial(cms.nested, [1, 2, 4, 8]),
        through=r"start\[\d\]\.S",
    ),
    "learned_optimizer": Spec(
        partial(learned.losses, window=3),
        {"d": 8, "window": 3, "width": 3, "unroll": 3, "task": 12},
        {"window": 24, "width": 16, "unroll": 10, "task": 400},
        update=partial(learned.learned, 3),
        through=learned.RULE,
    ),
    "ttt_e2e": Spec(
        partial(online.ttt_e2e, b=3, window=4),
        {"d": 8, "depth": 4, "minibatch": 3, "window": 4},
        {"window": 24, "minibatch": 8},
    ),
    "cms_tokens": Spec(
        partial(online.cms, spans=[1, 2, 4], window=3),
        {"d": 8, "spans": [1, 2, 4], "window": 3},
        {"spans": [4, 8, 16], "window": 24},
    ),
    "series": Spec(
        partial(series.series, chunk=3), {"channel": 2, "span": 3}, {"channel": 8, "d": 16}
    ),
}
SPECS |= {
    f"decomposition_{name}": Spec(losses)
    for name, losses in {
        "mlp_gd": small.perceptron,
        "mlp_momentum": small.perceptron,
        "adam": small.perceptron,
        "linear_attention_gd": small.linear_attention,
        "linear_attention_momentum": small.linear_attention,
        "softmax_attention": small.softmax_attention,
        "transformer": small.block,
        "adatransformer": small.block,
    }.items()
}
SPECS |= {
    "transfer_direct": Spec(small.direct),
    "transfer_nonparametric": Spec(partial(small.softmax_attention, window=3), {"window": 3}),
    "transfer_backpropagation": Spec(small.backpropagation),
    "transfer_initialisation": Spec(partial(small.initialisation, truncation=3), {"truncation": 3}),
    "transfer_generation": Spec(small.generation),
}
STEPS: dict[str, Callable[[], optimizers.Update]] = {
    "sgd": partial(optimizers.remembering, lambda w, g, m, n: w - g, clip=True),
    "momentum": partial(optimizers.remembering, optimizers.momentum(0.2, 0.9), clip=True),
    "nesterov": partial(
        optimizers.remembering, optimizers.momentum(0.2, 0.9, ahead=True), clip=True
    ),
    "adam": partial(
        optimizers.remembering, lambda w, g, m, n: optimizers.adam(w, g, m, n, optimizers.cosine(n))
    ),
    "adamw": partial(
        optimizers.remembering,
        lambda w, g, m, n: optimizers.adam(w, g, m, n, optimizers.cosine(n), 0.1),
    ),
    "adagrad": partial(optimizers.remembering, optimizers.adagrad),
    "muon": partial(hidden.hidden_by(optimizers.muon), 8),
    "delta_momentum": partial(optimizers.remembering, optimizers.delta_momentum, clip=True),
    "m3": partial(hidden.hidden_by(optimizers.m3), 8),
}
SPECS |= {
    f"optimizer_{name}": Spec(partial(network.bare, window=64), {"d": 8}, update=step)
    for name, step in STEPS.items()
}
SPECS["optimizer_muon"] = Spec(partial(network.between, window=64), {"d": 8}, update=STEPS["muon"])
SPECS["optimizer_m3"] = Spec(
    partial(network.bare, window=64, names=network.APART), {"d": 8}, update=STEPS["m3"]
)
SPECS["optimizer_dgd"] = Spec(partial(dgd.losses, window=64), {"d": 8}, through="random:")
SPECS["optimizer_inner"] = layer(inner.inner, {"d": 8}, chunk=2)
SPECS["optimizer_deep_momentum"] = Spec(partial(network.bare, window=64), {"d": 8})


TWO = {"d": 4, "depth": 2}  # two layers, for what lies between layers


def text(name: str) -> str:
    return (EXAMPLES / f"{name}.nl").read_text(encoding="utf-8")


@cache
def shipped(name: str) -> Program:
    """An example as it is; tests only look at it."""
    path = EXAMPLES / f"{name}.nl"
    return load_text(path.read_text(encoding="utf-8"), path.name, search=[EXAMPLES])


def shallow(text: str, layers: int = 1) -> str:
    """A text with fewer layers than six: the same words, in less time."""
    return re.sub(r"\bdepth = 6\b", f"depth = {layers}", text)


def tiny(name: str, edited: str | None = None, **sets: object) -> Program:
    values = fitting(name, BASE | dict(SPECS[name].sizes) | sets)
    return load_text(edited or text(name), f"{name}.nl", {k: str(v) for k, v in values.items()})


def fitting(name: str, sizes: Mapping[str, object]) -> dict[str, object]:
    """Without those of the sizes that all specs have and this one does not."""
    return {
        key: value
        for key, value in sizes.items()
        if key not in BASE or re.search(rf"\b{key} = ", text(name))
    }


@cache
def subject(name: str) -> laws.Subject:
    return laws.Subject(tiny(name))


@cache
def program(name: str) -> Program:
    """Of two layers."""
    return tiny(name, **TWO)


@cache
def deeper(name: str) -> laws.Subject:
    """Of two layers."""
    return laws.Subject(program(name))
