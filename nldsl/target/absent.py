"""GPU -> PyTorch's compiler as if it were there: what it asks of a device before anything runs.

Every private or version-dependent place that is touched for it stands in this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from nldsl.extras import needs
from nldsl.target.devices import Gpu

DEVICE = torch.device("cuda:0")
SETTINGS = {
    "force_disable_caches": True,
    "compile_threads": 1,
    "triton.autotune_at_compile_time": False,
    "use_static_triton_launcher": False,
}


def require_triton() -> None:
    """Raises Diagnostics (N890) where there is none."""
    with needs("target"):
        import_module("triton")


def driver(gpu: Gpu) -> SimpleNamespace:
    """What Triton, and PyTorch through it, ask of a driver before a kernel is loaded."""
    from triton.backends.compiler import GPUTarget

    limits = {"max_shared_mem": gpu.shared, "multiprocessor_count": gpu.processors}
    limits |= {"warpSize": 32, "max_num_regs": 65536}
    target = GPUTarget("cuda", gpu.architecture, 32)
    return SimpleNamespace(
        utils=SimpleNamespace(get_device_properties=lambda device: limits),
        get_current_target=lambda: target,
        get_current_device=lambda: 0,
        get_current_stream=lambda device=0: 0,
        get_active_torch_device=lambda: DEVICE,
        get_device_interface=lambda: torch.cuda,
        is_active=lambda: True,
    )


def answers(gpu: Gpu) -> dict[str, Callable[..., object]]:
    """Of `torch.cuda`, by the name of the function."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device=None: gpu.properties,
        "get_device_capability": lambda device=None: gpu.capability,
        "get_device_name": lambda device=None: gpu.name,
        "synchronize": lambda device=None: None,
        "set_device": lambda device: None,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_rng_state": lambda device=0: torch.get_rng_state(),
        "set_rng_state": lambda state, device=0: None,
        "_lazy_init": lambda: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
    }


def copied(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """PyTorch's own asks its build for CUDA, even where there is nothing to copy."""
    assert source.expand(x.shape) is not None
    return x


@contextmanager
def present(gpu: Gpu) -> Iterator[None]:
    """Within, PyTorch's compiler takes the GPU for the one of this machine. Nothing can run."""
    import torch._dynamo.device_interface as interface
    import triton
    from torch._inductor import config
    from torch._inductor.runtime import triton_helpers

    cuda = interface.CudaInterface
    with ExitStack() as stack:
        stack.callback(ask_anew)
        for name, answer in answers(gpu).items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
            if hasattr(cuda, name.lstrip("_")):
                stack.enter_context(patch.object(cuda, name.lstrip("_"), staticmethod(answer)))
        stack.enter_context(patch.object(cuda, "get_raw_stream", staticmethod(lambda device: 0)))
        known = {"cuda": [gpu.properties]}
        stack.enter_context(patch.dict(interface.caching_worker_device_properties, known))
        stack.enter_context(patch.dict(interface.caching_worker_current_devices, {"cuda": 0}))
        stack.enter_context(patch.object(triton.runtime.driver, "_active", driver(gpu)))
        stack.enter_context(patch.object(triton_helpers, "set_driver_to_gpu", lambda: None))
        stack.enter_context(patch.object(FakeTensor, "copy_", copied, create=True))
        stack.enter_context(config.patch(SETTINGS))
        ask_anew()
        yield


def ask_anew() -> None:
    """Forgets what was known of the device."""
    import torch.utils._triton as support

    for function in vars(support).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
