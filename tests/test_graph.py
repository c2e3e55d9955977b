"""Syntax tree to core: what each rule of the language makes of a small text, and the laws on
everything shipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from family import shipped

from nldsl.core.laws import check_program
from nldsl.core.nodes import Axis, Node, walk
from nldsl.core.program import Clock, Program
from nldsl.core.text import dump
from nldsl.diagnostic import Diagnostics
from nldsl.frontend.parse import parse
from nldsl.frontend.unparse import unparse
from nldsl.graph.axes import match, see
from nldsl.graph.desugar import elaborate
from nldsl.pipeline import load_text
from nldsl.source import Source

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.nl"))
HEAD = """nldsl 1
import layers, optimizers
dim d = 8, head = 2, e = d / head, vocab = 16
input ids: index(vocab)
input x: [d]
"""
TRAIN = (
    "\nlevel training every step { memory W: weights context ids "
    "minimize mean(loss over period) W <- W - 0.1 * grad(W) }\n"
)


def elaborated(
    text: str, sets: dict[str, str] | None = None, search: tuple[Path, ...] = (ROOT / "examples",)
) -> Program:
    source = Source("spec.nl", text)
    program = elaborate(parse(source), source, sets=sets or {}, search=search)
    check_program(program)
    return program


def output(text: str, name: str = "y") -> Node:
    return elaborated(HEAD + text).outputs[name]


def found(text: str, sets: dict[str, str] | None = None) -> list[tuple[str, str]]:
    """Codes of a text's findings with the words they are about."""
    with pytest.raises(Diagnostics) as raised:
        elaborated(text, sets)
    return [
        (finding.code, finding.span.text() if finding.span else "")
        for finding in raised.value.diagnostics
    ]


def shown(node: Node) -> str:
    """A node as one expression."""
    attrs = [str(value) for key, value in node.attrs if key not in ("context", "groups")]
    if node.op == "const":
        return f"{node['value']:g}" if isinstance(node["value"], float) else str(node["value"])
    return f"{node.op}({', '.join([*map(shown, node.args), *attrs])})"


def level(text: str, name: str = "l.M") -> Node:
    """The next value of a memory of a program with one level of the main file."""
    return elaborated(HEAD + text).memories[name].next


OWNERS = """nldsl 1
dim d = 4, vocab = 5
input ids: index(vocab)
table = embed(ids, [d])
y = affine(tanh(linear(table, [2, d])), [d])
loss = cross_entropy(linear(y, [vocab]), next(ids))
level first never { memory W: FIRST }
level second never { memory V: SECOND }
"""


@pytest.mark.parametrize(
    "first, second, owned",
    [
        ("weights [a, b]", "weights", ["table", "y", "y.affine", "loss"]),
        ("weights [vocab, b]", "weights", ["table", "loss"]),
        ("weights of y [a, b, c]", "weights", ["y", "y.affine"]),
        ("weights [a, b]", "weights of table", ["y", "y.affine", "loss"]),
        ("weights [a, b]", "weights [n]", ["table", "y", "y.affine", "loss"]),
    ],
)
def test_rest_with_a_shape(first: str, second: str, owned: list[str]) -> None:
    text = OWNERS.replace("FIRST", first).replace("SECOND", second)
    if second == "weights of table":
        text += "level third never { memory U: weights }"
    program = elaborated(text)
    assert [name for name in program.weights if program.weights[name].owner == "first.W"] == owned
    assert (
        parse(Source("spec.nl", unparse(parse(Source("spec.nl", text))))).statements[-1] is not None
    )


def test_rest_with_a_shape_that_fits_nothing_or_fits_twice() -> None:
    assert found(OWNERS.replace("FIRST", "weights [a, b, c, d]").replace("SECOND", "weights")) == [
        ("N113", "weights [a, b, c, d]")
    ]
    assert ("N111", "weights [vocab, b]") in found(
        OWNERS.replace("FIRST", "weights [vocab, b]").replace("SECOND", "weights [b, d]")
    )


# ---- everything shipped


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_keep_the_laws(path: Path) -> None:
    check_program(shipped(path.stem))


@pytest.mark.parametrize("name", ["titans", "hope"])
def test_core_as_text(name: str, golden) -> None:
    program = elaborated(
        (ROOT / "examples" / f"{name}.nl").read_text(encoding="utf-8"), {"depth": "1"}
    )
    golden(ROOT / "tests" / "golden" / name / "graph.txt", dump(program))


def test_elaboration_is_deterministic() -> None:
    text = (ROOT / "examples" / "hope.nl").read_text(encoding="utf-8")
    assert dump(elaborated(text)) == dump(elaborated(text))


@pytest.mark.parametrize(
    "step",
    [
        "sgd(grad(F), 0.1)",
        "nesterov(grad(F), 0.1, 0.9)",
        "adamw(F, clip(grad(F), 1), 0.1, 0.1)",
        "adagrad(grad(F), 0.1)",
        "muon(grad(F), 0.1)",
        "orthogonalise(grad(F))",
        "delta_momentum(grad(F), I, 0.1, 0.9)",
        "deep_momentum(grad(F), 0.1, 0.9)",
        "m3(grad(F), 0.1, 0.5, 0.9, 0.9, 0.9, 1e-8, 10)",
    ],
)
def test_optimizers_of_the_library(step: str) -> None:
    program = elaborated(
        HEAD.replace("optimizers", "optimizers, associative_optimizers")
        + f"""
        def model(ids) {{
            level ffn every step {{
                memory F: swiglu([d], 4 * d) = random
                context ids
                minimize mean(loss over period)
                F <- F + {step}
                bptt none
            }}
            h = embed(ids, [d])
            return linear(h + ffn.F(h), [vocab])
        }}
        loss = cross_entropy(model(ids), next(ids))"""
        + TRAIN
    )
    assert program.memories["loss.ffn.F"].slots == {
        path: f"loss.ffn.F.{path}" for path in ("gate", "up", "down")
    }
    assert all(
        child.parent == "loss.ffn"
        and child.clock == program.levels["loss.ffn"].clock
        or child.clock.period == 10
        for child in program.levels.values()
        if child.parent
    )


# ---- axes

D, H, E = Axis("d", 8), Axis("head", 2), Axis("e", 4)


def test_axes_meet_by_name() -> None:
    assert match((H, E), (E,)).shape == (H, E) and match((H, E), (E,)).right == (1,)
    assert match((E,), (H, E)).left == (1,)
    assert match((E, E), (E,)).right == (1,)
    assert match((Axis("4", 4),), (E,)).shape == (E,)
    assert match((E,), (Axis("f", 4),)).clash == (E, Axis("f", 4))
    assert match((E,), (H,)).shape == (E, H)


def test_parameters_see_what_they_declare() -> None:
    assert see((E,), (H, E)).mapped == (0,)
    assert see(("a", "b"), (H, E, D)).places == (1, 2)
    assert see((E, "n"), (E, D)).places == (0, 1)
    assert see((D,), (H, E)).missing == D
    assert see(("a", "b"), (D,)).short == 1


def test_a_norm_sees_one_axis() -> None:
    y = output("y = unit(linear(x, [head, e]))" + TRAIN.replace("loss", "sum(y)"))
    assert y.op == "div" and y.type == (H, E)
    assert "sum(mul" in shown(y.args[1]) and "(1,))" in shown(y.args[1])


def test_products() -> None:
    assert shown(output("A = [[1, 2, 3], [4, 5, 6]]\ny = A * [1, 2, 3]")).startswith("einsum")
    assert output("y = x * x^T").type == (D, D)
    assert found(HEAD + "y = x * x") == [("N204", "x * x")]
    assert found(HEAD + "y = x / x") == [("N204", "x / x")]
    assert shown(output("y = 2 * x * x^T")) == "mul(2, einsum(input(x), input(x), ab->ab))".replace(
        "ab->ab", "a,b->ab"
    )


def test_identity_takes_its_size_from_beside() -> None:
    assert (
        shown(output("y = 0.5 * I - x * x^T"))
        == "sub(mul(0.5, eye()), einsum(input(x), input(x), a,b->ab))"
    )
    assert found(HEAD + "y = I + x") == [("N204", "I + x")]


def test_constants_fold() -> None:
    for text in ("x + 0", "1 * x", "x / 1", "x - 0", "x .^ 1", "0 + x", "-(-x)"):
        assert shown(output(f"y = {text}")) == "input(x)"
    assert (
        shown(output("y = 0 * x")) == "spread(0, ())"
        and shown(output("y = 0 * x + 2 * x")) == "mul(2, input(x))"
    )
    assert shown(output("y = sum(x) * (2 + 3 * 4)")) == "mul(sum(input(x), (0,)), 14)"
    assert shown(output("y = exp(0) * x - 1 / 4 * x")) == "sub(input(x), mul(0.25, input(x)))"


def test_squared_norm_has_no_root() -> None:
    assert shown(output("y = |x|^2")) == "sum(mul(input(x), input(x)), (0,))"
    assert shown(output("y = |x|")) == "sqrt(sum(mul(input(x), input(x)), (0,)))"
    assert shown(output("y = |x|_3 ^ 3")) == "sum(pow(abs(input(x)), 3), (0,))"
    assert shown(output("y = |x|_1")) == "sum(abs(input(x)), (0,))"


def test_result_axes_are_named() -> None:
    assert output("dim f = d * d\ndef phi(k: [d]) -> [f] = flat(k * k^T)\ny = phi(x)").type == (
        Axis("f", 64),
    )
    assert found(HEAD + "def f(k: [d]) -> [e] = k\ny = f(x)") == [("N204", "[e]")]


def test_windows() -> None:
    y = output("y = mean(x over sequence)")
    assert (y.op, y["how"], y["since"], y.type) == ("fold", "mean", Clock("sequence", 1), (D,))
    assert output("y = sum(x over 3 token)")["length"] == 3
    assert output("clock c = 4 token\ny = sum(x over c)")["since"] == Clock("token", 4)


def test_attention_axes() -> None:
    y = output(
        """P = weight([3, d])
        K = weight([head, e, d])
        y = attend(linear(x, [head, e]), K * P -> K * P, K * x -> K * x over 16 token)"""
        + TRAIN.replace("loss", "sum(y)")
    )
    assert (
        y["groups"] == (("ab,abc->ac", "ac,adc->ad", None), ("ab,ab->a", "a,ac->ac", ("last", 16)))
        and y["scale"] == 0.5
    )


# ---- levels

MATRIX = """
def f(k: [d]) {{
    level l every token {{
        memory M: [d, d] = 0
        context k
        {body}
        bptt full
    }}
    return l.M@after * k
}}
y = f(x)
"""


def test_later_statements_read_the_version_in_force() -> None:
    M = level(
        MATRIX.format(body="minimize |M * k - k|^2 / 2\nM <- 0.5 * M\nM <- M - grad(M)"), "y.l.M"
    )
    assert M.op == "sub" and shown(M.args[0]) == "mul(0.5, read(y.l.M))"
    assert M.args[1].op == "grad" and M.args[1].args[1] is M.args[0]
    assert {node["memory"] for node in walk(M.args[1].args[0]) if node.op == "plain"} == {"y.l.M"}


def test_a_definition_reads_another_version_in_the_objective() -> None:
    program = elaborated(
        HEAD
        + MATRIX.format(
            body="M <- 0.5 * M\nerror = M * k\nminimize |error|^2\nM <- M - grad(M) - error * k^T"
        )
    )
    M = program.memories["y.l.M"].next
    reads = {node.op for node in walk(M.args[1]) if node.op in ("plain", "read")}
    assert reads == {"read"}
    assert {
        node.op
        for node in walk(program.levels["y.l"].objectives[0])
        if node.op in ("plain", "read")
    } == {"plain"}


def test_several_ticks_in_a_loop() -> None:
    M = level(
        MATRIX.format(body="for i in range(3) { minimize i * |M * k|^2 M <- M - grad(M) }"), "y.l.M"
    )
    grads = [node for node in walk(M) if node.op == "grad"]
    assert [shown(node.args[0])[:6] for node in grads] == ["0", "sum(mu", "mul(2,"]
    assert [node.args[1].op for node in grads] == ["read", "sub", "sub"] and M.args[0] is grads[
        2
    ].args[1]


def test_closed_form_of_prox() -> None:
    M = level(MATRIX.format(body="minimize |M * k - k|^2 / 2\nM <- prox(M, 0.5)"), "y.l.M")
    assert shown(M.args[1].args[0]).startswith(
        "div(0.5, add(1, mul(0.5, sum(mul(input(x), input(x))"
    )
    assert M.args[1].args[1].op == "grad"
    assert ("N506", "prox(M, 0.5)") in found(
        HEAD + MATRIX.format(body="minimize |M * k|\nM <- prox(M, 0.5)")
    )


def test_a_level_per_axis_hides_it() -> None:
    program = elaborated(
        HEAD
        + """
        def net(z: [e]) = linear(gelu(linear(z, [2 * e])), [e])
        def f(x: [d]) {
            k = linear(x, [head, e])
            level l per head every token {
                memory M: net = learned
                context k
                minimize |M(k) - k|^2
                M <- M + momentum(grad(M), 0.1, 0.9)
                bptt full
            }
            return linear(l.M@after(k), [vocab])
        }
        loss = cross_entropy(f(x), next(ids))"""
        + TRAIN.replace("context ids", "context ids, x")
    )
    assert program.memories["loss.l.M"].type.leaves == (
        ("linear2", (H, Axis("2 * e", 8), E)),
        ("linear", (H, E, Axis("2 * e", 8))),
    )
    assert program.levels["loss.l"].per == H == program.levels["loss.l.momentum.velocity"].per
    assert program.levels["loss.l"].objectives[0].type == (H,)
    assert (
        program.weights["loss.l.M.start.linear"].shape[0] == H
        and program.weights["loss.l.M.start.linear"].owner == "training.W"
    )
    child = program.levels["loss.l.momentum.velocity"]
    assert (child.parent, child.reset, child.bptt[0].depth) == (
        "loss.l",
        Clock("sequence", 1),
        "full",
    )


def test_held_reads_break_cycles() -> None:
    text = """clock c = 4 token
        def box(k) {
            level l every token {
                memory M: [d, d] = 0
                context k
                minimize |M * k|^2
                M <- M - grad(M@c)
                bptt full
            }
            return l.M
        }
        def f(x: [d]) {
            B = box(k)
            k = x + B@c * x
            return k
        }
        y = f(x)"""
    assert {
        (node["memory"], node["clock"].period) for node in walk(output(text)) if node.op == "held"
    } == {("y.B.l.M", 4)}
    assert ("N401", "k") in found(HEAD + text.replace("k = x + B@c * x", "k = x + j\nj = k"))


# ---- names, owners, files


def test_names_are_paths_of_definitions() -> None:
    program = elaborated(
        (ROOT / "examples" / "titans.nl").read_text(encoding="utf-8"), {"depth": "1"}
    )
    names = set(program.weights)
    assert {
        "loss.x",
        "loss.layer[0].rmsnorm",
        "loss.layer[0].rmsnorm2",
        "loss.rmsnorm",
        "loss.linear",
        "loss.layer[0].swiglu.gate",
        "loss.layer[0].mixer.q.linear",
        "loss.layer[0].mixer.q.conv",
        "loss.layer[0].mixer.rate",
        "loss.layer[0].mixer.rate.bias",
        "loss.layer[0].mixer.recall.M.start.W2",
    } <= names
    assert {
        "training",
        "training.adamw.adam.moments",
        "loss.layer[0].mixer.recall",
        "loss.layer[0].mixer.recall.S.velocity",
    } == set(program.levels)


@pytest.mark.parametrize(
    "before, after, added",
    [
        ("y = linear(x, [d])", "y = conv(silu(linear(x, [d])), 2)", {"y.conv"}),
        ("y = linear(x, [d])", "y = linear(linear(x, [d]), [d])", {"y.linear2"}),
        (
            "def f(z: [d]) = weight([d]) .* z\ny = f(x)",
            "def f(z: [d]) { b = weight([d]) return weight([d]) .* z + b }\ny = f(x)",
            {"y.b"},
        ),
        (
            "def f(z: [d]) = linear(z, [d])\ny = f(x)",
            "def f(z: [d]) = linear(z, [d]) + affine(z, [d])\ny = f(x)",
            {"y.affine", "y.affine.bias"},
        ),
    ],
)
def test_a_further_weight_renames_no_other(before: str, after: str, added: set[str]) -> None:
    frozen = "\nlevel frozen never { memory W: weights }"
    old, new = (set(elaborated(HEAD + text + frozen).weights) for text in (before, after))
    assert new == old | added and added.isdisjoint(old)


def test_turns_are_kept() -> None:
    program = elaborated(
        (ROOT / "examples" / "hope.nl").read_text(encoding="utf-8"), {"depth": "2"}
    )
    iterations = {node.iteration for node in program.nodes()}
    assert {("layer[0]",), ("layer[1]",), ("layer[1]", "p[16]")} <= iterations


def test_each_weight_has_one_owner() -> None:
    program = elaborated(
        HEAD
        + "a = linear(x, [d])\nloss = sum(linear(a, [d]))"
        + TRAIN
        + TRAIN.replace("training", "part")
        .replace("weights", "weights of a")
        .replace("every step", "every 2 step")
    )
    assert {name: weight.owner for name, weight in program.weights.items()} == {
        "a": "part.W",
        "loss": "training.W",
    }


def test_settings() -> None:
    text = (
        "nldsl 1\nimport hope\ndim d = 256\nperiods = [1, 2]\nclock c = 4 token\ninput x: [d]\n"
        "y = sum(x over c)\n"
    )
    program = elaborated(text, {"d": "512", "c": "8", "hope.span": "32", "periods": "[1, 2, 4]"})
    assert (program.dims["d"], program.clocks["c"].period, program.clocks["hope.far"].period) == (
        512,
        8,
        32,
    )
    assert program.sets == {"d": 512, "c": 8, "hope.span": 32, "periods": [1, 2, 4]}
    assert found(text, {"dd": "1"}) == [("N112", "")]
    assert found(text.replace("256", "100"))[0][0] == "N104"


def test_independent_findings_are_told_at_once() -> None:
    text = HEAD + "a = lineer(x, [d])\nb = x * x\nc = a + b\nloss = sum(nothing)\n"
    assert found(text) == [("N101", "lineer"), ("N204", "x * x"), ("N101", "nothing")]


# ---- bounds


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def f(x) = f(x)\ny = f(x)", "N108"),
        (
            "def f(x) { y = x for i in range(20000) { for j in range(20000) { y <- y + 1 } } "
            "return y }\nz = f(x)",
            "N212",
        ),
        ("y = sum(x) * (2 ^ 1000 ^ 1000)", "N211"),
        ("dim n = 99999999999999\nw = weight([n])", "N212"),
        (
            "def g(x) = x + 1\n"
            + "".join(
                f"def f{i}(x) = "
                f"{'g' if i == 0 else f'f{i - 1}'}({'g' if i == 0 else f'f{i - 1}'}(x))\n"
                for i in range(30)
            )
            + "y = f29(x)",
            "N213",
        ),
    ],
)
def test_no_text_runs_away(text: str, code: str) -> None:
    assert code in [finding for finding, _ in found(HEAD + text)]


def test_long_chains() -> None:
    chain = "".join(f"y{i} = y{i + 1} + 1\n" for i in range(2000))
    assert output(chain + "y2000 = sum(x)", "y0").type == ()


@pytest.mark.parametrize(
    "call, code",
    [
        ("matrix(x, d)", "N204"),  # one axis is not a matrix
        ("matrix(weight([3, d, 5]), d)", "N204"),  # neither the first nor the last
        ("matrix(weight([3, 5]), x)", "N202"),
        ("shaped(weight([3, d]), weight([d]))", "N204"),
    ],
)
def test_sides_of_a_matrix_that_are_not_there(call: str, code: str) -> None:
    with pytest.raises(Diagnostics) as found:
        load_text(
            f"nldsl 1\ndim d = 8\ninput x: [d]\ny = {call}\n"
            "level frozen never { memory W: weights = random }\n"
        )
    assert [d.code for d in found.value.diagnostics] == [code]


# ---- the loss of the program


LEARNER = """
def layer(x: [d]PARAMETER) -> [d] {
    k = linear(x, [head, e])
    level fast per head every token {
        memory M: [e] = 0
        context k
        minimize sum(|M - k|^2 * stop(loss) over period)
        M <- M - 0.1 * grad(M)
    }
    return x + linear(fast.M, [d])
}
h = layer(embed(ids, [d])ARGUMENT)
loss = cross_entropy(linear(h, [vocab]), next(ids))
loss <- loss + 0.1 * |h|^2
final = loss
"""


def test_a_definition_reads_the_last_version_of_the_loss() -> None:
    """As if the call had handed it over, under the hidden axis of the level too."""
    reads = LEARNER.replace("PARAMETER", "").replace("ARGUMENT", "")
    handed = LEARNER.replace("PARAMETER", ", loss").replace("ARGUMENT", ", final")
    assert dump(elaborated(HEAD + reads + TRAIN)) == dump(elaborated(HEAD + handed + TRAIN))


def test_the_library_reads_the_loss_of_the_program() -> None:
    text = HEAD.replace("optimizers", "optimizers, associative_optimizers")
    text += "h = dgd_linear(embed(ids, [d]), 0.1)\n"
    assert found(text) == [("N101", "loss")]
    elaborated(text + "loss = |linear(h, [d])|^2\n" + TRAIN)
