"""The figure at the top of the README: one row per task and packaged checkpoint.

python tools/figures/hero.py [OUT]      input, prediction, ground truth of eight samples, to docs/hero.jpg

Inputs are synthetic datasets and photos of scikit-image, so that no frame of a research-only dataset appears.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densevision import load, open_dataset
from densevision.apps.web.examples import street_labels
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import SegmentationMask
from densevision.datasets.formats.image import write_image
from densevision.datasets.rendering.chairs import draw_chairs
from densevision.datasets.rendering.weather import degrade
from densevision.tasks.classification.metrics import ClassScores
from densevision.tasks.flow.flow_field import FlowField

OUT = Path(__file__).resolve().parents[2] / "docs" / "hero.jpg"
PANEL = (168, 224)
"""Height and width of one image."""
GAP, LABEL, HEADER = 4, 26, 24
TEXT = (40, 40, 40)
Row = tuple[str, np.ndarray, np.ndarray, np.ndarray | None]
"""Caption, input, prediction, ground truth; None where there is none."""


def photo(name: str) -> np.ndarray:
    """A photo of scikit-image, cropped to 4:3 around its center, 480x640 at most."""
    from skimage import data

    image = getattr(data, name)()
    height, width = image.shape[:2]
    high, wide = min(height, width * 3 // 4), min(width, height * 4 // 3)
    top, left = (height - high) // 2, (width - wide) // 2
    image = image[top : top + high, left : left + wide]
    factor = min(1.0, 480 / high)
    size = (round(wide * factor), round(high * factor))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def depth_of_room() -> Row:
    predictor = load("depth")
    dataset = open_dataset("synthetic-rooms", split="test").with_size((180, 240))
    sample = dataset.read(3)
    ground_truth = predictor.task.ground_truth(sample, dataset.fields)
    prediction = predictor.predict_sample(sample)
    return "depth, synthetic room", sample["image"], prediction.to_image(ground_truth), ground_truth.to_image()


def depth_of_photo() -> Row:
    image = photo("coffee")
    return "depth, photo", image, load("depth").predict(image).to_image(), None


def flow() -> Row:
    photos = [photo(name) for name in ("coffee", "astronaut", "chelsea", "rocket")]
    pair = draw_chairs(generator(0, 0, 11, Purpose.TEST_SYNTHESIS), 240, 320, photos)
    ground_truth = FlowField(pair["flow"], pair["first"])
    prediction = load("flow").predict(pair["first"], pair["second"])
    return (
        "optical flow, first of two images",
        pair["first"],
        prediction.to_image(ground_truth),
        ground_truth.to_image(),
    )


def pose() -> Row:
    predictor = load("pose")
    dataset = open_dataset("synthetic-athletes", split="test").with_size((192, 256))
    sample = dataset.read(5)
    ground_truth = predictor.task.ground_truth(sample, dataset.fields)
    return (
        "human pose, synthetic",
        sample["image"],
        predictor.predict_sample(sample).to_image(),
        ground_truth.to_image(),
    )


def colorization() -> Row:
    image = photo("chelsea")
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return "colorization, photo", gray, load("colorization").predict(gray).to_image(), image


def restoration() -> Row:
    clean = cv2.resize(photo("astronaut"), (320, 240), interpolation=cv2.INTER_AREA)
    degraded = degrade(clean, np.random.default_rng(2), ["rain"])
    return "restoration, photo + synthetic rain", degraded, load("restoration").predict(degraded).to_image(), clean


def translation() -> Row:
    predictor = load("translation")
    (kind,) = predictor.task.inputs(predictor.fields).values()
    assert isinstance(kind, SegmentationMask)
    labels = street_labels(kind, (360, 480))
    return "translation, label map", kind.colorize(labels), predictor.predict(labels).to_image(), None


def classification() -> Row:
    cat = photo("chelsea")
    scores = load("classification").predict(cat)
    assert isinstance(scores, ClassScores)
    lines = [f"{name}: {probability:.2f}" for name, probability in scores.top(3)]
    return "classification, photo", cat, written(lines), written(["a cat"])


def written(lines: list[str]) -> np.ndarray:
    """Lines of text as a panel."""
    panel = Image.new("RGB", (PANEL[1], PANEL[0]), "white")
    for number, line in enumerate(lines):
        place = (PANEL[1] // 2, PANEL[0] // 2 + round(30 * (number - (len(lines) - 1) / 2)))
        ImageDraw.Draw(panel).text(place, line, fill=TEXT, font=ImageFont.load_default(22), anchor="mm")
    return np.asarray(panel)


def fitted(image: np.ndarray) -> np.ndarray:
    """An image inside a panel, its aspect kept, on white."""
    height, width = image.shape[:2]
    factor = min(PANEL[0] / height, PANEL[1] / width)
    size = (round(width * factor), round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    panel = np.full((*PANEL, 3), 255, np.uint8)
    top, left = (PANEL[0] - size[1]) // 2, (PANEL[1] - size[0]) // 2
    panel[top : top + size[1], left : left + size[0]] = small
    return panel


def hero(out: str = str(OUT)) -> None:
    """Write the figure: two columns of four rows."""
    made = [depth_of_room(), depth_of_photo(), flow(), pose(), colorization(), restoration(), translation()]
    rows = [*made, classification()]
    block = 3 * PANEL[1] + 2 * GAP
    sheet = Image.new("RGB", (2 * block + 5 * GAP, HEADER + 4 * (LABEL + PANEL[0])), "white")
    pen = ImageDraw.Draw(sheet)
    for column in range(2):
        for place, title in enumerate(("input", "prediction", "ground truth")):
            x = column * (block + 5 * GAP) + place * (PANEL[1] + GAP) + PANEL[1] // 2
            pen.text((x, HEADER // 2), title, fill=TEXT, font=ImageFont.load_default(18), anchor="mm")
    for number, (caption, *images) in enumerate(rows):
        x, y = number // 4 * (block + 5 * GAP), HEADER + number % 4 * (LABEL + PANEL[0])
        pen.text((x + 2, y + LABEL // 2), caption, fill=TEXT, font=ImageFont.load_default(16), anchor="lm")
        for place, image in enumerate(images):
            panel = written(["none"]) if image is None else fitted(image)
            sheet.paste(Image.fromarray(panel), (x + place * (PANEL[1] + GAP), y + LABEL))
    write_image(Path(out), np.asarray(sheet))


if __name__ == "__main__":
    hero(*sys.argv[1:])
