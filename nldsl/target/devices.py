"""GPUs that a step can be lowered for: what the compiler asks of one, and what one can do.

Peaks are those of NVIDIA's data sheets for dense operands, without sparsity.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch

GIB = 2**30
PRODUCTS = 0.7  # share of the peak that a large product of matrices reaches
MEMORY = 0.85  # share of the peak that a kernel which streams its operands reaches


@dataclass(frozen=True)
class Gpu:
    """`flops`: peak operations a second of matrix products, by the type of the operands; of
    float32 without TF32, which nothing asks for. `bandwidth`: of its memory, bytes a second.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    memory: int
    shared: int  # bytes of shared memory that a block may ask for
    cache: int
    flops: dict[torch.dtype, float]
    bandwidth: float

    @property
    def architecture(self) -> int:
        """As in `sm_90`."""
        return 10 * self.capability[0] + self.capability[1]

    def peak(self, dtype: torch.dtype) -> float:
        """Operations a second that a large product reaches."""
        return PRODUCTS * self.flops.get(dtype, self.flops[torch.float32])

    @property
    def streamed(self) -> float:
        """Bytes a second that a large kernel reaches."""
        return MEMORY * self.bandwidth

    @property
    def properties(self) -> SimpleNamespace:
        """As `torch.cuda.get_device_properties` has them."""
        return SimpleNamespace(
            name=self.name,
            major=self.capability[0],
            minor=self.capability[1],
            multi_processor_count=self.processors,
            total_memory=self.memory,
            warp_size=32,
            regs_per_multiprocessor=65536,
            max_threads_per_multi_processor=2048,
            max_threads_per_block=1024,
            shared_memory_per_block=48 * 1024,
            shared_memory_per_block_optin=self.shared,
            shared_memory_per_multiprocessor=self.shared + 1024,
            L2_cache_size=self.cache,
            gcnArchName="",
        )


HOPPER = {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 67e12, torch.float64: 67e12}
AMPERE = {torch.bfloat16: 312e12, torch.float16: 312e12, torch.float32: 19.5e12}
AMPERE |= {torch.float64: 19.5e12}
SHARED_90, SHARED_80 = 227 * 1024, 163 * 1024

GPUS = {
    "h100": Gpu("NVIDIA H100 SXM", (9, 0), 132, 80 * GIB, SHARED_90, 50 << 20, HOPPER, 3.35e12),
    "h200": Gpu("NVIDIA H200 SXM", (9, 0), 132, 141 * GIB, SHARED_90, 50 << 20, HOPPER, 4.8e12),
    "a100": Gpu("NVIDIA A100 SXM", (8, 0), 108, 80 * GIB, SHARED_80, 40 << 20, AMPERE, 2.04e12),
}
