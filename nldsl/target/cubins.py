"""CODE OF GRAPHS -> its kernels as the GPU's machine code, by the assembler that Triton brings:
what each takes of a processor.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from nldsl.step.kernels.operator import kernel
from nldsl.step.kernels.source import Source
from nldsl.target.absent import present
from nldsl.target.devices import Gpu

if TYPE_CHECKING:
    from triton.compiler import CompiledKernel

KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)'''", re.S)
USAGE = re.compile(r"\b(REG|STACK|SHARED|LOCAL):(\d+)")


@dataclass(frozen=True)
class Cubin:
    """Of a thread: `registers`, `spilled` bytes of memory in their place; `shared` bytes of a block
    of `warps`.
    """

    name: str
    registers: int
    spilled: int
    shared: int
    warps: int


def cubins(codes: Iterable[str], sources: Iterable[Source], gpu: Gpu) -> Iterator[Cubin]:
    """Of the kernels of graphs, those with one text once; of the sizes of blocks that the compiler
    would try, the first; and of kernels of memories. Raises what Triton raises.
    """
    kernels = {
        body.replace(name, "kernel"): (name, body)
        for code in codes
        for name, body in KERNEL.findall(code)
    }
    with present(gpu), tempfile.TemporaryDirectory() as folder:
        for i, (name, body) in enumerate(kernels.values()):
            path = Path(folder) / f"kernel_{i}.py"
            path.write_text(body)
            yield assembled(name, path)
        for source in dict.fromkeys(sources):
            yield of_memories(source, gpu)


def of_memories(source: Source, gpu: Gpu) -> Cubin:
    from triton import compile as assemble
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = dict.fromkeys(source.tensors, "*fp32")
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(signature))}
    signature |= dict.fromkeys(source.numbers, "i32")
    made = assemble(
        ASTSource(fn=kernel(source), signature=signature, constexprs={}, attrs=aligned),
        target=GPUTarget("cuda", gpu.architecture, 32),
        options={"num_warps": source.warps},
    )
    return measured(f"pieces {source.name}", made)


def assembled(name: str, path: Path) -> Cubin:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    tuner = getattr(module, name)
    return measured(name, tuner._precompile_config(tuner.configs[0]).kernel)


def measured(name: str, made: CompiledKernel) -> Cubin:
    usage = used(made.asm["cubin"])
    spilled = usage["STACK"] + usage["LOCAL"]
    return Cubin(name, usage["REG"], spilled, made.metadata.shared, made.metadata.num_warps)


def used(cubin: bytes) -> dict[str, int]:
    import triton.backends.nvidia as nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {what: int(n) for what, n in USAGE.findall(said)}


def cubins_table(found: Iterable[Cubin]) -> Table:
    """A row for each kernel, those that take most registers first."""
    rows = sorted(found, key=lambda one: (-one.spilled, -one.registers, one.name))
    spilling = sum(one.spilled > 0 for one in rows)
    table = Table(title=f"{len(rows)} kernels assembled, {spilling} spill", title_justify="left")
    table.add_column("kernel", overflow="fold")
    for column in ("registers", "spilled B", "shared B", "warps"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in rows:
        numbers = (one.registers, one.spilled, one.shared, one.warps)
        table.add_row(one.name, *(f"{n:,}" for n in numbers))
    return table
