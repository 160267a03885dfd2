"""Request handler of the tab "Visualize": the attribution methods of `densevision visualize` that take seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import visualize
from ...errors import UserError, unknown_name
from ...visualize.core.images import enlarge
from ...visualize.core.model import ModelInput
from ...visualize.core.targets import dense_channels, list_targets, parse_target
from .checkpoints import INFERENCE_LOCK, CheckpointEntry
from .examples import SIZE as EXAMPLE_SIZE
from .handlers import MAX_DISPLAY_SIDE, Response, downscale, response_dir, validate_uploads
from .uploads import Limits

if TYPE_CHECKING:
    from ...visualize.core.model import InspectedModel

MAX_TARGET_LENGTH = 200
"""Maximum length of a target in characters; a sum of five neurons has about a hundred."""
MAX_CLASSES = 50
"""Number of classes in the list; others can be typed."""
PATCHES_ACROSS = 6
"""Number of occlusion patches across the image's shorter side; the stride is half a patch."""
STEPS = 25
"""Steps of integrated gradients; the paper uses 20 to 300."""


def _occlusion(model: InspectedModel, image: ModelInput, target: Any) -> visualize.Visualization:
    patch = max(2, min(image.pixels[0].shape[-2:]) // PATCHES_ACROSS)
    return visualize.occlusion(model, image, target, patch=patch, stride=max(1, patch // 2))


METHODS: dict[str, Callable[..., visualize.Visualization]] = {
    "saliency": visualize.saliency,
    "guided-backprop": visualize.guided_backprop,
    "input-x-gradient": visualize.input_x_gradient,
    "integrated-gradients": partial(visualize.integrated_gradients, steps=STEPS),
    "grad-cam": visualize.grad_cam,
    "occlusion": _occlusion,
}
"""Attribution methods by their names on the command line."""


def handle_visualize(
    entry: CheckpointEntry, method: str, target: str, uploads: Sequence[Path | None], limits: Limits, root: Path
) -> Response:
    """Run an attribution method on uploaded images.

    Args:
        entry: the checkpoint.
        method: one of `METHODS`.
        target: target string, see `parse_target`.
        uploads: one file per input of the model, None for a missing one.
        limits: limits of uploads.
        root: parent of the folders of responses.

    Raises:
        UserError: an unknown method or target, or an image that is missing, was rejected or does not fit the model.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if len(target) > MAX_TARGET_LENGTH:
        raise UserError(f"The target has {len(target)} characters; at most {MAX_TARGET_LENGTH} are allowed.")
    with INFERENCE_LOCK, response_dir(root) as folder:
        images, remarks = validate_uploads(entry, uploads, limits)
        model = entry.inspected_model()
        model_input = model.preprocess(*images)
        objective = parse_target(target, model, model_input)
        result = METHODS[method](model, model_input, objective)
        files = result.save(folder / "attribution.png")
    text = " ".join([f"{method} of {objective}.", *result.notes, *remarks])
    return Response(text, downscale(enlarge(result.image), MAX_DISPLAY_SIDE), files)


def targets_for(entry: CheckpointEntry) -> list[str]:
    """Targets of a model for the list: the task's dense outputs, classes, then backbone levels."""
    with INFERENCE_LOCK:
        model = entry.inspected_model()
        channels = dense_channels(model)
        levels = {f"{level.name}:" for level in model.backbone.levels} if model.backbone else ()
        targets = [_fill_in(template, model) for template in list_targets(model)]
    of_levels = [target for target in targets if any(target.startswith(level) for level in levels)]
    of_outputs = [target for target in targets if target not in of_levels]
    dense = [target for target in of_outputs if target.split("@")[0] in channels]
    classes = [target for target in of_outputs if target not in dense]
    return [*dense, *classes[:MAX_CLASSES], *of_levels]


def _fill_in(template: str, model: InspectedModel) -> str:
    """Replace the placeholders of `list_targets`: channel 0, its position 0,0, and the center of an image.

    The image is not known yet: its size is that of the examples, or the model's input size where that is smaller.
    """
    height, width = map(min, model.size, EXAMPLE_SIZE)
    position = "0,0" if "CHANNEL" in template else f"{width // 2},{height // 2}"
    box = f"{width // 4},{height // 4},{width // 2},{height // 2}"
    return template.replace("X,Y,WIDTH,HEIGHT", box).replace("X,Y", position).replace("CHANNEL", "0")
