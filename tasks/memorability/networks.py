"""Networks that predict a memorability score: any backbone with its own classifier of one output or with a ridge
regression on its levels, and MemNet; and the map of their scores over an image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones import create_backbone
from ...backbones.alexnet import CAFFE_LRN, CLASSIFIER_SIDE, PAPER_SIZE, classifier
from ...backbones.backbone import Backbone
from ...backbones.initialization import initialize
from ...backbones.layers import classifier_as_convolutions
from ...datasets.dataset import Dataset
from ...datasets.field_types import collate
from ..crops import center_crop
from ..network import Classifier, Network
from ..tiling import eval_mode
from .ridge import Ridge, statistics

CALIBRATION_SAMPLES = 300
"""Maximum number of training samples whose scores `calibrate` measures."""

FIT_SAMPLES, FIT_BATCH = 5000, 16
"""Maximum number of training samples that a ridge regression is fitted to, and images per forward pass."""


class ScoreScale(nn.Module):
    """Mean and standard deviation of the training scores, in which a network's raw output is expressed.

    Scores of a dataset differ little from their mean. In these units, an untrained network predicts about the mean
    score, and no learning rate depends on the scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def measure(self, dataset: Dataset) -> None:
        """Measure the scores of a training set."""
        scores = torch.tensor([float(dataset.read(index)["score"]) for index in dataset.spread(CALIBRATION_SAMPLES)])
        self.mean.copy_(scores.mean())
        deviation = scores.std(correction=0)
        # Equal scores have no scale.
        self.std.copy_(deviation if deviation > 0 else torch.ones(()))

    def forward(self, output: Tensor) -> Tensor:
        """Scores of a raw output of any shape, float32; not clipped to 0..1."""
        return self.mean + self.std * output.float()


class BackboneScore(Classifier):
    """A backbone with its own classifier of one output.

    Raises:
        UserError: the backbone has no classifier.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.scale = ScoreScale()

    def calibrate(self, dataset: Dataset) -> None:
        self.scale.measure(dataset)

    def forward(self, image: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) in [0, 1] to (B, 1) scores; with `auxiliary` those of every classifier, main first."""
        outputs = super().forward(image, auxiliary)
        return self.scale(outputs) if isinstance(outputs, Tensor) else tuple(map(self.scale, outputs))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, 1, h, w) scores at every position of the classifier."""
        return self.scale(super().forward_dense(image))


class RidgeScore(Network):
    """A backbone, any of its levels, and a ridge regression on their statistics, which is fitted before the first step.

    Args:
        backbone: a backbone with trained weights; its classifier, if any, is not used.
        head: a head for the levels of the backbone.
    """

    input_policy = "fixed"
    backbone: Backbone
    head: Ridge

    def __init__(self, backbone: Backbone, head: Ridge) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.stride = backbone.levels[-1].stride

    def calibrate(self, dataset: Dataset) -> str:
        """Fit the head to a training set."""
        features, scores = self.measure(dataset)
        fit = self.head.fit(features, scores)
        return (
            f"Ridge regression of {len(scores)} scores on {features.shape[1]} features: penalty {fit.penalty:.3g}; in "
            f"cross-validation rho {fit.rho:.3f}, mse {fit.mse:.4f}, that of the mean score {np.var(scores):.4f}"
        )

    @torch.no_grad()
    def measure(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, F) for the head and scores (N,) of a dataset, whose images are cropped as in `center-crop`."""
        preprocessing, image = self.backbone.preprocessing, dataset.fields["image"]
        size = preprocessing.crop, preprocessing.crop
        indices = dataset.spread(FIT_SAMPLES)
        features, scores = [], []
        with eval_mode(self):
            for start in range(0, len(indices), FIT_BATCH):
                samples = []
                for index in indices[start : start + FIT_BATCH]:
                    (geometry,) = center_crop(dataset.image_size(index), size, preprocessing)
                    samples.append(dataset.read_transformed(index, geometry))
                batch = collate(samples, {"image": image})["image"]
                features.append(statistics(self._levels(image.to_input(batch))).numpy())
                scores += [float(sample["score"]) for sample in samples]
        return np.concatenate(features), np.array(scores)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, 1) scores."""
        return self.head(self._levels(image))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to the share of every position in the score, (B, 1, h, w) of the last level."""
        return self.head.forward_dense(self._levels(image))

    def _levels(self, image: Tensor) -> list[Tensor]:
        return self.backbone.features(self.backbone.preprocessing(image))


class MemNet(Network):
    """MemNet of Khosla, Raju, Torralba, Oliva 2015 (ICCV, section 4): CaffeNet with one output, `fc8-euclidean`.

    CaffeNet is the AlexNet of two groups with pooling before response normalization, in Caffe's constants.
    56,872,321 parameters. Input: crops of 227 x 227 of images whose short side is 256.

    Deviations: colors are RGB (the released weights take BGR: flip the channels of their first layer). The output is in
    units of `ScoreScale`; the released network gives the score itself. The paper initializes the network with
    Hybrid-CNN, trained on ImageNet and Places; from scratch, layers are initialized as in AlexNet. Images of other
    sizes are resized to 227 x 227.
    """

    input_policy = "fixed"
    stride = 32
    backbone: Backbone
    head: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        self.backbone = create_backbone("alexnet", num_classes=0, pool_first=True, lrn=CAFFE_LRN)
        self.head = classifier("alexnet", 1)
        initialize(self.head, "gaussian")
        for name, parameter in self.head.named_parameters():
            if name in ("fc6.bias", "fc7.bias"):  # section 5 of AlexNet
                nn.init.ones_(parameter)
        self.scale = ScoreScale()

    def calibrate(self, dataset: Dataset) -> None:
        self.scale.measure(dataset)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """All layers but the last: the paper takes them from Hybrid-CNN, and fc8 alone learns ten times as fast."""
        return [*self.backbone.parameters(), *self.head[:-1].parameters()]

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 1) scores."""
        if image.shape[-2:] != PAPER_SIZE:
            image = functional.interpolate(image, PAPER_SIZE, mode="bilinear", align_corners=False, antialias=True)
        return self.scale(self.head(self._features(image).flatten(1)))

    def forward_dense(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], at least 227 x 227, to (B, 1, h, w) scores at every position of the network."""
        return self.scale(classifier_as_convolutions(self.head, self._features(image), CLASSIFIER_SIDE))

    def _features(self, image: Tensor) -> Tensor:
        return self.backbone.features(self.backbone.preprocessing(image))[-1]


class ScoreMap(Network):
    """Memorability map: the score at every position of an image, by dense evaluation.

    Khosla et al. 2015 apply MemNet to overlapping regions of an image, all at once with fully connected layers as
    convolutions. A backbone that averages its last level before its one linear layer is evaluated at every unit of this
    level: the map's mean is the score of the image (class activation mapping; Zhou et al. 2016, arXiv:1512.04150). That
    holds for a ridge regression, too.

    Args:
        model: the network.
    """

    input_policy = "fixed"

    def __init__(self, model: BackboneScore | RidgeScore | MemNet) -> None:
        super().__init__()
        self.model, self.stride = model, model.stride

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, 1, H, W) scores of positions around the center; edges are repeated."""
        scores = functional.interpolate(self.model.forward_dense(image), scale_factor=self.stride, mode="bilinear")
        (height, width), (h, w) = image.shape[-2:], scores.shape[-2:]
        top, left = (height - h) // 2, (width - w) // 2
        return functional.pad(scores, (left, width - w - left, top, height - h - top), "replicate")
