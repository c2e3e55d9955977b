"""What verbs take: their options as types, the words that these may be, and how a value is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typer.models import OptionInfo

LARGEST = 2**63 - 1
Parser = Callable[[str], float]


class Stage(StrEnum):
    tokens, ast, graph, states = "tokens", "ast", "graph", "states"
    schedule, python = "schedule", "python"


class Kind(StrEnum):
    language_model, titans, continual = "language-model", "titans", "continual"


class Form(StrEnum):
    text, json, github = "text", "json", "github"


class Answer(StrEnum):
    text, json = "text", "json"


class Picture(StrEnum):
    table, text, mermaid, svg, html = "table", "text", "mermaid", "svg", "html"


class Export(StrEnum):
    safetensors, torch, program, hf = "safetensors", "torch", "program", "hf"


class Capture(StrEnum):
    auto = "auto"
    separate = "split"
    whole = "whole"
    eager = "eager"


class NotFinite(StrEnum):
    stop, skip = "stop", "skip"


class Logger(StrEnum):
    tensorboard, wandb = "tensorboard", "wandb"


class Precision(StrEnum):
    float32, bfloat16, float64 = "float32", "bfloat16", "float64"


def count(least: int, says: str | None = None, *names: str) -> OptionInfo:
    """A whole number, from `least` to what 64 bits hold."""
    made: OptionInfo = typer.Option(*names, min=least, max=LARGEST, help=says)
    return made


def precision_of(text: str) -> Precision:
    try:
        return Precision({"bf16": "bfloat16"}.get(text, text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(Precision)}") from None


def encoding_of(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise typer.BadParameter(f"there is no encoding {text!r}; utf-16 and cp1252 are") from None
    return text


def fill_of(text: str) -> str:
    try:
        if text in ("last", "linear") or math.isfinite(float(text)):
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is neither last, linear nor a number")


def budget_of(text: str) -> int:
    """Bytes: `8G`, `1200M`, `1.5GiB`."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        found = TypeAdapter(ByteSize).validate_python(
            re.sub(r"(?<=[\d ])([kKmMgGtT])$", r"\1B", text)
        )
    except ValidationError:
        raise typer.BadParameter(f"{text!r} is not a size such as 8G or 1200M") from None
    if not found:
        raise typer.BadParameter("a step takes more than no memory")
    return int(found)


def bandwidth_of(text: str) -> float:
    """Bytes a second: `25GB/s`, `100Gb/s` of bits."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(B|b|bit)/s", text)
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is not a bandwidth such as 25GB/s or 100Gb/s")
    many = 1000.0 ** " kMGT".index(found[2].replace("K", "k") or " ")
    return float(found[1]) * many / (1 if found[3] == "B" else 8)


def number_of(least: float, most: float = math.inf, beyond: bool = False) -> Parser:
    """Reads a finite number from `least` to `most`; `beyond`: above `least`."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a number") from None
        if not (math.isfinite(found) and least <= found <= most) or (beyond and found == least):
            low = f"above {least:g}" if beyond else f"from {least:g} on"
            raise typer.BadParameter(
                f"{text} is not a number {low}{f', at most {most:g}' if most < math.inf else ''}"
            )
        return found

    return read


def overrides(sets: list[str] | None, option: str = "--set") -> dict[str, str]:
    """`["d=512"]` as a table. Raises a usage error for a pair without `=`."""
    pairs = [item.partition("=") for item in sets or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} takes NAME=VALUE, not `{name}{equals}{value}`")
    return {name.strip(): value.strip() for name, _, value in pairs}


def absolute(loads: list[str] | None) -> dict[str, str]:
    return {name: str(Path(path).resolve()) for name, path in overrides(loads, "--load").items()}


Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A .nl file, or - for standard input.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Override a dim, a clock's count or a constant of the spec.",
    ),
]
Loads = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="NAME=PATH",
        help="Where a file that the spec loads lies: .safetensors, or a run.",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Begin a new run with the weights of RUN, as far as names and sizes agree; without "
        "SPEC with its spec and settings too.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="A text file or a folder of text, .jsonl, .parquet, a data set of Hugging Face (a "
        "folder, or hf:NAME), tokens (.bin, .npy); a table (.csv, .npy, .parquet) if the spec "
        "reads numbers; named columns (.npz, .parquet, .csv) if it has several inputs.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME",
        help="The column of documents [default: text], or each column of numbers that is read.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=encoding_of,
        help="Of text files, such as cp1252 [default: what a mark says, else bytes as they are].",
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="A tokenizer.json, for a spec whose tokens are not bytes.",
    ),
]
Fill = Annotated[
    str | None,
    typer.Option(
        metavar="last|linear|NUMBER",
        parser=fill_of,
        help="What stands for a gap in a table [default: a gap is refused].",
    ),
]
Memory = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Begin with the memories in FILE: what outlives a sequence, apart from the weights.",
    ),
]
Remember = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write to FILE what was learned while reading.")
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Score and use the average of this name that the spec keeps, instead of the last "
        "weights [default: as trained].",
    ),
]
Best = Annotated[
    bool,
    typer.Option("--best", help="As it scored best while it trained, not as it was saved last."),
]
Device = Annotated[str, typer.Option(help="cpu, mps, cuda or cuda:N.")]


def of_threads(given: int | None) -> int | None:
    """Has torch compute with so many threads."""
    if given is not None:
        import torch

        torch.set_num_threads(given)
    return given


Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, callback=of_threads, help="Of a CPU [default: one for each core]."
    ),
]
IN = {"parser": precision_of, "metavar": "|".join(Precision)}
In = Annotated[
    Precision, typer.Option(help="Of arithmetic; bfloat16 (bf16) keeps weights in float32.", **IN)
]
Budget = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=budget_of,
        help="Memory that a step may take beside what is held before it, such as 8G; what does not "
        "fit is computed again for the backward pass [default: what the device has].",
    ),
]
Bandwidth = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        parser=bandwidth_of,
        help="With --ranks: what each of them sends and receives, such as 100Gb/s "
        "[default: 25GB/s].",
    ),
]
How = Annotated[
    Capture,
    typer.Option(
        help="whole: a step is one graph; split: a graph for each distinct block; eager: no "
        "compiler; auto: one of them, and for a run only if it pays."
    ),
]
