"""`densevision visualize style`: one picture's things, painted as another picture is.

Gatys, Ecker, Bethge: A Neural Algorithm of Artistic Style. 2015, arXiv:1508.06576; Image Style Transfer Using
Convolutional Neural Networks. CVPR 2016. A picture is changed until a level sees in it what it sees in the content
picture, and several levels the same correlations of channels as in the style picture.

Deviations: the paper rescales VGG-19's weights so that filters have a mean activation of 1; here every term is divided
by what it would be for a picture without activations, which does the same for any trunk (`terms="paper"`: not). The
paper starts from noise, here from the content (`start="noise"`), which takes fewer steps to look well. Zero padding,
where some ports reflect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from .asked import Network

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .subject import Subject

CHUNK = 10
"""L-BFGS steps between two reports, after which pixels are brought back to [0, 1]."""
LARGEST = 512
"""Pixels of the longer side, where nobody asks for another size."""


@dataclass(kw_only=True)
class Recipe:
    """How a style is transferred."""

    content: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    """Levels or layers; of a VGG also relu4_2 and the like; default: relu4_2 or the deepest the weights cover."""
    styles: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    """Levels or layers; default: relu1_1 to relu5_1, of other trunks all levels but the last."""
    content_weight: float = 1.0
    """Of the mean content term; default: 1."""
    style_weight: float = 100.0
    """Of the mean style term; default: 100."""
    smoothness: float = 0.0
    """Weight of the total variation; default: 0."""
    terms: Literal["relative", "paper"] = "relative"
    """Relative to the size of what is wanted, or as the paper prints them; default: relative."""
    pool: Literal["average", "max"] = "average"
    """What max pools do meanwhile; default: average."""
    start: Literal["content", "noise"] = "content"
    """What is changed; default: content."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """Default: lbfgs."""
    steps: int = 200
    """Of the optimizer; default: 200."""
    rate: float = 0.02
    """Learning rate of Adam, in pixels of [0, 1]; default: 0.02."""
    colours: Literal["style", "matched", "brightness"] = "style"
    """The style's; or the content's, by a style picture of matched colours or by transferring brightness alone;
    default: style."""
    seed: int = 0
    """Of the noise; default: 0."""


class Losses(NamedTuple):
    """What is made small, weighted: in all, and its parts."""

    step: int
    total: float
    content: float
    style: float


def transfer_style(
    subject: Subject,
    content: Tensor,
    styles: Sequence[Tensor],
    recipe: Recipe | None = None,
    shares: Sequence[float] = (),
    report: Callable[[Losses], None] = lambda losses: None,
) -> Tensor:
    """A picture of the content in the style.

    Args:
        subject: a network of pictures in colour, with a trunk.
        content: (1, 3, H, W) in [0, 1].
        styles: the same, of any sizes.
        recipe: None: the default one.
        shares: how much each style counts, made to add up to 1; none: alike.
        report: called at the beginning, every `CHUNK` steps, and at the end.

    Returns:
        (1, 3, H, W) in [0, 1].

    Raises:
        UserError: another kind of network, an unknown layer, or a number that makes no sense.
    """
    import torch

    from .colours import in_grey, with_brightness_of, with_colours_of

    recipe = recipe or Recipe()
    shares = checked_shares(subject, styles, shares, recipe)
    content, styles = content.to(subject.device), [each.to(subject.device) for each in styles]
    shown = content
    if recipe.colours == "matched":
        styles = [with_colours_of(each, content).clamp(0, 1) for each in styles]
    elif recipe.colours == "brightness":
        styles, shown = [in_grey(each, content).clamp(0, 1) for each in styles], in_grey(content)
    measure = measured(subject, shown, styles, shares, recipe)
    if recipe.start == "noise":
        drawn = torch.rand(shown.shape, generator=torch.Generator("cpu").manual_seed(recipe.seed))
        made = changed(drawn.to(subject.device), measure, recipe, report)
    else:
        made = changed(shown.clone(), measure, recipe, report)
    return with_brightness_of(content, made) if recipe.colours == "brightness" else made


Measure = Callable[["Tensor"], "tuple[Tensor, Tensor, Tensor]"]
"""Of pixels: what is made small, and its parts for content and style."""


def measured(
    subject: Subject, content: Tensor, styles: Sequence[Tensor], shares: Sequence[float], recipe: Recipe
) -> Measure:
    """What is made small."""
    from contextlib import nullcontext

    import torch

    from .style_losses import averaging_pools, content_loss, gram, paper_layers, roughness, style_loss, usual_layers

    assert subject.trunk is not None
    papers, (usual_content, usual_style) = paper_layers(subject.trunk), usual_layers(subject.trunk)
    of_content = tuple(papers.get(name, name) for name in recipe.content or usual_content)
    of_style = tuple(papers.get(name, name) for name in recipe.styles or usual_style)

    def seen(pixels: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        with averaging_pools() if recipe.pool == "average" else nullcontext():
            return subject.look((pixels,), layers, answer=False).levels

    relative = recipe.terms == "relative"
    with torch.no_grad():
        wanted = {name: each.detach() for name, each in seen(content, of_content).items()}
        grams = [{name: gram(each).detach() for name, each in seen(one, of_style).items()} for one in styles]
        # What a picture without any activation would cost.
        whole = {name: content_loss(0 * each, each) if relative else each.new_ones(()) for name, each in wanted.items()}
        wholes = [
            {name: style_loss(0 * each, each) if relative else each.new_ones(()) for name, each in one.items()}
            for one in grams
        ]

    def measure(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels = seen(pixels, (*of_content, *of_style))
        things = torch.stack([content_loss(levels[name], wanted[name]) / whole[name] for name in of_content]).mean()
        made = {name: gram(levels[name]) for name in of_style}
        manner = torch.stack(
            [
                share * style_loss(made[name], one[name]) / size[name]
                for share, one, size in zip(shares, grams, wholes, strict=True)
                for name in of_style
            ]
        ).sum() / len(of_style)
        things, manner = recipe.content_weight * things, recipe.style_weight * manner
        total = things + manner
        return (total + recipe.smoothness * roughness(pixels) if recipe.smoothness else total), things, manner

    return measure


def changed(pixels: Tensor, measure: Measure, recipe: Recipe, report: Callable[[Losses], None]) -> Tensor:
    """Pixels after the recipe's steps, kept in [0, 1] between steps and never within one."""
    import torch

    pixels = pixels.detach().requires_grad_()
    last: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        last[:] = measure(pixels)
        last[0].backward()
        return last[0]

    def told(step: int) -> None:
        report(Losses(step, *(float(each.detach()) for each in last)))

    options = {"history_size": 20, "tolerance_grad": 0.0, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    if recipe.optimizer == "lbfgs":
        optimizer, at_once = torch.optim.LBFGS([pixels], max_eval=4 * CHUNK, **options), CHUNK
    else:
        optimizer, at_once = torch.optim.Adam([pixels], lr=recipe.rate), 1
    closure()
    told(0)
    for done in range(0, recipe.steps, at_once):
        here = min(at_once, recipe.steps - done)
        if recipe.optimizer == "lbfgs":
            optimizer.param_groups[0]["max_iter"] = here
        optimizer.step(closure)
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if (done + here) % CHUNK == 0 or done + here == recipe.steps:
            told(done + here)
    return pixels.detach()


def checked_shares(
    subject: Subject, styles: Sequence[Tensor], shares: Sequence[float], recipe: Recipe
) -> tuple[float, ...]:
    """How much each style counts, adding up to 1.

    Raises:
        UserError: the network, the styles or a number do not serve.
    """
    from ...errors import UserError

    if subject.trunk is None or subject.trunk.in_channels != 3:
        raise UserError(f"{subject.name} takes no picture in colour through a trunk; style needs one, like vgg19.")
    if not styles:
        raise UserError("There is no style picture; give at least one.")
    if shares and (len(shares) != len(styles) or min(shares) < 0 or sum(shares) <= 0):
        raise UserError(f"{len(styles)} styles need as many shares, none below 0 and one above; got {list(shares)}.")
    numbers = {"steps": recipe.steps, "rate": recipe.rate}
    weights = {name: getattr(recipe, name) for name in ("content_weight", "style_weight", "smoothness")}
    for name, value in {**numbers, **weights}.items():
        if value < 0 or (name in numbers and value == 0):
            raise UserError(
                f"--{name.replace('_', '-')} is {value:g}; it must be {'above' if name in numbers else 'at least'} 0."
            )
    return tuple(share / sum(shares) for share in shares) or (1 / len(styles),) * len(styles)


def show_style(
    network: Annotated[Network, Parameter(name="*")],
    recipe: Annotated[Recipe | None, Parameter(name="*")] = None,
    *,
    image: Path,
    style: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    out: Path,
    shares: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = (),
    size: int | None = None,
    style_scale: float = 1.0,
) -> None:
    """Paint a photograph as one or several style pictures are painted.

    Args:
        image: Photograph whose things stay.
        style: Style pictures.
        out: Picture to write (.png); the raw array lies beside it (.npy).
        shares: How much each style counts; default: alike.
        size: Pixels of the result's longer side; default: the photograph's own, at most 512.
        style_scale: Longer side of the style pictures over the result's: larger makes larger strokes; default: 1.
    """
    from ...errors import UserError
    from ...tasks.pictures import any_picture
    from .drawing import checked_out, photograph, write_both
    from .folder import counted, resized, size_with, to_pixels

    checked_out(out)
    recipe = recipe or Recipe()
    if (size is not None and size < 1) or style_scale <= 0:
        raise UserError(f"--size {size} --style-scale {style_scale:g}: both must be above 0.")
    subject = network.subject()
    photo = any_picture(image)
    size = size or min(LARGEST, max(photo.shape[:2]))

    def read(picture: np.ndarray, long: int) -> Tensor:
        return to_pixels(resized(picture, size_with((picture.shape[0], picture.shape[1]), long=long)))

    styles = [read(any_picture(path), round(size * style_scale)) for path in style]

    def report(losses: Losses) -> None:
        counted(losses.step, recipe.steps, f"content {losses.content:.4g} style {losses.style:.4g}")

    made = transfer_style(subject, read(photo, size), styles, recipe, shares, report)
    print(f"Wrote {' and '.join(map(str, write_both(out, photograph(made), made[0].cpu().numpy())))}.")
