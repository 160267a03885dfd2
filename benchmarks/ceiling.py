"""What a device can do at most, measured on it: one large matrix product, one large convolution.

Either may be the larger: on AMD's CPUs the product's library leaves half of the vector units idle.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import conv2d

from .measure import Setting, Stopwatch, repeat

CONV_CHANNELS, CONV_SIDE = 256, 56
"""A 3x3 convolution of 256 to 256 channels on maps of 56x56: plenty of work per value on any device."""


def matmul_ceiling(setting: Setting, dtype: torch.dtype, side: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several products of two side x side matrices (2 side³ operations)."""
    a, b = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    return _best(setting, lambda: a @ b, 2 * side**3, rounds)


def conv_ceiling(setting: Setting, dtype: torch.dtype, batch: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several convolutions, channels_last, forward only."""
    form = {"device": setting.device, "dtype": dtype}
    x = torch.randn(batch, CONV_CHANNELS, CONV_SIDE, CONV_SIDE, **form).to(memory_format=torch.channels_last)
    weight = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, **form).to(memory_format=torch.channels_last)
    operations = 2 * batch * CONV_SIDE**2 * CONV_CHANNELS**2 * 9
    return _best(setting, lambda: conv2d(x, weight, padding=1), operations, rounds)


def _best(setting: Setting, work: Callable[[], object], operations: int, rounds: int) -> float:
    # A GPU needs several in a row before it is busy; a CPU is busy at once.
    times = 20 if setting.device.type == "cuda" else 1
    with torch.inference_mode():
        return operations / min(repeat(Stopwatch(setting.device).rounds_of(work, times), rounds))
