"""A training from options: `train`, and the trainer of a new or resumed run with its datasets and model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...datasets import DATASETS, dataset_class, open_dataset
from ...datasets.core.augmentation import Augmentation
from ...datasets.core.problems import sample_errors
from ...datasets.dataset import Dataset, FirstSamples, SyntheticDataset
from ...datasets.field_types import ClassLabel, SegmentationMask
from ...errors import UserError, unknown_name
from .. import create_task
from ..checkpoint import load_initial_weights
from ..crops import CropInference
from ..device import choose_device, keep_freed_memory, split_cpu_cores
from ..evaluation import require_ground_truth
from ..model_spec import ModelSpec
from ..task import Task
from .budget import limit_steps
from .data import AugmentedDataset
from .interruption import graceful_interrupt
from .lr_finder import find_lr
from .optimizers import count_parameters, train_mode
from .options import Options, flag, resolve
from .state import config_options, load_state, resume_options, resume_task, run_folder, run_folder_errors
from .trainer import Trainer


def train(
    task: str | Task,
    options: Options | None = None,
    *,
    data: Dataset | str | None = None,
    eval_data: Dataset | str | None = None,
    on_step: Callable[[int], None] | None = None,
    **options_by_name: Any,
) -> dict[str, Any]:
    """Train a model.

    >>> train("depth", data=my_dataset, steps=1000, out="runs/mine")  # doctest: +SKIP

    Args:
        task: name of a task, or a task with its own options.
        options: training options; missing ones come from the recipe, then from the task, then from the defaults.
        data: training dataset by name, or the training split as a `Dataset` object.
        eval_data: evaluation dataset in the same way; required if `data` is an object.
        on_step: called after every optimizer step with the number of steps done.
        options_by_name: options by name; they override `options`.

    Returns:
        The contents of result.json in the run folder; with `find_lr`, those of find-lr.json; with `dry_run`, what
        `summarize` returns.

    Raises:
        UserError: invalid options, or a damaged sample (`SampleError` if reading it failed).
        KeyboardInterrupt: the run was interrupted, with the signal as argument; its state is saved.
    """
    started, threads = time.monotonic(), torch.get_num_threads()
    trainer = build_trainer(task, options or Options(), data, eval_data, options_by_name)
    with graceful_interrupt() as trainer.interruption, trainer.log.heartbeat():
        try:
            if trainer.options.dry_run:
                return summarize(trainer)
            if trainer.options.find_lr:
                return find_lr(trainer)
            if trainer.options.minutes is not None:
                limit_steps(trainer, started)
            return trainer.run(on_step)
        finally:
            trainer.close()
            torch.set_num_threads(threads)


def build_trainer(
    task: str | Task,
    options: Options,
    data: Dataset | str | None,
    eval_data: Dataset | str | None,
    overrides: dict[str, Any],
) -> Trainer:
    """Build the trainer of a new run, or of an interrupted run at its saved step; arguments as in `train`."""
    task = create_task(task) if isinstance(task, str) else task
    require_own_types(task, options, data, eval_data)
    explicit = Options.from_plain(overrides, "train()").merge_defaults(options.require_types("Options"))
    stated = {name: one for name, one in (("data", data), ("eval_data", eval_data)) if one is not None}
    explicit = dataclasses.replace(explicit, **{name: registry_name(one) for name, one in stated.items()})
    if explicit.config is not None:
        explicit, task = config_options(explicit, task)
    with run_folder_errors(explicit.out):
        folder = run_folder(task, explicit)
    if explicit.resume:
        explicit, task = resume_options(explicit, folder), resume_task(task, folder)
    options = resolve_options(task, explicit).validate()

    if isinstance(data, Dataset) and options.eval_data is None:
        raise UserError("train(data=...) got a Dataset object: pass the dataset to evaluate on as eval_data=...")
    if isinstance(data, Dataset):
        train_set = data
    else:
        train_set = open_dataset(str(options.data), options.root, "train", seed=options.seed)
    eval_set = eval_data if isinstance(eval_data, Dataset) else open_evaluation_set(options, train_set)
    # The package's loaders check what they read; a sample without ground truth is none of their errors.
    for given, dataset in ((data, train_set), (eval_data, eval_set)):
        if isinstance(given, Dataset):
            require_valid_sample(task, dataset)
    require_classes(task, train_set)
    train_set = train_set.with_size(options.image_size)
    eval_set = task.evaluation.dataset(eval_set.with_size(options.image_size))
    train_samples = training_samples(train_set, options)

    device = choose_device(options.device)
    threads, workers = split_cpu_cores(device, isinstance(train_set, SyntheticDataset) and train_set.cpu_heavy)
    options = options.merge_defaults(Options(threads=threads, workers=workers))
    torch.set_num_threads(options.threads or threads)
    if device.type == "cpu":
        keep_freed_memory()
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
    if model.backbone is None:
        options = without_backbone(options, explicit)
    if options.init_from is not None:
        load_initial_weights(model, model_spec, options.init_from)
    if model.backbone is not None and isinstance(task.inference, CropInference) and options.crop_area is None:
        # Inference at the scale of training. Random resized crops have none: theirs is the default ratio to the crop.
        resize = (options.resize_short_side or options.image_size)[0]
        preprocessing = dataclasses.replace(model.backbone.preprocessing, resize=resize, crop=options.image_size[0])
        model.backbone.preprocessing = preprocessing
    # As many samples as it trains on.
    measured = train_set if options.train_samples is None else FirstSamples(train_set, train_samples or 0)
    found = None if options.resume else model.calibrate(measured)
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
    )
    if found:
        trainer.notes.append(found)
    if model.inference_noise:
        trainer.notes.append(
            f"Note: this model is random at inference and cannot be exported: {model.inference_noise}."
        )
    if skipped := {*train_set.skipped, *eval_set.skipped}:
        trainer.notes.append(
            f"Note: {len(skipped)} problem(s) of the data were passed over or repaired; list them with"
            " 'densevision data validate'."
        )
    require_ground_truth(task, eval_set, trainer.evaluator.protocol, options.eval_samples)
    try:
        if not options.dry_run:
            with run_folder_errors(folder):
                trainer.lock_folder()
        if options.resume:
            trainer.restore(load_state(folder / "last" / "state.pt"))
        if not options.dry_run:
            with run_folder_errors(folder):
                trainer.open()
    except BaseException:
        trainer.close()
        raise
    return trainer


def registry_name(data: Dataset | str) -> str:
    """Registry name of a dataset, or the name of its class if it is not registered."""
    if isinstance(data, str):
        return data
    path = f"{type(data).__module__}:{type(data).__name__}"
    return next((name for name, entry in DATASETS.items() if path.endswith(f".{entry}")), type(data).__name__)


def resolve_options(task: Task, explicit: Options) -> Options:
    """The options of a run of a task, with its recipe: see `resolve`."""
    name = explicit.recipe or default_recipe(task, explicit.data)
    if name not in task.recipes:
        raise unknown_name(f"recipe of the task {task.name}", name, task.recipes)
    recipe, defaults = dataclasses.replace(task.recipes[name], recipe=name), task.defaults
    of_task = Options(data=defaults.data, backbone=defaults.backbone, head=defaults.head, loss=task.losses[0])
    options = resolve(explicit, recipe, of_task)
    if options.loss not in task.losses:
        raise unknown_name(f"loss of the task {task.name}", options.loss, task.losses)
    return options


def default_recipe(task: Task, data: str | None) -> str:
    """The recipe without `--recipe`: that for photos if the dataset is registered and contains photos."""
    if data in DATASETS and dataset_class(data).photos:
        return task.defaults.photo_recipe or task.defaults.recipe
    return task.defaults.recipe


def without_backbone(options: Options, explicit: Options) -> Options:
    """The options for a model without a backbone: what a recipe, not the caller, states for one has no effect."""
    absent: dict[str, Any] = {"freeze_backbone": False, "freeze_bn": False, "backbone_lr_factor": 1.0}
    for name, value in absent.items():
        if getattr(explicit, name) not in (None, value):
            raise UserError(f"{flag(name)} needs a model with a backbone; this model has none.")
    return dataclasses.replace(options, **absent)


def backbone_options(options: Options) -> dict[str, Any]:
    """Options of the backbone for `create_backbone`."""
    stated = {"levels": options.backbone_levels, "stride_in": options.stride_in}
    return {name: value for name, value in stated.items() if value is not None}


def open_evaluation_set(options: Options, train_set: Dataset) -> Dataset:
    """Open the evaluation split; the last split of the training dataset if none is stated."""
    if options.eval_data is not None:
        split = options.eval_split or dataset_class(options.eval_data).splits[-1]
        return open_dataset(options.eval_data, options.eval_root, split)
    root = options.eval_root or options.root
    return open_dataset(str(options.data), root, options.eval_split or train_set.splits[-1])


def training_samples(train_set: Dataset, options: Options) -> int | None:
    """Number of samples of an epoch, at least 1; None for an infinite dataset."""
    if options.train_samples is None and train_set.infinite:
        return None
    count = len(train_set) if options.train_samples is None else min(len(train_set), options.train_samples)
    if count == 0:
        raise UserError(f"The training split of '{options.data}' contains no sample.")
    return count


def require_own_types(task: Any, options: Any, data: Any, eval_data: Any) -> None:
    """Check the classes of the objects that a caller passes to `train`; errors say how to make one."""
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
        if field_type.rank and not isinstance(value, np.ndarray):
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


def require_classes(task: Task, train_set: Dataset) -> None:
    """Check that a field of classes has more than one: with a single class, every loss is 0 and every score perfect."""
    for field, field_type in task.targets(train_set.fields).items():
        if isinstance(field_type, (ClassLabel, SegmentationMask)) and len(field_type.names) < 2:
            names = ", ".join(f"'{name}'" for name in field_type.names) or "none"
            raise UserError(
                f"There is nothing to learn: the field '{field}' of {train_set.title} has fewer than two classes "
                f"({names}); check that --root is the folder that contains one folder per class, or the class names."
            )


def summarize(trainer: Trainer) -> dict[str, Any]:
    """What a run would train: options, model and one batch. The trainer cannot be used afterwards.

    Returns:
        options: the resolved options. parameters: their number. multiply_adds: of the convolutions and matrix products
        of one forward pass for one image. memory_per_image: bytes that the activations of one image take until the
        backward pass of a training step, without the weights. batch: shape of each tensor of a batch.
    """
    batch = trainer.to_device(next(trainer.data_loader(1, workers=0)))
    # What four images take more than two: weights converted to bf16, for example, do not grow with the batch. Two are
    # the fewest with which BatchNorm works.
    images = {name: tensor[torch.arange(4) % len(tensor)] for name, tensor in batch.items()}
    train_mode(trainer.model, trainer.options)
    few, more = (
        trainer.phase_runner.activation_bytes({name: tensor[:count].clone() for name, tensor in images.items()})
        for count in (2, 4)
    )
    trainer.model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trainer.model(*(images[name][:1] for name in trainer.task.inputs(trainer.training_set.dataset.fields)))
    return {
        "options": trainer.resolved_options().explicit(),
        "parameters": count_parameters(trainer.model),
        "multiply_adds": counter.get_total_flops() // 2,
        "memory_per_image": (more - few) // 2,
        "batch": {name: tuple(tensor.shape) for name, tensor in batch.items()},
    }
