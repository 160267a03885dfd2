"""Protocol buffers, in which Caffe and TensorFlow store: the fields of a message, read without its definition."""

from __future__ import annotations

from collections.abc import Iterator

from ..limits import check_entries

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class DamagedFile(ValueError):
    """A file that is not what its program writes. The message is a noun phrase."""


class Budget:
    """Count of the entries that were read, against `max_entries`."""

    def __init__(self) -> None:
        self.count = 0

    def spend(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count % 1000 == 0:
            check_entries(self.count)


def fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: number, and bytes or number.

    Raises:
        DamagedFile: it ends within a field, or has a field of an unknown type.
    """
    position = 0
    while position < len(message):
        budget.spend()
        key, position = varint(message, position)
        kind, number = key & 7, key >> 3
        if kind == VARINT:
            value, position = varint(message, position)
            yield number, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
        if kind == BYTES:
            length, position = varint(message, position)
        elif not length:
            raise DamagedFile(f"a field of type {kind}, which protocol buffers do not have")
        if length > len(message) - position:
            raise DamagedFile(f"a field of {length} bytes, of which {len(message) - position} are there")
        yield number, message[position : position + length]
        position += length


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number and the position behind it.

    Raises:
        DamagedFile: it does not end.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise DamagedFile("the end within a number")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise DamagedFile("a number of more than ten bytes")
