"""Trainer: model, optimizers, data and state of a run."""

from __future__ import annotations

import dataclasses
import math
import shlex
import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...atomic_io import write_json
from ...datasets.dataset import Dataset
from ...errors import UserError
from ..checkpoint import provenance, save_checkpoint
from ..comparison_grid import draw_comparison, write_comparison
from ..device import device_name
from ..distributed import any_process, broadcast_buffers, create_accelerator
from ..evaluation import Evaluation, evaluate
from ..inference import Predictor
from ..model_spec import ModelSpec
from ..network import Batch, LossTerms, Network, Phase
from .data import AugmentedDataset, InfiniteBatchSampler, data_loader
from .freezing import apply_freeze, freeze_backbone
from .log import RunLog
from .meter import Meter
from .optimizers import MovingAverage, create_optimizer
from .options import ResolvedOptions
from .schedules import learning_rate
from .signals import Interruption
from .state import save_state
from .step import PhaseRunner

NUM_EXAMPLES = 4
"""Samples in the comparison grids of a run."""


class Trainer:
    """The state of a run between two steps, with logging, evaluation, saving and restoring.

    Attributes:
        step, steps: steps done and total steps.
        phases, optimizers: one optimizer per phase.
        auxiliary: modules that are trained but are not part of the model (discriminators): they are in the training
            state, not in checkpoints.
        phase_runner: all phases behind one `forward`, wrapped by DDP if there are several processes.
        ema: moving average of the weights, or None.
        best: monitored metric of the best checkpoint and its step, or None.
        evaluated_step: step of the last evaluation, 0 before the first one.
        interruption: request to stop, by a signal or a callback.
        complete: whether the state is that after a complete step; False inside a step.
        unsaved: whether the state has changed since it was saved.
        notes: lines for the start of the run, after those of `describe`.
    """

    def __init__(
        self,
        options: ResolvedOptions,
        folder: Path,
        model_spec: ModelSpec,
        model: Network,
        training_set: AugmentedDataset,
        eval_set: Dataset,
        train_samples: int | None,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.options, self.folder, self.model_spec, self.task = options, folder, model_spec, model_spec.task
        self.training_set, self.eval_set, self.train_samples = training_set, eval_set, train_samples
        self.device, self.bf16 = device, bf16
        self.model = model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
        freeze_backbone(self.model, options)
        self.phases = self.task.phases(self.model, training_set.dataset.fields, options.loss)
        self.auxiliary = auxiliary_modules(self.phases, self.model)
        for module in self.auxiliary:
            module.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
        self.accelerator = create_accelerator(device, len(self.phases))
        self.optimizers: list[Any] = []
        for phase in self.phases:
            optimizer = create_optimizer(phase.module, options, options.backbone_lr_factor)
            self.optimizers.append(self.accelerator.prepare_optimizer(optimizer))
        if options.compile:
            compile_network(self.model)
        self.phase_runner = self.accelerator.prepare_model(
            PhaseRunner(self.phases, bf16, device.type), device_placement=False
        )
        self.trainable = [
            [parameter for parameter in phase.module.parameters() if parameter.requires_grad] for phase in self.phases
        ]
        self.ema = MovingAverage(self.model, options.ema_decay) if options.ema_decay else None
        self.provenance = provenance(options.weights, options.init_from)
        self.step, self.steps = 0, self._steps()
        if options.warmup_steps >= self.steps:
            raise UserError(
                f"--warmup-steps is {options.warmup_steps}, but the run has {self.steps} steps and would never reach "
                "--lr: use fewer warm-up steps, or more --steps."
            )
        self.eval_every = max(1, self.steps // 10) if options.eval_every is None else options.eval_every
        self.best: dict[str, float] | None = None
        self.evals_without_improvement = 0
        self.meter = Meter()
        self.evaluation: Evaluation | None = None
        self.baseline: Evaluation | None = None
        self.evaluated_step = 0
        self.interruption = Interruption()
        self.complete = self.unsaved = True
        self.loader: Generator[Batch] | None = None
        noise = model.inference_noise
        self.notes = [f"Note: this model is random at inference and cannot be exported: {noise}."] if noise else []
        if skipped := {*training_set.dataset.skipped, *eval_set.skipped}:
            self.notes.append(
                f"Note: {len(skipped)} problem(s) of the data were passed over or repaired; list them with"
                " 'densevision data validate'."
            )

    @property
    def main(self) -> bool:
        """Whether this is the main process, which writes all files."""
        return self.accelerator.is_main_process

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over all processes and micro-steps."""
        return self.options.batch_size * self.options.grad_accum_steps * self.accelerator.num_processes

    def _steps(self) -> int:
        if self.options.epochs is None:
            return self.options.steps or 1
        if self.train_samples is None:
            raise UserError("--epochs needs a finite training set; give --steps, or --train-samples N.")
        return max(1, round(self.options.epochs * self.train_samples / self.images_per_step))

    def create_run_folder(self) -> None:
        """Create the run folder, write config.yaml and task.json, and start the log."""
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            stored = dataclasses.replace(self.options, resume=None, out=self.folder)
            if stored.schedule != "multistep":
                stored = dataclasses.replace(stored, milestones=None, gamma=None)
            stored.write(self.folder / "config.yaml")
            task = {"task": self.task.name, "options": dataclasses.asdict(self.task)}  # type: ignore[call-overload]
            write_json(self.folder / "task.json", task)
        self.log = RunLog(self.folder, self.step, self.main)

    def close(self) -> None:
        """End the data loading processes and close the log."""
        if self.loader is not None:
            self.loader.close()
        self.log.close()

    def describe(self) -> str:
        """Lines about model, data, steps, device and the resolved options, for the start of the run."""
        parameters, auxiliary = count_parameters(self.model), sum(map(count_parameters, self.auxiliary))
        parts = [part for part in (self.options.backbone, self.options.head) if part]
        model = self.options.model or " + ".join(parts)
        discriminator = f", and {auxiliary:,} of the discriminator" if auxiliary else ""
        height, width = self.options.image_size or (0, 0)
        device = f"{self.device}{', bf16' if self.bf16 else ''}, {self.accelerator.num_processes} process(es)"
        return (
            f"Training {self.task.name}: {model} ({parameters:,} parameters{discriminator}) on {self.options.data}, "
            f"steps {self.step}..{self.steps} of {self.images_per_step} images {height}x{width}, {device}. "
            f"Run folder: {self.folder}\nOptions: {self.resolved_options()}"
        )

    def resolved_options(self) -> str:
        """The options with which the run trains, as on the command line; switches that are off are left out."""
        resolved = dataclasses.replace(self.options, eval_every=self.eval_every)
        unused = () if resolved.schedule == "multistep" else ("milestones", "gamma")
        words = []
        for name, value in resolved.explicit().items():
            if value is not False and name not in ("out", "resume", *unused):
                values = value if isinstance(value, tuple) else () if value is True else (value,)
                words += [f"--{name.replace('_', '-')}", *(shlex.quote(str(one)) for one in values)]
        return " ".join(words)

    def data_loader(self, steps: int | None = None) -> Generator[Batch]:
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
        )
        overfit = self.options.overfit_one_batch
        batches = [sampler.keys(0)] * len(sampler) if overfit else sampler
        workers = 0 if overfit else self.options.workers or 0
        self.loader = data_loader(self.training_set, batches, workers, pin_memory=self.device.type == "cuda")
        return self.loader

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device with images as floats, and set the model to training mode."""
        self.model.train()
        apply_freeze(self.model, self.options)
        return self.training_set.preprocessor.to_device(batch, self.device)

    def set_requires_grad(self, index: int) -> None:
        """Turn on gradients for this phase and later ones, and off for earlier ones.

        Later phases need them: activations that this phase stores in the cache keep their graph.
        """
        if len(self.phases) > 1:
            for number, parameters in enumerate(self.trainable):
                for parameter in parameters:
                    parameter.requires_grad_(number >= index)

    def any_rank(self, stop: bool) -> bool:
        """Whether any process was interrupted, so that all of them stop after the same step."""
        return any_process(self.accelerator, stop)

    def interruptible(self) -> AbstractContextManager[None]:
        """A context that changes no state, which a request to stop ends at once.

        Several processes stop together, in `stop_if_requested`.
        """
        return self.interruption.at_once() if self.accelerator.num_processes == 1 else nullcontext()

    def stop_if_requested(self) -> None:
        """Stop all processes if a stop was requested in any of them.

        Raises:
            KeyboardInterrupt: with the signal.
        """
        if self.any_rank(self.interruption()):
            raise KeyboardInterrupt(self.interruption.signal or signal.SIGINT)

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        options = self.options
        return options.lr * learning_rate(
            options.schedule, self.step, self.steps, options.warmup_steps, options.milestones, options.gamma
        )

    def after_step(self, terms: LossTerms) -> None:
        """Update step counter, moving average, meter and log after an optimizer step."""
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        # Means over all processes on each of them, so that the state saved by one is valid for all.
        means = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist()
        self.meter.add(dict(zip(terms, means, strict=True)), self.images_per_step)
        self.complete = self.unsaved = True
        self.log.progress(self.step, self.steps)
        if self.step % self.options.log_every == 0 or self.step == self.steps:
            self.log_step()

    def log_step(self) -> None:
        """Log loss terms, learning rate and images per second."""
        means, images_per_second = self.meter.flush()
        lr = self.optimizers[0].param_groups[-1]["lr"]
        self.log.write(self.step, "train", {**means, "lr": lr, "images_per_second": round(images_per_second, 2)})
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.log.info(f"step {self.step:>6}/{self.steps}  {terms}  lr {lr:.2e}  {images_per_second:.1f} images/s")

    def should_evaluate(self) -> bool:
        """Whether to evaluate after the current step, if that was not done yet; the last step always is evaluated."""
        due = self.step == self.steps or bool(self.eval_every and self.step % self.eval_every == 0)
        return due and self.evaluated_step != self.step

    def should_save(self) -> bool:
        """Whether to save after the current step, if that was not done yet."""
        due = self.finished or (self.step > 0 and self.step % self.options.save_every == 0)
        return due and self.unsaved

    @property
    def protocol(self) -> str:
        """The protocol under which papers report on the evaluation dataset."""
        return self.task.evaluation.default_protocol(self.eval_set)

    def _ema_weights(self):
        return nullcontext() if self.ema is None else self.ema.applied(self.model)

    @property
    def out_of_patience(self) -> bool:
        """Whether early stopping applies: `patience` evaluations without improvement."""
        return bool(self.options.patience) and self.evals_without_improvement >= self.options.patience

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or early stopping applies."""
        return self.step == self.steps or self.out_of_patience

    def evaluate(self) -> None:
        """Evaluate the current weights, draw examples and curves, and save the best.

        Raises:
            KeyboardInterrupt: a stop was requested; the state is that before the evaluation.
        """
        with self.meter.paused():
            if self.accelerator.num_processes > 1:
                broadcast_buffers(self.model, {} if self.ema is None else self.ema.average)
            self._evaluate()
        self.log.progress(self.step, self.steps)

    def _evaluate(self) -> None:
        options, monitor, protocol = self.options, self.task.monitor, self.protocol
        if self.baseline is None:
            self.log.info("Evaluating the baseline ...")
            with self.interruptible():
                baseline = self.task.baseline(self.training_set.dataset)
                self.baseline = evaluate(
                    self.task,
                    baseline,
                    self.eval_set,
                    protocol,
                    options.eval_samples,
                    progress=self.log.evaluation_progress,
                )
        predictor = Predictor(
            self.task,
            self.model,
            self.training_set.dataset.fields,
            self.training_set.size,
            self.device,
            "bf16" if self.bf16 else "off",
        )
        with self._ema_weights():
            with self.interruptible():
                self.evaluation = evaluate(
                    self.task,
                    predictor,
                    self.eval_set,
                    protocol,
                    options.eval_samples,
                    num_examples=NUM_EXAMPLES,
                    batch_size=options.batch_size,
                    progress=self.log.evaluation_progress,
                )
            value = self.evaluation.metrics[monitor.name]
            improved = monitor.better(value, None if self.best is None else self.best["value"])
            if improved and self.main:
                save_checkpoint(
                    self.folder / "best.safetensors", self.model, self.model_spec, self.checkpoint_metadata()
                )
        self.evals_without_improvement = 0 if improved else self.evals_without_improvement + 1
        if improved:
            self.best = {"value": value, "step": self.step}
        self.evaluated_step, self.unsaved = self.step, True
        self.log.write(self.step, "eval", self.evaluation.metrics)
        baseline_value = self.baseline.metrics[monitor.name]
        self.log.info(
            f"step {self.step:>6}/{self.steps}  {monitor.name} {value:.4f} on {self.evaluation.samples} unseen samples "
            f"(baseline {baseline_value:.4f}; protocol {protocol})"
        )
        if self.main and self.evaluation.examples:
            image = draw_comparison(self.task, self.training_set.dataset.fields, self.evaluation.examples)
            write_comparison(self.folder / "images" / f"step-{self.step}.png", image, min_width=1000)
        self.log.draw_curves(monitor.name, baseline_value)

    def checkpoint_metadata(self) -> dict[str, Any]:
        """Checkpoint header beside the model spec: size, step, data, provenance, loss, recipe, metrics."""
        dataset, evaluation = self.training_set.dataset, self.evaluation
        return {
            "size": list(self.training_set.size),
            "step": self.step,
            "data": {
                "name": self.options.data or type(dataset).__name__,
                "title": dataset.title,
                "terms": dataset.terms,
            },
            **self.provenance,
            "loss": self.options.loss,
            "recipe": self.options.recipe,
            "metrics": None
            if evaluation is None
            else {
                "protocol": evaluation.protocol,
                "samples": evaluation.samples,
                "split": self.eval_set.split,
                **evaluation.metrics,
            },
        }

    def save(self) -> None:
        """Save the training state and a checkpoint of the current weights."""
        if self.main:
            with self.meter.paused():
                self._save()
        self.unsaved = False

    def save_after_failure(self) -> None:
        """Save the state if it is that after a complete step, and print how to resume."""
        if not self.complete or self.interruption.forced or (self.finished and not self.unsaved):
            return
        if self.unsaved:
            try:
                self.save()
            except OSError as error:
                self.log.info(f"The training state cannot be saved: {error}")
                return
        self.log.info(f"Stopped after step {self.step}. Resume with: {self.resume_command()}")

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "auxiliary": [module.state_dict() for module in self.auxiliary],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": None if self.ema is None else self.ema.state(),
            "step": self.step,
            "steps": self.steps,
            "evaluated_step": self.evaluated_step,
            "best": self.best,
            "evals_without_improvement": self.evals_without_improvement,
            "meter": self.meter.state(),
            "images_per_step": self.images_per_step,
            "baseline": None if self.baseline is None else self.baseline.scores(),
            "evaluation": None if self.evaluation is None else self.evaluation.scores(),
        }
        save_state(self.folder / "last" / "state.pt", state)
        with self._ema_weights():
            save_checkpoint(
                self.folder / "last" / "checkpoint.safetensors", self.model, self.model_spec, self.checkpoint_metadata()
            )

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved training state.

        With another number of steps than before, the run continues with the learning rates of a run of that length.

        Raises:
            UserError: the state belongs to another model or to another number of processes, or has done more steps.
        """
        if state["step"] > self.steps:
            raise UserError(
                f"The run in {self.folder} has done {state['step']} steps already, more than {self.steps}: resume it "
                f"with --steps {state['step']} or more."
            )
        if state["images_per_step"] != self.images_per_step:
            raise UserError(
                f"The run in {self.folder} took {state['images_per_step']} images a step, this one "
                f"{self.images_per_step}: resume with as many processes as before."
            )
        try:
            self.model.load_state_dict(state["model"])
            for module, stored in zip(self.auxiliary, state["auxiliary"], strict=True):
                module.load_state_dict(stored)
            for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(stored)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"The state in {self.folder} belongs to another model: {error}") from error
        if self.ema is not None:
            self.ema.restore(state["ema"])
        self.step, self.best, self.evaluated_step = state["step"], state["best"], state["evaluated_step"]
        self.unsaved = False
        if state["steps"] != self.steps:
            self.notes.append(
                f"The run has {self.steps} steps now, {state['steps']} before: from step {self.step} on, the schedule "
                f"'{self.options.schedule}' is that of a run of {self.steps} steps"
                + (f" and continues at lr {self.learning_rate():.2e}." if self.step < self.steps else ".")
            )
        self.evals_without_improvement = state["evals_without_improvement"]
        self.meter.restore(state["meter"])
        if state["baseline"] is not None:
            self.baseline = Evaluation(**state["baseline"])
        if state["evaluation"] is not None:
            self.evaluation = Evaluation(**state["evaluation"])

    def finish(self) -> dict[str, Any]:
        """Write result.json and return it."""
        if self.evaluation is None:
            self.evaluate()
        assert self.evaluation is not None and self.baseline is not None
        monitor, options = self.task.monitor, self.options
        images = self.step * self.images_per_step
        result = {
            "task": self.task.name,
            "options": dataclasses.asdict(self.task),  # type: ignore[call-overload]
            "backbone": self.model_spec.backbone,
            "head": self.model_spec.head,
            "model": self.model_spec.model,
            "weights": None if options.weights is None else Path(options.weights).name,
            "data": options.eval_data or options.data or type(self.eval_set).__name__,
            "trained_on": options.data or type(self.training_set.dataset).__name__,
            "split": self.eval_set.split,
            "protocol": self.evaluation.protocol,
            "samples": self.evaluation.samples,
            "metrics": self.evaluation.metrics,
            **self.evaluation.undefined(),
            "baseline": self.baseline.metrics,
            "steps": self.step,
            "seconds": round(self.meter.total, 1),
            "images_per_second": round(images / max(1e-9, self.meter.total), 2),
            "device": device_name(self.device) + (", bf16" if self.bf16 else ", fp32"),
            "best": self.best,
            "monitor": {
                "name": monitor.name,
                "higher_is_better": monitor.higher_is_better,
                "value": self.evaluation.metrics[monitor.name],
                "baseline": self.baseline.metrics[monitor.name],
            },
        }
        if self.main:
            write_json(self.folder / "result.json", result, indent=2)
        if math.isnan(result["monitor"]["value"]):
            best = "no step has one" if self.best is None else f"best.safetensors is that of step {self.best['step']}"
            raise UserError(
                f"The last evaluation of {self.folder} has no {monitor.name}, since the predictions are not finite "
                f"({best}): train again with a lower --lr, --clip-grad-norm 1 or --amp off."
            )
        self.log.info(
            f"Done in {self.meter.total:.0f} s of training: {monitor.name} {result['monitor']['value']:.4f}, baseline "
            f"{result['monitor']['baseline']:.4f}. Checkpoint: {self.folder / 'best.safetensors'}"
        )
        return result

    def resume_command(self) -> str:
        """The shell command that resumes this run."""
        return f"densevision train {self.task.name} --resume --out {shlex.quote(str(self.folder))}"


def auxiliary_modules(phases: tuple[Phase, ...], model: Network) -> list[nn.Module]:
    """Modules that phases train and that are not part of the model: discriminators."""
    modules = set(model.modules())
    return [phase.module for phase in phases if phase.module not in modules]


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def compile_network(model: Network) -> None:
    """Compile the backbone's `features` and the head, which losses may call without `forward`; else the model."""
    backbone: Any = model.backbone
    if backbone is None:
        model.compile()
        return
    backbone.features = torch.compile(backbone.features)
    if model.head is not None:
        model.head.compile()
