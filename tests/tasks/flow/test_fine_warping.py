"""The fine warping head: the parameters of a warping head, its predictions, and one more from enlarged images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.datasets.field_types import FieldType, Image
from densevision.datasets.field_types import Flow as FlowType
from densevision.tasks.flow import Flow
from densevision.tasks.flow.networks import FineWarpingFlow, WarpingFlow
from densevision.tasks.flow.warping import Warping

FIELDS: dict[str, FieldType] = {"first": Image(), "second": Image(frame=1), "flow": FlowType()}


def build(head: str, levels: int = 3, backbone: str = "resnet18") -> nn.Module:
    torch.manual_seed(0)
    return Flow().build(FIELDS, create_backbone(backbone, None, 0, levels=levels), head, None).eval()


def random_images(height: int = 64, width: int = 96) -> list[Tensor]:
    return list(torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(1)))


def without_updates(head: Warping) -> None:
    for layer in (*head.predict, head.refine):
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def test_a_checkpoint_of_a_warping_head_loads_and_its_predictions_are_the_coarser_ones():
    head, fine = build("warping"), build("fine-warping")
    assert isinstance(head, WarpingFlow) and isinstance(fine, FineWarpingFlow)
    fine.load_state_dict(head.state_dict())
    with torch.no_grad():
        before, flows = head.pyramid(*random_images()), fine.pyramid(*random_images())
    assert len(flows) == len(before) + 1 and flows[-1].shape == (2, 2, 32, 48)
    for coarse, flow in zip(before, flows, strict=False):
        assert torch.equal(coarse, flow)


def test_another_estimate_without_an_update_is_the_flow_before_it():
    fine = build("fine-warping")
    assert isinstance(fine, FineWarpingFlow)
    without_updates(fine.head)
    levels = [torch.zeros(1, 64, 16, 24)]
    flow = torch.tensor([5.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 8, 12)
    with torch.no_grad():
        again = fine.head.repeat(levels, levels, flow, torch.zeros(1, 32, 4, 6))
    torch.testing.assert_close(again, flow[..., :1, :1].expand(1, 2, 16, 24))


def test_updates_of_enlarged_images_are_in_pixels_of_the_images():
    fine = build("fine-warping")
    assert isinstance(fine, FineWarpingFlow)
    without_updates(fine.head)
    for layer in (fine.head.predict[-1], fine.head.refine):
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        nn.init.constant_(layer.bias, 0.25)
    with torch.no_grad():
        *_, coarse, again = fine.pyramid(*random_images())
    # A quarter of a unit of stride 4 by the estimator and by the context network; then of stride 2, too.
    torch.testing.assert_close(coarse, torch.full_like(coarse, 2 * 0.25 * 4))
    torch.testing.assert_close(again, torch.full_like(again, 2 * 0.25 * 4 + 2 * 0.25 * 2))


def test_a_motion_of_one_pixel_is_centered_in_the_correlation_of_enlarged_images():
    # At stride 4, one pixel is a quarter of a unit; the flow before is exact, so that warped features agree.
    fine = build("fine-warping")
    assert isinstance(fine, FineWarpingFlow)
    without_updates(fine.head)
    features = torch.randn(1, 64, 24, 32, generator=torch.Generator().manual_seed(2))
    seen: list[Tensor] = []
    fine.head.estimators[-1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    flow = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 12, 16)
    with torch.no_grad():
        fine.head.repeat([features], [features.roll(1, -1)], flow, torch.zeros(1, 32, 6, 8))
    # Two pixels of the image are one unit of stride 2. The first 81 channels are correlations, the middle at zero.
    center = seen[0][0, 40, 5:-5, 5:-5]
    torch.testing.assert_close(center, torch.ones_like(center), rtol=0, atol=1e-2)


@pytest.mark.parametrize("backbone, levels", [("resnet18", 4), ("vgg11", 4)])
def test_only_the_levels_that_the_head_needs_are_computed_for_enlarged_images(backbone, levels):
    fine = build("fine-warping", levels, backbone)
    assert isinstance(fine, FineWarpingFlow)
    images = random_images()[0]
    count = fine.head.fine_levels
    assert fine.backbone.levels[count - 1].stride == 4
    with torch.no_grad():
        first, whole = fine.backbone.first_features(images, count), fine.backbone.features(images)
    assert len(first) == count < len(whole)
    for part, expected in zip(first, whole, strict=False):
        assert torch.equal(part, expected)
