"""Published weights of pix2pix and CycleGAN: converted networks compute what the published definitions compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.tasks.translation.layers import EvalDropout
from densevision.tasks.translation.patchgan import load_discriminator
from densevision.tests.published import Random, assert_same, converted


def norm(net: Random, name: str, x: Tensor, kind: str) -> Tensor:
    """Of the current image, as in the port's test mode; a file of batch normalization has running means besides."""
    if kind == "instance":
        return F.instance_norm(x)
    net.batch_norm(name, x)
    return F.batch_norm(x, None, None, net.state[f"{name}.weight"], net.state[f"{name}.bias"], True)


def unet(net: Random, image: Tensor, out: int, downs: int, kind: str) -> Tensor:
    """`UnetGenerator` of `models/networks.py` without dropout: (1, C, H, W) in [-1, 1] to the tanh."""
    bias = kind == "instance"
    widths = [64 * min(2**level, 8) for level in range(downs)]

    def block(prefix: str, x: Tensor, level: int) -> Tensor:
        innermost = level == downs - 1
        if level == 0:
            deep = block(f"{prefix}.1.model", net.conv(f"{prefix}.0", x, 64, 4, 2, 1, bias=bias), 1)
            return net.deconv(f"{prefix}.3", F.relu(deep), out).tanh()
        x = F.leaky_relu(x, 0.2)  # in place in the port, so that the skip has it too
        deep = net.conv(f"{prefix}.1", x, widths[level], 4, 2, 1, bias=bias)
        if not innermost:
            deep = block(f"{prefix}.3.model", norm(net, f"{prefix}.2", deep, kind), level + 1)
        up, after = (3, 4) if innermost else (5, 6)
        deep = net.deconv(f"{prefix}.{up}", F.relu(deep), widths[level - 1], bias=bias)
        return torch.cat([x, norm(net, f"{prefix}.{after}", deep, kind)], 1)

    return block("model.model", image, 0)


def resnet(net: Random, image: Tensor, out: int, blocks: int, kind: str, dropout: bool) -> Tensor:
    """`ResnetGenerator` of `models/networks.py`; the numbers of layers after a dropout are one more."""
    bias = kind == "instance"

    def unit(index: int, x: Tensor) -> Tensor:
        return F.relu(norm(net, f"model.{index + 1}", x, kind))

    x = unit(1, net.conv("model.1", F.pad(image, (3, 3, 3, 3), "reflect"), 64, 7, bias=bias))
    x = unit(4, net.conv("model.4", x, 128, 3, 2, 1, bias=bias))
    x = unit(7, net.conv("model.7", x, 256, 3, 2, 1, bias=bias))
    for index in range(10, 10 + blocks):
        at, second = f"model.{index}.conv_block", 6 if dropout else 5
        y = net.conv(f"{at}.1", F.pad(x, (1, 1, 1, 1), "reflect"), 256, bias=bias)
        y = F.pad(F.relu(norm(net, f"{at}.2", y, kind)), (1, 1, 1, 1), "reflect")
        x = x + norm(net, f"{at}.{second + 1}", net.conv(f"{at}.{second}", y, 256, bias=bias), kind)
    for index, width in ((10 + blocks, 128), (13 + blocks, 64)):
        x = unit(index, net.deconv(f"model.{index}", x, width, 3, 2, 1, 1, bias=bias))
    return net.conv(f"model.{17 + blocks}", F.pad(x, (3, 3, 3, 3), "reflect"), out, 7).tanh()


def discriminator(net: Random, x: Tensor, layers: int, kind: str) -> Tensor:
    """`NLayerDiscriminator` (`layers` > 0) and `PixelDiscriminator`."""
    bias = kind == "instance"
    if layers == 0:
        x = F.leaky_relu(net.conv("net.0", x, 64, 1), 0.2)
        x = F.leaky_relu(norm(net, "net.3", net.conv("net.2", x, 128, 1, bias=bias), kind), 0.2)
        return net.conv("net.5", x, 1, 1, bias=bias)
    x = F.leaky_relu(net.conv("model.0", x, 64, 4, 2, 1), 0.2)
    for n in range(1, layers + 1):
        at = 3 * n - 1
        x = net.conv(f"model.{at}", x, 64 * min(2**n, 8), 4, 2 if n < layers else 1, 1, bias=bias)
        x = F.leaky_relu(norm(net, f"model.{at + 1}", x, kind), 0.2)
    return net.conv(f"model.{3 * layers + 2}", x, 1, 4, 1, 1)


def check_generator(net: Random, expected: Tensor, image: Tensor, network: str) -> None:
    _, found = converted(net.state)
    assert found.network == network
    model = found.build()
    for module in model.modules():
        if isinstance(module, EvalDropout):
            module.always_on = False
    with torch.no_grad():
        output = model(image)
    assert model.generator.downs[0][0].in_channels == image.shape[1] if "unet" in network else True
    assert_same(2 * output - 1, expected)


# One channel in, two out: the file decides, not a default dataset.
@pytest.mark.parametrize(("downs", "kind"), [pytest.param(8, "batch", marks=pytest.mark.slow), (7, "instance")])
def test_a_published_unet_computes_what_its_code_computes(downs, kind):
    net, image = Random(), torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(1))
    expected = unet(net, 2 * image - 1, 2, downs, kind)
    check_generator(net, expected, image, f"unet{2**downs}")


@pytest.mark.parametrize(
    ("blocks", "kind", "dropout"), [(9, "instance", False), (6, "batch", True), (6, "instance", True)]
)
def test_a_published_resnet_generator_computes_what_its_code_computes(blocks, kind, dropout):
    net, image = Random(), torch.rand(1, 4, 32, 40, generator=torch.Generator().manual_seed(1))
    expected = resnet(net, 2 * image - 1, 3, blocks, kind, dropout)
    check_generator(net, expected, image, f"resnet{blocks}")


def test_a_generator_with_batch_normalization_and_without_dropout_uses_the_running_means(monkeypatch):
    monkeypatch.setitem(globals(), "norm", lambda net, name, x, kind: net.batch_norm(name, x))
    net, image = Random(), torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    expected = resnet(net, 2 * image - 1, 3, 6, "batch", dropout=False)
    check_generator(net, expected, image, "resnet6")


def test_statistics_of_old_instance_normalizations_are_left_out():
    net, image = Random(), torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    expected = resnet(net, 2 * image - 1, 3, 9, "instance", dropout=False)
    # Files of PyTorch before 0.4 have them, of a normalization that does not use them.
    net.state |= {"model.2.running_mean": torch.ones(64), "model.2.running_var": torch.ones(64)}
    check_generator(net, expected, image, "resnet9")


@pytest.mark.parametrize(("layers", "kind"), [(3, "batch"), (3, "instance"), (0, "batch"), (1, "instance")])
def test_a_published_discriminator_computes_what_its_code_computes(tmp_path, layers, kind):
    net, pair = Random(), torch.rand(1, 6, 64, 72, generator=torch.Generator().manual_seed(1))
    expected = discriminator(net, pair, layers, kind)
    _, found = converted({f"module.{name}": tensor for name, tensor in net.state.items()})
    found.save(tmp_path / "discriminator.safetensors", "latest_net_D.pth", "their terms")
    loaded = load_discriminator(tmp_path / "discriminator.safetensors").train()
    assert loaded.num_layers == layers
    with torch.no_grad():
        assert_same(loaded(pair), expected)
