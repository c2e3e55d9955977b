"""LANES -> FILE -> LANES: the memories that learned while reading, apart from the weights.

A run writes `memory.safetensors` at every save, beside its checkpoint (which holds the lanes too,
so that a resume needs one file). Any run of the same spec can begin with it, whatever it has
learned by then and however many lanes it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nldsl.train import checkpoint, faults
from nldsl.train.records import Lanes

FILE = "memory.safetensors"


def save(path: Path, lanes: Mapping[str, Tensor]) -> None:
    """Raises N718 if nothing outlives a sequence, N721 if a lane is not finite, N713 if the disk
    refuses.
    """
    if not lanes:
        raise faults.nothing_outlives()
    if (name := broken(lanes)) is not None:
        raise faults.memory_not_finite(path, name)
    checkpoint.write(path, lanes, Lanes(lanes=len(next(iter(lanes.values())))))


def load(path: Path, lanes: Mapping[str, Tensor]) -> None:
    """Copy a file into `lanes`, in place: lane l takes the file's lane l, those beyond its last one
    begin with its first again.

    Raises N718 if nothing outlives a sequence, N717 if the file is missing or of another program,
    N712 if it is damaged.
    """
    if not lanes:
        raise faults.nothing_outlives()
    if not checkpoint.there(path):
        raise faults.no_memory(path)
    saved = checkpoint.tensors_of(path)
    other = set(saved) ^ set(lanes) or {
        name for name, x in saved.items() if not alike(x, lanes[name])
    }
    if other:
        raise faults.other_memory(path, sorted(other))
    checkpoint.said(path, Lanes)
    with torch.no_grad():
        for name, lane in lanes.items():
            lane.copy_(saved[name][torch.arange(len(lane)) % len(saved[name])])


def alike(saved: Tensor, lane: Tensor) -> bool:
    """Do they differ in the number of lanes alone?"""
    return (
        saved.dim() > 0
        and len(saved) > 0
        and saved.shape[1:] == lane.shape[1:]
        and saved.is_floating_point() == lane.is_floating_point()
    )


def broken(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is not finite.

    Waits for the device once.
    """
    names = [name for name, x in tensors.items() if x.is_floating_point() and x.numel()]
    if not names:
        return None
    sound = torch.stack([torch.isfinite(tensors[name]).all() for name in names]).tolist()
    return next((name for name, good in zip(names, sound) if not good), None)
