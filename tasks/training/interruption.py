"""Interruption of a run: Ctrl-C and SIGTERM, a loss that is not finite, or memory that runs out.

Ctrl-C and SIGTERM stop a run after a complete step, or at once while it waits.
"""

from __future__ import annotations

import math
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import UserError
from ..network import Batch
from .optimizers import PhaseRunner
from .options import Options


class Interruption:
    """A request to stop; calling it returns whether there is one.

    Attributes:
        signal: the requested signal, or None.
        forced: whether a second request stopped the run at any place, so that its state may be incomplete.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.forced = self._at_once = False

    def __call__(self) -> bool:
        return self.signal is not None

    def request(self, number: int = signal.SIGINT) -> None:
        """Request to stop.

        Raises:
            KeyboardInterrupt: with the signal, if this is the second request or the run is inside `at_once`.
        """
        self.forced, self.signal = self.signal is not None, signal.Signals(number)
        if self.forced or self._at_once:
            raise KeyboardInterrupt(self.signal)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt as soon as a stop is requested inside this context, or if it was before."""
        self._at_once = True
        try:
            if self.signal is not None:
                raise KeyboardInterrupt(self.signal)
            yield
        finally:
            self._at_once = False


@contextmanager
def graceful_interrupt() -> Iterator[Interruption]:
    """Yield an `Interruption` that SIGINT and SIGTERM request. A second signal stops at once.

    Outside the main thread signals cannot be caught; nothing requests it then.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: interruption.request(number)) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LostProcess(UserError):
    """Another process of the training ended, or cannot be reached."""

    exit_code = 1


def lost_process(error: BaseException, timeout: float) -> LostProcess | None:
    """The error behind a failed exchange between processes, which waited at most so many seconds; None for others."""
    # Of gloo, a RuntimeError whose message begins with its own source file.
    if not isinstance(error, torch.distributed.DistError) and "gloo/transport" not in str(error):
        return None
    return LostProcess(
        f"Another process of the training ended, or did not respond within {timeout:g} s (--collective-timeout): see "
        "its messages; torchrun --max-restarts goes on without it if the run has --resume auto."
    )


class NonFiniteLoss(UserError):
    """A loss term became nan or infinite."""


def explain_error(error: Exception, runner: PhaseRunner, batch: Batch, options: Options) -> UserError | None:
    """The user error behind a failed step: memory that ran out, or a normalization of one value; None for others.

    The runner is without DDP: the other processes do not take part.
    """
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        # The stack frames of the failed step keep its activations alive as long as the error exists.
        traceback.clear_frames(error.__traceback__)
        runner.zero_grad(set_to_none=True)
        if runner.device.type == "cuda":
            torch.cuda.empty_cache()
        fits = runner.fitting_batch_size(batch)
        hint = (
            f"--batch-size {fits} fits (with more --micro-batches for as many images a step)"
            if fits
            else "even one image does not fit"
        )
        return UserError(
            f"Memory ran out with --batch-size {options.batch_size}: {hint}; a smaller --image-size helps too."
        )
    message = str(error)
    if isinstance(error, ValueError) and "Expected more than 1" in message:
        # BatchNorm with one value, or InstanceNorm with one pixel, per channel; the message ends in the tensor's size.
        height, width = options.image_size
        more = "a larger --image-size" if "spatial" in message else "--batch-size 2 or more, or a larger --image-size"
        return UserError(
            f"A normalization gets one value per channel (a tensor of {message.rpartition('size ')[2]}) with "
            f"--batch-size {options.batch_size} and --image-size {height} {width}, and cannot compute a variance: "
            f"use {more}."
        )
    return None


def check_finite(terms: dict[str, float], step: int) -> None:
    """Refuse loss terms that are nan or infinite."""
    for name, value in terms.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"The loss term '{name}' became {value} at step {step + 1}: lower --lr, set --clip-grad-norm 1 "
                "or --amp off."
            )
