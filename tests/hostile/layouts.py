"""Example layouts of the datasets, in which a generator replaces or damages one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from densevision.datasets import dataset_class

from .harness import Case


class Layouts:
    """Folders with the example of a dataset, each for one case of `data validate`."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self._count = 0

    def root(self, dataset: str) -> Path:
        """A new folder with the example of a dataset."""
        example = self.folder / f"example-{dataset}"
        if not example.is_dir():
            dataset_class(dataset).write_example(example)
        self._count += 1
        root = self.folder / f"{self._count:03}"
        shutil.copytree(example, root)
        return root

    def replaced(self, kind: str, dataset: str, file: str, contents: dict[str, bytes], old: str = "") -> Iterator[Case]:
        """Cases in which a file, instead of an old one, has other contents, by what is wrong with them."""
        for name, content in contents.items():
            root = self.root(dataset)
            if old:
                (root / old).unlink()
            (root / file).write_bytes(content)
            yield case(kind, name, dataset, root)

    def damaged(self, kind: str, dataset: str, file: str, count: int = 3) -> Iterator[Case]:
        """Cases in which bytes of a file are flipped, cut or repeated at random, and those in which it is no file."""
        for number in range(count):
            root = self.root(dataset)
            data = bytearray((root / file).read_bytes())
            first, second = sorted(self.rng.integers(0, len(data) + 1, 2).tolist())
            if number % 3 == 0:
                for position in self.rng.integers(0, len(data), 1 + len(data) // 500).tolist():
                    data[position] = int(self.rng.integers(256))
            elif number % 3 == 1:
                del data[first:second]
            else:
                data[first:first] = data[first:second]
            (root / file).write_bytes(data)
            yield case(kind, f"damage {number}", dataset, root, may_succeed=True)
        root = self.root(dataset)
        (root / file).unlink()
        (root / file).symlink_to("/dev/zero")
        yield case(kind, "link to a device", dataset, root)
        (other := self.root(dataset) / file).unlink()
        other.mkdir()
        yield case(kind, "a folder", dataset, other.parents[len(Path(file).parts) - 1])
        root = self.root(dataset)
        (root / file).unlink()
        with (root / file).open("wb") as sparse:
            sparse.truncate(int(self.rng.integers(3, 9)) * 2**30)
        yield case(kind, "gigabytes of zeros", dataset, root)


def case(kind: str, name: str, dataset: str, root: Path, may_succeed: bool = False) -> Case:
    """The validation of a dataset in a folder."""
    return Case(kind, name, ("data", "validate", dataset, str(root)), may_succeed)
