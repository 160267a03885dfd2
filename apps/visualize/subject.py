"""What is looked into: a network, the way of pictures into it, and one pass whose activations are kept.

Everything is differentiated with respect to pixels in [0, 1], with the trunk's preprocessing inside the function: one
definition serves bare trunks and every task's network. The gradient with respect to the normalised input is this one
times std / (high - low) of the preprocessing. In pixels "black" is 0, and "grey" is the preprocessing's mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ...backbones.opened_weights import WeightsWarning
from ...backbones.weights import WEIGHTS
from ...datasets.fields import Category, Image, Kind, collate
from ...datasets.geometry import Size
from ...datasets.imagenet import imagenet_classes
from ...errors import UserError
from ...tasks import create_task, list_tasks
from ...tasks.device import choose_device
from ...tasks.inference import Predictor, load, run_padded
from ...tasks.task import Network, Query, Task
from .covered import covered_trunk
from .looking import Enough, Uncut, keeping, level_makers, level_names, still
from .nearest import no_such
from .showing import Shown, read_sources

__all__ = ["Seen", "Shown", "Subject", "open_subject", "still", "subject_of", "subject_of_trunk"]


@dataclass(frozen=True)
class Seen:
    """One forward pass.

    Attributes:
        pixels: what went in, (B, C, H, W) in [0, 1] each.
        answer: logits (B, classes), or the task's raw output: (B, C, H, W) at the size of the pixels for dense tasks,
            (B, J, h, w) heat maps or (B, J, 3) coordinates for pose; None where it was not asked for.
        levels: activations by name. A trunk that sees two pictures a sample makes 2 B of them, the first ones first.
    """

    pixels: tuple[Tensor, ...]
    answer: Tensor | None
    levels: dict[str, Tensor]

    @property
    def output(self) -> Tensor:
        """The answer, for those who asked for it."""
        assert self.answer is not None, "look(..., answer=False) leaves the answer out"
        return self.answer


class BareTrunk(Network):
    """A trunk without a classifier: it has levels, and no answer."""

    takes = "exact"

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = backbone.levels[-1].stride

    def forward(self, image: Tensor) -> None:
        """Make the levels of (B, C, H, W) in [0, 1]."""
        self.backbone.features(self.backbone.preprocessing(image))


@dataclass
class Subject:
    """An opened network and the way of pictures into it.

    Attributes:
        name: as it was asked for, for sentences and titles.
        model: takes pixels in [0, 1].
        trunk: whose levels have names; None for whole networks without one.
        predictor: how the network is asked elsewhere; None for a trunk without a classifier.
        size: (height, width) at which pictures are shown, or that they cover.
        seed: of what a network draws when it is asked, which few do: every look draws the same.
    """

    name: str
    model: Network
    trunk: Backbone | None
    predictor: Predictor | None
    size: Size
    seed: int = 0
    _makers: dict[str, nn.Module | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def task(self) -> Task | None:
        """What the network is asked; None for a trunk without a classifier."""
        return None if self.predictor is None else self.predictor.task

    @property
    def fields(self) -> dict[str, Kind]:
        """The kinds of what it was made for."""
        if self.predictor is not None:
            return self.predictor.fields
        assert self.trunk is not None
        return {"image": Image(self.trunk.in_channels)}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names among which it chooses one for a picture; none where it does not."""
        asked = self.task.targets(self.fields).values() if self.task is not None else ()
        return next((kind.names for kind in asked if isinstance(kind, Category)), ())

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    @property
    def grey(self) -> tuple[float, ...]:
        """The colour of a picture, in [0, 1] a channel, that the trunk's preprocessing makes 0.

        Without a trunk it is one number for all channels, 0.5.
        """
        if self.trunk is None:
            return (0.5,)
        one = self.trunk.preprocessing
        low, high = one.range
        means = one.mean[:: -1 if one.order == "BGR" else 1]
        # A trunk that reads two pictures as six channels has the grey of each, which is the same.
        inputs = self.task.inputs(self.fields) if self.task else self.fields
        count = getattr(next(iter(inputs.values())), "channels", len(means))
        return tuple((mean - low) / (high - low) for mean in means)[:count]

    @property
    def together(self) -> int:
        """How many pictures may be looked at at once: one where pictures of a batch change each other's answers."""
        return 1 if getattr(self.model, "rule", None) == "batch-stats" else 16

    def shown(self, *sources: Any) -> Shown:
        """Pictures as inference shows them to the network: classifiers resize and crop, dense tasks see all ("fit").

        Args:
            sources: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow.

        Raises:
            UserError: too few or too many, no picture, or pictures of two sizes.
        """
        inputs = self.task.inputs(self.fields) if self.task else self.fields
        pictures, source = read_sources(self.name, inputs, sources)
        corner = None
        if self.task is not None:
            box, _ = self.task.sought(pictures)
            if box is not None:
                # Pose looks for the largest person.
                top, left, height, width = self.task.window(box, source)
                pictures = {name: each[top : top + height, left : left + width] for name, each in pictures.items()}
                source, corner = (height, width), (left, top)
        geometry = self._geometry(source)
        moved = {name: kind.move(pictures[name], geometry) for name, kind in inputs.items()}
        kinds = inputs
        if self.task is not None:
            moved = self.task.prepare(moved, None, 0.0)
            prepared = self.task.prepared(self.fields)
            kinds = {name: prepared[name] for name in inputs}
        batch = collate([moved], kinds)
        pixels = tuple(kind.arrive(batch[name].to(self.device)).float() for name, kind in kinds.items())
        return Shown(pixels, Query(pictures, self.fields, source, geometry.matrix(), corner))

    def pixels(self, *sources: Any) -> tuple[Tensor, ...]:
        """As `shown`, the tensors alone: (1, C, H, W) float32 in [0, 1] each."""
        return self.shown(*sources).pixels

    def _geometry(self, source: Size) -> Any:
        from ...tasks.classification.views import centre_crop

        if self.task is None:
            assert self.trunk is not None
            return centre_crop(source, self.size, self.trunk.preprocessing)[0]
        view = "fit" if "fit" in self.task.views else self.task.views[0]
        return self.task.shown(view, source, self.size, self.model)[0]

    def look(self, pixels: tuple[Tensor, ...], levels: Iterable[str] = (), answer: bool = True) -> Seen:
        """One forward pass that can be differentiated: with respect to the pixels, where they require gradients, and
        to every level.

        Args:
            pixels: (B, C, H, W) in [0, 1] each, as `pixels` makes them or of any other size that the network takes.
            levels: names of the trunk's levels or of any submodule, whose activations are kept.
            answer: whether the answer is wanted; without it, the pass ends when the last level has been seen.

        Returns:
            What was seen. The network is as it was: no hooks, modes and `requires_grad` restored.

        Raises:
            UserError: no level or submodule has such a name, or it makes no map.
        """
        wanted = tuple(dict.fromkeys(levels))
        kept: dict[str, Tensor] = {}
        made: Tensor | None = None
        pixels = tuple(each.to(self.device) for each in pixels)
        places = {name: self._place(name) for name in wanted}
        drawing = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        with drawing, torch.enable_grad(), still(self.model), keeping(places, self.trunk, kept, stop=not answer):
            torch.manual_seed(self.seed)
            with suppress(Enough), Uncut():
                made = run_padded(self.model, list(pixels))
            if self.trunk is not None and any(name not in kept for name in wanted if places[name] is None):
                # Networks of others may classify without `features`: their levels are then seen beside the answer.
                with suppress(Enough):
                    self.trunk.features(self.trunk.preprocessing(pixels[0]))
        for name in wanted:
            if name not in kept:
                raise UserError(f"'{name}' of {self.name} is not used when it answers; name another level.")
            if not kept[name].is_meta and bool(kept[name].isnan().any()):
                raise UserError(f"The weights of {self.name} end in front of '{name}'; name an earlier level.")
        return Seen(pixels, made if answer else None, {name: kept[name] for name in wanted})

    def known_levels(self) -> list[str]:
        """The trunk's levels, then every submodule by its path, as `look` takes them."""
        return list(dict.fromkeys([*level_names(self.trunk), *self._modules()]))

    def _modules(self) -> dict[str, nn.Module]:
        """Submodules by path: the whole network's, and the trunk's own without the trunk's name in front."""
        named = [*self.model.named_modules(), *(self.trunk.named_modules() if self.trunk is not None else ())]
        return {name: module for name, module in named if name}

    def _place(self, name: str) -> nn.Module | None:
        """The submodule whose output a level is; None where no submodule makes it."""
        if self.trunk is not None and name in level_names(self.trunk):
            self._makers = self._makers or level_makers(self.trunk)
            return self._makers[name]
        modules = self._modules()
        if name not in modules:
            raise no_such(f"level of {self.name}", name, self.known_levels())
        return modules[name]


def open_subject(
    network: str, weights: str | Path | None = None, levels: int | None = None, device: str = "cpu", **options: Any
) -> Subject:
    """A network to look into.

    Args:
        network: a trunk's name, a checkpoint's file or run folder, or a task's name for the checkpoint that ships.
        weights: of a trunk: a file, or "imagenet"; None: random ones, with a warning. A file that covers a part of the
            network opens that part.
        levels: build only so many of a trunk's levels, without its classifier; None: all that the weights cover.
        device: cpu, cuda, mps or auto.
        options: what the trunk itself offers (`stride_in`).

    Raises:
        UserError: no such network or file, or weights of another network.
    """
    path = Path(network)
    if path.suffix in (".safetensors", ".pth") or path.is_dir() or network in WEIGHTS or network in list_tasks():
        if weights is not None or levels is not None or options:
            raise UserError(f"'{network}' comes with its weights, all of them; leave --weights and --levels out.")
        return subject_of(load(network, device, amp="off"), network)
    if weights is None:
        said = f"{network} has random weights; give --weights FILE or imagenet to see what it learned."
        warnings.warn(said, WeightsWarning, stacklevel=2)
        trunk = create_backbone(network, classes=None if levels is None else 0, levels=levels, **options)
    else:
        trunk = covered_trunk(network, weights, levels, options)
    return subject_of_trunk(trunk.to(choose_device(device)))


def subject_of(predictor: Predictor, name: str | None = None) -> Subject:
    """A task's network as a subject; the predictor's other options (precision, views) play no part."""
    model = predictor.model
    trunk = getattr(model, "backbone", None)
    name = name or f"the {predictor.task.name} network"
    return Subject(name, model, trunk if isinstance(trunk, Backbone) else None, predictor, predictor.size)


def subject_of_trunk(trunk: Backbone, names: tuple[str, ...] = ()) -> Subject:
    """A trunk as a subject: with its classifier it is asked as the task classification asks, else it has levels only.

    Args:
        trunk: any trunk.
        names: of its classes; none: ImageNet's where there are a thousand, else numbers.
    """
    crop = trunk.preprocessing.crop
    size = trunk.fixed_size or trunk.classifier_size or (crop, crop)
    if not trunk.classes:
        return Subject(trunk.name, BareTrunk(trunk), trunk, None, size)
    from ...tasks.classification.networks import Classifier

    usual = imagenet_classes()[1]
    if not names:
        names = usual if trunk.classes == len(usual) else tuple(f"class {number}" for number in range(trunk.classes))
    category = Category(names)
    fields: dict[str, Kind] = {"image": Image(trunk.in_channels), "category": category}
    device = next(trunk.parameters()).device
    predictor = Predictor(create_task("classification"), Classifier(trunk), fields, size, device)
    return Subject(trunk.name, predictor.model, trunk, predictor, size)
