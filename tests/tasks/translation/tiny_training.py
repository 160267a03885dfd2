"""Options of a tiny adversarial training; imported by processes that tests start, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from densevision.tasks.training.state import load_state

TINY: dict[str, Any] = {
    "backbone": "resnet20_cifar", "head": "unet", "image_size": (32, 32), "batch_size": 2, "steps": 4, "lr": 1e-3,
    "warmup_steps": 0, "workers": 0, "eval_every": 100, "log_every": 1, "save_every": 100, "eval_samples": 2,
    "device": "cpu", "amp": "off", "optimizer": "sgd", "momentum": 0.0,
}  # fmt: skip


def weights_of(out: Path) -> dict[str, Tensor]:
    """Weights of generator and discriminator after the last step of a run."""
    state = load_state(out / "last" / "state.pt")
    (discriminator,) = state["auxiliary"]
    return {**state["model"], **{f"discriminator.{name}": value for name, value in discriminator.items()}}
