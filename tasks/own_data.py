"""Data of the caller's own: what `train` and `evaluate` accept, turned into a dataset, or refused with one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..datasets import dataset_class, open_dataset
from ..datasets.core.problems import sample_errors
from ..datasets.dataset import Dataset, SyntheticDataset
from ..datasets.depth.depth_folders import DepthFolders
from ..datasets.field_types import ClassLabel, FieldType, Image, Keypoints, SegmentationMask
from ..datasets.hand.hand_fields import Joints
from ..datasets.paired_folders import MatchedFiles, PairedFolders
from ..datasets.samples import Samples, describe, first_values, to_array
from ..errors import UserError
from ..limits import LimitExceeded, check_entries
from .task import Task

Data: TypeAlias = Any
"""A `Dataset`; the name of one; a list of dictionaries or tuples; a dataset of PyTorch, or any object with `__len__`
and `read` or `__getitem__`; or a pair of folders, those of the inputs first."""

FOLDER_PAIRS: dict[str, type[MatchedFiles]] = {
    "depth": DepthFolders,
    "restoration": PairedFolders,
    "translation": PairedFolders,
}
"""Dataset that reads a pair of folders, by task."""


def as_dataset(
    task: Task, data: Data, name: str = "data", split: str = "train", fields: Mapping[str, FieldType] | None = None
) -> Dataset:
    """Data of any accepted form as a dataset, whose first sample is checked.

    Args:
        task: the task, which says what fields a sample needs.
        data: see `Data`.
        name: name of the argument, to begin error messages.
        split: split of a pair of folders or a named dataset.
        fields: field types of the data if they are known, as those of a training set for its evaluation set; None:
            they follow from the first sample, and from `fields` or `classes` of the object.

    Raises:
        UserError: it is something else, or its first sample is not as the task needs it.
    """
    if isinstance(data, str):
        return open_dataset(data, None, split)
    if is_folder_pair(data):
        return open_folder_pair(task, data, split)
    if isinstance(data, Dataset):
        if not isinstance(getattr(data, "fields", None), Mapping):
            raise UserError(
                f"The dataset {type(data).__name__} has no attribute fields: set `fields`, field types by name, in the "
                "class or in `__init__`."
            )
        dataset = data
    else:
        _require_samples(data, name)
        stated = fields or getattr(data, "fields", None) or _infer_fields(task, data, name)
        dataset = Samples(data, stated, split)
    require_valid_sample(task, dataset)
    return dataset


def is_folder_pair(data: Data) -> bool:
    """Whether data are two folders."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    return pair and all(isinstance(folder, (str, Path)) for folder in data)


def open_folder_pair(task: Task, folders: Sequence[str | Path], split: str) -> Dataset:
    """Two folders of files with the same names, of inputs and of what is predicted."""
    if task.name not in FOLDER_PAIRS:
        raise UserError(
            f"The task {task.name} does not read a pair of folders ({', '.join(FOLDER_PAIRS)} do): give a dataset by "
            "name with root=FOLDER (densevision list datasets)."
        )
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise UserError(f"There is no folder '{path}' to read the pairs from.")
    root = Path(os.path.commonpath([path.parent for path in paths]))
    first, second = (path.relative_to(root).as_posix() for path in paths)
    return FOLDER_PAIRS[task.name](root, split, (first, second))


def _require_samples(data: Any, name: str) -> None:
    """Check that an object of the caller has samples by index."""
    what = f"{name} is a {type(data).__name__}"
    forms = (
        "give the name of a dataset, a Dataset, a torch Dataset, a list of dictionaries, or a pair of folders (docs/"
        "python.md)"
    )
    if isinstance(data, type):
        raise UserError(f"{name} is the class {data.__name__}; give an instance of it: {data.__name__}(...).")
    if isinstance(data, (Mapping, bytes, Path)):
        raise UserError(f"{what}, which has no list of samples; {forms}.")
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):
        raise UserError(f"{what}, which has batches; give its dataset: training forms batches itself (batch_size=...).")
    indexed = callable(getattr(data, "read", None)) or hasattr(data, "__getitem__")
    if not indexed or not hasattr(data, "__len__"):
        lacking = "`__len__`" if indexed else "`read(index)` or `__getitem__(index)`"
        raise UserError(f"{what}, which has no {lacking}; {forms}.")
    try:
        length = len(data)
    except TypeError as error:
        raise UserError(f"{what} without a length ({error}); {forms}.") from error
    if not length:
        raise UserError(f"{what} without a sample.")


def _infer_fields(task: Task, data: Any, name: str) -> dict[str, FieldType]:
    """Field types that follow from the first sample of data without any."""
    template = default_fields(task)
    used = {*task.inputs(template), *task.targets(template)}
    usual = {field: kind for field, kind in template.items() if field in used}
    needed = ", ".join(f"'{field}' ({type(kind).__name__})" for field, kind in usual.items())
    values = first_values(data, name)
    if isinstance(values, (tuple, list)):
        if len(values) != len(usual):
            raise UserError(
                f"{name}[0] is a {describe(values)}; the task {task.name} needs {needed}: give a dictionary."
            )
        values = dict(zip(usual, values, strict=True))
    if not isinstance(values, Mapping):
        raise UserError(
            f"{name}[0] is a {describe(values)}; it must be a dictionary: the task {task.name} needs {needed}."
        )
    fields: dict[str, FieldType] = {}
    for field, value in values.items():
        if field in usual:
            fields[field] = _infer_field(field, usual[field], value, data, name)
        elif (array := to_array(value, Image())).ndim == 3 and array.shape[-1] in (1, 3):
            fields[field] = Image(array.shape[-1])
    missing = [field for field in usual if field not in values]
    try:
        task.inputs(fields)
        task.targets(fields)
    except UserError as error:
        found = ", ".join(map(repr, values)) or "nothing"
        raise UserError(
            f"{name}[0] has {found}, and no {' and no '.join(map(repr, missing))}: the task {task.name} needs {needed}."
            if missing
            else str(error)
        ) from error
    return fields


def _infer_field(field: str, usual: FieldType, value: Any, data: Any, name: str) -> FieldType:
    """The type of a field that a task uses, for a value."""
    if isinstance(usual, Image):
        shape = to_array(value, usual).shape
        return Image(1) if len(shape) == 2 or shape[-1:] == (1,) else usual
    if isinstance(usual, ClassLabel):
        return ClassLabel(_class_names(field, data, name))
    if isinstance(usual, (Keypoints, Joints, SegmentationMask)):
        attribute = "names" if isinstance(usual, SegmentationMask) else "skeleton"
        raise UserError(
            f"The {attribute} of '{field}' cannot be seen in a sample: give densevision.datasets.samples.Samples(data, "
            f"fields), with {type(usual).__name__}({attribute}=...) as its field type."
        )
    return usual


def _class_names(field: str, data: Any, name: str) -> tuple[str, ...]:
    """Names of the classes: `classes` of a dataset as in torchvision, or what a list contains."""
    source = data
    while source is not None:
        if isinstance(names := getattr(source, "classes", None), (list, tuple)):
            return tuple(map(str, names))
        source = getattr(source, "dataset", None)
    if not isinstance(data, (list, tuple)):
        raise UserError(
            f"{name} is a {type(data).__name__} that does not name its classes: set its attribute `classes`, a list of "
            "names from class 0 on."
        )
    labels = [sample[field] if isinstance(sample, Mapping) else sample[-1] for sample in data]
    if all(isinstance(label, str) for label in labels):
        return tuple(sorted(set(labels)))
    with sample_errors(f"the classes of {name}"):
        count = 1 + max(int(label) for label in labels)
    try:
        check_entries(count)
    except LimitExceeded as error:
        raise UserError(f"The classes of {name} are numbers up to {count - 1}: number them from 0 on.") from error
    return tuple(f"class {number}" for number in range(count))


def default_fields(task: Task) -> dict[str, FieldType]:
    """Field types of the default dataset of a task, which is synthetic."""
    dataset = dataset_class(task.defaults.data)
    assert issubclass(dataset, SyntheticDataset)
    return dict(dataset.field_types)


def require_valid_sample(task: Task, dataset: Dataset) -> None:
    """Check that the first sample has the shapes and types of its fields."""
    if len(dataset) == 0:
        return
    name = dataset.sample_name(0)
    with sample_errors(name):
        sample = dataset.read(0)
    if not isinstance(sample, dict):
        raise UserError(
            f"{name} of {dataset.title} is a {type(sample).__name__}; `read` must return a dictionary with a numpy "
            f"array for each of the fields {', '.join(dataset.fields)}."
        )
    used = {**task.inputs(dataset.fields), **task.targets(dataset.fields)}
    # The others are made by the task's augmentation.
    used = {field: field_type for field, field_type in used.items() if field in dataset.fields}
    maps = {field: field_type.rank for field, field_type in used.items() if field_type.input_channels}
    shapes = {field: np.shape(sample[field]) for field in maps if field in sample}
    sizes = {shape[:2] for field, shape in shapes.items() if len(shape) == maps[field]}
    for field, field_type in used.items():
        value, where = sample.get(field), f"{name} of {dataset.title}, field '{field}'"
        if value is None or (field_type.rank and not isinstance(value, np.ndarray)):
            found = "missing" if value is None else f"a {type(value).__module__}.{type(value).__name__}"
            raise UserError(f"{where}: expected a numpy array, found {found}; convert it in `read`.")
        value = np.asarray(value)
        mismatch = field_type.check(value)
        # A leading axis T or N is valid, if what follows is as large as the other maps.
        leading = value.ndim - field_type.rank
        misplaced = leading == 1 and field in maps and sizes and value.shape[1:3] not in sizes
        if mismatch is None and (misplaced or leading not in (0, 1)):
            mismatch = f"{field_type.rank} axes", "x".join(map(str, value.shape))
        if mismatch is not None:
            raise UserError(
                f"{where}: expected {mismatch[0]}, found {mismatch[1]}; images are (H, W, C), maps (H, W): transpose "
                "or convert the array in `read`."
            )
    if len(sizes) > 1:
        differing = ", ".join(f"'{field}' {shape[0]}x{shape[1]}" for field, shape in shapes.items())
        raise UserError(
            f"{name} of {dataset.title} has maps of several sizes ({differing}); bring them to one in `read`."
        )


def require_same_targets(task: Task, train_set: Dataset, eval_set: Dataset) -> None:
    """Check that an evaluation set has the classes, joints and channels of the training set."""
    for which in (task.inputs, task.targets):
        trained, scored = which(train_set.fields), which(eval_set.fields)
        for field, kind in trained.items():
            other = scored.get(field)
            if other != kind:
                raise UserError(
                    f"The field '{field}' of the evaluation data is {_details(other)}, and that of the training data "
                    f"{_details(kind)}; a model is scored on the classes, joints and channels that it learns."
                )


def _details(kind: FieldType | None) -> str:
    if kind is None:
        return "missing"
    channels = f" of {kind.channels} channel(s)" if isinstance(kind, Image) else ""
    return f"{kind}{channels}"
