"""Where a network runs and in which precision."""

from __future__ import annotations

import os

import torch

from ..errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device by name; auto takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: the device is not there.
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
            raise UserError("--device cuda: no CUDA GPU is usable here; use --device cpu, or auto for what is there.")
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"--device {name}: only {torch.cuda.device_count()} GPU(s) are here, counted from 0.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: this is no Apple GPU; use --device cpu, or auto for what is there.")
    return device


def bf16_in_hardware(device: torch.device) -> bool:
    """Whether bf16 is fast here: GPUs of the A100's generation and later, CPUs with AVX-512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def use_bf16(amp: str, device: torch.device) -> bool:
    """Whether autocast to bf16 is on.

    Args:
        amp: "auto" (where the hardware does it), "bf16" or "off".
        device: the device.
    """
    return amp == "bf16" or (amp == "auto" and bf16_in_hardware(device))


def share_cores(device: torch.device, costly: bool) -> tuple[int, int]:
    """How a training's cores are shared: (threads of the network, processes that prepare samples).

    Threads of one operation wait for each other, so a worker that takes a core from one of them stops them all: on two
    cores, two threads and two workers train slower than one and one. Drawing a costly world takes about two fifths of
    what a step takes; stored sets and light worlds take little.

    Args:
        device: where the network runs.
        costly: whether making samples takes long beside training on them.
    """
    cores = torch.get_num_threads()
    if device.type != "cpu":
        return cores, min(8, os.cpu_count() or 1)
    threads = max(1, round(0.6 * cores)) if costly else cores
    return threads, min(8, max(1, cores - threads))


def device_name(device: torch.device) -> str:
    """The device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
