"""A compiled step at work without learning on the step clock: how well it predicts a text, and what
it writes.

Memories on the token clock go on learning while they read, unless they are frozen; those that
outlive a sequence do so in their lanes, see lanes.py. The step clock does not move.
"""

from __future__ import annotations

import linecache
import types
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nldsl.core.nodes import Node, walk
from nldsl.core.program import ENDS, REPORT
from nldsl.core.timing import at_tokens, lookahead
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.schedule.faults import Unsupported
from nldsl.schedule.plan import plan
from nldsl.step.batches import Batch
from nldsl.step.emit import Emitter
from nldsl.step.freeze import frozen
from nldsl.step.lanes import Lanes, onward, seat
from nldsl.step.module import in_precision

if TYPE_CHECKING:
    from nldsl.step.compile import CompiledStep
    from nldsl.step.state import State

Module = dict[str, Any]  # the names of an emitted file
# what is carried from piece to piece of a sequence, and how many tokens they had
Carried = tuple[dict[str, Tensor | None], int]


def load_module(text: str, name: str) -> Module:
    """Runs emitted source; tracebacks and debuggers see its lines."""
    filename = f"<nldsl {name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    module = types.ModuleType(name)
    exec(compile(text, filename, "exec"), module.__dict__)
    return module.__dict__


def of_the_next(node: Node) -> bool:
    """Is it the cross entropy of the next token, and nothing else?"""
    return (
        node.op == "cross_entropy"
        and node.args[1].op == "ahead"
        and node.args[1].args[0].op == "input"
    )


def logits_in(streams: Iterable[Node]) -> Node | None:
    """What the next token is scored with in the first stream that does so; None if none does."""
    found = [n for node in streams for n in reversed([*walk(node)]) if n.op == "cross_entropy"]
    found.sort(key=lambda n: (not of_the_next(n), lookahead(n)[n] != 1))
    return found[0].args[0] if found else None


class Reader:
    """What a compiled step does beside its steps."""

    def __init__(self, step: CompiledStep) -> None:
        self.step = step
        self._modules: dict[tuple[str, bool], Module] = {}
        self._emitted: dict[tuple[str, ...], Module] = {}
        if step.heard and self.scored[0] not in step.schedule.steps.streams:
            self.module(*self.scored)  # what cannot be scored is told before it is trained

    def module(self, name: str, node: Node, freeze: bool = False) -> Module:
        """Emitted source of one stream, uncompiled; beside a report what the levels hear, if they
        leave something in the lanes.
        """
        if (name, freeze) not in self._modules:
            beside = (
                self.step.schedule.steps.streams
                if self.step.emitted.lasting and name == REPORT
                else {}
            )
            emitted = Emitter(
                plan(
                    frozen(self.step.program) if freeze else self.step.program,
                    {**beside, name: node},
                )
            ).emit()
            if name == REPORT and (
                alone := next(iter(emitted.lasting.keys() - self.step.emitted.lasting.keys()), None)
            ):
                raise Unsupported(
                    f"`{alone}`, which outlives a sequence, read by what is reported alone",
                    node,
                    "read it in the loss too",
                )
            self._modules[name, freeze] = load_module(
                in_precision(emitted, self.step.precision), f"read {name}"
            )
        return self._modules[name, freeze]

    def emitted(self, streams: Mapping[str, Node]) -> Module:
        """Emitted source of these streams, uncompiled."""
        key = tuple(streams)
        if key not in self._emitted:
            found = Emitter(plan(self.step.program, streams)).emit()
            self._emitted[key] = load_module(in_precision(found, self.step.precision), "streams")
        return self._emitted[key]

    @cached_property
    def scored(self) -> tuple[str, Node]:
        """What a trained model is scored by: what the text reports, else `loss`, else the stream
        that is heard first. A stream that levels hear has the name that they hear it by.
        """
        outputs, heard = self.step.program.outputs, self.step.schedule.steps.streams
        found = outputs.get(REPORT) or outputs.get("loss")
        if found is None or found.type != () or not at_tokens(self.step.program, found):
            return self.step.heard[0], heard[self.step.heard[0]]
        return next((name for name, node in heard.items() if node is found), REPORT), found

    @property
    def trained(self) -> tuple[str, Node]:
        """The stream whose mean a step calls its loss. Raises Diagnostics if there is none."""
        if not self.step.heard:
            words = "a run of a program without a stream of numbers: there is nothing to learn from"
            raise Diagnostics(
                [
                    Diagnostic(
                        "N801",
                        f"this compiler cannot lower {words}",
                        help="a level that learns from a stream: `minimize mean(loss over period)`",
                    )
                ]
            )
        name = "loss" if "loss" in self.step.heard else self.step.heard[0]
        return name, self.step.schedule.steps.streams[name]

    def extent(self, node: Node) -> tuple[int, int]:
        """How many tokens of a sequence have no term of a stream: at its begin, and at its end."""
        return self.step.valid_from(node), lookahead(node)[node]

    def evaluate(
        self,
        state: State,
        batch: Batch,
        carry: Carried | None = None,
        lanes: Lanes | None = None,
    ) -> tuple[Tensor, Carried]:
        """What is scored, [sequence, token] for the tokens that have a term, and the carry for the
        next piece of the sequences.

        A sequence without a carry begins where its lane in `lanes` stands, else at the start; see
        `read_on`.
        """
        name, node = self.scored
        inputs = self.step.place(batch)
        first = next(iter(inputs.values()))
        fresh, apart = carry is None, name not in self.step.schedule.steps.streams
        begun = self.module(name, node) if apart else self.step.module
        with torch.set_grad_enabled(
            fresh and self.step.capture == "split"
        ):  # the graphs of training serve here too
            carried, position = carry or (
                begun["start"](state.views, first.shape[0], self.like(), lanes),
                0,
            )
            if fresh and not apart and self.step.capture != "eager":
                outputs, new = self.step.module["forward"](
                    state.views, inputs, carried, 0, self.step.mode
                )
            else:
                outputs, new = self.module(name, node)["forward"](
                    state.views, inputs, carried, position, "loop"
                )
        new = {key: x if x is None else x.detach() for key, x in new.items()}
        return outputs[name].detach(), (new, position + first.shape[1])

    def like(self) -> Tensor:
        """A tensor of the kind that the step computes with."""
        return torch.empty(0, dtype=self.step.dtype, device=self.step.device)

    def seats(self, count: int) -> Lanes:
        """So many lanes that have read nothing; empty if nothing outlives a sequence."""
        return seat(self.step.emitted, count, self.step.device, self.step.dtype)

    def read_on(self, lanes: Lanes, carry: Carried) -> Lanes:
        """What lanes hold after a sequence whose last piece was evaluated with `carry`."""
        return onward(lanes, {name: x for name, x in carry[0].items() if x is not None})

    def logits(self) -> Node | None:
        """What the next token is scored with: in what is scored, or else in what is learned from.

        None of a model that does not write.
        """
        streams = [self.scored[1], self.trained[1], *self.step.schedule.steps.streams.values()]
        return logits_in(streams)

    def predict(
        self,
        state: State,
        ids: Tensor,
        carry: Carried | None = None,
        lanes: Lanes | None = None,
        freeze: bool = False,
        boundary: int = 0,
    ) -> tuple[Tensor, Carried]:
        """Scores of the token after `ids` [sequence, token], [sequence, vocab], and the carry.

        Sequences without a carry begin as in `evaluate`. Memories learn from every token; with
        `freeze` from none. The token `boundary` ends a document. No gradient is kept.
        """
        logits = self.logits()
        assert logits is not None, "a model without a cross entropy writes nothing"
        module = self.module("logits", logits, freeze)
        ids = ids.to(self.step.device)
        batch = self.step.place({next(iter(self.step.program.inputs)): ids, ENDS: ids == boundary})
        with torch.no_grad():
            before, position = carry or (
                module["start"](state.views, len(ids), self.like(), lanes),
                0,
            )
            outputs, new = module["forward"](state.views, batch, before, position, "loop")
        return outputs["logits"][:, -1], (new, position + ids.shape[1])
