"""The reader of image files, for training, prediction, validation and visualization: any format and mode as RGB.

Every image file of a user is opened here, so that one list of formats and one limit of size apply. Pillow identifies
the format and states the size; OpenCV decodes only what is known to be a complete JPEG or PNG (`image_bytes`). What a
file states about its pixels is applied (`rgb`).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ...errors import UserError
from ...limits import LIMITS, LimitExceeded, check_pixels, read_file
from ..core.files import read_bytes
from ..core.problems import DatasetError
from .image_bytes import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    PNM_HEADER,
    find_truncation,
    is_plain_png,
    jpeg_end,
    with_one_separator,
)
from .rgb import image_to_rgb, orient, orientation, srgb_transform

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
"""Formats that are read, by Pillow's names; also "HEIF" if pillow-heif is installed. Others (EPS, PDF, ...) start
programs or are not photos."""
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
"""Exceptions of Pillow's decoders on damaged files."""
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    1: cv2.IMREAD_COLOR_RGB,
}
"""Reduction factor of decoding a JPEG to OpenCV flags for RGB, the largest factor first.

The inverse cosine transform can omit the upper frequencies of every 8x8 block and return the image at 1/2, 1/4 or 1/8
of its size: a good area average for less than half of the work.
"""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MULTI_FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose files may contain several frames, by Pillow's names. MPO of cameras is left out: its further frames are
a preview or a gain map for HDR screens."""
MAX_FRAMES = 1000
"""Frames are counted up to this number; a TIFF is a list of pages without a length, which has to be followed."""
MAX_COUNTED_GIF = 2**23
"""Bytes up to which the frames of a GIF are counted; that takes all of its blocks, up to 3 seconds for this size."""
SCAN_BYTES = 10
"""Minimum length of a scan of a JPEG, header included."""
SCANS_PER_PIXEL = 16
"""Scans that a JPEG of `max_megapixels` may have; a smaller one may have more. Every scan passes over all pixels, may
have 20 bytes, and most encoders write 10."""


def read_image(path: str | Path, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image file as it is displayed.

    Args:
        path: the file.
        min_size: sufficient (height, width). A JPEG of at least twice, four or eight times this size is decoded at that
            reduction (rounded up), which takes a fraction of the time. None decodes every pixel.

    Returns:
        (H, W, 3) uint8 sRGB: EXIF orientation is applied, colors are converted from the ICC profile, transparency is
        blended with white, gray is repeated, more than 8 bits are reduced to their upper 8. Files of several frames
        give the first.

    Raises:
        DatasetError: the file is missing, truncated, not an image of `FORMATS`, or larger than `LIMITS` allow.
    """
    return decode_image(read_bytes(path, "an image"), path, min_size)


def decode_image(data: bytes, path: str | Path, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode the bytes of the file `path` as `read_image` does."""
    return EncodedImage(data, path).decode(min_size)


class EncodedImage:
    """An encoded image whose pixels are not decoded yet, so that a crop and a reduction can be chosen before.

    The size of a JPEG is in its header; other formats are decoded to know it, since some store metadata at their end.
    """

    def __init__(self, data: bytes, path: str | Path) -> None:
        """
        Args:
            data: the bytes.
            path: the file, for error messages.

        Raises:
            DatasetError: the bytes are truncated, not an image of `FORMATS`, or one that is larger than `LIMITS` allow.
        """
        self._path = path
        if (truncation := find_truncation(data)) is not None:
            raise DatasetError(path, "a complete image", truncation)
        self._data = with_one_separator(data)
        with self._errors():
            self.pillow_image = open_image(io.BytesIO(self._data))
        self._jpeg = self.pillow_image.format in ("JPEG", "MPO")
        self._plain_png = self.pillow_image.format == "PNG" and is_plain_png(data)
        header = PNM_HEADER.match(self._data)
        self._ppm_start = header.end() if header is not None and header[1] == b"6" and header[4] == b"255" else None

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image."""
        with self._errors():
            if self._plain_png or self._ppm_start is not None:
                return self.header_size
            if not self._jpeg:
                self.pillow_image.load()
            width, height = self.pillow_image.size
        return (width, height) if orientation(self.pillow_image)[0] else (height, width)

    @property
    def header_size(self) -> tuple[int, int]:
        """(height, width) of the stored image, which may be turned, from its header."""
        width, height = self.pillow_image.size
        return height, width

    def decode(self, min_size: tuple[int, int] | None = None) -> np.ndarray:
        """Decode the pixels as `read_image` does.

        Raises:
            DatasetError: the pixels are damaged.
        """
        image = self.pillow_image
        factor = 1 if min_size is None or not self._jpeg else reduction(self.size, min_size)
        if self._plain_png:
            return decode(self._data, self._path, cv2.IMREAD_COLOR_RGB)
        if self._ppm_start is not None:
            shape = (*self.header_size, 3)
            return np.frombuffer(self._data, np.uint8, math.prod(shape), self._ppm_start).reshape(shape).copy()
        if self._jpeg and image.mode in ("L", "RGB") and srgb_transform(image.info.get("icc_profile")) is None:
            # The pixels are those of Pillow, in half of the time.
            pixels = decode(self._data, self._path, REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
            return np.ascontiguousarray(orient(pixels, *orientation(image)))
        with self._errors():
            image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
            return image_to_rgb(image)

    def num_frames(self) -> int:
        """Number of frames or pages of the decoded image, at most `MAX_FRAMES`; a large animated GIF has that many."""
        if self.pillow_image.format == "GIF" and len(self._data) > MAX_COUNTED_GIF:
            return MAX_FRAMES if self.pillow_image.is_animated else 1
        return num_frames(self.pillow_image)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise DatasetError(self._path, "an image", "one that needs more memory than is available") from None
        except (*UNREADABLE, UserError) as error:
            found = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise DatasetError(self._path, "an image", found) from error


def open_image(source: Path | str | io.BytesIO) -> Any:
    """Open a file, or a stream of its bytes, as a Pillow image of one of `FORMATS`; the pixels are not decoded yet.

    Raises:
        PIL.UnidentifiedImageError: another format, or a HEIC image without pillow-heif. Its message is a noun phrase.
        LimitExceeded: more pixels than `LIMITS` allow, or so many scans that decoding would take minutes.
        Exception: damaged: one of `UNREADABLE`.
    """
    from PIL import Image, UnidentifiedImageError

    allowed = round(LIMITS.max_megapixels * 1e6)
    if Image.MAX_IMAGE_PIXELS is not None and allowed > 2 * Image.MAX_IMAGE_PIXELS:
        # Pillow refuses twice its own limit; a user who allows more than that means both.
        Image.MAX_IMAGE_PIXELS = allowed
    stream = io.BytesIO(read_file(source)) if isinstance(source, (str, Path)) else source
    try:
        image = Image.open(stream, formats=_formats())
    except UnidentifiedImageError:
        start = stream.getvalue()[:12]
        if start[4:8] == b"ftyp" and start[8:] in _HEIF_BRANDS and "HEIF" not in _formats():
            message = "a HEIC image, which needs the package pillow-heif (pip install pillow-heif)"
        else:
            message = f"a file of none of the formats {', '.join(_formats())}"
        raise UnidentifiedImageError(message) from None
    except Image.DecompressionBombError:
        raise LimitExceeded(f"more than {LIMITS.max_megapixels:g} megapixels (--max-megapixels allows more)") from None
    check_pixels(*image.size)
    if image.format in ("JPEG", "MPO"):
        _check_scans(stream.getvalue(), image.width * image.height)
    return image


def _check_scans(data: bytes, pixels: int) -> None:
    if len(data) // SCAN_BYTES * pixels <= SCANS_PER_PIXEL * LIMITS.max_megapixels * 1e6:
        return
    # Inside a scan, 0xff is never followed by 0xda; metadata contain few of them.
    scans = data.count(b"\xff\xda", 0, jpeg_end(data))
    if scans > SCANS_PER_PIXEL and scans * pixels > SCANS_PER_PIXEL * LIMITS.max_megapixels * 1e6:
        raise LimitExceeded(f"a JPEG of {scans} scans, more than its size allows")


def num_frames(image: Any) -> int:
    """Number of frames or pages of a loaded Pillow image, at most `MAX_FRAMES`."""
    # Only the first frame is used: damage in later ones must not matter.
    with suppress(Exception):
        if image.format == "TIFF":
            return _num_pages(image)
        if image.format in MULTI_FRAME_FORMATS:
            return min(int(image.n_frames), MAX_FRAMES)
    return 1


def _num_pages(image: Any) -> int:
    for number in range(1, MAX_FRAMES):
        try:
            image.seek(number)
        except EOFError:
            return number
    return MAX_FRAMES


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this installation reads."""
    from PIL import Image

    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]

        register_heif_opener()
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)


def reduction(size: tuple[int, int], min_size: tuple[int, int]) -> int:
    """Largest factor of `REDUCED` at which an image of `size` is still at least as large as `min_size`."""
    for factor in REDUCED:
        if -(-size[0] // factor) >= min_size[0] and -(-size[1] // factor) >= min_size[1]:
            return factor
    return 1


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
    write_encoded(path, stored, options)


def write_encoded(path: str | Path, stored: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write an array with the channel order of OpenCV in the format of the suffix, atomically.

    Args:
        path: the file. Its name may be anything that the system allows: OpenCV itself crashes on names that are not
            UTF-8, so it only encodes.
        stored: (H, W) or (H, W, 3), uint8 or uint16.
        options: flags of OpenCV and their values.

    Raises:
        ValueError: OpenCV cannot write this image in this format.
    """
    try:
        encoded, data = cv2.imencode(Path(path).suffix, stored, options)
    except cv2.error:
        encoded, data = False, None
    if not encoded or data is None:
        raise ValueError(f"OpenCV cannot write an image of {stored.shape} {stored.dtype} to '{path}'.")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def decode(data: bytes, path: str | Path, flags: int) -> np.ndarray:
    """Decode a JPEG, which `open_image` has checked, or a PNG with flags of OpenCV.

    Raises:
        DatasetError: the bytes are truncated, of another format, or larger than `LIMITS` allow.
    """
    if data.startswith(PNG_SIGNATURE):
        try:
            check_pixels(*struct.unpack(">II", data[16:24]))
        except (struct.error, LimitExceeded) as error:
            raise DatasetError(path, "an image", str(error)) from None
    elif not data.startswith(JPEG_SIGNATURE):
        # OpenCV has decoders of many formats, and recognizes them by the bytes.
        raise DatasetError(path, "a JPEG or a PNG", "a file of another format")
    if (truncation := find_truncation(data)) is not None:
        raise DatasetError(path, "a complete image", truncation)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(path, "an image", f"{len(data)} bytes that do not decode as one")
    return image
