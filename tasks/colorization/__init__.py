"""Colours for a grey photograph: a and b of CIE Lab for every pixel, from its lightness.

Zhang, Isola, Efros: Colorful Image Colorization. ECCV 2016, arXiv:1603.08511. The whole network is `--network zhang`;
any trunk with any head is the other way. A colour is chosen among 313 bins, because several may be right and the mean
of several is grey; rare colours weigh more in training, because most pixels of photographs are nearly grey.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from ...backbones.backbone import Backbone
from ...catalogue import look_up
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Image, Kind
from ...errors import UserError, unknown_name
from ..heads import HEADS
from ..inference import original_size
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .answers import Classes
from .colours import Colours
from .encoding import NEIGHBOURS, measured_prior
from .lab import lab_of, lightness_of, rgb_to_lab
from .losses import LOSSES, find_loss
from .metrics import PROTOCOLS, ColourMetrics
from .recipes import RECIPES


@dataclass(frozen=True)
class Colorization(Task):
    """One picture in, of which the network sees the lightness; its colours out.

    The picture is shown at the size of the training ("fit") unless told otherwise: colours are guessed from what things
    are, which takes the whole picture, and need no fine detail, since the lightness that has it is the picture's own.
    Photometric augmentation does nothing here: it would change the very colours that are asked for.
    """

    answer: Literal["classes", "regression"] = "classes"
    """What the network answers for a pixel: classes (313 colours to choose from) or regression (a and b);
    default: classes."""
    neighbours: int = NEIGHBOURS
    """Nearest classes that share a pixel's colour in training: 5 in the paper, 10 in the released code; default: 5."""

    name: ClassVar[str] = "colorization"
    title: ClassVar[str] = "Colours for a grey photograph"
    paper: ClassVar[str] = "Zhang et al. 2016, arXiv:1603.08511"
    default: ClassVar[Default] = Default(data="shapes", backbone="resnet18", head="unet", recipe="shapes")
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    networks: ClassVar[dict[str, str]] = {
        "zhang": "tasks.colorization.networks:zhang",
        "zhang_affine": "tasks.colorization.networks:zhang_affine",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES["classes"])
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    watch: ClassVar[Watch] = Watch("auc_rebalanced", higher_is_better=True)

    def __post_init__(self) -> None:
        if self.answer not in LOSSES:
            raise unknown_name("answer of the task colorization", self.answer, LOSSES)
        if not 1 <= self.neighbours <= 32:
            raise UserError(f"--neighbours is {self.neighbours}; it must lie in 1 to 32.")
        # What a network answers decides which losses there are.
        object.__setattr__(self, "losses", tuple(LOSSES[self.answer]))

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The picture; networks take its lightness and nothing else."""
        image = self.field(fields, "image", Image)
        if image.channels != 3:
            raise UserError(f"Colours are learned from pictures of 3 channels; the data set's have {image.channels}.")
        return {"image": image}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The same picture, for its colours."""
        return self.inputs(fields)

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, 3, H, W) in [0, 1] to (B, 2 or 3, H, W): a, b and, from classes, sureness."""
        from .networks import ColourNetwork

        if network is not None:
            return look_up("network", network, self.networks)(self.answer)
        assert backbone is not None and head is not None
        return ColourNetwork(backbone, head, self.answer)

    def fit(self, model: Network, dataset: Dataset) -> None:
        """Measure how often every colour occurs: the rare ones are to weigh more."""
        answer: Any = model.answer
        if isinstance(answer, Classes):
            answer.prior.copy_(torch.from_numpy(measured_prior(dataset)))

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: what the network says of every fourth pixel against that pixel's colour."""
        from .networks import STRIDE, ColourNetwork, ZhangNetwork

        assert isinstance(model, (ColourNetwork, ZhangNetwork))
        terms = find_loss(self.answer, loss)

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            ab = rgb_to_lab(batch["image"][..., ::STRIDE, ::STRIDE].float())[:, 1:]
            return terms(model.raw(batch["image"]), ab, model.answer, self.neighbours)

        return (Phase("colours", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """auc, plain and rebalanced, psnr, colourfulness."""
        return ColourMetrics()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """Grey: the lightness as it is, a = b = 0. No colour is learned from the training set."""

        def answer(sample: Sample) -> Prediction:
            lightness = lightness_of(sample["image"])
            return Colours(lightness, np.zeros((*lightness.shape, 2), np.float32))

        return answer

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """a and b and, from classes, sureness."""
        if self.answer == "regression":
            return Output(("a", "b"), "CIE Lab under D65")
        return Output(("a", "b", "sureness"), "a and b of CIE Lab under D65; sureness from 0 to 1")

    def decode(self, output: Any, query: Query) -> Prediction:
        """a and b resized to the picture, beside the lightness of its own pixels."""
        lightness = lightness_of(query.inputs["image"])
        answered = original_size(output, query)
        return Colours(lightness, answered[..., :2], answered[..., 2] if answered.shape[-1] == 3 else None)

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """The picture's own colours."""
        lab = lab_of(sample["image"])
        return Colours(lab[..., 0], lab[..., 1:])
