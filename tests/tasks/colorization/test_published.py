"""Published weights of Zhang et al.: the converted networks compute what the released definitions compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.errors import UserError
from densevision.tasks.colorization.encoding import color_bins
from densevision.tasks.colorization.lab import lightness
from densevision.tasks.conversion import convert_published, open_published
from densevision.tests.caffe import caffe_bytes, layers_of
from densevision.tests.published import Random, assert_same, converted

WIDTHS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3, (512,) * 3, (512,) * 3)


def block(
    net: Random, name: str, x: Tensor, widths: tuple[int, ...], stride: int = 1, dilation: int = 1, first: int = 0
) -> Tensor:
    """Convolutions and ReLUs by turns, then a normalization, numbered from `first` on."""
    for index, width in enumerate(widths):
        step = stride if index == len(widths) - 1 else 1
        x = F.relu(net.conv(f"{name}.{first + 2 * index}", x, width, 3, step, dilation, dilation=dilation))
    return net.batch_norm(f"{name}.{first + 2 * len(widths)}", x)


def eccv16(net: Random, light: Tensor) -> Tensor:
    """`colorizers/eccv16.py` up to its upsampling: L to a and b at a quarter."""
    x = (light - 50) / 100
    for number, widths in enumerate(WIDTHS, 1):
        x = block(net, f"model{number}", x, widths, 2 if number < 4 else 1, 2 if number in (5, 6) else 1)
    x = F.relu(net.deconv("model8.0", x, 256))
    x = F.relu(net.conv("model8.4", F.relu(net.conv("model8.2", x, 256, 3, 1, 1)), 256, 3, 1, 1))
    net.state["model_out.weight"] = torch.tensor(color_bins()).float().T[..., None, None] / 110
    return 110 * F.conv2d(net.conv("model8.6", x, 313, 1).softmax(1), net.state["model_out.weight"])


def caffe_eccv16(net: Random, light: Tensor) -> Tensor:
    """`models/colorization_deploy_v2.prototxt`: L to a and b at a quarter."""
    x = light - 50
    for number, widths in enumerate(WIDTHS, 1):
        for n, width in enumerate(widths, 1):
            step, dilation = 2 if number < 4 and n == len(widths) else 1, 2 if number in (5, 6) else 1
            name = f"{'bw_' if number == n == 1 else ''}conv{number}_{n}"
            x = F.relu(net.conv(name, x, width, 3, step, dilation, dilation=dilation))
        x = net.batch_norm(f"conv{number}_{len(widths)}norm", x, affine=False)
    x = F.relu(net.deconv("conv8_1", x, 256))
    x = F.relu(net.conv("conv8_3", F.relu(net.conv("conv8_2", x, 256, 3, 1, 1)), 256, 3, 1, 1))
    bins = torch.tensor(color_bins()).float().T[..., None, None]
    net.state["class8_ab.weight"] = bins
    return F.conv2d((2.606 * net.conv("conv8_313", x, 313, 1)).softmax(1), bins)


def siggraph17(net: Random, light: Tensor, hints: Tensor, known: Tensor) -> Tensor:
    """`colorizers/siggraph17.py`: L and the known colors to a and b."""
    x = torch.cat([(light - 50) / 100, hints / 110, known], 1)
    made = {}
    for number, widths in enumerate(WIDTHS, 1):
        x = x[..., ::2, ::2] if number in (2, 3, 4) else x
        made[number] = x = block(net, f"model{number}", x, widths, 1, 2 if number in (5, 6) else 1)
    x = F.relu(net.deconv("model8up.0", x, 256) + net.conv("model3short8.0", made[3], 256, 3, 1, 1))
    x = block(net, "model8", x, (256, 256), first=1)
    net.conv("model_class.0", x, 529, 1)
    x = F.relu(net.deconv("model9up.0", x, 128) + net.conv("model2short9.0", made[2], 128, 3, 1, 1))
    x = block(net, "model9", x, (128,), first=1)
    x = F.relu(net.deconv("model10up.0", x, 128) + net.conv("model1short10.0", made[1], 128, 3, 1, 1))
    x = F.leaky_relu(net.conv("model10.1", x, 128, 3, 1, 1), 0.2)
    return 110 * net.conv("model_out.0", x, 2, 1).tanh()


def photo() -> Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_eccv16_computes_what_the_release_computes():
    net, image = Random(), photo()
    expected = eccv16(net, lightness(image))
    said, found = converted(net.state)
    assert found.network == "zhang_affine" and "Conv1 is divided by 100" in " ".join(said)
    model = found.build()
    with torch.no_grad():
        colors = model.decoder(model.logits(image))[:, :2]
    assert expected.std() > 1
    assert_same(colors, expected)


@pytest.mark.slow
@pytest.mark.parametrize("filled", [True, False])
def test_eccv16_of_caffe_computes_what_its_definition_computes(tmp_path, filled):
    net, image = Random(), photo()
    expected = caffe_eccv16(net, lightness(image))
    if not filled:
        net.state["class8_ab.weight"] = torch.zeros(2, 313, 1, 1)
    path = tmp_path / "colorization.caffemodel"
    path.write_bytes(caffe_bytes(layers_of(net.state)))
    _, found = convert_published(open_published(path))
    assert found.network == "zhang"
    model: Any = found.build()
    with torch.no_grad():
        colors = model.decoder(model.logits(image))[:, :2]
    assert expected.std() > 1
    assert_same(colors, expected)


def test_eccv16_with_other_bins_is_refused():
    net = Random()
    eccv16(net, lightness(photo()))
    net.state["model_out.weight"] = net.state["model_out.weight"].flip(1)
    with pytest.raises(UserError, match="other bins of colors"):
        converted(net.state)


def test_siggraph17_computes_what_the_release_computes_with_and_without_hints():
    net, image = Random(), photo()
    known = (torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(2)) > 0.9).float()
    hints, light = 60 * known.expand(-1, 2, -1, -1), lightness(image)
    with_hints, without = siggraph17(net, light, hints, known), siggraph17(net, light, 0 * hints, 0 * known)
    _, found = converted(net.state)
    model = found.build()
    # The layers' sizes, added up by hand.
    assert sum(parameter.numel() for parameter in model.parameters()) == 34_051_074
    with torch.no_grad():
        assert_same(model.colors(light, hints, known), with_hints)
        assert_same(model(image), without)
    assert (with_hints - without).abs().max() > 1
