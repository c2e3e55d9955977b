"""PROGRAM, STATE -> A PLAIN `torch.nn.Module`: one stream of the program, of whole sequences or of
one piece after the other.

    net(ids)                                        [sequence, token, ..]
    net.state_dict()                                {"loss.layer[0].swiglu.up": [4 * d, d], ..}
    values, carry = net.read({"ids": a})            the first tokens of some sequences
    values, carry = net.read({"ids": b}, carry)     those that follow

A name is a path of modules, `loss`, `layer[0]`, `swiglu`, as PyTorch has it. Memories of the token
clock begin at their start in each sequence and learn while they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nldsl.core.nodes import Node
from nldsl.core.program import ENDS, Program
from nldsl.schedule.plan import plan
from nldsl.step.batches import Batch, Input, checked, inputs_of
from nldsl.step.emit import Emitter
from nldsl.step.module import in_precision
from nldsl.step.reading import load_module
from nldsl.step.state import State, entries, leaves_of

VALUE = "value"  # what the emitted source calls the stream


class Carry(NamedTuple):
    """What sequences carry from one piece to the next, and how many tokens they had."""

    tensors: dict[str, Tensor | None]
    position: int


class Stream:
    """A stream as a function of arrays and inputs. It is made again from its text where it is
    copied.
    """

    def __init__(
        self,
        text: str,
        inputs: tuple[Input, ...],
        documents: bool,
        kinds: Mapping[str, str],
        room: Mapping[str, int],
    ) -> None:
        """`text` is emitted source, `documents`: does the program count them? `kinds` are those of
        what is carried, `room` of rows how many at most; see `Emitted`.
        """
        self.text, self.inputs, self.documents = text, inputs, documents
        self.kinds, self.room = kinds, room
        self.functions = load_module(text, "network")

    def __reduce__(self) -> tuple[type[Stream], tuple[object, ...]]:
        return Stream, (self.text, self.inputs, self.documents, self.kinds, self.room)

    def read(
        self, arrays: Mapping[str, Tensor], batch: Batch, carry: Carry | None = None
    ) -> tuple[Tensor, Carry]:
        """The stream over the next tokens of sequences, which begin here without a `carry`.

        Raises Diagnostics (N760) for a batch that is not what the inputs say.
        """
        like = next((x for x in arrays.values() if x.is_floating_point()), torch.zeros(()))
        inputs = {
            name: x.to(like) if x.is_floating_point() or name == ENDS else x.long()
            for name, x in checked(self.inputs, batch).items()
        }
        sequences, tokens = next(iter(inputs.values())).shape[:2]
        before, position = carry or (
            self.functions["start"](arrays, sequences, like.new_empty(0), {}),
            0,
        )
        values, new = self.functions["forward"](arrays, inputs, before, position, "loop")
        found: Tensor = values[VALUE]
        return found, Carry(new, position + tokens)


def emitted(program: Program, node: Node, precision: str) -> Stream:
    made = Emitter(plan(program, {VALUE: node})).emit()
    kinds = {name: kind for name, (_, kind) in made.carries.items()}
    text = in_precision(made, precision)
    return Stream(text, inputs_of(program), program.counts(ENDS), kinds, made.room)


class Branch(nn.Module):
    """The arrays whose names begin with one path. Where an array and a branch have one name, as
    `gate` beside `gate.bias`, the attribute is the branch.
    """

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        return self.__dict__["_modules"].get(name) or super().__getattr__(name)

    def put(self, name: str, array: Tensor, learned: bool | None) -> None:
        """`learned`: by a gradient or by none; None of what is no parameter."""
        first, _, rest = name.partition(".")
        if rest:
            part = self._modules.setdefault(first, Branch())
            assert isinstance(part, Branch)
            part.put(rest, array, learned)
        elif learned is None:
            self._buffers[first] = array
        else:
            self._parameters[first] = nn.Parameter(array, requires_grad=learned)

    def arrays(self) -> dict[str, Tensor]:
        """By qualified name, as they stand now: `torch.func` puts others in their place."""
        return {
            f"{path}.{name}" if path else name: x
            for path, part in self.named_modules()
            for name, x in (*part._parameters.items(), *part._buffers.items())
            if x is not None
        }


class Network(Branch):
    """A stream as a module. Parameters are the arrays that levels of the step clock learn by
    gradients, and without a gradient of their own the weights that none learns; any other array
    that a stream can read is a buffer. They are copies of what the state holds.
    """

    def __init__(self, program: Program, state: State, stream: Node, precision: str) -> None:
        super().__init__()
        self.stream = emitted(program, stream, precision)
        learned, apart = learners(program), {*entries(program).values()}
        for name, x in state.views.items():
            if name not in apart:
                self.put(name, x.detach().clone(), learned.get(name))

    def forward(self, *given: Tensor, **named: Tensor) -> Tensor:
        """The stream, [sequence, token, ..], at the tokens at which it has a value. Inputs stand in
        the order of the text: [sequence, token] of whole numbers, or [sequence, token, ..]; behind
        them where documents end, if the program counts them.

        Raises Diagnostics (N760) for tensors that are not what the inputs say.
        """
        names = [*(one.name for one in self.stream.inputs), ENDS]
        return self.read(dict(zip(names, given)) | named)[0]

    def read(self, batch: Batch, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """The stream over the next tokens of sequences, which begin here without a `carry`."""
        return self.stream.read(self.arrays(), batch, carry)


class Flat(nn.Module):
    """The same network with all arrays in one module, for what follows names from module to module:
    torch.export, transformers. A name has `/` where the text has a dot, `loss/layer[0]/mixer/q`.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stream = network.stream
        for name, x in network.named_parameters():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(x, x.requires_grad))
        for name, buffer in network.named_buffers():
            self.register_buffer(name.replace(".", "/"), buffer)

    def arrays(self) -> dict[str, Tensor]:
        own = (*self.named_parameters(), *self.named_buffers())
        return {name.replace("/", "."): x for name, x in own}

    def forward(self, *given: Tensor) -> Tensor:
        """As that of a `Network`."""
        names = [*(one.name for one in self.stream.inputs), ENDS]
        return self.read(dict(zip(names, given)))[0]

    def read(self, batch: Batch, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """As that of a `Network`."""
        return self.stream.read(self.arrays(), batch, carry)


def learners(program: Program) -> dict[str, bool]:
    """The arrays that are parameters of a module: whether a gradient moves them."""
    moved = {node["memory"] for node in program.nodes() if node.op == "grad"}
    moved |= {w.owner or "" for w in program.weights.values() if w.worker in moved}
    return {
        name: memory.name in moved
        for memory in program.memories.values()
        if program.slow(memory.name) and program.levels[memory.level].parent is None
        for name in leaves_of(memory, memory.name)
        if memory.name in moved or memory.slots is not None
    }
