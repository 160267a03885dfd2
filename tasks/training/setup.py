"""Setup of a run: options to a trainer, with datasets and model, new or resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets import DATASETS, dataset_class, open_dataset
from ...datasets.core.geometric_augmentation import Augmentation
from ...datasets.core.problems import sample_errors
from ...datasets.dataset import Dataset, SyntheticDataset
from ...datasets.field_types import ClassLabel, SegmentationMask
from ...errors import UserError, unknown_name
from .. import create_task
from ..checkpoint import load_initial_weights
from ..device import choose_device, split_cpu_cores, use_bf16
from ..evaluation import require_ground_truth
from ..model_spec import ModelSpec
from ..network import Network
from ..task import Task
from .data import AugmentedDataset
from .options import Options, ResolvedOptions
from .state import load_state
from .trainer import Trainer

CHANGEABLE_ON_RESUME = (
    "workers", "threads", "log_every", "save_every", "out", "resume", "root", "eval_root", "steps", "epochs",
    "patience",
)  # fmt: skip
"""Options that may change when a run is resumed; all others would make it another run."""

ALWAYS_STORED = tuple(
    field.name
    for field in dataclasses.fields(ResolvedOptions)
    if field.default is not None and field.name not in ("resume", "milestones", "gamma")
)
"""Options that config.yaml of every run contains."""


def build_trainer(
    task: str | Task,
    options: Options,
    data: Dataset | str | None,
    eval_data: Dataset | str | None,
    overrides: dict[str, Any],
) -> Trainer:
    """Build the trainer of a new run, or of an interrupted run at its saved step.

    Args:
        task, options, data, eval_data: as in `train`.
        overrides: options by name; they override `options`.

    Raises:
        UserError: invalid options.
    """
    task = create_task(task) if isinstance(task, str) else task
    require_own_types(task, options, data, eval_data)
    explicit = Options.from_plain(overrides, "train()").merge_defaults(options.require_types("Options"))
    if data is not None:
        explicit = dataclasses.replace(explicit, data=registry_name(data))
    if eval_data is not None:
        explicit = dataclasses.replace(explicit, eval_data=registry_name(eval_data))
    with run_folder_errors(explicit.out):
        folder = run_folder(task, explicit)
    if explicit.resume:
        explicit, task = resume_options(explicit, folder), resume_task(task, folder)
    options = resolve_options(task, explicit).validate()

    train_set = data if isinstance(data, Dataset) else open_training_set(options)
    if isinstance(data, Dataset) and options.eval_data is None:
        raise UserError("train(data=...) got a Dataset object: pass the dataset to evaluate on as eval_data=...")
    eval_set = eval_data if isinstance(eval_data, Dataset) else open_evaluation_set(options, train_set)
    # The package's loaders check what they read; a sample without ground truth is none of their errors.
    for given, dataset in ((data, train_set), (eval_data, eval_set)):
        if isinstance(given, Dataset):
            require_valid_sample(task, dataset)
    require_classes(task, train_set)
    assert options.image_size is not None
    train_set, eval_set = (
        train_set.with_size(options.image_size),
        task.evaluation.dataset(eval_set.with_size(options.image_size)),
    )
    train_samples = training_samples(train_set, options)

    device = choose_device(options.device)
    threads, workers = split_cpu_cores(device, isinstance(train_set, SyntheticDataset) and train_set.cpu_heavy)
    options = ResolvedOptions.of(options.merge_defaults(Options(threads=threads, workers=workers)))
    torch.set_num_threads(options.threads or threads)
    model_spec = ModelSpec(
        task,
        train_set.fields,
        backbone=None if options.model else options.backbone,
        backbone_options=backbone_options(options),
        head=None if options.model else options.head,
        model=options.model,
    )
    # Initial weights depend on the seed alone, not on earlier random numbers of this process.
    torch.manual_seed(options.seed)
    model = model_spec.build(options.weights)
    model_spec = model_spec.with_weights_options(model)
    if options.init_from is not None:
        load_initial_weights(model, model_spec, options.init_from)
    if model.backbone is not None and model.backbone.num_classes and options.crop_area is None:
        set_crop_preprocessing(model, (options.resize_short_side or options.image_size)[0], options.image_size[0])
    if not options.resume:
        model.calibrate(train_set)
    trainer = Trainer(
        options=options,
        folder=folder,
        model_spec=model_spec,
        model=model,
        training_set=AugmentedDataset(
            train_set,
            task,
            options.image_size,
            Augmentation(
                hflip=options.hflip,
                max_rotation=options.max_rotation,
                max_zoom=options.max_zoom,
                resize_short_side=options.resize_short_side,
                crop_padding=options.crop_padding,
                crop_area=options.crop_area,
            ),
            options.color_jitter,
            options.seed,
        ),
        eval_set=eval_set,
        train_samples=train_samples,
        device=device,
        bf16=use_bf16(options.amp, device),
    )
    if options.resume:
        trainer.restore(load_state(folder / "last" / "state.pt"))
    require_ground_truth(task, eval_set, trainer.protocol, options.eval_samples)
    with run_folder_errors(folder):
        trainer.create_run_folder()
    return trainer


def set_crop_preprocessing(model: Network, resize: int, crop: int) -> None:
    """Store the resize and crop of training in a classifier's preprocessing, so that inference uses the same scale.

    Random resized crops have no single scale: their classifiers keep the default ratio of resize to crop.
    """
    backbone = model.backbone
    if backbone is not None:
        backbone.preprocessing = dataclasses.replace(backbone.preprocessing, resize=resize, crop=crop)


def registry_name(data: Dataset | str) -> str:
    """Registry name of a dataset, or the name of its class if it is not registered."""
    if isinstance(data, str):
        return data
    path = f"{type(data).__module__}:{type(data).__name__}"
    return next((name for name, entry in DATASETS.items() if path.endswith(f".{entry}")), type(data).__name__)


def resolve_options(task: Task, explicit: Options) -> ResolvedOptions:
    """Resolve options: those of the caller, then the recipe, then the task's defaults, then `ResolvedOptions`.

    Raises:
        UserError: an unknown recipe or loss, or options that exclude each other.
    """
    name = explicit.recipe or default_recipe(task, explicit.data)
    if name not in task.recipes:
        raise unknown_name(f"recipe of the task {task.name}", name, task.recipes)
    recipe = dataclasses.replace(task.recipes[name], recipe=name)
    if explicit.steps and explicit.epochs:
        raise UserError("--steps and --epochs are two ways to say the same thing: give one of them.")
    if explicit.steps or explicit.epochs:
        recipe = dataclasses.replace(recipe, steps=None, epochs=None)
    # Recipes for photos spare a pretrained backbone; one from scratch has nothing to spare.
    if not (explicit.weights or explicit.init_from):
        recipe = dataclasses.replace(recipe, backbone_lr_factor=None, freeze_bn=None)
    if explicit.steps and recipe.warmup_steps and recipe.warmup_steps >= explicit.steps:
        # The recipe's warm-up is meant for its own number of steps.
        recipe = dataclasses.replace(recipe, warmup_steps=explicit.steps // 10)
    options = explicit.merge_defaults(recipe)
    # The caller's model replaces the recipe's backbone and head; the caller's backbone the recipe's number of levels.
    if explicit.model and not (explicit.backbone or explicit.head):
        options = dataclasses.replace(options, backbone=None, head=None, backbone_levels=explicit.backbone_levels)
    elif (explicit.backbone or explicit.head) and not explicit.model:
        options = dataclasses.replace(options, model=None)
    if explicit.backbone:
        options = dataclasses.replace(options, backbone_levels=explicit.backbone_levels)
    # Two ways to sample a crop: that of the caller replaces that of the recipe.
    if explicit.crop_area is not None:
        options = dataclasses.replace(
            options, resize_short_side=explicit.resize_short_side, crop_padding=explicit.crop_padding
        )
    elif explicit.resize_short_side is not None:
        options = dataclasses.replace(options, crop_area=None)
    if explicit.schedule:
        options = dataclasses.replace(options, milestones=explicit.milestones, gamma=explicit.gamma)
    if (explicit.milestones or explicit.gamma is not None) and options.schedule != "multistep":
        raise UserError("--milestones and --gamma need --schedule multistep: add it, or leave them out.")
    if options.model is None:
        options = options.merge_defaults(Options(backbone=task.defaults.backbone, head=task.defaults.head))
    if options.loss is not None and options.loss not in task.losses:
        raise unknown_name(f"loss of the task {task.name}", options.loss, task.losses)
    return ResolvedOptions.of(
        options.merge_defaults(
            Options(
                data=task.defaults.data,
                loss=task.losses[0],
                backbone_lr_factor=0.1 if options.weights else 1.0,
                steps=None if options.epochs else 1000,
            )
        )
    )


def default_recipe(task: Task, data: str | None) -> str:
    """The recipe without `--recipe`: that for photos if the dataset is registered and contains photos."""
    if data in DATASETS and dataset_class(data).photos:
        return task.defaults.photo_recipe or task.defaults.recipe
    return task.defaults.recipe


def backbone_options(options: ResolvedOptions) -> dict[str, Any]:
    """Options of the backbone for `create_backbone`."""
    stated = {"levels": options.backbone_levels, "stride_in": options.stride_in}
    return {name: value for name, value in stated.items() if value is not None}


def open_training_set(options: ResolvedOptions) -> Dataset:
    """Open the training split of the dataset in the options."""
    return open_dataset(str(options.data), options.root, "train", seed=options.seed)


def open_evaluation_set(options: ResolvedOptions, train_set: Dataset) -> Dataset:
    """Open the evaluation split; the last split of the training dataset if none is stated."""
    if options.eval_data is not None:
        split = options.eval_split or dataset_class(options.eval_data).splits[-1]
        return open_dataset(options.eval_data, options.eval_root, split)
    root = options.eval_root or options.root
    return open_dataset(str(options.data), root, options.eval_split or train_set.splits[-1])


def training_samples(train_set: Dataset, options: ResolvedOptions) -> int | None:
    """Number of samples of an epoch; None for an infinite dataset.

    Raises:
        UserError: the training split is empty.
    """
    if options.train_samples is None and train_set.infinite:
        return None
    count = len(train_set) if options.train_samples is None else min(len(train_set), options.train_samples)
    if count == 0:
        raise UserError(f"The training split of '{options.data}' contains no sample.")
    return count


def require_own_types(task: Any, options: Any, data: Any, eval_data: Any) -> None:
    """Check the objects that a caller passes to `train`.

    Raises:
        UserError: an object is not of the expected class; the message says how to make one.
    """
    if not isinstance(task, Task):
        raise UserError(
            f"The task is {task!r}; it must be the name of a task, or an instance of a subclass of "
            "densevision.tasks.task.Task."
        )
    if not isinstance(options, Options):
        raise UserError(f"options is a {type(options).__name__}; it must be Options(...): or pass options by name.")
    for name, one in (("data", data), ("eval_data", eval_data)):
        if one is not None and not isinstance(one, (str, Dataset)):
            raise UserError(
                f"{name} is a {type(one).__name__}; it must be the name of a dataset, or an instance of a subclass of "
                "densevision.datasets.dataset.Dataset with `fields`, `__len__` and `read(index)`, which may call your "
                "own code."
            )
        if isinstance(one, Dataset):
            missing = [part for part in ("fields", "split", "title", "terms") if not hasattr(one, part)]
            if missing:
                raise UserError(
                    f"The dataset {type(one).__name__} has no attribute {' and no '.join(missing)}: set `title` and "
                    "`terms` in the class and `fields` in `__init__`, which calls super().__init__(root, split)."
                )


def require_valid_sample(task: Task, dataset: Dataset) -> None:
    """Check that the first sample has the shapes and types of its fields.

    Raises:
        UserError: a value does not; the message names the sample and the field.
    """
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
    for field, field_type in {**task.inputs(dataset.fields), **task.targets(dataset.fields)}.items():
        value, where = sample.get(field), f"{name} of {dataset.title}, field '{field}'"
        if field_type.rank and not isinstance(value, np.ndarray):
            found = "missing" if value is None else f"a {type(value).__module__}.{type(value).__name__}"
            raise UserError(f"{where}: expected a numpy array, found {found}; convert it in `read`.")
        value = np.asarray(value)
        mismatch = field_type.check(value)
        if value.ndim != field_type.rank and mismatch is None:
            mismatch = f"{field_type.rank} axes", "x".join(map(str, value.shape))
        if mismatch is not None:
            raise UserError(
                f"{where}: expected {mismatch[0]}, found {mismatch[1]}; images are (H, W, C), maps (H, W): transpose "
                "or convert the array in `read`."
            )


def require_classes(task: Task, train_set: Dataset) -> None:
    """Check that a field of classes has more than one: with a single class, every loss is 0 and every score perfect.

    Raises:
        UserError: there is one class, or none.
    """
    for field, field_type in task.targets(train_set.fields).items():
        if isinstance(field_type, (ClassLabel, SegmentationMask)) and len(field_type.names) < 2:
            names = ", ".join(f"'{name}'" for name in field_type.names) or "none"
            raise UserError(
                f"There is nothing to learn: the field '{field}' of {train_set.title} has fewer than two classes "
                f"({names}); check that --root is the folder that contains one folder per class, or the class names."
            )


@contextmanager
def run_folder_errors(folder: Path | None) -> Iterator[None]:
    """Raise a `UserError` if a run folder cannot be read or created."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{folder} cannot be used as a run folder ({reason}): give another --out.") from error


def run_folder(task: Task, explicit: Options) -> Path:
    """The run folder: --out; else the newest run with --resume, or runs/TASK-N with the next free N.

    Raises:
        UserError: --out already contains a run, or there is no run to resume.
    """
    runs = Path("runs")
    numbered = sorted(
        (int(path.name.rsplit("-", 1)[1]), path)
        for path in runs.glob(f"{task.name}-*")
        if path.name.rsplit("-", 1)[1].isdigit()
    )
    if explicit.resume:
        folder = explicit.out or (numbered[-1][1] if numbered else None)
        if folder is None:
            raise UserError(f"There is no run of '{task.name}' under runs/ to resume; give its folder with --out.")
        if not (folder / "last" / "state.pt").exists():
            raise UserError(
                f"{folder} cannot be resumed: it contains no last/state.pt. Start a new run with another --out."
            )
        return folder
    if explicit.out is not None:
        if (explicit.out / "last" / "state.pt").exists():
            raise UserError(
                f"{explicit.out} already contains a run: add --resume to continue it, or give another --out."
            )
        if (explicit.out / "config.yaml").exists():
            raise UserError(f"{explicit.out} contains a run that was never saved: delete it, or give another --out.")
        return explicit.out
    return runs / f"{task.name}-{numbered[-1][0] + 1 if numbered else 1}"


def resume_options(explicit: Options, folder: Path) -> Options:
    """Options of the run to resume; the caller may repeat them and change those in `CHANGEABLE_ON_RESUME`.

    Raises:
        UserError: an option that contradicts the run, or a config.yaml that is missing or incomplete.
    """
    stored = Options.read(folder / "config.yaml")
    lost = [name for name in ALWAYS_STORED if getattr(stored, name) is None]
    if lost:
        raise damaged_file(folder / "config.yaml", f"it lacks '{lost[0]}'")
    for name, value in explicit.explicit().items():
        before = getattr(stored, name)
        if name not in CHANGEABLE_ON_RESUME and value != before:
            option = f"--{name.replace('_', '-')}"
            was = f"without {option}" if before is None else f"with {option} {before}, not {value}"
            raise UserError(
                f"--resume continues {folder} {was}; leave the option out, or start a new run with --init-from."
            )
    changes = {name: getattr(explicit, name) for name in CHANGEABLE_ON_RESUME if getattr(explicit, name) is not None}
    if explicit.steps or explicit.epochs:
        changes = {"steps": None, "epochs": None, **changes}
    return dataclasses.replace(stored, **{**changes, "resume": True})


def resume_task(task: Task, folder: Path) -> Task:
    """Task of the run to resume, with its options; the caller may leave them out, but not change them.

    Raises:
        UserError: another task, other options of the task, or a task.json that is missing or damaged.
    """
    path = folder / "task.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        name, options = stored["task"], stored["options"]
        before = type(task)(**options) if name == task.name else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged_file(path, getattr(error, "strerror", None) or f"{type(error).__name__}: {error}") from error
    if before is None:
        raise UserError(f"{folder} is a run of '{name}', not of '{task.name}'.")
    if task not in (before, type(task)()):
        raise UserError(f"--resume continues {folder} with {before}, not {task}; leave out the task's options.")
    return before


def damaged_file(path: Path, reason: str) -> UserError:
    """The error for a file of a run folder without which the run cannot be resumed."""
    return UserError(
        f"{path} is missing or damaged ({reason}): restore it from a copy, or start a new run from the weights with "
        f"--init-from {path.parent / 'last' / 'checkpoint.safetensors'} and another --out."
    )
