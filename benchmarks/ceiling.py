"""Peak throughput of a device, measured with a large matrix product and a large convolution.

Either may be the faster one: on AMD's CPUs the library for matrix products leaves half of the vector units idle.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import conv2d

from .measure import Setting, Stopwatch, repeat

CONV_CHANNELS, CONV_SIZE = 256, 56
"""A 3x3 convolution of 256 to 256 channels on maps of 56x56: plenty of work per value on any device."""


def matmul_ceiling(setting: Setting, dtype: torch.dtype, size: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several products of two size x size matrices (2 size³ operations)."""
    a, b = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
    return _best(setting, lambda: a @ b, 2 * size**3, rounds)


def conv_ceiling(setting: Setting, dtype: torch.dtype, batch: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several convolutions, channels_last, forward only."""
    options = {"device": setting.device, "dtype": dtype}
    x = torch.randn(batch, CONV_CHANNELS, CONV_SIZE, CONV_SIZE, **options).to(memory_format=torch.channels_last)
    weight = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, **options).to(memory_format=torch.channels_last)
    operations = 2 * batch * CONV_SIZE**2 * CONV_CHANNELS**2 * 9
    return _best(setting, lambda: conv2d(x, weight, padding=1), operations, rounds)


def _best(setting: Setting, function: Callable[[], object], operations: int, rounds: int) -> float:
    # A GPU needs several calls in a row to be fully used.
    calls = 20 if setting.device.type == "cuda" else 1
    with torch.inference_mode():
        return operations / min(repeat(Stopwatch(setting.device).as_round(function, calls), rounds))
