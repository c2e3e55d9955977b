"""The records in the files of a run, as models: a damaged or foreign file gives a finding that
names the field.

    run.json                  Record      everything the run is made of
    checkpoint.safetensors    Manifest    in its header: what was saved, after which step
    memory.safetensors        Lanes       in its header
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 3
LARGEST = 2**63 - 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Precision = Literal["float32", "bfloat16", "float64"]
Capture = Literal["auto", "split", "whole", "eager"]
NotFinite = Literal["stop", "skip"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Settings(Model):
    """The settings of the command line, beside the spec. `data` None is a default, `columns`,
    `encoding` and `fill` say how it is read, `tokenizer` is the path of the file as it was given;
    `epochs`: how often each window of the data is read, from which `steps` follow; lengths in
    tokens; the held-out data is scored every `eval_every` steps, at most `eval_bytes` of it, and
    the run ends after `patience` scores that are no better than the best; `watch`: what levels do
    is measured; `not_finite`: what becomes of a step that is not; `memory` is the file with which
    lanes begin, `load` the paths of files that the spec loads, `source` the run that weights come
    from, `weights` the average that is scored and used instead of the last ones.
    """

    sets: dict[str, str] = {}
    data: str | None = None
    columns: list[str] = []
    encoding: str | None = None
    tokenizer: str | None = None
    fill: str | None = None
    steps: Count = 1000
    epochs: Count | None = None
    seed: Whole = 0
    batch: Count = 4
    length: Annotated[int, Field(ge=2, le=LARGEST)] = 256
    accumulate: Count = 1
    device: Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d{1,4})?)$")] = "cpu"
    precision: Precision = "float32"
    capture: Capture = "auto"
    eval_every: Count | None = None
    eval_bytes: Count = 1 << 14
    patience: Count | None = None
    watch: bool = False
    not_finite: NotFinite = "stop"
    memory: str | None = None
    load: dict[str, str] = {}
    source: str | None = None
    weights: str | None = None


class Data(Model):
    """The data of a run: a text has `bytes`, or `tokens` with the SHA-256 of the `tokenizer`, which
    tokens in a file need not have; a table `points` of `channels`, each with the mean and
    the deviation that it was scaled by.
    """

    name: str
    sha256: Sha256
    bytes: Count | None = None
    tokens: Count | None = None
    tokenizer: Sha256 | None = None
    points: Count | None = None
    channels: Count | None = None
    mean: list[float] | None = None
    deviation: list[float] | None = None


class Lengthened(Model):
    """After step `after` a run that was `was` steps long became `steps` long."""

    after: Whole
    was: Count
    steps: Count


class Resized(Model):
    was: list[int]
    now: list[int]


class Inherited(Model):
    """What a run began with of the arrays in a file, by qualified name; see inherited.py. `step`:
    after which the other run saved it.
    """

    file: str
    sha256: Sha256
    step: Whole | None
    carried: list[str]
    new: list[str]
    resized: dict[str, Resized]
    left: list[str]


class Stopped(Model):
    """The run ended early, after step `after`: the best score was that after step `best`."""

    after: Whole
    best: Whole


class Record(Model):
    """The content of run.json. `texts` are the spec and what it imports, by file name."""

    format: Literal[3]
    spec: FileName
    spec_sha256: Sha256
    settings: Settings
    dims: dict[str, int]
    clocks: dict[str, str]
    data: Data
    loaded: dict[str, str]
    torch: str
    threads: Count
    lengthened: list[Lengthened] = []
    inherited: Inherited | None = None
    stopped: Stopped | None = None
    skipped: Whole = 0  # steps that were not finite, and left no trace
    compiled_from: Whole | None = None  # the first compiled step; 0: none is; None: not chosen
    texts: dict[FileName, str]

    def model_post_init(self, context: object) -> None:
        if self.spec not in self.texts:
            raise ValueError("texts: the spec is not among them")
        if fingerprint(self.texts) != self.spec_sha256:
            raise ValueError("texts: they are not those of spec_sha256")


class Manifest(Model):
    """The manifest of a checkpoint. `weights`: the arrays that another spec can load."""

    spec_sha256: Sha256
    settings: Settings
    data_sha256: Sha256
    torch: str
    threads: Count
    step: Whole
    weights: list[str]


class Lanes(Model):
    lanes: Count


class Compiled(Model):
    """manifest.json beside an emitted step: every number that it was made with."""

    spec: str
    spec_sha256: Sha256
    dims: dict[str, int]
    sets: dict[str, str]
    device: str
    precision: Precision
    capture: Capture
    why: str
    torch: str
    tick_kinds: list[list[str]]
    lowerings: dict[str, str]
    compile_seconds: dict[str, float]


M = TypeVar("M", bound=Model)


def read(text: str | bytes, *models: type[M]) -> M:
    """As the first model that it is. Raises ValueError with what is wrong, the field first."""
    for model in models:
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            wrong = error
    raise ValueError(told(wrong)) from None


def told(error: ValidationError) -> str:
    """The first fault of a file or of settings:

    `settings.seed: Input should be a valid integer`.
    """
    first, *more = error.errors(include_url=False, include_input=False)
    field = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return (f"{field}: " if field else "") + said + (f" (and {len(more)} more)" if more else "")


def written(model: Model) -> str:
    return model.model_dump_json(indent=2) + "\n"


def fingerprint(texts: Mapping[str, str]) -> str:
    """SHA-256 over a spec and what it imports."""
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        content = text.encode()
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def changed(old: Model, new: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Fields with another value in `new`: name -> (old, new)."""
    return {
        name: (getattr(old, name), value)
        for name, value in new.items()
        if value != getattr(old, name)
    }
