from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.errors import UserError
from densevision.tasks.flow.correlation import correlation_by_shifts
from densevision.tasks.flow.flownet import PREPROCESSING, FlowNetC, FlowNetS
from densevision.tasks.flow.losses import DIV_FLOW

BOTH = pytest.mark.parametrize("network", [FlowNetS, FlowNetC])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pictures(*size: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, batch, 3, *size, generator=torch.Generator().manual_seed(0))
    return first, second


# Facts 3.3: both columns, all rows.
@pytest.mark.parametrize(
    ("network", "batch_norm", "biases", "parameters"),
    [
        (FlowNetS, False, "encoder", 38_675_536),
        (FlowNetS, False, "predictions", 38_675_546),
        (FlowNetS, False, "all", 38_676_514),
        (FlowNetS, True, "encoder", 38_680_336),
        (FlowNetC, False, "encoder", 39_174_320),
        (FlowNetC, False, "predictions", 39_174_330),
        (FlowNetC, False, "all", 39_175_298),
        (FlowNetC, True, "encoder", 39_179_152),
    ],
)
def test_every_form_has_the_known_number_of_parameters(network, batch_norm, biases, parameters):
    with torch.device("meta"):
        assert count(network(batch_norm, biases)) == parameters


@BOTH
def test_the_authors_form_is_the_usual_one(network):
    with torch.device("meta"):
        usual = network()
    assert count(usual) == {FlowNetS: 38_675_546, FlowNetC: 39_174_330}[network]  # facts 3.3
    biased = {name for name, layer in usual.named_modules() if getattr(layer, "bias", None) is not None}
    assert {name for name in biased if name.startswith(("deconv", "upsampled"))} == set()
    assert {name for name in biased if name.startswith("predict")} == {f"predict_flow{level}" for level in range(2, 7)}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in usual.modules())


@BOTH
def test_a_frame_of_sintel_passes_the_sizes_of_the_table(network):
    with torch.device("meta"):
        made = network()
        frame = torch.empty(1, 3, 436, 1024)
    seen: dict[str, tuple[int, ...]] = {}
    for name, layer in made.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_pre_hook(
                lambda layer, given, name=name: seen.setdefault(name, tuple(given[0].shape[1:])) and None
            )
    flows = made.pyramid(frame, frame)
    # Facts 3.3: 436 x 1024 is 7 x 16 at conv6, and every level is the size of the map that it joins.
    assert [tuple(flow.shape) for flow in flows] == [
        (1, 2, 7, 16), (1, 2, 14, 32), (1, 2, 28, 64), (1, 2, 55, 128), (1, 2, 109, 256),
    ]  # fmt: skip
    read = {name: shape[0] for name, shape in seen.items()}
    assert [read[f"predict_flow{level}"] for level in (6, 5, 4, 3, 2)] == [1024, 1026, 770, 386, 194]
    assert [read[f"deconv{level}.0"] for level in (5, 4, 3, 2)] == [1024, 1026, 770, 386]
    assert read["conv1.0"] == {FlowNetS: 6, FlowNetC: 3}[network]
    assert read["conv3_1.0"] == {FlowNetS: 256, FlowNetC: 473}[network]
    assert seen["conv6_1.0"] == (1024, 7, 16)


@BOTH
def test_slopes_are_a_tenth_and_predictions_and_rising_flows_linear(network):
    with torch.device("meta"):
        made = network()
    slopes = {name: layer.negative_slope for name, layer in made.named_modules() if isinstance(layer, nn.LeakyReLU)}
    assert set(slopes.values()) == {0.1}
    assert len(slopes) == {FlowNetS: 10 + 4, FlowNetC: 11 + 4}[network]
    assert not any(name.startswith(("predict", "upsampled")) for name in slopes)


@BOTH
@pytest.mark.parametrize("size", [(64, 64), (75, 101), (33, 130)])
def test_any_size_is_answered_and_every_parameter_learns(network, size):
    torch.manual_seed(0)
    made = network(biases="all")
    flows = made.pyramid(*pictures(*size, batch=2))
    for level, flow in zip((64, 32, 16, 8, 4), flows, strict=True):
        assert flow.shape == (2, 2, -(-size[0] // level), -(-size[1] // level))
        assert flow.dtype == torch.float32
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    silent = [name for name, parameter in made.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


@BOTH
def test_the_finest_level_is_the_answer_and_levels_are_in_pixels(network):
    torch.manual_seed(0)
    made = network().eval()
    answered: list[Tensor] = []
    made.get_submodule("predict_flow2").register_forward_hook(lambda layer, given, flow: answered.append(flow))
    with torch.no_grad():
        answer = made(*pictures(64, 64))
    # Trap of facts 3.3: the prediction is flow / 20.
    assert DIV_FLOW == 20
    torch.testing.assert_close(answer, 20 * answered[0])


@BOTH
def test_weights_start_as_caffe_starts_them(network):
    torch.manual_seed(0)
    made = network()
    # "msra": variance 2 / n_in; Caffe counts a deconvolution's n_in over its outputs.
    for name, n_in in (("conv5_1.0", 9 * 512), ("deconv5.0", 16 * 512), ("deconv4.0", 16 * 256)):
        weight = made.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((2 / n_in) ** 0.5, rel=0.01)
    assert all(not parameter.any() for name, parameter in made.named_parameters() if name.endswith("bias"))


def test_the_mean_is_subtracted_from_both_pictures():
    # Facts 3.3: the port's, for both.
    assert (PREPROCESSING.mean, PREPROCESSING.std, PREPROCESSING.order) == ((0.45, 0.432, 0.411), (1, 1, 1), "RGB")
    mean = torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    for network in (FlowNetS(), FlowNetC()):
        answer = network(mean, mean)
        # Nothing goes in and no bias has learned anything.
        assert not answer.any()


def test_flownetc_correlates_a_with_b_and_puts_the_redirected_map_first():
    torch.manual_seed(0)
    network = FlowNetC().eval()
    first, second = pictures(64, 96)
    joined: list[Tensor] = []
    network.get_submodule("conv3_1").register_forward_pre_hook(lambda layer, given: joined.append(given[0]))
    with torch.no_grad():
        network(first, second)

        def stem(picture: Tensor) -> Tensor:
            for name in ("conv1", "conv2", "conv3"):
                picture = network.get_submodule(name)(picture)
            return picture

        ours, theirs = stem(PREPROCESSING(first)), stem(PREPROCESSING(second))
        alike = nn.functional.leaky_relu(correlation_by_shifts(ours, theirs, 20, 2), 0.1)
        expected = torch.cat([network.conv_redir(ours), alike], dim=1)
    assert expected.shape[1] == 32 + 441
    torch.testing.assert_close(joined[0], expected, rtol=0, atol=1e-5)


def test_flownetc_joins_conv2_of_the_first_picture():
    torch.manual_seed(0)
    network = FlowNetC().eval()
    first, second = pictures(64, 64)
    joined: list[Tensor] = []
    network.get_submodule("predict_flow2").register_forward_pre_hook(lambda layer, given: joined.append(given[0]))
    with torch.no_grad():
        network(first, second)
        conv2a = network.get_submodule("conv2")(network.get_submodule("conv1")(PREPROCESSING(first)))
    torch.testing.assert_close(joined[0][:, :128], conv2a)


def test_an_unknown_choice_of_biases_is_refused():
    with pytest.raises(UserError, match="There is no choice of biases named 'predictoins'; did you mean 'predictions'"):
        FlowNetS(biases="predictoins")  # pyright: ignore[reportArgumentType]
