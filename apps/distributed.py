"""Process groups: rank and number of processes, as set by torchrun (or another launcher)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from ..errors import UserError

Item = TypeVar("Item")

GATHER_TIMEOUT = timedelta(days=30)
"""How long a finished process waits for the others. torchrun ends all of them when one fails."""


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process and size of its group.

    Attributes:
        rank: index of this process, from 0.
        num_processes: size of the group.
        distributed: whether the processes can communicate (MASTER_ADDR is set).
    """

    rank: int = 0
    num_processes: int = 1
    distributed: bool = False

    @classmethod
    def current(cls) -> ProcessGroup:
        """The group by the environment variables RANK and WORLD_SIZE; a single process if they are not set.

        Raises:
            UserError: the variables are not integers with 0 <= RANK < WORLD_SIZE.
        """
        values = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
        try:
            rank, size = (int(value) for value in values.values())
        except ValueError:
            rank = size = 0
        if not 0 <= rank < size:
            raise UserError(
                f"RANK is '{values['RANK']}' and WORLD_SIZE is '{values['WORLD_SIZE']}'; launch with torchrun."
            )
        return cls(rank, size, size > 1 and "MASTER_ADDR" in os.environ)

    def share(self, items: Iterator[Item]) -> Iterator[Item]:
        """Every `num_processes`-th item, starting at `rank`."""
        return islice(items, self.rank, None, self.num_processes)

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes by rank, once all have called it; only this one's if they cannot communicate.

        Call it before exiting with an error: torchrun ends every process as soon as one does.
        """
        if not self.distributed:
            return [value]
        from torch import distributed

        distributed.init_process_group("gloo", timeout=GATHER_TIMEOUT)
        try:
            values: list[Any] = [None] * self.num_processes
            distributed.all_gather_object(values, value)
            return values
        finally:
            distributed.destroy_process_group()
