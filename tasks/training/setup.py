"""A training from options: `train`, and the trainer of a new or resumed run with its datasets and model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...datasets import DATASETS, dataset_class, open_dataset
from ...datasets.core.augmentation import Augmentation
from ...datasets.dataset import Dataset, FirstSamples, SyntheticDataset
from ...datasets.field_types import ClassLabel, FieldType, SegmentationMask
from ...datasets.mixture import registry_name
from ...errors import UserError, unknown_name
from ...schema import create_dataclass
from .. import create_task
from ..checkpoint import load_initial_weights, provenance
from ..crops import CropInference
from ..device import choose_device, keep_freed_memory, split_cpu_cores
from ..distributed import ProcessGroup
from ..evaluation import require_ground_truth
from ..model_spec import ModelOrigin, ModelSpec
from ..network import Network
from ..own_data import Data, as_dataset, is_folder_pair, open_folder_pair, require_same_targets
from ..task import Task
from .budget import limit_steps
from .callbacks import require_callbacks
from .data import AugmentedDataset
from .interruption import graceful_interrupt
from .lr_finder import find_lr
from .optimizers import count_parameters, train_mode
from .options import Options, flag, resolve
from .own_loss import OwnLoss, loss_name, require_callable, require_loss
from .state import (
    config_options,
    load_state,
    resume_options,
    resume_task,
    run_folder,
    run_folder_errors,
    start_or_resume,
)
from .trainer import Trainer

OWN = " (own)"
"""End of the name of a loss of the caller's own in config.yaml."""


@torch.enable_grad()  # notebooks switch gradients off for all that follows
def train(
    task: str | Task,
    options: Options | None = None,
    *,
    data: Data | None = None,
    eval_data: Data | None = None,
    loss: str | OwnLoss | None = None,
    callbacks: Sequence[Any] = (),
    on_step: Callable[[int], None] | None = None,
    **options_by_name: Any,
) -> dict[str, Any]:
    """Train a model.

    >>> train("depth", data=my_samples, eval_data=my_test_samples, steps=1000, out="runs/mine")  # doctest: +SKIP

    Args:
        task: name of a task, or a task with its own options.
        options: training options; missing ones come from the recipe, then from the task, then from the defaults.
        data: training data: a dataset by name; a `Dataset`; a list of dictionaries, a dataset of PyTorch, or any object
            with `__len__` and `read` or `__getitem__` (`datasets.samples.Samples` says what a sample is); a pair of
            folders, inputs first; a mixture (`densevision.mix`). Its first sample is checked before the first step.
        eval_data: evaluation data in the same way; required if `data` is neither a name nor a pair of folders.
        loss: name of a loss of the task; or a loss of your own, a function or module of (output, batch) or a loss of
            `torch.nn`, see `own_loss.OwnLoss`.
        callbacks: objects with the methods `on_step`, `on_evaluate`, `on_save`, `on_exception` or `on_finish`, see
            `callbacks.Callback`.
        on_step: called after every optimizer step with the number of steps done.
        options_by_name: options by name; they override `options`.

    Returns:
        The contents of result.json in the run folder; with `find_lr`, those of find-lr.json; with `dry_run`, what
        `summarize` returns.

    Raises:
        UserError: invalid options or objects, or a damaged sample (`SampleError` if reading it failed).
        KeyboardInterrupt: the run was interrupted, with the signal as argument; its state is saved.
    """
    started, threads = time.monotonic(), torch.get_num_threads()
    own_loss = None if loss is None or isinstance(loss, str) else require_callable(loss)
    if isinstance(loss, str):
        options_by_name["loss"] = loss
    callbacks = require_callbacks(callbacks)
    trainer = build_trainer(task, options or Options(), data, eval_data, options_by_name, own_loss)
    trainer.callbacks = callbacks
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
    data: Data | None,
    eval_data: Data | None,
    overrides: dict[str, Any],
    own_loss: OwnLoss | None = None,
) -> Trainer:
    """Build the trainer of a new run, or of an interrupted run at its saved step; arguments as in `train`."""
    task = create_task(task) if isinstance(task, str) else task
    require_own_types(task, options)
    # As a resumed run reads them from its folder: 5 is 5.0 where an option is a float.
    task = create_dataclass(type(task), dataclasses.asdict(task), "The task", "change its options")  # type: ignore[call-overload]
    explicit = Options.from_plain(overrides, "train()").merge_defaults(options.require_types("Options"))
    if eval_data is None and data is not None and is_folder_pair(data):
        eval_data = open_folder_pair(task, data, "test")
    if data is not None and not isinstance(data, str):
        data = as_dataset(task, data)
    if eval_data is not None and not isinstance(eval_data, str):
        fields = data.fields if isinstance(data, Dataset) else None
        eval_data = as_dataset(task, eval_data, "eval_data", "test", fields)
    stated = {name: one for name, one in (("data", data), ("eval_data", eval_data)) if one is not None}
    explicit = dataclasses.replace(explicit, **{name: registry_name(one) for name, one in stated.items()})
    if own_loss is not None:
        explicit = dataclasses.replace(explicit, loss=f"{loss_name(own_loss)}{OWN}")
    if auto := explicit.resume == "auto":
        explicit = start_or_resume(explicit)
    if explicit.config is not None:
        explicit, task = config_options(explicit, task)
    with run_folder_errors(explicit.out):
        folder = run_folder(task, explicit, restart=auto)
    if explicit.resume:
        explicit, task = resume_options(explicit, folder), resume_task(task, folder)
    options = resolve_options(task, explicit, own_loss).validate()

    if isinstance(data, Dataset) and options.eval_data is None:
        raise UserError("train(data=...) got data of your own: pass the data to evaluate on as eval_data=...")
    if isinstance(data, Dataset):
        train_set = data
    else:
        train_set = open_dataset(str(options.data), options.root, "train", seed=options.seed)
        train_set = train_set if options.cache is None else train_set.with_cache(options.cache)
    eval_set = eval_data if isinstance(eval_data, Dataset) else open_evaluation_set(options, train_set)
    if isinstance(data, Dataset) or isinstance(eval_data, Dataset):
        require_same_targets(task, train_set, eval_set)
    require_classes(task, train_set)
    train_set = train_set.with_size(options.image_size)
    eval_set = task.evaluation.dataset(eval_set.with_size(options.image_size))
    train_samples = training_samples(train_set, options)

    device = choose_device(options.device)
    threads, workers = split_cpu_cores(device, isinstance(train_set, SyntheticDataset) and train_set.cpu_heavy)
    processes = ProcessGroup.from_environment().num_processes
    options = options.merge_defaults(Options(threads=threads, workers=workers, micro_batches=processes))
    require_shares(options, processes)
    torch.set_num_threads(options.threads or threads)
    if device.type == "cpu":
        keep_freed_memory()
    # Initial weights depend on the seed alone, not on earlier random numbers of this process.
    torch.manual_seed(options.seed)
    model = build_model(task, train_set.fields, options)
    model_spec = model.origin.model_spec
    if model.backbone is None:
        options = without_backbone(options, explicit)
    # As many samples as it trains on.
    measured = train_set if options.train_samples is None else FirstSamples(train_set, train_samples or 0)
    found = None if options.resume else model.calibrate(measured)
    trainer = Trainer(
        options=options,
        folder=folder,
        model_spec=model_spec,
        model=model,
        training_set=augmented_dataset(task, train_set, options),
        eval_set=eval_set,
        train_samples=train_samples,
        device=device,
        own_loss=own_loss,
    )
    if own_loss is not None:
        batch = trainer.to_device(next(trainer.data_loader(1, workers=0)))
        require_loss(trainer.phases, own_loss, batch, trainer.model)
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


def require_shares(options: Options, processes: int) -> None:
    """Check that every process has a micro-batch of each step, and with --sync-bn that all have as many."""
    count = options.micro_batches or 1
    if count < processes:
        raise UserError(
            f"--micro-batches is {count}, but there are {processes} processes, each of which needs one: start fewer "
            "processes, or a new run with more micro-batches."
        )
    if options.sync_bn and count % processes:
        raise UserError(
            f"--sync-bn normalizes by one micro-batch of each process at a time, and {count} micro-batches cannot be "
            f"shared equally by {processes} processes: start as many as divide {count}."
        )


def augmented_dataset(task: Task, train_set: Dataset, options: Options) -> AugmentedDataset:
    """The samples of a training split as a run with these options trains on them."""
    limits = Augmentation(
        hflip=options.hflip,
        max_rotation=options.max_rotation,
        max_zoom=options.max_zoom,
        resize_short_side=options.resize_short_side,
        crop_padding=options.crop_padding,
        crop_area=options.crop_area,
    )
    return AugmentedDataset(train_set, task, options.image_size, limits, options.color_jitter, options.seed)


def build_model(task: Task, fields: dict[str, FieldType], options: Options) -> Network:
    """Build the model of a run from its resolved options, with initial weights and its `origin`.

    Args:
        task: the task.
        fields: field types of the training set.
        options: what `resolve_options` returned.

    Raises:
        UserError: an unknown name, or weights that do not fit.
    """
    model_spec = ModelSpec(
        task,
        fields,
        backbone=None if options.model else options.backbone,
        backbone_options=backbone_options(options),
        head=None if options.model else options.head,
        model=options.model,
    )
    model = model_spec.build(options.weights)
    model_spec = model_spec.with_weights_options(model)
    if options.init_from is not None:
        load_initial_weights(model, model_spec, options.init_from)
    if model.backbone is not None and isinstance(task.inference, CropInference) and options.crop_area is None:
        # Inference at the scale of training. Random resized crops have none: theirs is the default ratio to the crop.
        resize = (options.resize_short_side or options.image_size)[0]
        preprocessing = dataclasses.replace(model.backbone.preprocessing, resize=resize, crop=options.image_size[0])
        model.backbone.preprocessing = preprocessing
    model.origin = ModelOrigin(model_spec, options.image_size, provenance(options.weights, options.init_from))
    return model


def resolve_options(task: Task, explicit: Options, own_loss: OwnLoss | None = None) -> Options:
    """The options of a run of a task, with its recipe: see `resolve`."""
    name = explicit.recipe or default_recipe(task, explicit.data)
    if name not in task.recipes:
        raise unknown_name(f"recipe of the task {task.name}", name, task.recipes)
    recipe, defaults = dataclasses.replace(task.recipes[name], recipe=name), task.defaults
    of_task = Options(data=defaults.data, backbone=defaults.backbone, head=defaults.head, loss=task.losses[0])
    options = resolve(explicit, recipe, of_task)
    if own_loss is None and options.loss.endswith(OWN):
        raise UserError(
            f"The run has a loss of your own, {options.loss}: pass it again, as train(..., loss=...) in Python."
        )
    if own_loss is None and options.loss not in task.losses:
        raise unknown_name(f"loss of the task {task.name}", options.loss, task.losses)
    return options


def default_recipe(task: Task, data: str | None) -> str:
    """The recipe without `--recipe`: that for photos if the dataset is registered and contains photos."""
    if data in DATASETS and dataset_class(data).photos:
        return task.defaults.photo_recipe or task.defaults.recipe
    return task.defaults.recipe


def without_backbone(options: Options, explicit: Options) -> Options:
    """The options for a model without a backbone: what a recipe, not the caller, states for one has no effect."""
    absent: dict[str, Any] = {
        "freeze_backbone": False,
        "freeze_bn": False,
        "checkpoint_gradients": False,
        "backbone_lr_factor": 1.0,
    }
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
        split = options.eval_split or dataset_class(options.eval_data).splits_in(options.eval_root)[-1]
        return open_dataset(options.eval_data, options.eval_root, split)
    root = options.eval_root or options.root
    eval_set = open_dataset(str(options.data), root, options.eval_split or train_set.splits[-1])
    return eval_set if options.cache is None else eval_set.with_cache(options.cache)


def training_samples(train_set: Dataset, options: Options) -> int | None:
    """Number of samples of an epoch, at least 1; None for an infinite dataset."""
    if options.train_samples is None and train_set.infinite:
        return None
    count = len(train_set) if options.train_samples is None else min(len(train_set), options.train_samples)
    if count == 0:
        raise UserError(f"The training split of '{options.data}' contains no sample.")
    weights = train_set.sample_weights
    if weights is not None and np.shape(weights) != (len(train_set),):
        raise UserError(
            f"sample_weights of {train_set.title} has the shape {np.shape(weights)}; it must be a weight for each "
            f"of the {len(train_set)} samples."
        )
    return count


def require_own_types(task: Any, options: Any) -> None:
    """Check the classes of the objects that a caller passes to `train`; errors say how to make one."""
    if not isinstance(task, Task):
        raise UserError(
            f"The task is {task!r}; it must be the name of a task, or an instance of a subclass of "
            "densevision.tasks.task.Task."
        )
    if not isinstance(options, Options):
        raise UserError(f"options is a {type(options).__name__}; it must be Options(...): or pass options by name.")


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
