"""Figures of the documentation that show data sets, predictions, receptive fields and training curves.

python tools/figures/images.py rooms CHECKPOINT                    docs/rooms.png: synthetic rooms, ground truth, depth
python tools/figures/images.py shapes CHECKPOINT                   docs/shapes.png: synthetic shapes and their classes
python tools/figures/images.py scores                              docs/recognition-game.png: scores of test scenes
python tools/figures/images.py hands                               docs/hands.png: joints of test hands
python tools/figures/images.py boats CHECKPOINT                    docs/boats.png: clips from a frame, beside true ones
python tools/figures/images.py views                               docs/views.png: rooms from a new place
python tools/figures/images.py photos                              docs/photos.png: photos and their predicted depth
python tools/figures/images.py colorized [CHECKPOINT [OUT]]        docs/colorized.jpg: colorization of photos
python tools/figures/images.py colorized_shapes CHECKPOINT [OUT]   docs/colorized-shapes.png: of synthetic shapes
python tools/figures/images.py receptive_fields                    docs/receptive-fields.png: fields drawn over a photo
python tools/figures/images.py receptive_field_table               table of docs/receptive-fields.md, as Markdown
python tools/figures/images.py degradations                        docs/degradations.jpg: images with each degradation
python tools/figures/images.py restored CHECKPOINT                 docs/restored.png: degraded, ground truth, restored
python tools/figures/images.py windows [CHECKPOINT]                docs/windows.jpg: photos with dirt and rain, restored
python tools/figures/images.py curves OUT.png NAME=RUN [...]       monitored metric of several training runs

CHECKPOINT is a file such as runs/depth-1/best.safetensors; commands that show it in brackets use the packaged one if
none is stated. The photos are those of scikit-image that are free to use.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densevision import create_backbone, load
from densevision.backbones.receptive_field import receptive_fields as unit_fields
from densevision.datasets import open_dataset
from densevision.datasets.core.drawing import GAP, draw_depth, hstack_images, image_grid, vstack_images
from densevision.datasets.formats.image import write_image
from densevision.tasks.comparison_grid import draw_comparison
from densevision.visualize.correspondence.receptive_field import draw_fields

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOMS = (3, 7, 12, 21, 28, 33)
VIEW_ROOMS = (0, 3, 5)
SHAPE_SIDE = 180
SCENES = 10
CLIPS = (0, 1, 2)
PHOTOS = ("coffee", "astronaut", "chelsea", "rocket")
COLORIZED = ("astronaut", "coffee", "chelsea", "rocket")
HEIGHT = 200
WIDTH = 1400
WINDOW = 220
DEGRADED = (0, 3, 5, 8, 10, 16)
TABULATED: dict[str, dict[str, Any]] = {
    "lenet5": {},
    "alexnet": {},
    "alexnet_tv": {},
    "vgg11": {},
    "vgg16": {},
    "vgg19": {},
    "googlenet": {},
    "googlenet_tv": {},
    "resnet18": {},
    "resnet34": {},
    "resnet50": {"stride_in": "3x3"},
    "resnet50 --stride-in 1x1": {"stride_in": "1x1"},
    "resnet101": {},
    "resnet152": {},
    "inception_v4": {},
    "inception_resnet_v2": {},
}
"""Rows of the table of receptive fields, with the options of their backbones."""


def rooms(checkpoint: str) -> None:
    """Write docs/rooms.png: two columns of test rooms, rendered at twice the size at which the model predicts."""
    predictor = load(checkpoint)
    dataset = open_dataset("synthetic-rooms", split="test").with_size(predictor.size)
    predicted = [(sample, predictor.predict_sample(sample)) for sample in map(dataset.read, ROOMS)]
    half = len(predicted) // 2
    columns = [draw_comparison(predictor.task, dataset.fields, part) for part in (predicted[:half], predicted[half:])]
    write_image(DOCS / "rooms.png", hstack_images(columns))


def shapes(checkpoint: str) -> None:
    """Write docs/shapes.png: test shapes in three columns, each with its class and the five most probable classes."""
    predictor = load(checkpoint)
    dataset = open_dataset("synthetic-shapes", split="test").with_size((SHAPE_SIDE, SHAPE_SIDE))
    predicted = [(sample, predictor.predict_sample(sample)) for sample in map(dataset.read, range(9))]
    columns = [draw_comparison(predictor.task, dataset.fields, predicted[start : start + 3]) for start in (0, 3, 6)]
    write_image(DOCS / "shapes.png", hstack_images(columns))


def scores() -> None:
    """Write docs/recognition-game.png: test scenes, from the highest to the lowest predicted score."""
    predictor: Any = load("resnet20_recognition_game")
    dataset = open_dataset("recognition-game", split="test").with_size((SHAPE_SIDE, SHAPE_SIDE))
    predicted = [(predictor.predict_sample(sample), sample) for sample in map(dataset.read, range(SCENES))]
    predicted.sort(key=lambda pair: -pair[0].value)
    cells = [one.to_image(predictor.task.ground_truth(sample, dataset.fields)) for one, sample in predicted]
    write_image(DOCS / "recognition-game.png", image_grid(cells, 5))


def hands() -> None:
    """Write docs/hands.png: test hands with their ground truth, above the predictions of the packaged model."""
    predictor, dataset = load("hand_pose"), open_dataset("synthetic-hands", split="test")
    samples = [dataset.read(index) for index in range(5)]
    rows = [predictor.task.ground_truth(sample, dataset.fields) for sample in samples]
    rows += [predictor.predict_sample(sample) for sample in samples]
    images = [cv2.resize(row.to_image(), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST) for row in rows]
    write_image(DOCS / "hands.png", image_grid(images, 5))


def boats(checkpoint: str) -> None:
    """Write docs/boats.png: test clips that begin with a given frame, above those predicted from it."""
    predictor, dataset = load(checkpoint), open_dataset("boats", split="test")
    rows = []
    for index in CLIPS:
        sample = predictor.task.evaluation.dataset(dataset).read(index)
        rows += [predictor.task.ground_truth(sample, dataset.fields), predictor.predict_sample(sample)]
    images = [cv2.resize(row.to_image(), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_NEAREST) for row in rows]
    write_image(DOCS / "boats.png", image_grid(images, 1))


def views() -> None:
    """Write docs/views.png: per test room the nearest view, the classical plane sweep, the prediction of the packaged
    model with its depth, and the ground truth."""
    predictor, dataset = load("view_synthesis"), open_dataset("room-views", split="test")
    sweep, rows = predictor.task.baseline(dataset), []
    for sample in map(dataset.read, VIEW_ROOMS):
        prediction: Any = predictor.predict_sample(sample)
        depth = draw_depth(prediction.depth, sample["depth"])
        rows.append([sample["views"][0], sweep(sample).to_image(), prediction.to_image(), depth, sample["image"]])
    cells = [cv2.resize(cell, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) for row in rows for cell in row]
    write_image(DOCS / "views.png", image_grid(cells, 5))


def photos() -> None:
    """Write docs/photos.png: photos above the depth that the packaged model predicts."""
    from skimage import data

    predictor = load("depth")
    columns = []
    for name in PHOTOS:
        image = getattr(data, name)()
        depth = predictor.predict(image).to_image()
        width = round(image.shape[1] * HEIGHT / image.shape[0])
        pair = [cv2.resize(part, (width, HEIGHT), interpolation=cv2.INTER_AREA) for part in (image, depth)]
        columns.append(np.concatenate([pair[0], np.full((GAP, width, 3), 255, np.uint8), pair[1]]))
    write_image(DOCS / "photos.png", hstack_images(columns))


def colorized(checkpoint: str = "colorization", out: str = str(DOCS / "colorized.jpg")) -> None:
    """Write docs/colorized.jpg, one row per photo: gray input, ground truth, prediction, confidence."""
    from skimage import data

    predictor = load(checkpoint)
    rows = [colorization_row(predictor, getattr(data, name)()) for name in COLORIZED]
    write_image(Path(out), cv2.resize(stack_rows(rows), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def colorized_shapes(checkpoint: str, out: str = str(DOCS / "colorized-shapes.png")) -> None:
    """Write docs/colorized-shapes.png: two columns of test shapes: gray input, ground truth, prediction, confidence."""
    predictor = load(checkpoint)
    dataset = open_dataset("synthetic-shapes", split="test").with_size((128, 128))
    rows = [colorization_row(predictor, dataset.read(number)["image"]) for number in range(10)]
    write_image(Path(out), hstack_images([stack_rows(rows[:5]), stack_rows(rows[5:])]))


def colorization_row(predictor: Any, image: np.ndarray) -> np.ndarray:
    """Gray input, ground truth, prediction and confidence (black: any color is as probable), at the same size."""
    gray = predictor.task.baseline(None)({"image": image})
    prediction = predictor.predict(image)
    parts = [gray.to_image(), image, prediction.to_image()]
    if prediction.confidence is not None:
        parts.append(np.repeat(np.round(255 * prediction.confidence.clip(0, 1)).astype(np.uint8)[..., None], 3, -1))
    return hstack_images(parts)


def stack_rows(rows: list[np.ndarray]) -> np.ndarray:
    """Rows below each other with gaps, resized to the width of the widest one."""
    widest = max(row.shape[1] for row in rows)
    sized = [cv2.resize(row, (widest, round(row.shape[0] * widest / row.shape[1]))) for row in rows]
    return vstack_images(sized)


def receptive_fields() -> None:
    """Write docs/receptive-fields.png: the middle unit of every level of VGG-16 and of the paper's ResNet-50."""
    from skimage import data

    backbones = [create_backbone("vgg16", num_classes=0), create_backbone("resnet50", num_classes=0, stride_in="1x1")]
    row = hstack_images([draw_fields(backbone, data.astronaut()) for backbone in backbones])
    size = (WIDTH, round(row.shape[0] * WIDTH / row.shape[1]))
    write_image(DOCS / "receptive-fields.png", cv2.resize(row, size, interpolation=cv2.INTER_AREA))


def receptive_field_table() -> None:
    """Print the table of docs/receptive-fields.md: receptive fields of the classic architectures, level by level."""
    print("| backbone | levels | field, pixels | stride | first center | overlap |\n" + "| --- " * 6 + "|")
    for title, options in TABULATED.items():
        backbone = create_backbone(title.split()[0], num_classes=0, **options)
        fields = unit_fields(backbone)
        columns = [(field.size, field.jump, field.center, field.overlap) for field in fields.values()]
        cells = (" ".join(f"{number:g}" for number in column) for column in zip(*columns, strict=True))
        print(f"| `{title}` | {' '.join(fields)} | {' | '.join(cells)} |")


def center_crops(side: int) -> list[np.ndarray]:
    """The central squares of the photos, (side, side, 3) uint8, at their own scale."""
    from skimage import data

    crops = []
    for name in PHOTOS:
        image = getattr(data, name)()
        top, left = ((length - side) // 2 for length in image.shape[:2])
        crops.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return crops


def degradations() -> None:
    """Write docs/degradations.jpg: clean photos and synthetic images, and below them one row per degradation."""
    from densevision.datasets.rendering.weather import DEGRADATIONS, degrade

    size = (160, 160)
    names = ("synthetic-shapes", "synthetic-rooms")
    synthetic = [open_dataset(name, split="test").with_size(size).read(7)["image"] for name in names]
    images = [*center_crops(size[0]), *synthetic]
    rows = [hstack_images(images)]
    for number, name in enumerate(DEGRADATIONS):
        streams = (np.random.default_rng((number, column)) for column in range(len(images)))
        rows.append(hstack_images([degrade(one, rng, [name]) for one, rng in zip(images, streams, strict=True)]))
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    write_image(DOCS / "degradations.jpg", np.concatenate([part for row in rows for part in (row, gap)][:-1]))


def restored(checkpoint: str) -> None:
    """Write docs/restored.png: two columns of synthetic test images: degraded, ground truth, prediction."""
    predictor = load(checkpoint)
    weather = open_dataset("synthetic-weather", split="test").with_size(predictor.size)
    dataset = predictor.task.evaluation.dataset(weather)
    predicted = [(sample, predictor.predict_sample(sample)) for sample in map(dataset.read, DEGRADED)]
    half = len(predicted) // 2
    columns = [draw_comparison(predictor.task, dataset.fields, part) for part in (predicted[:half], predicted[half:])]
    write_image(DOCS / "restored.png", hstack_images(columns))


def windows(checkpoint: str = "restoration") -> None:
    """Write docs/windows.jpg: photos with dirt (two) and rain (two), above their restoration."""
    from densevision.datasets.rendering.weather import degrade

    predictor, columns = load(checkpoint), []
    for number, clean in enumerate(center_crops(WINDOW)):
        degraded = degrade(clean, np.random.default_rng(number), ["dirt" if number < 2 else "rain"])
        prediction = predictor.predict(degraded).to_image()
        columns.append(np.concatenate([degraded, np.full((GAP, WINDOW, 3), 255, np.uint8), prediction]))
    write_image(DOCS / "windows.jpg", hstack_images(columns))


def curves(out: str, *runs: str) -> None:
    """Plot the monitored metric of training runs over their steps, with the baseline."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes, monitor = figure.subplots(), {}
    for run in runs:
        name, folder = run.split("=", 1)
        monitor = json.loads((Path(folder) / "result.json").read_text())["monitor"]
        lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
        scored = [line for line in lines if line["kind"] == "eval"]
        scores = [line[monitor["name"]] for line in scored]
        axes.plot([line["step"] for line in scored], scores, "o-", ms=3, label=name)
    axes.axhline(monitor["baseline"], color="gray", ls="--", lw=1, label="baseline")
    axes.set(xlabel="step", title=f"{monitor['name']} on test samples")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    commands = {
        command.__name__: command
        for command in (
            rooms,
            shapes,
            scores,
            hands,
            views,
            boats,
            photos,
            colorized,
            colorized_shapes,
            receptive_fields,
            receptive_field_table,
            degradations,
            restored,
            windows,
            curves,
        )
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
