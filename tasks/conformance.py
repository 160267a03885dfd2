"""The contract of a task as checks, for our tests and for anyone who writes a task: `check_task(Mine())`."""

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

from ..backbones import create_backbone
from ..backbones.backbone import Backbone
from ..datasets import list_datasets, open_dataset
from ..datasets.augmentation import Augmentation
from ..datasets.dataset import Dataset, Sample
from ..datasets.fields import Depth, Flow, Image, Kind, Labels, Mask, OneHot
from ..datasets.randomness import Purpose, generator
from ..errors import UserError
from .blueprint import Blueprint, take_preprocessing
from .evaluation import evaluate, predictor_answer
from .heads import HEADS
from .inference import Predictor
from .task import Batch, Network, Phase, Prediction, Task
from .training.assembly import settled
from .training.checkpoint import read_header, read_tensors, save_checkpoint
from .training.options import Options
from .training.stream import Order, TrainingView, batches

SIZE = (64, 96)
"""Pixels of the pictures the checks are made on: multiples of every usual stride, and not square."""

STEPS_DOWNHILL = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Lengths of a step against the gradient, relative to the weights, one of which must lower the loss."""

PER_PIXEL = (Image, Depth, Flow, Labels, Mask)

Answer = Callable[[Sample], Prediction]


def check_task(task: Task, train_set: Dataset | None = None, eval_set: Dataset | None = None) -> None:
    """Try everything that the contract promises, on a few samples of the task's default data.

    Args:
        task: the task, with any options of its own.
        train_set, eval_set: other data to try it on; needed where the default lies in a folder.

    Raises:
        AssertionError: a promise is not kept; the sentence says which.
    """
    train_set = open_dataset(task.default.data, None, "train") if train_set is None else train_set
    eval_set = open_dataset(task.default.data, None, train_set.splits[-1]) if eval_set is None else eval_set
    train_set, eval_set = train_set.at(SIZE), task.examined(eval_set.at(SIZE))
    check_statements(task, train_set.fields)
    check_recipes(task)
    check_fields(task, train_set)
    check_preparation(task, train_set)
    default = Blueprint(task, train_set.fields, task.default.backbone, {}, task.default.head)
    model = default.build()
    check_network(default, model, train_set)
    check_fit(default, model, train_set)
    for name in task.networks:
        whole = Blueprint(task, train_set.fields, network=name)
        with torch.device("meta"):
            check_contract(whole, whole.build())
    trivial = task.baseline(train_set)
    check_metrics(task, trivial, eval_set)
    check_answers(default, model, trivial, eval_set)


def check_statements(task: Task, fields: dict[str, Kind]) -> None:
    """Names and defaults lead somewhere, and the task's own options are plain."""
    assert task.name and task.title and task.paper, "A task states its name, its title and its paper."
    assert task.losses and task.protocols and task.recipes, "A task has a loss, a protocol and a recipe at least."
    assert task.views, "A task has a view at least."
    heads = task.heads or (None,)
    assert task.default.head in heads, f"The default head '{task.default.head}' is none of {heads}."
    assert task.default.recipe in task.recipes, f"The default recipe '{task.default.recipe}' is none of the recipes."
    unknown = set(task.heads) - set(HEADS) - set(task.own_heads)
    assert not unknown, f"The heads {sorted(unknown)} are neither in tasks.heads.HEADS nor the task's own."
    assert not set(task.own_heads) & set(HEADS), f"{sorted(set(task.own_heads) & set(HEADS))} names two heads."
    for name in (*list_datasets(), "a set of one's own"):
        protocol = task.default_protocol(name, fields)
        view = task.view_of(protocol)
        assert view in task.views, f"The protocol '{protocol}' asks for the view '{view}', which is none of the views."
        assert protocol in task.protocols, f"'{name}' is scored under '{protocol}', which is none of the protocols."
    options: dict[str, Any] = dataclasses.asdict(task)  # type: ignore[call-overload]
    again = type(task)(**json.loads(json.dumps(options)))
    assert again == task, f"The task's options do not survive a checkpoint's header: {task} comes back as {again}."
    assert pickle.loads(pickle.dumps(task)) == task, "The task does not survive pickling, which workers need."


def check_recipes(task: Task) -> None:
    """Every recipe settles into options that can be trained with."""
    for name, recipe in task.recipes.items():
        options = settled(task, Options(recipe=name)).checked()
        assert recipe.size is not None, f"The recipe '{name}' states no size."
        assert options.loss in task.losses, f"The recipe '{name}' asks for the loss '{options.loss}'."
        assert options.steps or options.epochs, f"The recipe '{name}' states neither steps nor epochs."
        if options.network is not None:
            assert options.network in task.networks, f"The recipe '{name}' asks for the network '{options.network}'."
            continue
        assert options.head in (task.heads or (None,)), f"The recipe '{name}' asks for the head '{options.head}'."
        with torch.device("meta"):
            create_backbone(str(options.backbone), classes=0, levels=options.levels)


def check_fields(task: Task, dataset: Dataset) -> None:
    """The task finds its fields, and says so where there are none."""
    inputs, targets = task.inputs(dataset.fields), task.targets(dataset.fields)
    assert inputs and targets, "A task has at least one input and one target."
    # What a training draws (restoration's dirt) no set holds; the set that is scored on holds it, as the same field.
    scored = task.examined(dataset).fields
    for name, kind in {**inputs, **targets}.items():
        assert scored.get(name) == kind, f"'{name}' is not the field of that name and kind in the data set."
    again = {**task.inputs(scored), **task.targets(scored)}
    assert again == {**inputs, **targets}, f"The task asks for {list(again)} of the set that it is scored on."
    for find in (task.inputs, task.targets):
        try:
            find({})
        except UserError:
            continue
        raise AssertionError(f"{find.__name__}() takes a data set without a field; it must raise UserError.")


def check_preparation(task: Task, dataset: Dataset) -> None:
    """`prepare` depends on the sample and its stream alone, and leaves the sample as it was."""
    fields = {**task.inputs(dataset.fields), **task.targets(dataset.fields)}
    given = {name: value for name, value in dataset.read(0).items() if name in fields}
    kept = {name: value.copy() for name, value in given.items()}
    once, twice = (task.prepare(given, generator(0, 0, 0, Purpose.PREPARE), 1.0) for _ in range(2))
    _require_equal(once, twice, "prepare() from the same stream")
    _require_equal(kept, given, "What prepare() was given after it")
    still, again = (task.prepare(given, None, 0.0) for _ in range(2))
    _require_equal(still, again, "prepare() without a stream")
    for prepared in (once, still):
        lacking = set(task.prepared(dataset.fields)) - set(prepared)
        assert not lacking, f"prepare() leaves out {sorted(lacking)}, which prepared() promises."


def check_network(blueprint: Blueprint, model: Network, dataset: Dataset) -> None:
    """Phases partition what learns, and a step against each phase's gradient lowers each loss."""
    check_contract(blueprint, model)
    task = blueprint.task
    view = TrainingView(dataset, task, SIZE, Augmentation(), 0.0, 0)
    (batch,) = batches(view, Order(None if dataset.unbounded else len(dataset), 2, range(1), 0), 0, False)
    kinds = task.prepared(dataset.fields)
    batch = {name: kinds[name].arrive(tensor) if name in kinds else tensor for name, tensor in batch.items()}
    for loss in task.losses:
        try:
            phases = task.phases(model.train(), dataset.fields, loss)
        except UserError as refusal:
            # Some losses are made for what other networks of the task answer, and say so.
            assert loss != task.losses[0], f"The usual loss refuses the default network: {refusal}"
            continue
        terms = _terms(phases, len(phases) - 1, batch)
        for name, value in terms.items():
            assert value.ndim == 0, f"The term '{name}' of the loss '{loss}' is no scalar: {tuple(value.shape)}."
            assert torch.isfinite(value), f"The term '{name}' of the loss '{loss}' begins as {float(value)}."
    phases = task.phases(model.train(), dataset.fields, task.losses[0])
    assert len({phase.name for phase in phases}) == len(phases), "Two phases share a name."
    learned = [parameter for phase in phases for parameter in phase.module.parameters()]
    assert len({*map(id, learned)}) == len(learned), "Two phases update one parameter."
    assert {*map(id, learned)} & {*map(id, model.parameters())}, "No phase updates the network."
    for index in range(len(phases)):
        _check_descent(phases, index, batch)


def check_fit(blueprint: Blueprint, model: Network, dataset: Dataset) -> None:
    """What `fit` measures lies in the buffers that a checkpoint keeps, is the same every time, and learns nothing."""
    learned = {name: value.detach().clone() for name, value in model.named_parameters()}
    blueprint.task.fit(model, dataset)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    blueprint.task.fit(model, dataset)
    for name, value in model.state_dict().items():
        assert torch.equal(value, once[name]), f"fit() leaves another '{name}' when it is called again."
    for name, value in model.named_parameters():
        assert torch.equal(value, learned[name]), f"fit() moves the parameter '{name}', which training alone may."


def check_contract(blueprint: Blueprint, model: Network) -> None:
    """What inference asks a network: how it wants to be fed, and an answer from its inputs in order."""
    what = blueprint.network or f"{blueprint.backbone} + {blueprint.head}"
    assert model.takes in ("tiled", "whole", "exact"), f"{what} does not say what it takes."
    assert isinstance(model.stride, int) and model.stride >= 1, f"{what} does not state its coarsest stride."
    trunk = getattr(model, "backbone", None)
    assert trunk is None or isinstance(trunk, Backbone), f"{what} calls something its backbone that is none."
    device = next(model.parameters()).device
    inputs = []
    prepared = blueprint.task.prepared(blueprint.fields)
    for name in blueprint.task.inputs(blueprint.fields):
        kind = prepared[name]
        assert isinstance(kind, (Image, OneHot)), f"The input '{name}' is no picture; check_task knows no other."
        inputs.append(torch.rand(2, kind.channels, *SIZE, device=device))
    with torch.no_grad():
        output = model.eval()(*inputs)
    if isinstance(output, Tensor):
        assert len(output) == 2, f"{what} turns a batch of 2 into one of {len(output)}."
        assert output.dtype == torch.float32, f"{what} answers in {output.dtype}."


def check_metrics(task: Task, answer: Answer, eval_set: Dataset) -> None:
    """Tallies merge to what one tally of all samples says, and the truth scores better than the trivial answer."""
    samples = [eval_set.read(index) for index in range(min(4, len(eval_set)))]
    usual_protocol = task.default_protocol(task.default.data, eval_set.fields)
    for protocol in task.protocols:
        try:
            whole = task.metrics(protocol)
            parts = [task.metrics(protocol) for _ in samples]
            for part, sample in zip(parts, samples, strict=True):
                for tally in (part, whole):
                    tally.update(answer(sample), sample)
        except UserError as refusal:
            # Some protocols are made for the pictures of one set, or need a judge, and say so.
            assert protocol != usual_protocol, f"The default protocol refuses the default data: {refusal}"
            continue
        scores = whole.compute()
        assert task.watch.name in scores, f"The protocol '{protocol}' lacks '{task.watch.name}', which is watched."
        states = [pickle.loads(pickle.dumps(part.state())) for part in parts]
        empty = task.metrics(protocol).state()
        pair = task.metrics(protocol)
        pair.merge(states[:2])
        for what, order in {
            "one by one": states,
            "backwards": states[::-1],
            "with an empty one": [empty, *states],
            "the first two first": [pair.state(), *states[2:]],
        }.items():
            merged = task.metrics(protocol)
            merged.update(answer(samples[0]), samples[0])
            merged.merge(order)
            _require_close(scores, merged.compute(), f"The protocol '{protocol}', merged {what},")
    trivial, perfect = task.metrics(usual_protocol), task.metrics(usual_protocol)
    for sample in samples:
        trivial.update(answer(sample), sample)
        perfect.update(task.truth(sample, eval_set.fields), sample)
    best, usual = perfect.compute()[task.watch.name], trivial.compute()[task.watch.name]
    assert task.watch.better(best, usual), f"The truth scores {task.watch.name} {best}, the trivial answer {usual}."


def check_answers(blueprint: Blueprint, model: Network, answer: Answer, eval_set: Dataset) -> None:
    """Answers have the picture's size, can be drawn and saved, and come back from a checkpoint as they were."""
    task = blueprint.task
    dense = any(isinstance(kind, PER_PIXEL) for kind in task.targets(eval_set.fields).values())
    predictor = Predictor(task, model, blueprint.fields, SIZE)
    sample = eval_set.read(0)
    truth = task.truth(sample, eval_set.fields)
    odd = {name: sample[name][:-5, :-9].copy() for name in task.inputs(eval_set.fields)}
    odd_size = (SIZE[0] - 5, SIZE[1] - 9)
    for what, prediction, size in (
        ("The baseline's answer", answer(sample), SIZE),
        ("The truth", truth, SIZE),
        ("The network's answer", predictor.answer(sample), SIZE),
        ("The network's answer in its last view", predictor.answer(odd, task.views[-1]), odd_size),
    ):
        _check_prediction(what, prediction, truth, size if dense else None)
    protocol = task.default_protocol(task.default.data, eval_set.fields)
    scores = evaluate(task, predictor_answer(predictor, protocol), eval_set, protocol, 1).metrics
    assert task.watch.name in scores, f"An evaluation lacks '{task.watch.name}'."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        save_checkpoint(path, model, blueprint.settled(model), {"size": list(SIZE)})
        header = read_header(path)
        stored = Blueprint.from_json(header, type(task))
        again = stored.build()
        take_preprocessing(again, header)
        again.load_state_dict(read_tensors(path))
        assert stored.task == task, f"The task comes back from a checkpoint as {stored.task}."
    loaded = Predictor(stored.task, again, stored.fields, SIZE)
    prepared = task.prepare(odd, None, 0.0)
    assert torch.equal(predictor.run(prepared), loaded.run(prepared)), "A network answers otherwise once saved."


def _terms(phases: tuple[Phase, ...], last: int, batch: Batch) -> dict[str, Tensor]:
    """The terms of one phase, after those before it left in `made` what it may need."""
    torch.manual_seed(0)
    made: dict[str, Any] = {}
    terms: dict[str, Tensor] = {}
    for phase in phases[: last + 1]:
        terms = phase.loss(batch, made)
        assert terms, f"The phase '{phase.name}' returns no term."
    return terms


def _check_descent(phases: tuple[Phase, ...], index: int, batch: Batch) -> None:
    phase = phases[index]
    parameters = [parameter for parameter in phase.module.parameters() if parameter.requires_grad]
    before = torch.stack(list(_terms(phases, index, batch).values())).sum()
    gradients = torch.autograd.grad(before, parameters, allow_unused=True)
    moving = [(p, p.detach().clone(), g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    assert moving, f"The loss of the phase '{phase.name}' depends on none of its parameters."
    # The length of a step relative to the weights: what a rate means depends on the loss's scale, this does not.
    weights = torch.stack([start.norm() for _, start, _ in moving]).norm()
    slope = torch.stack([gradient.norm() for *_, gradient in moving]).norm()
    found = []
    with torch.no_grad():
        for length in STEPS_DOWNHILL:
            for parameter, start, gradient in moving:
                parameter.copy_(start - length * weights / slope * gradient)
            found.append(float(torch.stack(list(_terms(phases, index, batch).values())).sum()))
        for parameter, start, _ in moving:
            parameter.copy_(start)
    falls = min(found) < float(before.detach())
    assert falls, f"No step against its gradient lowers the loss of the phase '{phase.name}'."


def _check_prediction(what: str, prediction: Prediction, truth: Prediction, size: tuple[int, int] | None) -> None:
    assert prediction.unit, f"{what} does not say its unit."
    for picture in (prediction.picture(), prediction.picture(like=truth)):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3, f"{what} is drawn as no RGB."
        assert size is None or picture.shape[:2] == size, f"{what} is drawn as {picture.shape[:2]}, not as {size}."
    with tempfile.TemporaryDirectory() as folder:
        files = prediction.save(folder, "a")
        assert files, f"{what} saves nothing."
        for file in files:
            assert file.is_file() and file.stat().st_size > 0, f"{what} says it saved {file.name}, which is not there."
            assert file.name.startswith("a") and file.parent == Path(folder), f"{what} is saved elsewhere, as {file}."


def _require_equal(expected: Sample, found: Sample, what: str) -> None:
    assert expected.keys() == found.keys(), f"{what} gives other fields."
    for name, value in expected.items():
        same = np.array_equal(value, found[name], equal_nan=value.dtype.kind in "fc")
        assert same, f"{what} differs in the field '{name}'."


def _require_close(expected: dict[str, float], found: dict[str, float], what: str) -> None:
    assert expected.keys() == found.keys(), f"{what} gives other scores."
    for name, value in expected.items():
        close = np.isclose(value, found[name], rtol=1e-9, atol=1e-12, equal_nan=True)
        assert close, f"{what} gives {name} {found[name]}, not {value}."
