"""Classification: one name for a whole picture. Every trunk of this package learned by it.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012. There is no
head here: the trunk's own classifier answers, and the recipes are those of the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Category, Image, Kind
from ...datasets.geometry import Geometry, Size
from ...datasets.photometry import pca_colour
from ..task import Batch, Default, Metrics, Network, Output, Phase, Prediction, Query, Task, Terms, Watch
from ..training.options import Options
from .losses import LOSSES
from .metrics import PROTOCOLS, RankingMetrics
from .networks import Classifier, Probabilities
from .ranking import Ranking
from .recipes import RECIPES
from .views import DENSE_VIEWS, VIEWS

BASELINE_SAMPLES = 1000
"""Training samples whose most frequent class is the trivial answer."""


@dataclass(frozen=True)
class Classification(Task):
    """One picture in, one name out."""

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "A name for a picture"
    paper: ClassVar[str] = "Krizhevsky et al. 2012"
    default: ClassVar[Default] = Default(data="shapes", backbone="resnet20_cifar", head=None, recipe="shapes")
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    watch: ClassVar[Watch] = Watch("top1", higher_is_better=True)
    views: ClassVar[tuple[str, ...]] = tuple(VIEWS)

    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The picture."""
        return {"image": self.field(fields, "image", Image)}

    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """What it shows."""
        return {"category": self.field(fields, "category", Category)}

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """The colour noise of Krizhevsky et al. 2012, section 4.1; at strength 1 with their deviation of 0.1."""
        if rng is None or colour == 0 or sample["image"].shape[-1] != 3:
            return sample
        return {**sample, "image": pca_colour(sample["image"], rng, 0.1 * colour)}

    def names(self, fields: dict[str, Kind]) -> tuple[str, ...]:
        """What the data set calls its classes."""
        return self.field(fields, "category", Category).names

    def classes(self, fields: dict[str, Kind]) -> int:
        """As many as the data set has names."""
        return len(self.names(fields))

    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, classes) logits."""
        assert backbone is not None and head is None
        return Classifier(backbone)

    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """One phase: the logits against the class, auxiliary classifiers included."""
        assert isinstance(model, Classifier)
        terms = LOSSES[loss]

        def compare(batch: Batch, made: dict[str, Any]) -> Terms:
            return terms([logits.float() for logits in model(batch["image"], True)], batch["category"])

        return (Phase("classifier", model, compare),)

    def metrics(self, protocol: str) -> Metrics:
        """top1 and top5."""
        return RankingMetrics()

    def view_of(self, protocol: str) -> str:
        """A protocol is a way to show the picture: they share their names."""
        return protocol

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """How often every class occurs in training samples."""
        count = min(BASELINE_SAMPLES, len(dataset))
        # From the first to the last: stored sets often lie sorted by class.
        span = count if dataset.unbounded else len(dataset)
        names = self.names(dataset.fields)
        seen = [int(dataset.read(number * span // count)["category"]) for number in range(count)]
        share = np.bincount(seen, minlength=len(names)) / count
        return lambda sample: Ranking(names, share)

    def shown(self, view: str, source: Size, trained: Size, model: Network) -> tuple[Geometry, ...]:
        """As the trunk's preprocessing has it: short side `resize`, crop `crop`, at the size of the training."""
        assert isinstance(model, Classifier)
        return VIEWS[view](source, trained, model.backbone.preprocessing)

    def asked(self, model: Network, view: str) -> Network:
        """For probabilities, so that views are averaged after the softmax; densely where the view says so."""
        assert isinstance(model, Classifier)
        return Probabilities(model, dense=view in DENSE_VIEWS)

    def joined(self, outputs: list[Tensor]) -> Tensor:
        """The mean probability over the views."""
        return sum(outputs[1:], outputs[0]) / len(outputs)

    def mirrored(self, output: Tensor, fields: dict[str, Kind], width: int) -> Tensor:
        """A name has no left and right."""
        return output

    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """A probability for every name."""
        return Output(self.names(fields), "probability")

    def decode(self, output: Any, query: Query) -> Prediction:
        """Every class with its probability."""
        return Ranking(self.names(query.fields), output[0].cpu().numpy())

    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """All the probability on the true class."""
        names = self.names(fields)
        return Ranking(names, np.eye(len(names))[int(sample["category"])])
