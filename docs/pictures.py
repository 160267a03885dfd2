"""The pictures of the docs, made by the commands that stand beside them.

python docs/pictures.py rooms runs/depth-1/best.safetensors      unseen rooms: picture, truth, prediction
python docs/pictures.py shapes runs/classification-1/best.safetensors   unseen shapes and their names
python docs/pictures.py photographs                              scikit-image's photographs and the shipped depth
python docs/pictures.py coloured CHECKPOINT [OUT.png]            grey, true, answered colours, sureness of photographs
python docs/pictures.py coloured_shapes CHECKPOINT [OUT.png]     the same of unseen shapes
python docs/pictures.py receptive_fields                         what units see, over one of those photographs
python docs/pictures.py field_table                              the fields of the lecture's networks, as Markdown
python docs/pictures.py degradations                            photographs and worlds, made worse in every way
python docs/pictures.py restored runs/restoration-1/best.safetensors    unseen dirty pictures, truth, answer
python docs/pictures.py windows runs/restoration-1/best.safetensors     photographs behind dirt and rain, and restored
python docs/pictures.py curves OUT.png NAME=RUN [NAME=RUN ...]   watched scores of several runs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densevision import create_backbone, load
from densevision.apps.visualize.receptive_field import draw_fields
from densevision.backbones.receptive_field import receptive_fields as fields_of
from densevision.datasets import open_dataset
from densevision.datasets.formats.picture import write_picture
from densevision.tasks.sheet import GAP, draw_sheet, tile

DOCS = Path(__file__).parent
ROOMS = (3, 7, 12, 21, 28, 33)
SHAPE_SIDE = 180
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
COLOURED = ("astronaut", "coffee", "chelsea", "rocket")
HEIGHT = 200
WIDTH = 1400
LECTURE: dict[str, dict[str, Any]] = {
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


def rooms(checkpoint: str) -> None:
    """docs/rooms.png: two columns of unseen rooms, drawn at twice the size the network answers at."""
    predictor = load(checkpoint)
    world = open_dataset("rooms", split="test").at(predictor.size)
    shown = [(sample, predictor.answer(sample)) for sample in map(world.read, ROOMS)]
    half = len(shown) // 2
    columns = [draw_sheet(predictor.task, world.fields, part) for part in (shown[:half], shown[half:])]
    write_picture(DOCS / "rooms.png", tile(columns))


def shapes(checkpoint: str) -> None:
    """docs/shapes.png: unseen shapes, each with its true name and the five most probable ones, in three columns."""
    predictor = load(checkpoint)
    world = open_dataset("shapes", split="test").at((SHAPE_SIDE, SHAPE_SIDE))
    shown = [(sample, predictor.answer(sample)) for sample in map(world.read, range(9))]
    columns = [draw_sheet(predictor.task, world.fields, shown[start : start + 3]) for start in (0, 3, 6)]
    write_picture(DOCS / "shapes.png", tile(columns))


def photographs() -> None:
    """docs/photographs.png: photographs with open terms above what the shipped checkpoint answers."""
    from skimage import data

    predictor = load("depth")
    columns = []
    for name in PHOTOGRAPHS:
        picture = getattr(data, name)()
        answer = predictor.predict(picture).picture()
        width = round(picture.shape[1] * HEIGHT / picture.shape[0])
        pair = [cv2.resize(part, (width, HEIGHT), interpolation=cv2.INTER_AREA) for part in (picture, answer)]
        columns.append(np.concatenate([pair[0], np.full((GAP, width, 3), 255, np.uint8), pair[1]]))
    write_picture(DOCS / "photographs.png", tile(columns))


def coloured(checkpoint: str = "colorization", out: str = str(DOCS / "coloured.jpg")) -> None:
    """scikit-image's photographs: the grey input, the truth, the answer, and how sure it is."""
    from skimage import data

    predictor = load(checkpoint)
    rows = [coloured_row(predictor, getattr(data, name)()) for name in COLOURED]
    write_picture(Path(out), cv2.resize(stack(rows), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def coloured_shapes(checkpoint: str, out: str = str(DOCS / "coloured-shapes.png")) -> None:
    """Two columns of unseen shapes: the grey input, the truth, the answer, and how sure it is."""
    predictor = load(checkpoint)
    world = open_dataset("shapes", split="test").at((128, 128))
    rows = [coloured_row(predictor, world.read(number)["image"]) for number in range(10)]
    write_picture(Path(out), tile([stack(rows[:5]), stack(rows[5:])]))


def coloured_row(predictor: Any, picture: np.ndarray) -> np.ndarray:
    """Grey input, truth, answer, sureness (black: any colour would do), as wide as each other."""
    sample = {"image": picture}
    grey = predictor.task.baseline(None)(sample)
    answer = predictor.predict(picture)
    parts = [grey.picture(), picture, answer.picture()]
    if answer.sureness is not None:
        parts.append(np.repeat(np.round(255 * answer.sureness.clip(0, 1)).astype(np.uint8)[..., None], 3, -1))
    return tile(parts)


def stack(rows: list[np.ndarray]) -> np.ndarray:
    """Rows below each other, brought to the widest one's width."""
    widest = max(row.shape[1] for row in rows)
    sized = [cv2.resize(row, (widest, round(row.shape[0] * widest / row.shape[1]))) for row in rows]
    return np.concatenate([np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for row in sized])[:-GAP]


def receptive_fields() -> None:
    """docs/receptive-fields.png: the middle unit of every level of VGG-16 and of the paper's ResNet-50."""
    from skimage import data

    trunks = [create_backbone("vgg16", classes=0), create_backbone("resnet50", classes=0, stride_in="1x1")]
    row = tile([draw_fields(trunk, data.astronaut()) for trunk in trunks])
    size = (WIDTH, round(row.shape[0] * WIDTH / row.shape[1]))
    write_picture(DOCS / "receptive-fields.png", cv2.resize(row, size, interpolation=cv2.INTER_AREA))


def field_table() -> None:
    """The fields of the lecture's networks, level by level, as the rows of docs/receptive-fields.md."""
    print("| network | levels | field, pixels | stride | first centre | overlap |\n" + "| --- " * 6 + "|")
    for called, options in LECTURE.items():
        trunk = create_backbone(called.split()[0], classes=0, **options)
        fields = fields_of(trunk)
        columns = [(field.size, field.jump, field.centre, field.overlap) for field in fields.values()]
        cells = (" ".join(f"{number:g}" for number in column) for column in zip(*columns, strict=True))
        print(f"| `{called}` | {' '.join(fields)} | {' | '.join(cells)} |")


def curves(out: str, *runs: str) -> None:
    """The watched score over the steps of several runs, with the trivial baseline."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes, watch = figure.subplots(), {}
    for run in runs:
        name, folder = run.split("=", 1)
        watch = json.loads((Path(folder) / "result.json").read_text())["watch"]
        lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
        scored = [line for line in lines if line["kind"] == "eval"]
        axes.plot([line["step"] for line in scored], [line[watch["name"]] for line in scored], "o-", ms=3, label=name)
    axes.axhline(watch["baseline"], color="grey", ls="--", lw=1, label="trivial baseline")
    axes.set(xlabel="step", title=f"{watch['name']} on unseen frames")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(out, dpi=110)


WINDOW = 220
DIRTIED = (0, 3, 5, 8, 10, 16)


def _photographs(side: int) -> list[np.ndarray]:
    """The middles of photographs with open terms, at their own size."""
    from skimage import data

    middles = []
    for name in PHOTOGRAPHS:
        picture = getattr(data, name)()
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        middles.append(np.ascontiguousarray(picture[top : top + side, left : left + side]))
    return middles


def degradations() -> None:
    """docs/degradations.jpg: clean photographs and worlds, and below them one row per degradation."""
    from densevision.datasets.worlds.weather import DEGRADATIONS, degrade

    size = (160, 160)
    worlds = [open_dataset(name, split="test").at(size).read(7)["image"] for name in ("shapes", "rooms")]
    pictures = [*_photographs(size[0]), *worlds]
    rows = [tile(pictures)]
    for number, name in enumerate(DEGRADATIONS):
        streams = (np.random.default_rng((number, place)) for place in range(len(pictures)))
        rows.append(tile([degrade(one, rng, [name]) for one, rng in zip(pictures, streams, strict=True)]))
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    write_picture(DOCS / "degradations.jpg", np.concatenate([part for row in rows for part in (row, gap)][:-1]))


def restored(checkpoint: str) -> None:
    """docs/restored.png: two columns of unseen pictures of the embedded world: degraded, truth, answer."""
    predictor = load(checkpoint)
    world = predictor.task.examined(open_dataset("weather", split="test").at(predictor.size))
    shown = [(sample, predictor.answer(sample)) for sample in map(world.read, DIRTIED)]
    half = len(shown) // 2
    columns = [draw_sheet(predictor.task, world.fields, part) for part in (shown[:half], shown[half:])]
    write_picture(DOCS / "restored.png", tile(columns))


def windows(checkpoint: str = "restoration") -> None:
    """docs/windows.jpg: photographs behind dirt (two) and rain (two), above what the network makes of them."""
    from densevision.datasets.worlds.weather import degrade

    predictor, columns = load(checkpoint), []
    for number, clean in enumerate(_photographs(WINDOW)):
        dirty = degrade(clean, np.random.default_rng(number), ["dirt" if number < 2 else "rain"])
        answer = predictor.predict(dirty).picture()
        columns.append(np.concatenate([dirty, np.full((GAP, WINDOW, 3), 255, np.uint8), answer]))
    write_picture(DOCS / "windows.jpg", tile(columns))


if __name__ == "__main__":
    commands = {
        command.__name__: command
        for command in (
            rooms,
            shapes,
            photographs,
            coloured,
            coloured_shapes,
            receptive_fields,
            field_table,
            degradations,
            restored,
            windows,
            curves,
        )
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
