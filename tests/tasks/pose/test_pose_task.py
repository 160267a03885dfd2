"""The contract of the task, its options, the networks it builds, and its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from densevision import create_task
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import FieldType, Image, Keypoints
from densevision.datasets.pose.skeletons import COCO, LSP
from densevision.datasets.synthetic import SyntheticFigures
from densevision.errors import UserError
from densevision.tasks.conformance import check_task
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.pose_prediction import PosePrediction
from densevision.tasks.task import Defaults
from densevision.tasks.training.options import Options

from .toys import FACE_ON, FIELDS

COMPLETE_MODELS = ("belagiannis", "belagiannis_cascade")
RECIPES = HumanPose.recipes


# --- contract and options -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeatmapPose(HumanPose):
    """With the losses of heat map networks."""

    losses: ClassVar[tuple[str, ...]] = ("paper", "heatmaps", "heatmaps-rounded")
    recipes: ClassVar[dict[str, Options]] = {name: RECIPES[name] for name in ("synthetic-figures", "sports", "xiao")}


@dataclass(frozen=True)
class CoordinatePose(HumanPose):
    """With the regression head by default, and the losses of coordinate networks."""

    losses: ClassVar[tuple[str, ...]] = ("paper", "tukey", "tukey-authors", "l2", "smooth-l1")
    defaults: ClassVar[Defaults] = Defaults("synthetic-figures", "resnet18", "regression", "belagiannis")
    recipes: ClassVar[dict[str, Options]] = {"belagiannis": RECIPES["belagiannis"]}


@pytest.mark.parametrize("task", [HeatmapPose(), CoordinatePose(keep_aspect=False, random_erase=1.0)])
def test_task_contract_with_either_head(task, small_baseline):
    check_task(task)


def test_invalid_options_are_refused_with_a_hint():
    for probability in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"--random-erase is .*; it must be between 0 and 1\."):
            create_task("pose", random_erase=probability)
    with pytest.raises(UserError, match="did you mean 'quarter'"):
        create_task("pose", decoding="quater")
    with pytest.raises(UserError, match="no head of the task pose named 'regresion'; did you mean 'regression'"):
        ModelSpec(HumanPose(), FIELDS, "resnet20_cifar", {}, "regresion").build()
    with pytest.raises(UserError, match="no model of the task pose named 'belagianis'; did you mean 'belagiannis'"):
        ModelSpec(HumanPose(), FIELDS, model="belagianis").build()


@pytest.mark.parametrize("name", ["image", "joints"])
def test_dataset_without_image_or_joints_is_refused(name):
    fields = {other: field_type for other, field_type in FIELDS.items() if other != name}
    task = HumanPose()
    with pytest.raises(UserError, match=f"The task pose needs a field '{name}'"):
        task.targets(fields) if name == "joints" else task.inputs(fields)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [LSP, COCO, FACE_ON])
@pytest.mark.parametrize(
    "spec",
    [
        *(
            {"backbone": backbone, "head": head}
            for backbone in ("resnet18", "vgg11", "alexnet")
            for head in HumanPose.heads
        ),
        *({"model": name} for name in COMPLETE_MODELS),
    ],
)
def test_network_has_the_joints_of_the_stored_skeleton(spec, skeleton):
    fields: dict[str, FieldType] = {"image": Image(), "joints": Keypoints(skeleton)}
    with torch.device("meta"):
        model_spec = ModelSpec(HumanPose(keep_aspect=False), fields, **spec)
        restored = ModelSpec.from_json(model_spec.to_json(model_spec.build()))
        output = restored.build().eval()(torch.empty(2, 3, 128, 96))
    assert restored.fields == fields and restored.task == HumanPose(keep_aspect=False)
    maps = spec.get("head") == "deconvolution"
    assert output.shape == (2, len(skeleton.names), *((32, 24) if maps else (3,)))


@pytest.mark.parametrize("head", HumanPose.heads)
def test_unlabeled_joint_changes_no_loss_whatever_its_value(head):
    task = HumanPose()
    torch.manual_seed(0)
    model: Any = ModelSpec(task, FIELDS, "resnet20_cifar", {}, head).build()
    (phase,) = task.phases(model, FIELDS, task.losses[0])
    image, joints = torch.rand(2, 3, 32, 32), torch.tensor([[[9.0, 12, 2], [20, 8, 1], [0, 0, 0]]]).repeat(2, 1, 1)
    results = []
    for invalid in (0.0, 7.0, 1e30, float("nan")):
        joints[:, 2, :2] = invalid
        model.zero_grad()
        (value,) = phase.loss({"image": image, "joints": joints}, {}).values()
        value.backward()
        gradient = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
        results.append((value.item(), gradient))
    assert phase.module is model and results[0][0] > 0
    for value, gradient in results[1:]:
        assert value == results[0][0] and torch.equal(gradient, results[0][1])


# --- scores and the baseline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lsp", "lsp-extended", "lsp-observer", "mpii", "coco-people", "pose-folders"])
def test_default_protocol_of_a_dataset_has_all_fields_that_it_needs(name, tmp_path):
    dataset_class(name).write_example(tmp_path)
    dataset, task = open_dataset(name, tmp_path, "train"), HumanPose()
    protocol = {"mpii": "pckh", "coco-people": "coco", "pose-folders": "pck-box"}.get(name, "pck-torso")
    assert task.evaluation.default_protocol(dataset) == protocol
    metrics = task.metrics(protocol)
    for index in range(len(dataset)):
        sample = dataset.read(index)
        metrics.update(task.ground_truth(sample, dataset.fields), sample)
    assert metrics.compute()["score"] == pytest.approx(1)


class MovingPose(Dataset):
    """A person one pixel further to the right in every sample."""

    def __init__(self, samples: int = 7) -> None:
        super().__init__("")
        self.fields, self.samples, self.indices = FIELDS, samples, []

    def __len__(self) -> int:
        return self.samples

    def read(self, index: int) -> Sample:
        self.indices.append(index)
        joints = np.array([[10 + index, 5, 2], [20 + index, 15, 1], [0, 15, 0]], np.float32)
        return {"image": np.zeros((30, 40, 3), np.uint8), "joints": joints}


def test_baseline_is_the_mean_pose_of_evenly_spaced_samples(small_baseline):
    dataset = MovingPose()
    baseline = HumanPose().baseline(dataset)
    assert dataset.indices == [0, 2, 4]
    # Two pixels further right than the first, in an image twice as large.
    prediction = baseline({"image": np.zeros((60, 80, 3), np.uint8), "joints": np.zeros((3, 3), np.float32)})
    assert isinstance(prediction, PosePrediction) and prediction.skeleton == FACE_ON
    np.testing.assert_allclose(prediction.joints[:2], [[24.5, 10.5, 1], [44.5, 30.5, 1]], atol=1e-4)
    assert prediction.joints[2, 2] == 0


def mean_pose() -> torch.Tensor:
    """Of samples 0, 2 and 4 of `MovingPose`, in fractions of 40 x 30; an unlabeled joint is in the center."""
    return torch.tensor([[12.5 / 40, 5.5 / 30], [22.5 / 40, 15.5 / 30], [0.5, 0.5]])


@pytest.mark.parametrize(
    "spec", [{"backbone": "resnet20_cifar", "head": "regression"}, *({"model": name} for name in COMPLETE_MODELS)]
)
def test_coordinate_network_starts_at_the_mean_pose_of_its_training_set(spec, small_baseline):
    torch.manual_seed(0)
    task = HumanPose(init="he_fan_in", keep_aspect=False)
    model: Any = ModelSpec(task, FIELDS, **spec).build()
    learned = {name: value.clone() for name, value in model.named_parameters()}
    model.calibrate(MovingPose())
    torch.testing.assert_close(model.expected, mean_pose())
    # Parameters (of a run that starts from other weights) are kept.
    assert all(torch.equal(value, learned[name]) for name, value in model.named_parameters())
    # Only the small weights of the last layer change the output.
    torch.nn.init.zeros_((model.head if "head" in spec else model.coarse).predict.weight)
    with torch.no_grad():
        for stage in model.eval().coordinates(torch.rand(2, 3, 120, 80)):
            torch.testing.assert_close(stage, mean_pose().expand(2, 3, 2))


@pytest.mark.parametrize(
    "spec", [{"backbone": "resnet20_cifar", "head": "deconvolution"}, *({"model": name} for name in COMPLETE_MODELS)]
)
def test_heat_maps_and_the_papers_initialization_have_no_mean_pose(spec, small_baseline):
    task = HumanPose()
    model = ModelSpec(task, FIELDS, **spec).build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dataset = MovingPose()
    model.calibrate(dataset)
    after = model.state_dict()
    assert dataset.indices == [] and "expected" not in after
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_network_has_the_sigma_of_the_task():
    assert ModelSpec(HumanPose(sigma=1.5), FIELDS, "resnet20_cifar", {}, "deconvolution").build().sigma == 1.5


def test_baseline_of_an_infinite_dataset_is_the_mean_of_its_first_samples(small_baseline):
    indices = []

    class RecordingFigures(SyntheticFigures):
        def read(self, index: int) -> Sample:
            indices.append(index)
            return super().read(index)

    HumanPose().baseline(RecordingFigures(size=(32, 32)))
    assert indices == [0, 1, 2]
