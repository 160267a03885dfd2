"""`densevision visualize receptive-field`: what a unit of every level sees, as a table and over a photograph.

Sizes come from the network's own graph (`backbones.receptive_field`); no weights are needed.
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

COLUMNS = ("stride", "size", "first centre", "overlap", "global operation")
LONGEST = 1000
"""Pixels of a drawing's longer side, without its legend."""
PADDING_GREY = 236


def receptive_field(
    *,
    network: str,
    stride_in: Literal["1x1", "3x3"] | None = None,
    layers: bool = False,
    image: Path | None = None,
    size: tuple[int, int] | None = None,
    out: Path = Path("receptive-field.png"),
) -> None:
    """Print the exact receptive field of every level, in pixels; with --image, draw it over a photograph.

    A level's middle unit is drawn as a frame. What lies outside of the photograph is padding.

    Args:
        network: Trunk by name (`densevision list backbones`), or timm:NAME.
        stride_in: Where a bottleneck of a ResNet halves; default: 3x3.
        layers: Print every convolution and pool as well; default: levels only.
        image: Photograph to draw over; default: print only.
        size: Height and width in pixels at which the network reads the photograph; default: the photograph's own.
        out: Picture to write; default: receptive-field.png where you stand.
    """
    import torch

    from ...backbones import create_backbone
    from ...datasets.formats.picture import write_picture
    from ...errors import UserError

    if size is not None and min(size) < 1:
        raise UserError(f"--size is {size[0]}x{size[1]}; both sides must be at least 1 pixel.")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out is '{out}'; name a .png or .jpg file.")
    options: dict[str, Any] = {"stride_in": stride_in} if stride_in else {}
    with torch.device("meta"):
        trunk = create_backbone(network, classes=0, **options)
    printed = [level_table(trunk)]
    if layers:
        printed += ["", layer_table(trunk)]
    if image is not None:
        write_picture(out, draw_fields(trunk, read_photograph(image, size or trunk.fixed_size)))
        printed.append(f"Wrote {out}.")
    print("\n".join(printed))


def level_table(trunk: Backbone) -> str:
    """A line per level: stride, size of the field, centre of the first unit, overlap of neighbours, all in pixels."""
    height, width = both_axes(trunk)
    return aligned("level", {name: (height[name], width[name]) for name in width})


def layer_table(trunk: Backbone) -> str:
    """The same for every innermost submodule that widens or thins out: convolutions and pools."""
    from ...backbones.receptive_field import layer_fields

    height, width = layer_fields(trunk, "height"), layer_fields(trunk, "width")
    innermost = [name for name in width if not any(trunk.get_submodule(name).children())]
    return aligned("layer", {name: (height[name], width[name]) for name in innermost})


def both_axes(trunk: Backbone) -> tuple[dict[str, ReceptiveField], dict[str, ReceptiveField]]:
    """The levels' fields along height and width.

    Raises:
        UserError: the trunk does something whose field is not known (attention).
    """
    from ...backbones.receptive_field import receptive_fields
    from ...errors import UserError

    try:
        return receptive_fields(trunk, "height"), receptive_fields(trunk, "width")
    except ValueError as error:
        raise UserError(f"{trunk.name} cannot be followed: {error}; take another trunk.") from error


def aligned(what: str, fields: dict[str, tuple[ReceptiveField, ReceptiveField]]) -> str:
    """Fields along height and width as a table for eyes; one number where both are alike."""
    rows: list[tuple[str, ...]] = [(what, *COLUMNS)]
    for name, (height, width) in fields.items():
        numbers = ((each.jump, each.size, each.centre, each.overlap) for each in (height, width))
        rows.append((name, *map(along_both, *numbers), width.global_operation or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells, last in rows:
        middle = [cell.rjust(width) for cell, width in zip(cells, widths[1:-1], strict=True)]
        lines.append("  ".join((first.ljust(widths[0]), *middle, last)))
    return "\n".join(lines)


def along_both(height: float, width: float) -> str:
    """A number along both axes as a reader wants it; what a global operation leaves open is "all" or "-"."""
    one, other = ("all" if math.isinf(each) else "-" if math.isnan(each) else f"{each:g}" for each in (height, width))
    return one if one == other else f"{one} x {other}"


def read_photograph(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W, 3) uint8 of any picture file, brought to a size if one is given."""
    import cv2

    from ...tasks.pictures import any_picture

    photograph = any_picture(path)
    return photograph if size is None else cv2.resize(photograph, size[::-1], interpolation=cv2.INTER_AREA)


class Frame(NamedTuple):
    """What the middle unit of a level sees.

    Attributes:
        level: its name.
        note: size and stride in words, or the global operation behind which a unit sees everything.
        box: left, top, right and bottom edge of the field in pixels of the photograph; None for everything.
    """

    level: str
    note: str
    box: tuple[float, float, float, float] | None


def middle_frames(trunk: Backbone, size: tuple[int, int]) -> list[Frame]:
    """The frame of every level's middle unit, for a picture of (height, width).

    Raises:
        UserError: the network takes no picture of this size, or cannot be followed.
    """
    import torch

    from ...backbones.backbone import features_on_meta
    from ...errors import UserError

    try:
        maps, _ = features_on_meta(trunk, torch.empty(2, trunk.in_channels, *size, device="meta"))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{trunk.name} takes no picture of {size[0]}x{size[1]}; give another --size.") from error
    heights, widths = both_axes(trunk)
    frames = []
    for level, made in zip(trunk.levels, maps, strict=True):
        rows, columns = heights[level.name], widths[level.name]
        note = f"{along_both(rows.size, columns.size)} pixels, every {along_both(rows.jump, columns.jump)}"
        if operation := rows.global_operation or columns.global_operation:
            frames.append(Frame(level.name, f"everything ({operation})", None))
            continue
        (top, bottom), (left, right) = rows.pixels(made.shape[-2] // 2), columns.pixels(made.shape[-1] // 2)
        # Pixel centres are at integers, so a pixel ends half a pixel further.
        frames.append(Frame(level.name, note, (left - 0.5, top - 0.5, right + 0.5, bottom + 0.5)))
    return frames


def draw_fields(trunk: Backbone, photograph: np.ndarray) -> np.ndarray:
    """What the middle unit of every level sees, as nested frames with a legend.

    Args:
        trunk: any convolutional trunk.
        photograph: (H, W, 3) uint8 at the size at which the trunk reads it.

    Returns:
        (h, w, 3) uint8, larger than the photograph where a field reaches beyond it, and `LONGEST` pixels on its longer
        side without the legend.

    Raises:
        UserError: as `middle_frames`.
    """
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    height, width = photograph.shape[:2]
    frames = middle_frames(trunk, (height, width))
    boxes = np.array([(-0.5, -0.5, width - 0.5, height - 0.5), *(frame.box for frame in frames if frame.box)])
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    scale = LONGEST / max(right - left, bottom - top)
    font, line, swatch = ImageFont.load_default(20), 32, 22
    written = [f"{frame.level}: {frame.note}" for frame in frames]
    legend = swatch + 28 + round(max(font.getlength(text) for text in written))
    tall = max(round((bottom - top) * scale), line * (len(frames) + 1))
    sheet = Image.new("RGB", (round((right - left) * scale) + legend, tall), "white")
    draw = ImageDraw.Draw(sheet)

    def placed(box: Sequence[float]) -> tuple[float, float, float, float]:
        x, y, x_end, y_end = ((edge - start) * scale for edge, start in zip(box, (left, top) * 2, strict=True))
        return x, y, x_end - 1, y_end - 1

    draw.rectangle(placed((left, top, right, bottom)), fill=(PADDING_GREY,) * 3)
    x, y, x_end, y_end = (round(edge) for edge in placed(boxes[0]))
    shown = Image.fromarray(photograph).resize((x_end - x + 1, y_end - y + 1), Image.Resampling.LANCZOS)
    sheet.paste(shown, (x, y))
    shades = np.linspace(20, 235, len(frames)).round().astype(np.uint8)[None]
    colours = [
        tuple(int(part) for part in colour) for colour in cv2.applyColorMap(shades, cv2.COLORMAP_TURBO)[0, :, ::-1]
    ]
    # From the widest to the narrowest, so that a small frame lies on top.
    for frame, colour in reversed(list(zip(frames, colours, strict=True))):
        if frame.box:
            x, y, x_end, y_end = placed(frame.box)
            draw.rectangle((x, y, x_end, y_end), outline="white", width=5)
            draw.rectangle((x + 1, y + 1, x_end - 1, y_end - 1), outline=colour, width=3)
    at = sheet.width - legend + 12
    for number, (text, colour) in enumerate(zip(written, colours, strict=True)):
        draw.rectangle((at, number * line + 5, at + swatch, number * line + 5 + swatch), fill=colour)
        draw.text((at + swatch + 8, number * line + 5), text, fill="black", font=font)
    return np.asarray(sheet)
