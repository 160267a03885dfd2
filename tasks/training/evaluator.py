"""Evaluations of a run: of the baseline once, then of the model, with the best value so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from ...datasets.dataset import Dataset, Sample
from ...errors import UserError
from ..checkpoint import read_header
from ..comparison_grid import draw_comparison, write_comparison
from ..evaluation import Evaluation, score
from ..inference import Predictor
from ..network import Network
from ..prediction import Prediction
from ..task import Task
from .data import AugmentedDataset
from .log import RunLog
from .options import Options

NUM_EXAMPLES = 4
"""Samples in the comparison grids of a run."""


class Evaluator:
    """Evaluates the model of a run under the protocol that papers use on its evaluation dataset.

    Attributes:
        protocol: name of the protocol.
        baseline, evaluation: scores of the task's baseline and of the last evaluated weights, or None.
        best: monitored metric of the best weights and their step, or None.
        evaluated_step: step of the last evaluation, 0 before the first one.
        evals_without_improvement: number of evaluations since the best one.
    """

    def __init__(
        self, task: Task, training_set: AugmentedDataset, eval_set: Dataset, options: Options, log: RunLog
    ) -> None:
        self.task, self.training_set, self.eval_set, self.options, self.log = task, training_set, eval_set, options, log
        self.protocol = task.evaluation.default_protocol(eval_set)
        self.baseline: Evaluation | None = None
        self.evaluation: Evaluation | None = None
        self.best: dict[str, float] | None = None
        self.evaluated_step = self.evals_without_improvement = 0

    def evaluate(
        self, model: Network, device: torch.device, amp: str, interruptible: Callable[[], AbstractContextManager]
    ) -> bool:
        """Score a model, and return whether it is the best so far; `record` makes it count.

        Inside `interruptible`, a request to stop raises KeyboardInterrupt.
        """
        with interruptible():
            self.score_baseline()
            self.evaluation = self._score(
                self._predictor(model, device, amp), NUM_EXAMPLES, batch_size=self.options.batch_size
            )
        return self.task.monitor.better(self.value, None if self.best is None else self.best["value"])

    def score_baseline(self) -> None:
        """Score the task's baseline, once in a run."""
        if self.baseline is None:
            self.log.info("Evaluating the baseline ...")
            self.baseline = self._score(self.task.baseline(self.training_set.dataset))

    def measure(self, model: Network, device: torch.device, amp: str) -> float:
        """Seconds of one evaluation of a model, from one of the first two batches."""
        all_samples = len(self.eval_set) if self.options.eval_samples is None else self.options.eval_samples
        samples = min(len(self.eval_set), all_samples)
        measured = min(samples, 2 * self.options.batch_size)
        begun = time.monotonic()
        self._score(self._predictor(model, device, amp), samples=measured, batch_size=self.options.batch_size)
        return (time.monotonic() - begun) / measured * samples

    def _predictor(self, model: Network, device: torch.device, amp: str) -> Predictor:
        fields, size = self.training_set.dataset.fields, self.training_set.size
        return Predictor(self.task, model, fields, size, device, amp)

    def _score(
        self,
        predict: Predictor | Callable[[Sample], Prediction],
        num_examples: int = 0,
        samples: int | None = None,
        batch_size: int = 1,
    ) -> Evaluation:
        return score(
            self.task,
            predict,
            self.eval_set,
            self.protocol,
            self.options.eval_samples if samples is None else samples,
            num_examples=num_examples,
            batch_size=batch_size,
            progress=self.log.evaluation_progress,
        )

    @property
    def value(self) -> float:
        """The monitored metric of the last evaluation."""
        assert self.evaluation is not None
        return self.evaluation.metrics[self.task.monitor.name]

    def record(self, step: int, steps: int, improved: bool) -> None:
        """Count the last evaluation as that of a step: the log, the best value, examples and curves."""
        assert self.evaluation is not None and self.baseline is not None
        # First, so that a state that counts the evaluation has its line: the disk may be full.
        self.log.write(step, "eval", self.evaluation.metrics)
        self.evals_without_improvement = 0 if improved else self.evals_without_improvement + 1
        if improved:
            self.best = {"value": self.value, "step": step}
        self.evaluated_step = step
        name, examples = self.task.monitor.name, self.evaluation.examples
        baseline = self.baseline.metrics[name]
        self.log.info(
            f"step {step:>6}/{steps}  {name} {self.value:.4f} on {self.evaluation.samples} unseen samples "
            f"(baseline {baseline:.4f}; protocol {self.protocol})"
        )
        if self.log.main and examples:
            image = draw_comparison(self.task, self.training_set.dataset.fields, examples)
            write_comparison(self.log.folder / "images" / f"step-{step}.png", image, min_width=1000)
        self.log.draw_curves(name, baseline)

    def best_files(self, count: int) -> tuple[bool, list[Path]]:
        """Whether the last evaluation is among the best with a checkpoint in best/, and checkpoints that no longer are.

        Those of later steps are not: a run that continues from before them replaces them.
        """
        name = self.task.monitor.name
        scores: dict[int, Any] = {self.evaluated_step: self.value}
        files = {path.stem[5:]: path for path in (self.log.folder / "best").glob("step-*.safetensors")}
        files = {int(step): path for step, path in files.items() if step.isdigit()}
        for step, path in files.items():
            if step < self.evaluated_step:
                scores[step] = (read_header(path)["metrics"] or {}).get(name)
        sign = -1 if self.task.monitor.higher_is_better else 1
        # Of two that are equal, the earlier one; one that is not finite last.
        ranked = sorted(
            (math.inf if value is None or math.isnan(value) else sign * value, step) for step, value in scores.items()
        )
        best = [step for _, step in ranked[:count]]
        return self.evaluated_step in best, [path for step, path in files.items() if step not in best]

    def require_value(self) -> None:
        """Refuse a last evaluation without a value of the monitored metric: predictions that are not finite."""
        if math.isnan(self.value):
            best = "no step has one" if self.best is None else f"best.safetensors is that of step {self.best['step']}"
            raise UserError(
                f"The last evaluation of {self.log.folder} has no {self.task.monitor.name}, since the predictions are "
                f"not finite ({best}): train again with a lower --lr, --clip-grad-norm 1 or --amp off."
            )

    def header(self) -> dict[str, Any] | None:
        """The last metrics with protocol, number of samples and split for a checkpoint header; None without any."""
        if self.evaluation is None:
            return None
        protocol, samples = self.evaluation.protocol, self.evaluation.samples
        return {"protocol": protocol, "samples": samples, "split": self.eval_set.split, **self.evaluation.metrics}

    def result(self) -> dict[str, Any]:
        """The part of result.json about the last evaluation."""
        assert self.evaluation is not None and self.baseline is not None
        monitor = self.task.monitor
        return {
            "data": self.options.eval_data or self.options.data,
            "split": self.eval_set.split,
            "protocol": self.evaluation.protocol,
            "samples": self.evaluation.samples,
            "metrics": self.evaluation.metrics,
            **self.evaluation.undefined(),
            "baseline": self.baseline.metrics,
            "best": self.best,
            "monitor": {
                "name": monitor.name,
                "higher_is_better": monitor.higher_is_better,
                "value": self.value,
                "baseline": self.baseline.metrics[monitor.name],
            },
        }

    def state(self) -> dict[str, Any]:
        """Plain values for the training state."""
        return {
            "evaluated_step": self.evaluated_step,
            "best": self.best,
            "evals_without_improvement": self.evals_without_improvement,
            "baseline": None if self.baseline is None else self.baseline.scores(),
            "evaluation": None if self.evaluation is None else self.evaluation.scores(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a training state.

        Raises:
            UserError: it has an evaluation without the monitored metric.
        """
        for name in ("baseline", "evaluation"):
            if state[name] is not None and self.task.monitor.name not in state[name]["metrics"]:
                raise UserError(
                    f"The state in {self.log.folder} has a {name} without {self.task.monitor.name}: it is damaged, or "
                    "of another task; start a new run."
                )
        self.evaluated_step, self.best = state["evaluated_step"], state["best"]
        self.evals_without_improvement = state["evals_without_improvement"]
        self.baseline, self.evaluation = (
            None if state[name] is None else Evaluation(**state[name]) for name in ("baseline", "evaluation")
        )
