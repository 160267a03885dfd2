"""Training data: augmented samples, batch sampling and data loading, all reproducible from the step alone."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, collate, transform_sample
from ...datasets.geometric_augmentation import Augmentation, sample_geometry
from ...datasets.geometry import Geometry, Size
from ...datasets.randomness import Purpose, generator
from ...errors import UserError
from ..task import Batch, Task

SampleKey = tuple[int, int]
"""(epoch, index); the stream of an infinite dataset is one endless epoch."""


class AugmentedDataset(TorchDataset):
    """A dataset with augmentation: samples are read, transformed by one random geometry, and prepared by the task.

    Workers, processes and resuming do not change a sample: it depends on the seed and its key alone.
    """

    def __init__(
        self, dataset: Dataset, task: Task, size: Size, augmentation: Augmentation, color_jitter: float, seed: int
    ) -> None:
        self.dataset, self.task, self.size = dataset, task, size
        self.augmentation, self.color_jitter, self.seed = augmentation, color_jitter, seed
        self.fields = {**task.inputs(dataset.fields), **task.targets(dataset.fields)}

    def __getitem__(self, key: SampleKey) -> Sample | UserError:
        try:
            return self.sample(key)
        except UserError as error:
            # A worker's exception would be wrapped in a stack trace; a value is not.
            return error

    def sample(self, key: SampleKey) -> Sample:
        """The augmented inputs and targets for a key, at the training size.

        Raises:
            UserError: a file is damaged.
        """
        epoch, index = key
        rng = generator(self.seed, epoch, index, Purpose.GEOMETRY)

        def draw_geometry(source: Size) -> Geometry:
            augmentation = self.task.augmentation_for(self.augmentation, self.dataset.fields, source)
            return sample_geometry(rng, source, self.size, augmentation)

        sample, geometry = self.dataset.read_for(index, draw_geometry)
        transformed = transform_sample(sample, self.fields, geometry)
        return self.task.prepare_sample(
            transformed, generator(self.seed, epoch, index, Purpose.PREPARE), self.color_jitter
        )


class InfiniteBatchSampler(Sampler[list[SampleKey]]):
    """Batch sampler of one process: sample keys as a function of the micro-step.

    The samples of a run form one sequence: epoch after epoch, each in its own random order, and no epoch drops its last
    samples (a batch may contain samples of two epochs). Micro-step m of process r takes batch m * processes + r, so
    that two processes with batch size B get the same samples as one process with 2B.
    """

    def __init__(
        self, samples: int | None, batch_size: int, steps: range, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        """
        Args:
            samples: number of samples, None for an infinite dataset.
            batch_size: samples per process and micro-step.
            steps: micro-steps to iterate over; a resumed run starts later.
            seed: seed of the order.
            rank: index of this process, 0 <= rank < processes.
            processes: number of processes.
        """
        self.samples, self.batch_size, self.steps, self.seed = samples, batch_size, steps, seed
        self.rank, self.processes = rank, processes
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return map(self.keys, self.steps)

    def keys(self, step: int) -> list[SampleKey]:
        """Sample keys of one micro-step."""
        start = (step * self.processes + self.rank) * self.batch_size
        return [self._key(number) for number in range(start, start + self.batch_size)]

    def _key(self, number: int) -> SampleKey:
        if self.samples is None:
            return 0, number
        epoch, position = divmod(number, self.samples)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = generator(self.seed, epoch, 0, Purpose.SHUFFLE).permutation(self.samples)
        return epoch, int(self._order[position])


def data_loader(
    dataset: AugmentedDataset, batch_sampler: Iterable[list[SampleKey]], workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """Iterate over batches, loaded by `workers` processes.

    Raises:
        UserError: a sample is damaged.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=partial(_collate, fields=dataset.task.sample_field_types(dataset.dataset.fields)),
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _collate(samples: list[Sample | UserError], fields: dict[str, FieldType]) -> Batch | UserError:
    valid: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        valid.append(sample)
    return collate(valid, fields)


def _start_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C and SIGTERM reach all processes of the group; the main process stops the run after a complete step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
