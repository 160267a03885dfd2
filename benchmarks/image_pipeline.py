"""Benchmark of the image pipeline, from JPEG files to a normalized batch, against Pillow and torchvision's transforms.

On one thread. Ours is the pipeline of training: a crop is sampled from the size in the file's header, only what it
needs is decoded, cut out and resized. The images stay uint8 and are normalized as a batch on the device; both are timed
up to a normalized float batch on the device. The time of a loader's worker is measured too, since it is the limit on a
GPU.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..backbones.backbone import Preprocessing
from ..datasets.classification.class_folders import ClassFolders
from ..datasets.core.augmentation import Augmentation, sample_geometry
from ..datasets.core.geometry import Size
from ..datasets.core.randomness import Purpose, generator
from ..datasets.field_types import Image
from ..datasets.formats.image import write_image
from ..datasets.rendering.rooms import render_room
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

SOURCE_SIZE: Size = (375, 500)
"""(height, width) of most ImageNet images."""
LARGE_FACTOR = 4
"""Size of the large files relative to `SOURCE_SIZE`, as from a camera."""
CROP_SIZE = 224
QUALITY = 90
CLASSES = ("even", "odd")
"""Class folders of the files, which only divide them."""
FILES, BATCH, ROUNDS = 16, 32, 15
COMPARED = 64
"""Number of crops compared with Pillow's."""
CROPS = Augmentation(hflip=0.5, crop_area=(0.08, 1.0))


def measure(
    setting: Setting,
    *,
    source_size: Size = SOURCE_SIZE,
    crop_size: int = CROP_SIZE,
    num_files: int = FILES,
    batch_size: int = BATCH,
    rounds: int = ROUNDS,
) -> Report:
    """Measure batches of random resized crops with random flips, of square `crop_size`, on one thread.

    The setting's device gets the batch; its threads are ignored, since a loader's worker has one.
    """
    rounds, preprocessing, watch = setting.rounds or rounds, Preprocessing(), Stopwatch(setting.device)
    figures, facts = [], {}
    with fixed_threads(1), tempfile.TemporaryDirectory() as folder:
        normal = write_files(Path(folder) / "normal", source_size, num_files)
        large = write_files(Path(folder) / "large", source_size, max(len(CLASSES), num_files // 4), LARGE_FACTOR)

        def compare(
            what: str, dataset: ClassFolders, worker_only: bool, required: float | None, goal: float | None
        ) -> Figure:
            height, width = dataset.read(0)["image"].shape[:2]
            mean = sum(path.stat().st_size for path in files_of(dataset)) / len(dataset) / 1024
            shapes = f"{batch_size} of {width}x{height} JPEG q{QUALITY} ({mean:.0f} KiB) to {crop_size}x{crop_size}"
            device = None if worker_only else setting.device
            ours = our_batches(dataset, batch_size, crop_size, device, preprocessing)
            theirs = their_batches(dataset, batch_size, crop_size, device, preprocessing)
            pairs = alternate(watch.as_round(ours), watch.as_round(theirs), rounds)
            names = ("crop and resize, uint8", "Pillow, transforms, ToTensor, Normalize")
            return Figure.from_pairs(what, shapes, *names, pairs, batch_size, required=required, goal=goal)

        figures.append(compare("normalized batch on the device", normal, False, 1.5, 2.0))
        figures.append(compare("the worker's part of it", normal, True, None, None))
        figures.append(compare("normalized batch, large files", large, False, None, None))
        for name, dataset in (("", normal), ("large_", large)):
            facts |= {f"{name}{key}": value for key, value in difference(dataset, crop_size).items()}
    remarks = (
        "Ours is normalized on the device by the backbone's preprocessing, from a batch of uint8; the first and third "
        "figures include this time, and the second compares ours in uint8 with theirs in normalized floats.",
        f"The same crops differ from Pillow's by {facts['mean_difference']:.3f} gray levels of 255 on average and "
        f"{facts['largest_difference']} at most; {facts['large_mean_difference']:.2f} and "
        f"{facts['large_largest_difference']} for the large files, which are decoded at a reduced scale.",
    )
    title = "JPEG files to random resized crops, flipped and normalized, on one thread"
    return Report("image-pipeline", title, device_name(setting.device), 1, tuple(figures), facts, remarks)


def write_files(folder: Path, size: Size, count: int, factor: int = 1) -> ClassFolders:
    """Write a dataset of two classes: JPEG files of synthetic rooms, enlarged by a factor."""
    for name in CLASSES:
        (folder / "train" / name).mkdir(parents=True)
    for number in range(count):
        image = render_room(generator(0, 0, number, Purpose.TEST_SYNTHESIS), *size)["image"]
        if factor > 1:
            image = cv2.resize(image, (size[1] * factor, size[0] * factor), interpolation=cv2.INTER_CUBIC)
        write_image(folder / "train" / CLASSES[number % len(CLASSES)] / f"{number:04}.jpg", image, QUALITY)
    return ClassFolders(folder)


def files_of(images: ClassFolders) -> list[Path]:
    """Paths of the images."""
    return [images.root / images.sample_name(index) for index in range(len(images))]


def random_crop(images: ClassFolders, number: int, size: int) -> np.ndarray:
    """A random crop, as in a loader's worker: (size, size, 3) uint8."""
    rng = generator(0, 0, number, Purpose.GEOMETRY)
    index = number % len(images)
    geometry = sample_geometry(rng, images.image_size(index), (size, size), CROPS)
    return images.read_transformed(index, geometry)["image"]


def our_batches(
    images: ClassFolders, batch_size: int, size: int, device: torch.device | None, preprocessing: Preprocessing
) -> Callable[[], Tensor]:
    """A function that returns a batch: normalized on the device, or uint8 without a device, as from a worker."""
    numbers, field_type = itertools.count(), Image()

    def make() -> Tensor:
        crops = [random_crop(images, number, size) for number in itertools.islice(numbers, batch_size)]
        stacked = field_type.collate("image", crops)["image"]
        return stacked if device is None else preprocessing(stacked.to(device))

    return make


def their_batches(
    images: ClassFolders, batch_size: int, size: int, device: torch.device | None, preprocessing: Preprocessing
) -> Callable[[], Tensor]:
    """A function that returns a normalized batch, on the device if there is one."""
    from PIL import Image as Pillow
    from torchvision import transforms

    numbers, paths = itertools.count(), files_of(images)
    # The type stubs allow only tensors, but these transforms take PIL images.
    transform: Any = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )

    def make() -> Tensor:
        crops = []
        for number in itertools.islice(numbers, batch_size):
            with Pillow.open(paths[number % len(paths)]) as image:
                crops.append(transform(image.convert("RGB")))
        stacked = torch.stack(crops)
        return stacked if device is None else stacked.to(device)

    return make


def difference(images: ClassFolders, size: int) -> dict[str, float]:
    """Mean and maximum difference between our crops and the same crops by Pillow, in gray levels of 255."""
    from PIL import Image as Pillow

    means, largest, paths = [], 0, files_of(images)
    for number in range(COMPARED):
        rng = generator(0, 0, number, Purpose.GEOMETRY)
        with Pillow.open(paths[number % len(paths)]) as image:
            geometry = sample_geometry(rng, (image.height, image.width), (size, size), CROPS)
            assert geometry.window is not None
            top, left, height, width = geometry.window
            crop = image.convert("RGB").crop((left, top, left + width, top + height))
            theirs = np.asarray(crop.resize((size, size), Pillow.Resampling.BILINEAR))
        flipped = geometry.matrix()[0, 0] < 0
        differences = np.abs(random_crop(images, number, size).astype(int) - (theirs[:, ::-1] if flipped else theirs))
        means.append(differences.mean())
        largest = max(largest, int(differences.max()))
    return {"mean_difference": float(np.mean(means)), "largest_difference": largest}
