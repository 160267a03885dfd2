"""Conformance check of backbones, for the package's tests and for third-party backbones.

>>> check_backbone("resnet20_cifar")
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import create_backbone
from .backbone import Backbone, FeaturesOnly, checked_levels, features_on_meta, levels_of_tensors
from .state_dict_matching import published_state

SIZES = ((128, 128), (97, 129), (160, 98))
# A backbone that pads little loses a few units at the border: AlexNet one, Inception-v4 more than three, LeNet-5 seven.
LOST_UNITS = 8


def check_backbone(
    backbone: Backbone | str, sizes: Sequence[tuple[int, int]] | None = None, tolerance: float = 1e-4
) -> None:
    """Check a backbone against the interface. Takes seconds; the backbone is not changed.

    Args:
        backbone: a backbone, or a name for `create_backbone`. Of a backbone whose name the registry does not know, what
            needs a second one (fewer levels) is left out.
        sizes: images (H, W) to read; None for `SIZES`, odd ones among them, or the one size that it takes.
        tolerance: relative difference allowed between two computations of the same numbers.

    Raises:
        AssertionError: what is violated.
    """
    given = create_backbone(backbone, num_classes=0) if isinstance(backbone, str) else backbone
    sizes = sizes or ((given.fixed_size,) if given.fixed_size else SIZES)
    _check_description(given)
    for height, width in sizes:
        _check_sizes(given, height, width)
    _check_gradients(given)
    encoder = _with_measured_statistics(given, sizes[0])
    _check_numbers(encoder, sizes[-1], tolerance)
    _check_copies(encoder, sizes[0])
    whole = _twin(encoder, num_classes=3, levels=None)
    if whole is not None:
        _check_classifier(whole, sizes[0])
        for count in range(1, len(encoder.levels) + 1):
            _check_cut(encoder, whole, count, sizes[-1], tolerance)


def _with_measured_statistics(backbone: Backbone, size: tuple[int, int]) -> Backbone:
    """A copy in evaluation whose fresh batch normalizations have seen a batch.

    With the initial statistics, every residual unit about doubles the variance: 400 of them overflow.
    """
    backbone = copy.deepcopy(backbone).train()
    normalizations = [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    fresh = [module for module in normalizations if module.num_batches_tracked == 0]
    momenta = [module.momentum for module in fresh]
    for module in set(normalizations) - set(fresh):
        module.eval()
    for module in fresh:
        module.momentum = 1.0
    if fresh:
        with torch.no_grad():
            backbone.features(_images(backbone, 2, *size))
    for module, momentum in zip(fresh, momenta, strict=True):
        module.momentum = momentum
    return backbone.eval()


def _check_description(backbone: Backbone) -> None:
    try:
        levels = checked_levels(backbone.levels)
    except ValueError as error:
        raise AssertionError(f"{backbone.name}: {error}.") from error
    assert levels == tuple(backbone.levels), f"{backbone.name}: levels are to be a tuple of Level."
    given = len(backbone.preprocessing.mean)
    assert given == backbone.in_channels == len(backbone.preprocessing.std), (
        f"{backbone.name} reads {backbone.in_channels} channels, and its preprocessing normalizes {given}."
    )


def _check_sizes(backbone: Backbone, height: int, width: int) -> None:
    """Channels and sizes of every level; one coarsest stride more of image gives exactly that much more of map."""
    coarsest = backbone.levels[-1].stride
    maps = _meta_maps(backbone, height, width)
    larger = maps if backbone.fixed_size else _meta_maps(backbone, height + coarsest, width + 2 * coarsest)
    assert len(maps) == len(backbone.levels), (
        f"{backbone.name} states {len(backbone.levels)} levels and returns {len(maps)} maps."
    )
    for level, made, grown in zip(backbone.levels, maps, larger, strict=True):
        where = f"{backbone.name}, level {level.name}, image {height} x {width}"
        shape = tuple(made.shape)
        assert made.ndim == 4, f"{where}: the map has {made.ndim} axes, not four."
        assert shape[1] == level.channels, f"{where}: {shape[1]} channels, {level.channels} were stated."
        for side, of in zip(shape[2:], (height, width), strict=True):
            fits = max(1, of / level.stride - LOST_UNITS) <= side <= math.ceil(of / level.stride)
            assert fits, f"{where}: the map is {shape[2]} x {shape[3]}, which is not stride {level.stride}."
        if backbone.fixed_size:
            continue
        gained = (grown.shape[2] - shape[2], grown.shape[3] - shape[3])
        expected = (coarsest // level.stride, 2 * coarsest // level.stride)
        assert gained == expected, f"{where}: {coarsest} pixels more give {gained[0]} units more, not {expected[0]}."


def _check_gradients(backbone: Backbone) -> None:
    """Every parameter is used by a level or by the classifier."""
    reached = levels_of_tensors(backbone)
    beyond = [name for name, _ in backbone.named_parameters() if name not in reached]
    if backbone.num_classes == 0:
        assert not beyond, f"{backbone.name} without classifier: no level's gradient reaches {', '.join(beyond[:3])}."
    else:
        assert beyond, f"{backbone.name}: no parameter is the classifier's alone."


def _check_numbers(backbone: Backbone, size: tuple[int, int], tolerance: float) -> None:
    """Evaluation is a function: of its image only, twice the same, leaving the image as it was."""
    images = _images(backbone, 2, *size)
    kept = images.clone()
    with torch.no_grad():
        once, again, alone = backbone.features(images), backbone.features(images), backbone.features(images[:1])
    assert torch.equal(images, kept), f"{backbone.name} overwrites the image."
    for level, first, second, single in zip(backbone.levels, once, again, alone, strict=True):
        assert first.isfinite().all(), f"{backbone.name}, level {level.name}: values that are not finite."
        assert torch.equal(first, second), f"{backbone.name}, level {level.name}: two runs in evaluation differ."
        assert _close(first[:1], single, tolerance), (
            f"{backbone.name}, level {level.name}: an image's features depend on its batch, in evaluation."
        )


def _check_copies(backbone: Backbone, size: tuple[int, int]) -> None:
    """A deep copy and a pickled one compute the same, and a state dict carries everything."""
    image = _images(backbone, 1, *size)
    with torch.no_grad():
        wanted = backbone.features(image)
        pickled: Backbone = pickle.loads(pickle.dumps(backbone))
        for way, other in (("a deep copy", copy.deepcopy(backbone)), ("pickling", pickled)):
            made = other.features(image)
            same = all(torch.equal(a, b) for a, b in zip(wanted, made, strict=True))
            assert same, f"{backbone.name}: {way} computes something else."
            assert other.levels == backbone.levels, f"{backbone.name}: {way} loses its levels."
        fresh = _twin(backbone, num_classes=backbone.num_classes, levels=len(backbone.levels))
        if fresh is not None:
            fresh.load_state_dict(backbone.state_dict(), assign=True)
            # Buffers outside the state dict stay on the meta device, and running would say so.
            made = fresh.eval().features(image)
            same = all(torch.equal(a, b) for a, b in zip(wanted, made, strict=True))
            assert same, f"{backbone.name}: its state dict in a second one computes something else."


def _check_classifier(whole: Backbone, size: tuple[int, int]) -> None:
    """Logits of the stated length, and no classifier with num_classes=0. `whole` is on the meta device."""
    images = torch.empty(2, whole.in_channels, *(whole.classifier_input_size or size), device="meta")
    logits = whole.eval()(images)
    assert tuple(logits.shape) == (2, whole.num_classes), (
        f"{whole.name}: logits of {tuple(logits.shape)} for 2 images and {whole.num_classes} classes."
    )
    bare = _twin(whole, num_classes=0, levels=None)
    if bare is not None:
        assert bare.num_classes == 0, f"{whole.name}: num_classes=0 leaves {bare.num_classes} classes."
        _check_gradients(bare)
        _require_refusal(bare, size)


def _check_cut(backbone: Backbone, whole: Backbone, count: int, size: tuple[int, int], tolerance: float) -> None:
    """levels=N builds the first N levels, no deeper parameter, no classifier, and the same features."""
    cut = _twin(backbone, num_classes=3, levels=count)
    if cut is None:
        return
    where = f"{backbone.name} with levels={count}"
    assert cut.levels == whole.levels[:count], f"{where} has the levels {[level.name for level in cut.levels]}."
    if count < len(whole.levels):
        assert cut.num_classes == 0, f"{where} is cut and still has {cut.num_classes} classes."
        _check_gradients(cut)
        _require_refusal(cut, size)
    unknown = set(published_state(cut)) - set(published_state(whole))
    assert not unknown, f"{where} has tensors that the whole network has not: {sorted(unknown)[:3]}."
    if cut.num_classes > backbone.num_classes:
        return  # this backbone was built without the classifier that the other has
    state = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    published = {backbone.state_dict_alias(name): tensor for name, tensor in state.items()}
    own = [name for name, _ in (*cut.named_parameters(), *cut.named_buffers())]
    shared = {f"backbone.{name}": published[cut.state_dict_alias(name)] for name in own}
    image = _images(backbone, 1, *size)
    with torch.no_grad():
        first = torch.func.functional_call(FeaturesOnly(cut.eval()), shared, image)
        all_levels = backbone.features(image)
    for level, short, long in zip(cut.levels, first, all_levels, strict=False):
        assert _close(short, long, tolerance), (
            f"{where}: level {level.name} differs from the whole network's. Does a later layer overwrite it in place?"
        )


def _require_refusal(backbone: Backbone, size: tuple[int, int]) -> None:
    try:
        backbone(torch.empty(1, backbone.in_channels, *size, device="meta"))
    except UserError:
        return
    raise AssertionError(f"{backbone.name} without a classifier classifies all the same; it should raise a UserError.")


def _twin(backbone: Backbone, num_classes: int, levels: int | None) -> Backbone | None:
    """Another of this name on the meta device, None where the registry does not know the name."""
    try:
        with torch.device("meta"):
            return create_backbone(
                backbone.name,
                num_classes=num_classes,
                in_channels=backbone.in_channels,
                levels=levels,
                **backbone.options,
            )
    except UserError:
        return None


def _meta_maps(backbone: Backbone, height: int, width: int) -> list[Tensor]:
    return features_on_meta(backbone, torch.empty(2, backbone.in_channels, height, width, device="meta"))[0]


def _images(backbone: Backbone, count: int, height: int, width: int) -> Tensor:
    like = next(backbone.parameters())
    drawn = torch.rand((count, backbone.in_channels, height, width), generator=torch.Generator().manual_seed(0))
    return drawn.to(like.device, like.dtype)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    scale = max(float(b.abs().max()), 1e-12)
    return float((a - b).abs().max()) <= tolerance * scale
