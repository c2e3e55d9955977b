"""A TRAINED RUN -> FILES FOR OTHERS.

safetensors    model.safetensors: each array by its qualified name; names.json: what each of them is
torch          model.pt2: the network as a graph of torch.export, ids -> logits, of one size
hf             a folder that transformers reads (extra `nldsl[hf]`)
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import safetensors.torch
import torch

from nldsl import writing
from nldsl.api import Program
from nldsl.core import program as core
from nldsl.extras import needs
from nldsl.step.network import Flat, Network
from nldsl.step.state import State, entries, layout
from nldsl.train import checkpoint, faults
from nldsl.train.bench import random_batch
from nldsl.train.run import Run, trained

TENSORS, NAMES, GRAPH = "model.safetensors", "names.json", "model.pt2"


def write(run: Run, form: str, out: Path) -> str:
    """Writes the files of a form to a folder; returns what they are. Raises N713 if the disk
    refuses, N716 if nothing was saved, N761 if the model has no logits, N890 without transformers.
    """
    _, state = trained(run)
    if form == "hf":
        return in_hugging_face(run, state, out)
    if form == "torch":
        network = Program(run.program).module(state)
        written(out, {GRAPH: graph(run, network)})
        return f"{out}: {GRAPH}, of sequences of {run.settings.length} tokens"
    arrays = {
        name: checkpoint.alone(x) for name, x in state.views.items() if name in kept(run, state)
    }
    names = json.dumps(names_of(run.program, state), indent=2) + "\n"
    written(out, {TENSORS: safetensors.torch.save(arrays), NAMES: names.encode()})
    return f"{out}: {TENSORS}, {NAMES}: {len(arrays)} arrays"


def kept(run: Run, state: State) -> set[str]:
    """The arrays that a stream can read; what optimizers keep is none of them, nor what each worker
    holds in a step.
    """
    return {*layout(run.program, state.tensors)} - {*entries(run.program).values()}


def names_of(program: core.Program, state: State) -> dict[str, dict[str, object]]:
    """Of each array: the memory that holds it, its sizes, and where the axes have names, they."""
    found: dict[str, dict[str, object]] = {}
    apart = {*entries(program).values()}
    for name, (owner, _, _, sizes) in layout(program, state.tensors).items():
        if name in apart:
            continue
        weight = program.weights.get(name)
        axes = {"axes": [axis.name for axis in weight.shape]} if weight else {}
        found[name] = {"memory": owner, "sizes": sizes, **axes}
    return found


def graph(run: Run, network: Network) -> bytes:
    """One sequence of the length of the run, as torch.export has it."""
    batch = random_batch(run.program, 1, run.settings.length, "cpu")
    with torch.no_grad():
        made = torch.export.export(Flat(network.cpu()).eval(), tuple(batch.values()))
    file = BytesIO()
    torch.export.save(made, file)
    return file.getvalue()


def in_hugging_face(run: Run, state: State, out: Path) -> str:
    with needs("hf"):
        from nldsl.hf import NldslForCausalLM
        from nldsl.hf.config import configured
    network = Program(run.program).module(state)
    config = configured(run.record.texts, run.record.spec, run.settings.sets)
    try:
        NldslForCausalLM(config, network.cpu()).save_pretrained(out)
    except OSError as error:
        raise faults.cannot_write(out, error) from None
    return f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}"


def written(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            writing.replace(folder / name, content)
    except OSError as error:
        raise faults.cannot_write(folder, error) from None
