"""Numerical comparison of every backbone with torchvision or timm: the table of docs/backbones.md.

python tools/reproduce/parity.py                  print the table (some minutes: whole networks with random weights)
python tools/reproduce/parity.py resnet50 vgg16   print some rows of it

The reference implementation gets our weights. `logits` is the largest difference between the logits of the two networks
in evaluation mode (GoogLeNet: in training mode as well, with the auxiliary logits), `gradients` the largest difference
between the gradients of one training step on two images, relative to the largest gradient of each tensor. Dropout is
disabled for that step, since the two networks would draw different masks.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Backbone
from densevision.backbones.receptive_field import receptive_fields
from densevision.backbones.state_dict_matching import published_state

HEADING = (
    "backbone",
    "parameters",
    "parameters of the classifier",
    "receptive field, px",
    "reference",
    "logits",
    "gradients",
)
IMAGES = 2


def reference_network(name: str) -> tuple[str, Any]:
    """The library and the network to compare with; "" and None for backbones that neither library has."""
    if name.endswith("_cifar") or name in ("lenet5", "alexnet", "googlenet", "vgg11_lrn", "vgg16_c"):
        return "", None
    if name.startswith("inception"):
        import timm

        return "timm", timm.create_model(name)
    import torchvision

    published = name.removesuffix("_tv")
    if not hasattr(torchvision.models, published):
        return "", None
    if published == "googlenet":
        return "torchvision", torchvision.models.googlenet(aux_logits=True, transform_input=False, init_weights=False)
    return "torchvision", getattr(torchvision.models, published)()


def row_of(name: str) -> tuple[str, ...]:
    """One row of the table."""
    torch.manual_seed(0)
    with torch.device("meta"):
        classifier = create_backbone(name)
        backbone = create_backbone(name, num_classes=0)
    whole, alone = (sum(parameter.numel() for parameter in net.parameters()) for net in (classifier, backbone))
    field = list(receptive_fields(backbone).values())[-1].size
    library, reference = reference_network(name)
    differences = ("", "")
    if reference is not None:
        logits, gradients = compare(create_backbone(name), reference)
        differences = (f"{logits:.1g}", f"{gradients:.1g}")
    return (name, f"{whole:,}", f"{whole - alone:,}", f"{field:g}", library or "—", *differences)


def compare(ours: Backbone, reference: nn.Module) -> tuple[float, float]:
    """The largest differences of logits and of one step's gradients between two networks with the same weights."""
    aliases = {name: ours.state_dict_alias(name) for name, _ in ours.named_parameters()}
    reference.load_state_dict(published_state(ours))
    side = ours.preprocessing.crop
    images = torch.randn(IMAGES, ours.in_channels, side, side)
    with torch.no_grad():
        difference = largest(ours.eval()(images), reference.eval()(images))
    for network in (ours, reference):
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
    logits, theirs = ours.forward_train(images), reference(images)
    if not isinstance(
        theirs, Tensor
    ):  # torchvision's GoogLeNet: the main logits, then the second and the first auxiliary ones
        theirs = (theirs.logits, theirs.aux_logits1, theirs.aux_logits2)
        difference = max(difference, *(largest(a, b) for a, b in zip(logits, theirs, strict=True)))
    else:
        theirs = (theirs,)
    for outputs in (logits, theirs):
        sum(output.square().mean() for output in outputs).backward()  # type: ignore[union-attr]
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    worst = 0.0
    for name, parameter in ours.named_parameters():
        gradient, expected = parameter.grad, gradients[aliases[name]]
        assert gradient is not None and expected is not None
        scale = float(expected.abs().max())
        if scale > 1e-8:  # the gradient of a bias before batch normalization is rounding noise
            worst = max(worst, largest(gradient, expected) / scale)
    return difference, worst


def largest(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two tensors."""
    return float((a - b).detach().abs().max())


def main(names: list[str]) -> None:
    """Print the table as Markdown."""
    print("| " + " | ".join(HEADING) + " |\n" + "| --- " * len(HEADING) + "|")
    for name in names or list_backbones():
        print("| " + " | ".join(row_of(name)) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
