from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.tasks.colorization.decoders import TEMPERATURE, BinClassification, Regression, annealed_mean
from densevision.tasks.colorization.lab import gray, lab_to_rgb, lightness
from densevision.tasks.colorization.networks import ColorizationNetwork, ZhangNetwork, to_pixels, zhang_affine
from densevision.tasks.heads import list_heads
from densevision.tasks.tiling import receptive_radius, run_padded, run_tiled


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def color_network(backbone: str = "resnet18", head: str = "unet", levels: int | None = 4, output: str = "bins"):
    return ColorizationNetwork(create_backbone(backbone, num_classes=0, levels=levels), head, output)


def lively(network, std: float = 1.0):
    """With a last layer that says something."""
    last = network.predict if isinstance(network, ZhangNetwork) else network.head.predict
    nn.init.normal_(last.weight, 0.0, std)
    return network


def two_images_of_one_lightness() -> tuple[Tensor, Tensor]:
    """(1, 3, 24, 40) each, floats, of different colors."""
    rng = torch.Generator().manual_seed(0)
    light = 40 + 20 * torch.rand(1, 1, 24, 40, generator=rng)
    first, second = (
        lab_to_rgb(torch.cat([light, 30 * torch.rand(1, 2, 24, 40, generator=rng) - 15], 1)) for _ in range(2)
    )
    assert first.min() >= 0 and second.min() >= 0 and first.max() <= 1 and second.max() <= 1
    return first, second


# --- the paper's network ----------------------------------------------------------------------------------------


def test_zhangs_network_has_the_published_numbers_of_parameters():
    with torch.device("meta"):
        plain, affine = ZhangNetwork(), zhang_affine()
    # Facts 3.2.
    assert count(plain) == 32_230_393
    assert count(affine) == 32_235_385
    assert isinstance(affine.decoder, BinClassification)
    assert count(affine) + affine.decoder.bins.numel() == 32_236_011


def test_zhangs_blocks_have_the_tables_parameters_dilations_and_order():
    with torch.device("meta"):
        network = ZhangNetwork()
    # Facts 3.2, the table.
    expected = {
        "conv1": 640 + 36_928,
        "conv2": 73_856 + 147_584,
        "conv3": 295_168 + 2 * 590_080,
        "conv4": 1_180_160 + 2 * 2_359_808,
        "conv5": 3 * 2_359_808,
        "conv6": 3 * 2_359_808,
        "conv7": 3 * 2_359_808,
        "conv8": 2_097_408 + 2 * 590_080,
    }
    assert {name: count(block) for name, block in network.blocks.named_children()} == expected
    assert count(network.predict) == 80_441
    for name, block in network.blocks.named_children():
        layers = list(block.children())
        # Facts 3.2: the normalization comes after the ReLU, and conv8 has none.
        assert isinstance(layers[-1], nn.ReLU if name == "conv8" else nn.BatchNorm2d)
        assert name == "conv8" or isinstance(layers[-2], nn.ReLU)
        dilations = {layer.dilation[0] for layer in layers if isinstance(layer, nn.Conv2d)}
        assert dilations == ({2} if name in ("conv5", "conv6") else {1})


@pytest.mark.parametrize(("size", "quarter"), [((176, 176), (44, 44)), ((224, 224), (56, 56)), ((97, 31), (25, 8))])
def test_zhangs_logits_come_at_a_quarter_and_its_prediction_at_the_images_size(size, quarter):
    with torch.device("meta"):
        network, image = ZhangNetwork(), torch.empty(2, 3, *size)
    assert network.logits(image).shape == (2, 313, *quarter)
    assert network(image).shape == (2, 3, *size)


def test_zhangs_network_eats_lightness_minus_50():
    network, (image, _) = ZhangNetwork().eval(), two_images_of_one_lightness()
    seen: list[Tensor] = []
    network.blocks.get_submodule("conv1.0").register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(image)
    # Facts 3.2: not (L - 50) / 100.
    torch.testing.assert_close(seen[0], lightness(image) - 50)


# --- backbone and head ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", list_heads())
def test_every_head_predictions_at_a_quarter(head):
    with torch.device("meta"):
        network, image = color_network(head=head, levels=None), torch.empty(2, 3, 61, 83)
    assert network.logits(image).shape == (2, 313, 16, 21)
    assert network(image).shape == (2, 3, 61, 83)


@pytest.mark.parametrize("backbone", ["vgg11", "resnet20_cifar", "googlenet"])
def test_backbones_of_other_strides_prediction_at_a_quarter(backbone):
    with torch.device("meta"):
        network, image = color_network(backbone, levels=None), torch.empty(2, 3, 64, 96)
    assert network.logits(image).shape == (2, 313, 16, 24)
    assert min(level.stride for level in network.head.levels) >= 4


def test_the_backbone_sees_a_gray_image_of_the_same_lightness_through_its_preprocessing():
    network, (image, _) = color_network().eval(), two_images_of_one_lightness()
    seen: list[Tensor] = []
    network.backbone.get_submodule("conv1").register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    network(image)
    inputs = gray(image).expand(-1, 3, -1, -1)
    torch.testing.assert_close(seen[0], network.backbone.preprocessing(inputs))
    torch.testing.assert_close(lightness(inputs), lightness(image), rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [color_network, ZhangNetwork])
def test_two_images_of_one_lightness_get_one_prediction(make):
    torch.manual_seed(0)
    network = lively(make()).eval()
    first, second = two_images_of_one_lightness()
    with torch.no_grad():
        predictions = network(first), network(second), network(first.flip(-1))
    assert predictions[0].std() > 1e-3
    torch.testing.assert_close(predictions[0], predictions[1], rtol=1e-3, atol=1e-2)
    assert (predictions[0] - predictions[2]).abs().max() > 0.1


@pytest.mark.parametrize("prediction", ["bins", "regression"])
def test_a_new_network_predictions_about_gray_and_hands_gradients_to_all_it_holds(prediction):
    torch.manual_seed(0)
    network = color_network(output=prediction)
    made = network(torch.rand(2, 3, 32, 32))
    assert made.dtype == torch.float32 and made.shape[1] == (3 if prediction == "bins" else 2)
    assert made[:, :2].abs().mean() < 10
    network.logits(torch.rand(2, 3, 32, 32)).square().sum().backward()
    used = [parameter for name, parameter in network.named_parameters() if not name.startswith("backbone.fc")]
    assert all(parameter.grad is not None for parameter in used)


def test_under_autocast_predictions_are_float32_and_lightness_is_not_rounded():
    torch.manual_seed(0)
    network, (image, _) = lively(color_network()).eval(), two_images_of_one_lightness()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        prediction = network(image)
        assert prediction.dtype == network.logits(image).dtype == torch.float32


@pytest.mark.parametrize("make", [lambda: color_network(levels=3), lambda: color_network("vgg11", levels=3)])
def test_tiles_equal_the_whole(make):
    # Design, section 6: to 1e-4 of the prediction's range.
    torch.manual_seed(0)
    network = lively(make(), 0.1).eval()
    assert network.input_policy == "tiled"
    image = torch.rand(1, 3, 64, 640)
    with torch.no_grad():
        whole = run_padded(network, [image])
        tiled = run_tiled(network, [image], 64, receptive_radius(network, 3))
    assert whole[:, :2].std() > 1
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-2)


def test_decoders_of_the_library_are_not_tiled():
    with torch.device("meta"):
        assert color_network(head="fpn", levels=None).input_policy == "whole"
        assert (color_network().input_policy, color_network().stride) == ("tiled", 16)
        assert (ZhangNetwork().input_policy, ZhangNetwork().stride) == ("tiled", 8)


# --- predictions ----------------------------------------------------------------------------------------------------


def test_annealing_logits_and_probabilities_agree():
    # Facts 3.2.
    prediction, logits = BinClassification(), torch.randn(2, 313, 3, 4)
    on_logits = annealed_mean(logits, prediction.bins)
    z = logits.softmax(1)
    powered = (z.log() / TEMPERATURE).exp()
    by_hand = torch.einsum("bqhw,qc->bchw", powered / powered.sum(1, keepdim=True), prediction.bins)
    torch.testing.assert_close(on_logits, by_hand, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(annealed_mean(logits.log_softmax(1), prediction.bins), on_logits, rtol=1e-4, atol=1e-3)


def test_the_mode_and_the_mean_are_the_limits_of_the_temperature():
    # Facts 3.2.
    prediction, logits = BinClassification(), torch.randn(2, 313, 3, 4)
    mode = prediction.bins[logits.argmax(1)].movedim(-1, 1)
    torch.testing.assert_close(annealed_mean(logits, prediction.bins, 1e-4), mode)
    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(1), prediction.bins)
    torch.testing.assert_close(annealed_mean(logits, prediction.bins, 1.0), mean, rtol=1e-4, atol=1e-3)
    assert TEMPERATURE == 0.38


def test_confidence_is_0_for_any_color_and_1_for_one():
    logits = torch.zeros(1, 313, 1, 2)
    logits[:, 7, :, 1] = 100
    made = BinClassification()(logits)
    torch.testing.assert_close(made[0, 2, 0], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(made[0, :2, 0, 1], BinClassification().bins[7])


def test_the_prior_travels_with_the_weights_and_the_bins_are_derived():
    assert set(BinClassification().state_dict()) == {"prior"}
    assert set(Regression().state_dict()) == set()


def test_a_color_stands_on_the_pixels_its_target_was_taken_from():
    # Facts 3.8, resizing: a plain resize of a quarter would shift colors by 1.5 pixels.
    ramp = torch.arange(0.0, 61).reshape(1, 1, 1, 61).expand(1, 1, 25, 61)
    quartered = ramp[..., ::4, ::4]
    back = to_pixels(quartered, ramp)
    assert back.shape == ramp.shape
    torch.testing.assert_close(back, ramp)
    uneven = torch.rand(1, 2, 13, 27)
    torch.testing.assert_close(to_pixels(uneven[..., ::4, ::4], uneven)[..., ::4, ::4], uneven[..., ::4, ::4])
