"""Verbs on a text, for whoever writes it: what is wrong with it, how it looks, what words mean."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nldsl.cli.options import Form, Kind, Picture, Sets, Spec, overrides
from nldsl.cli.outcome import REJECTED, WIDE, exit_code, reported, say, written
from nldsl.cli.sources import Text, loaded, source_of
from nldsl.diagnostic import Diagnostics, counted
from nldsl.explanation import explanations, near
from nldsl.extras import needs
from nldsl.screen import Screen
from nldsl.source import UNDECODED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nldsl.core.program import Program

STARTERS = Path(__file__).parents[1] / "starters"


def check(
    spec: Spec,
    sets: Sets = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Rewrite the file as the help of its findings says, if it can."),
    ] = False,
    form: Annotated[
        Form, typer.Option("--format", help="For people, for programs, or for a GitHub workflow.")
    ] = Form.text,
) -> None:
    """Report everything that is wrong with a spec."""
    with reported():
        text = fixed(spec, sets) if fix else source_of(spec)
        if form is not Form.text:
            return listed(text, sets, form)
        program = loaded(text, sets)
        levels, memories = len(program.levels), len(program.memories)
        counts = f"{counted(levels, 'level')}, {counted(memories, 'memory', 'memories')}"
        say(f"{spec}: {counts}, accepted")


def listed(text: Text, sets: list[str] | None, form: Form) -> None:
    """All findings on standard output; the exit code says whether there are errors."""
    from nldsl import pipeline, reports

    try:
        said = text.source
        program = pipeline.load_text(said.text, said.place, overrides(sets), [text.folder])
        found = program.findings
    except Diagnostics as refused:
        found = refused.diagnostics
    if form is Form.json or found:
        say(reports.as_json(found) if form is Form.json else reports.as_github(found))
    if any(one.severity == "error" for one in found):
        raise typer.Exit(exit_code(found))


def fixed(spec: str, sets: list[str] | None) -> Text:
    """The spec with the fixes that mend it, on the disk too; each is told."""
    from nldsl.editor.document import read
    from nldsl.editor.fixes import mended

    if spec == "-":
        raise typer.BadParameter("`--fix` rewrites a file: name one instead of -")
    before, path = source_of(spec), Path(spec)
    if UNDECODED in before.source.text:
        return before  # the bytes that it stands for would be lost
    made = mended(before.source.text, lambda text: read(text, path, overrides(sets)))
    for one in made.applied:
        line = "" if one.span is None else f":{one.span.line}"
        sys.stderr.write(f"fixed[{one.code}] {spec}{line}: {one.message}; {one.help}\n")
    if made.applied:
        written(path, made.document.source.text)
    return Text(made.document.source, before.folder)


def graph(
    spec: Spec,
    sets: Sets = None,
    form: Annotated[Picture, typer.Option("--as", help="How to draw it.")] = Picture.table,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to a file.")] = None,
) -> None:
    """Draw the level graph: levels, memories, what flows between them."""
    with reported():
        page = drawn(loaded(source_of(spec), sets), form, Path(spec).stem)
        if out is None:
            return say(page)
        with StringIO() as file:
            Screen(file=file, width=WIDE).print(page, soft_wrap=form is not Picture.table, end="")
            written(out, file.getvalue())


def drawn(program: Program, form: Picture, title: str) -> RenderableType:
    from nldsl.view.families import family_graph
    from nldsl.view.level_table import levels_table, levels_text
    from nldsl.view.mermaid import mermaid
    from nldsl.view.page import svg

    match form:
        case Picture.table:
            return levels_table(program)
        case Picture.text:
            return levels_text(program)
        case Picture.mermaid:
            return mermaid(family_graph(program))
        case Picture.svg:
            return svg(family_graph(program), title)
        case Picture.html:
            return webpage(program, title)


def webpage(program: Program, title: str) -> str:
    from nldsl.pipeline import scheduled
    from nldsl.schedule.faults import told
    from nldsl.view.families import family_graph
    from nldsl.view.webpage import computed, html

    with told(program):
        lowerings = computed(scheduled(program))
    return html(program, family_graph(program), lowerings, title)


def fmt(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE..", help="Specs, or - for standard input.")
    ],
    write: Annotated[bool, typer.Option("--write", help="Rewrite the files.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only say which files are not in the standard form: exit code 1."
        ),
    ] = False,
) -> None:
    """Print specs in the standard form."""
    with reported():
        from nldsl.frontend.parse import parse
        from nldsl.frontend.unparse import unparse

        changed = []
        for name in files:
            source = source_of(name).source
            text = unparse(parse(source))
            if text != source.text:
                changed.append(name)
            if write and name != "-" and text != source.text:
                written(Path(name), text)
            elif not check and not (write and name != "-"):
                say(text)
        if check and changed:
            say("\n".join(changed))
            raise typer.Exit(REJECTED)


def explain(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="Such as N610.", autocompletion=codes)
    ],
) -> None:
    """Say at length what a diagnostic means, with a mistake and its correction."""
    found = explanations().get(code.upper())
    if found is None:
        meant = near(code)
        raise typer.BadParameter(
            f"there is no diagnostic {code}"
            + (f"; did you mean {' or '.join(meant)}?" if meant else "")
        )
    say(str(found).rstrip("\n"))


def codes(begun: str) -> list[tuple[str, str]]:
    """For a shell that completes a code."""
    return [(code, found.title) for code, found in explanations().items() if code.startswith(begun)]


def new(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="What to write.")] = Path(
        "model.nl"
    ),
    kind: Annotated[
        Kind, typer.Option(help="What the spec is of: each is small, and trains on a CPU.")
    ] = Kind.language_model,
) -> None:
    """Write a spec to start from; a file that is there stays as it is."""
    text = (STARTERS / f"{kind.value}.nl").read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as fresh:
            fresh.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"`{file}` is there already: name another FILE") from None
    except OSError as error:
        raise typer.BadParameter(f"`{file}` cannot be written: {error.strerror}") from None
    say(f"{file}: written; go on with: nldsl train {file}")


def lsp() -> None:
    """Serve an editor: the language server protocol on standard input and output."""
    with reported():
        with needs("lsp"):
            from nldsl.editor.server import served
        served()
