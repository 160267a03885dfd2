"""Time budget of a run (`--minutes`): the number of steps that fit is measured once, before the first step.

The measurement leaves nothing behind: a run in which 400 steps fit is that of `--steps 400`, and resumes as such.
"""

from __future__ import annotations

import copy
import time

from accelerate.utils import broadcast_object_list

from ...errors import UserError
from ..distributed import any_process
from .data import PREFETCHED
from .log import Meter, format_seconds
from .trainer import Trainer

WARM_UP_STEPS = 3
"""Steps that are not measured: they allocate memory, choose kernels, and use batches that were loaded in advance."""
MEASURED_SECONDS = 6.0
"""Seconds of steps that are measured, at least `WARM_UP_STEPS` of them."""
MARGIN = 0.93
"""Part of the budget that is planned: steps vary, and checkpoints, curves and examples are written beside them."""
EVALUATION_SHARE = 0.25
"""Part of the budget that evaluations before the last one may take; beyond, there are fewer of them."""


def limit_steps(trainer: Trainer, started: float) -> None:
    """Replace --minutes by the number of steps that fit, at most those of --steps or --epochs, and store it.

    The evaluations stay as many as planned, as far as they leave time for training; the warm-up is at most a tenth of
    the run.

    Args:
        trainer: of a new run.
        started: when the run began, by `time.monotonic`.

    Raises:
        UserError: not even one step fits.
    """
    minutes, bound = trainer.options.minutes, trainer.steps
    assert minutes is not None
    trainer.log.info(f"Measuring how many steps fit into {minutes:g} minutes ...")
    step_seconds = measure_step(trainer)
    with trainer.interruptible():
        trainer.evaluator.score_baseline()
        evaluation_seconds = trainer.evaluator.measure(trainer.model, trainer.device, trainer.options.amp)
    trainer.meter = Meter()
    # All processes take what the main process has measured.
    times = [step_seconds, evaluation_seconds, time.monotonic() - started]
    step_seconds, evaluation_seconds, elapsed = broadcast_object_list(times)
    left = MARGIN * minutes * 60 - elapsed
    planned = -(-bound // trainer.eval_every) if trainer.eval_every else 1
    evaluations = max(1, min(planned, 1 + int(EVALUATION_SHARE * left / evaluation_seconds)))
    steps = min(bound, int((left - evaluations * evaluation_seconds) / step_seconds))
    if steps < 1:
        needed = (elapsed + evaluation_seconds + step_seconds) / MARGIN
        raise UserError(
            f"--minutes {minutes:g} is too short: starting and one evaluation take {format_seconds(needed)}; give more "
            "minutes, or fewer --eval-samples."
        )
    trainer.log.info(f"A step takes {step_seconds:.3f} s, an evaluation {evaluation_seconds:.1f} s: {steps} steps.")
    trainer.set_length(steps, -(-steps // evaluations) if trainer.eval_every else 0)


def measure_step(trainer: Trainer) -> float:
    """Seconds of one optimizer step, data loading included. Weights and optimizers are as before afterwards."""
    before = copy.deepcopy(trainer.weights())
    batches = trainer.data_loader()
    # Each worker has loaded `PREFETCHED` batches when the first step begins.
    first = WARM_UP_STEPS + PREFETCHED * (trainer.options.workers or 0) // trainer.options.grad_accum_steps
    done, begun, seconds = 0, time.monotonic(), 0.0
    try:
        while done < trainer.steps:
            # The learning rate does not change the time of a step, and nothing can diverge without one.
            trainer.optimizer_step(done, batches, lr=0.0)
            done += 1
            seconds = time.monotonic() - begun
            if done == first:
                begun = time.monotonic()
            elif done >= first + WARM_UP_STEPS and any_process(trainer.accelerator, seconds > MEASURED_SECONDS):
                break
        return seconds / (done - first if done > first else done)
    finally:
        batches.close()
        trainer.restore_weights(before)
