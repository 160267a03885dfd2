"""Benchmark of training from JPEG files against torchvision's reference loop, and of its data loading against timm's.

torchvision's reference is its script for classification (references/classification, which is not part of the package):
transforms on PIL images, a `DataLoader`, and forward, loss, backward and update in fp32. Ours is the training loop of
`densevision train classification` with the same network, batches, crops, precision, threads and number of workers.
Both loaders have one batch in advance, and start before the clock does.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.backbone import Preprocessing
from ..datasets.classification.class_folders import ClassFolders
from ..datasets.core.geometry import Size
from ..tasks.training.data import InfiniteBatchSampler, data_loader
from ..tasks.training.options import Options
from ..tasks.training.setup import build_trainer
from ..tasks.training.trainer import Trainer
from .image_pipeline import CLASSES, CROPS, SOURCE_SIZE, write_files
from .measure import Figure, Report, Setting, alternate, device_name, fixed_threads, synchronize

FILES, BATCH, CROP_SIZE, STEPS, BATCHES, ROUNDS = 64, 16, 112, 4, 8, 5
WORKERS = 1
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}


def measure(
    setting: Setting,
    *,
    source_size: Size = SOURCE_SIZE,
    crop_size: int = CROP_SIZE,
    batch_size: int = BATCH,
    steps: int = STEPS,
    batches: int = BATCHES,
    rounds: int = ROUNDS,
) -> Report:
    """Measure training steps with a ResNet-18, and normalized batches without training, with one worker."""
    rounds = setting.rounds or rounds
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), source_size, FILES)
        options = Options(
            image_size=(crop_size, crop_size),
            batch_size=batch_size,
            steps=1000,
            warmup_steps=0,
            backbone="resnet18",
            crop_area=CROPS.crop_area,
            color_jitter=0.0,
            ema_decay=0.0,
            loss="cross-entropy",
            optimizer="sgd",
            **SGD,
            workers=WORKERS,
            threads=setting.threads,
            device=str(setting.device),
            amp="off",
            compile=setting.compile,
            dry_run=True,
        )
        trainer = build_trainer("classification", options, files, files, {})
        try:
            their_step = reference_step(setting.device)

            def our_training() -> float:
                return time_work(our_batches(trainer), lambda batch: our_step(trainer, batch), steps, setting)

            def their_training() -> float:
                return time_work(reference_batches(files, crop_size, batch_size), their_step, steps, setting)

            def our_loading() -> float:
                return time_work(our_batches(trainer), partial(normalized, setting.device), batches, setting)

            def their_loading() -> float:
                return time_work(
                    timm_batches(files, crop_size, batch_size),
                    lambda batch: batch[0].to(setting.device),
                    batches,
                    setting,
                )

            shapes = f"{batch_size}x3x{crop_size}x{crop_size} of {source_size[1]}x{source_size[0]} JPEGs, 1 worker"
            training = alternate(our_training, their_training, rounds, warm_up=1)
            loading = alternate(our_loading, their_loading, rounds, warm_up=1)
        finally:
            trainer.close()
    figures = (
        Figure.from_pairs(
            "training of ResNet-18, fp32", shapes, "densevision train", "torchvision's reference", training,
            batch_size * steps, required=1.0,
        ),
        Figure.from_pairs(
            "normalized batches", shapes, "densevision's loader", "timm's loader", loading,
            batch_size * batches, required=1.0,
        ),
    )  # fmt: skip
    title = "Training from JPEG files: random resized crops, flips, ResNet-18, SGD"
    return Report("training-loop", title, device_name(setting.device), setting.threads, figures)


def time_work(source: Iterator[Any], work: Callable[[Any], object], count: int, setting: Setting) -> float:
    """Seconds of some work on `count` batches, after one that starts the loader and is not timed."""
    work(next(source))
    synchronize(setting.device)
    start = time.perf_counter()
    for batch in itertools.islice(source, count):
        work(batch)
    synchronize(setting.device)
    seconds = time.perf_counter() - start
    close = getattr(source, "close", None) or getattr(source, "_shutdown_workers", None)
    if close is not None:
        close()
    return seconds


def our_batches(trainer: Trainer) -> Iterator[Any]:
    """Endless training batches."""
    sampler = InfiniteBatchSampler(trainer.train_samples, trainer.options.batch_size, range(2**20), seed=0)
    pinned = trainer.device.type == "cuda"
    return data_loader(trainer.training_set, sampler, WORKERS, pinned, prefetched=1)


def normalized(device: torch.device, batch: Any) -> Tensor:
    """The images of a batch of ours on the device, normalized."""
    return Preprocessing()(batch["image"].to(device))


def our_step(trainer: Trainer, batch: Any) -> None:
    """A step of the training loop."""
    trainer.optimizer_step(0, iter([batch]), trainer.options.lr)


def reference_batches(files: ClassFolders, crop_size: int, batch_size: int) -> Iterator[Any]:
    """Endless batches as torchvision's reference loads them."""
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    preprocessing = Preprocessing()
    preset = transforms.Compose(
        [
            transforms.RandomResizedCrop(crop_size, antialias=True),
            transforms.RandomHorizontalFlip(0.5),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    dataset = ImageFolder(str(files.root / "train"), preset)
    sampler = RandomSampler(dataset, replacement=True, num_samples=2**20)
    return iter(DataLoader(dataset, batch_size, sampler=sampler, num_workers=WORKERS, prefetch_factor=1))


def reference_step(device: torch.device) -> Callable[[Any], None]:
    """A step of torchvision's reference: `train_one_epoch` without its log."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=len(CLASSES)).to(device).train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)

    def step(batch: Any) -> None:
        image, target = (each.to(device) for each in batch)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def timm_batches(files: ClassFolders, crop_size: int, batch_size: int) -> Iterator[Any]:
    """Endless normalized batches of timm's loader for training, without color jitter."""
    from timm.data.dataset import ImageDataset
    from timm.data.loader import create_loader

    dataset: Any = ImageDataset(str(files.root / "train"))
    # One long epoch, since each starts workers anew.
    dataset.reader.samples *= 2**10
    loader: Any = create_loader(
        dataset,
        (3, crop_size, crop_size),
        batch_size,
        is_training=True,
        color_jitter=0.0,
        num_workers=WORKERS,
        use_prefetcher=False,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    return iter(loader)
