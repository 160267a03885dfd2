"""Trainer: the loop of one run, from its steps (forward, loss, backward, update) to its evaluations and saves."""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ...atomic_io import write_json
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import SyntheticDataset
from ...errors import DISK_ERRORS, os_error_message
from ..distributed import any_process, broadcast_buffers
from ..network import Batch, LossTerms
from .data import REUSE_DISTANCE, InfiniteBatchSampler, data_loader
from .interruption import Interruption, check_finite, explain_error, lost_process
from .lanes import lanes_of
from .log import format_seconds
from .optimizers import kept_statistics, set_learning_rate, train_mode
from .run import Run


class Trainer(Run):
    """The loop of a run: it trains, evaluates and saves.

    Attributes:
        interruption: request to stop, by a signal or a callback.
        complete: whether the state is that after a complete step; False inside a step.
        callbacks: objects with methods for the events of the run, see `callbacks.Callback`.
        terms: loss terms of the last step, means over all micro-batches.
        stop_reason: why a callback ends the run before its last step; None if none does.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.interruption, self.complete = Interruption(), True
        self.loader: Generator[Batch] | None = None
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
                if self.step and self.options.keep_every and self.step % self.options.keep_every == 0:
                    self.keep(f"steps/step-{self.step}.safetensors")
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
            if (lost := lost_process(error, self.options.collective_timeout)) is not None:
                raise lost from error
            raise

    def train_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """The next step of the run: schedule, optimizer step, moving average, log; returns the loss terms."""
        self.terms = self.optimizer_step(self.step, batches, self.learning_rate())
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        self.meter.add(self.terms, self.images_per_step)
        self.log.progress(self.step, self.steps)
        if self.step % self.options.log_every == 0 or self.step == self.steps:
            self.log_step()
        self.complete = self.unsaved = True
        return self.terms

    def optimizer_step(self, step: int, batches: Iterator[Batch], lr: float) -> dict[str, float]:
        """Every micro-batch through every phase, and one update per phase; returns all loss terms.

        They are means over all micro-batches, in every process. Without terms, the step was skipped, since its
        gradients overflowed fp16.

        The step seeds the random numbers on the device. If a stop was requested before it began, nothing changes.

        Raises:
            NonFiniteLoss: a loss term became nan or infinite.
            UserError: not enough memory, or too few values for a normalization.
            KeyboardInterrupt: a stop was requested before the step began.
        """
        options, accelerator = self.options, self.accelerator
        with self.interruptible():
            micro_batches = {number: self.to_device(next(batches)) for number in self.share}
        train_mode(self.model, options)
        self.complete = False
        self.scaler.begin_step()
        caches: dict[int, dict[str, Any]] = {number: {} for number in self.share}
        sums: LossTerms = {}
        for index, (phase, optimizer) in enumerate(zip(self.phases, self.optimizers, strict=True)):
            self.phase_runner.set_requires_grad(index)
            # Discard gradients that the loss of an earlier phase left in these parameters.
            optimizer.zero_grad(set_to_none=True)
            for number, batch in micro_batches.items():
                self.seed(step, index, number)
                try:
                    with self.micro_batch_context(number):
                        terms = self.ddp(index, batch, caches[number])
                        loss: Any = sum(terms.values())
                        accelerator.backward(self.scaler.scale(loss / self.micro_batches))
                except (RuntimeError, ValueError) as error:
                    if (user_error := explain_error(error, self.phase_runner, batch, options)) is not None:
                        raise user_error from error
                    raise
                if number != self.share[-1]:
                    self.gradients.keep()
                for name, value in terms.items():
                    value = value.detach().to(self.gradients.dtype)
                    sums[name] = sums[name] + value if name in sums else value
            self.gradients.finish()
            self.scaler.unscale(optimizer)
            if options.clip_grad_norm:
                accelerator.clip_grad_norm_(phase.module.parameters(), options.clip_grad_norm)
            set_learning_rate(optimizer, lr)
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        totals = accelerator.reduce(torch.stack(list(sums.values())), "sum") / self.micro_batches
        means = dict(zip(sums, totals.tolist(), strict=True))
        if not self.scaler.enabled:
            check_finite(means, step)
        # The loss of a skipped step may be nan; the mean of the log must not be.
        return means if self.scaler.end_step() else {}

    def seed(self, step: int, phase: int, number: int) -> None:
        """Seed dropout and other random numbers on the device by step, phase and micro-batch alone, so that resuming
        repeats them, on any number of processes."""
        # After loading: a data loader uses the same generator when it starts.
        rng = generator(self.options.seed, step, phase * self.micro_batches + number, Purpose.DROPOUT)
        torch.manual_seed(int(rng.integers(2**62)))

    @contextmanager
    def micro_batch_context(self, number: int) -> Iterator[None]:
        """Forward and backward pass of a micro-batch: the last one of a process exchanges the gradients of all, and the
        first one of the step alone is seen by the running statistics of BatchNorm."""
        with ExitStack() as contexts:
            if number != self.share[-1] and isinstance(self.ddp, DistributedDataParallel):
                # That of Accelerate does nothing in a group of one process, whose gradients DDP exchanges as well.
                contexts.enter_context(self.ddp.no_sync())
            if number > 0:
                contexts.enter_context(kept_statistics(self.norms))
            yield

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
        due = self.finished or self.options.save_due(self.step, time.monotonic() - self.saved_at)
        return due and self.unsaved

    @property
    def finished(self) -> bool:
        """Whether all steps are done, `patience` evaluations brought no improvement, or a callback ends the run."""
        patience = self.options.patience or math.inf
        stopped = self.stop_reason is not None or self.evaluator.evals_without_improvement >= patience
        return self.step == self.steps or stopped

    # Data

    def data_loader(self, steps: int | None = None, workers: int | None = None) -> Generator[Batch]:
        """Micro-batches of this process from the current step to the end, or for a number of steps; see `close`.

        Each has a number in the run: step * micro_batches + its number in the step.
        """
        end = self.steps if steps is None else self.step + steps
        overfit = self.options.overfit_one_batch
        numbers = (step * self.micro_batches + one for step in range(self.step, end) for one in self.share)
        sampler = InfiniteBatchSampler(
            self.train_samples,
            self.options.batch_size,
            (0 for _ in numbers) if overfit else numbers,
            self.options.seed,
            self.options.sample_uses or 1,
            self.training_set.dataset.sample_weights,
            lanes_of(self.training_set.dataset, self.train_samples, self.micro_batches, self.options.seed),
        )
        if isinstance(dataset := self.training_set.dataset, SyntheticDataset):
            dataset.keep_samples(REUSE_DISTANCE * sampler.uses if sampler.uses > 1 else 0)
        workers = 0 if overfit else self.options.workers if workers is None else workers
        self.loader = data_loader(self.training_set, sampler, workers or 0, pin_memory=self.device.type == "cuda")
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

    def evaluate(self) -> None:
        """Evaluate the current weights, log the result, and save the best; a stop leaves the state before it."""
        with self.meter.paused():
            if self.accelerator.num_processes > 1:
                broadcast_buffers(self.model, {} if self.ema is None else self.ema.average)
            with self.averaged_weights():
                improved = self.evaluator.evaluate(self.model, self.device, self.options.amp, self.interruptible)
                if improved and self.main:
                    self.save_checkpoint("best.safetensors")
            self.evaluator.record(self.step, self.steps, improved)
            self.unsaved = True
            if improved and self.main:
                self.notify("on_save", self.folder / "best.safetensors")
            self.notify("on_evaluate", dict(self.evaluator.evaluation.metrics) if self.evaluator.evaluation else {})
        if self.options.keep_best and self.main:
            is_kept, obsolete = self.evaluator.best_files(self.options.keep_best)
            if is_kept:
                self.keep(f"best/step-{self.step}.safetensors")
            for path in obsolete:
                path.unlink()
        self.log.progress(self.step, self.steps)

    def keep(self, name: str) -> None:
        """Save a checkpoint of the current weights that stays when the next one is saved."""
        if self.main:
            with self.meter.paused(), self.averaged_weights():
                self.save_checkpoint(name)
            self.notify("on_save", self.folder / name)

    # End

    def save(self) -> None:
        """Save the training state and a checkpoint of the current weights."""
        super().save()
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

    def close(self) -> None:
        """End the data loading processes, close the log, and unlock the run folder; each even if another fails."""
        with ExitStack() as steps:
            if self.lock is not None:
                steps.callback(self.lock.close)
            steps.callback(self.log.close)
            if self.loader is not None:
                steps.callback(self.loader.close)

    def finish(self) -> dict[str, Any]:
        """Write result.json and return it; the last evaluation must have a value of the monitored metric."""
        if self.evaluator.evaluation is None:
            self.evaluate()
        result = self.result()
        if self.main:
            write_json(self.folder / "result.json", result, indent=2)
        self.evaluator.require_value()
        monitor = result["monitor"]
        self.log.info(
            f"Done in {self.meter.total:.0f} s of training: {monitor['name']} {monitor['value']:.4f}, baseline "
            f"{monitor['baseline']:.4f}. Checkpoint: {self.folder / 'best.safetensors'}"
        )
        return result
