"""What can be wrong with stored data, as one sentence: which file, what was expected, what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a folder."""

    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}."


class DamagedData(UserError):
    """A file or a folder that is not as its layout says. Its message is the problem's sentence.

    Attributes:
        problem: the first thing that is wrong.
        problems: everything that was found before this was raised; `problem` alone in most cases.
        opened: the data set as far as it could be opened, so that a check goes on reading what is there.
    """

    def __init__(self, file: str | Path, expected: str, found: str) -> None:
        self.problem = Problem(str(file), expected, found)
        self.problems: tuple[Problem, ...] = (self.problem,)
        self.opened: Any = None
        super().__init__(str(self.problem))

    @classmethod
    def of(cls, problems: Sequence[Problem], opened: Any = None) -> DamagedData:
        """One exception for several problems: its sentence is the first one's, and says how many more there are."""
        first = problems[0]
        damaged = cls(first.file, first.expected, first.found)
        damaged.problems, damaged.opened = tuple(problems), opened
        if len(problems) > 1:
            damaged.args = (f"{first} {len(problems) - 1} more: 'densevision data check' lists them.",)
        return damaged

    def __reduce__(self):
        # Workers send exceptions through pickle, which would otherwise call __init__ with the message alone.
        return DamagedData.of, (self.problems,)
