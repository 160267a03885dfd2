from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densevision.errors import UserError
from densevision.tasks.network import Network
from densevision.tasks.prediction import PredictionContext
from densevision.tasks.tiling import pad_by_reflection, receptive_radius, resize_to_input, run_padded, run_tiled

from .depth_network import depth_network

UNTILED = 10**6
"""A tile size larger than every image."""


class Net(Network):
    """A sequence of layers, with an output at the size of the input or below it."""

    input_policy = "tiled"

    def __init__(self, *layers: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.layers, self.stride = nn.Sequential(*layers), stride

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (1, 6), (6, 1), (2, 3), (1, 1), (31, 2)])
@pytest.mark.parametrize("multiple", [1, 4, 32])
def test_padding_reflects_the_image_to_the_right_and_below(size, multiple):
    tensor = torch.randn(2, 3, *size)
    padded = pad_by_reflection(tensor, multiple)
    below, right = (-side % multiple for side in size)
    expected = np.pad(tensor.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_the_receptive_radius_equals_that_by_hand():
    assert receptive_radius(Net(nn.Conv2d(3, 2, 1))) == 0
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 5, padding=2))) == 3
    assert receptive_radius(Net(nn.Conv2d(3, 1, 3, padding=4, dilation=4))) == 4
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(5, 1, 2))) == 4
    # 1 to the left and 3 to the right.
    assert receptive_radius(Net(nn.ZeroPad2d((3, 1, 2, 2)), nn.Conv2d(3, 1, 5))) == 3


def test_the_receptive_radius_through_a_stride_is_the_maximum():
    # Unit j of a 3x3 convolution of stride 2 covers pixels 2j - 1 to 2j + 1, and bilinear doubling spreads it over
    # 2j - 1 to 2j + 2. Pixel 2i + 1 is covered by i and i + 1: it affects 2i - 1 to 2i + 4, three pixels away.
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, 2, 1), double, stride=2)) == 3
    # Unit j of a 7x7 convolution of stride 4 covers 4j - 3 to 4j + 3 and is enlarged to 4j to 4j + 3. Pixel 4i + 1 is
    # covered by i and i + 1: it affects up to 4i + 7, six pixels away. Pixels 4i and 4i + 3: three and four.
    assert receptive_radius(Net(nn.Conv2d(3, 2, 7, 4, 3), nn.Upsample(scale_factor=4, mode="nearest"), stride=4)) == 6


def test_the_receptive_radius_of_a_half_size_output_includes_the_resize():
    assert receptive_radius(Net(nn.Conv2d(3, 2, 3, 2, 1), stride=2)) == 3


def test_the_receptive_radius_is_the_maximum_over_all_inputs():
    class Both(Net):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
            return self.layers[0](first) + self.layers[1](second)

    model = Both(nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(2, 1, 7, padding=3))
    assert receptive_radius(model, 3, 2) == 3
    inputs = [torch.randn(1, 3, 40, 40), torch.randn(1, 2, 40, 40)]
    torch.testing.assert_close(run_padded(model, inputs, tile=16), model(*inputs), atol=1e-5, rtol=1e-5)


def test_global_operations_and_removed_nan_have_no_receptive_radius():
    class Global(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image) + image.mean()

    with pytest.raises(UserError, match="depends on the complete image: it cannot be tiled"):
        receptive_radius(Global(nn.Conv2d(3, 3, 1)))

    class NanFree(Net):
        def forward(self, image: Tensor) -> Tensor:
            return self.layers(image).nan_to_num()

    with pytest.raises(UserError, match="removes nan"):
        receptive_radius(NanFree(nn.Conv2d(3, 1, 1)))


def test_measuring_the_receptive_radius_has_no_side_effects():
    model = depth_network(levels=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert receptive_radius(model) == receptive_radius(model) > 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


@pytest.fixture(scope="module")
def resnet() -> Any:
    return depth_network("resnet18", 4)


@pytest.mark.parametrize(
    "size", [(195, 301), *(pytest.param(size, marks=pytest.mark.slow) for size in ((272, 336), (530, 97)))]
)
def test_tiled_inference_equals_one_pass(resnet, size):
    # Design 6: to 1e-4 for networks whose levels halve exactly and that contain no global operation.
    image = torch.rand(1, 3, *size)
    with torch.inference_mode():
        untiled, tiled = run_padded(resnet, [image], UNTILED), run_padded(resnet, [image], tile=48)
    assert untiled.shape == tiled.shape == (1, 1, *size)
    assert untiled.log().std() > 0.1
    assert (untiled - tiled).abs().max() < 1e-4


def test_tiles_with_too_little_overlap_differ(resnet):
    image = torch.rand(1, 3, 272, 336)
    with torch.inference_mode():
        untiled = resnet(image)
        tiled = run_tiled(resnet, [image], 48, 16)
    assert (untiled - tiled).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("backbone", "levels", "head"),
    [
        ("vgg11", 3, "unet"),
        ("resnet20_cifar", None, "up-projection"),
        pytest.param("resnet18", 3, "unetplusplus", marks=pytest.mark.slow),
    ],
)
def test_tiled_inference_of_other_models_equals_one_pass(backbone, levels, head):
    model, image = depth_network(backbone, levels, head), torch.rand(1, 3, 151, 118)
    with torch.inference_mode():
        untiled, tiled = run_padded(model, [image], UNTILED), run_padded(model, [image], tile=32)
    assert (untiled - tiled).abs().max() < 1e-4


@pytest.mark.parametrize(("head", "stride"), [("unet", 8), ("up-projection", 8), ("unetplusplus", 32)])
def test_the_stride_of_a_model_includes_that_of_its_decoder(head, stride):
    assert depth_network("resnet18", 3, head).stride == stride


def test_tiled_inference_with_a_half_size_output_equals_one_pass():
    model = Net(nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), stride=2)
    image = torch.rand(1, 3, 75, 90)
    with torch.inference_mode():
        untiled, tiled = run_padded(model, [image], UNTILED), run_padded(model, [image], tile=16)
    assert untiled.shape == (1, 1, 75, 90)
    assert (untiled - tiled).abs().max() < 1e-5


def test_a_model_with_a_global_operation_is_not_tiled():
    model = depth_network("resnet18", 4, "fpn")
    assert model.input_policy == "whole"
    sizes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    with torch.inference_mode():
        run_padded(model, [torch.rand(1, 3, 100, 130)], tile=32)
    # Padded to multiples of 32, the stride of the pyramid, though the backbone ends at 16.
    assert sizes == [(128, 160)]


def test_an_output_of_another_size_is_resized_bilinearly():
    output = torch.arange(12.0).reshape(1, 1, 3, 4)
    context = PredictionContext({}, {}, (5, 9), np.eye(3))
    expected = F.interpolate(output, (5, 9), mode="bilinear", align_corners=False)[0].movedim(0, -1)
    np.testing.assert_array_equal(resize_to_input(output, context), expected.numpy())
    np.testing.assert_array_equal(
        resize_to_input(output, PredictionContext({}, {}, (3, 4), np.eye(3)))[..., 0], output[0, 0].numpy()
    )
