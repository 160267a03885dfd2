"""One restoration network for dirt, rain, noise, blur, compression and low resolution, scored for each of them.

python tools/reproduce/restoration.py train PHOTOS OUT
python tools/reproduce/restoration.py join WEATHER CAMERA FILE
python tools/reproduce/restoration.py table PHOTOS SET5 [MODEL ...]

`train` trains the network for what cameras and files do. `join` writes it and one for dirt and rain, which the two
commands of docs/restoration.md train, as one network. `table` scores models on the first photos of the test split, one
kind of degradation after the other, and on the images of Set5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import densevision
from densevision.datasets import open_dataset
from densevision.datasets.core.geometry import resize_antialiased
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import Image
from densevision.datasets.formats.image import read_image
from densevision.datasets.rendering.camera import eight_bits
from densevision.datasets.rendering.weather import NONE
from densevision.datasets.samples import Samples
from densevision.tasks.checkpoint import load_checkpoint, write_model
from densevision.tasks.evaluation import score
from densevision.tasks.model_spec import ModelSpec, restore_preprocessing
from densevision.tasks.restoration import Restoration
from densevision.tasks.restoration.policies import DegradedDataset

CAMERA = ("noise", "shot-noise", "blur", "defocus", "jpeg", "low-resolution")
KINDS = ("dirt", "rain", *CAMERA)
DEGRADATIONS = ",".join((*CAMERA, NONE))
"""What cameras and files do; clean images stay as they are."""
SAMPLES = 8
"""Photos of each kind that are scored."""
FACTOR, DEVIATION = 4, 25 / 255
"""Of the low resolution and the noise of Set5."""


def reduced(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8, made smaller by 4 and enlarged again by bicubic filters."""
    height, width = (FACTOR * (side // FACTOR) for side in image.shape[:2])
    small = resize_antialiased(image[:height, :width], (height // FACTOR, width // FACTOR), filter="bicubic")
    return resize_antialiased(small, (height, width), filter="bicubic")


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 with Gaussian noise of the deviation 25."""
    return eight_bits(image / np.float32(255) + DEVIATION * rng.standard_normal(image.shape, np.float32))


def set5_pairs(root: str, degradation: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Samples:
    """The five images under one function, cropped to the size that it returns."""
    pairs = []
    for index, file in enumerate(sorted(Path(root).glob("*.png"))):
        image = read_image(file)
        degraded = degradation(image, generator(0, 0, index, Purpose.TEST_SYNTHESIS))
        pairs.append({"degraded": degraded, "image": image[: degraded.shape[0], : degraded.shape[1]]})
    return Samples(pairs, {"degraded": Image(), "image": Image()}, "test")


def tests(photos: str, set5: str) -> Iterator[tuple[str, Dataset, int]]:
    """Every row of the table: its title, its images, and how many of them are scored."""
    clean = open_dataset("image-folders", photos, "test")
    yield "dirt, rain, or both", DegradedDataset(clean, ("rain", "dirt")), SAMPLES
    for kind in (*KINDS, NONE):
        yield kind, DegradedDataset(clean, (kind,)), SAMPLES
    yield f"Set5, bicubic x{FACTOR}", set5_pairs(set5, reduced), 5
    yield f"Set5, noise of deviation {round(255 * DEVIATION)}", set5_pairs(set5, noisy), 5


def table(photos: str, set5: str, *models: str) -> None:
    """Print PSNR and SSIM of the degraded input and of every model, under the protocol rgb, as Markdown."""
    task, names = Restoration(), models or ("restoration",)
    predictors = [densevision.load(name) for name in names]
    print(f"| degradation | photos | input | {' | '.join(Path(name).name for name in names)} |")
    print(f"|{' --- |' * (3 + len(names))}")
    for title, data, samples in tests(photos, set5):
        columns = []
        for predict in (task.baseline(data), *predictors):
            metrics = score(task, predict, data, "rgb", samples).metrics
            columns.append(f"{metrics['psnr']:.2f} dB, {metrics['ssim']:.3f}")
        print(f"| {title} | {samples} | {' | '.join(columns)} |", flush=True)


def train(photos: str, out: str) -> None:
    """Train the network for what cameras and files do, from scratch."""
    densevision.train(
        Restoration(DEGRADATIONS),
        data="image-folders",
        root=photos,
        recipe="photos",
        backbone="resnet20_cifar",
        steps=1500,
        lr=2e-3,
        eval_every=0,
        eval_samples=40,
        save_every=100,
        threads=1,
        workers=1,
        out=Path(out),
    )


def join(weather: str, camera: str, file: str) -> None:
    """Write two checkpoints as one of `camera-weather`, with the origin of the first."""
    before, _, header = load_checkpoint(weather)
    after, model_spec, trained = load_checkpoint(camera)
    spec = ModelSpec(Restoration(",".join((*KINDS, NONE))), model_spec.fields, model="camera-weather")
    model = spec.build()
    restore_preprocessing(model, header)
    cameras = {f"camera.{name}": value for name, value in after.state_dict().items()}
    model.load_state_dict({**before.state_dict(), **cameras})
    write_model(
        file,
        model,
        spec,
        {name: trained[name] for name in ("size", "data", "step")}
        | {name: header[name] for name in ("backbone_weights", "init_from")},
    )


if __name__ == "__main__":
    commands = {"train": train, "join": join, "table": table}
    if sys.argv[1:2] and sys.argv[1] in commands:
        commands[sys.argv[1]](*sys.argv[2:])
    else:
        sys.exit(__doc__)
