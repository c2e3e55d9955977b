"""A network as a model of transformers, with what its sequences carry as the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from nldsl.api import Program
from nldsl.core.program import ENDS
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.hf.config import NldslConfig
from nldsl.pipeline import compile_program
from nldsl.step.loading import sized
from nldsl.step.network import Carry, Flat, Network


class Carried:
    """What each sequence of a batch carries. Sequences that have read the same number of tokens
    are read together: `rows` says which.
    """

    def __init__(self, groups: Sequence[tuple[Tensor, Carry]]) -> None:
        self.groups = groups

    def reorder_cache(self, rows: Tensor) -> None:
        """Row i becomes what row `rows[i]` was: beams go on from one another."""
        found: list[tuple[Tensor, Carry]] = []
        for own, carry in self.groups:
            place = {int(row): i for i, row in enumerate(own)}
            new = [i for i, row in enumerate(rows.tolist()) if row in place]
            if new:
                index = torch.tensor([place[int(rows[i])] for i in new], device=rows.device)
                picked = {n: x if x is None else x[index] for n, x in carry.tensors.items()}
                found.append((torch.tensor(new), Carry(picked, carry.position)))
        self.groups = found


@dataclass
class Written(ModelOutput):
    """`logits` [sequence, token, vocab]; zeros where a token is padding."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache: Carried | None = None


class NldslForCausalLM(PreTrainedModel, GenerationMixin):
    """The network whose logits score the next token. Its weights are those of seed 0 until others
    are loaded; memories that learn while they read begin at their start in each sequence.
    """

    config_class = NldslConfig
    base_model_prefix = "weights"
    main_input_name = "input_ids"
    _is_stateful = True

    def __init__(self, config: NldslConfig, network: Network | None = None) -> None:
        super().__init__(config)
        self.weights = Flat(network or fresh(config))
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """A network is made with its start."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: Carried | None = None,
        use_cache: bool | None = None,
        **_: object,
    ) -> Written:
        """`input_ids` [sequence, token], those that follow what `cache` has read. `attention_mask`,
        of the same sizes, is 0 at padding, which stands on the left. `labels` [sequence, token]:
        `loss` is the mean cross entropy of each next one that is not -100.
        """
        read = [
            self.piece(input_ids, *begin) for begin in beginnings(input_ids, attention_mask, cache)
        ]
        logits = read[0][1].new_zeros((*input_ids.shape, read[0][1].shape[-1]))
        for rows, values, _carry in read:
            logits[rows, -values.shape[1] :] = values
        loss = None
        if labels is not None:
            said = logits[:, :-1].flatten(0, 1)
            loss = F.cross_entropy(said, labels[:, 1:].flatten(), ignore_index=-100)
        after = Carried([(rows, carry) for rows, _, carry in read])
        return Written(loss, logits, None if use_cache is False else after)

    def piece(
        self, ids: Tensor, rows: Tensor, skip: int, carry: Carry | None
    ) -> tuple[Tensor, Tensor, Carry]:
        """The logits of some sequences of a batch, without their first tokens, and their carry."""
        tokens = ids[rows, skip:]
        batch = {self.weights.stream.inputs[0].name: tokens}
        if self.weights.stream.documents:
            batch[ENDS] = tokens == self.config.boundary
        return rows, *self.weights.read(batch, carry)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: Carried | None = None,
        use_cache: bool | None = None,
        **_: object,
    ) -> dict[str, object]:
        """What `generate` hands to `forward`: with a cache the last token alone."""
        ids = input_ids if cache is None else input_ids[:, -1:]
        mask = attention_mask if cache is None else None
        return {"input_ids": ids, "attention_mask": mask, "cache": cache, "use_cache": use_cache}

    def _prepare_cache_for_generation(self, *_: object, **__: object) -> None:
        """The first pass makes it."""


def beginnings(
    ids: Tensor, mask: Tensor | None, cache: Carried | None
) -> list[tuple[Tensor, int, Carry | None]]:
    """Sequences that are read together: which they are, how many tokens of padding they have, and
    what they carry. Raises Diagnostics (N760) for a sequence that is all padding.
    """
    if cache is not None:
        return [(rows, 0, carry) for rows, carry in cache.groups]
    every = torch.arange(len(ids), device=ids.device)
    if mask is None or bool(mask[:, 0].all()):
        return [(every, 0, None)]
    first = mask.long().argmax(1)
    if not bool(mask.any(1).all()):
        raise Diagnostics(
            [
                Diagnostic(
                    "N760",
                    "a sequence of the batch is padding alone",
                    help="a token in every sequence, whose mask is 1",
                )
            ]
        )
    return [(every[first == skip], skip, None) for skip in sorted({*first.tolist()})]


def fresh(config: NldslConfig) -> Network:
    """The network of a configuration as it begins, in the default precision of torch."""
    program = config.program()
    precision = "float64" if torch.get_default_dtype() == torch.float64 else "float32"
    files: dict[str, dict[str, Tensor]] = {}
    with torch.device("cpu"):  # what is loaded is written over it
        for file, name, sizes in sized(program):
            files.setdefault(file, {})[name] = torch.zeros(sizes)
        step = compile_program(program, precision=precision, capture="eager", files=files)
        return Program(program).module(step.init(0))


AutoConfig.register("nldsl", NldslConfig)
AutoModelForCausalLM.register(NldslConfig, NldslForCausalLM)
