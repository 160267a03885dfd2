"""Neural style transfer from one or more style images.

Gatys, Ecker, Bethge: A Neural Algorithm of Artistic Style. 2015, arXiv:1508.06576; Image Style Transfer Using
Convolutional Neural Networks. CVPR 2016. An image is optimized to match the features of the content image at one level,
and the Gram matrices of the style image at several levels.

Deviations: the paper rescales the weights of VGG-19 to a mean activation of 1; here every loss is divided by its value
for zero activations, which has the same effect for any backbone (`normalize_losses=False`: not). The paper starts from
noise, this implementation from the content image (`init="noise"`), which needs fewer steps. Zero padding, where some
ports use reflection padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel

CHUNK = 10
"""L-BFGS steps between two callbacks, after which pixels are clamped to [0, 1]."""
MAX_DEFAULT_SIZE = 512
"""Maximum longer side in pixels if no size is given."""


@dataclass(kw_only=True)
class StyleOptions:
    """Options of style transfer."""

    content_layers: tuple[str, ...] | None = None
    """Content layers: levels or submodules, of a VGG also relu4_2 etc.; if not stated, relu4_2 or the deepest layer of
    the weights, for other backbones the last level but one."""
    style_layers: tuple[str, ...] | None = None
    """Style layers: levels or submodules; if not stated, relu1_1 to relu5_1 of a VGG, for other backbones all levels
    but the last."""
    content_weight: float = 1.0
    """Weight of the mean content loss."""
    style_weight: float = 100.0
    """Weight of the mean style loss."""
    tv_weight: float = 0.0
    """Weight of the total variation."""
    normalize_losses: bool = True
    """Divide every loss by its value for zero activations; --no-normalize-losses: the paper's losses."""
    pool: Literal["average", "max"] = "average"
    """Pooling of the model: replace max pools by average pools, or keep them."""
    init: Literal["content", "noise"] = "content"
    """Initial image: the content image, or noise."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """Optimizer: L-BFGS or Adam."""
    steps: int = 200
    """Number of optimization steps."""
    lr: float = 0.02
    """Learning rate of Adam, in pixels of [0, 1]."""
    preserve_color: Literal["none", "match", "luminance"] = "none"
    """Keep the colors of the content image: none, match (match the style image's colors to them first), or luminance
    (transfer only the luminance)."""
    seed: int = 0
    """Random seed of the initial noise."""


class Losses(NamedTuple):
    """Weighted losses at a step: total and parts."""

    step: int
    total: float
    content: float
    style: float


def transfer_style(
    model: InspectedModel,
    content: Tensor,
    styles: Sequence[Tensor],
    options: StyleOptions | None = None,
    blend_weights: Sequence[float] = (),
    callback: Callable[[Losses], None] = lambda losses: None,
) -> Tensor:
    """Render a content image (1, 3, H, W) in [0, 1] in the style of images of any sizes, as `style_transfer` does.

    Blend weights are normalized to a sum of 1; without any, they are equal. The callback is called at the beginning,
    every `CHUNK` steps, and at the end.
    """
    import torch

    from .style_losses import match_colors, to_gray, with_luminance

    options = options or StyleOptions()
    blend_weights = validate_styles(model, styles, blend_weights, options)
    content, styles = content.to(model.device), [each.to(model.device) for each in styles]
    start_image = content
    if options.preserve_color == "match":
        styles = [match_colors(each, content).clamp(0, 1) for each in styles]
    elif options.preserve_color == "luminance":
        styles, start_image = [to_gray(each, content).clamp(0, 1) for each in styles], to_gray(content)
    loss_fn = make_loss(model, start_image, styles, blend_weights, options)
    if options.init == "noise":
        noise = torch.rand(start_image.shape, generator=torch.Generator("cpu").manual_seed(options.seed))
        start_image = noise.to(model.device)
    output = optimize(start_image.clone(), loss_fn, options, callback)
    return with_luminance(content, output) if options.preserve_color == "luminance" else output


LossFunction = Callable[["Tensor"], "tuple[Tensor, Tensor, Tensor]"]
"""Function of the pixels that returns the total loss and its content and style terms."""


def make_loss(
    model: InspectedModel,
    content: Tensor,
    styles: Sequence[Tensor],
    blend_weights: Sequence[float],
    options: StyleOptions,
) -> LossFunction:
    """Build the loss function, with the features of the content and style images as targets."""
    from contextlib import nullcontext

    import torch

    from .style_losses import (
        average_pooling,
        content_loss,
        default_layers,
        gram_matrix,
        mean_total_variation,
        style_loss,
        vgg_layer_names,
    )

    paper_names, (default_content, default_style) = vgg_layer_names(model.backbone), default_layers(model.backbone)
    content_layers = tuple(paper_names.get(name, name) for name in options.content_layers or default_content)
    style_layers = tuple(paper_names.get(name, name) for name in options.style_layers or default_style)

    def activations(pixels: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        with average_pooling() if options.pool == "average" else nullcontext():
            return model.forward((pixels,), layers, run_output=False).levels

    normalize = options.normalize_losses
    with torch.no_grad():
        content_targets = {name: each.detach() for name, each in activations(content, content_layers).items()}
        style_targets = [
            {name: gram_matrix(each).detach() for name, each in activations(style, style_layers).items()}
            for style in styles
        ]
        # Losses of zero activations, by which the terms are divided.
        content_norms = {
            name: content_loss(0 * each, each) if normalize else each.new_ones(())
            for name, each in content_targets.items()
        }
        style_norms = [
            {name: style_loss(0 * each, each) if normalize else each.new_ones(()) for name, each in targets.items()}
            for targets in style_targets
        ]

    def loss_fn(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = activations(pixels, (*content_layers, *style_layers))
        content_term = torch.stack(
            [content_loss(levels[name], content_targets[name]) / content_norms[name] for name in content_layers]
        ).mean()
        grams = {name: gram_matrix(levels[name]) for name in style_layers}
        style_term = torch.stack(
            [
                blend_weight * style_loss(grams[name], targets[name]) / norms[name]
                for blend_weight, targets, norms in zip(blend_weights, style_targets, style_norms, strict=True)
                for name in style_layers
            ]
        ).sum() / len(style_layers)
        content_term, style_term = options.content_weight * content_term, options.style_weight * style_term
        total = content_term + style_term
        return (
            (total + options.tv_weight * mean_total_variation(pixels) if options.tv_weight else total),
            content_term,
            style_term,
        )

    return loss_fn


def optimize(
    pixels: Tensor, loss_fn: LossFunction, options: StyleOptions, callback: Callable[[Losses], None]
) -> Tensor:
    """Run the optimizer; pixels are clamped to [0, 1] between steps, never within one."""
    import torch

    pixels = pixels.detach().requires_grad_()
    last: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        last[:] = loss_fn(pixels)
        last[0].backward()
        return last[0]

    def report(step: int) -> None:
        callback(Losses(step, *(float(each.detach()) for each in last)))

    lbfgs_options = {
        "history_size": 20,
        "tolerance_grad": 0.0,
        "tolerance_change": 0.0,
        "line_search_fn": "strong_wolfe",
    }
    if options.optimizer == "lbfgs":
        optimizer, chunk = torch.optim.LBFGS([pixels], max_eval=4 * CHUNK, **lbfgs_options), CHUNK
    else:
        optimizer, chunk = torch.optim.Adam([pixels], lr=options.lr), 1
    closure()
    report(0)
    for done in range(0, options.steps, chunk):
        count = min(chunk, options.steps - done)
        if options.optimizer == "lbfgs":
            optimizer.param_groups[0]["max_iter"] = count
        optimizer.step(closure)
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if (done + count) % CHUNK == 0 or done + count == options.steps:
            report(done + count)
    return pixels.detach()


def validate_styles(
    model: InspectedModel, styles: Sequence[Tensor], blend_weights: Sequence[float], options: StyleOptions
) -> tuple[float, ...]:
    """Check model, styles and options, and normalize the blend weights to a sum of 1."""
    from ...errors import UserError

    if model.optimized_channels != [3] or (model.backbone is None and not model.is_plain):
        raise UserError(f"{model.name} has no backbone with color input; style transfer needs one, for example vgg19.")
    if model.is_plain and not (options.content_layers and options.style_layers):
        raise UserError(f"{model.name} has no default layers; give --content-layers and --style-layers.")
    if not styles:
        raise UserError("No style image was given; add at least one.")
    if blend_weights and (len(blend_weights) != len(styles) or min(blend_weights) < 0 or sum(blend_weights) <= 0):
        raise UserError(
            f"{len(styles)} style image(s) need as many --style-blend-weights, at least 0 and not all 0; "
            f"got {list(blend_weights)}."
        )
    for name in ("steps", "lr", "content_weight", "style_weight", "tv_weight"):
        value, positive = getattr(options, name), name in ("steps", "lr")
        if value < 0 or (positive and value == 0):
            minimum = "above 0" if positive else "at least 0"
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; it must be {minimum}.")
    return tuple(each / sum(blend_weights) for each in blend_weights) or (1 / len(styles),) * len(styles)


def style_transfer(
    model: Any,
    image: Any,
    style: Any,
    *,
    style_blend_weights: tuple[float, ...] = (),
    size: int | None = None,
    style_scale: float = 1.0,
    options: StyleOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Visualization:
    """Transfer the style of one or more images to an image.

    Args:
        model: see `inspect_model`.
        image: content image: a path, array, PIL image or tensor.
        style: style images; one, or a tuple or list.
        style_blend_weights: relative weight of each style image; equal if not stated.
        size: longer side of the output in pixels; that of the content image, at most 512, if not stated.
        style_scale: longer side of the style images relative to the output; larger values give larger strokes.
        options: options of style transfer.
        progress: called every ten steps with the losses.
        settings: options by name, instead of or over `options`.

    Returns:
        array: (3, H, W) float32 in [0, 1].

    Raises:
        UserError: an unsuitable model, an unknown layer, or an invalid option.
    """
    from ...errors import UserError
    from ...tasks.image_io import load_image
    from ..core.images import one_image, resize, scaled_size, to_pixels, to_uint8_image
    from ..core.model import inspect_model

    options = replace(options or StyleOptions(), **settings)
    if (size is not None and size < 1) or style_scale <= 0:
        raise UserError(f"--size {size} --style-scale {style_scale:g}: both must be above 0.")
    model = inspect_model(model)
    photo = load_image(one_image(image))
    size = size or min(MAX_DEFAULT_SIZE, max(photo.shape[:2]))

    def to_size(pixels: np.ndarray, long_side: int) -> Tensor:
        return to_pixels(resize(pixels, scaled_size((pixels.shape[0], pixels.shape[1]), long_side=long_side)))

    paintings = style if isinstance(style, (tuple, list)) else (style,)
    styles = [to_size(load_image(each), round(size * style_scale)) for each in paintings]
    last = Losses(0, 0.0, 0.0, 0.0)

    def report(losses: Losses) -> None:
        nonlocal last
        last = losses
        if progress is not None:
            progress(losses.step, options.steps, {"content": losses.content, "style": losses.style})

    output = transfer_style(model, to_size(photo, size), styles, options, style_blend_weights, report)
    note = f"After {last.step} steps: content loss {last.content:.4g}, style loss {last.style:.4g}."
    return Visualization(output[0].cpu().numpy(), to_uint8_image(output), (note,))
