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


def save(run: Path, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> None:
    """Replace the checkpoint of `run`. Raises N713 if the disk refuses; the checkpoint that was there stays."""
    draft = run / (FILE + ".partial")
    content = safetensors.torch.save({name: alone(t) for name, t in tensors.items()}, {"manifest": json.dumps(manifest, sort_keys=True)})
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, run / FILE)
        folder = os.open(run, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise faults.cannot_write(run / FILE, error) from None


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the host that shares no memory with another tensor."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def manifest(run: Path) -> dict[str, Any] | None:
    """What the checkpoint says of itself, or None if the run has none yet. Raises N712 if it is damaged."""
    if not (run / FILE).exists():
        return None
    with opened(run) as file:
        text = (file.metadata() or {}).get("manifest")
    if text is None:
        raise faults.damaged(run / FILE, "it has no manifest")
    return json.loads(text)


def load(run: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy the checkpoint into `tensors` (in place: their addresses are fixed). Raises N712 if it is damaged or of another program."""
    with opened(run) as file:
        saved = set(file.keys())
        if saved != set(tensors):
            raise faults.other_tensors(run / FILE, sorted(saved ^ set(tensors)))
        with torch.no_grad():
            for name, tensor in tensors.items():
                value = file.get_tensor(name)
                if value.shape != tensor.shape or value.dtype != tensor.dtype:
                    raise faults.other_tensors(run / FILE, [name])
                tensor.copy_(value)


def opened(run: Path):
    try:
        return safetensors.safe_open(run / FILE, "pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise faults.damaged(run / FILE, str(error)) from None
