"""8-bit pictures (JPEG, PNG, PPM and what else OpenCV decodes) as RGB, whole or not at all.

OpenCV 4 fills what a cut-off file lacks with grey and carries on (5.0 refuses most of them), so a file's end is
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

from ...writing import written_aside
from ..problems import DamagedData
from .jpeg import SCALED, jpeg_size, scale_down
from .reading import read_bytes

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)\s+(?:#[^\n]*\n)?(\d+)\s+(?:#[^\n]*\n)?(\d+)\s")


def read_picture(path: str | Path, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """A picture as its pixels are stored; an EXIF orientation is not applied, because labels were made without it.

    Args:
        path: the file.
        at_least: (height, width) that suffice. A JPEG of twice, four or eight times as much is decoded smaller by
            that factor (sides rounded up), which takes a fraction of the time; None decodes every pixel.

    Returns:
        (H, W, 3) uint8 RGB; grey is repeated, alpha dropped, 16 bits cut to their upper 8.

    Raises:
        DamagedData: no file, a cut-off file, or nothing that OpenCV decodes.
    """
    return decode_picture(read_bytes(path, "a picture"), path, at_least)


def decode_picture(data: bytes, path: str | Path, at_least: tuple[int, int] | None = None) -> np.ndarray:
    """As `read_picture`, from the bytes of the file `path`."""
    size = None if at_least is None else jpeg_size(data)
    factor = 1 if at_least is None or size is None else scale_down(size, at_least)
    picture = decode(data, path, SCALED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def write_picture(path: str | Path, picture: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W) grey, uint8, in the format of the suffix.

    Args:
        path: where to; written aside and renamed.
        picture: the pixels.
        quality: of JPEG, 1 to 100; the lossless formats do not use it.
    """
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if Path(path).suffix.lower() in (".jpg", ".jpeg") else []
    with written_aside(path) as aside:
        if not cv2.imwrite(str(aside), stored, options):
            raise ValueError(f"OpenCV cannot write a picture of {picture.shape} {picture.dtype} to '{path}'.")


def decode(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    """Decode a whole picture with OpenCV's flags.

    Raises:
        DamagedData: the bytes end too early or are no picture.
    """
    if (lacking := what_is_cut_off(data)) is not None:
        raise DamagedData(path, "a whole picture", lacking)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise DamagedData(path, "a picture", f"{len(data)} bytes that do not decode as one")
    return picture


def what_is_cut_off(data: bytes) -> str | None:
    """What a picture's bytes lack, None where they are whole (or of a format not known here)."""
    if data.startswith(b"\xff\xd8"):
        # Inside a scan every 0xff is followed by a stuffed zero or a restart marker, so that an end marker after the
        # last start of scan is the picture's own and not that of an embedded thumbnail.
        if data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda"):
            return None
        return f"a JPEG cut off after {len(data)} bytes (no end marker)"
    if data.startswith(PNG_SIGNATURE):
        return _broken_chunk(data)
    if header := _PNM_HEADER.match(data):
        kind, width, height, largest = (int(number) for number in header.groups())
        needed = header.end() + width * height * (3 if kind == 6 else 1) * (1 if largest < 256 else 2)
        return None if len(data) >= needed else f"{len(data)} of the {needed} bytes its header announces"
    return None


def _broken_chunk(data: bytes) -> str | None:
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"a PNG with a wrong checksum at byte {place}"
        if data[place + 4 : place + 8] == b"IEND":
            return None
        place = end
    return f"a PNG cut off after {len(data)} bytes"
