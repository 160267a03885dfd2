"""Scaled decoding of JPEG: what will be made small need not be decoded large.

The inverse cosine transform can leave out the upper frequencies of every 8x8 block and give 1/2, 1/4 or 1/8 of the
picture's sides: a decent area average for less than half of the work. The size stands in the header, so that a crop
can be drawn and the scale be chosen before anything is decoded.
"""

from __future__ import annotations

import cv2

SCALED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
"""OpenCV's flag for each factor by which a JPEG can be decoded smaller, the largest first."""

# ITU-T T.81, table B.1: start of frame, all kinds of coding. 0xc4, 0xc8 and 0xcc in between mean something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) as the frame header states them, before any EXIF orientation.

    Returns:
        None where the bytes are no JPEG, or do not state a size.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif marker in _FRAMES:
            height, width = int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
            return (height, width) if height and width else None
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def scale_down(size: tuple[int, int], at_least: tuple[int, int]) -> int:
    """The largest factor of `SCALED` that leaves a picture of `size` at least as large as `at_least`."""
    for factor in SCALED:
        if -(-size[0] // factor) >= at_least[0] and -(-size[1] // factor) >= at_least[1]:
            return factor
    return 1
