"""Systems: a spec of examples/ and what is changed in its text, so that nothing but the mixer, the
memories and their clocks differ.

For every system the runner changes the text in the same ways. The width between layers is a number
that gives all as many parameters. The peak rate of the outer loop is held in a memory that nothing
changes, so one compiled step serves all rates. The loss reads a `target` and a `mask`, given with
`ids`: text sets the target to the next token and the mask to 1 everywhere. The rate of blocks on
the step clock stays that of the spec, 1e-3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import Path

import nldsl
from benchmarks.learning.scales import Scale
from nldsl.api import Program, Value

ROOT = Path(__file__).parents[2]
EXAMPLES, LIBRARY = ROOT / "examples", ROOT / "nldsl" / "std"
NEAR = 0.01  # systems have as many parameters if they differ by no more than this share
Edit = tuple[str, str]

PACE = """
level pace every step {
    memory peak: [] = 0
    peak <- 1 * peak
}
"""
INPUTS = "input target: index(vocab)\ninput mask: []"
PEAK = "pace.peak"  # where the rate of a run is written

# Online EWC (Kirkpatrick et al. 2017; Schwarz et al. 2018): at the end of each `stage` updates the
# weights are remembered with a running mean of their squared gradients, of the batches' means.
EWC = """def ewc(W, g, strength, stage) {
    level importance every update {
        memory f: like g = 0
        context g
        minimize |f - g .^ 2|^2 / 2
        f <- f - 0.05 * grad(f)
    }
    ends = tick - stage * floor(tick / stage) == 0
    level consolidation every update {
        memory A: like g = 0
        memory F: like g = 0
        A <- where(ends, W, A)
        F <- where(ends, F + importance.f@after, F)
    }
    return strength * consolidation.F .* (W - consolidation.A)
}
"""
EWC_STRENGTH = 1e4


@dataclass(frozen=True)
class System:
    """`edits` are made in the text of the spec and of `continuum`; `off` also, where memories of
    the token clock are to learn nothing. `sets` replace dims and constants.
    """

    spec: str
    edits: tuple[Edit, ...] = ()
    off: tuple[Edit, ...] = ()
    sets: Mapping[str, Value] = field(default_factory=dict)
    ewc: bool = False


BETA = "beta = sigmoid(affine(x, [head]))                 # Table 1: step size"
HOPE_OFF = (("rate = sigmoid(r) / span", "rate = 0 * sigmoid(r) / span"),)
TITANS_OFF = (("rate = 0.01 * (1 - decay)", "rate = 0 * (1 - decay)"),)
ALL_ONE = (("every p step", "every 1 step"),)


def ablation(*edits: Edit, **sets: Value) -> System:
    return System("hope_ablation", edits, HOPE_OFF, sets)


def static(name: str) -> Edit:
    call = "(z, k, v, rate, keep)"
    return f"    {name} = adaptive{call}", f"    {name} = fixed{call}"


SYSTEMS: dict[str, System] = {
    "transformer": System("transformer"),
    "transformer_swa": System("transformer_swa", sets={"window": 64}),
    "gla": System("gla", off=(("- grad(S)", "- 0 * grad(S)"),)),
    "gated_deltanet": System("gated_deltanet", off=((BETA, f"beta = 0 * {BETA[7:]}"),)),
    "ttt_linear": System("ttt_linear", off=(("rate = sigmoid", "rate = 0 * sigmoid"),)),
    "titans": System("titans", off=TITANS_OFF),
    "atlas": System("atlas", off=(("0.1 * newton_schulz", "0 * newton_schulz"),)),
    "hope_attention": System("hope_attention"),
    "hope": System("hope", off=HOPE_OFF),
    # NL Table 6, from a Hope with all that its rows take away.
    "hope_full": ablation(),
    "hope_no_dgd": ablation(erase=0),
    "hope_no_momentum": ablation(beta=0),
    "hope_no_decay": ablation(forget=0),
    "hope_no_cms": ablation(periods=[1]),
    "hope_static_k": ablation(static("k")),
    "hope_static_v": ablation(static("v")),
    "hope_static_q": ablation(static("q")),
    "hope_static_eta": ablation(
        ("    M_eta = self_referential(k, v, rate, keep, near)  # Eqs. 83-85, 90\n", ""),
        ("M_eta@near(z)", "fixed(z, k, v, rate, keep)"),
    ),
    # One net, and what is said to keep it from forgetting.
    "all_one": System("hope_attention", ALL_ONE),
    "spectrum": System("hope_attention"),
    "ewc": System("hope_attention", ALL_ONE, ewc=True),
    # A memory that a lane keeps from each sequence to the next.
    "titans_carried": System("titans_carried", off=TITANS_OFF),
}

SPECTRA = ("1", "1 4", "1 4 16", "1 2 4 8", "1 8 64 512")  # of `spectrum`, which has 1 4 16 64


@dataclass(frozen=True)
class Change:
    """What else is tried of a system, recorded beside it; parameters stay equal."""

    edits: tuple[Edit, ...] = ()
    sets: Mapping[str, Value] = field(default_factory=dict)


def inner_rate(factor: str) -> dict[str, Change]:
    gradient = "momentum(grad(M@chunk), "
    return {
        "titans": Change(((f"{gradient}rate,", f"{gradient}{factor} * rate,"),)),
        "hope": Change((("sigmoid(r) / span", f"sigmoid(r) * {factor} / span"),)),
    }


# Name -> system -> what is changed.
CHANGES: dict[str, dict[str, Change]] = {
    **{
        f"periods {periods}": dict.fromkeys(
            ("spectrum", "hope"), Change(sets={"periods": [*map(int, periods.split())]})
        )
        for periods in SPECTRA
    },
    # With these Titans diverges, and neither remembers more than a few tokens before it is trained.
    "first reading of the gates": {
        "titans": Change(
            (("0.01 * (1 - decay) .* sigmoid", "0.1 * sigmoid"), ("[head]) - 6)", "[head]))"))
        ),
        "gated_deltanet": Change((("[head]) + 4)", "[head]))"),)),
    },
    "momentum is not weighed": {"titans": Change((("0.01 * (1 - decay) .* ", "0.003 * "),))},
    "a quarter of the inner rate": inner_rate("0.25"),
    "three times the inner rate": inner_rate("3"),
    "three times the rate of the continuum": {
        name: Change((("lr = 1e-3, decay = 0.1", "lr = 3e-3, decay = 0.1"),))
        for name in ("hope", "spectrum", "hope_attention")
    },
    "chunks of a quarter": {
        "titans": Change(sets={"chunk": 16}),
        "hope": Change(sets={"near": 4, "span": 16}),
    },
    "two heads": dict.fromkeys(
        ("gla", "gated_deltanet", "ttt_linear", "titans", "hope"), Change(sets={"head": 2})
    ),
    "one layer": dict.fromkeys(
        ("transformer", "gated_deltanet", "titans", "hope", "all_one", "spectrum"),
        Change(sets={"depth": 1}),
    ),
}
MAIN = tuple(SYSTEMS)[:9]
ABLATIONS = tuple(SYSTEMS)[9:18]
INNER = tuple(name for name in MAIN if SYSTEMS[name].off)  # with a rate on the token clock


def variant(name: str, change: str = "") -> System:
    """A system with one of its changes. Raises KeyError if it has none of that name."""
    system = SYSTEMS[name]
    if not change:
        return system
    found = CHANGES[change][name]
    return replace(system, edits=system.edits + found.edits, sets={**system.sets, **found.sets})


def changed(text: str, edits: tuple[Edit, ...]) -> str:
    """Raises LookupError if the text has not what an edit replaces."""
    for old, new in edits:
        if old not in text:
            raise LookupError(f"the spec has no `{old}`")
        text = text.replace(old, new)
    return text


def text_of(
    system: System, hidden: int, stage: int = 1, off: bool = False, taught: bool = True
) -> str:
    """The text that is compiled. `stage` is how many updates EWC takes for a task. Without
    `taught`, the loss is that of the spec, for a module from ids to logits.
    """
    text = (EXAMPLES / f"{system.spec}.nl").read_text(encoding="utf-8")
    if "import layers, continuum," in text:
        library = (LIBRARY / "continuum.nl").read_text(encoding="utf-8")
        text = text.replace("import layers, continuum,", "import layers, averages,")
        text = text.replace("def model(", f"{library[library.index('def ') :]}def model(")
    text = changed(text, (system.off if off else ()) + system.edits)
    width = "hidden = 4 * d" if "hidden = 4 * d" in text else "depth, vocab)"
    text = text.replace(width, "depth, vocab, hidden = 4 * d)" if "depth" in width else width)
    text = changed(text, (("hidden = 4 * d", f"hidden = {hidden}"),))
    if taught:
        text = with_targets(text)
        text = changed(text, (("lr = cosine(3e-3, ", f"lr = {PEAK} * cosine(1, "),))
        text = text.replace("\nloss =", f"{PACE}loss =")
    if system.ewc:
        step = rf"clip(grad(\1), 1) + ewc(\1, grad(\1), {EWC_STRENGTH}, {stage})"
        text = re.sub(r"clip\(grad\((\w)\), 1\)", step, text)
        text = text.replace("def ", f"{EWC}def ", 1)
    return text


def with_targets(text: str) -> str:
    """The loss is taken at the positions and for the targets that are given with `ids`."""
    given = "target, mask"
    text = re.sub(r"(continuum\(x(: \[d\])?, ids)", rf"\1, {given}", text)
    return changed(
        text.replace("model(ids)", f"model(ids, {given})"),
        (
            ("input ids: index(vocab)", f"input ids: index(vocab)\n{INPUTS}"),
            ("loss = cross_entropy(", "loss = mask .* cross_entropy("),
            ("next(ids))", "target)"),
            ("context ids ", f"context ids, {given} "),
        ),
    )


def program(
    name: str,
    scale: Scale,
    vocab: int,
    hidden: int,
    stage: int = 1,
    off: bool = False,
    taught: bool = True,
    constant: bool = False,
    change: str = "",
) -> Program:
    """`constant` keeps the rate at its peak, for streams that are read once."""
    system = variant(name, change)
    text = text_of(system, hidden, stage, off, taught)
    if constant and taught:
        text = changed(text, ((f"{PEAK} * cosine(1, 0.02)", PEAK),))
    sizes: dict[str, Value] = {"d": scale.d, "head": scale.head, "depth": scale.depth}
    if system.spec == "atlas":
        sizes["head"] = 4 * scale.head  # its features are the squares of a head's width
    return nldsl.loads(text, **{**sizes, "vocab": vocab, **system.sets})


def parameters(of: Program) -> int:
    return sum(prod(shape) for shape in of.weights.values())


@cache
def width(name: str, scale: Scale, vocab: int, change: str = "") -> tuple[int, int]:
    """The width between layers that gives a system the parameters of its scale, and how many it
    then has. They grow by as many for each unit of width. Raises ValueError if it has more without
    any.
    """
    one, two = (
        parameters(program(name, scale, vocab, n, taught=False, change=change)) for n in (1, 2)
    )
    hidden = 1 + round((scale.parameters - one) / (two - one))
    found = one + (hidden - 1) * (two - one)
    if hidden < 1 or abs(found / scale.parameters - 1) > NEAR:
        said = ", ".join(filter(None, (name, change)))
        raise ValueError(f"{said} cannot have {scale.parameters} parameters: {found}")
    return hidden, found
