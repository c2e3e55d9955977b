"""Memories that obey the same equations are computed as one, and keep every law; those that need
each other at the same token, or are taken apart as they move, stay as they are.
"""

from __future__ import annotations

import pytest
import torch
from family import tiny
from recurrences import holds, model

from nldsl.core.program import Program
from nldsl.pipeline import compile_program

torch.set_num_threads(1)

BOX = """
def box(k, v, rate, keep) {
    level recall per head every token {
        memory M: KIND = learned
        context k, v
        minimize |M ASKED - v|^2 / 2
        UPDATE
        CLAUSES
    }
    return recall.M
}
"""
# two memories of one recurrence: what one holds makes what both learn from
BOTH = """
    A = box(a, w, rate, keep)
    B = box(b, w, rate, GATE)
    a = unit(A@chunk ANSWERS + k)
    b = KEY
    w = B@chunk ANSWERS + v
    return linear(rmsnorm(READ), [d])"""
WORDS = {
    "KIND": "[e, e]",
    "CLAUSES": "bptt full",
    "GATE": "keep",
    "KEY": "a",
    "READ": "A@after ANSWERS - B@after ANSWERS + (A ANSWERS) .* (B ANSWERS)",
    "ASKED": "* k",
    "ANSWERS": "* q",
}
NET = {"KIND": "net", "ASKED": "(k)", "ANSWERS": "(q)"}
STALE = "M <- keep * M - rate * grad(M@chunk)"
DELTA = "M <- keep * M - rate * grad(M)"


def program(update: str, changed: dict[str, str]) -> Program:
    body, top = BOTH, BOX.replace("UPDATE", update)
    first = {word: text for word, text in changed.items() if word not in WORDS}
    for word, text in (first | WORDS | changed).items():
        body, top = body.replace(word, text), top.replace(word, text)
    return model(body, top)


def as_one(of: Program) -> list[int]:
    """How many memories are computed as one, of each state."""
    regions = compile_program(of, capture="eager").schedule.forward.arranged.values()
    return [len(names) for region in regions for names in region.members.values()]


STACKED: dict[str, tuple[str, dict[str, str]]] = {
    "from a held copy": (STALE, {}),
    "delta rule": (DELTA, {}),
    "momentum": ("S = momentum(grad(M@chunk), rate, keep)  M <- keep * M + S", {}),
    "a right factor": ("M <- M * (keep * I - rate * k * k^T) - rate * grad(M@chunk)", {}),
    "a decay for each channel": ("M <- M * diag(sigmoid(k)) - rate * grad(M@chunk)", {}),
    "token by token": ("M <- tanh(M) - rate * grad(M)", {}),
    "a net": (STALE, NET),
    "a net that decays": ("M <- keep * M - rate * grad(M@chunk) - 0.1 * M", NET),
    "a vector": (
        "M <- keep * M - rate * grad(M@chunk)",
        {"KIND": "[e]", "ASKED": ".* k", "ANSWERS": ".* q"},
    ),
    "keys of their own": (STALE, {"KEY": "unit(A@chunk * q - k)"}),
    "keys of their own, delta rule": (DELTA, {"KEY": "unit(A@chunk * q - k)"}),
    "gates of their own": (DELTA, {"GATE": "keep .* keep"}),
    "gates and keys of their own": (
        STALE,
        {"GATE": "keep .* keep", "KEY": "unit(A@chunk * q - k)"},
    ),
    "nobody sees through": (DELTA, {"CLAUSES": "bptt none"}),
    "cut at the chunk": (STALE, {"CLAUSES": "bptt chunk"}),
    "reset within the sequence": (DELTA, {"CLAUSES": "reset every 4 token\n    bptt full"}),
    "never reset": (STALE, {"CLAUSES": "reset never\n    bptt none"}),
    "seldom": (
        "M <- 0.9 * M - 0.1 * grad(M)",
        {
            "per head every token": "per head every chunk",
            "minimize |M ASKED - v|^2 / 2": "minimize mean(|M * k - v|^2 over period)",
        },
    ),
}


@pytest.mark.parametrize("name", STACKED)
def test_equal_memories_are_one(name: str) -> None:
    update, changed = STACKED[name]
    found = program(update, changed)
    assert as_one(found) and set(as_one(found)) == {2}
    assert all("2 equal memories as one" in way for way in holds(found))


APART: dict[str, tuple[str, dict[str, str]]] = {
    "one reads the other at the same token": (STALE, {"KEY": "unit(A@after * q + k)"}),
    "one reads the other before its tick": (STALE, {"KEY": "unit(A * q + k)"}),
    "taken apart as they move": (STALE, {"READ": "A@after * q + B@after * k"}),
    "of different equations": (STALE, {"B = box": "B = other"}),
}


@pytest.mark.parametrize("name", APART)
def test_memories_that_are_not_equal_stay_as_they_are(name: str) -> None:
    update, changed = APART[name]
    other = BOX.replace("def box", "def other").replace("UPDATE", DELTA)
    changed = changed | {"\ndef box": f"{other}\ndef box"} if "B = box" in changed else changed
    found = program(update, changed)
    assert not as_one(found)
    holds(found)


def test_the_memories_of_hope_are_one() -> None:
    """Keys, values, rates and gates of a layer; what they are asked alike is asked once."""
    assert as_one(tiny("hope")) == [4] * 6
    source = compile_program(tiny("hope"), capture="eager").source
    region = source[source.index("def region_1") : source.index("def block_3")]
    assert region.count("torch.einsum") < 20


def test_what_nothing_reads_leaves_the_loop_over_pieces() -> None:
    """A momentum without a past is worked out after the last token; one that has a past is not."""
    step = compile_program(tiny("hope"), capture="eager")
    (of, *_) = step.schedule.forward.arranged.values()
    assert {name.rpartition(".")[2] for name in of.late} == {"W1", "W2"}
    assert not any("velocity" in state.name for state in of.carried)
    region = step.source[step.source.index("def region_1") : step.source.index("def block_3")]
    assert region.count("[:, -1:].detach()") == len(of.rows) > 0  # nothing learns from it
    kept = program("S = momentum(grad(M@chunk), rate, keep)  M <- keep * M + S", {})
    found = compile_program(kept, capture="eager").schedule.forward.arranged.values()
    assert not any(of.late for of in found)


def test_products_with_one_matrix_are_one_product() -> None:
    """A net that is to answer alike multiplies the difference of what it is asked."""
    asks = BOX.replace("|M ASKED - v|^2 / 2", "|M(k) - M@chunk(v)|^2 / 2")
    for word, text in (WORDS | NET | {"UPDATE": STALE}).items():
        asks = asks.replace(word, text)
    body = "    A = box(k, v, rate, keep)\n    return linear(rmsnorm(A@after(q)), [d])"
    found = model(body, asks)
    assert holds(found)
    (region,) = compile_program(found, capture="eager").schedule.forward.regions
    written = [n for n in region.inside if n.op == "einsum"]
    (of,) = compile_program(found, capture="eager").schedule.forward.arranged.values()
    assert len([n for n in of.inside if n.op == "einsum"]) == len(written) - 1
