"""`densevision visualize receptive-field`: receptive fields of all levels, as a table or drawn over an image.

They are traced through the computational graph (`backbones.receptive_field`); no weights are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ...backbones import Backbone
    from ...backbones.receptive_field import ReceptiveField

COLUMNS = ("stride", "size", "first center", "overlap", "global operation")
MAX_LENGTH = 1000
"""Longer side of a drawing in pixels, without its legend."""
PADDING_GRAY = 236
"""Gray value of the padding."""


def receptive_field(
    *,
    model: str,
    stride_in: Literal["1x1", "3x3"] | None = None,
    layers: bool = False,
    image: Path | None = None,
    size: tuple[int, int] | None = None,
    out: Path = Path("receptive-field.png"),
) -> None:
    """Print the exact receptive field of every level, in pixels; with --image, draw it over an image.

    The receptive field of a level's center unit is drawn as a frame. The area outside of the image is padding.

    Args:
        model: Backbone name (`densevision list backbones`), or timm:NAME.
        stride_in: Convolution of a ResNet bottleneck that downsamples; 3x3 if not stated.
        layers: Also print every convolution and pooling layer.
        image: Image to draw over; print only if not stated.
        size: Height and width, in pixels, to which the image is resized; its own size if not stated.
        out: Output image of --image.
    """
    import torch

    from ...backbones import create_backbone
    from ...datasets.formats.image import write_image
    from ...errors import UserError

    if size is not None and min(size) < 1:
        raise UserError(f"--size is {size[0]}x{size[1]}; both must be at least 1 pixel.")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out is '{out}'; name a .png or .jpg file.")
    options: dict[str, Any] = {"stride_in": stride_in} if stride_in else {}
    with torch.device("meta"):
        backbone = create_backbone(model, num_classes=0, **options)
    output = [level_table(backbone)]
    if layers:
        output += ["", layer_table(backbone)]
    if image is not None:
        write_image(out, draw_fields(backbone, read_photo(image, size or backbone.fixed_size)))
        output.append(f"Wrote {out}.")
    print("\n".join(output))


def level_table(backbone: Backbone) -> str:
    """Table of the levels: stride, field size, center of the first unit, overlap of adjacent fields, in pixels."""
    height, width = fields_by_axis(backbone)
    return format_table("level", {name: (height[name], width[name]) for name in width})


def layer_table(backbone: Backbone) -> str:
    """The same for every convolution and pooling layer."""
    from ...backbones.receptive_field import layer_fields

    height, width = layer_fields(backbone, "height"), layer_fields(backbone, "width")
    innermost = [name for name in width if not any(backbone.get_submodule(name).children())]
    return format_table("layer", {name: (height[name], width[name]) for name in innermost})


def fields_by_axis(backbone: Backbone) -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]]:
    """Receptive fields of the levels along height and width.

    Raises:
        UserError: the backbone cannot be traced (attention).
    """
    from ...backbones.receptive_field import receptive_fields
    from ...errors import UserError

    try:
        return receptive_fields(backbone, "height"), receptive_fields(backbone, "width")
    except ValueError as error:
        raise UserError(f"{backbone.name} cannot be traced: {error}; choose another backbone.") from error


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


def read_photo(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """Load an image file as (H, W, 3) uint8, resized if a size is given."""
    import cv2

    from ...tasks.image_io import load_image

    photo = load_image(path)
    return photo if size is None else cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA)


class Frame(NamedTuple):
    """Receptive field of the center unit of a level.

    Attributes:
        level: name of the level.
        note: size and stride as text, or the global operation that makes the field global.
        box: left, top, right and bottom edge in pixels of the image; None if global.
    """

    level: str
    note: str
    box: tuple[float, float, float, float] | None


def center_unit_frames(backbone: Backbone, size: tuple[int, int]) -> list[Frame]:
    """Frames of the center units of all levels, for an image of (height, width).

    Raises:
        UserError: the model does not accept images of this size, or cannot be traced.
    """
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

    Args:
        backbone: a convolutional backbone.
        photo: (H, W, 3) uint8, at the size of the model input.

    Returns:
        (h, w, 3) uint8: the image, extended where a field is larger, scaled to `MAX_LENGTH` pixels without the legend.

    Raises:
        UserError: as `center_unit_frames`.
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
            draw.rectangle((x, y, x_end, y_end), outline="white", width=5)
            draw.rectangle((x + 1, y + 1, x_end - 1, y_end - 1), outline=color, width=3)
    legend_x = canvas.width - legend + 12
    for index, (text, color) in enumerate(zip(labels, colors, strict=True)):
        draw.rectangle((legend_x, index * line + 5, legend_x + swatch, index * line + 5 + swatch), fill=color)
        draw.text((legend_x + swatch + 8, index * line + 5), text, fill="black", font=font)
    return np.asarray(canvas)
