"""Errors of stored data: the file, what was expected in it and what was found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, printable


@dataclass(frozen=True)
class Problem:
    """One defect of a stored dataset."""

    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return printable(f"{self.file}: expected {self.expected}, found {self.found}.")


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


def read_parts(*readers: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """Read all files of a sample, so that one error reports the problems of each.

    Raises:
        DatasetError: at least one reader raised it.
    """
    values: list[np.ndarray] = []
    problems: list[Problem] = []
    for reader in readers:
        try:
            values.append(reader())
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError.from_problems(problems)
    return values


def require_same_size(first: np.ndarray, other: np.ndarray, file: str | Path, partner: str) -> None:
    """Check that two arrays of a sample, (H, W) or (H, W, C), have the same height and width.

    Raises:
        DatasetError: the sizes differ; the message names the file of the other array, and `partner` for the first.
    """
    if first.shape[:2] != other.shape[:2]:
        expected, found = (f"{array.shape[1]}x{array.shape[0]}" for array in (first, other))
        raise DatasetError(file, f"the size of {partner}, {expected}", found)


class SampleError(UserError):
    """The code or the process that reads a sample failed; the stack trace is a note, which --debug prints."""

    exit_code = 1


@contextmanager
def sample_errors(*names: str) -> Iterator[None]:
    """Raise a `SampleError` that names the samples for any exception inside; user errors pass unchanged."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        named = SampleError(f"Reading {' and '.join(names)} failed with {reason.rstrip('.')}; see --debug for details.")
        named.add_note("".join(traceback.format_exception(error)))
        raise named from error
