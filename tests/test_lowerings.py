"""Which form each recurrence gets, by name: a name says what was written, and a clause that only
hides slopes costs no form.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import decays
import pytest
import torch
from family import EXAMPLES, FROM_FILES, SPECS, text, tiny
from recurrences import holds, memory, model

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load, load_text
from nldsl.step.compile import CompiledStep
from nldsl.step.lowerings import table
from nldsl.step.lowerings.body import Body
from nldsl.step.lowerings.forms import AffineForm
from nldsl.step.lowerings.lowering import Form, Lowering, Texts
from nldsl.testing import data, laws
from nldsl.view.report import attention

torch.set_num_threads(1)
GOLDEN = Path(__file__).parent / "golden"


def lowerings(program: Program) -> list[str]:
    step = compile_program(program, capture="eager")
    return [f"{name}: {way}" for name, way in step.emitted.lowering.items()]


def small(path: Path) -> Program:
    return tiny(path.stem) if path.stem in SPECS else load(path)


def test_the_form_of_every_example(golden) -> None:
    paths = sorted(x for x in EXAMPLES.glob("*.nl") if x.stem not in FROM_FILES)
    lines = [f"{path.stem} {line}\n" for path in paths for line in lowerings(small(path))]
    golden(GOLDEN / "lowerings.txt", "".join(lines))


# a read of the moving memory, and what the form says of it
READS = {
    "recall.M@after * q": "dual form: gradients at the chunk start, "
    "fresh reads by masked products, no state per token",
    "tanh(recall.M@after) * q": "dual form: gradients at the chunk start, a state per token",
    "recall.M@after * q + tanh(recall.M) * k": "dual form: gradients at the chunk start, "
    "fresh reads by masked products, a state per token",
    "recall.M@chunk * q": "stale form: batched products, one state per chunk",
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("clauses", ["bptt full", "bptt none"])
def test_a_form_is_called_what_it_is(read: str, clauses: str) -> None:
    body = memory("matrix", "M <- keep * M - rate * grad(M@chunk)", clauses).replace(
        "recall.M@after * q", read
    )
    program = model(body)
    assert holds(program) == {READS[read]}
    source = compile_program(program, capture="eager").source
    whole = [line for line in source.splitlines() if "->BTpuv" in line]  # [B, T, head, e, e]
    assert bool(whole) == ("a state per token" in READS[read].replace("no state", ""))


def test_gradients_of_the_moving_memory_are_not_called_stale() -> None:
    """What stood at the chunk start is read, and nothing is learned from it."""
    body = memory("matrix", "M <- keep * M - grad(M)", objective="-<M * k, v>")
    body = body.replace("recall.M@after * q", "recall.M@after * q + recall.M@chunk * k")
    assert all(way.startswith("chunked recurrence") for way in holds(model(body)))


UNSEEN = {name: form for name, form in decays.FORMS.items() if form[3] != "scan"}


@pytest.mark.parametrize(
    "form, clauses",
    [
        *((form, "bptt none") for form in UNSEEN),
        *(
            (form, f"{reset}\n    bptt none")
            for form in ("a sum", "the delta rule", "momentum under a decay")
            for reset in ("reset every 4 token", "reset never")
        ),
    ],
)
def test_updates_that_nobody_sees_through_are_chunked_too(form: str, clauses: str) -> None:
    """Only the read at the first token sees the start; decays of 0 and below 0 change nothing of
    that.
    """
    axes, *_, way = UNSEEN[form]
    source = decays.text(form, clauses)
    data = decays.batches(axes, decays.DECAYS["zero, tiny, negative and more than one"])
    program = load_text(source)
    subject = laws.Subject(program)
    found = laws.agreement(subject, data)
    assert not laws.beyond(found)
    assert laws.splits(subject, data[1]) <= laws.EXACT
    assert way in "; ".join(subject.step.emitted.lowering.values())


SLOW_START = """
    u = linear(q@chunk, [e])
    level recall per head every token {
        memory M: [e, e] = learned
        context k, u
        minimize |M * k - u|^2 / 2
        M <- keep * M - rate * grad(M)
        CLAUSES
    }
    return linear(rmsnorm(recall.M * q + recall.M@after * k), [d])"""


@pytest.mark.parametrize("clauses", ["bptt none", "bptt full"])
def test_what_stands_still_at_first_is_still_the_start(clauses: str) -> None:
    """Before the first chunk ends there is nothing to learn from: reads see the learned start, with
    its slope.
    """
    ways = holds(model(SLOW_START.replace("CLAUSES", clauses)))
    assert any(way.startswith("chunked recurrence, erases") for way in ways)


def test_a_part_that_stops_goes_token_by_token() -> None:
    """The other part of the same memory has a slope, so its coefficient would have two."""
    body = memory("matrix", "M <- 0.5 * stop(M) + keep * M - rate * grad(M@chunk)")
    assert all(way.startswith("scan: token by token") for way in holds(model(body)))


# what an update does to the memory itself, and what is said of it: why, and at which words
OBSTACLES = {
    "tanh(M) - rate * grad(M@chunk)": ("is used as a whole", "tanh(M)"),
    "M .* M - rate * grad(M@chunk)": ("is multiplied entry by entry", "M .* M"),
    "0.5 * stop(M) + keep * M - rate * grad(M@chunk)": ("no derivative passes", "stop(M)"),
}


@pytest.mark.parametrize("update", OBSTACLES)
def test_a_token_loop_is_explained_at_its_words(update: str) -> None:
    why, words = OBSTACLES[update]
    step = compile_program(model(memory("matrix", f"M <- {update}")), capture="eager")
    (way,) = step.emitted.lowering.values()
    line = next(i for i, x in enumerate(step.program.source.text.splitlines(), 1) if update in x)
    assert re.fullmatch(rf"scan: token by token \(.*{why}.*:{line}: `{re.escape(words)}`\)", way)


RUNNING_SUM = """
    level counting every token {
        memory S: [d] = learned
        context x
        S <- S + x
        bptt full
    }
    return linear(counting.S@after, [d])"""


def test_a_new_lowering_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row before the others takes the forms that it applies to, by its code and its name."""

    def applies(form: Form) -> bool:
        if not isinstance(form, AffineForm) or len(form.recurrence.region.ticking) != 1:
            return False
        (state,) = form.recurrence.region.ticking
        return state.tick.op == "add" and state.tick.args[1] in form.recurrence.inputs

    def emit(form: AffineForm, body: Body) -> Texts:
        fn, (cell,) = body.fn, form.recurrence.region.ticking
        added = fn.value(cell.tick.args[1])
        text = f"{body.state[cell.name].text}.unsqueeze(1) + {added.text}.cumsum(1)"
        total = fn.let(text, "BT", cell.type)
        for node in body.region.inside:
            if node.op == "now":
                fn.bind(node, total.text, "BT")
        last = fn.let(f"{total.text}[:, -1]", "B", cell.type)
        return {cell.name: last.text}, [fn.value(x).text for x in body.region.outputs]

    row = Lowering(lambda form: "running sum", applies, emit)
    assert "running sum" not in holds(model(RUNNING_SUM))
    monkeypatch.setattr(table, "LOWERINGS", (row, *table.LOWERINGS))
    assert holds(model(RUNNING_SUM)) == {"running sum"}
    (way,) = holds(model(memory("matrix", "M <- keep * M - rate * grad(M@chunk)")))
    assert way.startswith("dual form")


@pytest.mark.parametrize(
    "name, fused, written_out",
    [
        ("transformer", True, False),
        ("titans_mag", True, False),  # learned pairs and a window
        ("titans_mac", False, True),  # among memories that learn
        ("deltanet", False, False),
    ],
)
def test_attention_is_fused_where_one_derivative_is_asked_for(
    name: str, fused: bool, written_out: bool
) -> None:
    step = compile_program(tiny(name), capture="eager")
    assert ("attention" in calls(step), "attend" in calls(step)) == (fused, written_out)
    said = " ".join(attention(step))
    assert ("scaled_dot_product_attention" in said, "written out" in said) == (fused, written_out)


def test_attention_that_is_differentiated_twice_is_written_out() -> None:
    """It stands behind a memory that learns from the loss, whose learner sees through that."""
    spec = text("ttt_e2e")
    last = "return x + fast.F(rmsnorm(x))"
    assert last in spec
    edited = spec.replace(last, "return attention(x + fast.F(rmsnorm(x)), head, e, window)")
    subject = laws.Subject(tiny("ttt_e2e", edited))
    called = calls(subject.step)
    assert {"attention", "attend"} <= called
    assert not laws.beyond(laws.agreement(subject, [data(subject.program, 2, 9, 0)]))


def calls(step: CompiledStep) -> set[str]:
    nodes = ast.walk(ast.parse(step.emitted.text))
    return {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
