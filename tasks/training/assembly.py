"""From options to a run that can be followed: names become sets and networks, and an earlier run is picked up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from ...datasets import DATASETS, open_dataset
from ...datasets.augmentation import Augmentation
from ...datasets.dataset import Dataset, World
from ...errors import UserError, unknown_name
from .. import create_task
from ..blueprint import Blueprint
from ..device import choose_device, share_cores, use_bf16
from ..task import Network, Task
from .checkpoint import load_state, start_from
from .options import Options, Settled
from .run import Run
from .stream import TrainingView

MAY_CHANGE_ON_RESUME = ("workers", "threads", "log_every", "save_every", "out", "resume", "root", "eval_root")
"""What a continued run may be told anew; everything else would make it another run."""


def assemble(
    task: str | Task,
    options: Options,
    data: Dataset | str | None,
    eval_data: Dataset | str | None,
    stated: dict[str, Any],
) -> Run:
    """A run at its first step, or at the step an earlier try saved.

    Raises:
        UserError: a choice that cannot be, in one sentence.
    """
    task = create_task(task) if isinstance(task, str) else task
    given = Options.from_plain(stated, "train()").over(options)
    if data is not None:
        given = dataclasses.replace(given, data=name_of(data))
    if eval_data is not None:
        given = dataclasses.replace(given, eval_data=name_of(eval_data))
    folder = run_folder(task, given)
    if given.resume:
        given, task = continued(given, folder), same_task(task, folder)
    options = settled(task, given).checked()

    train_set = data if isinstance(data, Dataset) else open_training_set(options)
    if isinstance(data, Dataset) and options.eval_data is None:
        raise UserError("train(data=...) got an opened set: pass the set to evaluate on as eval_data=...")
    eval_set = eval_data if isinstance(eval_data, Dataset) else open_evaluation_set(options, train_set)
    assert options.size is not None
    train_set, eval_set = train_set.at(options.size), task.examined(eval_set.at(options.size))
    train_samples = training_samples(train_set, options)

    device = choose_device(options.device)
    threads, workers = share_cores(device, isinstance(train_set, World) and train_set.costly)
    options = Settled.of(options.over(Options(threads=threads, workers=workers)))
    torch.set_num_threads(options.threads or threads)
    blueprint = Blueprint(
        task,
        train_set.fields,
        backbone=None if options.network else options.backbone,
        backbone_options=trunk_options(options),
        head=None if options.network else options.head,
        network=options.network,
    )
    # The initial weights depend on the seed alone, not on what was drawn before in this process.
    torch.manual_seed(options.seed)
    model = blueprint.build(options.weights)
    blueprint = blueprint.settled(model)
    if options.init is not None:
        start_from(model, blueprint, options.init)
    if task.classes(train_set.fields) and options.area is None:
        crop_as_trained(model, (options.scale or options.size)[0], options.size[0])
    if not options.resume:
        task.fit(model, train_set)
    run = Run(
        options=options,
        folder=folder,
        blueprint=blueprint,
        model=model,
        view=TrainingView(
            train_set,
            task,
            options.size,
            Augmentation(
                flip=options.flip,
                rotate=options.rotate,
                zoom=options.zoom,
                scale=options.scale,
                pad=options.pad,
                area=options.area,
            ),
            options.colour,
            options.seed,
        ),
        eval_set=eval_set,
        train_samples=train_samples,
        device=device,
        bf16=use_bf16(options.amp, device),
    )
    if options.resume:
        run.restore(load_state(folder / "last" / "state.pt"))
    run.open()
    return run


def crop_as_trained(model: Network, resize: int, crop: int) -> None:
    """A classifier that is trained on crops of a scale is asked on crops of it: that belongs to its preprocessing.

    Crops of random area have no one scale: their classifiers keep the usual proportion of the resize to the crop.
    """
    trunk = getattr(model, "backbone", None)
    if trunk is not None:
        trunk.preprocessing = dataclasses.replace(trunk.preprocessing, resize=resize, crop=crop)


def name_of(data: Dataset | str) -> str:
    """What the catalogue calls a set, or its class's name where the catalogue does not hold it."""
    if isinstance(data, str):
        return data
    place = f"{type(data).__module__}:{type(data).__name__}"
    return next((name for name, line in DATASETS.items() if place.endswith(f".{line}")), type(data).__name__)


def settled(task: Task, given: Options) -> Settled:
    """The caller's choices over the recipe's over the base's, with the task's default network and data."""
    name = given.recipe or task.default.recipe
    if name not in task.recipes:
        raise unknown_name(f"recipe of the task {task.name}", name, task.recipes)
    recipe = dataclasses.replace(task.recipes[name], recipe=name)
    if given.steps and given.epochs:
        raise UserError("--steps and --epochs are two ways to say the same thing: give one of them.")
    if given.steps or given.epochs:
        recipe = dataclasses.replace(recipe, steps=None, epochs=None)
    options = given.over(recipe)
    # What the caller names replaces the recipe's: a whole network its trunk and head, a trunk its own number of levels.
    if given.network and not (given.backbone or given.head):
        options = dataclasses.replace(options, backbone=None, head=None, levels=given.levels)
    elif (given.backbone or given.head) and not given.network:
        options = dataclasses.replace(options, network=None)
    if given.backbone:
        options = dataclasses.replace(options, levels=given.levels)
    # Two ways to draw a crop: what the caller says replaces what the recipe says.
    if given.area is not None:
        options = dataclasses.replace(options, scale=given.scale, pad=given.pad)
    elif given.scale is not None:
        options = dataclasses.replace(options, area=None)
    if options.network is None:
        options = options.over(Options(backbone=task.default.backbone, head=task.default.head))
    if options.loss is not None and options.loss not in task.losses:
        raise unknown_name(f"loss of the task {task.name}", options.loss, task.losses)
    return Settled.of(
        options.over(
            Options(
                data=task.default.data,
                loss=task.losses[0],
                trunk_lr=0.1 if options.weights else 1.0,
                steps=None if options.epochs else 1000,
            )
        )
    )


def trunk_options(options: Settled) -> dict[str, Any]:
    """What the caller says of the trunk, for `create_backbone`."""
    return {name: value for name in ("levels", "stride_in") if (value := getattr(options, name)) is not None}


def open_training_set(options: Settled) -> Dataset:
    """The set that is trained on, by name."""
    return open_dataset(str(options.data), options.root, "train", seed=options.seed)


def open_evaluation_set(options: Settled, train_set: Dataset) -> Dataset:
    """The split that is evaluated on; by default the last split of the training set."""
    if options.eval_data is not None:
        from ...datasets import dataset_class

        found = dataset_class(options.eval_data)
        return open_dataset(options.eval_data, options.eval_root, options.eval_split or found.splits[-1])
    root = options.eval_root or options.root
    return open_dataset(str(options.data), root, options.eval_split or train_set.splits[-1])


def training_samples(train_set: Dataset, options: Settled) -> int | None:
    """How many samples the training goes through again and again; None for a stream.

    Raises:
        UserError: an empty set.
    """
    if options.train_samples is None and train_set.unbounded:
        return None
    count = len(train_set) if options.train_samples is None else min(len(train_set), options.train_samples)
    if count == 0:
        raise UserError(f"The training split of '{options.data}' holds no sample.")
    return count


def run_folder(task: Task, given: Options) -> Path:
    """Where the run lies: --out, the newest run with --resume, else the next free number.

    Raises:
        UserError: --out holds a run already, or there is nothing to resume.
    """
    runs = Path("runs")
    numbered = sorted(
        (int(path.name.rsplit("-", 1)[1]), path)
        for path in runs.glob(f"{task.name}-*")
        if path.name.rsplit("-", 1)[1].isdigit()
    )
    if given.resume:
        folder = given.out or (numbered[-1][1] if numbered else None)
        if folder is None:
            raise UserError(f"There is no run of '{task.name}' under runs/ to resume; say which with --out DIR.")
        if not (folder / "last" / "state.pt").exists():
            raise UserError(f"There is nothing to resume in {folder}: it holds no last/state.pt. Start anew elsewhere.")
        return folder
    if given.out is not None:
        if (given.out / "last" / "state.pt").exists():
            raise UserError(f"{given.out} holds a run already: add --resume to continue it, or give another --out.")
        if (given.out / "config.yaml").exists():
            raise UserError(f"{given.out} holds a run that was never saved: delete it, or give another --out.")
        return given.out
    return runs / f"{task.name}-{numbered[-1][0] + 1 if numbered else 1}"


def continued(given: Options, folder: Path) -> Options:
    """The options of an earlier try; the caller may repeat them, and change only what does not change the run.

    Raises:
        UserError: naming the option that contradicts the earlier run.
    """
    stored = Options.read(folder / "config.yaml")
    for name, value in given.stated().items():
        before = getattr(stored, name)
        if name not in MAY_CHANGE_ON_RESUME and value != before:
            option = f"--{name.replace('_', '-')}"
            was = f"without {option}" if before is None else f"with {option} {before}, not {value}"
            raise UserError(f"--resume continues {folder} {was}; leave the option out, or start a new run with --init.")
    kept = {name: getattr(given, name) for name in MAY_CHANGE_ON_RESUME if getattr(given, name) is not None}
    return dataclasses.replace(stored, **{**kept, "resume": True})


def same_task(task: Task, folder: Path) -> Task:
    """The task of an earlier try with the options it had; the caller may leave them out, but not change them.

    Raises:
        UserError: another task, or another choice of its options.
    """
    stored = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    if stored["task"] != task.name:
        raise UserError(f"{folder} is a run of '{stored['task']}', not of '{task.name}'.")
    before = type(task)(**stored["options"])
    if task not in (before, type(task)()):
        raise UserError(f"--resume continues {folder} with {before}, not {task}; leave the task's options out.")
    return before
