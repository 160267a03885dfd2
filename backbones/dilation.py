"""Dilated backbones: an output stride below the coarsest, with dilated layers where the map is no longer halved.

Chen, Papandreou, Kokkinos, Murphy, Yuille: DeepLab. TPAMI 2018, arXiv:1606.00915, section 3.1 ("atrous algorithm").
Every second unit of a dilated map, per halving that is left out, is a unit of the original map.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from .backbone import Backbone, features_on_meta, meta_input
from .resnet import ZeroPaddedShortcut


class DilatedPool(nn.Module):
    """Max pooling of stride 1 with a dilation, which keeps the size of maps: the part of the padding that a pool of
    stride 2 does not have is added at the end."""

    def __init__(self, kernel: int, padding: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.before = padding * dilation
        self.after = (kernel - 1) * dilation - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the same."""
        padded = functional.pad(x, (self.before, self.after, self.before, self.after), value=-math.inf)
        return functional.max_pool2d(padded, self.kernel, 1, dilation=self.dilation)


def dilate(backbone: Backbone, output_stride: int) -> None:
    """Change a backbone in place so that no level has a stride above `output_stride`. Its parameters stay the same.

    Args:
        backbone: any whose halvings are convolutions and max pools.
        output_stride: the new coarsest stride.

    Raises:
        ValueError: it has layers that cannot be dilated, such as average pools; the backbone is unusable then.
    """
    rates = _strides(backbone)
    for name, (before, after) in rates.items():
        module = backbone.get_submodule(name)
        rate = before // min(before, output_stride)
        step = min(after, output_stride) // min(before, output_stride)
        if rate == 1 and step == after // before:
            continue
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            module.stride = (step, step)
            module.dilation = (module.dilation[0] * rate, module.dilation[1] * rate)
            pads = module.padding if isinstance(module.padding, tuple) else (height // 2, width // 2)
            module.padding = (pads[0] * rate, pads[1] * rate)
        elif isinstance(module, ZeroPaddedShortcut):
            module.stride = step
        elif isinstance(module, nn.MaxPool2d) and step == 1:
            kernel, padding = int(module.kernel_size), int(module.padding)  # type: ignore[arg-type]
            parent, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(parent), own, DilatedPool(kernel, padding, rate))
        else:
            raise ValueError(f"{backbone.name} cannot be dilated: {type(module).__name__} has no dilation")
    backbone.levels = tuple(replace(level, stride=min(level.stride, output_stride)) for level in backbone.levels)
    image = meta_input(backbone)
    maps, _ = features_on_meta(backbone, image)
    made = [_stride(image, each) for each in maps]
    if made != [level.stride for level in backbone.levels]:
        raise ValueError(f"{backbone.name} cannot be dilated: it has other halvings than convolutions and max pools")


def _strides(backbone: Backbone) -> dict[str, tuple[int, int]]:
    """The strides of the maps before and after every layer with a kernel, in pixels of the image."""
    image, found, handles = meta_input(backbone), {}, []
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, ZeroPaddedShortcut)
    for name, module in backbone.named_modules():
        if isinstance(module, kinds):

            def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                found[name] = (_stride(image, inputs[0]), _stride(image, output))

            handles.append(module.register_forward_hook(note))
    try:
        features_on_meta(backbone, image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _stride(image: Tensor, maps: Tensor) -> int:
    """The power of two nearest to the stride of a map; maps of unpadded convolutions are a little smaller."""
    return 2 ** round(math.log2(image.shape[-1] / maps.shape[-1]))
