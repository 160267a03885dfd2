"""Checks of encoded images by their bytes alone: signatures, truncation, and PNGs that need no conversion.

OpenCV 4 fills the missing part of a truncated file with gray (5.0 refuses most of them), so the end of a file is
checked before decoding: a JPEG has an end marker after its last scan, a PNG a chain of chunks with checksums, a PPM a
known length.
"""

from __future__ import annotations

import re
import struct
import zlib

from ..core.files import data_offset

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"bKGD"}
"""Chunks of a PNG without orientation, profile, transparency, further frames and text, which may state any of them."""
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
"""A marker of a JPEG, not the stuffed zeros and restart markers that may stand inside a scan."""
PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d{1,9})\s+(?:#[^\n]*\n)?(\d{1,9})\s+(?:#[^\n]*\n)?(\d{1,9})\s")


def find_truncation(data: bytes) -> str | None:
    """Describe how an image is truncated; None if it is complete, or of a format that is not checked."""
    if data.startswith(b"\xff\xd8"):
        # Inside a scan, 0xff is always followed by a stuffed zero or a restart marker: an end marker after the last
        # start of scan belongs to the image, not to an embedded thumbnail.
        if data.endswith(b"\xff\xd9") or data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") or jpeg_end(data):
            return None
        return f"a JPEG truncated after {len(data)} bytes (no end marker)"
    if data.startswith(PNG_SIGNATURE):
        return _broken_chunk(data)
    if header := PNM_HEADER.match(data):
        needed = header.end() + _pnm_length(header)
        return None if len(data) >= needed else f"{len(data)} of the {needed} bytes that its header states"
    return None


def jpeg_end(data: bytes) -> int | None:
    """Offset behind the end marker of a JPEG; None if it has none. Phones append a video to their photos."""
    offset = 2
    while marker := JPEG_MARKER.search(data, offset):
        offset = marker.end()
        if marker[1] == b"\xd9":
            return offset
        if marker[1] not in (b"\x01", b"\xd8"):
            # The segments of all other markers have a length: metadata may contain complete images.
            offset += int.from_bytes(data[offset : offset + 2], "big")
    return None


def with_one_separator(data: bytes) -> bytes:
    """The bytes of a PPM or PGM without the second byte of a Windows line end between header and pixels."""
    if header := PNM_HEADER.match(data):
        start = data_offset(data, header.end(), _pnm_length(header))
        return data if start == header.end() else data[: header.end()] + data[start:]
    return data


def _pnm_length(header: re.Match[bytes]) -> int:
    variant, width, height, maximum = (int(number) for number in header.groups())
    return width * height * (3 if variant == 6 else 1) * (1 if maximum < 256 else 2)


def is_plain_png(data: bytes) -> bool:
    """Whether a PNG has 8 bits, gray or RGB, and no chunk that changes its pixels: OpenCV decodes those like Pillow."""
    if data[24:26] not in (b"\x08\x00", b"\x08\x02"):
        return False
    offset = len(PNG_SIGNATURE)
    while offset + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        if name not in PLAIN_CHUNKS:
            return False
        offset += length + 12
    return True


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
