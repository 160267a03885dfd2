"""One training step of a ResNet-18, ours against torchvision's as people write it: eager, NCHW, plain SGD."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..backbones import create_backbone
from ..tasks.device import use_bf16
from ..tasks.training.optimizers import create_optimizer
from ..tasks.training.options import Settled
from .ceiling import conv_ceiling, matmul_ceiling
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

NETWORK = "resnet18"
CLASSES = 1000
SGD = Settled(optimizer="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)
BATCH, CUDA_BATCH = 16, 256
"""Pictures per step; a GPU would spend 16 on waiting for Python."""
MATMUL_SIDE, CUDA_MATMUL_SIDE = 1024, 8192
ROUNDS = 10
SHORTEST = 0.2
"""Seconds that a timed round takes at least; shorter steps are repeated within it."""

Step = Callable[[], None]


def measure(
    setting: Setting, *, batch: int | None = None, side: int = 224, matmul_side: int | None = None, rounds: int = ROUNDS
) -> Report:
    """Steps in fp32 and, where the device does it in hardware, in bf16.

    Args:
        setting: device, threads, compile.
        batch: pictures per step; default: 16, on a GPU 256.
        side: height and width of the pictures.
        matmul_side: of the square matrices whose product is one of the two ceilings.
        rounds: pairs, where the setting says nothing.
    """
    cuda = setting.device.type == "cuda"
    batch = batch or (CUDA_BATCH if cuda else BATCH)
    matmul_side = matmul_side or (CUDA_MATMUL_SIDE if cuda else MATMUL_SIDE)
    rounds = setting.rounds or rounds
    shapes = f"{batch}x3x{side}x{side}, SGD with momentum"
    picture, label = _data(setting, batch, side)
    plain = "channels_last, fused SGD" + (", compiled" if setting.compile else "")
    watch = Stopwatch(setting.device)

    def against(what: str, ours: Step, theirs: Step, names: tuple[str, str], least: float | None, aim: float | None):
        # Twice untimed first: the first call may compile, the second still allocates.
        for step in (ours, theirs, ours, theirs):
            step()
        times = max(1, math.ceil(SHORTEST / max(watch(ours), watch(theirs))))
        pairs = alternate(watch.rounds_of(ours, times), watch.rounds_of(theirs, times), rounds, warm_up=1)
        return Figure.of_pairs(what, shapes, *names, pairs, batch, least=least, aim=aim)

    figures, facts, remarks = [], {}, []
    with fixed_threads(setting.threads):
        theirs = their_step(setting, picture, label, bf16=False)
        ours = our_step(setting, picture, label, bf16=False)
        names = (plain, "torchvision, eager, NCHW")
        figures.append(against("fp32", ours, theirs, names, 1.1, 1.2))
        bf16 = use_bf16("auto", setting.device)
        if bf16:
            ours = our_step(setting, picture, label, bf16=True)
            names = (f"{plain}, bf16", "torchvision, eager, NCHW, fp32")
            figures.append(against("--amp auto (bf16)", ours, theirs, names, 2.0, None))
            theirs = their_step(setting, picture, label, bf16=True)
            names = (f"{plain}, bf16", "torchvision, eager, NCHW, bf16 too")
            figures.append(against("bf16 on both sides", ours, theirs, names, None, None))
        else:
            remarks.append("This device does no bf16 in hardware, so --amp auto is fp32.")
        operations = step_operations(side)
        for figure, dtype in zip(figures[:2], (torch.float32, torch.bfloat16), strict=False):
            name, achieved = str(dtype).removeprefix("torch."), operations * figure.ours_rate
            reached = {
                f"product of {matmul_side}x{matmul_side} matrices": matmul_ceiling(setting, dtype, matmul_side),
                "large 3x3 convolution": conv_ceiling(setting, dtype, max(1, matmul_side // 256)),
            }
            what, ceiling = max(reached.items(), key=lambda pair: pair[1])
            teraflops = {what: value / 1e12 for what, value in reached.items()}
            facts[name] = {"tflops": achieved / 1e12, "ceilings_tflops": teraflops, "share": achieved / ceiling}
            remarks.append(
                f"{name}: {achieved / 1e12:.3g} TFLOP/s in our step, {achieved / ceiling:.0%} of the "
                f"{ceiling / 1e12:.3g} that a {what} reaches here."
            )
    title = "One training step of a ResNet-18: forward, loss, backward, update"
    device = device_name(setting.device)
    return Report("training-step", title, device, setting.threads, tuple(figures), facts, tuple(remarks))


def our_step(setting: Setting, picture: Tensor, label: Tensor, bf16: bool) -> Step:
    """A step as our training loop does it."""
    model = create_backbone(NETWORK, classes=CLASSES).to(setting.device).to(memory_format=torch.channels_last)
    optimizer = create_optimizer(model, SGD, trunk_rate=1.0)
    if setting.compile:
        model.compile()
    return _step(model, optimizer, picture.contiguous(memory_format=torch.channels_last), label, bf16)


def their_step(setting: Setting, picture: Tensor, label: Tensor, bf16: bool) -> Step:
    """A step as PyTorch's tutorials write it."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=CLASSES).to(setting.device)
    optimizer = torch.optim.SGD(model.parameters(), SGD.lr, SGD.momentum, weight_decay=SGD.weight_decay)
    return _step(model, optimizer, picture, label, bf16)


def step_operations(side: int) -> int:
    """Floating-point operations of one picture's step, counted on the graph: a multiplication and an addition are 2."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, picture = create_backbone(NETWORK, classes=CLASSES), torch.empty(2, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        model(picture).sum().backward()
    return counter.get_total_flops() // len(picture)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, picture: Tensor, label: Tensor, bf16: bool) -> Step:
    model.train()

    def step() -> None:
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=bf16):
            logits = model(picture)
        cross_entropy(logits.float(), label).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _data(setting: Setting, batch: int, side: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    picture = torch.randn(batch, 3, side, side, generator=rng).to(setting.device)
    return picture, torch.randint(CLASSES, (batch,), generator=rng).to(setting.device)
