"""The names in `load("base", ..)` -> tensors: safetensors files of any maker, or runs of this
project.

    base    as `--load base=PATH` says, else `base` or `base.safetensors` beside the spec
    PATH    a .safetensors file; a run; a folder with model.safetensors, or with shards and their
            index

A run's checkpoint is read by the qualified names of its weights, `loss.language_model.swiglu.gate`;
what its optimizers keep is not a weight. Only the tensors that the program loads are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from torch import Tensor

from nldsl.core.program import Program
from nldsl.core.theirs import names
from nldsl.diagnostic import Diagnostic
from nldsl.step.loading import loads
from nldsl.train import checkpoint, faults
from nldsl.train.records import Lanes, Manifest, told

INDEX = "model.safetensors.index.json"
WHOLE = (checkpoint.FILE, "model.safetensors")


class Index(BaseModel):
    """The file beside shards: tensor -> the file that holds it."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class Pretrained:
    """`files`: name in the spec -> tensors that the program loads, by their names there.

    `unread`: those that it does not.
    """

    files: dict[str, dict[str, Tensor]]
    unread: dict[str, tuple[str, ...]]

    def findings(self, program: Program) -> list[Diagnostic]:
        """A warning for each file with tensors that nothing loads: a map that is one to one leaves
        none.
        """
        spans = {node["file"]: node.span for node in loads(program)}
        return [
            Diagnostic(
                "N733",
                f"`{name}` holds {len(left)} tensors that nothing loads: "
                f"{faults.listed(list(left))}",
                spans[name],
                severity="warning",
                help="load them, or be sure that the model is the same without them",
            )
            for name, left in self.unread.items()
            if left
        ]


def places(program: Program, folder: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """The path of each file that the program loads.

    Raises N730 for one that is nowhere, N734 for one in `given` that nothing loads.
    """
    known = list(dict.fromkeys(node["file"] for node in loads(program)))
    for name in given:
        if name not in known:
            raise faults.loads_nothing(name, known)
    found: dict[str, Path] = {}
    for node in loads(program):
        name = node["file"]
        tried = (
            [Path(given[name])]
            if name in given
            else [folder / name, folder / f"{name}.safetensors"]
        )
        path = next((path for path in map(tensors_at, tried) if path is not None), None)
        if path is None:
            raise faults.no_file(name, tried, node.span)
        found[name] = path
    return found


def tensors_at(path: Path) -> Path | None:
    """The file of tensors that a path means."""
    if path.is_dir():
        return next((path / name for name in (*WHOLE, INDEX) if (path / name).is_file()), None)
    return path if path.is_file() else None


def read(program: Program, found: Mapping[str, Path]) -> Pretrained:
    """Raises N712 for a file that is not a whole file of tensors."""
    files: dict[str, dict[str, Tensor]] = {}
    unread = {}
    for name, path in found.items():
        keys = [node["key"] for node in loads(program) if node["file"] == name]
        wanted = {tensor for key in keys for tensor in names(key)}
        files[name], there = tensors(path, wanted)
        unread[name] = tuple(sorted(there - wanted))
    return Pretrained(files, unread)


def tensors(path: Path, wanted: set[str]) -> tuple[dict[str, Tensor], set[str]]:
    """The wanted tensors of a file that it has, and the names of all it has."""
    if path.name == INDEX:
        shards = shards_of(path)
        found: dict[str, Tensor] = {}
        for shard in sorted({shards[key] for key in wanted & set(shards)}):
            found |= tensors(path.parent / shard, wanted)[0]
        return found, set(shards)
    if checkpoint.of_this_project(path) and isinstance(
        manifest := checkpoint.said(path, Manifest, Lanes), Manifest
    ):
        saved = checkpoint.tensors_of(path)
        if lacks := sorted({*manifest.weights} - saved.keys()):
            raise faults.other_tensors(path, lacks)
        return {key: saved[key] for key in sorted(wanted & {*manifest.weights})}, {
            *manifest.weights
        }
    with checkpoint.opened(path) as file:
        there = set(file.keys())
        return {key: file.get_tensor(key) for key in sorted(wanted & there)}, there


def shards_of(path: Path) -> dict[str, str]:
    """Raises N712 for an index that does not say which file holds which tensor."""
    try:
        return Index.model_validate_json(path.read_bytes()).weight_map
    except OSError as error:
        raise faults.damaged(path, str(error.strerror)) from None
    except ValidationError as error:
        raise faults.damaged(path, told(error)) from None


def fingerprint(path: Path) -> str:
    """SHA-256 of a file of tensors, shards by their index.

    Raises N702 for a file that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise faults.unreadable(path, error) from None
    return digest.hexdigest()
