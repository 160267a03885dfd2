from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks.depth.networks import FCRN, INITIAL_DEPTH, LOG_RANGE, DepthNetwork
from densevision.tasks.heads import create_head
from densevision.tasks.heads.up_projection import to_fast


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def depth_network(encoder: str = "resnet18", head: str = "unet", levels: int | None = None) -> DepthNetwork:
    backbone = create_backbone(encoder, num_classes=0, levels=levels)
    return DepthNetwork(backbone, create_head(head, backbone.levels, 1))


# Facts 3.1, recomputed there.
@pytest.mark.parametrize(("form", "parameters"), [("fast", 63_572_673), ("plain", 63_566_913)])
def test_fcrn_has_the_published_number_of_parameters(form, parameters):
    with torch.device("meta"):
        network = FCRN(form)
    assert count(network) == parameters
    assert count(network.backbone) == 23_508_032
    assert count(network.head.conv) + count(network.head.bn) == 2_100_224
    assert count(network.head.predict) == 577
    # Facts 3.1: table of the blocks, fast form with 9 biases per channel; the plain form has 3.
    tables = ((28_576_768, 512), (7_144_960, 256), (1_786_624, 128), (446_848, 64))
    biases = {"fast": 9, "plain": 3}[form]
    assert [count(block) for block in network.head.blocks] == [table + biases * width for table, width in tables]


def test_resnet_with_single_up_convolutions_has_its_number_of_parameters():
    with torch.device("meta"):
        backbone = create_backbone("resnet50", num_classes=0, stride_in="1x1")
        head = create_head("up-convolution", backbone.levels, 1)
    # Facts 3.1: 43,019,713 with one bias per 5x5; the fast form has four.
    assert count(backbone) + count(head) == 43_019_713 + 3 * (512 + 256 + 128 + 64)


@pytest.mark.parametrize("form", ["fast", "plain"])
def test_fcrn_has_the_sizes_of_its_table(form):
    with torch.device("meta"):
        network = FCRN(form)
        image = torch.empty(2, 3, 228, 304)
    levels = [tuple(level.shape[1:]) for level in network.backbone.features(image)]
    assert levels == [(64, 114, 152), (256, 57, 76), (512, 29, 38), (1024, 15, 19), (2048, 8, 10)]
    shapes: list[tuple[int, ...]] = []
    for block in network.head.blocks:
        block.register_forward_hook(lambda block, inputs, output: shapes.append(tuple(output.shape[1:])))
    output = network(image)
    assert shapes == [(512, 16, 20), (256, 32, 40), (128, 64, 80), (64, 128, 160)]
    assert output.shape == (2, 1, 128, 160)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("size", [(228, 304), (33, 64), (96, 128), (97, 31)])
def test_fcrn_output_is_sixteen_times_the_coarsest_level(size):
    with torch.device("meta"):
        output = FCRN()(torch.empty(1, 3, *size))
    assert output.shape == (1, 1, 16 * math.ceil(size[0] / 32), 16 * math.ceil(size[1] / 32))


def test_fcrn_has_its_stride_in_the_1x1():
    with torch.device("meta"):
        unit = FCRN().backbone.get_submodule("layer2.0")
    strides = [layer.stride for layer in unit.modules() if isinstance(layer, nn.Conv2d)]
    assert strides == [(2, 2), (1, 1), (1, 1), (2, 2)]


def test_initial_fcrn_predicts_positive_meters_everywhere():
    torch.manual_seed(0)
    network = FCRN()
    output = network(torch.rand(2, 3, 64, 64))
    assert output.dtype == torch.float32
    # With random weights, about half of the pixels would be zero after the ReLU and never learn.
    assert output.min() > 1 and output.max() < 5
    output.mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_fcrn_forms_are_equivalent_and_padding_before_differs():
    torch.manual_seed(0)
    plain = FCRN("plain").eval()
    nn.init.normal_(plain.head.predict.weight)
    state = to_fast(plain.state_dict())
    with torch.device("meta"):
        fast, before = FCRN("fast").eval(), FCRN("fast", "before").eval()
    fast.load_state_dict(state, assign=True)
    before.load_state_dict(state, assign=True)
    image = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        expected, got, other = (net.head.native(net.backbone.features(image)) for net in (plain, fast, before))
    scale = expected.abs().max()
    assert (got - expected).abs().max() < 1e-4 * scale
    assert (other - expected).abs().max() > 1e-2 * scale


def test_fcrn_accepts_the_eps_of_the_released_weights():
    with torch.device("meta"):
        network = FCRN(bn_eps=1e-4)
    assert {layer.eps for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-4}


def test_fcrn_refuses_an_unknown_form():
    with torch.device("meta"), pytest.raises(UserError, match="'fast' or 'plain'"):
        FCRN("quick")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("backbone", "head", "levels"), [("resnet18", "unet", 4), ("resnet20_cifar", "up-projection", None)]
)
def test_initial_prediction_is_2_5_meters_at_the_size_of_the_image(backbone, head, levels):
    torch.manual_seed(0)
    network = depth_network(backbone, head, levels)
    depth = network(torch.rand(2, 3, 61, 83))
    assert depth.shape == (2, 1, 61, 83) and depth.dtype == torch.float32
    assert depth.median().item() == pytest.approx(INITIAL_DEPTH, rel=0.1)
    assert depth.min() > 1.5 and depth.max() < 4
    depth.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_model_has_input_policy_and_stride():
    with torch.device("meta"):
        network, pooled = depth_network(levels=4), depth_network(head="upernet")
        fcrn = FCRN()
    assert (network.input_policy, network.stride) == ("tiled", 16)
    assert (pooled.input_policy, pooled.stride) == ("whole", 32)
    assert (fcrn.input_policy, fcrn.stride) == ("tiled", 32)


def test_model_applies_the_preprocessing_of_its_backbone():
    torch.manual_seed(0)
    network = depth_network(levels=2).eval()
    nn.init.normal_(network.head.predict.weight)
    image = torch.rand(1, 3, 16, 16)
    seen: list[torch.Tensor] = []
    network.backbone.get_submodule("conv1").register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    network(image)
    torch.testing.assert_close(seen[0], network.backbone.preprocessing(image))


def test_predictions_are_clamped_to_the_range():
    network = depth_network(levels=2).eval()
    for raw, expected in ((-1e4, math.exp(LOG_RANGE[0])), (1e4, math.exp(LOG_RANGE[1]))):
        assert network.head.predict.bias is not None
        nn.init.constant_(network.head.predict.bias, raw)
        depth = network(torch.rand(1, 3, 16, 16))
        torch.testing.assert_close(depth, torch.full_like(depth, expected))


def test_output_is_float32_under_autocast():
    network = depth_network(levels=3).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert network(torch.rand(1, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize("backbone", ["resnet18", "vgg11"])
def test_tiled_output_equals_the_full_output_for_exactly_halving_levels(backbone):
    # Design, section 6: to 1e-4. The tile starts at a multiple of the coarsest stride.
    torch.manual_seed(0)
    network = depth_network(backbone, levels=4).eval()
    image = torch.rand(1, 3, 32, 640)
    with torch.no_grad():
        whole = network(image)[..., 304:336]
        tile = network(image[..., 128:512])[..., 176:208]
    assert whole.std() > 1e-2
    torch.testing.assert_close(tile, whole, rtol=0, atol=1e-4)


def test_a_few_steps_on_one_batch_reduce_the_loss():
    from densevision.tasks.depth.losses import LOSSES

    torch.manual_seed(0)
    network = depth_network(levels=3)
    image = torch.rand(2, 3, 32, 32)
    target = 1 + 4 * image.mean(1)
    mask = torch.ones_like(target, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = torch.stack(list(LOSSES["log-l1+grad"](network(image)[:, 0], target, mask).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
