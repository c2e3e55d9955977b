"""A TRAINED RUN -> FILES FOR OTHERS.

safetensors    model.safetensors: each array by its qualified name; names.json: what each of them is
torch          model.pt2: the network as a graph of torch.export, ids -> logits, of one size
program        forward.pt2: the same; step.pt2: state, ids -> logits, state, of any number of
               sequences; start.safetensors: the state of one before its first token
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
from nldsl.step.decoding import Decoding, begun, growing
from nldsl.step.network import Flat, Network
from nldsl.step.state import State, entries, layout
from nldsl.train import checkpoint, faults
from nldsl.train.bench import random_batch
from nldsl.train.run import Run, trained

TENSORS, NAMES, GRAPH = "model.safetensors", "names.json", "model.pt2"
FORWARD, STEP, START = "forward.pt2", "step.pt2", "start.safetensors"


def write(run: Run, form: str, out: Path) -> str:
    """Writes the files of a form to a folder; returns what they are. Raises N713 if the disk
    refuses, N716 if nothing was saved, N761 if the model has no logits, N762 if it has no step of
    decoding, N890 without transformers.
    """
    _, state = trained(run)
    if form == "hf":
        return in_hugging_face(run, state, out)
    if form == "torch":
        network = Program(run.program).module(state)
        written(out, {GRAPH: graph(run, network)})
        return f"{out}: {GRAPH}, of sequences of {run.settings.length} tokens"
    if form == "program":
        return in_two_graphs(run, Program(run.program).module(state), out)
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
    return saved(Flat(network.cpu()), tuple(batch.values()), None)


def in_two_graphs(run: Run, network: Network, out: Path) -> str:
    """The forward pass over a sequence of the length of the run, and one step of decoding."""
    if (why := growing(network)) is not None:
        raise faults.no_step(run.folder, why)
    network = network.cpu()
    ids, *ended = (x[:, :1] for x in random_batch(run.program, 2, 2, "cpu").values())
    state, sequences = begun(network, 2), torch.export.Dim("sequences")
    free = {name: {0: sequences} if x.dim() else {} for name, x in state.items()}
    sizes = free, *({0: sequences} for _ in (ids, *ended))
    files = {
        FORWARD: graph(run, network),
        STEP: saved(Decoding(network), (state, ids, *ended), sizes),
        START: safetensors.torch.save(begun(network, 1)),
    }
    written(out, files)
    return f"{out}: {', '.join(files)}; {FORWARD} is of sequences of {run.settings.length} tokens"


def saved(
    module: torch.nn.Module, given: tuple[object, ...], sizes: tuple[object, ...] | None
) -> bytes:
    """A graph of torch.export, in which some sizes are free."""
    with torch.no_grad():
        made = torch.export.export(module.eval(), given, dynamic_shapes=sizes)
    file = BytesIO()
    torch.export.save(made, file)
    return file.getvalue()


def in_hugging_face(run: Run, state: State, out: Path) -> str:
    with needs("hf"):
        from nldsl.hf import NldslForCausalLM
        from nldsl.hf.config import MODULE, SOURCE, configured
        from nldsl.hf.tokenizer import tokenizer_of
    network, vocabulary = Program(run.program).module(state), run.vocabulary
    known = run.record.texts, run.record.spec, run.settings.sets
    config = configured(*known, vocabulary.boundary if vocabulary else None)
    try:
        NldslForCausalLM(config, network.cpu()).save_pretrained(out)
        if vocabulary is not None:
            tokenizer_of(vocabulary).save_pretrained(out)
        writing.replace(out / f"{MODULE}.py", SOURCE)
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
