"""MNIST: handwritten digits (LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998).

Its format is IDX: two zero bytes, type, number of axes, their lengths, the values; big-endian.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ...atomic_io import atomic_path
from ...limits import LimitExceeded, read_stream
from ..core.files import read_bytes
from ..core.problems import DatasetError
from ..core.randomness import Purpose, generator
from ..field_types import ClassLabel, Image
from ..stored_images import LabeledImages

FOLDERS = ("MNIST/raw", "raw", ".")
"""Folders under the root in which the files are looked up; the first is that of torchvision."""

PREFIXES = {"train": "train", "test": "t10k"}
SIZE = (28, 28)

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Type code (third byte of a file) to the dtype of the values."""

_GZIP = b"\x1f\x8b"


class MNIST(LabeledImages):
    """60,000 training and 10,000 test digits, 28x28 gray, white on black, stored in memory.

    The root or `MNIST/raw` contains the four official files, `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, compressed
    (`.gz`) or not. The digits are centered by mass in the image; digits of your own have to be as well.
    """

    title: ClassVar[str] = "MNIST"
    photos: ClassVar[bool] = False
    terms: ClassVar[str] = "commonly given as CC BY-SA 3.0; cite"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"image": Image(1), "category": ClassLabel(tuple("0123456789"))}
        images, labels = (
            _find(self.root, f"{PREFIXES[split]}-{part}-ubyte") for part in ("images-idx3", "labels-idx1")
        )
        self._images, self._name = read_idx(images), images.relative_to(self.root).as_posix()
        if self._images.shape[1:] != SIZE or self._images.dtype != np.uint8:
            raise DatasetError(images, "images of 28x28 uint8", _shape(self._images))
        self._categories = read_idx(labels)
        if self._categories.shape != self._images.shape[:1]:
            raise DatasetError(labels, f"a label for each of {len(self._images)} images", _shape(self._categories))
        if self._categories.size and not 0 <= self._categories.min() <= self._categories.max() <= 9:
            raise DatasetError(labels, "labels from 0 to 9", f"{self._categories.max()}")

    def sample_name(self, index: int) -> str:
        return f"{self._name}/{index:05}"

    def image(self, index: int) -> np.ndarray:
        return self._images[index, :, :, None].copy()

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        for split, prefix in PREFIXES.items():
            labels = np.arange(20, dtype=np.uint8) % 10
            rngs = [generator(0, len(split), number, Purpose.EXAMPLE) for number in range(len(labels))]
            images = [_digit(int(label), rng) for label, rng in zip(labels, rngs, strict=True)]
            folder = Path(root) / FOLDERS[0]
            write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", np.stack(images))
            write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)


def _find(root: Path, name: str) -> Path:
    candidates = [root / folder / f"{name}{suffix}" for folder in FOLDERS for suffix in ("", ".gz")]
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        raise DatasetError(root / f"{name}.gz", "this file of MNIST, compressed or not, here or in MNIST/raw", "none")
    return file


def _shape(array: np.ndarray) -> str:
    return f"{'x'.join(map(str, array.shape))} {array.dtype}"


def _digit(label: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a digit in a vector font at a random offset."""
    canvas = np.zeros(SIZE, np.uint8)
    left, bottom = (int(number) for number in rng.integers((5, 21), (10, 25)))
    cv2.putText(canvas, str(label), (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2, cv2.LINE_AA)
    return canvas


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array in native byte order. The file may be compressed with gzip, whatever its name.

    Raises:
        DatasetError: the file is missing, has no IDX header, or not the number of values that the header states.
    """
    data = read_bytes(path, "an IDX file")
    if data.startswith(_GZIP):
        try:
            data = read_stream(gzip.GzipFile(fileobj=io.BytesIO(data)))
        except (EOFError, OSError, zlib.error, LimitExceeded) as error:
            found = f"one that cannot be unpacked ({' '.join(str(error).split()).rstrip('.')})"
            raise DatasetError(path, "a complete gzip file", found) from None
    code, axes = (data[2], data[3]) if len(data) >= 4 and data[:2] == bytes(2) else (0, 0)
    start = 4 + 4 * axes
    if code not in IDX_TYPES or axes == 0 or len(data) < start:
        raise DatasetError(path, "an IDX header (0, 0, type, axes, lengths)", repr(bytes(data[:16]))[1:])
    shape = struct.unpack_from(f">{axes}I", data, 4)
    stored = np.dtype(IDX_TYPES[code])
    needed = math.prod(shape) * stored.itemsize
    if len(data) - start != needed:
        size = "x".join(map(str, shape))
        raise DatasetError(path, f"{needed} bytes after the header of an IDX array {size}", f"{len(data) - start}")
    try:
        return np.frombuffer(data, stored, math.prod(shape), start).reshape(shape).astype(stored.newbyteorder("="))
    except ValueError as error:
        raise DatasetError(path, "an IDX array", str(error).rstrip(".")) from None


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write an array atomically; compressed with gzip if the name ends in `.gz`.

    Raises:
        ValueError: the format has no such type.
    """
    codes = {np.dtype(stored).newbyteorder("="): code for code, stored in IDX_TYPES.items()}
    if array.dtype not in codes or not array.ndim:
        raise ValueError(f"IDX has no type for {array.shape} {array.dtype}.")
    code = codes[array.dtype]
    header = bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(IDX_TYPES[code]).tobytes()
    with atomic_path(path) as temporary:
        # Without a time stamp, so that equal arrays give equal files.
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)
