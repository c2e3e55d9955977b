"""WORDS OF A COMMAND LINE -> WHAT THEY ASK FOR, AND AN EXIT CODE.

Every verb is a few lines around a function of the package; a value that it cannot take is refused
before anything is made.

    options.py     what verbs take: options as types, and how a value is read
    sources.py     a spec as it is given, its text and its program
    outcome.py     what verbs answer: text, warnings, files, exit codes
    specs.py       verbs on a text: check, graph, fmt, explain, new, lsp
    steps.py       verbs on a training step: compile, bench
    comparing.py   the verb on several runs: compare
    runs.py        verbs on a run and its tokens: train, eval, tokenizer train
    models.py      verbs on a trained model: generate, audit, trace, export

Exit codes: 0 done; 1 the program was rejected, or `audit` found a law broken; 2 the command line
was; 3 the text, the run folder or the disk was, or a step or a score is not finite; 4 the machine
cannot run it, or has not the memory; 130 interrupted (what was announced as saved is saved).

Decisions. A verb imports what it needs when it runs: `nldsl check` loads no torch. What several
verbs take, and what has values of its own, is a type of options.py; the other options stand where
they are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

import typer

from nldsl import __version__
from nldsl.cli import comparing, models, runs, specs, steps
from nldsl.cli.outcome import BACKEND, INTERRUPTED, REJECTED, RUN, USAGE

__all__ = ["BACKEND", "INTERRUPTED", "REJECTED", "RUN", "USAGE", "app", "main"]

# in the order of `nldsl --help`
VERBS: dict[str, Callable[..., None]] = {
    "check": specs.check,
    "compile": steps.compile_,
    "graph": specs.graph,
    "fmt": specs.fmt,
    "train": runs.train,
    "eval": runs.eval_,
    "generate": models.generate,
    "audit": models.audit,
    "trace": models.trace,
    "export": models.export,
    "compare": comparing.compare,
    "bench": steps.bench,
    "explain": specs.explain,
    "new": specs.new,
    "lsp": specs.lsp,
}

app = typer.Typer(
    name="nldsl",
    help="Nested optimisation levels: from a spec to one compiled training step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, verb in VERBS.items():
    app.command(name)(verb)


def told_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"nldsl {__version__}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def nldsl(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=told_version, help="Say it, and end."),
    ] = False,
) -> None:
    """Nested optimisation levels: from a spec to one compiled training step."""


tokenizers = typer.Typer(
    help="Make the tokens of a text.", no_args_is_help=True, rich_markup_mode=None
)
tokenizers.command("train")(runs.tokenizer_train)
app.add_typer(tokenizers, name="tokenizer")


def main() -> None:
    """Runs the command; a character that a stream cannot write, such as half of one in a path, is
    written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
