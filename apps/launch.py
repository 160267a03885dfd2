"""Which of how many processes this is, when torchrun (or somebody's own script) started several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from ..errors import UserError

Item = TypeVar("Item")

SLOWEST = timedelta(days=30)
"""How long a process that is done waits for the others. torchrun ends all of them when one fails."""


@dataclass(frozen=True)
class Launch:
    """This process among its like.

    Attributes:
        rank: its number, from 0.
        processes: how many there are.
        together: whether they can find each other (MASTER_ADDR), or each is on its own.
    """

    rank: int = 0
    processes: int = 1
    together: bool = False

    @classmethod
    def here(cls) -> Launch:
        """What RANK and WORLD_SIZE say; one of one where they say nothing.

        Raises:
            UserError: they are no numbers that fit.
        """
        said = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
        try:
            rank, processes = (int(value) for value in said.values())
        except ValueError:
            rank = processes = 0
        if not 0 <= rank < processes:
            raise UserError(f"RANK is '{said['RANK']}' and WORLD_SIZE '{said['WORLD_SIZE']}': launch with torchrun.")
        return cls(rank, processes, processes > 1 and "MASTER_ADDR" in os.environ)

    def share(self, items: Iterator[Item]) -> Iterator[Item]:
        """Every `processes`-th item, from `rank` on."""
        return islice(items, self.rank, None, self.processes)

    def gathered(self, value: Any) -> list[Any]:
        """The values of all processes, once all are done; this one's alone where they cannot find each other.

        torchrun ends every process as soon as one exits with an error: whoever has bad news waits here.
        """
        if not self.together:
            return [value]
        from torch import distributed

        distributed.init_process_group("gloo", timeout=SLOWEST)
        try:
            values: list[Any] = [None] * self.processes
            distributed.all_gather_object(values, value)
            return values
        finally:
            distributed.destroy_process_group()
