"""Networks of hand pose: parameters, layers, heads, prior and loss. Facts-next, part C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.preact_resnet import PreActBlock
from densevision.datasets import open_dataset
from densevision.datasets.dataset import FirstSamples, Sample
from densevision.errors import UserError
from densevision.tasks.hand_pose import HandPose
from densevision.tasks.hand_pose.deepprior import DeepPrior, DeepPriorPlusPlus, MultiScale, RefinedDeepPrior
from densevision.tasks.hand_pose.heads import BackboneHand, HeatMaps, Regression
from densevision.tasks.hand_pose.losses import l2
from densevision.tasks.hand_pose.networks import PosePrior

DATASET = open_dataset("synthetic-hands", None, "test")
FIELDS = DATASET.fields
# One of each file; the others are slow.
QUICK = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet18", "resnet20_cifar")
BACKBONES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in list_backbones()]


# --- networks


@pytest.mark.parametrize(("joints", "parameters"), [(14, 2_076_308), (16, 2_076_494), (21, 2_076_959)])
def test_deepprior_has_the_parameters_of_the_released_code(joints, parameters):
    network = DeepPrior(joints, 30)
    assert sum(each.numel() for each in network.parameters()) == 2_075_006
    assert sum(each.numel() for each in network.state_dict().values()) == parameters


@pytest.mark.parametrize(("joints", "parameters"), [(14, 2_087_306), (16, 2_093_456), (21, 2_108_831)])
def test_without_a_prior_there_are_more_parameters(joints, parameters):
    # T: the same network with a last layer of 3 J outputs.
    assert sum(each.numel() for each in DeepPrior(joints, 0).state_dict().values()) == parameters


def test_layers_of_deepprior_have_the_sizes_of_the_released_code():
    network = DeepPrior(16, 30)
    sizes, x = [], torch.zeros(1, 1, 128, 128)
    for layer in network.layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[0] == (8, 124, 124) and sizes[1] == (8, 31, 31) and sizes[4] == (8, 13, 13) and sizes[8] == (968,)
    assert [layer.p for layer in network.layers if isinstance(layer, torch.nn.Dropout)] == [0.3, 0.3]


def test_deepprior_starts_as_released():
    torch.manual_seed(0)
    layers: Any = DeepPrior(16, 30).requires_grad_(False).layers
    assert float(layers[0].weight.std()) == pytest.approx((2 / 25) ** 0.5, rel=0.15)
    assert float(layers[9].weight.std()) == pytest.approx(0.01, rel=0.02)
    assert float(layers[15].weight.abs().max()) == pytest.approx((6 / (1024 + 30)) ** 0.5, rel=0.01)
    assert all(not layers[index].bias.any() for index in (0, 3, 6, 9, 12, 15))


def test_the_multi_scale_network_has_the_parameters_of_the_released_code():
    # `ScaleNet` for the palm alone: crops of 128, 64 and 32 pixels.
    network = MultiScale(1, 0)
    assert sum(each.numel() for each in network.parameters()) == 3_567_651
    assert network.crops[2](torch.zeros(1, 1, 32, 32)).shape == (1, 512)


def test_deepprior_plus_plus_is_a_residual_network_of_twenty_bottlenecks():
    with torch.device("meta"):
        network = DeepPriorPlusPlus(14, 30)
        assert network.blocks(network.stem(torch.empty(2, 1, 128, 128))).shape == (2, 256 * 4 * 4)
    assert sum(isinstance(module, PreActBlock) for module in network.modules()) == 20
    assert sum(each.numel() for each in network.parameters()) == 6_190_046


def test_refinement_starts_at_the_network_without_it_and_looks_around_each_joint():
    torch.manual_seed(0)
    network = RefinedDeepPrior(3, 0).eval()
    depth = torch.ones(2, 1, 128, 128)
    depth[:, :, 40:60, 70:90] = torch.rand(2, 1, 20, 20)
    torch.testing.assert_close(network(depth), DeepPrior.forward(network, depth))
    torch.nn.init.normal_(network.offset.weight)
    joints = torch.zeros(2, 9)
    # Around the first joint there is something, around the others there is nothing, whose patches are alike.
    joints[:, :3] = torch.tensor([80 / 64 - 1, 50 / 64 - 1, 0])
    joints[:, 3:] = torch.tensor([-0.9, 0.9, 0]).repeat(2)
    moved = network.refine(depth, joints) - joints
    assert not torch.allclose(moved[0, :3], moved[1, :3]) and torch.allclose(moved[0, 3:], moved[1, 3:])
    terms = l2(network, depth, torch.rand(2, 3, 3))
    assert set(terms) == {"l2", "refined"}
    # The refinement does not train the first stage.
    terms["refined"].backward()
    assert all(parameter.grad is None for parameter in network.layers.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_predicts_joints_with_every_head(backbone):
    with torch.device("meta"):
        body = create_backbone(backbone, num_classes=0, in_channels=1)
        depth = torch.empty(2, 1, 128, 128)
        features = body.features(depth)
        for head in (Regression, HeatMaps):
            network = BackboneHand(body, head, 16, 30)
            network.backbone.features = lambda image: features  # type: ignore[method-assign]
            assert network(depth).shape == (2, 48)
            network.regress(depth).sum().backward(retain_graph=True)
            assert all(parameter.grad is not None for parameter in network.head.parameters())


def test_heat_maps_give_the_mean_position_and_the_mean_depth_under_them():
    class Peaks(torch.nn.Module):
        def forward(self, features, size):
            maps = torch.full((1, 4, *size), -50.0)
            maps[0, 0, 8, 24] = 50  # of joint 0
            maps[0, 1, 8, 8] = maps[0, 1, 8, 10] = 50
            maps[0, 2, 8, 24] = 0.25
            maps[0, 3, 8, 8], maps[0, 3, 8, 10] = -1, 0.5
            return maps

    head = HeatMaps(create_backbone("resnet20_cifar", num_classes=0, in_channels=1).levels, 2, 6)
    head.decoder = Peaks()  # type: ignore[assignment]
    expected = [24.5 / 16 - 1, 8.5 / 16 - 1, 0.25, 9.5 / 16 - 1, 8.5 / 16 - 1, -0.25]
    assert head([], (128, 128))[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_other_sizes_are_resized_without_interpolation():
    network = DeepPrior(16, 30).eval()
    depth = torch.rand(1, 1, 128, 128)
    doubled = depth.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(network(doubled), network(depth))


# --- the prior


def test_the_prior_is_the_principal_components():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 3)) * (5, 2, 1)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0][:3]
    poses = rng.normal(size=12) + hidden @ axes
    prior = PosePrior(3, 12)
    assert prior.fit(poses) == pytest.approx(1)
    tensor = torch.from_numpy(poses).float()
    # T: rows are orthonormal; coefficients = (pose - mean) components^T.
    torch.testing.assert_close(prior.components @ prior.components.T, torch.eye(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(prior.encode(tensor), (tensor - prior.mean) @ prior.components.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prior(prior.encode(tensor)), tensor, atol=1e-4, rtol=1e-4)
    variances = prior.encode(tensor).var(0)
    assert bool((variances[:-1] >= variances[1:]).all())
    two = PosePrior(2, 12)
    assert two.fit(poses) == pytest.approx(1 - np.linalg.svd(poses - poses.mean(0))[1][2] ** 2 / np.sum(
        (poses - poses.mean(0)) ** 2), abs=1e-6)  # fmt: skip


def test_the_prior_is_fitted_to_normalized_joints_that_are_clipped():
    # T: normalized by half the cube and clipped to [-1, 1].
    class Far(FirstSamples):
        def read(self, index: int) -> Sample:
            sample = self.dataset.read(index)
            joints = sample["joints"].copy()
            joints[5] = sample["cube"][:3] + np.array([1000 * (-1) ** index, 0, 0])
            return {**sample, "joints": joints}

    network = DeepPrior(16, 30)
    assert network.prior is not None
    said = network.calibrate(Far(DATASET, 12))
    assert said is not None and "30 principal components" in said and "12 poses" in said
    assert network.prior.mean.view(16, 3)[5].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.calibrate(Far(DATASET, 12))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_prior_of_more_components_than_numbers_is_refused():
    with pytest.raises(UserError, match="poses of 16 joints have 48 components"):
        HandPose(prior=49).build(FIELDS, None, None, "deepprior")
    with pytest.raises(UserError, match="--prior is -1"):
        HandPose(prior=-1)


class Zeros(DeepPrior):
    def regress(self, depth):
        return torch.zeros(len(depth), self.outputs)


def test_the_loss_is_a_sum_over_coefficients_or_over_x_y_z():
    joints = torch.zeros(2, 4, 3)
    joints[0, 0, 0] = 1
    depth = torch.zeros(2, 1, 8, 8)
    # One squared error in 4 joints of 2 samples.
    assert float(l2(Zeros(4, 0), depth, joints)["l2"]) == pytest.approx(1 / 8)
    assert float(l2(Zeros(4, 3), depth, joints)["l2"]) == pytest.approx(1 / 2)
