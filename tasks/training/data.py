"""Training data: augmented samples, batch sampling and data loading, all reproducible from the step alone."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from ...datasets.core.augmentation import Augmentation
from ...datasets.core.geometry import Size
from ...datasets.core.problems import SampleError, sample_errors
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import collate
from ...errors import UserError
from ..network import Batch
from ..preprocessing import Preprocessor
from ..task import Task
from .lanes import Lanes, SampleKey

PREFETCHED = 4
"""Batches that each worker loads in advance."""
REUSE_DISTANCE = 128
"""Samples of an infinite dataset between two uses of the same one. In batches, it is a multiple of the usual numbers of
workers, so that the worker that has the sample uses it again."""


STREAM_END = 2**31
"""Length of an infinite dataset."""


class AugmentedDataset(TorchDataset):
    """A dataset with augmentation: samples are read, transformed by one random geometry, and prepared by the task.

    Workers, processes and resuming do not change a sample: it depends on the seed and its key alone.
    """

    def __init__(
        self, dataset: Dataset, task: Task, size: Size, augmentation: Augmentation, color_jitter: float, seed: int
    ) -> None:
        self.dataset, self.task, self.size = dataset, task, size
        self.augmentation, self.color_jitter, self.seed = augmentation, color_jitter, seed
        self.preprocessor = Preprocessor(task, dataset.fields, size)
        self.fields = {**self.preprocessor.inputs, **self.preprocessor.targets}
        self.worker_status = torch.zeros(2, dtype=torch.int64)

    def __getitem__(self, key: SampleKey) -> Sample:
        return self.sample(key)

    def __getitems__(self, keys: list[SampleKey]) -> Batch | UserError:
        """The batch of some keys; torch calls it in a worker."""
        try:
            samples = [self.sample(key) for key in keys]
            with sample_errors(*(self.dataset.sample_name(index) for _, index in keys)):
                return collate(samples, self.fields)
        except UserError as error:
            # A worker's exception would be wrapped in a stack trace; a value is not.
            return error

    def sample(self, key: SampleKey) -> Sample:
        """The augmented inputs and targets for a key, at the training size; errors name the sample."""
        epoch, index = key
        self.worker_status[1] = index
        rngs = (generator(self.seed, epoch, index, purpose) for purpose in (Purpose.GEOMETRY, Purpose.PREPARE))
        with sample_errors(self.dataset.sample_name(index)):
            return self.preprocessor.training_sample(self.dataset, index, self.augmentation, self.color_jitter, *rngs)


class InfiniteBatchSampler(Sampler[list[SampleKey]]):
    """Batch sampler: sample keys as a function of the number of the micro-batch.

    The `samples` of a run (None: infinitely many) form one sequence: epoch after epoch, each in its own random order,
    and no epoch drops its last ones (a batch may contain samples of two epochs). Micro-batch n takes `batch_size` of
    them from n * batch_size on, whichever process loads it. A process gives the `numbers` of its own, in a resumed run
    later ones.

    Samples in shards have the order of `lanes` instead.

    With `weights`, an epoch is as many independent draws from the samples by their weights.

    A sample of an infinite dataset is used `uses` times: of as many successive keys, one is a new sample, one the
    second use of the sample `REUSE_DISTANCE` samples before, and so on. The number of the use takes the place of the
    epoch.
    """

    def __init__(
        self,
        samples: int | None,
        batch_size: int,
        numbers: Iterable[int],
        seed: int,
        uses: int = 1,
        weights: np.ndarray | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.samples, self.batch_size, self.numbers, self.seed, self.uses = samples, batch_size, numbers, seed, uses
        self.weights = None if weights is None else weights[:samples] / np.sum(weights[:samples])
        self.lanes = lanes
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return map(self.keys, self.numbers)

    def keys(self, number: int) -> list[SampleKey]:
        """Sample keys of one micro-batch."""
        if self.lanes is not None:
            return self.lanes.keys(number, self.batch_size)
        start = number * self.batch_size
        return [self._key(place) for place in range(start, start + self.batch_size)]

    def _key(self, number: int) -> SampleKey:
        if self.samples is None:
            sample, use = divmod(number, self.uses)
            index = sample - use * REUSE_DISTANCE
            # The first ones have no sample before them to repeat: they come from the end of the stream.
            return use, index if index >= 0 else STREAM_END + index
        epoch, position = divmod(number, self.samples)
        if epoch != self._epoch:
            self._epoch = epoch
            rng = generator(self.seed, epoch, 0, Purpose.SHUFFLE)
            if self.weights is None:
                self._order = rng.permutation(self.samples)
            else:
                self._order = rng.choice(self.samples, self.samples, p=self.weights)
        return epoch, int(self._order[position])


def data_loader(
    dataset: AugmentedDataset,
    batch_sampler: Iterable[list[SampleKey]],
    workers: int,
    pin_memory: bool,
    prefetched: int = PREFETCHED,
) -> Generator[Batch]:
    """Iterate over batches; `workers` processes load `prefetched` each in advance. Closing the generator ends them.

    Raises:
        UserError: a sample is damaged; `SampleError`: reading it failed, or the process that read it was killed.
    """
    # One row per worker: its process id, and the index of the sample that it reads.
    status = torch.zeros((workers, 2), dtype=torch.int64).share_memory_()
    loader = DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=pin_memory,
        prefetch_factor=prefetched if workers else None,
        worker_init_fn=partial(_start_worker, status=status),
    )
    others = set(multiprocessing.active_children())
    try:
        with _blocked_signals():
            iterator = iter(loader)
        with _without_child_signals():
            try:
                for batch in iterator:
                    if isinstance(batch, UserError):
                        raise batch
                    yield batch
            except (RuntimeError, OSError, EOFError) as error:
                if (lost := _lost_worker(status)) is None:
                    raise
                raise SampleError(
                    f"The data loading process {lost[0]} ended unexpectedly, in most cases because memory ran out; the "
                    f"last sample that it read is {dataset.dataset.sample_name(lost[1])}: use fewer --workers, or "
                    "check that sample."
                ) from error
    finally:
        # They ignore SIGTERM, with which torch and Python end workers: one that is stuck would never end.
        with _without_child_signals():
            running = set(multiprocessing.active_children()) - others
            for process in running:
                process.kill()
            for process in running:
                process.join()


def _lost_worker(status: Tensor) -> tuple[int, int] | None:
    """Process id of a worker that has ended, and the index of the last sample that it read."""
    # A worker that was killed closes its connections a moment before it has ended.
    ending = {worker.sentinel: worker for worker in _running_workers(status).values()}
    for sentinel in multiprocessing.connection.wait(list(ending), timeout=0.5):
        ending[sentinel].join(5)  # type: ignore[index]
    running = _running_workers(status)
    return next(((number, index) for number, index in status.tolist() if number and number not in running), None)


def _running_workers(status: Tensor) -> dict[int | None, BaseProcess]:
    """The workers that run, by process id."""
    started = {number for number, _ in status.tolist()}
    return {process.pid: process for process in multiprocessing.active_children() if process.pid in started}


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block SIGINT and SIGTERM: processes that start meanwhile never get them, and this one gets them afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_child_signals() -> Iterator[None]:
    """Ignore SIGCHLD: torch's handler raises at any place, even inside an optimizer step, if a worker was killed.

    The loader finds a dead worker anyway when it waits for a batch.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _collated(batch: Any) -> Any:
    """`AugmentedDataset.__getitems__` returns a complete batch."""
    return batch


def _start_worker(worker: int, status: Tensor) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    info: Any = get_worker_info()
    status[worker, 0] = os.getpid()
    info.dataset.worker_status = status[worker]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C and SIGTERM reach all processes of the group; the main process stops the run after a complete step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this worker with the main process, even if it is stuck; torch's workers look for it between batches only."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
