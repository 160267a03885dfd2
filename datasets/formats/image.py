"""The reader of image files, for training, prediction, validation and visualization: any format and mode as RGB.

Every image file of a user is opened here, so that one list of formats and one limit of size apply. Pillow identifies
the format and states the size; OpenCV decodes only what is known to be a JPEG or a PNG.

What a file states about its pixels is applied: orientation (EXIF), color profile (ICC), transparency and bit depth.
OpenCV 4 fills the missing part of a truncated file with gray (5.0 refuses most of them), so the end of the file is
checked here before decoding: a JPEG has an end marker after its last scan, a PNG a chain of chunks with checksums, a
PPM a known length.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ...errors import UserError
from ...limits import LIMITS, LimitExceeded, check_pixels, read_file
from ..core.files import data_offset, read_bytes
from ..core.geometry import row_strips
from ..core.problems import DatasetError

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
ORIENTATIONS = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False), 5: (True, False, False),
    6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
"""EXIF orientation to the arguments of `orient`; others are upright."""

SRGB_TOLERANCE = 2
"""Largest difference in gray levels at which a profile counts as sRGB, of which there are many editions."""

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"bKGD"}
"""Chunks of a PNG without orientation, profile, transparency, further frames and text, which may state any of them."""
_PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d{1,9})\s+(?:#[^\n]*\n)?(\d{1,9})\s+(?:#[^\n]*\n)?(\d{1,9})\s")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_EXIF_ORIENTATION, _TIFF_BITS, _TIFF_MAXIMUM = 0x0112, 258, 281

MULTI_FRAME_FORMATS = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose files may contain several frames, by Pillow's names. MPO of cameras is left out: its further frames are
a preview or a gain map for HDR screens."""
MAX_FRAMES = 1000
"""Frames are counted up to this number; a TIFF is a list of pages without a length, which has to be followed."""
MAX_COUNTED_GIF = 2**23
"""Bytes up to which the frames of a GIF are counted; that takes all of its blocks, up to 3 seconds for this size."""
MAX_PROFILE = 2**22
"""Bytes of an ICC profile that is applied. Those of presses have 0.5 to 3 MB."""
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
        self._data = _with_one_separator(data)
        with self._errors():
            self.pillow_image = open_image(io.BytesIO(self._data))
        self._jpeg = self.pillow_image.format in ("JPEG", "MPO")
        self._plain_png = self.pillow_image.format == "PNG" and _is_plain_png(data)
        header = _PNM_HEADER.match(self._data)
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
        return (width, height) if _orientation(self.pillow_image)[0] else (height, width)

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
        if self._jpeg and image.mode in ("L", "RGB") and _srgb_transform(image.info.get("icc_profile")) is None:
            # The pixels are those of Pillow, in half of the time.
            pixels = decode(self._data, self._path, REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
            return np.ascontiguousarray(orient(pixels, *_orientation(image)))
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
    scans = data.count(b"\xff\xda")
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


def image_to_rgb(image: Any) -> np.ndarray:
    """Convert a Pillow image of any mode as `read_image` does: (H, W, 3) uint8 sRGB.

    Raises:
        UserError: float pixels beyond [0, 1].
    """
    image.load()
    profile = _srgb_transform(image.info.get("icc_profile"))
    steps = _steps(image) if image.mode.startswith("I") else 0
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in row_strips(rgb):
        complete = rows.stop - rows.start == image.height
        strip = image if complete else image.crop((0, rows.start, image.width, rows.stop))
        rgb[rows] = _strip_to_rgb(strip, profile, steps)
    return np.ascontiguousarray(orient(rgb, *_orientation(image)))


def _strip_to_rgb(image: Any, profile: tuple[str, Any] | None, steps: int) -> np.ndarray:
    """Rows of an image, as it is stored, as (H, W, 3) uint8 sRGB."""
    from PIL import Image, ImageCms

    pixels: Any = image
    alpha = None
    if image.mode == "F":
        pixels = Image.fromarray(array_to_rgb(np.asarray(image))[..., 0])
    elif steps:
        # Pillow would clip to 8 bits instead of scaling.
        pixels = Image.fromarray((np.asarray(image, np.int64).clip(0, steps - 1) * 256 // steps).astype(np.uint8))
    elif image.has_transparency_data:
        pixels = image.convert("RGBA")
        alpha = np.asarray(pixels)[..., 3:]
    space = "CMYK" if image.mode == "CMYK" else "L" if image.mode[0] in "1IF" or image.mode in ("L", "LA") else "RGB"
    # A profile of other channels than the image's says nothing about it; gray may have one for RGB.
    if profile is not None and (profile[0] == space or (profile[0], space) == ("RGB", "L")):
        pixels = ImageCms.applyTransform(pixels.convert(profile[0]), profile[1])
    rgb = np.asarray(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))
    return rgb if alpha is None else array_to_rgb(np.concatenate([rgb, alpha], axis=-1))


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Convert (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool or floats in [0, 1] to (H, W, 3) uint8.

    Transparency is blended with white; of 16 bits the upper 8 are kept.

    Raises:
        UserError: another shape, type or range.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise UserError(f"An array of shape {array.shape} is not an image: give (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UserError(
                "The values of a float image must be in [0, 1], without nan; divide by 255 if they are in [0, 255]."
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise UserError(f"An image of {array.dtype} is ambiguous: give uint8, uint16 or floats in [0, 1].")
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = np.round(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def orient(pixels: np.ndarray, transposed: bool, flip_rows: bool, flip_columns: bool) -> np.ndarray:
    """Exchange rows and columns of (H, W, C), then reverse their order; a view."""
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _orientation(image: Any) -> tuple[bool, bool, bool]:
    # Damaged metadata do not make an image unreadable.
    with suppress(Exception):
        return ORIENTATIONS[image.getexif()[_EXIF_ORIENTATION]]
    return False, False, False


def _steps(image: Any) -> int:
    """Number of levels of an image of more than 8 bits: a TIFF may state 10, 12 or 14 bits, stored in 16."""
    tags = getattr(image, "tag_v2", {})
    depths = {1 << bits for bits in (10, 12, 14)}
    stated = 1 << int(np.max(tags.get(_TIFF_BITS, 16))), 1 + int(np.max(tags.get(_TIFF_MAXIMUM, 0)))
    return next((steps for steps in stated if steps in depths), 1 << 16)


@lru_cache(64)
def _srgb_transform(profile: bytes | None) -> tuple[str, Any] | None:
    """Pillow mode and ImageCms transform from an ICC profile to sRGB; None without one, or if it is sRGB itself."""
    from PIL import Image, ImageCms

    if not profile or len(profile) > MAX_PROFILE:
        return None
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError):
        # As in browsers, a damaged profile, or one of a color space that images do not have, is ignored.
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
        shift = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform)).astype(int) - colors
        if np.abs(shift).max() <= SRGB_TOLERANCE:
            return None
    return mode, transform


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
        needed = header.end() + _pnm_length(header)
        return None if len(data) >= needed else f"{len(data)} of the {needed} bytes that its header states"
    return None


def _with_one_separator(data: bytes) -> bytes:
    """The bytes of a PPM or PGM without the second byte of a Windows line end between header and pixels."""
    if header := _PNM_HEADER.match(data):
        start = data_offset(data, header.end(), _pnm_length(header))
        return data if start == header.end() else data[: header.end()] + data[start:]
    return data


def _pnm_length(header: re.Match[bytes]) -> int:
    variant, width, height, maximum = (int(number) for number in header.groups())
    return width * height * (3 if variant == 6 else 1) * (1 if maximum < 256 else 2)


def _is_plain_png(data: bytes) -> bool:
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
