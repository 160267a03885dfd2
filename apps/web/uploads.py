"""Validation and decoding of uploads: limits on bytes, formats and pixels.

The header of a file is checked before its pixels are decoded, and error messages contain no path of the server.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...datasets.field_types import FieldType, SegmentationMask
from ...datasets.formats.image import UNREADABLE, open_image
from ...errors import UserError
from ...limits import LimitExceeded

FRAME_BYTES = 2**22
"""Maximum size of an encoded camera image; browsers send some tens of kilobytes."""
FRAME_PIXELS = 2_100_000
"""Maximum number of pixels of a camera image (full HD): a session of a model with two inputs keeps one."""


@dataclass(frozen=True)
class Limits:
    """Limits of uploads.

    Attributes:
        file_bytes: maximum size of a file in bytes.
        pixels: maximum number of pixels of an image.
    """

    file_bytes: int = 25 * 2**20
    pixels: int = 24_000_000


@dataclass(frozen=True)
class DecodedImage:
    """A decoded upload.

    Attributes:
        image: PIL image as stored in the file, neither rotated by EXIF nor converted.
        remarks: notes for the user, one sentence each.
    """

    image: Any
    remarks: tuple[str, ...] = ()


def decode_image(upload: Path | bytes, field_type: FieldType, limits: Limits) -> DecodedImage:
    """Validate and decode an uploaded image, a file or its bytes, for an input of the model.

    Raises:
        UserError: the file is too large, damaged, not an image of an accepted format, or not a label map where one is
            needed.
    """
    from PIL import UnidentifiedImageError

    size = len(upload) if isinstance(upload, bytes) else upload.stat().st_size
    if size > limits.file_bytes:
        raise UserError(f"The file has {size / 2**20:.1f} MB; at most {limits.file_bytes / 2**20:g} MB are allowed.")
    try:
        with open_image(io.BytesIO(upload) if isinstance(upload, bytes) else upload) as image:
            _check_header(image, limits)
            remarks = _remarks(image)
            image.load()
    except UnidentifiedImageError as error:
        raise UserError(f"The upload is {error}.") from None
    except LimitExceeded:
        raise UserError(f"The image is too large by its header; {_pixel_limit(limits)}.") from None
    except UNREADABLE:
        raise UserError("The image is damaged: its pixels cannot be decoded. Save it again and upload that.") from None
    if isinstance(field_type, SegmentationMask) and len(image.getbands()) != 1:
        raise UserError(
            "The model takes a label map, but this is a color image; upload a PNG with one channel or a palette,"
            f" whose values are classes from 0 to {len(field_type.names) - 1}, or {field_type.ignore} for unlabeled."
        )
    return DecodedImage(image, remarks)


def _check_header(image: Any, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.pixels:
        megapixels = f"{width * height / 1e6:.1f}"
        raise UserError(f"The image has {width}x{height} pixels ({megapixels} megapixels); {_pixel_limit(limits)}.")


def _pixel_limit(limits: Limits) -> str:
    return f"at most {limits.pixels / 1e6:g} megapixels are allowed; upload a smaller copy"


def _remarks(image: Any) -> tuple[str, ...]:
    """Notes on what is ignored in the file."""
    remarks = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        remarks.append("The file is animated; only its first frame is used.")
    if image.mode == "CMYK" and not image.info.get("icc_profile"):
        remarks.append("The image is CMYK without a color profile; its colors may differ from those in other programs.")
    return tuple(remarks)


def bytes_of_data_url(url: str) -> bytes:
    """Decode a "data:" URL, as browsers send camera images.

    Raises:
        UserError: not such a URL, or a too long one.
    """
    head, comma, body = url.partition(",")
    if len(body) > FRAME_BYTES * 4 // 3 or not comma or not head.endswith(";base64"):
        raise UserError("The camera sent data that is not an image.")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("The camera sent data that is not an image.") from None
