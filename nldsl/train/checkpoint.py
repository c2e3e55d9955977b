"""STATE -> FILE -> STATE: everything an exact resume needs, in one safetensors file that is whole
or not there.

Each array has its qualified name and its own sizes, weights and what optimizers keep of them.
The manifest travels in the file's header, so tensors and step count cannot disagree, and with it a
SHA-256 of the manifest and of every tensor, so that a flipped byte is noticed. A save writes beside
the old file, waits for the disk, and renames: at every instant one whole checkpoint is in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch

from nldsl import writing
from nldsl.step.state import State
from nldsl.train import faults, records
from nldsl.train.records import M, Manifest, Model

FILE = "checkpoint.safetensors"
BEST = "best.safetensors"  # the one that scored best, a second name of that file or a copy of it
LANE = "lane "  # before the names of what outlives a sequence


class Tensors(Protocol):
    """A file of tensors that is open."""

    def metadata(self) -> Mapping[str, str] | None: ...

    def keys(self) -> list[str]: ...

    def get_tensor(self, name: str) -> torch.Tensor: ...


def save(run: Path, tensors: Mapping[str, torch.Tensor], manifest: Manifest) -> None:
    """Replace the checkpoint of `run`.

    Raises N713 if the disk refuses; the checkpoint that was there stays.
    """
    write(run / FILE, tensors, manifest)


def keep(run: Path) -> None:
    """The checkpoint that is there stays as the best. Raises N713 if the disk refuses."""
    try:
        writing.stay(run / FILE, run / BEST)
    except OSError as error:
        raise faults.cannot_write(run / BEST, error) from None


def everything(state: State) -> dict[str, torch.Tensor]:
    """The tensors of a state, and its lanes under names of their own."""
    return {**state.tensors, **lanes_of(state)}


def by_name(state: State) -> dict[str, torch.Tensor]:
    """The same as a checkpoint has it: each array by its own name. Views of the state."""
    return {**state.arrays, **lanes_of(state)}


def lanes_of(state: State) -> dict[str, torch.Tensor]:
    return {LANE + name: x for name, x in state.lanes.items()}


def write(path: Path, tensors: Mapping[str, torch.Tensor], manifest: Model) -> None:
    """Replace a file of tensors. Raises N713 if the disk refuses; the file that was there stays."""
    text, own = manifest.model_dump_json(), {name: alone(t) for name, t in tensors.items()}
    header = {"manifest": text, "sha256": digest(text, own)}
    try:
        writing.replace(path, safetensors.torch.save(own, header))
    except OSError as error:
        raise faults.cannot_write(path, error) from None


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the host that shares no memory with another tensor."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def digest(manifest: str, tensors: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.sha256(manifest.encode())
    for name, x in sorted(tensors.items()):
        found.update(f"\n{name} {x.dtype} {list(x.shape)}\n".encode())
        found.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def manifest(run: Path, file: str = FILE) -> Manifest | None:
    """The manifest of the checkpoint, or None if the run has no checkpoint yet.

    Raises N712 if it is damaged.
    """
    return said(run / file, Manifest) if there(run / file) else None


def there(path: Path) -> bool:
    """Raises N712 if the folder does not say."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise faults.damaged(path, str(error.strerror)) from None
    return True


def said(path: Path, *models: type[M]) -> M:
    """The manifest of a file of tensors. Raises N712 if it has none of these kinds."""
    with opened(path) as file:
        text = (file.metadata() or {}).get("manifest")
    if text is None:
        raise faults.damaged(path, "it has no manifest")
    try:
        return records.read(text, *models)
    except ValueError as error:
        raise faults.damaged(path, f"in its manifest, {error}") from None


def of_this_project(path: Path) -> bool:
    with opened(path) as file:
        return {"manifest", "sha256"} <= set(file.metadata() or {})


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file. Raises N712 if a byte differs from those that were written."""
    with opened(path) as file:
        header = file.metadata() or {}
        found = {name: file.get_tensor(name) for name in file.keys()}
    if "sha256" in header and header["sha256"] != digest(header.get("manifest", ""), found):
        raise faults.damaged(path, "its content is not what was written (its SHA-256 differs)")
    return found


def load(
    run: Path,
    tensors: Mapping[str, torch.Tensor],
    file: str = FILE,
    own: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] = lambda x, sizes: x,
) -> None:
    """Copy the checkpoint into `tensors` (in place: their addresses are fixed); `own` takes of an
    array what is to be of such sizes.

    Raises N712 if it is damaged or of another program.
    """
    saved = {
        name: own(x, tensors[name].shape) if name in tensors else x
        for name, x in tensors_of(run / file).items()
    }
    other = set(saved) ^ set(tensors) or {
        name
        for name, x in tensors.items()
        if (saved[name].shape, saved[name].dtype) != (x.shape, x.dtype)
    }
    if other:
        raise faults.other_tensors(run / file, sorted(other))
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])


@contextmanager
def opened(path: Path) -> Iterator[Tensors]:
    """Raises N712 if the file is not a whole file of tensors."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except (safetensors.SafetensorError, OSError) as error:
        raise faults.damaged(path, str(error)) from None
