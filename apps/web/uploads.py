"""What visitors send, and when it is refused: by bytes, by format, by pixels, each with a sentence.

A file is judged by its header before a pixel is decoded, and no sentence names a path of the server.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import error as ZlibError

from ...datasets.fields import Kind, Labels
from ...errors import UserError

FORMATS = {
    "JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF", "GIF": "GIF",
    "PPM": "PPM",
}  # fmt: skip
"""Pillow's names of what is read, and ours. Others (EPS, PDF, ...) start programs or are no photographs."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, ZlibError)
"""What Pillow's decoders raise on damaged files."""

FRAME_BYTES = 2**22
"""Of one picture of a camera, encoded; browsers send some tens of kilobytes."""


@dataclass(frozen=True)
class Limits:
    """How much is taken.

    Attributes:
        file_bytes: of one file.
        pixels: of one picture, decoded.
    """

    file_bytes: int = 25 * 2**20
    pixels: int = 24_000_000


@dataclass(frozen=True)
class Opened:
    """A picture that was taken.

    Attributes:
        image: Pillow's, decoded, as it was stored: neither turned nor converted.
        remarks: what its sender may not expect, a sentence each.
    """

    image: Any
    remarks: tuple[str, ...] = ()


def opened(sent: Path | bytes, kind: Kind, limits: Limits) -> Opened:
    """The picture in a file that somebody sent.

    Args:
        sent: the file, or its bytes.
        kind: what the network takes there.
        limits: how much is taken.

    Raises:
        UserError: it is too large, no picture of a format that is read, damaged, or no label map where one is needed.
    """
    from PIL import Image

    size = len(sent) if isinstance(sent, bytes) else sent.stat().st_size
    if size > limits.file_bytes:
        raise UserError(f"The file has {size / 2**20:.1f} MB; at most {limits.file_bytes / 2**20:g} MB are taken here.")
    try:
        with Image.open(io.BytesIO(sent) if isinstance(sent, bytes) else sent) as image:
            _check_header(image, limits)
            remarks = _remarks(image)
            image.load()
    except Image.UnidentifiedImageError:
        read = ", ".join(dict.fromkeys(FORMATS.values()))
        raise UserError(f"This is no picture that can be read here: send one of {read}.") from None
    except Image.DecompressionBombError:
        raise UserError(f"The picture claims to be enormous, and {_most(limits)}.") from None
    except UNREADABLE:
        raise UserError("The picture is damaged: its pixels do not decode. Save it again and send that.") from None
    if isinstance(kind, Labels) and len(image.getbands()) != 1:
        raise UserError(
            "The network takes a label map, and this is a picture in colour: send a PNG of one channel or of a"
            f" palette, whose values are classes 0 to {len(kind.names) - 1}, or {kind.ignore} for none."
        )
    return Opened(image, remarks)


def _check_header(image: Any, limits: Limits) -> None:
    if image.format not in FORMATS:
        read = ", ".join(dict.fromkeys(FORMATS.values()))
        raise UserError(f"{image.format} is not read here: send one of {read}.")
    width, height = image.size
    if width * height > limits.pixels:
        million = f"{width * height / 1e6:.1f}"
        raise UserError(f"The picture is {width} wide and {height} high, {million} megapixels, and {_most(limits)}.")


def _most(limits: Limits) -> str:
    return f"at most {limits.pixels / 1e6:g} megapixels are answered here; send a smaller copy"


def _remarks(image: Any) -> tuple[str, ...]:
    """What of the file does not become part of the answer."""
    remarks = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        remarks.append("The file is animated; its first picture is answered.")
    if image.mode == "CMYK":
        remarks.append("The picture is CMYK; it was turned into RGB without its colour profile.")
    return tuple(remarks)


def bytes_of_data_url(url: str) -> bytes:
    """The file in a "data:" URL, as cameras in browsers send them.

    Raises:
        UserError: it is none, or too long.
    """
    head, comma, body = url.partition(",")
    if len(body) > FRAME_BYTES * 4 // 3 or not comma or not head.endswith(";base64"):
        raise UserError("The camera sent something that is no picture.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("The camera sent something that is no picture.") from None
