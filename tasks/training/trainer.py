"""Trainer: one run, from its steps (forward, loss, backward, update) to its evaluations and saves."""

from __future__ import annotations

import dataclasses
import math
import shlex
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from ...atomic_io import FolderLock, remove_abandoned_parts, write_json
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset, SyntheticDataset
from ...errors import DISK_ERRORS, UserError, os_error_message
from ..checkpoint import write_model
from ..device import amp_dtype, device_name, dtype_name, to_device
from ..distributed import any_process, broadcast_buffers, create_accelerator, synchronize_batch_norm
from ..model_spec import ModelSpec
from ..network import Batch, LossTerms, Network
from .data import REUSE_DISTANCE, AugmentedDataset, InfiniteBatchSampler, data_loader
from .evaluator import Evaluator
from .interruption import Interruption, check_finite, explain_error
from .log import Meter, RunLog, format_seconds
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
    set_learning_rate,
    train_mode,
)  # fmt: skip
from .options import PER_CALL, Options
from .own_loss import OwnLoss, loss_to_device, own_phases
from .state import create_run_folder, require_same_run, restore_optimizer, save_state


class Trainer:
    """A run: model, optimizers and data, and the loop that trains, evaluates and saves.

    Attributes:
        step, steps: steps done and total steps.
        phases, optimizers: one optimizer per phase.
        auxiliary: modules that are trained but are not part of the model (discriminators): they are in the training
            state, not in checkpoints.
        dtype: type of mixed precision, or None.
        phase_runner: all phases behind one `forward`.
        scaler: loss scaling, for fp16.
        ddp: `phase_runner`, wrapped by DistributedDataParallel if there are several processes.
        ema: moving average of the weights, or None.
        evaluator: evaluations, the best of them, and what is monitored.
        interruption: request to stop, by a signal or a callback.
        complete: whether the state is that after a complete step; False inside a step.
        unsaved: whether the state has changed since it was saved.
        saved_step: step of the state in the run folder; None without one.
        lock: the lock of the run folder, while this process has it.
        notes: lines for the start of the run, after those of `describe`.
        callbacks: objects with methods for the events of the run, see `callbacks.Callback`.
        terms: loss terms of the last step, means over all processes.
        stop_reason: why a callback ends the run before its last step; None if none does.
    """

    def __init__(
        self,
        options: Options,
        folder: Path,
        model_spec: ModelSpec,
        model: Network,
        training_set: AugmentedDataset,
        eval_set: Dataset,
        train_samples: int | None,
        device: torch.device,
        own_loss: OwnLoss | None = None,
    ) -> None:
        self.options, self.folder, self.model_spec, self.task = options, folder, model_spec, model_spec.task
        self.training_set, self.train_samples = training_set, train_samples
        self.device, self.dtype = device, amp_dtype(options.amp, device)
        self.model = to_device(model, device)
        if options.sync_bn:
            synchronize_batch_norm(self.model, device)
        if options.freeze_backbone:
            freeze_backbone(self.model)
        fields = training_set.dataset.fields
        if own_loss is None:
            self.phases = self.task.phases(self.model, fields, options.loss)
        else:
            self.phases = own_phases(self.task, self.model, fields, own_loss)
            loss_to_device(own_loss, device)
        self.auxiliary = auxiliary_modules(self.phases, self.model)
        for module in self.auxiliary:
            to_device(module, device)
            if options.sync_bn:
                synchronize_batch_norm(module, device)
        self.accelerator = create_accelerator(device, len(self.phases))
        self.optimizers: list[Any] = []
        for phase in self.phases:
            optimizer = create_optimizer(phase.module, options, options.backbone_lr_factor)
            self.optimizers.append(self.accelerator.prepare_optimizer(optimizer))
        if options.compile:
            compile_network(self.model)
        self.phase_runner = PhaseRunner(self.phases, self.dtype, device)
        self.scaler = LossScaler(self.phase_runner, device, enabled=self.dtype == torch.float16)
        self.ddp = self.accelerator.prepare_model(self.phase_runner, device_placement=False)
        self.ema = MovingAverage(self.model, options.ema_decay) if options.ema_decay else None
        self.step, self.steps = 0, options.total_steps(train_samples, self.images_per_step)
        self.eval_every = max(1, self.steps // 10) if options.eval_every is None else options.eval_every
        self.meter, self.log = Meter(), RunLog(folder, self.main)
        self.evaluator = Evaluator(self.task, training_set, eval_set, options, self.log)
        self.interruption = Interruption()
        self.complete = self.unsaved = True
        self.saved_step: int | None = None
        self.loader: Generator[Batch] | None = None
        self.lock: FolderLock | None = None
        self.notes: list[str] = []
        self.callbacks: Sequence[Any] = ()
        self.terms: dict[str, float] = {}
        self.stop_reason: str | None = None

    # The loop

    def run(self, on_step: Callable[[int], None] | None = None) -> dict[str, Any]:
        """Train from the current step to the end and return the contents of result.json.

        If anything fails or a stop is requested, the state after the last complete step is saved first. `on_step` is
        called after every optimizer step with the number of steps done.
        """
        try:
            batches = self.data_loader()
            for line in (*self.describe().splitlines(), *self.notes):
                self.log.info(line)
            while True:
                # A resumed run may have been interrupted between a step and its evaluation.
                self.stop_if_requested()
                if self.should_evaluate():
                    self.evaluate()
                if self.should_save():
                    self.save()
                if self.finished:
                    result = self.finish()
                    self.notify("on_finish", result)
                    return result
                self.train_step(batches)
                if on_step is not None:
                    self.call_back(on_step, self.step)
                self.notify("on_step", self.terms)
        except BaseException as error:
            self.save_after_failure(error)
            self.notify("on_exception", error)
            raise

    def train_step(self, batches: Iterator[Batch]) -> LossTerms:
        """The next step of the run: schedule, optimizer step, moving average, log; returns the loss terms."""
        terms = self.optimizer_step(self.step, batches, self.learning_rate())
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        # Means over all processes on each of them, so that the state saved by one is valid for all.
        means = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist() if terms else []
        self.terms = dict(zip(terms, means, strict=True))
        self.meter.add(self.terms, self.images_per_step)
        self.log.progress(self.step, self.steps)
        if self.step % self.options.log_every == 0 or self.step == self.steps:
            self.log_step()
        self.complete = self.unsaved = True
        return terms

    def optimizer_step(self, step: int, batches: Iterator[Batch], lr: float) -> LossTerms:
        """Every micro-batch through every phase, and one update per phase; returns all loss terms, averaged.

        Without terms, the step was skipped, since its gradients overflowed fp16.

        The step seeds the random numbers on the device. If a stop was requested before it began, nothing changes.

        Raises:
            NonFiniteLoss: a loss term became nan or infinite.
            UserError: not enough memory, or too few values for a normalization.
            KeyboardInterrupt: a stop was requested before the step began.
        """
        options, accelerator = self.options, self.accelerator
        with self.interruptible():
            micro_batches = [self.to_device(next(batches)) for _ in range(options.grad_accum_steps)]
        train_mode(self.model, options)
        self.complete = False
        self.scaler.begin_step()
        caches: list[dict[str, Any]] = [{} for _ in micro_batches]
        # Dropout and other random numbers on the device depend on (seed, step, rank) alone, so that resuming repeats
        # them. Seed after loading: a data loader uses the same generator when it starts.
        rng = generator(options.seed, step, accelerator.process_index, Purpose.DROPOUT)
        torch.manual_seed(int(rng.integers(2**62)))
        logged: LossTerms = {}
        for index, (phase, optimizer) in enumerate(zip(self.phases, self.optimizers, strict=True)):
            self.phase_runner.set_requires_grad(index)
            # Discard gradients that the loss of an earlier phase left in these parameters.
            optimizer.zero_grad(set_to_none=True)
            for number, (batch, cache) in enumerate(zip(micro_batches, caches, strict=True)):
                accumulating = number + 1 < len(micro_batches)
                try:
                    with accelerator.no_sync(self.ddp) if accumulating else nullcontext():
                        terms = self.ddp(index, batch, cache)
                        loss: Any = sum(terms.values())
                        accelerator.backward(self.scaler.scale(loss / len(micro_batches)))
                except (RuntimeError, ValueError) as error:
                    if (user_error := explain_error(error, self.phase_runner, batch, options)) is not None:
                        raise user_error from error
                    raise
                if not self.scaler.enabled:
                    check_finite(terms, step)
                for name, value in terms.items():
                    logged[name] = logged.get(name, torch.zeros_like(value)) + value.detach() / len(micro_batches)
            self.scaler.unscale(optimizer)
            if options.clip_grad_norm:
                accelerator.clip_grad_norm_(phase.module.parameters(), options.clip_grad_norm)
            set_learning_rate(optimizer, lr)
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        # The loss of a skipped step may be nan; the mean of the log must not be.
        return logged if self.scaler.end_step() else {}

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        options = self.options
        return options.lr * learning_rate(
            options.schedule, self.step, self.steps, options.warmup_steps, options.milestones, options.gamma
        )

    def log_step(self) -> None:
        """Log loss terms, learning rate and images per second."""
        means, images_per_second = self.meter.flush()
        lr = self.optimizers[0].param_groups[-1]["lr"]
        self.log.write(self.step, "train", {**means, "lr": lr, "images_per_second": round(images_per_second, 2)})
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        left = (self.steps - self.step) * self.meter.total / self.step
        self.log.info(
            f"step {self.step:>6}/{self.steps}  {terms}  lr {lr:.2e}  {images_per_second:.1f} images/s  "
            f"{format_seconds(left)} left"
        )

    def should_evaluate(self) -> bool:
        """Whether to evaluate after the current step, if that was not done yet; the last step always is evaluated."""
        last = self.step == self.steps or self.stop_reason is not None
        due = last or bool(self.eval_every and self.step % self.eval_every == 0)
        return due and self.evaluator.evaluated_step != self.step

    def should_save(self) -> bool:
        """Whether to save after the current step, if that was not done yet."""
        due = self.finished or (self.step > 0 and self.step % self.options.save_every == 0)
        return due and self.unsaved

    @property
    def finished(self) -> bool:
        """Whether all steps are done, `patience` evaluations brought no improvement, or a callback ends the run."""
        patience = self.options.patience or math.inf
        stopped = self.stop_reason is not None or self.evaluator.evals_without_improvement >= patience
        return self.step == self.steps or stopped

    # Data

    def data_loader(self, steps: int | None = None, workers: int | None = None) -> Generator[Batch]:
        """Micro-batches of this process from the current step to the end, or for a number of steps; see `close`."""
        end = self.steps if steps is None else self.step + steps
        accumulate = self.options.grad_accum_steps
        sampler = InfiniteBatchSampler(
            self.train_samples,
            self.options.batch_size,
            range(self.step * accumulate, end * accumulate),
            self.options.seed,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.options.sample_uses or 1,
            self.training_set.dataset.sample_weights,
        )
        if isinstance(dataset := self.training_set.dataset, SyntheticDataset):
            dataset.keep_samples(REUSE_DISTANCE * sampler.uses if sampler.uses > 1 else 0)
        overfit = self.options.overfit_one_batch
        batches = [sampler.keys(0)] * len(sampler) if overfit else sampler
        workers = 0 if overfit else self.options.workers if workers is None else workers
        self.loader = data_loader(self.training_set, batches, workers or 0, pin_memory=self.device.type == "cuda")
        return self.loader

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, with images as floats."""
        return self.training_set.preprocessor.to_device(batch, self.device)

    # Interruption

    def interruptible(self) -> AbstractContextManager[None]:
        """A context that changes no state, which a request to stop ends at once.

        Several processes stop together, in `stop_if_requested`.
        """
        return self.interruption.at_once() if self.accelerator.num_processes == 1 else nullcontext()

    def stop_if_requested(self) -> None:
        """Stop all processes by a KeyboardInterrupt, with the signal, if a stop was requested in any of them; and let
        all of them end the run if a callback of any does."""
        if any_process(self.accelerator, self.interruption()):
            raise KeyboardInterrupt(self.interruption.signal or signal.SIGINT)
        if self.callbacks and any_process(self.accelerator, self.stop_reason is not None):
            self.stop_reason = self.stop_reason or "a callback of another process"

    def stop(self, reason: str = "a callback") -> None:
        """End the run after the current step, with an evaluation and its result; for callbacks."""
        if self.stop_reason is None:
            self.log.info(f"Ending the run after step {self.step} of {self.steps}: {reason}.")
            self.stop_reason = reason

    def notify(self, event: str, *arguments: Any) -> None:
        """Call the methods for an event of all callbacks, with this trainer first."""
        for callback in self.callbacks:
            if callable(method := getattr(callback, event, None)):
                self.call_back(method, self, *arguments)

    def call_back(self, method: Callable[..., object], *arguments: Any) -> None:
        """Call code of the caller; a KeyboardInterrupt that it raises requests to stop, as Ctrl-C does."""
        try:
            method(*arguments)
        except KeyboardInterrupt:
            if not self.interruption():
                self.interruption.request()

    # Evaluation

    def _ema_weights(self):
        return nullcontext() if self.ema is None else self.ema.applied(self.model)

    def evaluate(self) -> None:
        """Evaluate the current weights, log the result, and save the best; a stop leaves the state before it."""
        with self.meter.paused():
            if self.accelerator.num_processes > 1:
                broadcast_buffers(self.model, {} if self.ema is None else self.ema.average)
            with self._ema_weights():
                improved = self.evaluator.evaluate(self.model, self.device, self.options.amp, self.interruptible)
                if improved and self.main:
                    self.save_checkpoint("best.safetensors")
            self.evaluator.record(self.step, self.steps, improved)
            self.unsaved = True
            if improved and self.main:
                self.notify("on_save", self.folder / "best.safetensors")
            self.notify("on_evaluate", dict(self.evaluator.evaluation.metrics) if self.evaluator.evaluation else {})
        self.log.progress(self.step, self.steps)

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

    # State

    def save_checkpoint(self, name: str) -> None:
        """Save a checkpoint with the present weights of the model in the run folder."""
        write_model(self.folder / name, self.model, self.model_spec, self.checkpoint_metadata())

    def save(self) -> None:
        """Save the training state and a checkpoint of the current weights."""
        if self.main:
            with self.meter.paused():
                save_state(self.folder / "last" / "state.pt", self.state())
                self.saved_step = self.step
                with self._ema_weights():
                    self.save_checkpoint("last/checkpoint.safetensors")
        self.unsaved = False
        if self.main:
            self.notify("on_save", self.folder / "last" / "checkpoint.safetensors")

    def save_after_failure(self, error: BaseException) -> None:
        """Save the state if it is that after a complete step, and print how to resume from the last saved one."""
        disk_failed = isinstance(error, OSError) and error.errno in DISK_ERRORS
        if self.interruption.forced or (self.finished and not self.unsaved) or not (self.complete or disk_failed):
            return
        if self.complete and self.unsaved:
            try:
                self.save()
            except OSError as again:
                if not disk_failed:
                    self.log.info(f"The training state cannot be saved: {os_error_message(again)}")
        if self.saved_step is None:
            return
        lost = f"; the saved state is that after step {self.saved_step}" if self.saved_step < self.step else ""
        command = f"densevision train {self.task.name} --resume --out {shlex.quote(str(self.folder))}"
        self.log.info(f"Stopped after step {self.step}{lost}. Resume with: {command}")

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
        """Continue from a saved training state of the same model and number of processes.

        With another number of steps than before, the run continues with the learning rates of a run of that length.
        """
        require_same_run(self.folder, state, self.steps, self.images_per_step)
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

    # Start and end

    @property
    def main(self) -> bool:
        """Whether this is the main process, which writes all files."""
        return self.accelerator.is_main_process

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over all processes and micro-steps."""
        return self.options.batch_size * self.options.grad_accum_steps * self.accelerator.num_processes

    def lock_folder(self) -> None:
        """Make the run folder this run's alone, and remove what writers that were killed have left in it."""
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = None if self.options.force else FolderLock(self.folder)
            for folder in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
                remove_abandoned_parts(folder)

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

    def close(self) -> None:
        """End the data loading processes, close the log, and unlock the run folder; each even if another fails."""
        with ExitStack() as steps:
            if self.lock is not None:
                steps.callback(self.lock.close)
            steps.callback(self.log.close)
            if self.loader is not None:
                steps.callback(self.loader.close)

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

    def finish(self) -> dict[str, Any]:
        """Write result.json and return it; the last evaluation must have a value of the monitored metric."""
        if self.evaluator.evaluation is None:
            self.evaluate()
        name, value = self.task.monitor.name, self.evaluator.value
        result = {
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
        if self.main:
            write_json(self.folder / "result.json", result, indent=2)
        self.evaluator.require_value()
        self.log.info(
            f"Done in {self.meter.total:.0f} s of training: {name} {value:.4f}, baseline "
            f"{result['monitor']['baseline']:.4f}. Checkpoint: {self.folder / 'best.safetensors'}"
        )
        return result
