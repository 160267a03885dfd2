"""A run: the network, its optimizers, its streams, and where they stand."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...datasets.dataset import Dataset
from ...errors import UserError
from ...writing import write_text
from ..blueprint import Blueprint
from ..device import device_name
from ..evaluation import Evaluation, evaluate, predictor_answer
from ..inference import Predictor
from ..sheet import draw_sheet, write_sheet
from ..task import Batch, Network, Phase, Terms
from .checkpoint import ancestry, save_checkpoint, save_state
from .freezing import freeze_trunk, settle_frozen
from .log import RunLog
from .meter import Meter
from .optimizers import MovingAverage, create_optimizer
from .options import Settled
from .processes import create_accelerator, share_buffers
from .stepper import Stepper
from .stream import Order, TrainingView, batches

SHOWN = 4
"""Samples in a run's pictures."""


class Run:
    """Everything a training holds between two steps, and what it does at its milestones.

    Attributes:
        step, steps: steps done and steps in all.
        phases, optimizers: one optimizer per phase.
        opponents: what is trained beside the network and answers nothing, a discriminator: kept in the training state,
            and in no checkpoint.
        stepper: all phases behind one forward, wrapped by DDP where there are several processes.
        ema: the moving average of weights, None without.
        best: watched score of the best checkpoint and its step.
    """

    def __init__(
        self,
        options: Settled,
        folder: Path,
        blueprint: Blueprint,
        model: Network,
        view: TrainingView,
        eval_set: Dataset,
        train_samples: int | None,
        device: torch.device,
        bf16: bool,
    ) -> None:
        self.options, self.folder, self.blueprint, self.task = options, folder, blueprint, blueprint.task
        self.view, self.eval_set, self.train_samples = view, eval_set, train_samples
        self.device, self.bf16 = device, bf16
        self.model = model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
        freeze_trunk(self.model, options)
        self.phases = self.task.phases(self.model, view.dataset.fields, options.loss)
        self.opponents = opponents(self.phases, self.model)
        for opponent in self.opponents:
            opponent.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
        self.accelerator = create_accelerator(device, len(self.phases))
        self.optimizers: list[Any] = []
        for phase in self.phases:
            optimizer = create_optimizer(phase.module, options, options.trunk_lr)
            self.optimizers.append(self.accelerator.prepare_optimizer(optimizer))
        if options.compile:
            compile_network(self.model)
        self.stepper = self.accelerator.prepare_model(Stepper(self.phases, bf16, device.type), device_placement=False)
        self.trainable = [
            [parameter for parameter in phase.module.parameters() if parameter.requires_grad] for phase in self.phases
        ]
        self.ema = MovingAverage(self.model, options.ema) if options.ema else None
        self.ancestry = ancestry(options.weights, options.init)
        self.step, self.steps = 0, self._steps()
        self.evaluate_every = max(1, self.steps // 10) if options.evaluate_every is None else options.evaluate_every
        self.best: dict[str, float] | None = None
        self.waiting = 0
        self.meter = Meter()
        self.evaluation: Evaluation | None = None
        self.baseline: Evaluation | None = None

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.accelerator.is_main_process

    @property
    def pictures_per_step(self) -> int:
        """Over all processes and micro-steps."""
        return self.options.batch * self.options.accumulate * self.accelerator.num_processes

    def _steps(self) -> int:
        if self.options.epochs is None:
            return self.options.steps or 1
        if self.train_samples is None:
            raise UserError("--epochs needs a finite training set; give --steps, or --train-samples N.")
        return max(1, round(self.options.epochs * self.train_samples / self.pictures_per_step))

    def open(self) -> None:
        """Make the run folder, write the options, start the log."""
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            stored = dataclasses.replace(self.options, resume=None, out=self.folder)
            stored.write(self.folder / "config.yaml")
            task = {"task": self.task.name, "options": dataclasses.asdict(self.task)}  # type: ignore[call-overload]
            write_text(self.folder / "task.json", json.dumps(task) + "\n")
        self.log = RunLog(self.folder, self.step, self.main)

    def describe(self) -> str:
        """What is about to happen, in one line."""
        parameters, beside = count(self.model), sum(map(count, self.opponents))
        parts = [part for part in (self.options.backbone, self.options.head) if part]
        what = self.options.network or " + ".join(parts)
        against = f", against {beside:,} of an opponent" if beside else ""
        height, width = self.options.size or (0, 0)
        where = f"{self.device}{', bf16' if self.bf16 else ''}, {self.accelerator.num_processes} process(es)"
        return (
            f"Training {self.task.name}: {what} ({parameters:,} parameters{against}) on {self.options.data}, "
            f"steps {self.step}..{self.steps} of {self.pictures_per_step} pictures {height}x{width}, {where}. "
            f"Run folder: {self.folder}"
        )

    def batches(self, steps: int | None = None) -> Iterator[Batch]:
        """The micro-batches of this process from the present step to the end, or for so many steps."""
        end = self.steps if steps is None else self.step + steps
        accumulate = self.options.accumulate
        order = Order(
            self.train_samples,
            self.options.batch,
            range(self.step * accumulate, end * accumulate),
            self.options.seed,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        pinned = self.device.type == "cuda"
        if self.options.overfit:
            return batches(self.view, [order.keys(0)] * len(order), 0, pinned)
        return batches(self.view, order, self.options.workers or 0, pinned)

    def arrive(self, batch: Batch) -> Batch:
        """A batch on the device, its pictures as floats, and the modes of the network as training wants them."""
        self.model.train()
        settle_frozen(self.model, self.options)
        kinds = self.task.prepared(self.view.dataset.fields)
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return {name: kinds[name].arrive(tensor) if name in kinds else tensor for name, tensor in moved.items()}

    def open_from(self, index: int) -> None:
        """Let gradients reach this phase's parameters, and none of an earlier phase's.

        Later phases stay open: what this one leaves in `made` for them must remember where it came from.
        """
        if len(self.phases) > 1:
            for number, parameters in enumerate(self.trainable):
                for parameter in parameters:
                    parameter.requires_grad_(number >= index)

    def agreed(self, stop: bool) -> bool:
        """Whether any process was asked to stop, so that all of them stop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop
        return bool(self.accelerator.reduce(torch.tensor(float(stop), device=self.device)) > 0)

    def advance(self, terms: Terms) -> None:
        """Count a whole step that was taken."""
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        # The mean over all processes, on each of them: the state that one of them saves is everyone's.
        means = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist()
        self.meter.add(dict(zip(terms, means, strict=True)), self.pictures_per_step)
        self.log.progress(self.step, self.steps)

    def report(self) -> None:
        """One line of the log: loss terms, learning rate, pictures per second."""
        means, rate = self.meter.flush()
        learning = self.optimizers[0].param_groups[-1]["lr"]
        self.log.write(self.step, "train", {**means, "lr": learning, "images_per_second": round(rate, 2)})
        terms = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.log.say(f"step {self.step:>6}/{self.steps}  {terms}  lr {learning:.2e}  {rate:.1f} pictures/s")

    def evaluates_now(self) -> bool:
        """Whether this step ends with an evaluation: the last one always does."""
        return self.step == self.steps or bool(self.evaluate_every and self.step % self.evaluate_every == 0)

    def _averaged(self):
        return nullcontext() if self.ema is None else self.ema.applied(self.model)

    @property
    def out_of_patience(self) -> bool:
        """Whether the last evaluations were too many without a better score."""
        return bool(self.options.patience) and self.waiting >= self.options.patience

    def evaluate(self) -> bool:
        """Score the present weights, draw pictures and curves, keep the best; True when patience has run out."""
        with self.meter.paused():
            if self.accelerator.num_processes > 1:
                share_buffers(self.model, {} if self.ema is None else self.ema.average)
            self._evaluate()
        return self.out_of_patience

    def _evaluate(self) -> None:
        options, watch = self.options, self.task.watch
        scored = str(options.data if options.eval_data is None else options.eval_data)
        protocol = self.task.default_protocol(scored, self.eval_set.fields)
        if self.baseline is None:
            self.log.say("Scoring the trivial baseline ...")
            trivial = self.task.baseline(self.view.dataset)
            self.baseline = evaluate(self.task, trivial, self.eval_set, protocol, options.eval_samples)
        predictor = Predictor(
            self.task, self.model, self.view.dataset.fields, self.view.size, self.device, "bf16" if self.bf16 else "off"
        )
        with self._averaged():
            answer = predictor_answer(predictor, protocol)
            self.evaluation = evaluate(self.task, answer, self.eval_set, protocol, options.eval_samples, show=SHOWN)
            value = self.evaluation.metrics[watch.name]
            improved = watch.better(value, None if self.best is None else self.best["value"])
            if improved and self.main:
                save_checkpoint(self.folder / "best.safetensors", self.model, self.blueprint, self.facts())
        self.waiting = 0 if improved else self.waiting + 1
        if improved:
            self.best = {"value": value, "step": self.step}
        self.log.write(self.step, "eval", self.evaluation.metrics)
        trivial_value = self.baseline.metrics[watch.name]
        self.log.say(
            f"step {self.step:>6}/{self.steps}  {watch.name} {value:.4f} on {self.evaluation.samples} unseen samples "
            f"(trivial baseline {trivial_value:.4f}; protocol {protocol})"
        )
        if self.main and self.evaluation.shown:
            picture = draw_sheet(self.task, self.view.dataset.fields, self.evaluation.shown)
            write_sheet(self.folder / "pictures" / f"step-{self.step}.png", picture, smallest=1000)
        self.log.draw_curves(watch.name, trivial_value)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint's header says beside how to build the network."""
        dataset, evaluation = self.view.dataset, self.evaluation
        return {
            "size": list(self.view.size),
            "step": self.step,
            "data": {
                "name": self.options.data or type(dataset).__name__,
                "title": dataset.title,
                "terms": dataset.terms,
            },
            **self.ancestry,
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
        """The training state and a checkpoint of the present weights."""
        if self.main:
            with self.meter.paused():
                self._save()

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "opponents": [opponent.state_dict() for opponent in self.opponents],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": None if self.ema is None else self.ema.state(),
            "step": self.step,
            "best": self.best,
            "waiting": self.waiting,
            "meter": self.meter.state(),
            "pictures_per_step": self.pictures_per_step,
            "baseline": None if self.baseline is None else self.baseline.scores(),
            "evaluation": None if self.evaluation is None else self.evaluation.scores(),
        }
        save_state(self.folder / "last" / "state.pt", state)
        with self._averaged():
            save_checkpoint(self.folder / "last" / "checkpoint.safetensors", self.model, self.blueprint, self.facts())

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where a saved state stood.

        Raises:
            UserError: the state belongs to another network, or to another number of processes.
        """
        if state["pictures_per_step"] != self.pictures_per_step:
            raise UserError(
                f"The run in {self.folder} took {state['pictures_per_step']} pictures a step, this one "
                f"{self.pictures_per_step}: resume with as many processes as before."
            )
        try:
            self.model.load_state_dict(state["model"])
            for opponent, stored in zip(self.opponents, state["opponents"], strict=True):
                opponent.load_state_dict(stored)
            for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(stored)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"The state in {self.folder} belongs to another network: {error}") from error
        if self.ema is not None:
            self.ema.restore(state["ema"])
        self.step, self.best, self.waiting = state["step"], state["best"], state["waiting"]
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
        watch, options = self.task.watch, self.options
        pictures = self.step * self.pictures_per_step
        result = {
            "task": self.task.name,
            "options": dataclasses.asdict(self.task),  # type: ignore[call-overload]
            "backbone": self.blueprint.backbone,
            "head": self.blueprint.head,
            "network": self.blueprint.network,
            "weights": None if options.weights is None else Path(options.weights).name,
            "data": options.eval_data or options.data or type(self.eval_set).__name__,
            "trained_on": options.data or type(self.view.dataset).__name__,
            "split": self.eval_set.split,
            "protocol": self.evaluation.protocol,
            "samples": self.evaluation.samples,
            "metrics": self.evaluation.metrics,
            "baseline": self.baseline.metrics,
            "steps": self.step,
            "seconds": round(self.meter.total, 1),
            "images_per_second": round(pictures / max(1e-9, self.meter.total), 2),
            "device": device_name(self.device) + (", bf16" if self.bf16 else ", fp32"),
            "best": self.best,
            "watch": {
                "name": watch.name,
                "higher_is_better": watch.higher_is_better,
                "value": self.evaluation.metrics[watch.name],
                "baseline": self.baseline.metrics[watch.name],
            },
        }
        if self.main:
            write_text(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        self.log.say(
            f"Done in {self.meter.total:.0f} s of training: {watch.name} {result['watch']['value']:.4f}, trivial "
            f"baseline {result['watch']['baseline']:.4f}. Checkpoint: {self.folder / 'best.safetensors'}"
        )
        return result

    def resume_command(self) -> str:
        """What to type to go on."""
        return f"densevision train {self.task.name} --resume --out {shlex.quote(str(self.folder))}"


def opponents(phases: tuple[Phase, ...], model: Network) -> list[nn.Module]:
    """What phases train that is no part of the network."""
    within = set(model.modules())
    return [phase.module for phase in phases if phase.module not in within]


def count(module: nn.Module) -> int:
    """Parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def compile_network(model: Network) -> None:
    """Compile what computes: a trunk's levels and a head, whichever way a loss asks for them; else the whole."""
    trunk: Any = getattr(model, "backbone", None)
    if trunk is None:
        model.compile()
        return
    trunk.features = torch.compile(trunk.features)
    head = getattr(model, "head", None)
    if head is not None:
        head.compile()
