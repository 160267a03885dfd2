"""`densevision visualize top-activations`: image patches of a folder that activate a channel most.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901, figure 2: for
every image the most active unit of the channel, and over all images the strongest of these, cropped at their receptive
fields. Other objectives rank entire images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from ..core.options import ModelOptions

if TYPE_CHECKING:
    import numpy as np

    from ..core.model import InspectedModel
    from ..core.objectives import Objective
    from .receptive_crop import Window

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


def top_activations(
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
    from ..core.gradients import evaluate_objective
    from ..core.objectives import Channel, Neuron
    from ..core.render import to_uint8_image
    from .receptive_crop import Fields, Window, unit_fields

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

    from ..core.image_grid import add_caption, fit_to_cell, image_grid

    cells = [add_caption(fit_to_cell(each.patch, (CELL, CELL)), f"{each.value:.4g}") for each in results]
    return image_grid(cells, math.ceil(math.sqrt(len(cells))))


def show_top_activations(
    model_options: Annotated[ModelOptions, Parameter(name="*")],
    *,
    folder: Path,
    target: str,
    out: Path,
    count: int = 9,
    subset: int | None = None,
) -> None:
    """Draw the patches of a folder of images that activate a channel most, cropped at the receptive field.

    Args:
        folder: Folder of images, including subfolders.
        target: Channel (layer3:17, its most active unit), unit (layer3:17@12,8), or any other target for entire images.
        out: Output image (.png); the scores are written to the same name with .npy.
        count: Number of patches.
        subset: Maximum number of images to search, evenly spaced over the folder; all if not stated.
    """
    import numpy as np

    from ..core.images import list_images, show_progress
    from ..core.render import validate_out, write_image_and_array
    from ..core.targets import parse_target

    validate_out(out)
    images = list_images(folder, subset)
    model = model_options.open_model()
    results = top_activations(model, images, parse_target(target, model), count, show_progress)
    for each in results:
        print(f"{each.value:10.4g}  {each.path}")
    values = np.array([each.value for each in results], np.float32)
    print(f"Wrote {' and '.join(map(str, write_image_and_array(out, draw_top_activations(results), values)))}.")
