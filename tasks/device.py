"""Device, precision and CPU cores."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from typing import TypeVar

import torch
from torch import nn

from ..errors import UserError
from .distributed import available_cores

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def choose_device(name: str = "auto") -> torch.device:
    """The device with a name; "auto" is the first available of CUDA, MPS and CPU.

    Under torchrun, "cuda" is the GPU of the process (LOCAL_RANK).

    Raises:
        UserError: an unknown or unavailable device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"There is no device '{name}'; use cpu, cuda, mps or auto.")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "--device cuda: no CUDA GPU is available; use --device cpu, or auto for the best available device."
            )
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {name}: only {torch.cuda.device_count()} GPU(s) are available, numbered from 0.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "--device mps: no Apple GPU is available; use --device cpu, or auto for the best available device."
        )
    return device


def to_device(module: ModuleT, device: torch.device) -> ModuleT:
    """Move a module to a device, in place, with the weights of 2-D convolutions in channels_last (faster there).

    `module.to(memory_format=torch.channels_last)` fails on the weights of 3-D convolutions.
    """
    module.to(device)
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def bf16_in_hardware(device: torch.device) -> bool:
    """Whether the device computes bf16 in hardware: GPUs since the A100, CPUs with AVX-512-BF16 or AMX.

    On a CPU, oneDNN computes in bf16; the environment variable ONEDNN_MAX_CPU_ISA may forbid it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return bool(fast and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def use_bf16(amp: str, device: torch.device) -> bool:
    """Whether to use autocast to bf16.

    Args:
        amp: "auto" (if the hardware supports it), "bf16", or another for no.
        device: the device of the network.
    """
    return amp == "bf16" or (amp == "auto" and bf16_in_hardware(device))


def amp_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision; None: fp32.

    Args:
        amp: "auto" (bf16 if the hardware supports it; else fp16 on a CUDA device), "bf16", "fp16" or "off".
        device: the device of the network.
    """
    if use_bf16(amp, device):
        return torch.bfloat16
    return torch.float16 if amp == "fp16" or (amp == "auto" and device.type == "cuda") else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """A context in which a network runs in mixed precision; without effect for None."""
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def dtype_name(dtype: torch.dtype | None) -> str:
    """Name of a type of `amp_dtype`: "bf16", "fp16" or "fp32"."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype or torch.float32, "fp32")


def split_cpu_cores(device: torch.device, cpu_heavy: bool) -> tuple[int, int]:
    """Split the CPU cores into (threads of the model, data loading processes).

    Threads of one operation wait for each other, so a worker that takes the core of one thread stops them all: on two
    cores, two threads and two workers train slower than one and one. Generating a CPU-heavy synthetic sample takes
    about two fifths of a training step; stored and other synthetic datasets take little.

    Args:
        device: device of the model.
        cpu_heavy: whether generating samples takes long compared with training on them.
    """
    available = available_cores()
    cores = min(torch.get_num_threads(), available)
    if device.type != "cpu":
        return cores, min(8, available)
    threads = max(1, round(0.6 * cores)) if cpu_heavy else cores
    return threads, min(8, max(1, cores - threads))


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Keep freed memory in this process, where its C library is glibc.

    Otherwise, each training step on the CPU returns the memory of its activations to the system and gets it back, page
    by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(parameter, 2**30)


def device_name(device: torch.device) -> str:
    """Name of the device for reports: the GPU's product name, or "cpu (8 threads)"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
