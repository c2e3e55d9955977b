"""The faults of a run, each with its code: data (N70x), run folder and checkpoint (N71x), training
(N72x), device and memory (N80x).

One constructor for each situation; the prose stands here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nldsl.core.nodes import Node
from nldsl.core.program import Level
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.source import Span


def fault(code: str, message: str, help: str) -> Diagnostics:
    return Diagnostics([Diagnostic(code, message, help=help)])


def training_text_gone(path: str, folder: Path) -> Diagnostics:
    return fault(
        "N701",
        f"what `{folder}` was trained on is not at `{path}`",
        f"say where it is now: `nldsl train --resume {folder} DATA`, or score another: `nldsl eval "
        f"{folder} DATA`",
    )


def missing(path: Path) -> Diagnostics:
    return fault(
        "N701",
        f"there is no data at `{path}`",
        "DATA is a text file or a folder of text, documents (.jsonl, .parquet) or tokens (.bin, "
        ".npy); for an input of numbers a table (.csv, .npy, .parquet); without it there is a "
        "default",
    )


def unreadable(path: Path, error: OSError) -> Diagnostics:
    return fault(
        "N702",
        f"`{path}` cannot be read: {error.strerror}",
        "change its permissions, or move it out of the folder",
    )


def without_text(name: str) -> Diagnostics:
    return fault(
        "N703",
        f"`{name}` holds no text",
        "there is not one byte in it; in a folder, names that begin with a dot are skipped",
    )


def not_text(path: Path, what: str, help: str) -> Diagnostics:
    return fault("N703", f"`{path}` is not text: it seems to be {what}", help)


def nothing_but(path: Path, kinds: Mapping[str, int]) -> Diagnostics:
    said = ", ".join(
        f"{n} {'seems' if n == 1 else 'seem'} to be {what}" for what, n in sorted(kinds.items())
    )
    return fault(
        "N703",
        f"`{path}` holds no text: of its files {said}",
        "a folder of text files; names that begin with a dot are skipped",
    )


def json_as_text(path: Path, files: int) -> Diagnostics:
    what = f"`{path}` is JSON lines" if files == 1 else f"{files} files of `{path}` are JSON lines"
    return Diagnostics(
        [
            Diagnostic(
                "N740",
                f"{what}: braces, names and escapes are read as text",
                severity="warning",
                help="name it .jsonl: then the text in each line is read, and nothing else",
            )
        ]
    )


def constant(name: str, channels: list[int]) -> Diagnostics:
    said = ", ".join(str(c + 1) for c in channels[:5]) + (
        f" and {len(channels) - 5} more" if len(channels) > 5 else ""
    )
    return Diagnostics(
        [
            Diagnostic(
                "N741",
                f"`{name}`: column {said} never changes in the training part, so nothing can be "
                "learned of it",
                severity="warning",
                help="leave it out; its values are read less their mean, unscaled",
            )
        ]
    )


def too_short(name: str, part: str, has: int, length: int, unit: str) -> Diagnostics:
    return fault(
        "N704",
        f"the longest {part} stretch of `{name}` has {has} {unit}, a sequence has {length}",
        f"train on shorter sequences, at most `--length {max(2, has)}`, or on more data",
    )


def too_little_to_audit(name: str, has: int, least: int, unit: str) -> Diagnostics:
    return fault(
        "N704",
        f"the longest held-out stretch of `{name}` has {has} {unit}, an audit needs {least}",
        "train on more data",
    )


def not_of_bytes(node: Node, name: str, size: int) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N705",
                f"a text gives bytes, of which there are 256; `{name}` has {size} values",
                node.span,
                help=f"write `input {name}: index(256)`, a size with a name is set by `--set "
                "vocab=256`; or name the tokens, `--tokenizer tokenizer.json`",
            )
        ]
    )


def more_tokens(node: Node, name: str, size: int, what: str, last: int) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N705",
                f"`{what}` has the token {last:,}; `{name}` has {size:,} values",
                node.span,
                help=f"write `input {name}: index({last + 1})`; a size with a name is set by "
                f"`--set vocab={last + 1}`",
            )
        ]
    )


def other_inputs(inputs: Mapping[str, Node]) -> Diagnostics:
    """N705, at the `input` that no data can fill: of several the second, of one its type."""
    if len(inputs) != 1:
        return not_one_input(inputs)
    name, node = next(iter(inputs.items()))
    return Diagnostics(
        [
            Diagnostic(
                "N705",
                f"a table gives one axis a token, its channels; `{name}` has {len(node.shape)}",
                node.span,
                help=f"write `input {name}: [channel]`",
            )
        ]
    )


def not_one_input(inputs: Mapping[str, Node]) -> Diagnostics:
    text, table = "`input ids: index(256)` for text", "`input x: [channel]` for a table of numbers"
    said = (
        f"the program has {len(inputs)} inputs: {listed(list(inputs))}"
        if inputs
        else "the program has no `input`"
    )
    places = [node.span for node in inputs.values()]
    return Diagnostics(
        [
            Diagnostic(
                "N705",
                f"without DATA there is one byte or one row of numbers a token, {said}",
                places[1] if places else None,
                notes=tuple(("and this one", span) for n, span in enumerate(places) if n != 1),
                help=f"name DATA with a column for each, such as a .npz or .parquet file; or one "
                f"input: {text}, {table}",
            )
        ]
    )


def other_channels(path: Path, has: int, wanted: int) -> Diagnostics:
    return fault(
        "N706",
        f"`{path}` has {has} channels, the program's input has {wanted}",
        "set the size of the input's axis, as in `--set channel=..`, or choose columns",
    )


def other_size(path: Path, name: str, has: int, wanted: int) -> Diagnostics:
    return fault(
        "N706",
        f"`{path}`: a row has {has:,} numbers in `{name}`, the program's input has {wanted:,}",
        "set the size of the input's axes, as in `--set d=..`",
    )


def other_column(path: Path, name: str, kind: str, index: bool) -> Diagnostics:
    return fault(
        "N709",
        f"`{path}`: the column `{name}` is {kind}, the input {'an index' if index else 'numbers'}",
        "an index is an integer from 0 on; words and lists of different lengths are no numbers",
    )


def unequal(path: Path, sizes: Mapping[str, int]) -> Diagnostics:
    said = ", ".join(f"`{name}` {size:,}" for name, size in sizes.items())
    return fault("N708", f"`{path}`: its arrays have different lengths: {said}", "one row for each")


def no_number(path: Path, where: str, found: str, help: str = "") -> Diagnostics:
    return fault(
        "N707",
        f"`{path}`, {where}: `{found}` is not a finite number",
        help or "fill the gap, `--fill last`, or leave out the rows up to it",
    )


def open_gap(path: Path, row: int, column: int, how: str) -> Diagnostics:
    return fault(
        "N707",
        f"`{path}`: no value stands {how} the gap in row {row}, column {column}",
        "leave these rows out, or fill with a number: `--fill 0`",
    )


def ragged(path: Path, line: int, has: int, width: int) -> Diagnostics:
    return fault(
        "N708",
        f"`{path}`, line {line} has {has} values, the first has {width}",
        "one value for each channel in every row, separated by commas",
    )


def no_table(path: Path, what: str) -> Diagnostics:
    return fault(
        "N709",
        f"`{path}` is not a table of numbers: {what}",
        "a .csv file with a row for each time, or a .npy array [time, channel]",
    )


def several_columns(path: Path, columns: tuple[str, ...]) -> Diagnostics:
    return fault(
        "N751",
        f"`{path}`: the documents of a text are one column, not {listed(list(columns))}",
        f"one of them: `--column {columns[0]}`",
    )


def no_column(path: Path, name: str, has: list[str], where: str = "") -> Diagnostics:
    return fault(
        "N751",
        f"`{path}`{where and ', '}{where} has no column `{name}`; it has "
        f"{listed(has) if has else 'none'}",
        f"name one of them: `--column {has[0] if has else 'NAME'}`",
    )


def no_document(path: Path, where: str, column: str, found: str) -> Diagnostics:
    return fault(
        "N752",
        f"`{path}`, {where}: `{column}` is {found}, not text",
        "leave the row out, or name a column of text: `--column NAME`",
    )


def option_does_not_fit(option: str, path: Path | str, why: str) -> Diagnostics:
    return fault("N753", f"`{option}` does not fit `{path}`: {why}", "leave it out")


def damaged_data(path: Path, what: str, why: str) -> Diagnostics:
    return fault("N754", f"`{path}` is not whole {what}: {why}", "get or make the file again")


def other_encoding(path: Path, coding: str, place: int) -> Diagnostics:
    return fault(
        "N755",
        f"`{path}` is not {coding}: byte {place:,} begins no letter of it",
        "declare the encoding that it has, such as `--encoding cp1252`",
    )


def not_tokens(path: Path, what: str) -> Diagnostics:
    return fault(
        "N758",
        f"`{path}` holds no tokens: {what}",
        "tokens are integers from 0 on, [token]: `np.save` of them, or a .bin file of uint16",
    )


def unknown_ends(name: str) -> Diagnostics:
    return fault(
        "N757",
        f"the program counts documents, and nothing says where those of `{name}` end",
        "name the tokenizer that made the tokens: `--tokenizer tokenizer.json`",
    )


def no_utf8(found: bytes) -> Diagnostics:
    return fault(
        "N755",
        f"a tokenizer reads letters, and {found!r} is none in UTF-8",
        "declare the encoding of the text, such as `--encoding cp1252`; a prompt is UTF-8",
    )


def no_tokenizer(path: Path, why: str) -> Diagnostics:
    return fault(
        "N756",
        f"`{path}` is not a tokenizer: {why}",
        "a tokenizer.json of Hugging Face's `tokenizers`; `nldsl tokenizer train` makes one",
    )


def not_a_run(folder: Path, why: str = "it has no run.json") -> Diagnostics:
    return fault(
        "N710",
        f"`{folder}` is not a run folder: {why}",
        "name the folder that `nldsl train` printed, such as runs/hope-1",
    )


def damaged_record(path: Path, why: str, saved: bool) -> Diagnostics:
    return fault(
        "N712",
        f"`{path}` does not say what the run is made of: {why}",
        "restore the file, or begin a new run"
        + ("" if saved else " (in this folder, if you like: nothing was saved in it)"),
    )


def differs(folder: Path, what: str, was: object, now: object, why: str = "") -> Diagnostics:
    return fault(
        "N711",
        f"`{folder}` cannot go on: its {what} was {was}, now it is {now}",
        f"{why}resume with what the run began with (leave the option out), or begin a new run",
    )


def other_spec(folder: Path, difference: str) -> Diagnostics:
    return fault(
        "N711",
        f"`{folder}` cannot go on: its spec differs: {difference}",
        "put the line back, or begin a new run with the new spec; `nldsl eval` and `generate` work "
        "with the spec as it was",
    )


def shorter(folder: Path, was: int, now: int) -> Diagnostics:
    return fault(
        "N711",
        f"`{folder}` cannot become {now} steps long: it is planned for {was}",
        "`--steps` beside `--resume` makes a run longer; Ctrl-C ends it sooner",
    )


def damaged(path: Path, why: str) -> Diagnostics:
    return fault(
        "N712",
        f"`{path}` is not a whole file of tensors: {why}",
        "restore the file, or begin a new run",
    )


def damaged_journal(path: Path, line: int, why: str) -> Diagnostics:
    return fault(
        "N712",
        f"`{path}`, line {line} is not what happened in a run: {why}",
        "mend the line, or delete the file: the run goes on without what it says",
    )


def other_tensors(path: Path, names: list[str]) -> Diagnostics:
    return fault(
        "N712",
        f"`{path}` belongs to another program: {listed(names)} differ",
        "the compiler or the library changed since the run began; begin a new run",
    )


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def cannot_write(path: Path, error: OSError) -> Diagnostics:
    return fault(
        "N713",
        f"`{path}` cannot be written: {error.strerror}",
        "what was saved before is whole; make room and go on with `nldsl train --resume`",
    )


def in_use(folder: Path) -> Diagnostics:
    return fault(
        "N714",
        f"another process is training in `{folder}`",
        "wait for it or stop it, or begin a new run with another `--out`",
    )


def already_a_run(folder: Path) -> Diagnostics:
    return fault(
        "N715",
        f"`{folder}` already holds a run",
        f"go on with `nldsl train --resume {folder}`, or name another folder",
    )


def checkpoint_gone(path: Path, step: int) -> Diagnostics:
    return fault(
        "N712",
        f"`{path}` is gone: step {step} was saved in it",
        "restore the file, or begin a new run",
    )


def nothing_saved(folder: Path) -> Diagnostics:
    return fault(
        "N716",
        f"`{folder}` has no checkpoint yet",
        f"let it train first: `nldsl train --resume {folder}`",
    )


def none_is_best(folder: Path) -> Diagnostics:
    return fault(
        "N716",
        f"`{folder}` has no checkpoint that scored best",
        f"score it as it trains: `nldsl train --resume {folder} --eval-every 100`; without "
        "`--best` the last one is used",
    )


def no_memory(path: Path) -> Diagnostics:
    return fault(
        "N717",
        f"there is no memory at `{path}`",
        "name a file that `--remember` or a run wrote, such as runs/reader-1/memory.safetensors",
    )


def other_memory(path: Path, names: list[str]) -> Diagnostics:
    return fault(
        "N717",
        f"`{path}` holds the memories of another program: {listed(names)} differ",
        "memories fit the spec, with the same dims, that they were learned in",
    )


def nothing_learns_at_tokens() -> Diagnostics:
    return fault(
        "N738",
        "no memory of this program learns while it reads",
        "a trace is of levels such as `level recall every token`; the curves of levels that tick "
        "with the steps are those of `nldsl train --watch`",
    )


def nothing_to_foretell(name: str, has: int, unit: str) -> Diagnostics:
    return fault(
        "N704",
        f"the first document of `{name}` has {has} {unit}: there is nothing to foretell",
        "a text of two or more",
    )


def nothing_outlives() -> Diagnostics:
    return fault(
        "N718",
        "no memory of this program outlives a sequence",
        "`reset never` in a level on the token clock makes one",
    )


def writes_nothing(folder: Path, nameless: bool = False) -> Diagnostics:
    if nameless:
        return fault(
            "N719",
            f"`{folder}` was trained on tokens that nothing says the meaning of, so it writes none",
            "train with the tokenizer that made them: `--tokenizer tokenizer.json`",
        )
    return fault(
        "N719",
        f"the model of `{folder}` predicts no bytes, so it writes none",
        "`nldsl eval` says how well it predicts; a loss by `cross_entropy` writes",
    )


def no_step(folder: Path, why: str) -> Diagnostics:
    return fault(
        "N762",
        f"`{folder}` has no step of decoding whose state has fixed sizes: {why}",
        "`--as torch` writes its forward pass alone, `--as hf` a model that writes",
    )


def no_file(name: str, tried: list[Path], span: Span | None) -> Diagnostics:
    return Diagnostics(
        [
            Diagnostic(
                "N730",
                f"there is no file `{name}` to load: {' and '.join(f'`{path}`' for path in tried)} "
                f"{'is' if len(tried) == 1 else 'are'} not there",
                span,
                help=f"say where it is: `--load {name}=PATH`, a .safetensors file or a run",
            )
        ]
    )


def loads_nothing(name: str, names: list[str]) -> Diagnostics:
    return fault(
        "N734",
        f"the program loads no file `{name}`",
        f"it loads {listed(names)}" if names else "it loads none",
    )


def nothing_fits(
    path: Path,
    there: Mapping[str, list[int]],
    here: Mapping[str, list[int]],
    sets: Mapping[str, str],
) -> Diagnostics:
    """N735, with an array that both have, or one of each. `sets`: what was set in the run."""
    own = " ".join(f"--set {name}={value}" for name, value in sets.items())
    resized = [name for name in here if name in there]
    if resized:
        name = resized[0]
        return fault(
            "N735",
            f"nothing of `{path}` fits this program: of its {len(there):,} arrays none has the "
            f"sizes of one here; `{name}` is {there[name]} there and {here[name]} here",
            f"the run has its sizes by `{own}`" if own else "set the dims to what the run has",
        )
    return fault(
        "N735",
        f"nothing of `{path}` fits this program: it holds {listed(list(there))}, the program has "
        f"{listed(list(here)) if here else 'no weights'}",
        "arrays are found by their qualified names: keep those of the definitions they stand in",
    )


def no_average(name: str, known: Mapping[str, str]) -> Diagnostics:
    """`known`: memory that follows weights -> these."""
    said = ", ".join(f"`{memory}` of `{weights}`" for memory, weights in known.items())
    return fault(
        "N737",
        f"the program has no average `{name}` of its weights"
        + (f"; it has {said}" if said else ""),
        "a level of the library keeps one: `import averages`, and at the top "
        f"`{name} = ema(training.W, 0.999)`",
    )


def several_averages(name: str, memories: list[str]) -> Diagnostics:
    return fault(
        "N737",
        f"`{name}` is the name of several averages of the same weights: {listed(memories)}",
        f"one of them: `--weights {memories[0].partition('.')[0]}`",
    )


def left_out(name: str, taken: Iterable[str], left: Mapping[str, Level]) -> Diagnostic:
    """`left`: memory of weights without such an average -> its level."""
    memory, level = next(iter(left.items()))
    block = ".".join(memory.split(".")[-2:])
    return Diagnostic(
        "N739",
        f"`{name}` is an average of {listed([*taken])} alone: {listed([*left])} "
        f"{'is used as it is' if len(left) == 1 else 'are used as they are'}",
        level.head or level.span,
        "learns beside it",
        help=f"`{name} = ema({block})` where this level stands; `continuum` of the library takes "
        "`ema` as its last argument; `--weights averaging` means every average",
        severity="warning",
    )


def other_tokens(path: Path, was: str | None, now: str | None) -> Diagnostic:
    said = [f"the tokenizer {sha[:12]}" if sha else "bytes" for sha in (was, now)]
    return Diagnostic(
        "N736",
        f"`{path}` was trained on other tokens: of {said[0]}, these are of {said[1]}",
        severity="warning",
        help=f"`--tokenizer {path}/tokenizer.json`" if was else "leave out `--tokenizer`",
    )


def not_finite(
    step: int,
    what: str,
    origin: str,
    kept: int | None,
    span: Span | None = None,
    notes: tuple[str, ...] = (),
) -> Diagnostics:
    """`what` of `step` is not a number; `origin` says where it began; `kept` is the step that is
    saved.
    """
    last = (
        f"the checkpoint of step {kept} is kept" if kept is not None else "nothing was saved before"
    )
    return Diagnostics(
        [
            Diagnostic(
                "N720",
                f"{what} {step} is not finite{origin}",
                span,
                notes=tuple((note, None) for note in notes),
                help=(
                    f"{last}; lower the rates (an inner rate above about 1 / chunk diverges), or "
                    "clip the gradient"
                ),
            )
        ]
    )


def no_score(folder: Path, value: float) -> Diagnostics:
    return fault(
        "N721",
        f"the loss of `{folder}` on this data is {value}: that is not a score",
        "`nldsl eval` with another DATA or a shorter `--length` shows where it diverges; train "
        "with lower rates",
    )


def no_next_byte(folder: Path) -> Diagnostics:
    return fault(
        "N721",
        f"the model of `{folder}` scores the next byte with a number that is not finite",
        "what it learns while it reads diverges: `--freeze`, a shorter prompt, or a run with lower "
        "inner rates",
    )


def memory_not_finite(path: Path, name: str) -> Diagnostics:
    return fault(
        "N721",
        f"`{path}` is not written: `{name}` holds a number that is not finite",
        "what was learned while reading diverged: another DATA, or a run with lower inner rates",
    )


def undivided(batch: int, ranks: int) -> Diagnostics:
    return fault(
        "N722",
        f"{batch} sequences of a micro-batch are not equally many on each of {ranks} ranks",
        f"`--batch {max(ranks, batch // ranks * ranks)}`, or another number of ranks; with "
        "`--accumulate` a step has more micro-batches",
    )


def unshared(batch: int, workers: int) -> Diagnostics:
    return fault(
        "N760",
        f"{batch} sequences of a micro-batch are not equally many for each of {workers} workers",
        f"`--batch {max(1, batch // workers) * workers}`, or another `--set worker=..`",
    )


def alone(option: str, ranks: int) -> Diagnostics:
    return fault(
        "N724",
        f"`{option}` is of one process: {ranks} ranks take each step of one run together",
        f"leave out `{option}`, or train without `torchrun`",
    )


def rank_gone(gone: Sequence[int], ranks: int) -> Diagnostics:
    named = " and ".join(map(str, gone))
    return fault(
        "N723",
        f"of {ranks} ranks, rank {named} ended in the midst of a run",
        "what was announced as saved is whole: say the same command with `--resume RUN`, or let "
        "`torchrun --max-restarts 3` do so",
    )


def no_device(device: str, count: int) -> Diagnostics:
    return fault(
        "N802",
        f"this machine has no `{device}`: torch sees "
        + ("no Metal device" if device == "mps" else f"{count} CUDA devices"),
        "`--device cpu`, or a torch build for this accelerator",
    )
