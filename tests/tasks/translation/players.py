"""The smallest training of two players; importable by processes that tests start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from densevision.tasks.training.checkpoint import load_state

TINY: dict[str, Any] = {
    "backbone": "resnet20_cifar", "head": "unet", "size": (32, 32), "batch": 2, "steps": 4, "lr": 1e-3, "warmup": 0,
    "workers": 0, "evaluate_every": 100, "log_every": 1, "save_every": 100, "eval_samples": 2, "device": "cpu",
    "amp": "off", "optimizer": "sgd", "momentum": 0.0,
}  # fmt: skip


def weights_of(out: Path) -> dict[str, Tensor]:
    """Of both players, after a run's last step."""
    state = load_state(out / "last" / "state.pt")
    (opponent,) = state["opponents"]
    return {**state["model"], **{f"opponent.{name}": value for name, value in opponent.items()}}
