"""Training state: what a run saves to continue bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...atomic_io import atomic_path
from ...errors import UserError

STATE_KEYS = {
    "model", "auxiliary", "optimizers", "ema", "step", "steps", "evaluated_step", "best", "evals_without_improvement",
    "meter", "images_per_step", "baseline", "evaluation",
}  # fmt: skip
"""Keys of a training state."""


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state (plain tensors and numbers) atomically: a reader finds the old or the new one."""
    with atomic_path(path) as aside:
        torch.save(state, aside)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state; only tensors and plain data are unpickled.

    Raises:
        UserError: the file is missing or damaged.
    """
    way_out = f"start a new run from the weights with --init-from {Path(path).with_name('checkpoint.safetensors')}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is nothing to resume: {path} does not exist.") from None
    except Exception as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): {way_out} and another --out.") from error
    missing = sorted(STATE_KEYS - state.keys()) if isinstance(state, dict) else ["step"]
    if missing:
        raise UserError(f"{path} is damaged or of another version (no '{missing[0]}'): {way_out} and another --out.")
    return state
