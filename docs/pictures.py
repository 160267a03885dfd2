"""The pictures of the docs, made by the commands that stand beside them.

python docs/pictures.py rooms runs/depth-1/best.safetensors      unseen rooms: picture, truth, prediction
python docs/pictures.py photographs                              scikit-image's photographs and the shipped depth
python docs/pictures.py curves OUT.png NAME=RUN [NAME=RUN ...]   watched scores of several runs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from densevision import load
from densevision.datasets import open_dataset
from densevision.datasets.formats.picture import write_picture
from densevision.tasks.sheet import GAP, draw_sheet, tile

DOCS = Path(__file__).parent
ROOMS = (3, 7, 12, 21, 28, 33)
PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
HEIGHT = 200


def rooms(checkpoint: str) -> None:
    """docs/rooms.png: two columns of unseen rooms, drawn at twice the size the network answers at."""
    predictor = load(checkpoint)
    world = open_dataset("rooms", split="test").at(predictor.size)
    shown = [(sample, predictor.answer(sample)) for sample in map(world.read, ROOMS)]
    half = len(shown) // 2
    columns = [draw_sheet(predictor.task, world.fields, part) for part in (shown[:half], shown[half:])]
    write_picture(DOCS / "rooms.png", tile(columns))


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


if __name__ == "__main__":
    commands = {command.__name__: command for command in (rooms, photographs, curves)}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
