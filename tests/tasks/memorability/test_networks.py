"""MemNet to the parameter and the layer, and every backbone with one output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.alexnet import CAFFE_LRN
from densevision.backbones.layers import LocalResponseNorm
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import Image, Scalar
from densevision.errors import UserError
from densevision.tasks.memorability import Memorability
from densevision.tasks.memorability.networks import BackboneScore, MemNet, ScoreScale
from densevision.tasks.training.optimizers import freeze_backbone, parameter_groups
from densevision.tasks.training.options import Options

from ...every_backbone import EVERY_BACKBONE

FIELDS = {"image": Image(), "score": Scalar()}


class Scores(Dataset):
    """Gray images with these scores."""

    title, terms = "Scores", "none"

    def __init__(self, *scores: float) -> None:
        super().__init__("")
        self.fields, self.scores = dict(FIELDS), scores

    def __len__(self) -> int:
        return len(self.scores)

    def read(self, index: int):
        return {"image": np.zeros((8, 8, 3), np.uint8), "score": np.array(self.scores[index])}


def on_meta(name: str | None) -> BackboneScore | MemNet:
    task = Memorability()
    with torch.device("meta"):
        backbone = create_backbone(name, None, **task.backbone_options(FIELDS)) if name else None
        network = task.build(FIELDS, backbone, None, None if name else "memnet")
    assert isinstance(network, BackboneScore | MemNet)
    return network


def test_memnet_has_the_parameters_of_caffenet_with_one_output():
    # facts-next, count summary
    assert sum(parameter.numel() for parameter in on_meta(None).parameters()) == 56_872_321
    # With the same groups, our AlexNet of one output has as many.
    assert sum(parameter.numel() for parameter in on_meta("alexnet").parameters()) == 56_872_321
    assert sum(parameter.numel() for parameter in on_meta("alexnet_tv").parameters()) == 57_007_937
    assert sum(parameter.numel() for parameter in on_meta("resnet50").parameters()) == 23_510_081


def test_memnet_pools_before_it_normalizes():
    # B.1: CaffeNet's order, unlike AlexNet's.
    network = on_meta(None)
    names = [name for name, _ in network.backbone.get_submodule("convolutions").named_children()]
    assert names[:8] == ["conv1", "relu1", "pool1", "lrn1", "conv2", "relu2", "pool2", "lrn2"]
    layers = dict(network.backbone.named_modules())
    assert isinstance(layers["convolutions.pool1"], nn.MaxPool2d)
    assert isinstance(layers["convolutions.lrn1"], LocalResponseNorm)
    groups = [layer.groups for layer in layers.values() if isinstance(layer, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]
    assert network.backbone.options["lrn"] == {"size": 5, "alpha": CAFFE_LRN.alpha, "beta": 0.75, "k": 1.0}


def test_memnet_takes_rgb_of_0_to_255_less_the_mean_color():
    preprocessing = on_meta(None).backbone.preprocessing
    assert (preprocessing.order, preprocessing.range, preprocessing.std) == ("RGB", (0.0, 255.0), (1.0, 1.0, 1.0))
    assert preprocessing.mean[0] > preprocessing.mean[1] > preprocessing.mean[2]  # ImageNet is reddish
    assert (preprocessing.resize, preprocessing.crop) == (256, 227)


@pytest.fixture(scope="module")
def memnet() -> MemNet:
    torch.manual_seed(0)
    return MemNet().eval()


def test_a_dense_evaluation_of_one_crop_is_the_score(memnet):
    image = torch.rand(1, 3, 227, 259)
    with torch.no_grad():
        assert memnet.forward_dense(image).shape == (1, 1, 1, 2)
        torch.testing.assert_close(memnet.forward_dense(image[..., 32:])[..., 0, 0], memnet(image[..., 32:]))


@pytest.mark.parametrize("size", [(227, 227), (64, 96), (31, 7), (300, 201)])
def test_memnet_takes_images_of_any_size(memnet, size):
    with torch.no_grad():
        output = memnet(torch.rand(2, 3, *size))
    assert output.shape == (2, 1) and bool(output.isfinite().all())


@pytest.mark.parametrize("name", EVERY_BACKBONE)
def test_every_backbone_predicts_one_score(name):
    network = on_meta(name)
    size = network.backbone.classifier_input_size or network.backbone.fixed_size or (101, 133)
    channels = network.backbone.in_channels
    with torch.no_grad():
        output = network.train()(torch.empty(2, channels, *size, device="meta"), True)
    assert [each.shape for each in output] == [(2, 1)] * len(output)


def test_a_backbone_without_classifier_is_refused():
    with pytest.raises(UserError, match="without a classifier"):
        BackboneScore(create_backbone("resnet20_cifar", num_classes=0))


def test_an_untrained_network_predicts_in_units_of_the_training_scores():
    scale = ScoreScale()
    scale.measure(Scores(0.4, 0.6, 0.8))
    assert float(scale.mean) == pytest.approx(0.6) and float(scale.std) == pytest.approx(np.std([0.4, 0.6, 0.8]))
    raw = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.bfloat16)
    assert scale(raw).dtype == torch.float32
    assert scale(raw)[:, 0].tolist() == pytest.approx([0.6 - 0.1633, 0.6, 0.6 + 0.3266], abs=1e-4)
    scale.measure(Scores(0.5, 0.5))
    assert (float(scale.mean), float(scale.std)) == (0.5, 1.0)


def test_the_last_layer_of_memnet_learns_ten_times_as_fast_as_all_others():
    # Khosla et al. 2015: the other layers come from a trained network.
    network = on_meta(None)
    options = Options(weight_decay=0.0, weight_decay_on="all")
    scales = {
        id(parameter): group["lr_scale"]
        for group in parameter_groups(network, options, Memorability.recipes["memnet-2015"].backbone_lr_factor)
        for parameter in group["params"]
    }
    named = {name: scales.pop(id(parameter)) for name, parameter in network.named_parameters()}
    assert not scales and {name for name, scale in named.items() if scale == 1.0} == {
        "head.fc8.weight",
        "head.fc8.bias",
    }
    assert set(named.values()) == {1.0, 0.1}


def test_a_frozen_memnet_trains_its_last_layer():
    network = on_meta(None)
    freeze_backbone(network)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained == ["head.fc8.weight", "head.fc8.bias"]
