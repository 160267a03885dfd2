"""Errors of stored data: the file, what was expected in it and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError


@dataclass(frozen=True)
class Problem:
    """One defect of a stored dataset."""

    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, found {self.found}."


class DatasetError(UserError):
    """A file or a folder is not as its layout requires.

    Attributes:
        problem: the first problem; it is the message.
        problems: all problems found before this was raised; in most cases only `problem`.
        dataset: the dataset as far as it could be opened, so that a validation can read the rest; None if not at all.
    """

    def __init__(self, file: str | Path, expected: str, found: str) -> None:
        self.problem = Problem(str(file), expected, found)
        self.problems: tuple[Problem, ...] = (self.problem,)
        self.dataset: Any = None
        super().__init__(str(self.problem))

    @classmethod
    def from_problems(cls, problems: Sequence[Problem], dataset: Any = None) -> DatasetError:
        """One exception for several problems; the message is the first one and the number of the others."""
        first = problems[0]
        error = cls(first.file, first.expected, first.found)
        error.problems, error.dataset = tuple(problems), dataset
        if len(problems) > 1:
            error.args = (f"{first} {len(problems) - 1} more: 'densevision data validate' lists them.",)
        return error

    def __reduce__(self):
        # Workers send exceptions through pickle, which would otherwise call __init__ with the message alone.
        return DatasetError.from_problems, (self.problems,)
