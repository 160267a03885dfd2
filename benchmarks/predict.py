"""Benchmark of `densevision predict` on a folder of photos for depth, against a simple loop.

The loop reads with Pillow, resizes, runs the model and writes, one image after the other. Both use the same model in
the same precision, resize in the same way and write the same three files per image; ours also writes its manifest,
waits for the disk and renames. The difference is that reading, inference and writing overlap, and that the image of
colors has a palette, which makes the same pixels fewer bytes.

And of batched prediction: images/s of the packaged networks of images at batch sizes 1, 4, 8 and 16.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..apps.inference_config import InferenceConfig
from ..apps.inputs import collect_inputs, iter_requests
from ..apps.manifest import Manifest
from ..apps.predict import RunSummary, run_all
from ..datasets.core.drawing import draw_depth
from ..datasets.core.geometry import Size, fitting_size, plain_resize, warp_image
from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType, Image, SegmentationMask
from ..errors import UserError
from ..tasks import list_tasks
from ..tasks.device import autocast
from ..tasks.inference import Predictor, load, packaged_checkpoint
from ..tasks.preprocessing import ImageInputs
from ..tasks.tiling import eval_mode, run_padded
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads, peer, repeat

PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png")
"""Color photos of scikit-image."""
SIZES: tuple[tuple[int, Size], ...] = (
    (12, (480, 640)),
    (10, (768, 1024)),
    (9, (1200, 1600)),
    (7, (1536, 2048)),
    (4, (2448, 3264)),
    (3, (3000, 4000)),
)
"""Number of images by (height, width), as in a folder of images from the web and from phones."""
DAMAGED = 5
ROUNDS = 5
QUALITY = 90
TURNED = 6
"""EXIF orientation of every fifth JPEG, as written by phones."""
BATCH_SIZES = (4, 8, 16)
"""Batch sizes that are compared with one image at a time."""
BATCH_IMAGES, BATCH_ROUNDS = 16, 3


@dataclass(frozen=True)
class FileDifferences:
    """Maximum differences between the files of both implementations.

    Attributes:
        images: number of images predicted by both.
        meters: maximum difference of the arrays.
        millimeters: maximum difference of the 16-bit images, in mm.
        levels: maximum difference of the visualizations, in gray levels.
    """

    images: int
    meters: float
    millimeters: int
    levels: int


def measure(
    setting: Setting, *, sizes: tuple[tuple[int, Size], ...] = SIZES, rounds: int = ROUNDS, batched: bool = True
) -> Report:
    """Measure the prediction of a folder, with `sizes` numbers of images by (height, width), and of batches."""
    predictor, rounds = load("depth", str(setting.device), "auto"), setting.rounds or rounds
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as root:
        folder, ours_out, theirs_out = (Path(root) / name for name in ("photos", "ours", "theirs"))
        files = write_folder(folder, sizes)

        def ours() -> RunSummary:
            shutil.rmtree(ours_out, ignore_errors=True)
            return predict_folder(predictor, folder, ours_out)

        def theirs() -> list[Path]:
            shutil.rmtree(theirs_out, ignore_errors=True)
            return plain_loop(predictor, files, theirs_out)

        skipped, unreadable = len(ours().skipped), len(theirs())
        differences = compare(ours_out, theirs_out)
        watch = Stopwatch(setting.device)
        pairs = alternate(watch.as_round(ours), watch.as_round(theirs), rounds, warm_up=1)
        bytes_read = sum(file.stat().st_size for file in files)
    count = sum(number for number, _ in sizes)
    height, width = max((size for _, size in sizes), key=lambda size: size[0] * size[1])
    shapes = f"{len(files)} files, {DAMAGED} damaged, {bytes_read / 2**20:.0f} MiB, JPEG and PNG up to {width}x{height}"
    figure = Figure.from_pairs(
        "a folder predicted", shapes, "densevision predict", "one by one", pairs, count, required=2.0
    )
    precision = predictor.precision
    remarks = (
        f"Both in {precision}; both predicted {differences.images} images, and skipped {skipped} and {unreadable}.",
        f"Their files differ by at most {differences.meters:.2g} m, {differences.millimeters} mm and "
        f"{differences.levels} gray levels.",
    )
    facts: dict[str, Any] = {
        "largest_difference_meters": differences.meters,
        "largest_difference_millimeters": differences.millimeters,
        "largest_difference_levels": differences.levels,
        "images": differences.images,
        "skipped": skipped,
        "precision": precision,
    }
    batches, batch_differences = batch_figures(setting) if batched else ([], {})
    if batched:
        remarks += (
            f"Batched outputs differ from those one by one by at most {max(batch_differences.values()):.2g} of the "
            "largest output, in fp32.",
        )
        facts["batch_differences"] = batch_differences
    title = "a folder of photos, read, predicted and written; and batches of every packaged network"
    return Report("predict", title, device_name(setting.device), setting.threads, (figure, *batches), facts, remarks)


def write_folder(folder: Path, sizes: tuple[tuple[int, Size], ...]) -> list[Path]:
    """Write photos in several sizes, two JPEGs per PNG, some gray, some rotated by EXIF, and some damaged files."""
    from PIL import Image

    data_dir = peer("skimage", "scikit-image").data_dir
    folder.mkdir(parents=True)
    sources = [np.asarray(Image.open(Path(data_dir) / name).convert("RGB")) for name in PHOTOS]
    rotated = Image.Exif()
    rotated[0x0112] = TURNED
    ordered = [size for number, size in sizes for _ in range(number)]
    shuffled = [ordered[index] for index in np.random.default_rng(0).permutation(len(ordered))]
    files = []
    for number, (source, size) in enumerate(zip(itertools.cycle(sources), shuffled, strict=False)):
        image = Image.fromarray(cv2.resize(source, size[::-1], interpolation=cv2.INTER_CUBIC))
        image = image.convert("L") if number % 11 == 10 else image
        path = folder / f"{number:03}{'.png' if number % 3 == 2 else '.jpg'}"
        options: dict[str, Any] = {"quality": QUALITY} if path.suffix == ".jpg" else {}
        if number % 5 == 4:
            options["exif"] = rotated
        image.save(path, **options)
        files.append(path)
    for number in range(DAMAGED):
        content = files[number].read_bytes()
        path = folder / f"{number:03}-cut{files[number].suffix}"
        path.write_bytes(content[: len(content) * number // DAMAGED])
        files.append(path)
    return sorted(files)


def predict_folder(predictor: Predictor, folder: Path, out: Path) -> RunSummary:
    """Predict a folder as the command does, without its log."""
    config = InferenceConfig(predictor, out, None, False, None)
    requests = iter_requests(collect_inputs([folder], out), 1)
    with contextlib.redirect_stdout(io.StringIO()):
        return run_all(config, requests, Manifest(out, predictor.task.name, config.digest()), "images", 1)


def plain_loop(predictor: Predictor, files: list[Path], out: Path) -> list[Path]:
    """Predict one image after the other; returns the files that cannot be read."""
    from PIL import Image, ImageOps

    out.mkdir()
    unreadable = []
    predict = plain_model(predictor)
    for path in files:
        try:
            with Image.open(path) as file:
                image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
        except (OSError, SyntaxError):
            unreadable.append(path)
            continue
        meters = predict(image)
        stem = out / path.stem
        np.save(f"{stem}_depth.npy", meters)
        cv2.imwrite(f"{stem}_depth_mm.png", np.round(meters.clip(0, 65.535) * 1000).astype(np.uint16))
        cv2.imwrite(f"{stem}_depth.png", draw_depth(meters, meters)[..., ::-1])
    return unreadable


def plain_model(predictor: Predictor) -> Callable[[np.ndarray], np.ndarray]:
    """A function from an image (H, W, 3) uint8 to depth (H, W) in meters, by the bare model."""
    model, device = predictor.model, predictor.device

    @torch.inference_mode()
    def predict(pixels: np.ndarray) -> np.ndarray:
        size: Size = (pixels.shape[0], pixels.shape[1])
        fitting = fitting_size(size, predictor.size)
        small = warp_image(pixels, plain_resize(size, fitting).matrix(), fitting)
        image = torch.from_numpy(small)[None].movedim(-1, 1).to(device).float() / 255
        with eval_mode(model), autocast(device, predictor.dtype):
            output = run_padded(model, [image]).float()
        depth = torch.nn.functional.interpolate(output, size, mode="bilinear", align_corners=False)
        return depth[0, 0].cpu().numpy()

    return predict


def compare(ours: Path, theirs: Path) -> FileDifferences:
    """Compare the files in both folders, which must be for the same images."""
    stems = [sorted(file.name.removesuffix(".npy") for file in out.glob("*.npy")) for out in (ours, theirs)]
    assert stems[0] == stems[1], "Both must predict the same images."
    meters, steps, levels = 0.0, 0, 0
    for stem in stems[0]:
        arrays = [np.load(out / f"{stem}.npy") for out in (ours, theirs)]
        meters = max(meters, float(np.abs(arrays[0] - arrays[1]).max()))
        steps = max(steps, _max_difference(*(out / f"{stem}_mm.png" for out in (ours, theirs))))
        levels = max(levels, _max_difference(*(out / f"{stem}.png" for out in (ours, theirs))))
    return FileDifferences(len(stems[0]), meters, steps, levels)


def _max_difference(one: Path, other: Path) -> int:
    first, second = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (one, other))
    assert first is not None and second is not None
    return int(np.abs(first.astype(int) - second).max())


def batch_figures(setting: Setting) -> tuple[list[Figure], dict[str, float]]:
    """Measure the packaged networks of images and label maps at their training size, in fp32.

    Returns:
        A figure per network and batch size; and for each network the maximum difference between batched outputs and
        those one by one, relative to the largest output.
    """
    figures, differences = [], {}
    for task in list_tasks():
        try:
            checkpoint = packaged_checkpoint(task)
        except UserError:
            continue
        predictor = load(checkpoint, str(setting.device), "off")
        if all(isinstance(kind, (Image, SegmentationMask)) for kind in predictor.preprocessor.inputs.values()):
            found, differences[task] = measure_network(predictor, checkpoint, setting)
            figures += found
    return figures, differences


def measure_network(predictor: Predictor, checkpoint: Path, setting: Setting) -> tuple[list[Figure], float]:
    """Figures of one network, and the maximum difference of its outputs."""
    height, width = predictor.size
    preprocessor = predictor.preprocessor
    samples = [example_sample(preprocessor.inputs, seed, predictor.size) for seed in range(BATCH_IMAGES)]
    inputs = [preprocessor.prepare(ImageInputs(sample), predictor.model) for sample in samples]
    watch, rounds = Stopwatch(setting.device), setting.rounds or BATCH_ROUNDS
    shapes = f"{BATCH_IMAGES} x {height}x{width}"

    def run(batch_size: int) -> list[Tensor]:
        return [
            output
            for start in range(0, BATCH_IMAGES, batch_size)
            for output in predictor.forward(inputs[start : start + batch_size], batch_size)
        ]

    with fixed_threads(setting.threads):
        singly = run(1)
        if not predictor.model.batchable:
            seconds = repeat(watch.as_round(lambda: run(1)), rounds)
            return [
                Figure.from_rate(f"{checkpoint.stem}, not batchable", shapes, "batch 1", seconds, BATCH_IMAGES)
            ], 0.0
        figures, difference = [], 0.0
        for size in BATCH_SIZES:
            difference = max(difference, largest_difference(singly, run(size)))
            pairs = alternate(watch.as_round(lambda size=size: run(size)), watch.as_round(lambda: run(1)), rounds, 0)
            figures.append(Figure.from_pairs(checkpoint.stem, shapes, f"batch {size}", "batch 1", pairs, BATCH_IMAGES))
    return figures, difference


def example_sample(fields: dict[str, FieldType], seed: int, size: tuple[int, int]) -> Sample:
    """Random images (H, W, C) uint8 and label maps (H, W) of a size."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, len(kind.names), size)
        if isinstance(kind, SegmentationMask)
        else rng.integers(0, 256, (*size, kind.input_channels), dtype=np.uint8)
        for name, kind in fields.items()
    }


def largest_difference(expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """Maximum absolute difference, relative to the largest absolute value of each output."""
    return max(
        float((one - other).abs().max() / other.abs().max().clamp_min(1e-12))
        for one, other in zip(outputs, expected, strict=True)
    )
