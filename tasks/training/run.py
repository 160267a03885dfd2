"""A run: its model, optimizers, evaluations and log, and what of them its folder stores and restores."""

from __future__ import annotations

import dataclasses
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...atomic_io import FolderLock, remove_abandoned_parts
from ...backbones.gradient_checkpointing import checkpoint_gradients
from ...datasets.dataset import Dataset
from ...datasets.field_types import fields_from_json
from ...errors import UserError
from ..checkpoint import read_header, write_model
from ..device import amp_dtype, device_name, dtype_name, to_device
from ..distributed import create_accelerator, require_shared_folder, synchronize_batch_norm
from ..model_spec import ModelSpec
from ..network import Network
from .data import AugmentedDataset
from .evaluator import Evaluator
from .gradients import GradientSum
from .log import Meter, RunLog
from .loss_scaling import LossScaler
from .optimizers import (
    MovingAverage,
    PhaseRunner,
    auxiliary_modules,
    compile_network,
    count_parameters,
    create_optimizer,
    freeze_backbone,
    learning_rate,
)
from .options import PER_CALL, Options
from .own_loss import OwnLoss, loss_to_device, own_phases
from .state import create_run_folder, require_same_run, restore_optimizer, save_state


@dataclass(eq=False, repr=False)
class Run:
    """What a run trains and measures, and how its folder stores that; `Trainer` trains it.

    Attributes:
        options: the resolved options.
        folder: the run folder.
        model_spec, model: the model and how to build it.
        training_set, eval_set: data.
        train_samples: samples of an epoch, None for an infinite dataset.
        device: device of the model.
        own_loss: loss of the caller's own, or None for that of the options.
        step, steps: steps done and total steps.
        phases, optimizers: one optimizer per phase.
        auxiliary: modules that are trained but are not part of the model (discriminators): they are in the training
            state, not in checkpoints.
        micro_batches: micro-batches of a step.
        share: those of them that this process computes, by number; every one is computed by one process.
        norms: BatchNorm layers of the model and the auxiliary modules.
        dtype: type of mixed precision, or None.
        phase_runner: all phases behind one `forward`.
        scaler: loss scaling, for fp16.
        ddp: `phase_runner`, wrapped by DistributedDataParallel if there are several processes.
        gradients: their sum over the micro-batches of a step.
        ema: moving average of the weights, or None.
        evaluator: evaluations, the best of them, and what is monitored.
        unsaved: whether the state has changed since it was saved.
        saved_step: step of the state in the run folder; None without one.
        saved_at: time of the last save, or of the start, by `time.monotonic`.
        lock: the lock of the run folder, while this process has it.
        notes: lines for the start of the run, after those of `describe`.
    """

    options: Options
    folder: Path
    model_spec: ModelSpec
    model: Network
    training_set: AugmentedDataset
    eval_set: Dataset
    train_samples: int | None
    device: torch.device
    own_loss: OwnLoss | None = None

    def __post_init__(self) -> None:
        options, device, own_loss = self.options, self.device, self.own_loss
        self.task, self.dtype = self.model_spec.task, amp_dtype(options.amp, device)
        self.model = to_device(self.model, device)
        if options.sync_bn:
            synchronize_batch_norm(self.model, device)
        if options.freeze_backbone:
            freeze_backbone(self.model)
        if options.checkpoint_gradients and self.model.backbone is not None:
            checkpoint_gradients(self.model.backbone)
        fields = self.training_set.dataset.fields
        if own_loss is None:
            self.phases = self.task.phases(self.model, fields, options.loss)
        else:
            self.phases = own_phases(self.task, self.model, fields, own_loss)
            loss_to_device(own_loss, device)
        self.auxiliary = auxiliary_modules(self.phases, self.model)
        for module in self.auxiliary:
            to_device(module.float(), device)
            if options.sync_bn:
                synchronize_batch_norm(module, device)
        self.accelerator = create_accelerator(device, len(self.phases), options.collective_timeout)
        processes, self.micro_batches = self.accelerator.num_processes, options.micro_batches or 1
        self.share = range(self.accelerator.process_index, self.micro_batches, processes)
        self.optimizers: list[Any] = []
        for phase in self.phases:
            optimizer = create_optimizer(phase.module, options, options.backbone_lr_factor)
            self.optimizers.append(self.accelerator.prepare_optimizer(optimizer))
        if options.compile:
            compile_network(self.model)
        self.phase_runner = PhaseRunner(self.phases, self.dtype, device)
        self.scaler = LossScaler(self.phase_runner, device, enabled=self.dtype == torch.float16)
        self.ddp = self.accelerator.prepare_model(self.phase_runner, device_placement=False)
        self.gradients = GradientSum(self.ddp, self.micro_batches, device)
        modules = [module for each in (self.model, *self.auxiliary) for module in each.modules()]
        self.norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self.ema = MovingAverage(self.model, options.ema_decay) if options.ema_decay else None
        self.step, self.steps = 0, options.total_steps(self.train_samples, self.images_per_step)
        self.eval_every = max(1, self.steps // 10) if options.eval_every is None else options.eval_every
        self.meter, self.log = Meter(), RunLog(self.folder, self.main)
        self.evaluator = Evaluator(self.task, self.training_set, self.eval_set, options, self.log)
        self.unsaved, self.notes = True, list[str]()
        self.saved_step: int | None = None
        self.saved_at = time.monotonic()
        self.lock: FolderLock | None = None

    @property
    def main(self) -> bool:
        """Whether this is the main process, which writes all files."""
        return self.accelerator.is_main_process

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over all micro-batches."""
        return self.options.batch_size * self.micro_batches

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        options = self.options
        return options.lr * learning_rate(
            options.schedule, self.step, self.steps, options.warmup_steps, options.milestones, options.gamma
        )

    # Folder

    def lock_folder(self) -> None:
        """Make the run folder this run's alone, and remove what writers that were killed have left in it."""
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = None if self.options.force else FolderLock(self.folder)
            for folder in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
                remove_abandoned_parts(folder)
        require_shared_folder(self.accelerator, self.folder)

    def open(self) -> None:
        """Write the options into the run folder, and start the log."""
        if self.main:
            create_run_folder(self.folder, self.options, self.task)
        self.log.open(self.step)

    def set_length(self, steps: int, eval_every: int) -> None:
        """Set the length of a run that --minutes limited, and store it as the run's --steps."""
        warmup_steps = min(self.options.warmup_steps, steps // 10)
        self.options = dataclasses.replace(
            self.options, minutes=None, epochs=None, steps=steps, warmup_steps=warmup_steps, eval_every=eval_every
        )
        self.steps, self.eval_every = steps, eval_every
        if self.main:
            create_run_folder(self.folder, self.options, self.task)

    # State

    def weights(self) -> dict[str, Any]:
        """The part of the training state that an optimizer step changes."""
        return {
            "model": self.model.state_dict(),
            "auxiliary": [module.state_dict() for module in self.auxiliary],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """The training state as plain tensors and numbers."""
        return {
            **self.weights(),
            "ema": None if self.ema is None else self.ema.state(),
            "step": self.step,
            "steps": self.steps,
            "meter": self.meter.state(),
            "images_per_step": self.images_per_step,
            **self.evaluator.state(),
        }

    def restore_weights(self, state: dict[str, Any]) -> None:
        """Continue from what `weights` returned."""
        self.model.load_state_dict(state["model"])
        for module, stored in zip(self.auxiliary, state["auxiliary"], strict=True):
            module.load_state_dict(stored)
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            restore_optimizer(optimizer, stored)
        self.scaler.load_state_dict(state["scaler"])

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved training state of the same model, on any number of processes.

        With another number of steps than before, the run continues with the learning rates of a run of that length.
        """
        require_same_run(self.folder, state, self.steps, self.images_per_step)
        self.require_same_fields()
        try:
            self.restore_weights(state)
            if self.ema is not None:
                self.ema.restore(state["ema"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"The state in {self.folder} belongs to another model: {error}") from error
        self.step = self.saved_step = state["step"]
        self.unsaved = False
        self.meter.restore(state["meter"])
        self.evaluator.restore(state)
        if state["steps"] != self.steps:
            self.notes.append(
                f"The run has {self.steps} steps now, {state['steps']} before: from step {self.step} on, the schedule "
                f"'{self.options.schedule}' is that of a run of {self.steps} steps"
                + (f" and continues at lr {self.learning_rate():.2e}." if self.step < self.steps else ".")
            )

    def require_same_fields(self) -> None:
        """Check that the data still have the classes, joints and channels of the last checkpoint, if it is readable:
        a class folder with another name would exchange the classes of the model.

        Raises:
            UserError: they have others.
        """
        path = self.folder / "last" / "checkpoint.safetensors"
        before: dict[str, Any] = {}
        with suppress(UserError):
            before = fields_from_json(read_header(path)["fields"], str(path))
        for name, kind in before.items():
            if name in self.model_spec.fields and self.model_spec.fields[name] != kind:
                raise UserError(
                    f"The run in {self.folder} was trained with the field '{name}' as {kind}, and the data have "
                    f"{self.model_spec.fields[name]} now: restore them, or start a new run with --init-from {path}."
                )

    def save(self) -> None:
        """Save the training state and a checkpoint of the current weights."""
        if self.main:
            with self.meter.paused():
                save_state(self.folder / "last" / "state.pt", self.state())
                self.saved_step = self.step
                with self.averaged_weights():
                    self.save_checkpoint("last/checkpoint.safetensors")
        self.unsaved, self.saved_at = False, time.monotonic()

    def save_checkpoint(self, name: str) -> None:
        """Save a checkpoint with the present weights of the model in the run folder."""
        write_model(self.folder / name, self.model, self.model_spec, self.checkpoint_metadata())

    def checkpoint_metadata(self) -> dict[str, Any]:
        """Checkpoint header beside the model spec: size, step, data, provenance, loss, recipe, metrics."""
        dataset = self.training_set.dataset
        return {
            "size": list(self.training_set.size),
            "step": self.step,
            "data": {"name": self.options.data, "title": dataset.title, "terms": dataset.terms},
            **self.model.origin.provenance,
            "loss": self.options.loss,
            "recipe": self.options.recipe,
            "metrics": self.evaluator.header(),
        }

    def averaged_weights(self) -> AbstractContextManager[None]:
        """The moving average of the weights in the model inside this context, if there is one."""
        return nullcontext() if self.ema is None else self.ema.applied(self.model)

    # Description

    def resolved_options(self) -> Options:
        """The options with which the run trains, without those of one call."""
        return dataclasses.replace(self.options.without((*PER_CALL, "out")), eval_every=self.eval_every)

    def describe(self) -> str:
        """Lines about model, data, steps, device and the resolved options, for the start of the run."""
        parameters, auxiliary = count_parameters(self.model), sum(map(count_parameters, self.auxiliary))
        parts = [part for part in (self.options.backbone, self.options.head) if part]
        model = self.options.model or " + ".join(parts)
        discriminator = f", and {auxiliary:,} of the discriminator" if auxiliary else ""
        height, width = self.options.image_size
        device = f"{self.device}, {dtype_name(self.dtype)}, {self.accelerator.num_processes} process(es)"
        return (
            f"Training {self.task.name}: {model} ({parameters:,} parameters{discriminator}) on {self.options.data}, "
            f"steps {self.step}..{self.steps} of {self.images_per_step} images {height}x{width}, {device}. "
            f"Run folder: {self.folder}\nOptions: {self.resolved_options().command_line()}"
        )

    def result(self) -> dict[str, Any]:
        """The contents of result.json, after the last evaluation."""
        return {
            "task": self.task.name,
            "options": dataclasses.asdict(self.task),  # type: ignore[call-overload]
            "backbone": self.model_spec.backbone,
            "head": self.model_spec.head,
            "model": self.model_spec.model,
            "weights": None if self.options.weights is None else Path(self.options.weights).name,
            "trained_on": self.options.data,
            **self.evaluator.result(),
            "steps": self.step,
            "seconds": round(self.meter.total, 1),
            "images_per_second": round(self.step * self.images_per_step / max(1e-9, self.meter.total), 2),
            "device": f"{device_name(self.device)}, {dtype_name(self.dtype)}",
        }
