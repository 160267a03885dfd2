"""The pictures of docs/visualization.md, made by the commands that stand beside them.

python docs/visualization.py style VGG19 docs/visualize-style.jpg                photographs, painted
python docs/visualization.py filters ALEXNET docs/visualize-filters.jpg          the first layer
python docs/visualization.py activations RESNET50 docs/visualize-activations.jpg what levels make of a photograph
python docs/visualization.py attribution RESNET50 docs/visualize-attribution.jpg what speaks for a class, seven ways
python docs/visualization.py deconvnet ALEXNET docs/visualize-deconvnet.jpg      of what units are made
python docs/visualization.py occlusion RESNET50 docs/visualize-occlusion.jpg     what is lost when a patch is covered
python docs/visualization.py classes RESNET50 docs/visualize-classes.jpg         what eight classes look for
python docs/visualization.py inversions RESNET50 ALEXNET docs/visualize-inversions.jpg   what levels still know
python docs/visualization.py dream RESNET50 docs/visualize-dream.jpg             photographs, dreamt in
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
from densevision.apps.visualize.back_propagation import deconvnet, guided_backpropagation, strongest_unit
from densevision.apps.visualize.deep_dream import Dream, deep_dream
from densevision.apps.visualize.dreams import parse_dream
from densevision.apps.visualize.folder import pictures_in, resized, size_with, to_pixels
from densevision.apps.visualize.grad_cam import grad_cam
from densevision.apps.visualize.gradients import gradient_times_input, integrated_gradients
from densevision.apps.visualize.inversion import Inversion, invert
from densevision.apps.visualize.maximize import Ascent, maximize
from densevision.apps.visualize.measures import Channel, Each
from densevision.apps.visualize.occlusion import occlusion
from densevision.apps.visualize.patches import fields_of
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
ALEXNET_LEVELS = tuple(f"convolutions.relu{number}" for number in range(1, 6))
CLASSES = ("goldfish", "flamingo", "pineapple", "tarantula", "monarch", "zebra", "strawberry", "daisy")
# A patch changes the scores of all classes; a difference asks what it changes between two.
OCCLUDED = (
    ("coffee", "class:espresso"),
    ("chelsea", "class:tabby"),
    ("chelsea", "class:tabby - class:Egyptian cat"),
)
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
    probe = parse_probe("class:espresso", subject)
    shown = drawing.photograph(pixels[0])
    integrated = integrated_gradients(subject, pixels, probe, steps=50)
    print(f"integrated gradients: delta {integrated.delta:.2%}")
    cells = {
        str(probe): shown,
        "saliency": drawing.brightness(saliency(subject, pixels, probe)[0]),
        "SmoothGrad, 30 copies": drawing.brightness(saliency(subject, pixels, probe, smooth=30)[0]),
        "guided backpropagation": drawing.in_colour(guided_backpropagation(subject, pixels, probe)[0]),
        "gradient x input": drawing.signed_over(shown, in_blocks(gradient_times_input(subject, pixels, probe).maps[0])),
        "integrated gradients": drawing.signed_over(shown, in_blocks(integrated.maps[0])),
        "Grad-CAM, layer4": drawing.over(shown, grad_cam(subject, pixels, probe).pixels),
        "occlusion, 64 px": drawing.signed_over(shown, occlusion(subject, pixels, probe, 64).pixels[0]),
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


def classes(weights: str, out: str) -> None:
    """Eight classes, painted together."""
    subject = open_subject("resnet50", weights)
    probes = tuple(parse_probe(f"class:{name}", subject) for name in CLASSES)
    made = maximize(subject, Each(probes), count=len(probes), ascent=Ascent(amp="auto"), told=print)
    cells = [captioned(drawing.photograph(one), name) for one, name in zip(made.pixels[0], CLASSES, strict=True)]
    write_picture(out, grid(cells, 4), QUALITY)


def inversions(resnet: str, alexnet: str, out: str) -> None:
    """A row a photograph and a network: the photograph, and what each level still knows of it."""
    cells = []
    for network, weights, names, levels in (
        ("resnet50", resnet, ("chelsea", "coffee"), ("layer1", "layer2", "layer3", "layer4")),
        ("alexnet", alexnet, ("chelsea", "coffee"), ALEXNET_LEVELS[1:]),
    ):
        subject = open_subject(network, weights)
        for name in names:
            pixels = subject.pixels(*photographs(name))
            cells.append(captioned(fitted(drawing.photograph(pixels[0]), (TILE, TILE)), f"{name}, {network}"))
            for level in levels:
                made = invert(subject, pixels, level, Inversion(steps=200, amp="auto"))
                shown = fitted(drawing.photograph(made.pixels[0]), (TILE, TILE))
                cells.append(captioned(shown, f"{level.split('.')[-1]}: error {made.error:.3f}"))
                print(name, network, level, made.error, flush=True)
    write_picture(out, grid(cells, 5), QUALITY)


def dream(weights: str, out: str) -> None:
    """A row a photograph: itself, two levels' dreams, and a dream of a guide's."""
    subject, cells = open_subject("resnet50", weights), []
    for name, leader in (("astronaut", "chelsea"), ("coffee", "coins")):
        (picture,), guide = photographs(name), subject.pixels(*photographs(leader))
        pixels = to_pixels(resized(picture, size_with(picture.shape[:2], long=LONG)))
        cells.append(captioned(fitted(drawing.photograph(pixels), (240, LONG)), name))
        for level, like in (("layer2", None), ("layer3", None), ("layer3", guide)):
            wish = parse_dream(level, subject, like)
            (made,) = deep_dream(subject, (pixels,), wish, Dream(amp="auto"))
            said = str(wish).replace("the guide", leader)
            cells.append(captioned(fitted(drawing.photograph(made), (240, LONG)), said))
    write_picture(out, grid(cells, 4), QUALITY)


def occlude(weights: str, out: str) -> None:
    """A row a question: the photograph, a grey patch, a larger one, and a blurred one."""
    subject, cells = open_subject("resnet50", weights), []
    for name, asked in OCCLUDED:
        pixels, probe = subject.pixels(*photographs(name)), parse_probe(asked, subject)
        shown = drawing.photograph(pixels[0])
        cells.append(captioned(shown, asked))
        for patch, fill in ((32, "grey"), (64, "grey"), (64, "blurred")):
            found = occlusion(subject, pixels, probe, patch, 8, fill)  # type: ignore[arg-type]
            drawn = drawing.signed_over(shown, found.pixels[0])
            cells.append(captioned(drawn, f"{fill}, {patch} px: {np.abs(found.scores).max():.1f} at most"))
            print(name, asked, patch, fill, found.scores.min(), found.scores.max(), flush=True)
    write_picture(out, grid(cells, 4), QUALITY)


def deconvolved(weights: str, out: str) -> None:
    """A row a layer: the units most active on a photograph, each beside what it sees of it."""
    subject, cells = open_subject("alexnet", weights), []
    for name in ("chelsea", "astronaut"):
        pixels = subject.pixels(*photographs(name))
        shown = drawing.photograph(pixels[0])
        for layer in ALEXNET_LEVELS[2:]:
            (maps,) = subject.look(pixels, (layer,), answer=False).levels[layer].detach()
            # A ReLU sees what its convolution sees.
            field = fields_of(subject, layer.replace("relu", "conv"))
            for channel in maps.flatten(1).amax(1).argsort(descending=True)[:4].tolist():
                unit = strongest_unit(subject, pixels, Channel(layer, channel))
                window = field.window(unit.x, unit.y)
                (made,) = deconvnet(subject, pixels, unit)
                made = drawing.in_colour(window.cut(made.transpose(1, 2, 0)).transpose(2, 0, 1))
                pair = [fitted(each, (112, 112)) for each in (made, window.cut(shown))]
                cells.append(captioned(np.concatenate(pair, axis=1), str(unit).removeprefix("convolutions.")))
    write_picture(out, grid(cells, 4), QUALITY)


COMMANDS: dict[str, Callable[..., None]] = {
    "deconvnet": deconvolved,
    "occlusion": occlude,
    "classes": classes,
    "inversions": inversions,
    "dream": dream,
    "style": style,
    "filters": filters,
    "activations": activations,
    "attribution": attribution,
    "correspond": correspond,
}

if __name__ == "__main__":
    _, command, *words = sys.argv
    COMMANDS[command](*words)
