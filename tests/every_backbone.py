"""Every backbone, as a parameter of tests: those with the most layers of their file are slow."""

from __future__ import annotations

import pytest

from densevision.backbones import list_backbones

DEEPEST = (
    "inception_resnet_v2", "inception_v4", "plain56_cifar", "preact101", "preact1001_cifar", "preact110_cifar",
    "preact152", "preact164_cifar", "preact200", "resnet101", "resnet110_cifar", "resnet1202_cifar", "resnet152",
    "resnet44_cifar", "resnet56_cifar",
)  # fmt: skip
"""Others of their files have the same levels and fewer layers; the Inceptions run with fewer levels elsewhere."""
EVERY_BACKBONE = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPEST else name for name in list_backbones()]
