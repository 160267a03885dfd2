"""Restoration models: the network of Eigen et al., and the residual model with backbone and head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from densevision.backbones import create_backbone
from densevision.tasks.heads import create_head
from densevision.tasks.restoration.networks import BAND, EIGEN_STD, CameraWeather, Eigen, RestorationNetwork
from densevision.tasks.tiling import receptive_radius, run_padded, run_tiled


def convolutions(network: Eigen) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of the three layers."""
    layers = (network.conv1, network.conv2, network.conv3)
    return [(layer.weight, layer.bias) for layer in layers if layer.bias is not None]


def small_eigen(width: int = 6) -> Eigen:
    """The same network with narrow layers and larger weights."""
    torch.manual_seed(0)
    network = Eigen()
    network.conv1 = torch.nn.Conv2d(3, width, 16)
    network.conv2 = torch.nn.Conv2d(width, width, 1)
    network.conv3 = torch.nn.ConvTranspose2d(width, 3, 8)
    return network.eval()


def test_eigen_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = Eigen()
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (network.conv1, network.conv2, network.conv3)]
    # Facts 3.4, W1 to W3 with their biases.
    assert counts == [393_728, 262_656, 98_307] and sum(counts) == 754_691


def test_eigen_has_the_sizes_of_its_table_for_a_patch_of_64():
    with torch.device("meta"):
        network, patch = Eigen(), torch.empty(2, 3, 64, 64)
    # Facts 3.4: 49x49 positions; the full convolution gives 56x56, a valid one would give 42x42.
    assert network.conv1(patch).shape == (2, 512, 49, 49)
    assert network.train()(patch).shape == (2, 3, 56, 56)
    assert network.eval()(patch).shape == (2, 3, 64, 64)


def test_eigen_is_initialized_with_the_deviation_of_the_paper():
    torch.manual_seed(0)
    for weight, bias in convolutions(Eigen()):
        assert float(weight.detach().std()) == pytest.approx(EIGEN_STD, rel=0.02)
        assert EIGEN_STD == 0.001 and not bias.detach().any()


def test_interior_is_the_mean_of_overlapping_patches():
    network = small_eigen().double()
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
        maps = torch.tanh(network.conv2(torch.tanh(network.conv1(image - 0.5))))[0]
        total, count = torch.zeros(3, 56, 56, dtype=torch.float64), torch.zeros(56, 56, dtype=torch.float64)
        for row in range(49):
            for column in range(49):
                patch = torch.einsum("c,cokl->okl", maps[:, row, column], network.conv3.weight)
                total[:, row : row + 8, column : column + 8] += patch
                count[row : row + 8, column : column + 8] += 1
        # Facts 3.4: 64 patches cover a pixel of the interior, 1 the corner; 42x42 pixels have full coverage.
        assert count.max() == 64 and count[0, 0] == 1 and int((count == 64).sum()) == 1764
        literal = (total + convolutions(network)[2][1][:, None, None]) / count + 0.5
        assert torch.allclose(network.interior(image)[0].double(), literal, atol=1e-6)


def test_border_is_as_bright_as_the_center():
    network = small_eigen()
    with torch.no_grad():
        for (weight, bias), values in zip(convolutions(network), ((0, 1), (0, 1), (0.05, 0)), strict=True):
            weight.fill_(values[0])
            bias.fill_(values[1])
        output = network.interior(torch.rand(1, 3, 40, 40))
    # Trap of facts 3.4: the constant 64 would darken the corner to a sixty-fourth.
    assert torch.allclose(output, output[0, 0, 16, 16].expand_as(output), atol=1e-5)


def identity_of(network: Eigen) -> Eigen:
    """Weights that copy a pixel, to test the alignment of the output."""
    with torch.no_grad():
        for weight, bias in convolutions(network):
            weight.zero_()
            bias.zero_()
        # Input pixel (7, 7) of the window of 16 is pixel (3, 3) of the patch of 8, which is offset by 4.
        for color in range(3):
            network.conv1.weight[color, color, 7, 7] = 0.01
            network.conv2.weight[color, color, 0, 0] = 1
            network.conv3.weight[color, color, 3, 3] = 64 / 0.01
    return network


@pytest.mark.parametrize("size", [(64, 64), (40, 97), (2 * BAND + 9, 30)])
def test_output_pixel_o_corresponds_to_input_pixel_o_plus_4(size):
    network = identity_of(small_eigen())
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        inner = network.interior(image)
        # Pixels covered by 64 patches; facts 3.4: compare with clean[4:60] of a patch of 64.
        assert torch.allclose(inner[..., 7:-7, 7:-7], image[..., 11:-11, 11:-11], atol=1e-3)
        # Padded by 11 and cropped by 7, the output has the size and position of the image.
        assert torch.allclose(network(image), image, atol=1e-3)


def test_eigen_in_bands_and_tiles_equals_the_full_output():
    network = small_eigen()
    image = torch.rand(1, 3, 2 * BAND + 20, 90)
    with torch.no_grad():
        padded = F.pad(image, (11, 11, 11, 11), mode="reflect")
        whole = network.interior(padded)[..., 7:-7, 7:-7]
        assert torch.allclose(network(image), whole, atol=1e-5)
        # The receptive field of an output pixel extends 11 pixels in each direction.
        assert receptive_radius(network) == 11
        assert torch.allclose(run_tiled(network, [image], 40, 11), whole, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (12, 12)])
def test_eigen_accepts_tiny_images(size):
    with torch.inference_mode():
        assert run_padded(small_eigen(), [torch.rand(1, 3, *size)]).shape == (1, 3, *size)


@pytest.mark.parametrize("backbone_name", ["resnet20_cifar", "resnet18"])
@pytest.mark.parametrize("head", ["unet", "up-projection"])
def test_initial_prediction_is_the_degraded_input(backbone_name, head):
    torch.manual_seed(0)
    backbone = create_backbone(backbone_name, num_classes=0, levels=3)
    network = RestorationNetwork(backbone, create_head(head, backbone.levels, 3))
    image = torch.rand(2, 3, 32, 40)
    output = network(image)
    assert torch.equal(output, image)
    output.square().mean().backward()
    gradient = network.head.predict.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0


def test_backbone_is_trained_from_the_second_step_on():
    torch.manual_seed(0)
    backbone = create_backbone("resnet20_cifar", num_classes=0, levels=2)
    network = RestorationNetwork(backbone, create_head("unet", backbone.levels, 3))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    clean = torch.from_numpy(np.random.default_rng(0).random((2, 3, 16, 16), np.float32))
    for _ in range(2):
        optimizer.zero_grad()
        (network(clean * 0.5) - clean).abs().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in backbone.conv1.parameters())  # type: ignore[union-attr]


def test_camera_and_weather_are_two_networks_in_a_row_that_load_checkpoints_of_their_own():
    def random(backbone: str, levels: int | None) -> RestorationNetwork:
        encoder = create_backbone(backbone, None, 0, levels=levels)
        network = RestorationNetwork(encoder, create_head("unet", encoder.levels, 3)).eval()
        torch.nn.init.normal_(network.head.predict.weight, 0, 0.05)
        return network

    torch.manual_seed(0)
    weather, camera, both = random("vgg19", 2), random("resnet20_cifar", None), CameraWeather().eval()
    assert sum(parameter.numel() for parameter in both.parameters()) == 290_611 + 292_675
    image = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(both(image), image)
        cameras = {f"camera.{name}": value for name, value in camera.state_dict().items()}
        both.load_state_dict({**weather.state_dict(), **cameras})
        restored = both(image)
        torch.testing.assert_close(restored, weather(camera(image)))
    assert not torch.allclose(restored, camera(weather(image)))
