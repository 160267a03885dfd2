"""Exact receptive fields: which input pixels a unit of a level can depend on.

State of a tensor along one axis: size r, jump j (input pixels between neighboring units) and center c of unit 0, with
pixel centers at integers. The image has r = 1, j = 1, c = 0. A layer of kernel k, stride s, padding p, dilation d,
with k' = d (k - 1) + 1, makes

    r' = r + (k' - 1) j        c' = c + ((k' - 1) / 2 - p) j        j' = j s

Pooling counts as a convolution; branches that meet are joined: from the first pixel of any to the last of any. Behind
an operation over the whole image (a mean over positions, group normalization) a unit sees everything.
The rules are applied to the operations that a backbone really performs (`receptive_field_trace.py`), recorded while it
runs on an empty image on the meta device. So any Python in between is followed, and timm's convolutional backbones as
well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from .backbone import Backbone, features_on_meta, meta_input
from .receptive_field_trace import IMAGE, Interval, Intervals, TraceMode


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of the units of one level along one axis.

    Attributes:
        size: pixels; `math.inf` behind a global operation.
        jump: pixels between the fields of neighboring units.
        center: of unit 0's field, in pixels; may lie outside the image. nan behind a global operation.
        global_operation: the first operation over the whole image that a unit depends on, and the submodule that
            performs it ("mean over positions in blocks.0.se"); None: the field is all that a unit sees.
    """

    size: float
    jump: float
    center: float
    global_operation: str | None = None

    @property
    def first(self) -> float:
        """The first pixel of unit 0's field; negative in the padding."""
        return self.center - (self.size - 1) / 2

    @property
    def overlap(self) -> float:
        """How many pixels the fields of neighboring units share: size - jump. Negative where they leave gaps."""
        return self.size - self.jump

    def pixels(self, unit: int) -> tuple[float, float]:
        """First and last pixel that a unit sees, both inclusive, padding included."""
        first = self.first + unit * self.jump
        return first, first + self.size - 1

    def units(self, start: int, stop: int, count: int) -> range:
        """The units that see any of the pixels start ... stop - 1.

        Args:
            start, stop: the pixels, half open.
            count: how many units the level has along the axis.
        """
        if math.isinf(self.size):
            return range(count)
        low = math.ceil((start - self.first - self.size + 1) / self.jump)
        high = math.floor((stop - 1 - self.first) / self.jump)
        return range(max(low, 0), min(high + 1, count))


def receptive_fields(backbone: Backbone, axis: str = "width") -> dict[str, ReceptiveField]:
    """The receptive field of every built level. Normalization counts as in evaluation.

    Args:
        backbone: any backbone; it computes nothing and is not changed.
        axis: "width" or "height"; they differ only in backbones whose kernels are not square.

    Returns:
        By name of the level.

    Raises:
        ValueError: the backbone performs an operation whose field is not known here.
    """
    levels, _ = _traced(backbone)
    return {name: _field(spans, axis) for name, spans in levels.items()}


def layer_fields(backbone: Backbone, axis: str = "width") -> dict[str, ReceptiveField]:
    """The receptive field behind every submodule that widens or thins out what it reads.

    So convolutions, pools, units and stages are there, and what works place by place (1x1, ReLU, normalization) is not.

    Args:
        backbone, axis: as in `receptive_fields`.

    Returns:
        By name of the submodule (`backbone.get_submodule(name)`), in the order in which they end. A submodule that runs
        more than once stands for its last time.

    Raises:
        ValueError: as `receptive_fields`.
    """
    _, layers = _traced(backbone)
    return {name: _field(spans, axis) for name, spans in layers.items()}


def all_fields(backbone: Backbone) -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]]:
    """`layer_fields` and `receptive_fields` along height and width, from one trace; levels replace layers of their
    names.

    Raises:
        ValueError: as `receptive_fields`.
    """
    levels, layers = _traced(backbone)
    height, width = (
        {name: _field(spans, axis) for name, spans in {**layers, **levels}.items()} for axis in ("height", "width")
    )
    return height, width


def _traced(backbone: Backbone) -> tuple[dict[str, Intervals], dict[str, Intervals]]:
    """Spans of the levels and of the submodules that change them."""
    image = meta_input(backbone)
    recorder = TraceMode()
    recorder.remember(image, IMAGE)
    layers: dict[str, Intervals] = {}
    with _followed_modules(backbone, recorder, layers), recorder:
        maps, _ = features_on_meta(backbone, image)
    levels = {level.name: recorder.of(made) for level, made in zip(backbone.levels, maps, strict=True)}
    for name, spans in levels.items():
        if spans is None:
            raise ValueError(f"level {name} of {backbone.name} does not depend on the image")
    return {name: spans for name, spans in levels.items() if spans is not None}, layers


@contextmanager
def _followed_modules(backbone: Backbone, recorder: TraceMode, layers: dict[str, Intervals]) -> Iterator[None]:
    """Tell the recorder which submodule runs, and gather what each one made of the spans of its input."""
    before: list[Intervals | None] = []

    def enter(name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        recorder.inside.append(name)
        before.append(recorder.of(inputs[0]) if inputs else None)

    def leave(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        recorder.inside.pop()
        read, made = before.pop(), recorder.of(output)
        if made is not None and made != read:
            layers.pop(name, None)
            layers[name] = made

    with ExitStack() as hooks:
        for name, module in backbone.named_modules():
            if name:
                hooks.enter_context(module.register_forward_pre_hook(partial(enter, name)))
                hooks.enter_context(module.register_forward_hook(partial(leave, name)))
        yield


def _field(spans: Intervals, axis: str) -> ReceptiveField:
    span: Interval = spans.height if axis == "height" else spans.width
    if span.cause:
        return ReceptiveField(math.inf, span.jump, math.nan, span.cause)
    return ReceptiveField(span.last - span.first + 1, span.jump, (span.first + span.last) / 2)
