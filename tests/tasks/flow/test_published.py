"""Published weights of FlowNet and RAFT: the converted network computes what the published definition computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.errors import UserError
from densevision.tasks.conversion import convert_published, open_published
from densevision.tests.caffe import caffe_bytes, layers_of
from densevision.tests.published import Random, assert_same, converted

# Name, in, out, kernel, stride: figure 2 of the paper, in the names of the port.
BODY = (
    ("conv4", 256, 512, 2), ("conv4_1", 512, 512, 1), ("conv5", 512, 512, 2), ("conv5_1", 512, 512, 1),
    ("conv6", 512, 1024, 2), ("conv6_1", 1024, 1024, 1),
)  # fmt: skip
REFINED = ((5, 1024, 512), (4, 1026, 256), (3, 770, 128), (2, 386, 64))
FLOWS = {6: 1024, 5: 1026, 4: 770, 3: 386, 2: 194}


AUTHORS_MEANS = torch.tensor([[0.450141, 0.432060, 0.411451], [0.448553, 0.431021, 0.410602]])
"""Of red, green and blue, of both images, in the authors' definitions."""


def flownet(net: Random, images: Tensor, form: str, batch_norm: bool, origin: str) -> Tensor:
    """FlowNetS and FlowNetC of FlowNetPytorch ("port"), of NVIDIA ("nvidia") and of the authors ("caffe"), in the names
    of the port: (1, 2, 3, H, W) RGB in [0, 1] to flow2."""
    nvidia, biased = origin == "nvidia", origin != "port"

    def conv(name: str, x: Tensor, width: int, kernel: int = 3, stride: int = 1) -> Tensor:
        x = net.conv(f"{name}.0", x, width, kernel, stride, kernel // 2, bias=not batch_norm)
        return F.leaky_relu(net.batch_norm(f"{name}.1", x) if batch_norm else x, 0.1)

    if nvidia:
        images = images - images.mean((1, 3, 4), keepdim=True)
    elif origin == "caffe":
        images = images - AUTHORS_MEANS[..., None, None]
    else:
        images = images - torch.tensor([0.45, 0.432, 0.411]).view(3, 1, 1)
    if form == "S":
        conv2 = conv("conv2", conv("conv1", images.flatten(1, 2), 64, 7, 2), 128, 5, 2)
        x = conv("conv3_1", conv("conv3", conv2, 256, 5, 2), 256)
    else:
        towers = []
        for image in images.unbind(1):
            conv2 = conv("conv2", conv("conv1", image, 64, 7, 2), 128, 5, 2)
            towers.append((conv2, conv("conv3", conv2, 256, 5, 2)))
        (conv2, a), (_, b) = towers
        height, width = a.shape[-2:]
        padded = F.pad(b, (20, 20, 20, 20))
        shifts = range(0, 41, 2)
        costs = [(a * padded[..., y : y + height, x : x + width]).mean(1) for y in shifts for x in shifts]
        costs = F.leaky_relu(torch.stack(costs, 1), 0.1)
        x = conv("conv3_1", torch.cat([conv("conv_redir", a, 32, 1), costs], 1), 256)
    skips = {3: x, 2: conv2}
    for name, _, width, stride in BODY:
        x = conv(name, x, width, 3, stride)
        if name.endswith("_1"):
            skips[int(name[4])] = x
    for level, _, width in REFINED:
        flow = net.conv(f"predict_flow{level + 1}", x, 2, 3, 1, 1, bias=biased)
        up = net.deconv(
            f"upsampled_flow{level + 1}_to_{level}", flow, 2, bias=origin == "caffe" or (nvidia and form == "C")
        )
        deconv = F.leaky_relu(net.deconv(f"deconv{level}.0", x, width, bias=biased), 0.1)
        size = skips[level].shape[-2:]
        x = torch.cat([skips[level], deconv[..., : size[0], : size[1]], up[..., : size[0], : size[1]]], 1)
    return 20 * net.conv("predict_flow2", x, 2, 3, 1, 1, bias=biased)


@pytest.mark.parametrize(
    ("form", "batch_norm", "origin", "network"),
    [
        ("S", False, "port", "flownets"),
        pytest.param("C", False, "port", "flownetc", marks=pytest.mark.slow),
        pytest.param("S", True, "port", "flownets_bn", marks=pytest.mark.slow),
        pytest.param("S", False, "nvidia", "flownet2s", marks=pytest.mark.slow),
        pytest.param("C", False, "nvidia", "flownet2c", marks=pytest.mark.slow),
    ],
)
def test_a_published_flownet_computes_what_its_port_computes(form, batch_norm, origin, network):
    net, images = Random(), torch.rand(1, 2, 3, 64, 128, generator=torch.Generator().manual_seed(1))
    expected = flownet(net, images, form, batch_norm, origin)
    said, found = converted({"arch": "flownet", "state_dict": net.state})
    assert (found.network, found.task) == (network, "flow")
    assert "Stripped the prefix 'state_dict.'" in " ".join(said)
    with torch.no_grad():
        flow = found.build()(*images.unbind(1))
    assert_same(flow, expected)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["S", "C"])
def test_the_authors_flownet_computes_what_its_definition_computes(tmp_path, form):
    net, images = Random(), torch.rand(1, 2, 3, 64, 128, generator=torch.Generator().manual_seed(1))
    expected = flownet(net, images, form, False, "caffe")
    stored = {}
    for name, tensor in net.state.items():
        layer, part = name.removesuffix(".weight").removesuffix(".bias").removesuffix(".0"), name.rsplit(".", 1)[1]
        if layer.startswith("predict"):
            layer = f"Convolution{7 - int(layer[-1])}"
        stored[f"{layer.replace('upsampled', 'upsample').replace('_to_', 'to')}.{part}"] = tensor
    # Caffe's images have blue first.
    stored["conv1.weight"] = stored["conv1.weight"].unflatten(1, (-1, 3)).flip(2).flatten(1, 2)
    path = tmp_path / "flownet.caffemodel"
    path.write_bytes(caffe_bytes(layers_of(stored)))
    _, found = convert_published(open_published(path))
    assert found.network == f"flownet{form.lower()}_caffe"
    with torch.no_grad():
        flow = found.build()(*images.unbind(1))
    assert_same(flow, expected)


def raft(net: Random, first: Tensor, second: Tensor, small: bool, iterations: int) -> Tensor:
    """Princeton's `core/raft.py` with its encoders and its update block: (1, 3, H, W) in [-1, 1] to flow."""

    def encoder(name: str, x: Tensor, norm: str, out: int) -> Tensor:
        def normalize(where: str, x: Tensor) -> Tensor:
            if norm == "batch":
                return net.batch_norm(f"{name}.{where}", x)
            return F.instance_norm(x) if norm == "instance" else x

        widths = (32, 32, 64, 96) if small else (64, 64, 96, 128)
        x = F.relu(normalize("norm1", net.conv(f"{name}.conv1", x, widths[0], 7, 2, 3)))
        for layer, width in enumerate(widths[1:], 1):
            for block in range(2):
                at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
                quarter = width // 4
                steps = (
                    ((quarter, 1, 1), (quarter, 3, stride), (width, 1, 1))
                    if small
                    else ((width, 3, stride), (width, 3, 1))
                )
                y = x
                for number, (channels, kernel, step) in enumerate(steps, 1):
                    y = net.conv(f"{name}.{at}.conv{number}", y, channels, kernel, step, kernel // 2)
                    y = F.relu(normalize(f"{at}.norm{number}", y))
                if stride == 2:
                    x = net.conv(f"{name}.{at}.downsample.0", x, width, 1, 2, 0)
                    x = normalize(f"{at}.downsample.1", x)
                    if norm == "batch":  # the same module under a second name
                        for part in ("weight", "bias", "running_mean", "running_var"):
                            here = f"{name}.{at}.norm{len(steps) + 1}.{part}"
                            net.state[here] = net.state[f"{name}.{at}.downsample.1.{part}"]
                x = F.relu(x + y)
        return net.conv(f"{name}.conv2", x, out, 1, 1, 0)

    hidden, context, radius = (96, 64, 3) if small else (128, 128, 4)
    maps = [encoder("fnet", image, "instance", 128 if small else 256) for image in (first, second)]
    state, inputs = encoder("cnet", first, "none" if small else "batch", hidden + context).split([hidden, context], 1)
    state, inputs = state.tanh(), inputs.relu()
    height, width = maps[0].shape[-2:]
    volume = torch.einsum("bchw,bcij->hwij", *maps).flatten(0, 1)[:, None] / maps[0].shape[1] ** 0.5
    pyramid = [volume]
    for _ in range(3):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2, 2))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    start = torch.stack([x, y])[None].float()
    position, offsets = start.clone(), torch.arange(-radius, radius + 1).float()
    delta = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1)[None]
    flow, u = position - start, "update_block"
    for _ in range(iterations):
        looked = []
        for level, costs in enumerate(pyramid):
            where = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level + delta
            grid = 2 * where / torch.tensor([costs.shape[-1] - 1.0, costs.shape[-2] - 1.0]) - 1
            looked.append(F.grid_sample(costs, grid, align_corners=True).view(1, height, width, -1))
        correlation = torch.cat(looked, -1).permute(0, 3, 1, 2)
        cor = F.relu(net.conv(f"{u}.encoder.convc1", correlation, 96 if small else 256, 1, 1, 0))
        if not small:
            cor = F.relu(net.conv(f"{u}.encoder.convc2", cor, 192, 3, 1, 1))
        flo = F.relu(net.conv(f"{u}.encoder.convf1", flow, 64 if small else 128, 7, 1, 3))
        flo = F.relu(net.conv(f"{u}.encoder.convf2", flo, 32 if small else 64, 3, 1, 1))
        motion = F.relu(net.conv(f"{u}.encoder.conv", torch.cat([cor, flo], 1), 80 if small else 126, 3, 1, 1))
        seen = torch.cat([inputs, motion, flow], 1)
        for number, kernel in (("", (3, 3)),) if small else (("1", (1, 5)), ("2", (5, 1))):
            padding = (kernel[0] // 2, kernel[1] // 2)

            def gate(which: str, x: Tensor) -> Tensor:
                return net.conv(f"{u}.gru.conv{which}{number}", x, hidden, kernel, 1, padding)  # noqa: B023

            both = torch.cat([state, seen], 1)
            z, r = gate("z", both).sigmoid(), gate("r", both).sigmoid()
            state = (1 - z) * state + z * gate("q", torch.cat([r * state, seen], 1)).tanh()
        step = net.conv(f"{u}.flow_head.conv1", state, 128 if small else 256, 3, 1, 1).relu()
        position = position + net.conv(f"{u}.flow_head.conv2", step, 2, 3, 1, 1)
        flow = position - start
    if small:
        return 8 * F.interpolate(flow, scale_factor=8, mode="bilinear", align_corners=True)
    mask = 0.25 * net.conv(f"{u}.mask.2", net.conv(f"{u}.mask.0", state, 256, 3, 1, 1).relu(), 576, 1, 1, 0)
    mask = mask.view(1, 1, 9, 8, 8, height, width).softmax(2)
    patches = F.unfold(8 * flow, (3, 3), padding=1).view(1, 2, 9, 1, 1, height, width)
    return (mask * patches).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(1, 2, 8 * height, 8 * width)


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_princetons_raft_computes_what_its_code_computes(small):
    net, images = Random(), torch.rand(2, 1, 3, 128, 136, generator=torch.Generator().manual_seed(1))
    expected = raft(net, 2 * images[0] - 1, 2 * images[1] - 1, small, 2)
    _, found = converted({f"module.{name}": tensor for name, tensor in net.state.items()})
    assert found.network == ("raft_small" if small else "raft_large")
    model = found.build()
    model.iterations = 2
    with torch.no_grad():
        flow = model(*images)
    assert expected.abs().max() > 0.1
    assert_same(flow, expected)


def test_a_layout_with_a_tensor_of_another_shape_is_refused():
    net = Random()
    flownet(net, torch.rand(1, 2, 3, 64, 64), "S", False, "port")
    net.state["conv6.0.weight"] = torch.zeros(1024, 512, 1, 1)
    _, found = converted(net.state)
    with pytest.raises(UserError, match=r"'conv6\.0\.weight' is of shape 1024x512x1x1 in the file and .* 1024x512x3x3"):
        found.build()
