"""PROGRAM, STATE <-> A HUGGING FACE FOLDER: `save_pretrained`, `from_pretrained`, `generate`.

    config.py     the texts of a program, as a configuration
    model.py      the network as a `PreTrainedModel`; what sequences carry, as its cache
    tokenizer.py  what a run reads text by, as a tokenizer of transformers
    export.py     a run -> a folder of transformers, arrays by name, graphs of torch.export

The extra `nldsl[hf]` brings transformers. A folder is read again where this package is there:

    from nldsl.hf import NldslForCausalLM
    model = NldslForCausalLM.from_pretrained("folder")
    model.generate(ids, attention_mask=mask, max_new_tokens=64)

Programs that load models by `trust_remote_code` alone, as lm-evaluation-harness does, find it by
nldsl_model.py of the folder, which imports it from here.

What is generated is learned from as it is written, as by `nldsl generate`; padding stands on the
left and is no part of a sequence.
"""

from __future__ import annotations

from nldsl.hf.config import NldslConfig
from nldsl.hf.model import NldslForCausalLM

__all__ = ["NldslConfig", "NldslForCausalLM"]
