"""What others publish, at the sizes of the benchmark: name -> a training step. Each is optional.

titans-pytorch, NeuralMemory   its memory as the sequence layer, compiled; gradients of a chunk
                               at the weights that the sequence begins with, its default
titans-pytorch, MAC            its transformer, without the compiler, which does not end within
                               five minutes
nested-learning, Hope          a step as its own trainer makes it: chunk by chunk a backward
                               pass, then a second forward pass that updates memories; its
                               memories learn in pieces of a chunk, its continuum at multiples
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, metadata, util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.systems import (
    CHUNK,
    LENGTH,
    SIZES,
    VOCAB,
    LanguageModel,
    System,
    bytes_read,
    count_of,
    fitted,
    trained,
)

INSTALL = "pip install nldsl[bench]"
MODULES = {"titans-pytorch": "titans_pytorch", "nested-learning": "nested_learning"}
CONTINUUM = (1, 2, 4, 8)  # chunks in a period of each of its levels


def version(name: str) -> str:
    """Of the package that a system is from; "" if it is none of a peer, or not installed."""
    package = name.partition(",")[0]
    return metadata.version(package) if package in MODULES and is_installed(name) else ""


def is_installed(name: str) -> bool:
    package = name.partition(",")[0]
    return package not in MODULES or util.find_spec(MODULES[package]) is not None


class Recall(nn.Module):
    """What titans-pytorch's memory says, without the state that it returns beside it."""

    def __init__(self) -> None:
        super().__init__()
        d, heads = SIZES["d"], SIZES["head"]
        self.memory = owned(
            import_module("titans_pytorch").NeuralMemory(
                dim=d,
                dim_head=d // heads,
                heads=heads,
                chunk_size=CHUNK,
                qk_rmsnorm=True,
                default_model_kwargs={"depth": 2, "expansion_factor": 2.0},
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.memory(x)[0]
        return said


def owned(model: nn.Module) -> nn.Module:
    """Its learned starts repeat one head; an optimizer wants numbers of their own."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    return model


def neural_memory(parameters: int) -> System:
    import_module("titans_pytorch")  # makes tensors, which it may not where sizes are counted
    model = fitted(lambda hidden: LanguageModel(Recall, hidden), parameters)
    return trained(model, [part for part in model.modules() if isinstance(part, Recall)])


def mac(parameters: int) -> System:
    d, depth, heads = SIZES["d"], SIZES["depth"], SIZES["head"]
    titans = import_module("titans_pytorch")

    def made(hidden: int) -> nn.Module:
        """Its hidden layer is two thirds of what it is told."""
        return Losing(
            titans.MemoryAsContextTransformer(
                num_tokens=VOCAB,
                dim=d,
                depth=depth,
                segment_len=CHUNK,
                num_persist_mem_tokens=4,
                dim_head=d // heads,
                heads=heads,
                ff_mult=1.5 * hidden / d,
                neural_memory_segment_len=CHUNK,
                neural_memory_model=titans.MemoryMLP(d // heads, depth=2, expansion_factor=2.0),
                neural_memory_kwargs={
                    "dim_head": d // heads,
                    "heads": heads,
                    "qk_rmsnorm": True,
                },
            )
        )

    return trained(fitted(made, parameters), [])


class Losing(nn.Module):
    """A transformer that is asked for its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = owned(model)

    def forward(self, ids: Tensor) -> Tensor:
        loss: Tensor = self.model(ids, return_loss=True)
        return loss


def hope(parameters: int) -> System:
    """Its width is that of the whole model: nothing else in it can be chosen."""
    model: Any = fitted(hope_of_width, parameters)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    ids = bytes_read()

    def step() -> None:
        state = model.init_fast_state()
        for start in range(0, LENGTH, CHUNK):
            heard(model, ids[:, max(0, start - 1) : start + CHUNK], state)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return System(count_of(model), step, step)


def hope_of_width(d: int) -> nn.Module:
    nested = import_module("nested_learning.model")
    level = import_module("nested_learning.levels").LevelSpec
    model: nn.Module = nested.HOPEModel(
        nested.ModelConfig(
            vocab_size=VOCAB,
            dim=d,
            num_layers=SIZES["depth"],
            heads=SIZES["head"],
            titan_level=level(name="titan", update_period=CHUNK),
            cms_levels=[level(name=f"every_{n}", update_period=n * CHUNK) for n in CONTINUUM],
            block_variant="hope_selfmod",
            self_mod_chunk_size=CHUNK,
        )
    )
    return model


def heard(model: Any, ids: Tensor, state: Any) -> None:
    """A chunk, with the token before it: gradients, then the updates of what learns in it."""
    logits, _, outputs = model.forward_with_block_outputs(ids, fast_state=state)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    signals = torch.autograd.grad(loss, outputs, retain_graph=True)
    torch.autograd.backward(loss)
    with torch.no_grad():
        model(ids, teach_signals=[*signals], fast_state=state)


SYSTEMS: dict[str, Callable[[int], System]] = {
    "titans-pytorch, NeuralMemory": neural_memory,
    "titans-pytorch, MAC": mac,
    "nested-learning, Hope": hope,
}
