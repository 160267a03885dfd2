"""From JPEG files to a normalised batch, ours against Pillow and torchvision's classic transforms, on one thread.

Ours is what a training does: `Dataset.read_for` draws the crop from the file's header and decodes no more than it
needs, and the crop is cut out and resized. The pictures stay uint8 and are normalised as a batch on the device; both
sides are timed up to the same thing, a normalised float batch on the device. What a loader's worker spends is given
too: on a GPU that is what counts.
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
from ..datasets.augmentation import Augmentation, sample_geometry
from ..datasets.class_folders import ClassFolders
from ..datasets.fields import Image
from ..datasets.formats.picture import write_picture
from ..datasets.geometry import Size, move_picture
from ..datasets.randomness import Purpose, generator
from ..datasets.worlds.rooms import render_room
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

SOURCE: Size = (375, 500)
"""(height, width): the size of most ImageNet pictures."""
LARGE = 4
"""Times as large as `SOURCE`: what a camera gives."""
SIDE = 224
QUALITY = 90
FILES, BATCH, ROUNDS = 16, 32, 15
COMPARED = 64
"""Crops over which the difference to Pillow's pixels is taken."""
CROPS = Augmentation(flip=0.5, area=(0.08, 1.0))


def measure(
    setting: Setting,
    *,
    source: Size = SOURCE,
    side: int = SIDE,
    files: int = FILES,
    batch: int = BATCH,
    rounds: int = ROUNDS,
) -> Report:
    """Batches of random resized crops, flipped.

    Args:
        setting: its device takes the batch; its threads are not used: a loader's worker has one.
        source: (height, width) of the stored pictures.
        side: height and width of the crops.
        files: how many different pictures.
        batch: pictures per round.
        rounds: pairs, where the setting says nothing.
    """
    rounds, preprocessing, watch = setting.rounds or rounds, Preprocessing(), Stopwatch(setting.device)
    figures, facts = [], {}
    with fixed_threads(1), tempfile.TemporaryDirectory() as folder:
        usual = write_files(Path(folder) / "usual", source, files)
        large = write_files(Path(folder) / "large", source, max(1, files // 4), LARGE)

        def compare(
            what: str, found: ClassFolders, worker_only: bool, least: float | None, aim: float | None
        ) -> Figure:
            height, width = found.read(0)["image"].shape[:2]
            mean = sum(path.stat().st_size for path in files_of(found)) / len(found) / 1024
            shapes = f"{batch} of {width}x{height} JPEG q{QUALITY} ({mean:.0f} KiB) to {side}x{side}"
            ours = our_batches(found, batch, side, None if worker_only else setting.device, preprocessing)
            theirs = their_batches(found, batch, side, None if worker_only else setting.device, preprocessing)
            pairs = alternate(watch.rounds_of(ours), watch.rounds_of(theirs), rounds)
            names = ("cut and resized, uint8", "Pillow, transforms, ToTensor, Normalize")
            return Figure.of_pairs(what, shapes, *names, pairs, batch, least=least, aim=aim)

        figures.append(compare("normalised batch on the device", usual, False, 1.5, 2.0))
        figures.append(compare("the worker's share of it", usual, True, None, None))
        figures.append(compare("normalised batch, large files", large, False, None, None))
        for name, found in (("", usual), ("large_", large)):
            facts |= {f"{name}{key}": value for key, value in difference(found, side).items()}
    remarks = (
        "Ours is normalised on the device, as a batch of uint8 given to the trunk's preprocessing, and that time is in "
        "the first and third figure; the second ends at ours in uint8 and theirs in normalised floats.",
        f"The same crops differ from Pillow's by {facts['mean_difference']:.3f} grey levels of 255 on average and "
        f"{facts['largest_difference']} at most; {facts['large_mean_difference']:.2f} and "
        f"{facts['large_largest_difference']} for the large files, which are decoded at a scale.",
    )
    title = "JPEG files to random resized crops, flipped and normalised, on one thread"
    return Report("picture-pipeline", title, device_name(setting.device), 1, tuple(figures), facts, remarks)


def write_files(folder: Path, size: Size, count: int, times: int = 1) -> ClassFolders:
    """A class of JPEGs of rooms, enlarged `times` times, so that no data is needed."""
    (folder / "train" / "room").mkdir(parents=True)
    for number in range(count):
        picture = render_room(generator(0, 0, number, Purpose.TEST_WORLD), *size)["image"]
        if times > 1:
            picture = cv2.resize(picture, (size[1] * times, size[0] * times), interpolation=cv2.INTER_CUBIC)
        write_picture(folder / "train" / "room" / f"{number:04}.jpg", picture, QUALITY)
    return ClassFolders(folder)


def files_of(pictures: ClassFolders) -> list[Path]:
    """Where the pictures lie."""
    return [pictures.root / pictures.label(index) for index in range(len(pictures))]


def crop_of(pictures: ClassFolders, number: int, side: int) -> np.ndarray:
    """One random crop as a loader's worker makes it."""
    rng = generator(0, 0, number, Purpose.GEOMETRY)
    sample, geometry = pictures.read_for(
        number % len(pictures), lambda source: sample_geometry(rng, source, (side, side), CROPS)
    )
    return move_picture(sample["image"], geometry)


def our_batches(
    pictures: ClassFolders, batch: int, side: int, device: torch.device | None, preprocessing: Preprocessing
) -> Callable[[], Tensor]:
    """One batch a call: normalised on the device, or uint8 as a worker hands it over where the device is None."""
    numbers, kind = itertools.count(), Image()

    def make() -> Tensor:
        crops = [crop_of(pictures, number, side) for number in itertools.islice(numbers, batch)]
        stacked = kind.collate("image", crops)["image"]
        return stacked if device is None else preprocessing(stacked.to(device))

    return make


def their_batches(
    pictures: ClassFolders, batch: int, side: int, device: torch.device | None, preprocessing: Preprocessing
) -> Callable[[], Tensor]:
    """One batch a call: normalised, on the device where there is one."""
    from PIL import Image as Pillow
    from torchvision import transforms

    numbers, paths = itertools.count(), files_of(pictures)
    # Its stubs promise a tensor to every transform; a PIL image is what they are made for.
    transform: Any = transforms.Compose(
        [
            transforms.RandomResizedCrop(side),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )

    def make() -> Tensor:
        crops = []
        for number in itertools.islice(numbers, batch):
            with Pillow.open(paths[number % len(paths)]) as opened:
                crops.append(transform(opened.convert("RGB")))
        stacked = torch.stack(crops)
        return stacked if device is None else stacked.to(device)

    return make


def difference(pictures: ClassFolders, side: int) -> dict[str, float]:
    """How far our crops' grey levels are from those of Pillow's same crops."""
    from PIL import Image as Pillow

    means, largest, paths = [], 0, files_of(pictures)
    for number in range(COMPARED):
        rng = generator(0, 0, number, Purpose.GEOMETRY)
        with Pillow.open(paths[number % len(paths)]) as opened:
            geometry = sample_geometry(rng, (opened.height, opened.width), (side, side), CROPS)
            assert geometry.window is not None
            top, left, height, width = geometry.window
            cut = opened.convert("RGB").crop((left, top, left + width, top + height))
            theirs = np.asarray(cut.resize((side, side), Pillow.Resampling.BILINEAR))
        mirrored = geometry.matrix()[0, 0] < 0
        apart = np.abs(crop_of(pictures, number, side).astype(int) - (theirs[:, ::-1] if mirrored else theirs))
        means.append(apart.mean())
        largest = max(largest, int(apart.max()))
    return {"mean_difference": float(np.mean(means)), "largest_difference": largest}
