"""Time budget of a run (`--minutes`): the number of steps that fit is measured once, before the first step.

The measurement leaves nothing behind: a run in which 400 steps fit is that of `--steps 400`, and resumes as such.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator

import torch
from accelerate.utils import broadcast_object_list

from ...datasets.dataset import SyntheticDataset
from ...errors import UserError
from ..distributed import any_process, available_cores
from ..network import Batch
from .data import PREFETCHED
from .log import Meter, format_seconds
from .trainer import Trainer

WARM_UP_STEPS = 3
"""Steps that are not measured: they allocate memory, choose kernels, and use batches that were loaded in advance."""
MEASURED_SECONDS = 6.0
"""Seconds of steps that are measured, at least `WARM_UP_STEPS` of them."""
SAMPLE_USES = 4
"""Uses of each generated sample where generating them is what a step waits for."""
MIN_GAIN = 0.9
"""Time of a step with samples used again, relative to that without, from which on it is worth it."""
BESIDE_WORKERS = 1.08
"""Time of a step beside as many workers as threads, relative to the sum of what both take: they share caches and memory
(about 0.8, 1.0 and 1.1 in runs of restoration, hand pose and depth with --minutes 1)."""
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
    """Seconds of one optimizer step, data loading included; see `use_all_cores` for what it may change.

    Weights and optimizers are as before afterwards.
    """
    before = copy.deepcopy(trainer.weights())
    batches = trainer.data_loader()
    try:
        # Each worker has loaded `PREFETCHED` batches when the first step begins.
        prefetched = PREFETCHED * (trainer.options.workers or 0) // len(trainer.share)
        seconds = seconds_per_step(trainer, batches, prefetched)
        return use_all_cores(trainer, seconds)
    finally:
        batches.close()
        trainer.restore_weights(before)


def seconds_per_step(trainer: Trainer, batches: Iterator[Batch], prefetched: int = 0) -> float:
    """Mean time of the steps after `WARM_UP_STEPS` and those whose batches were loaded in advance."""
    first = WARM_UP_STEPS + prefetched
    done, begun, seconds = 0, time.monotonic(), 0.0
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


def use_all_cores(trainer: Trainer, seconds: float) -> float:
    """Give all cores to both network and data if that is faster, and use samples `SAMPLE_USES` times if it helps more.

    Where few cores train, one of them generates samples and is missing in the network. Threads of one operation wait
    for each other, so that all cores have to be equally busy: there is a worker for each. Only where nobody stated
    --sample-uses.

    Args:
        trainer: its options are changed.
        seconds: time of a step as it is.

    Returns:
        Seconds of a step afterwards.
    """
    options, dataset, cores = trainer.options, trainer.training_set.dataset, available_cores()
    if options.sample_uses is not None or options.workers != 1 or trainer.device.type != "cpu":
        return seconds
    if not isinstance(dataset, SyntheticDataset) or not dataset.infinite:
        return seconds
    trainer.options = dataclasses.replace(options, threads=cores, workers=cores, sample_uses=SAMPLE_USES)
    batches, loading, loading_again = load_repeatedly(trainer, dataset)
    torch.set_num_threads(cores)
    network = seconds_per_step(trainer, itertools.cycle(batches))
    once, again = (BESIDE_WORKERS * (network + each / cores) for each in (loading, loading_again))
    # All processes take the same form: the stream of samples is one.
    if any_process(trainer.accelerator, again > MIN_GAIN * seconds):
        trainer.options = options
        torch.set_num_threads(options.threads or 1)
        return seconds
    if any_process(trainer.accelerator, again > MIN_GAIN * once):
        trainer.options = dataclasses.replace(trainer.options, sample_uses=None)
        trainer.log.info(f"All cores train and load: {once:.3f} s a step instead of {seconds:.3f} s.")
        return once
    trainer.log.info(f"Each sample is used {SAMPLE_USES} times: {again:.3f} s a step instead of {seconds:.3f} s.")
    return again


def load_repeatedly(trainer: Trainer, dataset: SyntheticDataset) -> tuple[list[Batch], float, float]:
    """The batches of a step, and the CPU seconds that loading them takes: of new samples, and of samples used again."""

    def load() -> tuple[list[Batch], float]:
        begun = time.process_time()
        return list(trainer.data_loader(1, workers=0)), time.process_time() - begun

    # The first time, this process imports what generating samples needs, which its workers have done before.
    load()
    dataset.keep_samples(0)
    generated = load()[1]
    batches, kept = load()
    return batches, generated, kept + max(0.0, generated - kept) / SAMPLE_USES
