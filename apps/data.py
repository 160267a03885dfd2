"""`densevision data`: look at a dataset, count it, validate its folder, and examples of layouts."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from ..errors import UserError, printable

if TYPE_CHECKING:
    from ..datasets.dataset import Dataset

LISTED = 4
"""Files of a folder in the example of a layout."""
GENERATED = 200
"""Samples of an endless dataset that are counted."""
AUGMENTED = 2
"""Augmentations of a sample in a sheet."""

app = App(name="data", help="Look at a dataset, count it, validate its folder, or write an example of its layout.")


@app.command
def validate(name: str, root: str | None = None, /) -> None:
    """Read every file of a dataset folder and list all problems, including files that the loader passes over and values
    that it repairs; exit code 1 if there are any.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Dataset folder; not needed for synthetic datasets.
    """
    from ..datasets import dataset_class, require_root
    from ..datasets.dataset import SyntheticDataset

    dataset = dataset_class(name)
    if not issubclass(dataset, SyntheticDataset):
        if root is None:
            raise UserError(f"'{name}' needs a dataset folder: densevision data validate {name} ROOT.")
        require_root(name, root)
    problems = dataset.validate(root or "")
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problem(s)." if problems else f"{name}: no problems.")
    if problems:
        sys.exit(1)


@app.command
def make_example(name: str, root: Path, /) -> None:
    """Write a small generated dataset in the official folder layout, for trying out commands or comparing a layout.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Folder to write; must be new or empty.
    """
    from ..datasets import dataset_class

    dataset = dataset_class(name)
    if root.exists() and any(root.iterdir()):
        raise UserError(f"'{root}' is not empty; give a new folder: existing files are never overwritten.")
    dataset.write_example(root)
    print(printable(f"Wrote an example of {dataset.title} to {root}."))


@app.command
def shard(name: str, /, *folders: str, split: str | None = None, per: int = 1000, samples: int | None = None) -> None:
    """Write a dataset as shards, which every task reads with --data shards: tar files of some thousand samples each, in
    a folder or at an address (s3://bucket/data).

    Samples are the same to the bit. JPEG files are stored as they are; other images as PNG, maps as compressed arrays.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        folders: Dataset folder, which a synthetic dataset does not have; and the folder or address to write.
        split: Split to write; all of them if not stated.
        per: Samples of a shard.
        samples: Write the first N samples of each split only; all of them if not stated, which a synthetic dataset
            refuses, since its training split never ends.
    """
    from ..datasets import dataset_class, open_dataset
    from ..datasets.dataset import SyntheticDataset
    from ..datasets.shards import write_shards
    from ..tasks.distributed import available_cores

    dataset, stored = dataset_class(name), not issubclass(dataset_class(name), SyntheticDataset)
    if len(folders) != 1 + stored:
        words = "ROOT OUT" if stored else "OUT"
        raise UserError(f"'{name}' needs {len(words.split())} folder(s): densevision data shard {name} {words}.")
    for option, value in (("per", per), ("samples", samples)):
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")
    root, out = folders[0] if stored else None, folders[-1]
    opened = [open_dataset(name, root, one) for one in ([split] if split else dataset.splits_in(root))]
    for part in opened:
        count = write_shards(part, out, per, samples, available_cores(), _progress)
        print(printable(f"{part.split}: {min(samples or len(part), len(part))} samples in {count} shard(s) in {out}."))


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total} shards", end="" if done < total else "\n", file=sys.stderr, flush=True)


@app.command
def layout(name: str, /) -> None:
    """Print how the folder of a dataset must look, with the files of a small example.

    Args:
        name: Name of the dataset (`densevision list datasets`).
    """
    from ..datasets import dataset_class
    from ..datasets.dataset import Dataset, SyntheticDataset

    dataset = dataset_class(name)
    print(dataset.title)
    for cls in dataset.__mro__:
        if cls.__doc__ and issubclass(cls, Dataset) and cls.__module__ != Dataset.__module__:
            print(f"\n{inspect.cleandoc(cls.__doc__).partition('Attributes:')[0].rstrip()}")
    print(f"\nSplits: {', '.join(dataset.splits)}\nTerms: {dataset.terms}")
    if issubclass(dataset, SyntheticDataset):
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset.write_example(folder)
        files = [path.relative_to(folder) for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    print(f"\nFiles of an example (densevision data make-example {name} FOLDER):")
    listed: Counter[Path] = Counter()
    for file in files:
        listed[file.parent] += 1
        if listed[file.parent] <= LISTED:
            print(f"  {file.as_posix()}")
        elif listed[file.parent] == LISTED + 1:
            print(f"  {(file.parent / '...').as_posix()}")


@app.command
def stats(name: str, root: str | None = None, /, *, samples: int | None = None) -> None:
    """Count a dataset: samples of every split, sizes and values of every field, and images that two splits share.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Dataset folder; not needed for synthetic datasets.
        samples: Read at most N samples of each split, spread evenly; all of them if not stated, and 200 of a synthetic
            dataset.
    """
    from ..datasets import dataset_class, open_dataset
    from ..datasets.statistics import count_split, shared_samples

    if samples is not None and samples < 1:
        raise UserError(f"--samples is {samples}; it must be at least 1.")
    counted = {}
    for split in dataset_class(name).splits_in(root):
        dataset = open_dataset(name, root, split)
        counted[split] = count_split(dataset, samples or (GENERATED if dataset.infinite else len(dataset)))
        print("\n".join(map(printable, counted[split].lines())))
    for first, second, twins in shared_samples(counted):
        names = ", ".join(f"{a} and {b}" for a, b in twins[:3])
        print(
            printable(f"{first} and {second} share {len(twins)} image(s): {names}{', ...' if len(twins) > 3 else ''}")
        )


@app.command
def show(
    name: str,
    root: str | None = None,
    /,
    *,
    split: str | None = None,
    task: str | None = None,
    samples: int = 6,
    out: Path = Path("samples.png"),
) -> None:
    """Draw samples of a dataset with their ground truth, and the same samples augmented as training would.

    Args:
        name: Name of the dataset (`densevision list datasets`).
        root: Dataset folder; not needed for synthetic datasets.
        split: Split to draw; the training split if not stated.
        task: Task whose default recipe augments; the one that the dataset is for, if not stated.
        samples: Number of samples, spread evenly over the split.
        out: Image file to write.
    """
    from ..datasets import dataset_class, open_dataset
    from ..tasks import create_task
    from ..tasks.comparison_grid import draw_samples, write_comparison
    from ..tasks.training.options import Options
    from ..tasks.training.setup import augmented_dataset, resolve_options

    if samples < 1:
        raise UserError(f"--samples is {samples}; it must be at least 1.")
    dataset = open_dataset(name, root, split or dataset_class(name).splits_in(root)[0])
    chosen = create_task(task or task_of(name, dataset))
    options = resolve_options(chosen, Options(data=name))
    dataset = dataset.with_size(options.image_size)
    augmented = augmented_dataset(chosen, dataset, options)
    views = [lambda index, epoch=epoch: augmented.sample((epoch, index)) for epoch in range(AUGMENTED)]
    write_comparison(out, draw_samples(chosen, chosen.evaluation.dataset(dataset), views, samples))
    recipe = f"the recipe {options.recipe} of {chosen.name} at {options.image_size[0]}x{options.image_size[1]}"
    print(printable(f"Wrote {out}: samples with ground truth, and augmented as by {recipe}."))


def task_of(name: str, dataset: Dataset) -> str:
    """The task that a dataset is for: that of its module, or whose default it is, or the first that can use it.

    Raises:
        UserError: no task can.
    """
    from ..tasks import create_task, list_tasks

    usable = []
    for task in map(create_task, list_tasks()):
        try:
            task.inputs(dataset.fields)
            task.targets(dataset.fields)
        except UserError:
            continue
        folder = type(dataset).__module__.split(".")[-2]
        if task.defaults.data == name or task.name.startswith(folder):
            return task.name
        usable.append(task.name)
    if not usable:
        raise UserError(f"No task can use the fields {', '.join(dataset.fields)} of '{name}'.")
    return usable[0]
