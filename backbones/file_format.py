"""Format of a weights file, by its first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from ..errors import UserError

OTHER_FILES: dict[str, tuple[bytes, ...]] = {
    "a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`": (b"version https://git-lfs",),
    "a web page (HTML or XML), not weights: download the file itself, not the page that links to it": (b"<",),
    "a JSON file, not weights: give the weights file (.safetensors, .pth) that belongs to it": (b"{", b"["),
    "an image, not weights: give the weights file or checkpoint in its place": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
    "an HDF5 file (Keras), not weights of PyTorch: convert it to .safetensors or .pth": (b"\x89HDF",),
    "a NumPy array, not weights of PyTorch: save a state dict as .safetensors or .pth": (b"\x93NUMPY",),
    "a compressed archive, not weights: unpack it and give the weights file inside": (
        b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"7z\xbc\xaf", b"Rar!",
    ),
}  # fmt: skip
"""Files that are mistaken for weights, with the way out, to their first bytes after white space."""
MAX_HEADER = 100_000_000
"""Maximum bytes of a safetensors header, a limit of the format."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def weights_format(path: Path) -> Literal["safetensors", "torch"]:
    """The format of a weights file; by the suffix if the content is unknown, which the reader of the format refuses.

    Raises:
        UserError: the file is empty, text, a zip archive or one of `OTHER_FILES`; the message says which.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not text:
        raise UserError(f"{path} is an empty file: download or copy it again.")
    # A safetensors file: the length of its JSON header (8 bytes), then the header.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return "safetensors"
    for description, starts in OTHER_FILES.items():
        if text.startswith(starts):
            raise UserError(f"{path} is {description}.")
    if is_text(text):
        first_line = text.splitlines()[0].decode(errors="replace")[:60]
        raise UserError(f"{path} is a text file ('{first_line}'), not weights: download or copy the weights again.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            raise UserError(f"{path} is a zip archive, not weights: unpack it and give the weights file inside.")
        return "torch"
    return "safetensors" if path.suffix == ".safetensors" else "torch"


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are printable text in UTF-8, up to a character cut off at the end."""
    text = head.decode(errors="ignore")
    return len(text.encode()) > len(head) - 4 and "".join(text.split()).isprintable()
