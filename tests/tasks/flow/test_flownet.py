from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.errors import UserError
from densevision.tasks.flow.correlation import correlation_by_shifts
from densevision.tasks.flow.flownet import PREPROCESSING, FlowNetC, FlowNetS
from densevision.tasks.flow.losses import DIV_FLOW

BOTH = pytest.mark.parametrize("build", [FlowNetS, FlowNetC])


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def images(*size: int, batch_size: int = 1) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, batch_size, 3, *size, generator=torch.Generator().manual_seed(0))
    return first, second


# Facts 3.3: both columns, all rows.
@pytest.mark.parametrize(
    ("build", "batch_norm", "biases", "parameters"),
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
def test_every_variant_has_the_known_number_of_parameters(build, batch_norm, biases, parameters):
    with torch.device("meta"):
        assert count_parameters(build(batch_norm, biases)) == parameters


@BOTH
def test_the_authors_variant_is_the_default(build):
    with torch.device("meta"):
        model = build()
    assert count_parameters(model) == {FlowNetS: 38_675_546, FlowNetC: 39_174_330}[build]  # facts 3.3
    biased = {name for name, layer in model.named_modules() if getattr(layer, "bias", None) is not None}
    assert {name for name in biased if name.startswith(("deconv", "upsampled"))} == set()
    assert {name for name in biased if name.startswith("predict")} == {f"predict_flow{level}" for level in range(2, 7)}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@BOTH
def test_a_frame_of_sintel_has_the_sizes_of_the_table(build):
    with torch.device("meta"):
        model = build()
        frame = torch.empty(1, 3, 436, 1024)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_pre_hook(
                lambda layer, inputs, name=name: shapes.setdefault(name, tuple(inputs[0].shape[1:])) and None
            )
    flows = model.pyramid(frame, frame)
    # Facts 3.3: 436 x 1024 is 7 x 16 at conv6, and every level has the size of its skip connection.
    assert [tuple(flow.shape) for flow in flows] == [
        (1, 2, 7, 16), (1, 2, 14, 32), (1, 2, 28, 64), (1, 2, 55, 128), (1, 2, 109, 256),
    ]  # fmt: skip
    channels = {name: shape[0] for name, shape in shapes.items()}
    assert [channels[f"predict_flow{level}"] for level in (6, 5, 4, 3, 2)] == [1024, 1026, 770, 386, 194]
    assert [channels[f"deconv{level}.0"] for level in (5, 4, 3, 2)] == [1024, 1026, 770, 386]
    assert channels["conv1.0"] == {FlowNetS: 6, FlowNetC: 3}[build]
    assert channels["conv3_1.0"] == {FlowNetS: 256, FlowNetC: 473}[build]
    assert shapes["conv6_1.0"] == (1024, 7, 16)


@BOTH
def test_leaky_relu_slope_is_0_1_and_predictions_and_upsampling_are_linear(build):
    with torch.device("meta"):
        model = build()
    slopes = {name: layer.negative_slope for name, layer in model.named_modules() if isinstance(layer, nn.LeakyReLU)}
    assert set(slopes.values()) == {0.1}
    assert len(slopes) == {FlowNetS: 10 + 4, FlowNetC: 11 + 4}[build]
    assert not any(name.startswith(("predict", "upsampled")) for name in slopes)


@BOTH
@pytest.mark.parametrize("size", [(64, 64), (75, 101), (33, 130)])
def test_any_size_works_and_every_parameter_has_a_gradient(build, size):
    torch.manual_seed(0)
    model = build(biases="all")
    flows = model.pyramid(*images(*size, batch_size=2))
    for level, flow in zip((64, 32, 16, 8, 4), flows, strict=True):
        assert flow.shape == (2, 2, -(-size[0] // level), -(-size[1] // level))
        assert flow.dtype == torch.float32
    torch.stack([flow.abs().mean() for flow in flows]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@BOTH
def test_the_prediction_is_the_finest_level_in_pixels(build):
    torch.manual_seed(0)
    model = build().eval()
    outputs: list[Tensor] = []
    model.get_submodule("predict_flow2").register_forward_hook(lambda layer, inputs, flow: outputs.append(flow))
    with torch.no_grad():
        flow = model(*images(64, 64))
    # Trap of facts 3.3: the prediction is flow / 20.
    assert DIV_FLOW == 20
    torch.testing.assert_close(flow, 20 * outputs[0])


@BOTH
def test_weights_are_initialized_as_in_caffe(build):
    torch.manual_seed(0)
    model = build()
    # "msra": variance 2 / n_in; Caffe counts a deconvolution's n_in over its outputs.
    for name, n_in in (("conv5_1.0", 9 * 512), ("deconv5.0", 16 * 512), ("deconv4.0", 16 * 256)):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx((2 / n_in) ** 0.5, rel=0.01)
    assert all(not parameter.any() for name, parameter in model.named_parameters() if name.endswith("bias"))


def test_the_mean_is_subtracted_from_both_images():
    # Facts 3.3: the mean of the port, for both images.
    assert (PREPROCESSING.mean, PREPROCESSING.std, PREPROCESSING.order) == ((0.45, 0.432, 0.411), (1, 1, 1), "RGB")
    mean = torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    for model in (FlowNetS(), FlowNetC()):
        # The input is zero, and biases are zero before training.
        assert not model(mean, mean).any()


def test_flownetc_concatenates_the_redirected_map_and_the_correlation():
    torch.manual_seed(0)
    model = FlowNetC().eval()
    first, second = images(64, 96)
    recorded: list[Tensor] = []
    model.get_submodule("conv3_1").register_forward_pre_hook(lambda layer, inputs: recorded.append(inputs[0]))
    with torch.no_grad():
        model(first, second)

        def stem(image: Tensor) -> Tensor:
            for name in ("conv1", "conv2", "conv3"):
                image = model.get_submodule(name)(image)
            return image

        maps1, maps2 = stem(PREPROCESSING(first)), stem(PREPROCESSING(second))
        costs = nn.functional.leaky_relu(correlation_by_shifts(maps1, maps2, 20, 2), 0.1)
        expected = torch.cat([model.conv_redir(maps1), costs], dim=1)
    assert expected.shape[1] == 32 + 441
    torch.testing.assert_close(recorded[0], expected, rtol=0, atol=1e-5)


def test_flownetc_has_conv2_of_the_first_image_as_skip_connection():
    torch.manual_seed(0)
    model = FlowNetC().eval()
    first, second = images(64, 64)
    recorded: list[Tensor] = []
    model.get_submodule("predict_flow2").register_forward_pre_hook(lambda layer, inputs: recorded.append(inputs[0]))
    with torch.no_grad():
        model(first, second)
        conv2a = model.get_submodule("conv2")(model.get_submodule("conv1")(PREPROCESSING(first)))
    torch.testing.assert_close(recorded[0][:, :128], conv2a)


def test_an_unknown_choice_of_biases_is_refused():
    with pytest.raises(UserError, match="There is no choice of biases named 'predictoins'; did you mean 'predictions'"):
        FlowNetS(biases="predictoins")  # pyright: ignore[reportArgumentType]
