"""Receptive fields of all levels, as a table and drawn over an image; and crops at the receptive field of a unit.

They are traced through the computational graph (`backbones.receptive_field`); no weights are needed. Windows of crops
are in pixels of the model input. Near the border, a receptive field includes padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.result import Visualization

if TYPE_CHECKING:
    import numpy as np

    from ...backbones import Backbone
    from ...backbones.receptive_field import ReceptiveField
    from ...datasets.core.geometry import Size
    from ..core.model import InspectedModel

COLUMNS = ("stride", "size", "first center", "overlap", "global operation")
MAX_LENGTH = 1000
"""Longer side of a drawing in pixels, without its legend."""
PADDING_GRAY = 236
"""Gray value of the padding."""
AXES = ("height", "width")
WRAPPED = "module."
"""Path of any other module inside its `traced_backbone`."""


def receptive_field(
    model: Any, image: Any = None, *, layers: bool = False, size: tuple[int, int] | None = None
) -> Visualization:
    """Trace the exact receptive field of every level, in pixels, and draw those of the center units over an image.

    The area outside of the image is padding. The notes are the lines of a table.

    Args:
        model: see `inspect_model`. The levels of any module but a backbone are the modules directly inside it.
        image: image to draw over; white if not stated.
        layers: also list every convolution and pooling layer.
        size: height and width, in pixels, to which the image is resized; its own size if not stated.

    Returns:
        array: (levels, 2, 4) float64: stride, size, center of the first unit and overlap, along height and width.

    Raises:
        UserError: a model that cannot be traced, or that does not accept images of this size.
    """
    import cv2
    import numpy as np

    from ...tasks.image_io import load_image
    from ..core.images import one_image, valid_size
    from ..core.model import inspect_model

    size = None if size is None else valid_size(size)
    model = inspect_model(model)
    size = size or (None if model.backbone is None else model.backbone.fixed_size)
    photo = np.full((*(size or model.size), 3), 255, np.uint8) if image is None else load_image(one_image(image))
    photo = photo if size is None else cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA)
    backbone = traced_backbone(model, (photo.shape[0], photo.shape[1]))
    notes = level_table(backbone).split("\n") + (["", *layer_table(backbone).split("\n")] if layers else [])
    pairs = zip(*(each.values() for each in fields_by_axis(backbone)), strict=True)
    array = np.array([[(each.jump, each.size, each.center, each.overlap) for each in pair] for pair in pairs])
    return Visualization(array, draw_fields(backbone, photo), tuple(notes))


def traced_backbone(model: InspectedModel, size: Size) -> Backbone:
    """The backbone of a model; of any other module one whose levels are the maps of the modules directly inside it.

    `size` is the (height, width) of the images with which any other module is traced.
    """
    import torch

    from ...backbones.backbone import Backbone, Level, Preprocessing, features_on_meta
    from ...errors import UserError
    from ...tasks.tiling import eval_mode
    from ..core.hooks import StopForward, capture_maps

    if model.backbone is not None:
        return model.backbone

    errors = (StopForward, RuntimeError, TypeError)

    class Children(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.name, self.num_classes = model.module, model.name, 0
            self.in_channels, self.fixed_size = model.optimized_channels[0], size
            self.preprocessing = Preprocessing().for_channels(self.in_channels)
            self.names: list[str] = []
            self.levels = ()

        def features(self, image: Any) -> list[Any]:
            last = self.levels[-1].name if self.levels else None
            # What follows the maps, a classifier, may not fit this size, and the module may need further inputs.
            with eval_mode(self.module), capture_maps(self.module, last) as maps, suppress(*errors):
                self.module(image)
            self.names = list(maps)
            return list(maps.values())

    backbone = Children()
    maps, _ = features_on_meta(backbone, torch.empty(2, backbone.in_channels, *size, device="meta"))
    if not maps:
        raise UserError(f"{model.name} has no modules that return feature maps; give one of its parts.")
    backbone.levels = tuple(
        Level(name, round(size[0] / each.shape[2]), each.shape[1])
        for name, each in zip(backbone.names, maps, strict=True)
    )
    return backbone


def level_table(backbone: Backbone) -> str:
    """Table of the levels: stride, field size, center of the first unit, overlap of adjacent fields, in pixels."""
    height, width = fields_by_axis(backbone)
    return format_table("level", {name: (height[name], width[name]) for name in width})


def layer_table(backbone: Backbone) -> str:
    """The same for every convolution and pooling layer."""
    from ...backbones.receptive_field import layer_fields

    modules = _by_path(backbone.named_modules())
    height, width = (_by_path(layer_fields(backbone, axis).items()) for axis in AXES)
    innermost = [name for name in width if not any(modules[name].children())]
    return format_table("layer", {name: (height[name], width[name]) for name in innermost})


def fields_by_axis(backbone: Backbone) -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]]:
    """Receptive fields of the levels along height and width; attention cannot be traced."""
    from ...backbones.receptive_field import receptive_fields
    from ...errors import UserError

    try:
        height, width = (_by_path(receptive_fields(backbone, axis).items()) for axis in AXES)
    except ValueError as error:
        raise UserError(f"{backbone.name} cannot be traced: {error}; choose another backbone.") from error
    return height, width


def _by_path(named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Modules or fields by the paths of their modules, without that of `traced_backbone` around any other module."""

    def clean(value: Any) -> Any:
        cause = getattr(value, "global_operation", None)
        return replace(value, global_operation=cause.replace(f" in {WRAPPED}", " in ")) if cause else value

    return {name.removeprefix(WRAPPED): clean(value) for name, value in named}


def format_table(heading: str, fields: dict[str, tuple[ReceptiveField, ReceptiveField]]) -> str:
    """Format fields along height and width as an aligned table, with one number where both are equal."""
    rows: list[tuple[str, ...]] = [(heading, *COLUMNS)]
    for name, (height, width) in fields.items():
        numbers = ((each.jump, each.size, each.center, each.overlap) for each in (height, width))
        rows.append((name, *map(format_axes, *numbers), width.global_operation or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells, last in rows:
        middle = [cell.rjust(width) for cell, width in zip(cells, widths[1:-1], strict=True)]
        lines.append("  ".join((first.ljust(widths[0]), *middle, last)))
    return "\n".join(lines)


def format_axes(height: float, width: float) -> str:
    """Format a number along both axes; after a global operation, sizes are "all" and centers "-"."""
    one, other = ("all" if math.isinf(each) else "-" if math.isnan(each) else f"{each:g}" for each in (height, width))
    return one if one == other else f"{one} x {other}"


class Frame(NamedTuple):
    """Receptive field of the center unit of a level, with edges in pixels of the image; None if it is global."""

    level: str
    note: str
    box: tuple[float, float, float, float] | None


def center_unit_frames(backbone: Backbone, size: tuple[int, int]) -> list[Frame]:
    """Frames of the center units of all levels, for an image of (height, width)."""
    import torch

    from ...backbones.backbone import features_on_meta
    from ...errors import UserError

    try:
        maps, _ = features_on_meta(backbone, torch.empty(2, backbone.in_channels, *size, device="meta"))
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{backbone.name} does not accept images of {size[0]}x{size[1]}; give another --size."
        ) from error
    heights, widths = fields_by_axis(backbone)
    frames = []
    for level, level_map in zip(backbone.levels, maps, strict=True):
        rows, columns = heights[level.name], widths[level.name]
        note = f"{format_axes(rows.size, columns.size)} pixels, every {format_axes(rows.jump, columns.jump)}"
        if operation := rows.global_operation or columns.global_operation:
            frames.append(Frame(level.name, f"everything ({operation})", None))
            continue
        (top, bottom), (left, right) = rows.pixels(level_map.shape[-2] // 2), columns.pixels(level_map.shape[-1] // 2)
        # Pixel centers are at integers, so a pixel ends half a pixel further.
        frames.append(Frame(level.name, note, (left - 0.5, top - 0.5, right + 0.5, bottom + 0.5)))
    return frames


def draw_fields(backbone: Backbone, photo: np.ndarray) -> np.ndarray:
    """Draw the receptive fields of the levels' center units as nested frames with a legend.

    The photo (H, W, 3) uint8 has the size of the model input; it is extended where a field is larger, and scaled to
    `MAX_LENGTH` pixels without the legend.
    """
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    height, width = photo.shape[:2]
    frames = center_unit_frames(backbone, (height, width))
    boxes = np.array([(-0.5, -0.5, width - 0.5, height - 0.5), *(frame.box for frame in frames if frame.box)])
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    scale = MAX_LENGTH / max(right - left, bottom - top)
    font, line, swatch = ImageFont.load_default(20), 32, 22
    labels = [f"{frame.level}: {frame.note}" for frame in frames]
    legend = swatch + 28 + round(max(font.getlength(text) for text in labels))
    canvas_height = max(round((bottom - top) * scale), line * (len(frames) + 1))
    canvas = Image.new("RGB", (round((right - left) * scale) + legend, canvas_height), "white")
    draw = ImageDraw.Draw(canvas)

    def to_canvas(box: Sequence[float]) -> tuple[float, float, float, float]:
        x, y, x_end, y_end = ((edge - start) * scale for edge, start in zip(box, (left, top) * 2, strict=True))
        return x, y, x_end - 1, y_end - 1

    draw.rectangle(to_canvas((left, top, right, bottom)), fill=(PADDING_GRAY,) * 3)
    x, y, x_end, y_end = (round(edge) for edge in to_canvas(boxes[0]))
    resized_photo = Image.fromarray(photo).resize((x_end - x + 1, y_end - y + 1), Image.Resampling.LANCZOS)
    canvas.paste(resized_photo, (x, y))
    shades = np.linspace(20, 235, len(frames)).round().astype(np.uint8)[None]
    colors = [tuple(int(part) for part in color) for color in cv2.applyColorMap(shades, cv2.COLORMAP_TURBO)[0, :, ::-1]]
    # From the widest to the narrowest, so that small frames are on top.
    for frame, color in reversed(list(zip(frames, colors, strict=True))):
        if frame.box:
            x, y, x_end, y_end = to_canvas(frame.box)
            x_end, y_end = max(x_end, x + 2), max(y_end, y + 2)
            draw.rectangle((x, y, x_end, y_end), outline="white", width=5)
            draw.rectangle((x + 1, y + 1, x_end - 1, y_end - 1), outline=color, width=3)
    legend_x = canvas.width - legend + 12
    for index, (text, color) in enumerate(zip(labels, colors, strict=True)):
        draw.rectangle((legend_x, index * line + 5, legend_x + swatch, index * line + 5 + swatch), fill=color)
        draw.text((legend_x + swatch + 8, index * line + 5), text, fill="black", font=font)
    return np.asarray(canvas)


class Window(NamedTuple):
    """Pixel columns left ... right - 1 and rows top ... bottom - 1; negative in the padding."""

    left: int
    top: int
    right: int
    bottom: int

    def clip(self, size: Size) -> Window:
        """Intersection with an image of (height, width)."""
        height, width = size
        return Window(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Crop an image (H, W, ...) to the window, without padding."""
        import numpy as np

        left, top, right, bottom = self.clip((image.shape[0], image.shape[1]))
        return np.ascontiguousarray(image[top:bottom, left:right])


class Fields(NamedTuple):
    """Receptive fields of a level, along height and width."""

    level: str
    rows: ReceptiveField
    columns: ReceptiveField

    def window(self, x: int, y: int) -> Window:
        """Receptive field of the unit at x, y of the level."""
        left, top = (math.floor(axis.pixels(unit)[0]) for axis, unit in ((self.columns, x), (self.rows, y)))
        return Window(left, top, left + round(self.columns.size), top + round(self.rows.size))

    def units_inside(self, count: Size, size: Size) -> tuple[range, range]:
        """Rows and columns of the units, of (h, w), whose fields are entirely inside an image of (height, width)."""
        ranges = []
        for axis, units, pixels in zip((self.rows, self.columns), count, size, strict=True):
            first = math.ceil(max(0.0, -axis.first) / axis.jump)
            last = math.floor((pixels - axis.size - axis.first) / axis.jump)
            ranges.append(range(first, max(first, min(last + 1, units))))
        return ranges[0], ranges[1]

    def nearest_unit(self, x: float, y: float, candidates: tuple[range, range]) -> tuple[int, int]:
        """Unit (x, y), among the candidate rows and columns, whose center is nearest to a pixel of the model input."""
        rows, columns = candidates
        row, column = (
            min(max(round((pixel - axis.center) / axis.jump), units[0]), units[-1])
            for pixel, axis, units in ((y, self.rows, rows), (x, self.columns, columns))
        )
        return column, row


def unit_fields(model: InspectedModel, level: str) -> Fields:
    """Receptive fields of a level, or of a convolution or pooling layer, that are traced and not global."""
    from ...errors import UserError, unknown_name_with_suggestions

    if level not in model.level_names():
        raise unknown_name_with_suggestions(f"level of {model.name}", level, model.level_names())
    fields = traced_fields(model)
    if fields is None or level not in fields[0]:
        known = ", ".join(each.name for each in model.backbone.levels) if model.backbone is not None else "none has one"
        raise UserError(f"The receptive field of '{level}' is not known; choose a level of {model.name}: {known}.")
    rows, columns = (axis[level] for axis in fields)
    if not math.isfinite(rows.size + columns.size):
        raise UserError(
            f"The receptive field of '{level}' is the entire image ({rows.global_operation}); choose an earlier level."
        )
    return Fields(level, rows, columns)


def traced_fields(model: InspectedModel) -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]] | None:
    """Receptive fields of levels and layers by name, along height and width; None if the model cannot be traced."""
    from ...backbones.receptive_field import all_fields
    from ...errors import UserError
    from ..core.hooks import found_once

    def trace() -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]] | None:
        try:
            height, width = (_by_path(each.items()) for each in all_fields(traced_backbone(model, model.size)))
        except (ValueError, RuntimeError, UserError):  # for example attention
            return None
        return height, width

    return found_once(model.module, f"fields of {model.size}", trace)
