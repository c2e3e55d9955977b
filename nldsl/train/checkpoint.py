"""STATE -> FILE -> STATE: everything an exact resume needs, in one safetensors file that is whole or not there.

The manifest travels in the file's header, so tensors and step count cannot disagree. A save writes beside the old
file, waits for the disk, and renames: at every instant one whole checkpoint is in place.
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from nldsl.train import faults

FILE = "checkpoint.safetensors"
LANE = "lane "                                     # before the names of what outlives a sequence


def save(run: Path, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> None:
    """Replace the checkpoint of `run`. Raises N713 if the disk refuses; the checkpoint that was there stays."""
    write(run / FILE, tensors, manifest)


def everything(state: Any) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of a state: its tensors, and its lanes under names of their own."""
    return {**state.tensors, **{LANE + name: x for name, x in state.lanes.items()}}


def write(path: Path, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> None:
    """Replace a file of tensors. Raises N713 if the disk refuses; the file that was there stays."""
    draft = path.with_name(path.name + ".partial")
    content = safetensors.torch.save({name: alone(t) for name, t in tensors.items()}, {"manifest": json.dumps(manifest, sort_keys=True)})
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise faults.cannot_write(path, error) from None


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the host that shares no memory with another tensor."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def manifest(run: Path) -> dict[str, Any] | None:
    """What the checkpoint says of itself, or None if the run has none yet. Raises N712 if it is damaged."""
    if not (run / FILE).exists():
        return None
    with opened(run / FILE) as file:
        text = (file.metadata() or {}).get("manifest")
    if text is None:
        raise faults.damaged(run / FILE, "it has no manifest")
    return json.loads(text)


def load(run: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy the checkpoint into `tensors` (in place: their addresses are fixed). Raises N712 if it is damaged or of another program."""
    with opened(run / FILE) as file:
        saved = set(file.keys())
        if saved != set(tensors):
            raise faults.other_tensors(run / FILE, sorted(saved ^ set(tensors)))
        with torch.no_grad():
            for name, tensor in tensors.items():
                value = file.get_tensor(name)
                if value.shape != tensor.shape or value.dtype != tensor.dtype:
                    raise faults.other_tensors(run / FILE, [name])
                tensor.copy_(value)


def opened(path: Path):
    """Raises N712 if the file is no whole file of tensors."""
    try:
        return safetensors.safe_open(path, "pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise faults.damaged(path, str(error)) from None
