"""Scaled decoding of JPEG, for images that are then resized to a smaller size.

The inverse cosine transform can omit the upper frequencies of every 8x8 block and return the image at 1/2, 1/4 or 1/8
of its size: a good area average for less than half of the work. The size is in the header, so that a random crop and
the scale can be chosen before decoding.
"""

from __future__ import annotations

import cv2

SCALED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
"""Reduction factor of decoding to OpenCV flag, the largest factor first."""

# ITU-T T.81, table B.1: start of frame of all codings; 0xc4, 0xc8 and 0xcc are other markers.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) from the frame header, before EXIF orientation; None if it is not a JPEG or has no size."""
    if not data.startswith(b"\xff\xd8"):
        return None
    offset = 2
    while offset + 9 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker in _FRAMES:
            height, width = int.from_bytes(data[offset + 5 : offset + 7]), int.from_bytes(data[offset + 7 : offset + 9])
            return (height, width) if height and width else None
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    return None


def scale_down(size: tuple[int, int], min_size: tuple[int, int]) -> int:
    """Largest factor of `SCALED` at which an image of `size` is still at least as large as `min_size`."""
    for factor in SCALED:
        if -(-size[0] // factor) >= min_size[0] and -(-size[1] // factor) >= min_size[1]:
            return factor
    return 1
