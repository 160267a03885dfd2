"""Figures of docs/visualization.md.

python tools/figures/visualization.py attribution RESNET50 OUT                attribution maps of a class, seven methods
python tools/figures/visualization.py deconvnet ALEXNET OUT                   deconvnet of the most active units
python tools/figures/visualization.py occlusion RESNET50 OUT                  occlusion maps of three patches
python tools/figures/visualization.py feature-visualization RESNET50 OUT      images that maximize eight classes
python tools/figures/visualization.py feature-inversion RESNET50 ALEXNET OUT  reconstructions from the levels' features
python tools/figures/visualization.py deepdream RESNET50 OUT                  DeepDream of two levels, and guided
python tools/figures/visualization.py nearest-patches RESNET50 OUT            patches and their nearest neighbors
python tools/figures/visualization.py style-transfer VGG19 OUT                photos, style images and results
python tools/figures/visualization.py filters ALEXNET OUT                     filters of the first layer
python tools/figures/visualization.py activations RESNET50 OUT                activation maps of several levels

RESNET50, ALEXNET and VGG19 are weights files; OUT is docs/visualize-NAME.jpg with the name of the command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from painting import painting

from densevision.datasets.core.drawing import add_caption, fit_to_cell, image_grid, overlay_diverging
from densevision.datasets.formats.image import write_image
from densevision.visualize.attribution.grad_cam import grad_cam
from densevision.visualize.attribution.guided_backprop import deconvnet, guided_backprop, most_active_neuron
from densevision.visualize.attribution.integrated_gradients import input_x_gradient, integrated_gradients
from densevision.visualize.attribution.occlusion import occlusion
from densevision.visualize.attribution.saliency import saliency
from densevision.visualize.core import images as render
from densevision.visualize.core.images import list_images, resize, scaled_size, to_pixels
from densevision.visualize.core.model import open_model
from densevision.visualize.core.objectives import Channel
from densevision.visualize.core.targets import parse_target
from densevision.visualize.correspondence import patches
from densevision.visualize.correspondence.receptive_field import unit_fields
from densevision.visualize.features import activations as activations_module
from densevision.visualize.features.deep_dream import DreamOptions, amplify, resolve_dream_target
from densevision.visualize.features.feature_inversion import feature_inversion
from densevision.visualize.features.feature_visualization import feature_visualization
from densevision.visualize.features.style_transfer import StyleOptions, transfer_style

QUALITY = 88
STYLED = (
    ("chelsea", "painting", "none", 100.0),
    ("astronaut", "painting", "match", 300.0),
    ("coffee", "stains", "none", 300.0),
)
"""Photo, style image, how colors are preserved, and weight of the style."""
LONG_SIDE = 320
BLOCK = 7
"""Side in pixels of the blocks over which signed maps are summed."""
TILE = 224
ENLARGED = {"coins": 2}
TILED = ("chelsea", "coins", "brick", "stereo_motorcycle", "astronaut", "coffee", "rocket", "grass", "gravel", "camera")
ALEXNET_LEVELS = tuple(f"convolutions.relu{number}" for number in range(1, 6))
CLASSES = ("goldfish", "flamingo", "pineapple", "tarantula", "monarch", "zebra", "strawberry", "daisy")
# A patch changes the scores of all classes; the difference of two classes shows what it changes between them.
OCCLUDED = (
    ("coffee", "class:espresso"),
    ("chelsea", "class:tabby"),
    ("chelsea", "class:tabby - class:Egyptian cat"),
)
QUERIES = (
    ("chelsea", 0, 170, 118),
    ("coins", 0, 165, 110),
    ("brick", 0, 112, 112),
    ("stereo_motorcycle", 5, 152, 156),
)
"""Photo, number of its tile, and a position (x, y) in the tile."""


def photos(name: str) -> list[np.ndarray]:
    """The photo of scikit-image with a name, (H, W, 3) uint8; both images of a stereo pair."""
    from skimage import data

    loaded = getattr(data, name)()
    images = loaded[:2] if isinstance(loaded, tuple) else (loaded,)
    return [np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image for image in images]


def style_transfer(weights: str, out: str) -> None:
    """One row per photo: the photo, the style image, and the result."""
    model, cells = open_model("vgg19", weights), []
    for name, style_name, preserve_color, weight in STYLED:
        (photo,) = photos(name)
        painted = painting() if style_name == "painting" else photos("immunohistochemistry")[0]
        content, style = (
            to_pixels(resize(image, scaled_size(image.shape[:2], long_side=LONG_SIDE))) for image in (photo, painted)
        )
        options = StyleOptions(steps=120, style_weight=weight, preserve_color=preserve_color)  # type: ignore[arg-type]
        result = transfer_style(model, content, [style], options, callback=lambda losses: print(*losses))
        images = [render.to_uint8_image(pixels) for pixels in (content, style, result)]
        cells += [fit_to_cell(image, (240, LONG_SIDE)) for image in images]
    write_image(out, image_grid(cells, 3), QUALITY)


def filters(weights: str, out: str) -> None:
    """The 96 filters of AlexNet's first layer."""
    write_image(out, activations_module.filters(open_model("alexnet", weights)).image, 95)


def activations(weights: str, out: str) -> None:
    """One row per level: its most active channels on the photo of a cat."""
    model, cells = open_model("resnet50", weights), []
    pixels = model.pixels(*photos("chelsea"))
    for level in ("stem", "layer1", "layer2", "layer3"):
        maps = activations_module.activations(model, pixels, level).array
        for channel in activations_module.select_channels(maps, 8):
            cell = fit_to_cell(render.intensity_map(maps[channel]), (112, 112))
            cells.append(add_caption(cell, f"{level}:{channel}"))
    write_image(out, image_grid(cells, 8), QUALITY)


def attribution(weights: str, out: str) -> None:
    """Attribution maps of a class by seven methods; signed maps are summed over blocks, or they look like noise."""
    model = open_model("resnet50", weights)
    pixels = model.pixels(*photos("coffee"))
    target = parse_target("class:espresso", model)
    photo = render.to_uint8_image(pixels[0])
    integrated = integrated_gradients(model, pixels, target, steps=50)
    print(f"integrated gradients: delta {integrated.delta:.2%}")
    product = input_x_gradient(model, pixels, target)
    cells = {
        str(target): photo,
        "saliency": render.intensity_map(saliency(model, pixels, target).array[0]),
        "SmoothGrad, 30 samples": render.intensity_map(saliency(model, pixels, target, smoothgrad_samples=30).array[0]),
        "guided backpropagation": render.to_rgb(guided_backprop(model, pixels, target).array[0]),
        "input x gradient": overlay_diverging(photo, in_blocks(product.array[0])),
        "integrated gradients": overlay_diverging(photo, in_blocks(integrated.array[0])),
        "Grad-CAM, layer4": render.overlay_heatmap(photo, grad_cam(model, pixels, target).array),
        "occlusion, 64 px": overlay_diverging(photo, occlusion(model, pixels, target, patch=64).pixels[0]),
    }
    write_image(out, image_grid([add_caption(image, caption) for caption, image in cells.items()], 4), QUALITY)


def in_blocks(values: np.ndarray) -> np.ndarray:
    """A map (H, W) with the sum of each block in all of its pixels; H and W are multiples of `BLOCK`."""
    height, width = values.shape
    sums = values.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).sum((1, 3))
    return np.kron(sums, np.ones((BLOCK, BLOCK), np.float32))


def nearest_neighbors(weights: str, out: str) -> None:
    """One row per patch of a photo: its nearest neighbors among tiles of photos that do not overlap with it."""
    model, rows = open_model("resnet50", weights), []
    with TemporaryDirectory() as folder:
        for name in TILED:
            for view, image in enumerate(photos(name)):
                height, width = (side * ENLARGED.get(name, 1) for side in image.shape[:2])
                image = resize(image, (height, width))
                corners = [(y, x) for y in range(0, height - TILE + 1, TILE) for x in range(0, width - TILE + 1, TILE)]
                for number, (y, x) in enumerate(corners):
                    write_image(Path(folder, f"{name}-{view}-{number}.png"), image[y : y + TILE, x : x + TILE])
        tiles = list_images(Path(folder))
        for name, number, x, y in QUERIES:
            query = Path(folder, f"{name}-0-{number}.png")
            others = [tile for tile in tiles if tile != query]
            rows += patches.find_correspondences(model, query, others, "layer2", [(x, y)], count=6, short_side=TILE)
            print(query.stem, *(f"{each.path.stem} {each.similarity:.3f}" for each in rows[-1].neighbors if each.path))
    write_image(out, patches.draw_correspondences(rows), QUALITY)


def class_visualizations(weights: str, out: str) -> None:
    """Images that maximize eight classes, optimized in one batch."""
    model = open_model("resnet50", weights)
    result = feature_visualization(model, [f"class:{name}" for name in CLASSES], amp="auto", progress=print)
    images = [render.to_uint8_image(torch.from_numpy(pixels)) for pixels in result.array]
    cells = [add_caption(image, name) for image, name in zip(images, CLASSES, strict=True)]
    write_image(out, image_grid(cells, 4), QUALITY)


def feature_inversions(resnet: str, alexnet: str, out: str) -> None:
    """One row per photo and backbone: the photo, and its reconstruction from the features of each level."""
    cells = []
    for backbone, weights, names, levels in (
        ("resnet50", resnet, ("chelsea", "coffee"), ("layer1", "layer2", "layer3", "layer4")),
        ("alexnet", alexnet, ("chelsea", "coffee"), ALEXNET_LEVELS[1:]),
    ):
        model = open_model(backbone, weights)
        for name in names:
            pixels = model.pixels(*photos(name))
            photo = fit_to_cell(render.to_uint8_image(pixels[0]), (TILE, TILE))
            cells.append(add_caption(photo, f"{name}, {backbone}"))
            for level in levels:
                result = feature_inversion(model, pixels, level, steps=200, amp="auto")
                reconstruction = fit_to_cell(render.to_uint8_image(torch.from_numpy(result.array)), (TILE, TILE))
                cells.append(add_caption(reconstruction, f"{level.split('.')[-1]}: error {result.error:.3f}"))
                print(name, backbone, level, result.error, flush=True)
    write_image(out, image_grid(cells, 5), QUALITY)


def deepdreams(weights: str, out: str) -> None:
    """One row per photo: the photo, DeepDream of two levels, and DeepDream guided by another photo."""
    model, cells = open_model("resnet50", weights), []
    for name, guide_name in (("astronaut", "chelsea"), ("coffee", "coins")):
        (photo,), guide = photos(name), model.pixels(*photos(guide_name))
        pixels = to_pixels(resize(photo, scaled_size(photo.shape[:2], long_side=LONG_SIDE)))
        cells.append(add_caption(fit_to_cell(render.to_uint8_image(pixels), (240, LONG_SIDE)), name))
        for level, guided_by in (("layer2", None), ("layer3", None), ("layer3", guide)):
            objective = resolve_dream_target(level, model, guided_by)
            (dreamed,) = amplify(model, (pixels,), objective, DreamOptions(amp="auto"))
            caption = str(objective).replace("the guide", guide_name)
            cells.append(add_caption(fit_to_cell(render.to_uint8_image(dreamed), (240, LONG_SIDE)), caption))
    write_image(out, image_grid(cells, 4), QUALITY)


def occlusions(weights: str, out: str) -> None:
    """One row per target: the photo, then the maps of a gray patch, a larger one, and a blurred one."""
    model, cells = open_model("resnet50", weights), []
    for name, target_name in OCCLUDED:
        pixels, target = model.pixels(*photos(name)), parse_target(target_name, model)
        photo = render.to_uint8_image(pixels[0])
        cells.append(add_caption(photo, target_name))
        for patch, baseline in ((32, "gray"), (64, "gray"), (64, "blurred")):
            result = occlusion(model, pixels, target, patch=patch, baseline=baseline)  # type: ignore[arg-type]
            overlay = overlay_diverging(photo, result.pixels[0])
            largest = np.abs(result.array).max()
            cells.append(add_caption(overlay, f"{baseline}, {patch} px: {largest:.1f} at most"))
            print(name, target_name, patch, baseline, result.array.min(), result.array.max(), flush=True)
    write_image(out, image_grid(cells, 4), QUALITY)


def deconvnets(weights: str, out: str) -> None:
    """One row per layer: deconvnet of the units most active on a photo, each beside the crop of its receptive field."""
    model, cells = open_model("alexnet", weights), []
    for name in ("chelsea", "astronaut"):
        pixels = model.pixels(*photos(name))
        photo = render.to_uint8_image(pixels[0])
        for layer in ALEXNET_LEVELS[2:]:
            (maps,) = model.forward(pixels, (layer,), run_output=False).levels[layer].detach()
            # A ReLU has the receptive field of its convolution.
            field = unit_fields(model, layer.replace("relu", "conv"))
            for channel in maps.flatten(1).amax(1).argsort(descending=True)[:4].tolist():
                unit = most_active_neuron(model, pixels, Channel(layer, channel))
                window = field.window(unit.x, unit.y)
                (projection,) = deconvnet(model, pixels, unit).array
                image = render.to_rgb(window.crop(projection.transpose(1, 2, 0)).transpose(2, 0, 1))
                pair = [fit_to_cell(each, (112, 112)) for each in (image, window.crop(photo))]
                cells.append(add_caption(np.concatenate(pair, axis=1), str(unit).removeprefix("convolutions.")))
    write_image(out, image_grid(cells, 4), QUALITY)


COMMANDS: dict[str, Callable[..., None]] = {
    "attribution": attribution,
    "deconvnet": deconvnets,
    "occlusion": occlusions,
    "feature-visualization": class_visualizations,
    "feature-inversion": feature_inversions,
    "deepdream": deepdreams,
    "nearest-patches": nearest_neighbors,
    "style-transfer": style_transfer,
    "filters": filters,
    "activations": activations,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
