"""The pictures of docs/visualization.md, made by the commands that stand beside them.

python docs/visualization.py style VGG19 docs/visualize-style.jpg                photographs, painted
python docs/visualization.py filters ALEXNET docs/visualize-filters.jpg          the first layer
python docs/visualization.py activations RESNET50 docs/visualize-activations.jpg what levels make of a photograph
python docs/visualization.py attribution RESNET50 docs/visualize-attribution.jpg what speaks for a class, seven ways
python docs/visualization.py correspond RESNET50 docs/visualize-correspond.jpg   patches and their nearest neighbours
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from painting import painting

from densevision.apps.visualize import activations as of_level
from densevision.apps.visualize import correspondence, drawing
from densevision.apps.visualize import filters as of_first_layer
from densevision.apps.visualize.back_propagation import deconvnet, guided_backpropagation
from densevision.apps.visualize.folder import pictures_in, resized, size_with, to_pixels
from densevision.apps.visualize.grad_cam import grad_cam
from densevision.apps.visualize.gradients import gradient_times_input, integrated_gradients
from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.saliency import saliency
from densevision.apps.visualize.style import Recipe, transfer_style
from densevision.apps.visualize.subject import open_subject
from densevision.apps.visualize.tiles import captioned, fitted, grid
from densevision.datasets.formats.picture import write_picture

QUALITY = 88
PAINTED = (
    ("chelsea", "painting", "style", 100.0),
    ("astronaut", "painting", "matched", 300.0),
    ("coffee", "stains", "style", 300.0),
)
LONG = 320
BLOCK = 7
"""Pixels of a side of the blocks over which signed maps are summed."""
TILE = 224
ENLARGED = {"coins": 2}
TILED = ("chelsea", "coins", "brick", "stereo_motorcycle", "astronaut", "coffee", "rocket", "grass", "gravel", "camera")
# Photograph, its tile, and a place of the tile.
SOUGHT = (("chelsea", 0, 170, 118), ("coins", 0, 165, 110), ("brick", 0, 112, 112), ("stereo_motorcycle", 5, 152, 156))


def photographs(name: str) -> list[np.ndarray]:
    """scikit-image's photographs of a name, (H, W, 3) uint8; two of a stereo pair."""
    from skimage import data

    made = getattr(data, name)()
    views = made[:2] if isinstance(made, tuple) else (made,)
    return [np.repeat(view[..., None], 3, -1) if view.ndim == 2 else view for view in views]


def style(weights: str, out: str) -> None:
    """A row a photograph: itself, what is imitated, and the result."""
    subject, cells = open_subject("vgg19", weights), []
    for name, manner, colours, weight in PAINTED:
        (content,) = photographs(name)
        imitated = painting() if manner == "painting" else photographs("immunohistochemistry")[0]
        pixels, like = (to_pixels(resized(each, size_with(each.shape[:2], long=LONG))) for each in (content, imitated))
        recipe = Recipe(steps=120, style_weight=weight, colours=colours)  # type: ignore[arg-type]
        made = transfer_style(subject, pixels, [like], recipe, report=lambda losses: print(*losses))
        cells += [fitted(drawing.photograph(each), (240, LONG)) for each in (pixels, like, made)]
    write_picture(out, grid(cells, 3), QUALITY)


def filters(weights: str, out: str) -> None:
    """The 96 filters of AlexNet's first layer."""
    write_picture(out, of_first_layer.draw_filters(of_first_layer.filters(open_subject("alexnet", weights))), 95)


def activations(weights: str, out: str) -> None:
    """A row a level: its most active channels on the cat."""
    subject, rows = open_subject("resnet50", weights), []
    pixels = subject.pixels(*photographs("chelsea"))
    for level in ("stem", "layer1", "layer2", "layer3"):
        maps = of_level.activations(subject, pixels, level)
        for channel in of_level.chosen_channels(maps, 8):
            rows.append(captioned(fitted(drawing.brightness(maps[channel]), (112, 112)), f"{level}:{channel}"))
    write_picture(out, grid(rows, 8), QUALITY)


def attribution(weights: str, out: str) -> None:
    """What of a photograph speaks for a class. The signed maps are sums over blocks, or they would be dust."""
    subject = open_subject("resnet50", weights)
    pixels = subject.pixels(*photographs("coffee"))
    probe, unit = parse_probe("class:espresso", subject), parse_probe("layer2:337", subject)
    shown = drawing.photograph(pixels[0])
    integrated = integrated_gradients(subject, pixels, probe, steps=50)
    print(f"integrated gradients: delta {integrated.delta:.2%}")
    cells = {
        str(probe): shown,
        "saliency": drawing.brightness(saliency(subject, pixels, probe)[0]),
        "SmoothGrad, 30 copies": drawing.brightness(saliency(subject, pixels, probe, smooth=30)[0]),
        "guided backpropagation": drawing.in_colour(guided_backpropagation(subject, pixels, probe)[0]),
        f"deconvnet, {unit}": drawing.in_colour(deconvnet(subject, pixels, unit)[0]),
        "gradient x input": drawing.signed_over(shown, in_blocks(gradient_times_input(subject, pixels, probe).maps[0])),
        "integrated gradients": drawing.signed_over(shown, in_blocks(integrated.maps[0])),
        "Grad-CAM, layer4": drawing.over(shown, grad_cam(subject, pixels, probe).pixels),
    }
    write_picture(out, grid([captioned(picture, words) for words, picture in cells.items()], 4), QUALITY)


def in_blocks(shares: np.ndarray) -> np.ndarray:
    """(H, W) with the sum of every block in all of its pixels."""
    height, width = shares.shape
    sums = shares.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum((1, 3))
    return np.kron(sums, np.ones((BLOCK, BLOCK), np.float32))


def correspond(weights: str, out: str) -> None:
    """Patches of photographs, and their nearest neighbours among tiles of photographs that do not overlap."""
    subject, rows = open_subject("resnet50", weights), []
    with TemporaryDirectory() as folder:
        for name in TILED:
            for view, picture in enumerate(photographs(name)):
                height, width = (side * ENLARGED.get(name, 1) for side in picture.shape[:2])
                picture = resized(picture, (height, width))
                corners = [(y, x) for y in range(0, height - TILE + 1, TILE) for x in range(0, width - TILE + 1, TILE)]
                for number, (y, x) in enumerate(corners):
                    write_picture(Path(folder, f"{name}-{view}-{number}.png"), picture[y : y + TILE, x : x + TILE])
        tiles = pictures_in(Path(folder))
        for name, number, x, y in SOUGHT:
            query = Path(folder, f"{name}-0-{number}.png")
            others = [tile for tile in tiles if tile != query]
            rows += correspondence.correspondences(subject, query, others, "layer2", [(x, y)], count=6, short=TILE)
            print(query.stem, *(f"{each.path.stem} {each.likeness:.3f}" for each in rows[-1].neighbours if each.path))
    write_picture(out, correspondence.draw_correspondences(rows), QUALITY)


COMMANDS: dict[str, Callable[[str, str], None]] = {
    "style": style,
    "filters": filters,
    "activations": activations,
    "attribution": attribution,
    "correspond": correspond,
}

if __name__ == "__main__":
    _, command, *words = sys.argv
    COMMANDS[command](*words)
