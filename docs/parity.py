"""Every trunk held against a public implementation: the table of docs/trunks.md.

python docs/parity.py                  print the table (some minutes: the networks run whole, with random weights)
python docs/parity.py resnet50 vgg16   print some lines of it

The peer gets our weights. `logits` is the largest difference between the two networks' logits in evaluation (GoogLeNet:
in training as well, its auxiliary ones among them), `gradients` the largest difference between the gradients of one
training step on two pictures, relative to each tensor's largest gradient. Dropout is switched off for that step, since
the two would draw differently.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Backbone
from densevision.backbones.opened_weights import published_state
from densevision.backbones.receptive_field import receptive_fields

HEADING = ("trunk", "parameters", "of them in the classifier", "receptive field, px", "peer", "logits", "gradients")
PICTURES = 2


def peer_of(name: str) -> tuple[str, Any]:
    """The public network of a name, with its origin; none for those that only papers describe."""
    if name.endswith("_cifar") or name in ("lenet5", "alexnet", "googlenet", "vgg11_lrn", "vgg16_c"):
        return "", None
    if name.startswith("inception"):
        import timm

        return "timm", timm.create_model(name)
    import torchvision

    called = name.removesuffix("_tv")
    if not hasattr(torchvision.models, called):
        return "", None
    if called == "googlenet":
        return "torchvision", torchvision.models.googlenet(aux_logits=True, transform_input=False, init_weights=False)
    return "torchvision", getattr(torchvision.models, called)()


def line_of(name: str) -> tuple[str, ...]:
    """One row of the table."""
    torch.manual_seed(0)
    with torch.device("meta"):
        described = create_backbone(name)
        trunk_alone = create_backbone(name, classes=0)
    whole, alone = (sum(parameter.numel() for parameter in net.parameters()) for net in (described, trunk_alone))
    field = list(receptive_fields(trunk_alone).values())[-1].size
    origin, peer = peer_of(name)
    differences = ("", "")
    if peer is not None:
        logits, gradients = compare(create_backbone(name), peer)
        differences = (f"{logits:.1g}", f"{gradients:.1g}")
    return (name, f"{whole:,}", f"{whole - alone:,}", f"{field:g}", origin or "—", *differences)


def compare(ours: Backbone, peer: nn.Module) -> tuple[float, float]:
    """The largest differences between two networks that get the same weights: of logits, and of a step's gradients."""
    called = {name: ours.published_name(name) for name, _ in ours.named_parameters()}
    peer.load_state_dict(published_state(ours))
    side = ours.preprocessing.crop
    pictures = torch.randn(PICTURES, ours.in_channels, side, side)
    with torch.no_grad():
        apart = largest(ours.eval()(pictures), peer.eval()(pictures))
    for network in (ours, peer):
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
    logits, theirs = ours.training_logits(pictures), peer(pictures)
    if not isinstance(theirs, Tensor):  # torchvision's GoogLeNet: main, then its second and its first auxiliary output
        theirs = (theirs.logits, theirs.aux_logits1, theirs.aux_logits2)
        apart = max(apart, *(largest(a, b) for a, b in zip(logits, theirs, strict=True)))
    else:
        theirs = (theirs,)
    for outputs in (logits, theirs):
        sum(output.square().mean() for output in outputs).backward()  # type: ignore[union-attr]
    gradients = {name: parameter.grad for name, parameter in peer.named_parameters()}
    worst = 0.0
    for name, parameter in ours.named_parameters():
        gradient, expected = parameter.grad, gradients[called[name]]
        assert gradient is not None and expected is not None
        scale = float(expected.abs().max())
        if scale > 1e-8:  # a bias before batch normalisation has no gradient but rounding
            worst = max(worst, largest(gradient, expected) / scale)
    return apart, worst


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return float((a - b).detach().abs().max())


def main(names: list[str]) -> None:
    """Print the table in Markdown."""
    print("| " + " | ".join(HEADING) + " |\n" + "| --- " * len(HEADING) + "|")
    for name in names or list_backbones():
        print("| " + " | ".join(line_of(name)) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
