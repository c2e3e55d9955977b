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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import BytesIO
from operator import is_
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

import nldsl
from nldsl import writing

Run = Callable[..., Any]
Tell = Callable[[str], None]
ENTRY = "entry"  # what the function is called where it is compiled alone
NUMBERED = re.compile(r"[a-z]+_\d+")  # functions of one emitted module, in their order there
OPEN, TAKEN, SAID = ".open", ".taken", ".said"  # files of jobs, and of what processes say
SENDS = "over_ranks(", "from_ranks("  # in the text of a function
FORMAT = 7  # of what is kept
TOGETHER = 64  # kernels of a GPU that are one, at most
UNORDERED = (torch.ops.aten.embedding_dense_backward.default,)
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
    """A function that is to be compiled, for arguments as in a call: `args` holds `Like`. `again`:
    what it makes entry by entry is not kept for the backward pass.
    """

    text: str
    args: object
    kind: Kind
    again: bool = False

    @property
    def key(self) -> str:
        """Says all that the result depends on."""
        said = repr((FORMAT, self.text, self.kind, self.again, torch.__version__, machine()))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    @property
    def sends(self) -> bool:
        """Does it send to other ranks? The compiler asks for their group, which a process by itself
        does not have.
        """
        return any(name in self.text for name in SENDS)

    def function(self) -> Run:
        module: dict[str, Any] = {}
        if "torch.ops.nldsl" in self.text:
            import_module("nldsl.step.kernels.operator")
        exec(compile(self.text, "<nldsl block>", "exec"), module)
        found: Run = module[ENTRY]
        return found

    def compiled(self) -> Saved:
        """Raises what the compiler raises."""
        from torch._dynamo.exc import TensorifyScalarRestartAnalysis

        compiler: Any = torch.compile(self.function(), fullgraph=True, dynamic=False)
        found: Saved
        given = empty(self.args)
        with torch.set_grad_enabled(self.kind.grad), compiling(self.again):
            while True:
                try:
                    found = compiler.aot_compile((given, {}))
                    return found
                except TensorifyScalarRestartAnalysis:  # a number of the graph became a constant
                    continue


@contextmanager
def compiling(again: bool) -> Iterator[None]:
    """How PyTorch compiles a function: the rows of an embedding sum up their gradient in one order,
    where threads would add to them as they come; products are gathered, inverses made once; kernels
    of a GPU that need nothing of each other are one.
    `again`: for the backward pass it keeps products, and makes again what is made of them entry by
    entry.
    """
    from torch._functorch import config
    from torch._inductor import config as inductor
    from torch._inductor.decomposition import decompositions, fast_random_decomps
    from torch._inductor.lowering import lowerings, make_fallback, require_contiguous

    from nldsl.step.gathering import Gathering
    from nldsl.step.inverses import Inverses
    from nldsl.step.results import Results

    with (
        config.patch(aggressive_recomputation=again),
        inductor.patch(joint_custom_pre_pass=Inverses(), post_grad_custom_pre_pass=Gathering()),
        inductor.patch(post_grad_custom_post_pass=Results()),
        inductor.patch(combo_kernels=True, combo_kernel_max_num_nodes=TOGETHER),
        patch.dict(decompositions),
        patch.dict(lowerings),
    ):
        for op in UNORDERED:
            decompositions.pop(op, None)
            make_fallback(op, require_contiguous, warn=False)  # type: ignore[no-untyped-call]
        fast_random_decomps.cache_clear()  # a copy of the table, made when it is first asked for
        try:
            yield
        finally:
            fast_random_decomps.cache_clear()


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
    """A function of an emitted module; `text` is its own and that of all it calls; `again` as of a
    `Job`.
    """

    def __init__(self, run: Run, text: str, obtain: Obtain, again: bool = False) -> None:
        self.run, self.text, self.obtain, self.again = run, text, obtain, again
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
        return Job(self.text, tree_unflatten(list(kind.leaves), spec), kind, self.again)


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


def bare(module: str) -> str:
    """A module without comments and without what it says of itself."""
    tree = ast.parse(module)
    tree.body = [x for x in tree.body if not isinstance(x, ast.Expr)]
    return ast.unparse(tree)


def texts(module: str, names: Iterable[str], blocks: Collection[str] = ()) -> dict[str, str]:
    """The text of each named function of an emitted module, alone: with all that it calls, without
    comments, called `ENTRY`. Functions that compute the same have the same text. What `blocks` hand
    to the next call, nobody differentiates: else a gradient of zeros would come for it.
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
        rows = [deepcopy(node) for name, node in defined.items() if name in needed]
        called = {entry: ENTRY}
        for node in (node for row in rows for node in ast.walk(row)):
            if isinstance(node, ast.Name) and node.id in needed and NUMBERED.fullmatch(node.id):
                stem = node.id.rpartition("_")[0]
                called.setdefault(node.id, f"{stem}_of_{len(called)}")
        for node in (node for row in rows for node in ast.walk(row)):
            if isinstance(node, ast.Name):
                node.id = called.get(node.id, node.id)
            if isinstance(node, ast.FunctionDef):
                node.name = called.get(node.name, node.name)
                if node.name == ENTRY and entry in blocks:
                    detach(node)
        return "\n\n".join(ast.unparse(node) for node in (*imports, *rows))

    return {name: text(name) for name in names}


def detach(block: ast.FunctionDef) -> None:
    """`return outputs, (x,)` -> `return outputs, (x.detach(),)`"""
    end = block.body[-1]
    assert isinstance(end, ast.Return) and isinstance(end.value, ast.Tuple)
    _, kept = end.value.elts
    assert isinstance(kept, ast.Tuple)
    kept.elts = [ast.Call(ast.Attribute(x, "detach", ast.Load()), [], []) for x in kept.elts]


# -- compiling


def obtained(jobs: Sequence[Job], tell: Tell = unwatched) -> list[Run]:
    """The compiled functions of jobs, loaded if they are kept, else compiled and kept."""
    missing = {job.key: job for job in jobs if stored(job.key) is None and not job.sends}
    if len(missing) > 1 and writing.home() is not None:
        compile_apart(missing, tell)
    made = {}
    for key, job in {job.key: job for job in jobs}.items():
        if (kept := stored(key)) is None:
            tell("1 function")
        made[key] = ready(keep(key, job) if kept is None else load(kept))
    return [made[job.key] for job in jobs]


def keep(key: str, job: Job) -> Saved:
    """Compiles a job, and keeps it if the disk takes it. Raises what the compiler raises."""
    found = job.compiled()
    with suppress(OSError), tempfile.TemporaryDirectory() as drafts:
        draft = Path(drafts) / key
        found.save_compiled_function(str(draft))
        store(key, draft.read_bytes())
    return found


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
        running = {process(Path(folder), n): n for n in range(several)}
        begun = 0
        try:
            while running:
                for one in [one for one in running if one.poll() is not None]:
                    n = running.pop(one)
                    if one.returncode:
                        words = told(Path(folder), n) or f"its process ended: {one.returncode}"
                        raise RuntimeError(f"a function was not compiled: {words}")
                now = len(list(Path(folder).glob(f"*{TAKEN}")))
                for n in range(begun + 1, now + 1):
                    tell(f"{n} of {len(jobs)} functions")
                begun = now
                time.sleep(0.05)
        finally:
            for one in running:
                one.kill()
                one.wait()


def told(folder: Path, n: int) -> str:
    """The last line that a process wrote."""
    return "".join((folder / f"{n}{SAID}").read_text().strip().splitlines()[-1:])


def process(folder: Path, n: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nldsl.step.functions", str(folder)]
    where = [str(Path(nldsl.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, where))}
    with (folder / f"{n}{SAID}").open("wb") as file:
        return subprocess.Popen(command, stderr=file, env={**os.environ, **paths})


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


def load(kept: bytes) -> Saved:
    found: Saved = torch.compiler.load_compiled_function(BytesIO(kept))  # type: ignore[assignment]
    return found


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
    size = 0
    with suppress(FileNotFoundError):  # another process makes room, too
        for file in sorted(found.iterdir(), key=lambda file: -file.stat().st_mtime):
            size += file.stat().st_size
            if size > KEPT_BYTES:
                file.unlink()
    return found


@cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def store(key: str, content: bytes) -> None:
    """Behind its digest. Raises OSError."""
    writing.replace(folder() / key, hashlib.sha256(content).digest() + content)


def stored(key: str) -> bytes | None:
    """What was stored; None where nothing was, or what is there is not whole."""
    try:
        read = (folder() / key).read_bytes()
        os.utime(folder() / key)
    except OSError:
        return None
    digest, content = read[:32], read[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def known(key: str) -> dict[str, list[Job]] | None:
    """The jobs that were kept under a name, if all that they give is still there."""
    kept = stored(key)
    if kept is None:
        return None
    jobs: dict[str, list[Job]] = pickle.loads(kept)
    whole = all(stored(job.key) is not None for some in jobs.values() for job in some)
    return jobs if whole else None


def remember(key: str, jobs: dict[str, list[Job]]) -> None:
    with suppress(OSError):
        store(key, pickle.dumps(jobs))


if __name__ == "__main__":
    from nldsl.step import functions

    functions.main()  # what was pickled belongs to the module by its name
