"""The package from Python: a text, its training step, and its model as a plain module.

    program = nldsl.load("hope.nl", d=512)
    step = program.compile(device="cuda")
    state = step.init(seed=0)
    metrics = step(state, {"ids": ids})          one step of the optimizer, in place
    model = program.module(state)                a torch.nn.Module: ids -> logits

The names that stay as they are, are those of tests/language/python.md; all others are private. A
batch is a dict of tensors by the names of the inputs, or a list of such dicts, the micro-batches of
one step: [sequence, token] of whole numbers for `index(n)`, [sequence, token, ..] of numbers.
Whatever is wrong with a text, a batch or a name raises `nldsl.Diagnostics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nldsl import pipeline
from nldsl.core import program as core
from nldsl.diagnostic import Diagnostic, Diagnostics, counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import Tensor

    from nldsl.core.nodes import Node
    from nldsl.step.compile import CompiledStep
    from nldsl.step.loading import Files
    from nldsl.step.network import Network
    from nldsl.step.state import State

Batch: TypeAlias = "Mapping[str, Tensor]"
Batches: TypeAlias = "Batch | Sequence[Batch]"
Value: TypeAlias = "int | float | str | Sequence[Value]"  # what a dim or a constant can be
WIDE = 100  # columns of a table in a notebook


def load(path: str | Path, /, **sets: Value) -> Program:
    """A checked program from a file. `sets` replace dims, counts of clocks, and constants, as
    `--set` does. Raises OSError if there is no such file.
    """
    return Program(pipeline.load(path, written(sets)))


def loads(text: str, /, **sets: Value) -> Program:
    """The same from a text; imports are looked for in the current folder."""
    return Program(pipeline.load_text(text, sets=written(sets)))


def written(sets: Mapping[str, Value]) -> dict[str, str]:
    """As the command line has them: `[1, 4]`, `512`."""
    return {
        name: value if isinstance(value, str) else listed(value) for name, value in sets.items()
    }


def listed(value: Value) -> str:
    if isinstance(value, int | float | str):
        return str(value)
    return f"[{', '.join(map(listed, value))}]"


@dataclass(frozen=True, repr=False)
class Program:
    """A text that was checked. `checked` is its core equations; `findings` are warnings and notes.
    In a notebook it is the picture and the table of its levels.
    """

    checked: core.Program

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        return self.checked.findings

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """The sizes of each weight, by its qualified name."""
        return {
            name: tuple(axis.size for axis in weight.shape)
            for name, weight in self.checked.weights.items()
        }

    def compile(
        self,
        device: str = "cpu",
        precision: str = "float32",
        capture: str = "auto",
        steps: int = 1000,
        files: Mapping[str, str | Path] | None = None,
        budget: int | None = None,
    ) -> Step:
        """The training step.

        `precision` is float32, bfloat16 or float64; `capture` auto, split, whole or eager, as
        `nldsl compile` explains; `steps` is the length of the run, which schedules of rates follow;
        `files` are the paths of what the text loads, `{"base": "llama/"}`; `budget` the bytes that
        a step may take beside what is held before it. Raises Diagnostics (N73x, N8xx).
        """
        from nldsl.device import available

        return Step(
            self,
            pipeline.compile_program(
                self.checked,
                device=available(device),
                precision=precision,
                capture=capture,
                planned_steps=steps,
                files=self._files(files),
                budget=budget,
            ),
        )

    def module(self, state: State, stream: str = "") -> Network:
        """A `torch.nn.Module` with copies of what `state` holds: `forward(ids) -> logits`,
        [sequence, token, vocab], what the next token is scored with; or another stream, by its
        qualified name.

        What a level learns by gradients is a parameter, under its qualified name, so an optimizer
        of one's own finds the gradients that the levels find. Memories of the token clock start
        anew in each call, and learn as they read. Raises Diagnostics (N761).
        """
        from nldsl.step.network import Network

        dtype = next(x.dtype for x in state.tensors.values() if x.dim())
        return Network(self.checked, state, self._stream(stream), str(dtype).rpartition(".")[2])

    def interpret(
        self,
        batch: Batch,
        weights: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        files: Mapping[str, str | Path] | None = None,
    ) -> dict[str, Tensor]:
        """The streams at the top of the text, [sequence, token, ..] in float64, by the slow
        interpreter: the meaning that a step is held to. `weights` by qualified name, as a module's
        `state_dict()`; without them those of `seed`. Other memories of the step clock stand at
        their start.
        """
        from nldsl.oracle.interpreter import Oracle
        from nldsl.step.batches import checked, inputs_of

        given = weights and {name: weights[name] for name in self.checked.weights}
        oracle = Oracle(self.checked, given, seed, files=self._files(files))
        found = oracle.run(checked(inputs_of(self.checked), batch)).outputs
        return {name: x.detach() for name, x in found.items() if not isinstance(x, dict)}

    def _files(self, given: Mapping[str, str | Path] | None) -> Files:
        from nldsl.train import pretrained

        source = self.checked.source
        folder = source.folder if source else Path()
        paths = {name: str(path) for name, path in (given or {}).items()}
        return pretrained.read(self.checked, pretrained.places(self.checked, folder, paths)).files

    def _stream(self, name: str) -> Node:
        from nldsl.step.looking import named, unknown
        from nldsl.step.reading import logits_in

        known = named(self.checked)
        if name:
            if name not in known:
                raise unknown(name, known, "the program has no stream")
            return known[name]
        ordered = sorted(known, key=[core.REPORT, "loss"].__contains__, reverse=True)
        found = logits_in([known[name] for name in ordered])
        if found is None:
            raise Diagnostics(
                [
                    Diagnostic(
                        "N761",
                        "the program scores no next token, so its module has no logits",
                        help=f'another stream: `module(state, "{ordered[0]}")`',
                    )
                ]
            )
        return found

    def __repr__(self) -> str:
        source, levels = self.checked.source, len(self.checked.levels)
        memories = counted(len(self.checked.memories), "memory", "memories")
        name = source.name if source else "program"
        return f"<nldsl.Program {name}: {counted(levels, 'level')}, {memories}>"

    def _repr_svg_(self) -> str:
        from nldsl.view.families import family_graph
        from nldsl.view.page import svg

        source = self.checked.source
        return svg(family_graph(self.checked), Path(source.name).stem if source else "Levels")

    def _repr_html_(self) -> str:
        from nldsl.view.level_table import levels_table

        return self._repr_svg_() + html(levels_table(self.checked))


class Step:
    """One step of the optimizer. In a notebook it is the picture of its levels and the report of
    `nldsl compile`.
    """

    def __init__(self, program: Program, compiled: CompiledStep) -> None:
        self.program, self.compiled = program, compiled

    @property
    def source(self) -> str:
        """The step as one Python file that needs torch alone."""
        return self.compiled.source

    def init(self, seed: int = 0) -> State:
        """A fresh state; how an array begins depends on `seed` and its qualified name alone.
        `state.arrays` is all that it holds, by qualified name: views, written in place.
        """
        return self.compiled.init(seed)

    def __call__(self, state: State, batch: Batches) -> dict[str, Tensor]:
        """One step of the optimizer, in place, over all micro-batches. Gives the mean of each
        stream that levels learn from, as it was before: tensors of no axes, `loss` first.
        """
        return self.compiled(state, self._batches(batch))

    def losses(self, state: State, batch: Batches) -> dict[str, Tensor]:
        """What a step would give; the state stays as it is."""
        from nldsl.step import looking

        return looking.losses(self.compiled, state, self._batches(batch))

    def gradients(self, state: State, batch: Batches, stream: str = "") -> dict[str, Tensor]:
        """The gradient of the mean of a stream, by default that of `loss`, in each array that
        learns from it: by qualified name, of the array's sizes. The state stays as it is.
        """
        from nldsl.step import looking

        name = stream or self.compiled.reading.trained[0]
        return looking.gradients(self.compiled, state, self._batches(batch), name)

    def streams(self, state: State, batch: Batches, *names: str) -> dict[str, Tensor]:
        """Streams by qualified name, `loss.layer[0].mixer.k`: [sequence, token, ..], at the tokens
        at which they have a value. The state stays as it is. Raises Diagnostics (N761).
        """
        from nldsl.step import looking

        return looking.streams(self.compiled, state, self._batches(batch), names)

    def trace(self, state: State, batch: Batch) -> list[dict[str, int | float | str | None]]:
        """What memories learn at each token, as `nldsl trace` tells it: a row for each sequence,
        memory of the token clock and token, so sequences * memories * tokens in all.

        Keys: `sequence`, `token`, `bits` (or `loss`, where no token is scored: what foretelling the
        token cost), `memory` (its qualified name), `norm`, `change`, `objective`, `rate`,
        `retention`, `momentum`; None where there is no such number. Memories stand layer by layer.
        The state stays as it is. Raises Diagnostics (N738) without a memory that learns at tokens.
        """
        from nldsl.step.looking import seated
        from nldsl.trace import rows

        ((given, seats),) = seated(self.compiled, state, self._batches(batch))
        return rows(self.compiled, state, given, seats)

    def _batches(self, given: Batches) -> list[Batch]:
        from nldsl.step.batches import checked, inputs_of

        many = [given] if isinstance(given, Mapping) else [*given]
        return [checked(inputs_of(self.program.checked), batch) for batch in many]

    def _repr_svg_(self) -> str:
        return self.program._repr_svg_()

    def _repr_html_(self) -> str:
        from nldsl.view.report import report

        return self._repr_svg_() + html(report(self.program.checked, self.compiled))


def html(page: RenderableType) -> str:
    """A table as a notebook shows it."""
    from rich.console import Console

    console = Console(record=True, file=StringIO(), width=WIDE, markup=False, emoji=False)
    console.print(page)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
