"""Torch files (`.pth`, `.pt`) of others: checked for what they state before memory is allocated for it.

torch.save writes a zip archive of storages that are not compressed, each with its CRC-32, and a pickle of tensors that
are views of them. A hostile archive can unpack to any size, and a view can repeat one number a billion times; torch
checks neither, nor the CRC-32.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..limits import check_bytes, open_file

MAX_VALUES = 1_000_000
"""Tensors, numbers and tables in a file; the same table counts wherever it occurs."""
MAX_DEPTH = 20
"""Tables inside of tables."""


class UnsafeFile(ValueError):
    """A torch file that is damaged, or that is not what torch.save writes. The message is a clause for parentheses."""


def load_torch_file(path: str | Path) -> Any:
    """Load a file that torch.save wrote, on the CPU. Only tensors and plain data are unpickled.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        UnsafeFile: its content is not that of its checksums, or it states more than it contains.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            check_bytes(size, "weights")
            if zipfile.is_zipfile(file):
                check_archive(file)
            # On the meta device, a storage takes no memory.
            for tensor in tensors_of(_unpickle(file, "meta")):
                stated = max(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
                if tensor.layout != torch.strided or stated > size:
                    raise UnsafeFile(f"a tensor of {stated:,} bytes in a file of {size:,}")
            loaded = _unpickle(file, "cpu")
            if any(tensor.is_meta for tensor in tensors_of(loaded)):
                raise UnsafeFile("a tensor without content")
            return loaded
        except (UnsafeFile, MemoryError):
            raise
        # What a damaged pickle raises is not limited to a few classes.
        except Exception as error:
            # torch explains at length how to unpickle anything.
            reason = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split()) or type(error).__name__
            raise UnsafeFile(reason if len(reason) < 120 else f"{reason[:120]}...") from error


def check_archive(file: BinaryIO) -> None:
    """Check that every member of a zip archive is stored uncompressed, once, and has its CRC-32.

    Raises:
        UnsafeFile: it is not so.
    """
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UnsafeFile("a compressed archive, which torch.save does not write")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise UnsafeFile("an archive of members that overlap")
        if (damaged := archive.testzip()) is not None:
            raise UnsafeFile(f"the content of its member '{damaged}' has another checksum")


def _unpickle(file: BinaryIO, device: str) -> Any:
    file.seek(0)
    with warnings.catch_warnings():
        # torch says that it does not check sparse tensors; they are refused here.
        warnings.simplefilter("ignore")
        return torch.load(file, map_location=device, weights_only=True)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tables and lists.

    Raises:
        UnsafeFile: there is no end of values.
    """
    pending, seen = [(value, 0)], 0
    while pending:
        one, depth = pending.pop()
        seen += 1
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise UnsafeFile("tables without end")
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, Mapping):
            pending += [(inner, depth + 1) for inner in one.values()]
        elif isinstance(one, (list, tuple)):
            pending += [(inner, depth + 1) for inner in one]
