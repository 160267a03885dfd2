"""Run folder and training state: what a run stores, and how it or a new run continues from that."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ...atomic_io import FolderLock, atomic_path, write_json
from ...backbones.torch_files import UnsafeFile, load_torch_file
from ...errors import UserError
from ...limits import LimitExceeded, read_file
from ...schema import MAX_STEP, Closed, Schema, Step, Text, create_dataclass, validate, validate_json
from ..distributed import ProcessGroup
from ..task import Task
from .options import DEFAULTS, PER_CALL, Options, flag

PREVIOUS = "previous.pt"
"""Name of the training state that was saved before state.pt, beside it."""


class Best(Schema):
    """The best value of the monitored metric, and its step; nan where it is not defined."""

    value: Annotated[float, Field(allow_inf_nan=True)]
    step: Step


class Scores(Schema):
    """An evaluation without its examples."""

    protocol: Text
    samples: int
    metrics: dict[Text, Annotated[float, Field(allow_inf_nan=True)]]


class MeterState(Closed):
    """Attributes of `log.Meter`."""

    sums: dict[Text, Annotated[float, Field(allow_inf_nan=True)]]
    steps: Step
    images: Step
    seconds: float
    total: float


class Scaling(Closed):
    """State of `loss_scaling.LossScaler`; without scaling, there is no factor."""

    factor: dict[Text, float]
    skipped: Step


class Ema(Closed):
    """The moving average of the weights."""

    updates: Step
    average: dict[str, Tensor]


class ParameterGroup(Schema):
    """The learning rate of the last step; the options of the run state what else belongs to a group."""

    lr: float


class OptimizerState(Schema):
    """State of an optimizer, by the number of the parameter."""

    state: dict[int, dict[str, Tensor | None]]
    param_groups: list[ParameterGroup]


class TrainingState(Schema):
    """Content of state.pt."""

    model: dict[str, Tensor]
    auxiliary: list[dict[str, Tensor]]
    optimizers: list[OptimizerState]
    scaler: Scaling
    ema: Ema | None
    step: Step
    steps: Step
    evaluated_step: Step
    best: Best | None
    evals_without_improvement: Step
    meter: MeterState
    images_per_step: Step
    baseline: Scores | None
    evaluation: Scores | None


class StoredTask(Schema):
    """Content of task.json: the name of the task, and its own options."""

    task: Text
    options: dict[Text, Any]


CHANGEABLE_ON_RESUME = (
    "workers", "threads", "log_every", "save_every", "keep_best", "keep_every", "checkpoint_gradients",
    "collective_timeout", "out", "resume", "root", "eval_root", "cache", "steps", "epochs", "patience",
    "dry_run", "force",
)  # fmt: skip
"""Options that may change when a run is resumed; all others would make it another run."""
ALWAYS_STORED = ("loss", "micro_batches", *DEFAULTS.without((*PER_CALL, "steps", "milestones", "gamma")).explicit())
"""Options that config.yaml of every run contains."""


@contextmanager
def run_folder_errors(folder: Path | None) -> Iterator[None]:
    """Raise a `UserError` if a run folder cannot be read or created."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder} cannot be used as a run folder ({reason}): give another --out.") from error


def start_or_resume(explicit: Options) -> Options:
    """The options of `--resume auto`, by whether --out has a saved state: those of a run to resume, or of a new one.

    The same command starts and resumes: what only a new run takes (--config, and --minutes with what it replaced by
    the measured length) is left out when it is resumed.
    """
    if explicit.out is None:
        raise UserError("--resume auto needs --out, the folder which says whether there is a run to resume.")
    if not (explicit.out / "last" / "state.pt").exists():
        return dataclasses.replace(explicit, resume=None)
    measured = ("minutes", "steps", "epochs", "eval_every", "warmup_steps") if explicit.minutes else ()
    return dataclasses.replace(explicit.without(("config", *measured)), resume=True)


def run_folder(task: Task, explicit: Options, restart: bool = False) -> Path:
    """The run folder: --out; else the newest run with --resume, or runs/TASK-N with the next free N.

    Args:
        task: the task.
        explicit: options of the caller.
        restart: whether a new run may take the folder of one that was never saved.

    Raises:
        UserError: it contains a run, or with `resume` none, or another process writes to it.
    """
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
        require_unlocked(folder, explicit)
        if not (folder / "last" / "state.pt").exists():
            raise UserError(
                f"{folder} cannot be resumed: it contains no last/state.pt. Start a new run with another --out."
            )
        return folder
    if explicit.out is not None:
        require_unlocked(explicit.out, explicit)
        if (explicit.out / "last" / "state.pt").exists():
            raise UserError(
                f"{explicit.out} already contains a run: add --resume to continue it, or give another --out."
            )
        if (explicit.out / "config.yaml").exists() and not restart:
            raise UserError(f"{explicit.out} contains a run that was never saved: delete it, or give another --out.")
        return explicit.out
    return runs / f"{task.name}-{numbered[-1][0] + 1 if numbered else 1}"


def require_unlocked(folder: Path, explicit: Options) -> None:
    """Check that no other run writes to a folder, before a model is built and its files are read."""
    # One process of a group, since a look takes the lock.
    if (folder / ".lock").exists() and not explicit.force and ProcessGroup.from_environment().rank == 0:
        FolderLock(folder).close()


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
    if explicit.steps is not None or explicit.epochs is not None:
        changes = {"steps": None, "epochs": None, **changes}
    return dataclasses.replace(stored, **{**changes, "resume": True})


def stored_task(task: Task, folder: Path) -> Task:
    """Task of a run, of the class of `task`, with its own options."""
    path, remedy = folder / "task.json", way_out(folder)
    try:
        text = read_file(path)
    except (OSError, LimitExceeded) as error:
        raise damaged_file(path, getattr(error, "strerror", None) or str(error)) from error
    stored = validate_json(StoredTask, text, str(path), remedy)
    if stored.task != task.name:
        raise UserError(f"{folder} is a run of '{stored.task}', not of '{task.name}'.")
    return create_dataclass(type(task), stored.options, f"{path}, in 'options',", remedy)


def resume_task(task: Task, folder: Path) -> Task:
    """Task of the run to resume, with its options; the caller may leave them out, but not change them."""
    before = stored_task(task, folder)
    if task not in (before, type(task)()):
        raise UserError(f"--resume continues {folder} with {before}, not {task}; leave out the task's options.")
    return before


def damaged_file(path: Path, reason: str) -> UserError:
    """The error for a file of a run folder without which the run cannot be resumed."""
    return UserError(f"{path} is missing or damaged ({reason}): {way_out(path.parent)}.")


def way_out(folder: Path) -> str:
    """What to do about a run folder that is damaged."""
    return (
        f"restore it from a copy, or start a new run from the weights with --init-from "
        f"{folder / 'last' / 'checkpoint.safetensors'} and another --out"
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
            f"The run in {folder} took {state['images_per_step']} images a step, this one {images_per_step}: "
            "restore its config.yaml from a copy."
        )


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state (plain tensors and numbers) atomically: a reader finds the old or the new one.

    The old one is kept beside it as `PREVIOUS`. torch.save stores the CRC-32 of every part; `load_state` checks them.
    """
    path = Path(path)
    with atomic_path(path) as aside:
        torch.save(state, aside)
        if path.is_file():
            keep_previous(path)


def keep_previous(path: Path) -> None:
    """Give a training state the name `PREVIOUS` too; a copy where the file system has no hard links."""
    with atomic_path(path.with_name(PREVIOUS)) as aside:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state; only tensors and plain data are unpickled.

    Raises:
        UserError: it is missing, its content is not what was written, by the checksums, or not a `TrainingState`.
    """
    path = Path(path)
    remedy = f"start a new run from the weights with --init-from {path.with_name('checkpoint.safetensors')}"
    if (previous := path.with_name(PREVIOUS)).is_file():
        remedy = f"move {previous}, the state of the save before, to its place, or {remedy}"
    remedy += " and another --out"
    try:
        state = load_torch_file(path)
    except FileNotFoundError:
        raise UserError(f"There is nothing to resume: {path} does not exist.") from None
    except (UnsafeFile, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): {remedy}.") from error
    validate(TrainingState, state, f"{path} is damaged or of another version: it", remedy)
    return state


def restore_optimizer(optimizer: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """Continue with the state of an optimizer of the same parameters, as `OptimizerState` validated it.

    Shapes are compared first, because fused optimizers do not: they read and write beyond a tensor that is too small.
    For the same reason, each tensor gets memory and strides of its own: a stored one may repeat one number, or be part
    of another.

    Raises:
        ValueError: it is the state of an optimizer of another class, or of other parameters.
    """
    groups = optimizer.state_dict()["param_groups"]
    for group, before in zip(groups, stored["param_groups"], strict=True):
        group["lr"] = before["lr"]
    # By what their groups have: Adam, RMSProp, SGD.
    by_group = {"betas": {"exp_avg", "exp_avg_sq", "step"}, "decay": {"mean_square"}, "momentum": {"momentum_buffer"}}
    names = next(expected for setting, expected in by_group.items() if setting in groups[0])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor | None]] = {index: {} for index in stored["state"]}
    for index, values in stored["state"].items():
        if not 0 <= index < len(parameters):
            raise ValueError(f"the optimizer has no parameter {index}")
        if values and values.keys() != names:
            raise ValueError(f"the optimizer's state of parameter {index} is not {', '.join(sorted(names))}")
        for name, value in values.items():
            shape = () if name == "step" else tuple(parameters[index].shape)
            state[index][name] = None
            if value is None and name == "momentum_buffer":
                continue
            if value is None or tuple(value.shape) != shape or not value.is_floating_point():
                found = None if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
                raise ValueError(f"the optimizer's '{name}' of parameter {index} is {found}, not floats of {shape}")
            if name == "step" and not 0 <= value.item() <= MAX_STEP:
                raise ValueError(f"the optimizer has done {value.item()} steps of parameter {index}")
            like = value if name == "step" else parameters[index]
            state[index][name] = torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
