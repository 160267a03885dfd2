"""Every backbone for two images, with both fusions: exact sizes for odd inputs, gradients for every parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Level
from densevision.datasets.field_types import FieldType, Image
from densevision.datasets.field_types import Flow as FlowType
from densevision.errors import UserError
from densevision.tasks.flow import Flow, networks
from densevision.tasks.flow.networks import (
    CorrelatedFlow,
    EarlyFusionFlow,
    FineWarpingFlow,
    FlowNetwork,
    WarpingFlow,
    correlated_indices,
    correlation_levels,
    siamese_features,
)
from densevision.tasks.flow.warping import COARSEST_STRIDE, NUM_DISPLACEMENTS
from densevision.tasks.heads import list_heads
from densevision.tasks.tiling import run_padded

from ...every_backbone import EVERY_BACKBONE

FIELDS: dict[str, FieldType] = {"first": Image(), "second": Image(frame=1), "flow": FlowType()}
ODD, SMALL = (127, 161), (81, 107)
VARIANTS = (("siamese", "warping"), ("siamese", "fine-warping"), ("siamese", "unet"), ("early", "unet"))

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": 5, "googlenet": None, "resnet18": 4, "resnet20_cifar": None,
    "preact110_cifar": 2, "inception_v4": 3, "inception_resnet_v2": 3,
}  # fmt: skip
"""One backbone of each family, and the number of its levels for the tests with real numbers."""


def build_model(encoder: str, fusion: str, head: str, levels: int | None = None) -> Any:
    task = Flow(fusion=fusion)  # type: ignore[arg-type]
    backbone = create_backbone(encoder, None, **task.backbone_options(FIELDS), levels=levels)
    return task.build(FIELDS, backbone, head, None)


def build_on_meta(backbone: str, fusion: str, head: str) -> tuple[Any, list[Tensor]]:
    with torch.device("meta"):
        return build_model(backbone, fusion, head), [torch.empty(2, 3, *ODD) for _ in range(2)]


def parameters_without_gradient(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.grad is None}


def pair(height: int, width: int, seed: int = 0) -> list[Tensor]:
    return list(torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(seed)))


# --- all pairs, on the meta device ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion, head", VARIANTS)
@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_a_pair_of_odd_size_is_predicted_at_its_size_with_gradients_everywhere(backbone, fusion, head):
    model, images = build_on_meta(backbone, fusion, head)
    flow = run_padded(model, images)
    assert flow.shape == (2, 2, *ODD) and flow.dtype == torch.float32
    flow.sum().backward()
    assert parameters_without_gradient(model) == set()


@pytest.mark.parametrize("head", list_heads())
@pytest.mark.parametrize("fusion", ["siamese", "early"])
def test_every_head_predicts_flow_and_only_the_levels_it_uses_are_correlated(fusion, head):
    model, images = build_on_meta("resnet18", fusion, head)
    (flow,) = model.pyramid(*images)
    assert flow.shape == (2, 2, *ODD)
    flow.sum().backward()
    assert parameters_without_gradient(model) == set()
    with torch.no_grad():
        assert run_padded(model, images).shape == (2, 2, *ODD)
    if fusion == "siamese":
        assert len(model.match) > 0


# --- with real numbers, one small backbone per family ---------------------------------------------------------------


@pytest.mark.parametrize("fusion, head", VARIANTS)
@pytest.mark.parametrize("backbone", LIGHT)
def test_initial_predictions_are_small_with_finite_gradients_at_odd_sizes(backbone, fusion, head):
    torch.manual_seed(0)
    model = build_model(backbone, fusion, head, LIGHT[backbone])
    pyramid = model.pyramid(*pair(*SMALL))
    if head.endswith("warping"):
        heights = [flow.shape[-2] for flow in pyramid]
        assert len(pyramid) == len(model.head.strides) + (head == "fine-warping") and heights == sorted(set(heights))
    else:
        assert [tuple(flow.shape) for flow in pyramid] == [(2, 2, *SMALL)]
    # The images have nothing in common; a last layer initialized by he_fan_in would predict several coarse pixels.
    for flow in pyramid:
        assert torch.isfinite(flow).all()
        assert float(flow.detach().norm(dim=1).mean()) < COARSEST_STRIDE / 2
    torch.stack([flow.square().sum() for flow in pyramid]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.abs().max() > 0 for name, gradient in gradients.items() if name.startswith("backbone"))


@pytest.mark.parametrize("fusion, head", VARIANTS)
def test_predictions_do_not_depend_on_the_rest_of_the_batch(fusion, head):
    torch.manual_seed(0)
    model = build_model("resnet18", fusion, head, 3).eval()
    first, second = pair(64, 96)
    with torch.no_grad():
        batched, alone = model(first, second), model(first[1:], second[1:])
    torch.testing.assert_close(batched[1:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion, head", VARIANTS)
def test_the_prediction_is_the_finest_of_the_pyramid_and_images_are_not_tiled(fusion, head):
    model = build_model("resnet18", fusion, head, 3).eval()
    with torch.no_grad():
        flow, pyramid = model(*pair(64, 96)), model.pyramid(*pair(64, 96))
    assert isinstance(model, FlowNetwork) and model.input_policy == "whole"
    assert model.stride == (8 if head == "unet" else COARSEST_STRIDE)
    assert torch.equal(flow, pyramid[-1])
    areas = [level.shape[-1] * level.shape[-2] for level in pyramid]
    assert areas == sorted(areas) and all(level.dtype == torch.float32 for level in pyramid)


def test_both_images_go_through_one_backbone_and_its_preprocessing():
    model = build_model("resnet18", "siamese", "unet", 3).eval()
    first, second = pair(64, 96)
    backbone = model.backbone
    with torch.no_grad():
        features1, features2 = siamese_features(backbone, first, second)
        for levels, image in ((features1, first), (features2, second)):
            for level, expected in zip(levels, backbone.features(backbone.preprocessing(image)), strict=True):
                torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)


def test_early_fusion_concatenates_both_normalized_images_the_first_in_front():
    model = build_model("resnet18", "early", "unet", 3).eval()
    assert isinstance(model, EarlyFusionFlow) and model.backbone.in_channels == 6
    recorded: list[Tensor] = []
    features = model.backbone.features
    model.backbone.features = lambda image: recorded.append(image) or features(image)
    first, second = pair(64, 96)
    model(first, second)
    normalize = create_backbone("resnet18", num_classes=0, levels=1).preprocessing
    torch.testing.assert_close(recorded[0], torch.cat([normalize(first), normalize(second)], dim=1))


def test_a_head_reads_each_level_concatenated_with_its_correlation():
    model = build_model("resnet18", "siamese", "unet", 4).eval()
    assert isinstance(model, CorrelatedFlow)
    recorded: list[list[Tensor]] = []
    model.head.register_forward_pre_hook(lambda module, inputs: recorded.append(inputs[0]))
    first, _ = pair(64, 96)
    with torch.no_grad():
        model(first, first.clone())
        levels = model.backbone.features(model.backbone.preprocessing(first))
    # Strides 2, 4, 8 and 16: the last two are correlated. The channels of the level, then one per displacement.
    for index, (inputs, level) in enumerate(zip(recorded[0], levels, strict=True)):
        torch.testing.assert_close(inputs[:, : level.shape[1]], level, rtol=1e-4, atol=1e-4)
        assert inputs.shape[1] == level.shape[1] + (NUM_DISPLACEMENTS if index >= 2 else 0)
    for inputs in recorded[0][2:]:
        costs = inputs[:, -NUM_DISPLACEMENTS:]
        # The same image twice: every position has the maximum at itself, with Pearson's 1.
        assert (costs.argmax(1) == NUM_DISPLACEMENTS // 2).float().mean() > 0.99
        torch.testing.assert_close(costs[:, NUM_DISPLACEMENTS // 2], torch.ones_like(costs[:, 0]), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("strides", "correlated"),
    [
        ((2, 4, 8, 16, 32), [2, 3, 4]),
        ((1, 2, 4), [2]),  # CIFAR backbones end before stride 8: the last level
        ((1, 2, 4, 8, 8, 16), [4, 5]),  # the deepest of several levels of the same stride
        ((1,), [0]),
        ((16,), [0]),
    ],
)
def test_levels_are_correlated_from_stride_8_on_or_the_last_one(strides, correlated):
    levels = tuple(Level(f"level{index}", stride, 10 + index) for index, stride in enumerate(strides))
    assert correlated_indices(levels) == correlated
    for index, (level, extended) in enumerate(zip(levels, correlation_levels(levels), strict=True)):
        assert (extended.name, extended.stride) == (level.name, level.stride)
        assert extended.channels == level.channels + (NUM_DISPLACEMENTS if index in correlated else 0)


@pytest.mark.parametrize("fusion", ["siamese", "early"])
def test_a_heads_output_is_in_pixels_of_the_coarsest_level(fusion):
    model = build_model("resnet18", fusion, "unet", 3)
    nn.init.zeros_(model.head.predict.weight)
    with torch.no_grad():
        model.head.predict.bias.copy_(torch.tensor([1.0, -0.5]))
        flow = model(*pair(40, 56))
    # Strides 2, 4 and 8.
    torch.testing.assert_close(flow, torch.tensor([8.0, -4]).view(1, 2, 1, 1).expand(2, 2, 40, 56))


def test_fusion_and_head_decide_which_model_is_built():
    classes = {pair: type(build_model("resnet20_cifar", *pair)) for pair in VARIANTS}
    assert list(classes.values()) == [WarpingFlow, FineWarpingFlow, CorrelatedFlow, EarlyFusionFlow]


def test_the_warping_head_is_refused_with_early_fusion():
    with pytest.raises(
        UserError, match=r"'warping' compares the feature maps of two images, and --fusion early .* add --head"
    ):
        build_model("resnet20_cifar", "early", "warping")


def test_tiny_images_work():
    for fusion, head in VARIANTS:
        model = build_model("resnet18", fusion, head, 3).eval()
        with torch.no_grad():
            flow = run_padded(model, [image[:1] for image in pair(3, 5)])
        assert flow.shape == (1, 2, 3, 5) and torch.isfinite(flow).all()


def test_the_correlation_does_not_modify_the_backbones_maps():
    # Outputs of `features` must not change: levels are correlated and concatenated in new tensors.
    model = build_model("resnet20_cifar", "siamese", "unet")
    recorded: list[list[Tensor]] = []
    original = networks.siamese_features

    def record(*inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
        features1, features2 = original(*inputs)
        recorded.append([*features1, *features2])
        recorded.append([level.detach().clone() for level in (*features1, *features2)])
        return features1, features2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "siamese_features", record)
        model(*pair(32, 48))
    assert len(recorded) == 2 and all(torch.equal(after, before) for after, before in zip(*recorded, strict=True))
