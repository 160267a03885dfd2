"""DeepDream: amplify what a level detects in an image.

Mordvintsev, Olah, Tyka: Inceptionism, and the notebook DeepDream. Google 2015. Gradient ascent on half the squared
activations of a level, at several sizes (octaves) from small to large: the details added at one size are upsampled and
added to the image at the next. Before every step the image is rolled by a random shift. With a guide image, the
activation at every position is moved towards the most similar activation of the guide.

Deviations: the notebook's step size of 1.5 in pixels of 255 is converted to pixels of [0, 1]; it clips every channel of
the normalized input to its range, which equals the clipping to 0 and 1 here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...datasets.core.geometry import Size
    from ..core.model import InspectedModel, ModelInput
    from ..core.objectives import Objective

MIN_OCTAVE_SIZE = 16
"""Minimum short side of an octave in pixels."""
EPSILON = 1e-8
"""Minimum of the mean absolute gradient by which steps are divided."""
MAX_OCTAVES = 100
FRAME_RATE = 24
"""Frames per second of the video."""


@dataclass(frozen=True, kw_only=True)
class DreamOptions:
    """Options of DeepDream."""

    seed: int = 0
    """Random seed."""
    amp: Literal["auto", "bf16", "off"] = "off"
    """Run the model in bfloat16: if the hardware supports it (auto), always (bf16) or never (off)."""
    octaves: int = 4
    """Number of image sizes."""
    octave_scale: float = 1.4
    """Ratio of consecutive image sizes."""
    steps: int = 10
    """Number of gradient ascent steps per octave."""
    lr: float = 1.5
    """Mean absolute change of a pixel per step, in units of 1/255."""
    jitter: int = 32
    """Maximum random shift before every step, in pixels."""


def amplify(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    objective: Objective,
    options: DreamOptions | None = None,
    callback: Callable[[int, Size, float], None] | None = None,
) -> tuple[Tensor, ...]:
    """Apply DeepDream to pixels (1, C, H, W) in [0, 1] of any size that the model accepts, which is that of the result.

    Objectives with a position need `octaves=1`. The callback gets the number of every octave, from 1, its
    (height, width), and the score.
    """
    import torch

    from ...errors import UserError

    options = validate_options(options or DreamOptions())
    model = without_classifier(model, objective)
    generator = torch.Generator("cpu").manual_seed(options.seed)
    pixels = tuple(each.detach().to(model.device) for each in pixels)
    details = tuple(torch.zeros_like(each) for each in pixels)
    images = pixels
    for octave, size in enumerate(octave_sizes((pixels[0].shape[2], pixels[0].shape[3]), options), 1):
        bases = tuple(resize(each, size) for each in pixels)
        images = tuple(base + resize(detail, size) for base, detail in zip(bases, details, strict=True))
        score = 0.0
        for _ in range(options.steps):
            try:
                images, score = _step(model, images, objective, options, generator)
            except RuntimeError as error:
                raise UserError(
                    f"{model.name} does not accept an octave of {size[0]}x{size[1]}; use fewer --octaves or a "
                    "larger image."
                ) from error
        details = tuple(each - base for each, base in zip(images, bases, strict=True))
        if callback is not None:
            callback(octave, size, score)
    return images


def octave_sizes(size: Size, options: DreamOptions) -> list[Size]:
    """(height, width) of the octaves, from the smallest to the size of the image."""
    from ...errors import UserError

    sizes = [
        (round(size[0] * options.octave_scale**-octave), round(size[1] * options.octave_scale**-octave))
        for octave in reversed(range(options.octaves))
    ]
    if min(sizes[0]) < MIN_OCTAVE_SIZE:
        raise UserError(
            f"The smallest of {options.octaves} octaves is {sizes[0][1]} wide and {sizes[0][0]} high; use fewer"
            " --octaves or a larger image."
        )
    return sizes


def resize(x: Tensor, size: Size) -> Tensor:
    """Resize (B, C, H, W) bilinearly, with antialiasing."""
    from torch.nn import functional

    return functional.interpolate(x, size, mode="bilinear", antialias=True) if x.shape[-2:] != size else x


def zoom(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    objective: Objective,
    options: DreamOptions,
    frames: int,
    zoom_per_frame: float = 0.05,
) -> Iterator[tuple[Tensor, ...]]:
    """Frames of a video that alternates `amplify`, with the next seed for every frame, and zooming in."""
    for frame in range(frames):
        pixels = amplify(model, pixels, objective, replace(options, seed=options.seed + frame))
        yield pixels
        pixels = tuple(zoom_in(each, zoom_per_frame) for each in pixels)


def zoom_in(x: Tensor, zoom_per_frame: float) -> Tensor:
    """Crop a fraction of height and width of (B, C, H, W) and resize bilinearly to the original size."""
    import torch
    from torch.nn import functional

    matrix = torch.tensor([[1 - zoom_per_frame, 0.0, 0.0], [0.0, 1 - zoom_per_frame, 0.0]]).to(x).expand(len(x), 2, 3)
    coordinates = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, coordinates, padding_mode="border", align_corners=False)


def validate_options(options: DreamOptions) -> DreamOptions:
    """Check the options."""
    from ...errors import UserError

    if not 1 <= options.octaves <= MAX_OCTAVES or options.steps < 1:
        raise UserError(
            f"--octaves {options.octaves} --steps {options.steps}: both must be at least 1, and the octaves at most "
            f"{MAX_OCTAVES}."
        )
    if options.octave_scale <= 1:
        raise UserError(f"--octave-scale is {options.octave_scale:g}; it must be above 1.")
    if min(options.lr, options.jitter) < 0:
        raise UserError(f"--lr {options.lr:g} --jitter {options.jitter}: both must be at least 0.")
    return options


def _step(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    objective: Objective,
    options: DreamOptions,
    generator: torch.Generator,
) -> tuple[tuple[Tensor, ...], float]:
    """One gradient ascent step; also returns the score before it."""
    import torch

    from ...tasks.device import use_bf16
    from ..core.objectives import check_nonzero_gradient, scores_and_gradients

    down, right = torch.randint(-options.jitter, options.jitter + 1, (2,), generator=generator).tolist()
    shifted = tuple(each.roll((down, right), (2, 3)) for each in pixels)
    scores, grads = scores_and_gradients(model, shifted, objective, use_bf16(options.amp, model.device))
    check_nonzero_gradient(model, shifted, objective, grads)
    results = []
    for each, grad in zip(shifted, grads, strict=True):
        # One scale for all channels: a scale per channel would change the colors.
        scale = grad.abs().mean().clamp_min(EPSILON)
        image = (each + options.lr / 255 * grad / scale).clamp(0, 1)
        results.append(image.roll((-down, -right), (2, 3)))
    return tuple(results), float(scores.sum())


def without_classifier(model: InspectedModel, objective: Objective) -> InspectedModel:
    """The backbone alone if the objective needs no prediction: levels accept image sizes that classifiers refuse."""
    from ..core.model import HeadlessBackbone, InspectedModel

    if model.backbone is None or objective.needs_output or (model.task is not None and not model.classes):
        return model
    return InspectedModel(model.name, HeadlessBackbone(model.backbone), model.backbone, None, model.size)


def resolve_dream_target(target: Any, model: InspectedModel, guide: tuple[Tensor, ...] | None = None) -> Objective:
    """Objective of a target: the name of a level for the entire level, otherwise as in `resolve_target`.

    `guide` are the pixels of a guide image, which needs a level.
    """
    import torch

    from ...errors import UserError
    from ..core.objectives import GuidedSimilarity, L2Activation
    from ..core.targets import resolve_target

    names = model.level_names()
    is_level = isinstance(target, str) and target.strip() in names
    if not is_level and guide is None:
        return resolve_target(target, model)
    if not is_level:
        raise UserError(f"--guide needs a level as target, and '{target}' is not one; give a level such as {names[0]}.")
    level = target.strip()
    if guide is None:
        return L2Activation(level)
    with torch.no_grad():
        maps = model.forward(guide, (level,), run_output=False).levels[level]
    if maps.ndim != 4:
        raise UserError(
            f"'{level}' of {model.name} has no spatial positions; give a level with feature maps such as {names[0]}."
        )
    return GuidedSimilarity(level, maps.detach().float().movedim(1, 0).flatten(1))


def deepdream(
    model: Any,
    image: Any,
    target: Any,
    *,
    guide: Any = None,
    size: int | None = None,
    video: Path | None = None,
    frames: int = 48,
    zoom_per_frame: float = 0.05,
    options: DreamOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Visualization:
    """Apply DeepDream to an image, optionally as a zooming video.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        target: target to amplify: a level (layer3), or any other target (layer3:17, class:tabby; depth@120,80 in
            pixels of the input image).
        guide: guide image, whose activations of the level are amplified instead.
        size: longer side of the uncropped image, in pixels; the usual crop of the model if not stated.
        video: output video (.mp4) that zooms in; its first frame is the output image.
        frames: number of video frames.
        zoom_per_frame: fraction of height and width that is cropped from one video frame to the next.
        options: options of DeepDream.
        progress: called after every octave with the score.
        settings: options by name, instead of or over `options`.

    Returns:
        array: (C, H, W) float32 in [0, 1].

    Raises:
        UserError: an octave too small for the model, a gradient that is 0 everywhere, or an invalid option or video.
    """
    from ...errors import UserError
    from ..core.images import one_image, to_uint8_image
    from ..core.model import inspect_model

    options = validate_options(replace(options or DreamOptions(), **settings))
    if video is not None and (video.suffix.lower() != ".mp4" or frames < 1 or not 0 <= zoom_per_frame < 1):
        raise UserError(
            f"--video {video} --frames {frames} --zoom-per-frame {zoom_per_frame:g}: give a .mp4 file, "
            "at least 1 frame, and a zoom of at least 0 and below 1."
        )
    if size is not None and size < MIN_OCTAVE_SIZE:
        raise UserError(f"--size is {size}; it must be at least {MIN_OCTAVE_SIZE}.")
    model = inspect_model(model)
    model_input = load_at_size(model, one_image(image), size) if size else model.take(image)
    pixels = model_input.pixels
    objective = resolve_dream_target(target, model, None if guide is None else model.take(guide).pixels)
    objective = objective.on_image(model_input) if isinstance(target, str) else objective
    notes = []

    def report(octave: int, at: Size, score: float) -> None:
        notes.append(f"octave {octave} of {options.octaves}, {at[1]}x{at[0]}: {objective} {score:.4g}")
        if progress is not None:
            progress(octave, options.octaves, {str(objective): score})

    images = amplify(model, pixels, objective, options, report)
    if video is not None:
        from ...datasets.formats.video import write_video

        zoomed = zoom(model, pixels, objective, options, frames, zoom_per_frame)
        notes.append(f"Wrote {write_video(video, (to_uint8_image(each[0]) for each in zoomed), FRAME_RATE)}.")
    return Visualization(images[0].cpu().numpy(), to_uint8_image(images[0]), tuple(notes))


def load_at_size(model: InspectedModel, image: Any, long_side: int) -> ModelInput:
    """Load an image, resized to the given longer side, without a crop."""
    import torch

    from ...datasets.core.geometry import plain_resize
    from ...tasks.image_io import load_image_as
    from ...tasks.prediction import PredictionContext
    from ..core.images import valid_size
    from ..core.model import ModelInput

    original = load_image_as(image, model.optimized_channels[0])
    source = (original.shape[0], original.shape[1])
    pixels = torch.from_numpy(original.copy()).float() / 255
    pixels = pixels.reshape(*source, -1).movedim(2, 0)[None]
    scale = long_side / max(source)
    size = valid_size((round(source[0] * scale), round(source[1] * scale)))
    context = PredictionContext({"image": original}, model.fields, source, plain_resize(source, size).matrix())
    return ModelInput((resize(pixels, size).clamp(0, 1),), context, source)
