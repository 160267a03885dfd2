"""What every trunk must do, as one call: for our tests and for trunks from outside.

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
from .backbone import Backbone, FeaturesOnly, checked_levels, features_on_meta
from .opened_weights import levels_of_tensors, published_state

SIZES = ((128, 128), (97, 129), (160, 98))
# A trunk that pads little loses a few units at the border: AlexNet one, Inception-v4 more than three, LeNet-5 seven.
LOST_UNITS = 8


def check_backbone(
    backbone: Backbone | str, sizes: Sequence[tuple[int, int]] | None = None, tolerance: float = 1e-4
) -> None:
    """Hold a trunk against the contract. Takes seconds; the trunk is not changed.

    Args:
        backbone: a trunk, or a name for `create_backbone`. Of a trunk whose name the catalogue does not know, what
            needs a second one (fewer levels) is left out.
        sizes: pictures (H, W) to read; None for `SIZES`, odd ones among them, or the one size that it takes.
        tolerance: relative difference allowed between two computations of the same numbers.

    Raises:
        AssertionError: a sentence that says what does not hold.
    """
    given = create_backbone(backbone, classes=0) if isinstance(backbone, str) else backbone
    sizes = sizes or ((given.fixed_size,) if given.fixed_size else SIZES)
    _check_description(given)
    for height, width in sizes:
        _check_sizes(given, height, width)
    _check_gradients(given)
    trunk = _with_measured_statistics(given, sizes[0])
    _check_numbers(trunk, sizes[-1], tolerance)
    _check_copies(trunk, sizes[0])
    whole = _twin(trunk, classes=3, levels=None)
    if whole is not None:
        _check_classifier(whole, sizes[0])
        for count in range(1, len(trunk.levels) + 1):
            _check_cut(trunk, whole, count, sizes[-1], tolerance)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def _with_measured_statistics(trunk: Backbone, size: tuple[int, int]) -> Backbone:
    """A copy in evaluation whose fresh batch normalisations have seen a batch.

    With the initial statistics, every residual unit about doubles the variance: 400 of them overflow.
    """
    trunk = copy.deepcopy(trunk).train()
    normalisations = [module for module in trunk.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    fresh = [module for module in normalisations if module.num_batches_tracked == 0]
    momenta = [module.momentum for module in fresh]
    for module in set(normalisations) - set(fresh):
        module.eval()
    for module in fresh:
        module.momentum = 1.0
    if fresh:
        with torch.no_grad():
            trunk.features(_pictures(trunk, 2, *size))
    for module, momentum in zip(fresh, momenta, strict=True):
        module.momentum = momentum
    return trunk.eval()


def _check_description(trunk: Backbone) -> None:
    try:
        levels = checked_levels(trunk.levels)
    except ValueError as error:
        raise AssertionError(f"{trunk.name}: {error}.") from error
    _require(levels == tuple(trunk.levels), f"{trunk.name}: levels are to be a tuple of Level.")
    given = len(trunk.preprocessing.mean)
    _require(
        given == trunk.in_channels == len(trunk.preprocessing.std),
        f"{trunk.name} reads {trunk.in_channels} channels, and its preprocessing normalises {given}.",
    )


def _check_sizes(trunk: Backbone, height: int, width: int) -> None:
    """Channels and sizes of every level; one coarsest stride more of picture gives exactly that much more of map."""
    coarsest = trunk.levels[-1].stride
    maps = _meta_maps(trunk, height, width)
    larger = maps if trunk.fixed_size else _meta_maps(trunk, height + coarsest, width + 2 * coarsest)
    _require(
        len(maps) == len(trunk.levels), f"{trunk.name} states {len(trunk.levels)} levels and returns {len(maps)} maps."
    )
    for level, made, grown in zip(trunk.levels, maps, larger, strict=True):
        where = f"{trunk.name}, level {level.name}, picture {height} x {width}"
        shape = tuple(made.shape)
        _require(made.ndim == 4, f"{where}: the map has {made.ndim} axes, not four.")
        _require(shape[1] == level.channels, f"{where}: {shape[1]} channels, {level.channels} were stated.")
        for side, of in zip(shape[2:], (height, width), strict=True):
            fits = max(1, of / level.stride - LOST_UNITS) <= side <= math.ceil(of / level.stride)
            _require(fits, f"{where}: the map is {shape[2]} x {shape[3]}, which is not stride {level.stride}.")
        if trunk.fixed_size:
            continue
        gained = (grown.shape[2] - shape[2], grown.shape[3] - shape[3])
        expected = (coarsest // level.stride, 2 * coarsest // level.stride)
        _require(gained == expected, f"{where}: {coarsest} pixels more give {gained[0]} units more, not {expected[0]}.")


def _check_gradients(trunk: Backbone) -> None:
    """Every parameter serves a level, or else the classifier that was asked for."""
    reached = levels_of_tensors(trunk)
    beyond = [name for name, _ in trunk.named_parameters() if name not in reached]
    if trunk.classes == 0:
        _require(not beyond, f"{trunk.name} without classifier: no level's gradient reaches {', '.join(beyond[:3])}.")
    else:
        _require(bool(beyond), f"{trunk.name}: no parameter is the classifier's alone.")


def _check_numbers(trunk: Backbone, size: tuple[int, int], tolerance: float) -> None:
    """Evaluation is a function: of its picture only, twice the same, leaving the picture as it was."""
    pictures = _pictures(trunk, 2, *size)
    kept = pictures.clone()
    with torch.no_grad():
        once, again, alone = trunk.features(pictures), trunk.features(pictures), trunk.features(pictures[:1])
    _require(torch.equal(pictures, kept), f"{trunk.name} overwrites the picture.")
    for level, first, second, single in zip(trunk.levels, once, again, alone, strict=True):
        _require(bool(first.isfinite().all()), f"{trunk.name}, level {level.name}: values that are not finite.")
        _require(torch.equal(first, second), f"{trunk.name}, level {level.name}: two runs in evaluation differ.")
        _require(
            _close(first[:1], single, tolerance),
            f"{trunk.name}, level {level.name}: a picture's features depend on its batch, in evaluation.",
        )


def _check_copies(trunk: Backbone, size: tuple[int, int]) -> None:
    """A deep copy and a pickled one compute the same, and a state dict carries everything."""
    picture = _pictures(trunk, 1, *size)
    with torch.no_grad():
        wanted = trunk.features(picture)
        pickled: Backbone = pickle.loads(pickle.dumps(trunk))
        for way, other in (("a deep copy", copy.deepcopy(trunk)), ("pickling", pickled)):
            made = other.features(picture)
            same = all(torch.equal(a, b) for a, b in zip(wanted, made, strict=True))
            _require(same, f"{trunk.name}: {way} computes something else.")
            _require(other.levels == trunk.levels, f"{trunk.name}: {way} loses its levels.")
        fresh = _twin(trunk, classes=trunk.classes, levels=len(trunk.levels))
        if fresh is not None:
            fresh.load_state_dict(trunk.state_dict(), assign=True)
            # Buffers outside the state dict stay on the meta device, and running would say so.
            made = fresh.eval().features(picture)
            same = all(torch.equal(a, b) for a, b in zip(wanted, made, strict=True))
            _require(same, f"{trunk.name}: its state dict in a second one computes something else.")


def _check_classifier(whole: Backbone, size: tuple[int, int]) -> None:
    """Logits of the stated length, and no classifier where none was asked for. `whole` is on the meta device."""
    pictures = torch.empty(2, whole.in_channels, *(whole.classifier_size or size), device="meta")
    logits = whole.eval()(pictures)
    _require(
        tuple(logits.shape) == (2, whole.classes),
        f"{whole.name}: logits of {tuple(logits.shape)} for 2 pictures and {whole.classes} classes.",
    )
    bare = _twin(whole, classes=0, levels=None)
    if bare is not None:
        _require(bare.classes == 0, f"{whole.name}: classes=0 leaves {bare.classes} classes.")
        _check_gradients(bare)
        _require_refusal(bare, size)


def _check_cut(trunk: Backbone, whole: Backbone, count: int, size: tuple[int, int], tolerance: float) -> None:
    """levels=N builds the first N levels, no deeper parameter, no classifier, and the same features."""
    cut = _twin(trunk, classes=3, levels=count)
    if cut is None:
        return
    where = f"{trunk.name} with levels={count}"
    _require(cut.levels == whole.levels[:count], f"{where} has the levels {[level.name for level in cut.levels]}.")
    if count < len(whole.levels):
        _require(cut.classes == 0, f"{where} is cut and still has {cut.classes} classes.")
        _check_gradients(cut)
        _require_refusal(cut, size)
    unknown = set(published_state(cut)) - set(published_state(whole))
    _require(not unknown, f"{where} has tensors that the whole network has not: {sorted(unknown)[:3]}.")
    if cut.classes > trunk.classes:
        return  # this trunk was built without the classifier that the other has
    state = dict(trunk.named_parameters()) | dict(trunk.named_buffers())
    published = {trunk.published_name(name): tensor for name, tensor in state.items()}
    own = [name for name, _ in (*cut.named_parameters(), *cut.named_buffers())]
    shared = {f"trunk.{name}": published[cut.published_name(name)] for name in own}
    picture = _pictures(trunk, 1, *size)
    with torch.no_grad():
        first = torch.func.functional_call(FeaturesOnly(cut.eval()), shared, picture)
        all_levels = trunk.features(picture)
    for level, short, long in zip(cut.levels, first, all_levels, strict=False):
        _require(
            _close(short, long, tolerance),
            f"{where}: level {level.name} differs from the whole network's. Does a later layer overwrite it in place?",
        )


def _require_refusal(trunk: Backbone, size: tuple[int, int]) -> None:
    try:
        trunk(torch.empty(1, trunk.in_channels, *size, device="meta"))
    except UserError:
        return
    raise AssertionError(f"{trunk.name} without a classifier classifies all the same; it should raise a UserError.")


def _twin(trunk: Backbone, classes: int, levels: int | None) -> Backbone | None:
    """Another of this name on the meta device, None where the catalogue does not know the name."""
    try:
        with torch.device("meta"):
            return create_backbone(
                trunk.name, classes=classes, in_channels=trunk.in_channels, levels=levels, **trunk.options
            )
    except UserError:
        return None


def _meta_maps(trunk: Backbone, height: int, width: int) -> list[Tensor]:
    return features_on_meta(trunk, torch.empty(2, trunk.in_channels, height, width, device="meta"))[0]


def _pictures(trunk: Backbone, count: int, height: int, width: int) -> Tensor:
    like = next(trunk.parameters())
    drawn = torch.rand((count, trunk.in_channels, height, width), generator=torch.Generator().manual_seed(0))
    return drawn.to(like.device, like.dtype)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    scale = max(float(b.abs().max()), 1e-12)
    return float((a - b).abs().max()) <= tolerance * scale
