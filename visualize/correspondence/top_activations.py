"""Image patches of a folder that activate a channel most.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901, figure 2: for
every image the most active unit of the channel, and over all images the strongest of these, cropped at their receptive
fields. Other objectives rank entire images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import numpy as np

    from ..core.model import InspectedModel
    from ..core.objectives import Objective
    from .receptive_field import Window

CELL = 160
"""Size of a patch in the grid, in pixels."""


class TopActivation(NamedTuple):
    """An image with a high score.

    Attributes:
        path: image file.
        value: score of the objective.
        image: (H, W, 3) uint8, the model input.
        window: receptive field of the unit, clipped to the image; the entire image for other objectives.
    """

    path: Path
    value: float
    image: np.ndarray
    window: Window

    @property
    def patch(self) -> np.ndarray:
        """The image cropped to the window, (h, w, 3) uint8."""
        return self.window.crop(self.image)


def rank_images(
    model: InspectedModel,
    images: Sequence[Path],
    objective: Objective,
    count: int = 9,
    callback: Callable[[int, int], None] = lambda done, total: None,
) -> list[TopActivation]:
    """Images with the highest scores, in descending order; ties keep the order of the input.

    Args:
        model: a model with one input.
        images: files, preprocessed as at inference.
        objective: for a channel, the activation of its most active unit (not the mean); a neuron has a fixed position,
            pixels are those of each original image.
        count: maximum number of images.
        callback: called after every image with the number of images done and in total.

    Raises:
        UserError: no image activates the unit, or a file is not an image.
    """
    import torch

    from ...errors import UserError
    from ..core.images import to_uint8_image
    from ..core.objectives import Channel, Neuron, evaluate_objective
    from .receptive_field import Fields, Window, unit_fields

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    fields: Fields | None = unit_fields(model, objective.level) if isinstance(objective, Channel) else None
    best: list[TopActivation] = []
    for done, path in enumerate(images, 1):
        model_input = model.preprocess(path)
        pixels = model_input.pixels
        with torch.no_grad():
            score, result = evaluate_objective(model, pixels, objective.on_image(model_input))
            value, x, y = float(score), 0, 0
            if isinstance(objective, Channel):
                channel = objective.activation_map(result)[0]
                x, y = (
                    (objective.x, objective.y)
                    if isinstance(objective, Neuron)
                    else divmod(int(channel.argmax()), channel.shape[-1])[::-1]
                )
                value = float(channel[y, x])
        image = to_uint8_image(pixels[0])
        window = fields.window(x, y) if fields else Window(0, 0, image.shape[1], image.shape[0])
        best.append(TopActivation(path, value, image, window.clip((image.shape[0], image.shape[1]))))
        best = sorted(best, key=lambda each: -each.value)[:count]
        callback(done, len(images))
    if isinstance(objective, Channel):
        best = [each for each in best if each.value > 0]
        if not best:
            raise UserError(
                f"None of the {len(images)} images activates {objective}; choose another channel or folder."
            )
    return best


def draw_top_activations(results: Sequence[TopActivation]) -> np.ndarray:
    """Grid of the patches, (H, W, 3) uint8, with their scores."""
    import math

    from ...datasets.core.drawing import add_caption, fit_to_cell, image_grid

    cells = [add_caption(fit_to_cell(each.patch, (CELL, CELL)), f"{each.value:.4g}") for each in results]
    return image_grid(cells, math.ceil(math.sqrt(len(cells))))


def top_activations(
    model: Any,
    folder: Any,
    target: Any,
    *,
    count: int = 9,
    subset: int | None = None,
    progress: Progress | None = None,
) -> Visualization:
    """Draw the patches of a folder of images that activate a channel most, cropped at the receptive field.

    Args:
        model: see `inspect_model`.
        folder: folder of images, including subfolders; or a list of files.
        target: channel (layer3:17, its most active unit), unit (layer3:17@12,8), or any other target for entire images.
        count: number of patches.
        subset: maximum number of images to search, evenly spaced over the folder; all if not stated.
        progress: called after every image.

    Returns:
        array: (N,) float32, the scores in descending order.

    Raises:
        UserError: no image activates the unit, or a file is not an image.
    """
    import numpy as np

    from ..core.images import images_in
    from ..core.model import inspect_model
    from ..core.targets import resolve_target

    images, model = images_in(folder, subset), inspect_model(model)
    report = (lambda done, total: progress(done, total, {})) if progress else (lambda done, total: None)
    results = rank_images(model, images, resolve_target(target, model), count, report)
    values = np.array([each.value for each in results], np.float32)
    notes = tuple(f"{each.value:10.4g}  {each.path}" for each in results)
    return Visualization(values, draw_top_activations(results), notes)
