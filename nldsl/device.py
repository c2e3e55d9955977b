"""Finds the device that a step runs on."""

from __future__ import annotations

import torch

from nldsl.train import faults


def available(device: str) -> str:
    """`cpu`, `mps`, `cuda` or `cuda:N` as given. Raises N802 if this machine has no such device."""
    kind, _, index = device.partition(":")
    mps = int(torch.backends.mps.is_available())
    count = {"cpu": 1, "mps": mps, "cuda": torch.cuda.device_count()}.get(kind, 0)
    if (index and not index.isdecimal()) or int(index or 0) >= count:
        raise faults.no_device(device, torch.cuda.device_count())
    return device
