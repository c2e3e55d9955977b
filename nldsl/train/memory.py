"""LANES -> FILE -> LANES: what was learned while reading, apart from the weights that read.

A run writes `memory.safetensors` at every save, beside its checkpoint (which holds the lanes too, so that a resume needs one file).
Any run of the same spec can begin with it, whatever it has learned by then and however many lanes it has.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nldsl.train import checkpoint, faults

FILE = "memory.safetensors"


def save(path: Path, lanes: Mapping[str, Tensor]) -> None:
    """Raises N718 if nothing outlives a sequence, N713 if the disk refuses."""
    if not lanes:
        raise faults.nothing_outlives()
    checkpoint.write(path, lanes, {"lanes": len(next(iter(lanes.values())))})


def load(path: Path, lanes: Mapping[str, Tensor]) -> None:
    """Copy a file into `lanes`, in place: lane l takes the file's lane l, those beyond its last one begin with its first again.

    Raises N718 if nothing outlives a sequence, N717 if the file is missing, damaged or of another program."""
    if not lanes:
        raise faults.nothing_outlives()
    if not path.is_file():
        raise faults.no_memory(path)
    with checkpoint.opened(path) as file, torch.no_grad():
        other = set(file.keys()) ^ set(lanes)
        saved = {name: file.get_tensor(name) for name in lanes} if not other else {}
        other |= {name for name, x in saved.items() if x.shape[1:] != lanes[name].shape[1:] or x.is_floating_point() != lanes[name].is_floating_point()}
        if other:
            raise faults.other_memory(path, sorted(other))
        for name, lane in lanes.items():
            lane.copy_(saved[name][torch.arange(len(lane)) % len(saved[name])])
