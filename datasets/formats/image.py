"""8-bit images (JPEG, PNG, PPM and other formats of OpenCV) as RGB; truncated files are refused.

OpenCV 4 fills the missing part of a truncated file with gray (5.0 refuses most of them), so the end of the file is
checked here before decoding: a JPEG has an end marker after its last scan, a PNG a chain of chunks with checksums, a
PPM a known length.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ..problems import DatasetError
from .jpeg import SCALED, jpeg_size, scale_down
from .reading import read_bytes

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)\s+(?:#[^\n]*\n)?(\d+)\s+(?:#[^\n]*\n)?(\d+)\s")


def read_image(path: str | Path, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image with its pixels as stored; EXIF orientation is not applied, because labels were made without it.

    Args:
        path: the file.
        min_size: sufficient (height, width). A JPEG of at least twice, four or eight times this size is decoded at that
            reduction (rounded up), which takes a fraction of the time. None decodes every pixel.

    Returns:
        (H, W, 3) uint8 RGB; gray is repeated, alpha dropped, 16 bits reduced to their upper 8.

    Raises:
        DatasetError: the file is missing, truncated, or not an image that OpenCV decodes.
    """
    return decode_image(read_bytes(path, "an image"), path, min_size)


def decode_image(data: bytes, path: str | Path, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode the bytes of the file `path` as `read_image` does."""
    size = None if min_size is None else jpeg_size(data)
    factor = 1 if min_size is None or size is None else scale_down(size, min_size)
    image = decode(data, path, SCALED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: str | Path, image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W) gray, uint8, in the format of the suffix.

    Args:
        path: the file; it is replaced atomically.
        image: the pixels.
        quality: JPEG quality, 1 to 100; ignored by the lossless formats.

    Raises:
        ValueError: OpenCV cannot write this image in this format.
    """
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if Path(path).suffix.lower() in (".jpg", ".jpeg") else []
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), stored, options):
            raise ValueError(f"OpenCV cannot write an image of {image.shape} {image.dtype} to '{path}'.")


def decode(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    """Decode an image with flags of OpenCV.

    Raises:
        DatasetError: the bytes are truncated or not an image.
    """
    if (truncation := find_truncation(data)) is not None:
        raise DatasetError(path, "a complete image", truncation)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(path, "an image", f"{len(data)} bytes that do not decode as one")
    return image


def find_truncation(data: bytes) -> str | None:
    """Describe how an image is truncated; None if it is complete, or of a format that is not checked."""
    if data.startswith(b"\xff\xd8"):
        # Inside a scan, 0xff is always followed by a stuffed zero or a restart marker: an end marker after the last
        # start of scan belongs to the image, not to an embedded thumbnail.
        if data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda"):
            return None
        return f"a JPEG truncated after {len(data)} bytes (no end marker)"
    if data.startswith(PNG_SIGNATURE):
        return _broken_chunk(data)
    if header := _PNM_HEADER.match(data):
        variant, width, height, maximum = (int(number) for number in header.groups())
        needed = header.end() + width * height * (3 if variant == 6 else 1) * (1 if maximum < 256 else 2)
        return None if len(data) >= needed else f"{len(data)} of the {needed} bytes that its header states"
    return None


def _broken_chunk(data: bytes) -> str | None:
    offset = len(PNG_SIGNATURE)
    while offset + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        end = offset + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[offset + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"a PNG with a wrong checksum at byte {offset}"
        if data[offset + 4 : offset + 8] == b"IEND":
            return None
        offset = end
    return f"a PNG truncated after {len(data)} bytes"
