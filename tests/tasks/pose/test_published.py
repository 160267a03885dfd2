"""Published weights of SimpleBaseline: the converted network computes what the published definition computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.tests.published import Random, assert_same, converted, resnet_body


def baseline(net: Random, image: Tensor, joints: int, depth: int, body: str, head: str) -> Tensor:
    """`lib/models/pose_resnet.py`: a preprocessed image (1, 3, H, W) to heat maps at a quarter."""
    x = resnet_body(net, image, depth, prefix=body)
    for layer in (0, 3, 6):
        x = net.deconv(f"{head}deconv_layers.{layer}", x, 256, bias=False)
        x = F.relu(net.batch_norm(f"{head}deconv_layers.{layer + 1}", x))
    return net.conv(f"{head}final_layer", x, joints, 1)


@pytest.mark.parametrize(
    ("depth", "joints", "body", "head", "bgr"),
    [
        (50, 16, "", "", True),
        (18, 17, "backbone.", "keypoint_head.", False),
        (18, 17, "backbone.", "head.", False),
    ],
)
def test_a_published_baseline_computes_what_its_code_computes(depth, joints, body, head, bgr):
    net, image = Random(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    color = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    expected = baseline(net, ((image.flip(1) if bgr else image) - color[0]) / color[1], joints, depth, body, head)
    _, found = converted({"meta": {}, "state_dict": net.state})
    assert (found.network, found.head) == (f"resnet{depth}", "deconvolution")
    assert len(found.fields["joints"].skeleton.names) == joints
    with torch.no_grad():
        maps = found.build()(image)
    assert_same(maps, expected)
