"""EMITTED FUNCTION -> COMPILED FUNCTION, one for each kind of arguments that it meets.

What is compiled is kept on the disk under its text, that of all it calls and the kind of its
arguments: the next start of a program, and an equal block of another one, loads it. What is not
kept yet is compiled by several processes at once.

    python -m nldsl.step.functions FOLDER       compiles the jobs in a folder, see `compile_apart`
"""

from __future__ import annotations

import ast
import hashlib
import os
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from operator import is_
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

import nldsl
from nldsl import writing

Run = Callable[..., Any]
Tell = Callable[[str], None]
ENTRY = "entry"  # what the function is called where it is compiled alone
OPEN, TAKEN = ".open", ".taken"  # the files of jobs
KEPT_BYTES = 4 << 30  # of the folder, the oldest go first


class Saved(Protocol):
    """A compiled function as PyTorch makes it ahead of its calls."""

    def __call__(self, *args: object) -> object: ...

    def save_compiled_function(self, path: str) -> object: ...

    def disable_guard_check(self) -> None: ...


def unwatched(what: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Like:
    """What a compiled function depends on of a tensor. `same`: of the same tensor given twice, the
    place at which it came first.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: str
    learns: bool
    same: int

    def empty(self) -> Tensor:
        x = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return x.requires_grad_(self.learns)


@dataclass(frozen=True)
class Kind:
    """The kind of the arguments of a call: what stands where, tensors by what they are like."""

    leaves: tuple[Like | int | float | str | bool | None, ...]
    spec: str
    grad: bool


Obtain = Callable[[Sequence["Job"], Tell], list[Run]]


def kind_of(args: tuple[object, ...]) -> Kind:
    leaves, spec = tree_flatten(args)
    first: dict[int, int] = {}
    return Kind(
        tuple(
            Like(
                tuple(x.shape),
                x.stride(),
                x.dtype,
                str(x.device),
                x.requires_grad,
                first.setdefault(id(x), i),
            )
            if isinstance(x, Tensor)
            else x
            for i, x in enumerate(leaves)
        ),
        "" if len(leaves) == len(args) and all(map(is_, leaves, args)) else str(spec),
        torch.is_grad_enabled(),
    )


def empty(args: object) -> object:
    """Arguments whose tensors are `Like`, with tensors."""
    leaves, spec = tree_flatten(args)
    made: list[object] = []
    for i, x in enumerate(leaves):
        made.append((x.empty() if x.same == i else made[x.same]) if isinstance(x, Like) else x)
    return tree_unflatten(made, spec)


@dataclass(frozen=True)
class Job:
    """A function that is to be compiled, for arguments as in a call: `args` holds `Like`."""

    text: str
    args: object
    kind: Kind

    @property
    def key(self) -> str:
        """Says all that the result depends on."""
        said = repr((self.text, self.kind, torch.__version__, machine()))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def function(self) -> Run:
        module: dict[str, Any] = {}
        exec(compile(self.text, "<nldsl block>", "exec"), module)
        found: Run = module[ENTRY]
        return found

    def compiled(self) -> Saved:
        """Raises what the compiler raises."""
        from torch._dynamo.exc import TensorifyScalarRestartAnalysis

        compiler: Any = torch.compile(self.function(), fullgraph=True, dynamic=False)
        found: Saved
        given = empty(self.args)
        with torch.set_grad_enabled(self.kind.grad):
            while True:
                try:
                    found = compiler.aot_compile((given, {}))
                    return found
                except TensorifyScalarRestartAnalysis:  # a number of the graph became a constant
                    continue


def machine() -> tuple[object, ...]:
    """What a compiled function depends on of the machine and the settings of PyTorch."""
    return (
        platform.python_version(),
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        torch.get_float32_matmul_precision(),
    )


class Compiled:
    """A function of an emitted module; `text` is its own and that of all it calls."""

    def __init__(self, run: Run, text: str, obtain: Obtain) -> None:
        self.run, self.text, self.obtain = run, text, obtain
        self.made: dict[Kind, Run] = {}
        self.met: dict[Kind, Job] | None = None  # while calls are recorded
        self.as_written = False

    def __call__(self, *args: object) -> object:
        if self.as_written and self.met is None:
            return self.run(*args)
        kind = kind_of(args)
        if self.met is not None:
            self.met[kind] = self.job(args, kind)
            return self.run(*args)
        if kind not in self.made:
            self.made[kind] = self.obtain([self.job(args, kind)], unwatched)[0]
        return self.made[kind](*args)

    def job(self, args: tuple[object, ...], kind: Kind) -> Job:
        _, spec = tree_flatten(args)
        return Job(self.text, tree_unflatten(list(kind.leaves), spec), kind)


@contextmanager
def recording(functions: Iterable[Compiled]) -> Iterator[None]:
    """Within, the functions are run as they are written; `met` says what they were given."""
    functions = list(functions)
    for function in functions:
        function.met = {}
    try:
        yield
    finally:
        for function in functions:
            function.met = None


def texts(module: str, names: Iterable[str]) -> dict[str, str]:
    """The text of each named function of an emitted module, alone: with all that it calls, without
    comments, called `ENTRY`. Functions that compute the same have the same text.
    """
    nodes = ast.parse(module).body
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    defined: dict[str, ast.stmt] = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
    uses = {
        name: {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & defined.keys()
        for name, node in defined.items()
    }

    def text(entry: str) -> str:
        needed, waiting = {entry}, [entry]
        while waiting:
            new = uses[waiting.pop()] - needed
            needed |= new
            waiting += new
        rows = [ast.unparse(n) for n in imports]
        rows += [ast.unparse(node) for name, node in defined.items() if name in needed]
        called = {entry: ENTRY}
        for name in re.findall(r"\b[a-z]+_\d+\b", "\n".join(rows)):
            if name in needed:
                called.setdefault(name, f"{name.rpartition('_')[0]}_of_{len(called)}")
        return re.sub(r"\b\w+\b", lambda m: called.get(m[0], m[0]), "\n\n".join(rows))

    return {name: text(name) for name in names}


# -- compiling


def obtained(jobs: Sequence[Job], tell: Tell = unwatched) -> list[Run]:
    """The compiled functions of jobs, loaded if they are kept, else compiled and kept."""
    missing = {job.key: job for job in jobs if not place(job.key).exists()}
    made: dict[str, Run] = {}
    if len(missing) == 1:
        ((key, job),) = missing.items()
        tell("1 function")
        made = {key: keep(key, job)}
    elif missing:
        compile_apart(missing, tell)
    for key, job in {job.key: job for job in jobs if job.key not in made}.items():
        made[key] = load(key) if place(key).exists() else keep(key, job)
    return [made[job.key] for job in jobs]


def keep(key: str, job: Job) -> Run:
    """Compiles a job, and keeps it if the disk takes it. Raises what the compiler raises."""
    found = job.compiled()
    with suppress(OSError), tempfile.TemporaryDirectory(dir=folder()) as drafts:
        found.save_compiled_function(str(Path(drafts) / key))
        os.replace(Path(drafts) / key, place(key))
    return ready(found)


def compile_apart(jobs: Mapping[str, Job], tell: Tell) -> None:
    """Compiles jobs in as many processes as there are cores, the largest first. Raises RuntimeError
    with what a process said if it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        largest = sorted(jobs, key=lambda key: -len(jobs[key].text))
        for n, key in enumerate(largest):
            job = pickle.dumps((torch.get_num_threads(), key, jobs[key]))
            (Path(folder) / f"{n:04}{OPEN}").write_bytes(job)
        several = min(len(os.sched_getaffinity(0)), len(jobs))
        running = [process(Path(folder)) for _ in range(several)]
        begun = 0
        try:
            while running:
                for one in [one for one in running if one.poll() is not None]:
                    running.remove(one)
                    words = said(one)
                    if one.returncode:
                        raise RuntimeError(f"a function was not compiled: {words}")
                now = len(list(Path(folder).glob(f"*{TAKEN}")))
                for n in range(begun + 1, now + 1):
                    tell(f"{n} of {len(jobs)} functions")
                begun = now
                time.sleep(0.05)
        finally:
            for one in running:
                one.kill()
                one.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The last line that a process wrote, or the signal that ended it."""
    lines = process.communicate()[1].strip().splitlines()
    return lines[-1] if lines else f"its process ended with {process.returncode}"


def process(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nldsl.step.functions", str(folder)]
    where = [str(Path(nldsl.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, where))},
    )


def main() -> None:
    """Compiles the jobs in a folder that no other process has taken."""
    for file in sorted(Path(sys.argv[1]).glob(f"*{OPEN}")):
        taken = file.with_suffix(TAKEN)
        try:
            file.rename(taken)
        except FileNotFoundError:
            continue
        threads, key, job = pickle.loads(taken.read_bytes())
        torch.set_num_threads(threads)
        keep(key, job)
        torch._dynamo.reset()


# -- the folder


def load(key: str) -> Run:
    with place(key).open("rb") as file:
        found: Any = torch.compiler.load_compiled_function(file)
    os.utime(place(key))
    return ready(found)


def ready(found: Saved) -> Run:
    found.disable_guard_check()  # the kind of its arguments says all that the guards would ask
    return found


@cache
def folder() -> Path:
    """Where compiled functions are kept: with what the user keeps, else as long as the process
    lives. What was not used for longest makes room.
    """
    home = writing.home()
    found = home / "compiled" if home else Path(scratch().name)
    found.mkdir(mode=0o700, exist_ok=True)
    files = sorted(
        (f for f in found.iterdir() if f.is_file()),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    size = 0
    for file in files:
        size += file.stat().st_size
        if size > KEPT_BYTES:
            file.unlink(missing_ok=True)
    return found


@cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def place(key: str) -> Path:
    return folder() / f"{key}.step"


def known(key: str) -> dict[str, list[Job]] | None:
    """The jobs that were kept under a name, if all that they give is still there."""
    file = folder() / f"{key}.jobs"
    if not file.exists():
        return None
    jobs: dict[str, list[Job]] = pickle.loads(file.read_bytes())
    whole = all(place(job.key).exists() for some in jobs.values() for job in some)
    return jobs if whole else None


def remember(key: str, jobs: dict[str, list[Job]]) -> None:
    writing.replace(folder() / f"{key}.jobs", pickle.dumps(jobs))


if __name__ == "__main__":
    from nldsl.step import functions

    functions.main()  # what was pickled belongs to the module by its name
