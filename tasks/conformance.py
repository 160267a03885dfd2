"""Conformance checks of the `Task` contract, for any task: `check_task(MyTask())`."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..atomic_io import json_text
from ..backbones import create_backbone
from ..backbones.backbone import Backbone
from ..datasets import open_dataset
from ..datasets.core.augmentation import Augmentation
from ..datasets.core.randomness import Purpose, generator
from ..datasets.dataset import Dataset, FirstSamples, Sample, map_sizes
from ..datasets.field_types import Depth, Flow, Image, Mask, SegmentationMask
from ..errors import UserError
from .checkpoint import read_float_tensors, read_header, write_model
from .evaluation import score
from .heads import HEADS
from .inference import Predictor
from .model_spec import ModelSpec, restore_preprocessing
from .network import Batch, Network, Phase
from .prediction import Prediction
from .preprocessing import Preprocessor
from .task import Task
from .training.data import AugmentedDataset, InfiniteBatchSampler, data_loader
from .training.options import Options
from .training.setup import resolve_options

SIZE = (64, 96)
"""(height, width) of the images that are used: multiples of every usual stride, and not square."""

STATISTICS_SAMPLES = 50
"""Samples for statistics of the training set (the baseline, `calibrate`), which training takes from hundreds."""

STEP_LENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Step lengths against the gradient, relative to the weights, one of which must lower the loss."""

PER_PIXEL = (Image, Depth, Flow, SegmentationMask, Mask)

PredictFunction = Callable[[Sample], Prediction]


def check_task(task: Task, train_set: Dataset | None = None, eval_set: Dataset | None = None) -> None:
    """Check the complete contract on a few samples of the task's default dataset.

    Args:
        task: the task, with any options of its own.
        train_set, eval_set: datasets to use instead; required if the default dataset needs files.

    Raises:
        AssertionError: a violation of the contract; the message says which.
    """
    train_set = open_dataset(task.defaults.data, None, "train") if train_set is None else train_set
    eval_set = open_dataset(task.defaults.data, None, train_set.splits[-1]) if eval_set is None else eval_set
    train_set, eval_set = train_set.with_size(SIZE), task.evaluation.dataset(eval_set.with_size(SIZE))
    check_declarations(task, train_set)
    check_recipes(task)
    check_fields(task, train_set)
    check_augment(task, train_set)
    default = ModelSpec(task, train_set.fields, task.defaults.backbone, {}, task.defaults.head)
    if task.defaults.backbone is None:
        default = ModelSpec(task, train_set.fields, model=task.recipes[task.defaults.recipe].model)
    model = default.build()
    check_network(default, model, train_set)
    few = train_set
    if train_set.infinite or len(train_set) > STATISTICS_SAMPLES:
        few = FirstSamples(train_set, STATISTICS_SAMPLES)
    check_calibrate(default, model, few)
    for name in task.models:
        spec = ModelSpec(task, train_set.fields, model=name)
        with torch.device("meta"):
            try:
                model_alone = spec.build()
            except UserError as error:
                assert "--" in str(error), f"The model '{name}' is refused without the option that it needs: {error}"
                continue
            check_network_contract(spec, model_alone, train_set)
    baseline = task.baseline(few)
    check_metrics(task, baseline, eval_set)
    check_predictions(default, model, baseline, eval_set)


def check_declarations(task: Task, dataset: Dataset) -> None:
    """Names and defaults are valid, and the task's own options survive JSON and pickling."""
    assert task.name and task.title and task.paper, "A task needs a name, a title and a paper."
    assert task.losses and task.protocols and task.recipes, (
        "A task needs at least one loss, one protocol and one recipe."
    )
    assert task.inference.modes, "A task needs at least one input mode."
    heads = (*task.heads, None)
    assert task.defaults.head in heads, f"The default head '{task.defaults.head}' is not one of {heads}."
    for recipe in (task.defaults.recipe, task.defaults.photo_recipe or task.defaults.recipe):
        assert recipe in task.recipes, f"The default recipe '{recipe}' is not one of the recipes."
    unknown = set(task.heads) - set(HEADS) - set(task.own_heads)
    assert not unknown, f"The heads {sorted(unknown)} are neither in tasks.heads.HEADS nor the task's own."
    assert not set(task.own_heads) & set(HEADS), (
        f"{sorted(set(task.own_heads) & set(HEADS))} are names of shared heads."
    )
    default_protocol = task.evaluation.default_protocol(dataset)
    assert default_protocol in task.protocols, f"The default, '{default_protocol}', is not one of the protocols."
    for protocol in task.protocols:
        mode = task.evaluation.mode(protocol)
        assert mode is None or mode in task.inference.modes, (
            f"The protocol '{protocol}' needs '{mode}', which is not one of the input modes."
        )
    options: dict[str, Any] = dataclasses.asdict(task)  # type: ignore[call-overload]
    restored = type(task)(**json.loads(json_text(options)))
    assert restored == task, f"The task's options do not survive a checkpoint header: {task} is restored as {restored}."
    assert pickle.loads(pickle.dumps(task)) == task, (
        "The task does not survive pickling, which data loading workers need."
    )


def check_recipes(task: Task) -> None:
    """Every recipe resolves to valid training options."""
    for name, recipe in task.recipes.items():
        options = resolve_options(task, Options(recipe=name)).validate()
        assert recipe.image_size is not None, f"The recipe '{name}' has no image size."
        assert options.loss in task.losses, f"The recipe '{name}' uses an unknown loss: '{options.loss}'."
        assert options.steps is not None or options.epochs, f"The recipe '{name}' has neither steps nor epochs."
        if options.model is not None:
            assert options.model in task.models, f"The recipe '{name}' uses an unknown model: '{options.model}'."
            continue
        assert options.head in (*task.heads, task.defaults.head), (
            f"The recipe '{name}' uses an unknown head: '{options.head}'."
        )
        with torch.device("meta"):
            create_backbone(str(options.backbone), num_classes=0, levels=options.backbone_levels)


def check_fields(task: Task, dataset: Dataset) -> None:
    """Inputs and targets are fields of the dataset, and a dataset without them is refused."""
    inputs, targets = task.inputs(dataset.fields), task.targets(dataset.fields)
    assert inputs and targets, "A task needs at least one input and one target; noise is an input, too."
    # Fields that training generates (restoration's degradations, noise) are in the evaluation dataset only.
    eval_fields = task.evaluation.dataset(dataset).fields
    for name, field_type in {**inputs, **targets}.items():
        assert eval_fields.get(name) == field_type, f"'{name}' has another field type in the evaluation dataset."
    eval_used = {**task.inputs(eval_fields), **task.targets(eval_fields)}
    assert eval_used == {**inputs, **targets}, f"The task uses {list(eval_used)} of the evaluation dataset."
    for method in (task.inputs, task.targets):
        if not method(dataset.fields).keys() & dataset.fields.keys():
            continue
        try:
            method({})
        except UserError:
            continue
        raise AssertionError(f"{method.__name__}() accepts a dataset without fields; it must raise UserError.")


def check_augment(task: Task, dataset: Dataset) -> None:
    """`augment` depends on the sample and its random stream alone, and does not modify the sample."""
    fields = {**task.inputs(dataset.fields), **task.targets(dataset.fields)}
    sample = {name: value for name, value in dataset.read(0).items() if name in fields}
    original = {name: value.copy() for name, value in sample.items()}
    policy = task.augmentation
    first, second = (policy.augment(sample, generator(0, 0, 0, Purpose.PREPARE), 1.0) for _ in range(2))
    _require_equal(first, second, "augment() with the same random stream")
    _require_equal(original, sample, "The argument of augment() after the call")
    without_rng, second = (policy.augment(sample, None, 0.0) for _ in range(2))
    _require_equal(without_rng, second, "augment() without a random stream")
    for augmented in (first, without_rng):
        missing = set(fields) - set(augmented)
        assert not missing, f"augment() leaves out {sorted(missing)}, which are inputs or targets."


def check_network(model_spec: ModelSpec, model: Network, dataset: Dataset) -> None:
    """Phases update disjoint parameters, and a step against the gradient of each phase lowers its loss."""
    check_network_contract(model_spec, model, dataset)
    task = model_spec.task
    augmented = AugmentedDataset(dataset, task, SIZE, Augmentation(), 0.0, 0)
    sampler = InfiniteBatchSampler(None if dataset.infinite else len(dataset), 2, range(1), 0)
    (batch,) = data_loader(augmented, sampler, 0, False)
    batch = Preprocessor(task, dataset.fields, SIZE).to_device(batch, torch.device("cpu"))
    for loss in task.losses:
        try:
            phases = task.phases(model.train(), dataset.fields, loss)
        except UserError as refusal:
            # Some losses need the output of another model of the task, and say so.
            assert loss != task.losses[0], f"The default loss refuses the default model: {refusal}"
            continue
        terms = _loss_terms(phases, len(phases) - 1, batch)
        for name, value in terms.items():
            assert value.ndim == 0, f"The term '{name}' of the loss '{loss}' is not a scalar: {tuple(value.shape)}."
            assert torch.isfinite(value), f"The term '{name}' of the loss '{loss}' starts as {float(value)}."
    phases = task.phases(model.train(), dataset.fields, task.losses[0])
    assert len({phase.name for phase in phases}) == len(phases), "Two phases have the same name."
    parameters = [parameter for phase in phases for parameter in phase.module.parameters()]
    assert len({*map(id, parameters)}) == len(parameters), "Two phases update the same parameter."
    assert {*map(id, parameters)} & {*map(id, model.parameters())}, "No phase updates the model."
    for index in range(len(phases)):
        _check_descent(phases, index, batch)


def check_calibrate(model_spec: ModelSpec, model: Network, dataset: Dataset) -> None:
    """`calibrate` writes to buffers only, and gives the same values every time."""
    parameters = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.calibrate(dataset)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    model.calibrate(dataset)
    for name, value in model.state_dict().items():
        assert torch.equal(value, first[name]), f"calibrate() gives another '{name}' when it is called again."
    for name, value in model.named_parameters():
        assert torch.equal(value, parameters[name]), f"calibrate() changes the parameter '{name}'; only training may."


def check_network_contract(model_spec: ModelSpec, model: Network, dataset: Dataset) -> None:
    """`input_policy`, `stride` and `backbone` are valid, and the network runs on its inputs in order."""
    title = model_spec.model or f"{model_spec.backbone} + {model_spec.head}"
    assert model.input_policy in ("tiled", "whole", "fixed"), f"{title} has no valid input_policy."
    assert isinstance(model.stride, int) and model.stride >= 1, f"{title} has no valid stride."
    backbone: Any = model.backbone
    assert backbone is None or isinstance(backbone, Backbone), f"The attribute `backbone` of {title} is not a Backbone."
    augmented = AugmentedDataset(dataset, model_spec.task, SIZE, Augmentation(), 0.0, 0)
    samples = [augmented.sample((0, index)) for index in range(2)]
    device = next(model.parameters()).device
    inputs = [tensor.to(device) for tensor in augmented.preprocessor.tensors(samples, torch.device("cpu"))]
    with torch.no_grad():
        output = model.eval()(*inputs)
    if isinstance(output, Tensor):
        assert len(output) == 2, f"{title} turns a batch of 2 into one of {len(output)}."
        assert output.dtype == torch.float32, f"The output of {title} is {output.dtype}, not float32."


def check_metrics(task: Task, predict: PredictFunction, eval_set: Dataset) -> None:
    """Merged metrics equal those of all samples at once, and the ground truth scores better than the baseline."""
    samples = [eval_set.read(index) for index in range(min(4, len(eval_set)))]
    default_protocol = task.evaluation.default_protocol(eval_set)
    for protocol in task.protocols:
        try:
            total = task.metrics(protocol)
            parts = [task.metrics(protocol) for _ in samples]
            for part, sample in zip(parts, samples, strict=True):
                for metrics in (part, total):
                    metrics.update(predict(sample), sample)
        except UserError as refusal:
            # Some protocols are for one dataset only, or need an evaluator, and say so.
            assert protocol != default_protocol, f"The default protocol refuses the default dataset: {refusal}"
            continue
        scores = total.compute()
        assert task.monitor.name in scores, (
            f"The protocol '{protocol}' lacks '{task.monitor.name}', the monitored metric."
        )
        states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
        empty = task.metrics(protocol).state()
        pair = task.metrics(protocol)
        pair.merge(states[:2])
        for what, order in {
            "one by one": states,
            "in reverse order": states[::-1],
            "with an empty one": [empty, *states],
            "the first two first": [pair.state(), *states[2:]],
        }.items():
            merged = task.metrics(protocol)
            merged.update(predict(samples[0]), samples[0])
            merged.merge(order)
            _require_close(scores, merged.compute(), f"The protocol '{protocol}', merged {what},")
    baseline, perfect = task.metrics(default_protocol), task.metrics(default_protocol)
    for sample in samples:
        baseline.update(predict(sample), sample)
        perfect.update(task.ground_truth(sample, eval_set.fields), sample)
    name = task.monitor.name
    best, usual = perfect.compute()[name], baseline.compute()[name]
    assert task.monitor.better(best, usual), f"The {name} of the ground truth is {best}, that of the baseline {usual}."


def check_predictions(model_spec: ModelSpec, model: Network, predict: PredictFunction, eval_set: Dataset) -> None:
    """Predictions have the image's size, can be drawn and saved, and are the same from a saved checkpoint."""
    task = model_spec.task
    predictor = Predictor(task, model, model_spec.fields, SIZE)
    sample = eval_set.read(0)
    targets = task.targets(eval_set.fields).items()
    dense = any(isinstance(kind, PER_PIXEL) and sample[name].ndim == kind.rank for name, kind in targets)
    ground_truth = task.ground_truth(sample, eval_set.fields)
    odd = {name: sample[name] for name in task.inference.context_fields if name in sample}
    for name, field_type in task.inputs(eval_set.fields).items():
        axis = sample[name].ndim - field_type.rank
        smaller = (*(slice(None),) * axis, slice(-5), slice(-9))
        odd[name] = sample[name][smaller].copy() if field_type.input_channels else sample[name]
    # Without a map as input, the size of a prediction is that of training; several maps are drawn side by side.
    odd_size = (SIZE[0] - 5, SIZE[1] - 9) if map_sizes(odd, task.inputs(eval_set.fields)) else SIZE
    for what, prediction, size in (
        ("The baseline's prediction", predict(sample), SIZE),
        ("The ground truth", ground_truth, SIZE),
        ("The model's prediction", predictor.predict_sample(sample), SIZE),
        ("The model's prediction in the last mode", predictor.predict_sample(odd, task.inference.modes[-1]), odd_size),
    ):
        _check_prediction(what, prediction, ground_truth, size if dense else None)
    protocol = task.evaluation.default_protocol(eval_set)
    scores = score(task, predictor, eval_set, protocol, 1).metrics
    assert task.monitor.name in scores, f"An evaluation lacks '{task.monitor.name}'."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        data = {"name": task.defaults.data, "title": eval_set.title, "terms": eval_set.terms}
        metadata = {"size": list(SIZE), "data": data, "backbone_weights": None, "init_from": None}
        write_model(path, model, model_spec.with_weights_options(model), metadata)
        header = read_header(path)
        stored = ModelSpec.from_json(header, type(task))
        restored = stored.build()
        restore_preprocessing(restored, header)
        restored.load_state_dict(read_float_tensors(path))
        assert stored.task == task, f"The task is restored from a checkpoint as {stored.task}."
    loaded = Predictor(stored.task, restored, stored.fields, SIZE)
    prepared = [task.augmentation.augment(odd, None, 0.0)]
    assert torch.equal(predictor.run_network(prepared), loaded.run_network(prepared)), (
        "The output of the saved and loaded model differs."
    )


def _loss_terms(phases: tuple[Phase, ...], last: int, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of one phase, after the earlier phases have filled the cache."""
    torch.manual_seed(0)
    cache: dict[str, Any] = {}
    terms: dict[str, Tensor] = {}
    for phase in phases[: last + 1]:
        terms = phase.loss(batch, cache)
        assert terms, f"The phase '{phase.name}' returns no loss term."
    return terms


def _check_descent(phases: tuple[Phase, ...], index: int, batch: Batch) -> None:
    phase = phases[index]
    parameters = [parameter for parameter in phase.module.parameters() if parameter.requires_grad]
    before = torch.stack(list(_loss_terms(phases, index, batch).values())).sum()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    updates = [(p, p.detach().clone(), g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    assert updates, f"The loss of the phase '{phase.name}' depends on none of its parameters."
    # Step lengths relative to the weights do not depend on the scale of the loss, unlike learning rates.
    weights = torch.stack([start.norm() for _, start, _ in updates]).norm()
    slope = torch.stack([gradient.norm() for *_, gradient in updates]).norm()
    losses = []
    with torch.no_grad():
        for length in STEP_LENGTHS:
            for parameter, start, gradient in updates:
                parameter.copy_(start - length * weights / slope * gradient)
            losses.append(float(torch.stack(list(_loss_terms(phases, index, batch).values())).sum()))
        for parameter, start, _ in updates:
            parameter.copy_(start)
    falls = min(losses) < float(before.detach())
    assert falls, f"No step against its gradient lowers the loss of the phase '{phase.name}'."


def _check_prediction(
    what: str, prediction: Prediction, ground_truth: Prediction, size: tuple[int, int] | None
) -> None:
    assert prediction.unit, f"{what} has no unit."
    for image in (prediction.to_image(), prediction.to_image(reference=ground_truth)):
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, f"{what} is not drawn as RGB."
        assert size is None or image.shape[:2] == size, f"{what} is drawn as {image.shape[:2]}, not as {size}."
    with tempfile.TemporaryDirectory() as folder:
        files = prediction.save(folder, "a")
        assert files, f"{what} saves no file."
        for file in files:
            assert file.is_file() and file.stat().st_size > 0, f"{what} lists {file.name}, which it did not save."
            assert file.name.startswith("a") and file.parent == Path(folder), f"{what} is saved elsewhere: {file}."


def _require_equal(expected: Sample, actual: Sample, what: str) -> None:
    assert expected.keys() == actual.keys(), f"{what} has other fields."
    for name, value in expected.items():
        same = np.array_equal(value, actual[name], equal_nan=value.dtype.kind in "fc")
        assert same, f"{what} differs in the field '{name}'."


def _require_close(expected: dict[str, float], actual: dict[str, float], what: str) -> None:
    assert expected.keys() == actual.keys(), f"{what} gives other scores."
    for name, value in expected.items():
        close = np.isclose(value, actual[name], rtol=1e-9, atol=1e-12, equal_nan=True)
        assert close, f"{what} gives {name} {actual[name]}, not {value}."
