"""Toy models for manual computations, and a small untrained model of every task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones.backbone import Level
from densevision.backbones.layers import PooledBackbone
from densevision.datasets import open_dataset
from densevision.tasks import create_task
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.visualize.core.model import inspect_backbone, inspect_predictor

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "function": functional.relu,
    "function in place": lambda x: functional.relu(x, inplace=True),
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "torch's": torch.relu,
}
CLASSES = 5
SIDE = 48
"""Input size of the tasks' models."""


class Toy(PooledBackbone):
    """Three convolutions with a max pool after the first, global average pooling and one linear layer.

    Args:
        relu: a key of `RELUS`; "modules" or "in place"; "re-used" or "re-used in place", one module for all.
        biased: whether the layers have biases.
        norm: whether there is a batch normalization, whose running statistics count as a bias.
    """

    def __init__(self, relu: str = "modules", biased: bool = True, norm: bool = True) -> None:
        super().__init__()
        self._set_metadata("toy", [Level("a", 1, 6), Level("b", 2, 8)], num_classes=CLASSES, in_channels=3, built=None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._build(relu, biased, norm)

    def _build(self, relu: str, biased: bool, norm: bool) -> None:
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=biased)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=biased)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1, bias=biased)
        self.fc = nn.Linear(8, CLASSES, bias=biased)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, 0.0, (2 / parameter[0].numel()) ** 0.5)
        in_place = relu in ("in place", "re-used in place")
        self.relu1: Callable[[Tensor], Tensor] = RELUS.get(relu) or nn.ReLU(in_place)
        self.relu2: Callable[[Tensor], Tensor] = (
            self.relu1 if relu in RELUS or relu.startswith("re-used") else nn.ReLU(in_place)
        )

    def features(self, image: Tensor) -> list[Tensor]:
        first = self.relu1(self.norm(self.conv1(image)))
        second = self.relu2(self.conv2(functional.max_pool2d(first, 2)))
        return [first, self.relu2(self.conv3(second))]


def toy(relu: str = "modules", **options: bool) -> Any:
    """A toy as an `InspectedModel` (typed as Any to access its layers), in training mode like any new backbone."""
    return inspect_backbone(Toy(relu, **options))


def random_image(height: int = 12, width: int = 10, seed: int = 0, channels: int = 3) -> tuple[Tensor, ...]:
    """One image of noise, (1, C, H, W) in [0, 1]."""
    return (torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed)),)


@cache
def untrained(task_name: str, head: str | None = None, **options: str) -> Any:
    """A small model of a task with random weights.

    Args:
        task_name: a name of `tasks.TASKS`.
        head: None: the default of the task.
        options: options of the task.
    """
    task = create_task(task_name, **options)
    fields = open_dataset(task.defaults.data).fields
    backbone, levels = ("resnet18", {"levels": 2}) if task.defaults.head else ("resnet20_cifar", {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ModelSpec(task, fields, backbone, dict(levels), head or task.defaults.head).build()
        for layer in model.modules():
            # The default initialization predicts a constant, for which gradients would be almost 0.
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)
    size = (SIDE, SIDE)
    return inspect_predictor(Predictor(task, model.eval(), fields, size))
