"""Setup of a run: options to a trainer, with datasets and model, new or resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from ...datasets import DATASETS, open_dataset
from ...datasets.dataset import Dataset, SyntheticDataset
from ...datasets.geometric_augmentation import Augmentation
from ...errors import UserError, unknown_name
from .. import create_task
from ..device import choose_device, split_cpu_cores, use_bf16
from ..model_spec import ModelSpec
from ..task import Network, Task
from .checkpoint import load_initial_weights, load_state
from .data import AugmentedDataset
from .options import Options, ResolvedOptions
from .trainer import Trainer

CHANGEABLE_ON_RESUME = ("workers", "threads", "log_every", "save_every", "out", "resume", "root", "eval_root")
"""Options that may change when a run is resumed; all others would make it another run."""


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
    explicit = Options.from_plain(overrides, "train()").merge_defaults(options)
    if data is not None:
        explicit = dataclasses.replace(explicit, data=registry_name(data))
    if eval_data is not None:
        explicit = dataclasses.replace(explicit, eval_data=registry_name(eval_data))
    folder = run_folder(task, explicit)
    if explicit.resume:
        explicit, task = resume_options(explicit, folder), resume_task(task, folder)
    options = resolve_options(task, explicit).validate()

    train_set = data if isinstance(data, Dataset) else open_training_set(options)
    if isinstance(data, Dataset) and options.eval_data is None:
        raise UserError("train(data=...) got a Dataset object: pass the dataset to evaluate on as eval_data=...")
    eval_set = eval_data if isinstance(eval_data, Dataset) else open_evaluation_set(options, train_set)
    assert options.image_size is not None
    train_set, eval_set = (
        train_set.with_size(options.image_size),
        task.evaluation_dataset(eval_set.with_size(options.image_size)),
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
    if task.num_classes(train_set.fields) and options.crop_area is None:
        set_crop_preprocessing(model, (options.resize_short_side or options.image_size)[0], options.image_size[0])
    if not options.resume:
        task.calibrate(model, train_set)
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
    trainer.create_run_folder()
    return trainer


def set_crop_preprocessing(model: Network, resize: int, crop: int) -> None:
    """Store the resize and crop of training in a classifier's preprocessing, so that inference uses the same scale.

    Random resized crops have no single scale: their classifiers keep the default ratio of resize to crop.
    """
    backbone = getattr(model, "backbone", None)
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
    name = explicit.recipe or task.defaults.recipe
    if name not in task.recipes:
        raise unknown_name(f"recipe of the task {task.name}", name, task.recipes)
    recipe = dataclasses.replace(task.recipes[name], recipe=name)
    if explicit.steps and explicit.epochs:
        raise UserError("--steps and --epochs are two ways to say the same thing: give one of them.")
    if explicit.steps or explicit.epochs:
        recipe = dataclasses.replace(recipe, steps=None, epochs=None)
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
        from ...datasets import dataset_class

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
        UserError: an option that contradicts the run.
    """
    stored = Options.read(folder / "config.yaml")
    for name, value in explicit.explicit().items():
        before = getattr(stored, name)
        if name not in CHANGEABLE_ON_RESUME and value != before:
            option = f"--{name.replace('_', '-')}"
            was = f"without {option}" if before is None else f"with {option} {before}, not {value}"
            raise UserError(
                f"--resume continues {folder} {was}; leave the option out, or start a new run with --init-from."
            )
    changes = {name: getattr(explicit, name) for name in CHANGEABLE_ON_RESUME if getattr(explicit, name) is not None}
    return dataclasses.replace(stored, **{**changes, "resume": True})


def resume_task(task: Task, folder: Path) -> Task:
    """Task of the run to resume, with its options; the caller may leave them out, but not change them.

    Raises:
        UserError: another task, or other options of the task.
    """
    stored = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    if stored["task"] != task.name:
        raise UserError(f"{folder} is a run of '{stored['task']}', not of '{task.name}'.")
    before = type(task)(**stored["options"])
    if task not in (before, type(task)()):
        raise UserError(f"--resume continues {folder} with {before}, not {task}; leave out the task's options.")
    return before
