"""Benchmark of a ResNet-18 training step, against torchvision's model with common defaults: eager, NCHW, plain SGD."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from ..backbones import create_backbone
from ..tasks.device import use_bf16
from ..tasks.training.optimizers import create_optimizer
from ..tasks.training.options import DEFAULTS
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, repeat

MODEL = "resnet18"
CLASSES = 1000
SGD = dataclasses.replace(DEFAULTS, optimizer="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
BATCH, CUDA_BATCH = 16, 256
"""Batch sizes; with 16, a GPU would wait for Python."""
MATMUL_SIZE, CUDA_MATMUL_SIZE = 1024, 8192
ROUNDS = 10
MIN_SECONDS = 0.2
"""Minimum duration of a round in seconds; shorter steps are repeated within it."""
CONV_CHANNELS, CONV_SIZE = 256, 56
"""A 3x3 convolution of 256 to 256 channels on maps of 56x56: plenty of work per value on any device."""

Step = Callable[[], None]


def measure(
    setting: Setting,
    *,
    batch_size: int | None = None,
    image_size: int = 224,
    matmul_size: int | None = None,
    rounds: int = ROUNDS,
) -> Report:
    """Measure training steps in fp32 and, if the device supports it in hardware, in bf16.

    Batches are of 16, on a GPU of 256; one of the two peak measurements multiplies square matrices of `matmul_size`.
    """
    cuda = setting.device.type == "cuda"
    batch_size = batch_size or (CUDA_BATCH if cuda else BATCH)
    matmul_size = matmul_size or (CUDA_MATMUL_SIZE if cuda else MATMUL_SIZE)
    rounds = setting.rounds or rounds
    shapes = f"{batch_size}x3x{image_size}x{image_size}, SGD with momentum"
    image, label = _data(setting, batch_size, image_size)
    plain = "channels_last, fused SGD" + (", compiled" if setting.compile else "")
    watch = Stopwatch(setting.device)

    def compare(
        what: str, ours: Step, theirs: Step, names: tuple[str, str], required: float | None, goal: float | None
    ):
        # Two untimed calls first: the first one may compile, and the second one still allocates.
        for step in (ours, theirs, ours, theirs):
            step()
        calls = max(1, math.ceil(MIN_SECONDS / max(watch(ours), watch(theirs))))
        pairs = alternate(watch.as_round(ours, calls), watch.as_round(theirs, calls), rounds, warm_up=1)
        return Figure.from_pairs(what, shapes, *names, pairs, batch_size, required=required, goal=goal)

    figures, facts, remarks = [], {}, []
    with fixed_threads(setting.threads):
        theirs = their_step(setting, image, label, bf16=False)
        ours = our_step(setting, image, label, bf16=False)
        names = (plain, "torchvision, eager, NCHW")
        figures.append(compare("fp32", ours, theirs, names, 1.1, 1.2))
        bf16 = use_bf16("auto", setting.device)
        if bf16:
            ours = our_step(setting, image, label, bf16=True)
            names = (f"{plain}, bf16", "torchvision, eager, NCHW, fp32")
            figures.append(compare("--amp auto (bf16)", ours, theirs, names, 2.0, None))
            theirs = their_step(setting, image, label, bf16=True)
            names = (f"{plain}, bf16", "torchvision, eager, NCHW, bf16")
            figures.append(compare("bf16 for both", ours, theirs, names, None, None))
        else:
            remarks.append("This device does not support bf16 in hardware, so --amp auto is fp32.")
        operations = step_operations(image_size)
        for figure, dtype in zip(figures[:2], (torch.float32, torch.bfloat16), strict=False):
            name, achieved = str(dtype).removeprefix("torch."), operations * figure.ours_rate
            reached = {
                f"product of {matmul_size}x{matmul_size} matrices": matmul_ceiling(setting, dtype, matmul_size),
                "large 3x3 convolution": conv_ceiling(setting, dtype, max(1, matmul_size // 256)),
            }
            what, ceiling = max(reached.items(), key=lambda pair: pair[1])
            teraflops = {what: value / 1e12 for what, value in reached.items()}
            facts[name] = {"tflops": achieved / 1e12, "ceilings_tflops": teraflops, "share": achieved / ceiling}
            remarks.append(
                f"{name}: {achieved / 1e12:.3g} TFLOP/s in our step, {achieved / ceiling:.0%} of the "
                f"{ceiling / 1e12:.3g} of a {what} on this device."
            )
    title = "One training step of a ResNet-18: forward, loss, backward, update"
    device = device_name(setting.device)
    return Report("training-step", title, device, setting.threads, tuple(figures), facts, tuple(remarks))


def our_step(setting: Setting, image: Tensor, label: Tensor, bf16: bool) -> Step:
    """A step as in densevision's training loop."""
    model = create_backbone(MODEL, num_classes=CLASSES).to(setting.device).to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, SGD, backbone_lr_factor=1.0)
    if setting.compile:
        model.compile()
    return _step(model, optimizer, image.contiguous(memory_format=torch.channels_last), label, bf16)


def their_step(setting: Setting, image: Tensor, label: Tensor, bf16: bool) -> Step:
    """A step as in PyTorch's tutorials."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=CLASSES).to(setting.device)
    optimizer = torch.optim.SGD(model.parameters(), SGD.lr, SGD.momentum, weight_decay=SGD.weight_decay)
    return _step(model, optimizer, image, label, bf16)


def step_operations(image_size: int) -> int:
    """Floating-point operations of a training step per image, counted on the graph; a multiply-add is 2."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, image = create_backbone(MODEL, num_classes=CLASSES), torch.empty(2, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter:
        model(image).sum().backward()
    return counter.get_total_flops() // len(image)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, label: Tensor, bf16: bool) -> Step:
    model.train()

    def step() -> None:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
            logits = model(image)
        cross_entropy(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _data(setting: Setting, batch_size: int, image_size: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(batch_size, 3, image_size, image_size, generator=rng).to(setting.device)
    return image, torch.randint(CLASSES, (batch_size,), generator=rng).to(setting.device)


# Peak throughput of a device: either may be the faster one, because on AMD's CPUs the library for matrix products
# leaves half of the vector units idle.


def matmul_ceiling(setting: Setting, dtype: torch.dtype, size: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several products of two size x size matrices (2 size³ operations)."""
    a, b = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
    return _best_rate(setting, lambda: a @ b, 2 * size**3, rounds)


def conv_ceiling(setting: Setting, dtype: torch.dtype, batch: int, rounds: int = 15) -> float:
    """FLOP/s of the fastest of several convolutions, channels_last, forward only."""
    options = {"device": setting.device, "dtype": dtype}
    x = torch.randn(batch, CONV_CHANNELS, CONV_SIZE, CONV_SIZE, **options).to(memory_format=torch.channels_last)
    weight = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, **options).to(memory_format=torch.channels_last)
    operations = 2 * batch * CONV_SIZE**2 * CONV_CHANNELS**2 * 9
    return _best_rate(setting, lambda: conv2d(x, weight, padding=1), operations, rounds)


def _best_rate(setting: Setting, function: Callable[[], object], operations: int, rounds: int) -> float:
    # A GPU needs several calls in a row to be fully used.
    calls = 20 if setting.device.type == "cuda" else 1
    with torch.inference_mode():
        return operations / min(repeat(Stopwatch(setting.device).as_round(function, calls), rounds))
