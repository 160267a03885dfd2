"""Run folder and training state: what a run stores, and how it or a new run continues from that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...atomic_io import atomic_path, write_json
from ...errors import UserError
from ..task import Task
from .options import DEFAULTS, PER_CALL, Options, flag

STATE_KEYS = {
    "model", "auxiliary", "optimizers", "scaler", "ema", "step", "steps", "evaluated_step", "best",
    "evals_without_improvement", "meter", "images_per_step", "baseline", "evaluation",
}  # fmt: skip
"""Keys of a training state."""
CHANGEABLE_ON_RESUME = (
    "workers", "threads", "log_every", "save_every", "out", "resume", "root", "eval_root", "steps", "epochs",
    "patience", "dry_run",
)  # fmt: skip
"""Options that may change when a run is resumed; all others would make it another run."""
ALWAYS_STORED = ("loss", *DEFAULTS.without((*PER_CALL, "steps", "milestones", "gamma")).explicit())
"""Options that config.yaml of every run contains."""


@contextmanager
def run_folder_errors(folder: Path | None) -> Iterator[None]:
    """Raise a `UserError` if a run folder cannot be read or created."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder} cannot be used as a run folder ({reason}): give another --out.") from error


def run_folder(task: Task, explicit: Options) -> Path:
    """The run folder: --out; else the newest run with --resume, or runs/TASK-N with the next free N."""
    runs = Path("runs")
    numbered = sorted(
        (int(path.name.rsplit("-", 1)[1]), path)
        for path in runs.glob(f"{task.name}-*")
        if path.name.rsplit("-", 1)[1].isdigit()
    )
    if explicit.resume:
        folder = explicit.out or (numbered[-1][1] if numbered else None)
        if folder is None:
            raise UserError(f"There is no run of '{task.name}' under runs/ to resume; give its folder with --out.")
        if not (folder / "last" / "state.pt").exists():
            raise UserError(
                f"{folder} cannot be resumed: it contains no last/state.pt. Start a new run with another --out."
            )
        return folder
    if explicit.out is not None:
        if (explicit.out / "last" / "state.pt").exists():
            raise UserError(
                f"{explicit.out} already contains a run: add --resume to continue it, or give another --out."
            )
        if (explicit.out / "config.yaml").exists():
            raise UserError(f"{explicit.out} contains a run that was never saved: delete it, or give another --out.")
        return explicit.out
    return runs / f"{task.name}-{numbered[-1][0] + 1 if numbered else 1}"


def resume_options(explicit: Options, folder: Path) -> Options:
    """Options of the run to resume; the caller may repeat them and change those in `CHANGEABLE_ON_RESUME`."""
    stored = Options.read(folder / "config.yaml")
    lost = [name for name in ALWAYS_STORED if getattr(stored, name) is None]
    if lost:
        raise damaged_file(folder / "config.yaml", f"it lacks '{lost[0]}'")
    for name, value in explicit.explicit().items():
        before = getattr(stored, name)
        if name not in CHANGEABLE_ON_RESUME and value != before:
            was = f"without {flag(name)}" if before is None else f"with {flag(name)} {before}, not {value}"
            raise UserError(
                f"--resume continues {folder} {was}; leave the option out, or start a new run with --init-from."
            )
    changes = {name: getattr(explicit, name) for name in CHANGEABLE_ON_RESUME if getattr(explicit, name) is not None}
    if explicit.steps or explicit.epochs:
        changes = {"steps": None, "epochs": None, **changes}
    return dataclasses.replace(stored, **{**changes, "resume": True})


def stored_task(task: Task, folder: Path) -> Task:
    """Task of a run, of the class of `task`, with its own options."""
    path = folder / "task.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        name, options = stored["task"], stored["options"]
        before = type(task)(**options) if name == task.name else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged_file(path, getattr(error, "strerror", None) or f"{type(error).__name__}: {error}") from error
    if before is None:
        raise UserError(f"{folder} is a run of '{name}', not of '{task.name}'.")
    return before


def resume_task(task: Task, folder: Path) -> Task:
    """Task of the run to resume, with its options; the caller may leave them out, but not change them."""
    before = stored_task(task, folder)
    if task not in (before, type(task)()):
        raise UserError(f"--resume continues {folder} with {before}, not {task}; leave out the task's options.")
    return before


def damaged_file(path: Path, reason: str) -> UserError:
    """The error for a file of a run folder without which the run cannot be resumed."""
    return UserError(
        f"{path} is missing or damaged ({reason}): restore it from a copy, or start a new run from the weights with "
        f"--init-from {path.parent / 'last' / 'checkpoint.safetensors'} and another --out."
    )


def create_run_folder(folder: Path, options: Options, task: Task) -> None:
    """Create a run folder with config.yaml and task.json."""
    folder.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(options.without(PER_CALL), out=folder).write(folder / "config.yaml")
    own = dataclasses.asdict(task)  # type: ignore[call-overload]
    write_json(folder / "task.json", {"task": task.name, "options": own})


def config_options(explicit: Options, task: Task) -> tuple[Options, Task]:
    """Options and task of a new run from another run's config.yaml, with those of the caller taking precedence.

    The task's own options come from task.json beside it, if there is one; those that differ from their defaults in
    `task` take precedence.
    """
    path = explicit.config
    assert path is not None
    for name, stated in (("resume", explicit.resume), ("recipe", explicit.recipe)):
        if stated:
            raise UserError(f"--config and --{name} contradict each other, since a config states all: leave one out.")
    stored = Options.read(path, "--config takes the config.yaml of a run")
    if (path.parent / "task.json").exists():
        before = stored_task(task, path.parent)
        default = type(task)()
        changed = {
            field.name: getattr(task, field.name)
            for field in dataclasses.fields(task)  # type: ignore[arg-type]
            if getattr(task, field.name) != getattr(default, field.name)
        }
        task = dataclasses.replace(before, **changed)  # type: ignore[type-var]
    return explicit.over(stored.without((*PER_CALL, "out"))), task


def require_same_run(folder: Path, state: dict[str, Any], steps: int, images_per_step: int) -> None:
    """Check that a run of so many steps, and images a step, can continue from a training state."""
    if state["step"] > steps:
        raise UserError(
            f"The run in {folder} has done {state['step']} steps already, more than {steps}: resume it with --steps "
            f"{state['step']} or more."
        )
    if state["images_per_step"] != images_per_step:
        raise UserError(
            f"The run in {folder} took {state['images_per_step']} images a step, this one {images_per_step}: resume "
            "with as many processes as before."
        )


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state (plain tensors and numbers) atomically: a reader finds the old or the new one."""
    with atomic_path(path) as aside:
        torch.save(state, aside)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state; only tensors and plain data are unpickled."""
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
