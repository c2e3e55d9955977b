"""A program as a configuration: its texts, and what was set in them."""

from __future__ import annotations

from transformers import PreTrainedConfig

from nldsl.core.program import Program
from nldsl.train.specs import program_of

MODULE = "nldsl_model"  # the file of a folder by which programs that trust it find the model
SOURCE = """from nldsl.hf import NldslConfig, NldslForCausalLM

__all__ = ["NldslConfig", "NldslForCausalLM"]
"""


class NldslConfig(PreTrainedConfig):
    """`texts`: the spec and what it imports, by file name; `spec`: which of them it is; `sets`:
    dims, clocks and constants that were set, as `--set` has them; `boundary`: the token that ends
    a document, for a program that counts documents.
    """

    model_type = "nldsl"

    texts: dict[str, str] | None = None
    spec: str = ""
    sets: dict[str, str] | None = None
    vocab_size: int = 256
    boundary: int = 0
    use_cache: bool = True

    def program(self) -> Program:
        """The checked program. Raises Diagnostics if this version refuses it."""
        return program_of(self.texts or {}, self.spec, self.sets or {})


def configured(
    texts: dict[str, str], spec: str, sets: dict[str, str], boundary: int | None = None
) -> NldslConfig:
    """Of a spec and what it imports. `boundary` is the token that ends a document: there `generate`
    ends too.
    """
    size = next(iter(program_of(texts, spec, sets).vocab.values()), 0)
    return NldslConfig(
        texts=texts,
        spec=spec,
        sets=sets,
        vocab_size=size,
        boundary=boundary or 0,
        eos_token_id=boundary,
        pad_token_id=boundary,
        architectures=["NldslForCausalLM"],
        auto_map={
            "AutoConfig": f"{MODULE}.NldslConfig",
            "AutoModelForCausalLM": f"{MODULE}.NldslForCausalLM",
        },
    )
