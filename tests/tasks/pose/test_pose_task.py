"""The task's promises and options, the networks it builds, and its trivial answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from densevision import create_task
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.fields import Image, Keypoints, Kind
from densevision.datasets.figures import Figures
from densevision.datasets.skeletons import COCO, LSP
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import check_task
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.people import Pose
from densevision.tasks.task import Default
from densevision.tasks.training.options import Options

from .toys import FACE_ON, FIELDS

WHOLE_NETWORKS = ("belagiannis", "belagiannis_cascade")
RECIPES = HumanPose.recipes


# --- promises and options ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maps(HumanPose):
    """With the losses of networks that answer with maps."""

    losses: ClassVar[tuple[str, ...]] = ("paper", "heatmaps", "heatmaps-rounded")
    recipes: ClassVar[dict[str, Options]] = {name: RECIPES[name] for name in ("figures", "sports", "xiao")}


@dataclass(frozen=True)
class Coordinates(HumanPose):
    """With the other head by default, and the losses of coordinates."""

    losses: ClassVar[tuple[str, ...]] = ("paper", "tukey", "tukey-authors", "l2", "smooth-l1")
    default: ClassVar[Default] = Default("figures", "resnet18", "regression", "belagiannis")
    recipes: ClassVar[dict[str, Options]] = {"belagiannis": RECIPES["belagiannis"]}


@pytest.mark.parametrize("task", [Maps(), Coordinates(stretch=True, patches=1.0)])
def test_with_either_head_the_task_keeps_its_promises(task, few_for_the_mean):
    check_task(task)


def test_mistaken_options_are_answered_with_the_way_out():
    for patches in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"--patches is .*; it must lie in 0 to 1\."):
            create_task("pose", patches=patches)
    with pytest.raises(UserError, match="did you mean 'quarter'"):
        create_task("pose", decoding="quater")
    with pytest.raises(UserError, match="no head of the task pose named 'regresion'; did you mean 'regression'"):
        Blueprint(HumanPose(), FIELDS, "resnet20_cifar", {}, "regresion").build()
    with pytest.raises(UserError, match="no network of the task pose named 'belagianis'; did you mean 'belagiannis'"):
        Blueprint(HumanPose(), FIELDS, network="belagianis").build()


@pytest.mark.parametrize("name", ["image", "joints"])
def test_a_set_without_a_picture_or_without_joints_is_refused(name):
    fields = {other: kind for other, kind in FIELDS.items() if other != name}
    task = HumanPose()
    with pytest.raises(UserError, match=f"The task pose needs a field '{name}'"):
        task.targets(fields) if name == "joints" else task.inputs(fields)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [LSP, COCO, FACE_ON])
@pytest.mark.parametrize(
    "what",
    [
        *({"backbone": trunk, "head": head} for trunk in ("resnet18", "vgg11", "alexnet") for head in HumanPose.heads),
        *({"network": name} for name in WHOLE_NETWORKS),
    ],
)
def test_a_network_has_as_many_joints_as_the_skeleton_that_a_checkpoint_stores(what, skeleton):
    fields: dict[str, Kind] = {"image": Image(), "joints": Keypoints(skeleton)}
    with torch.device("meta"):
        blueprint = Blueprint(HumanPose(stretch=True), fields, **what)
        again = Blueprint.from_json(blueprint.to_json(blueprint.build()))
        made = again.build().eval()(torch.empty(2, 3, 128, 96))
    assert again.fields == fields and again.task == HumanPose(stretch=True)
    maps = what.get("head") == "deconvolution"
    assert made.shape == (2, len(skeleton.names), *((32, 24) if maps else (3,)))


@pytest.mark.parametrize("head", HumanPose.heads)
def test_an_unlabelled_joint_reaches_no_loss_whatever_stands_there(head):
    task = HumanPose()
    torch.manual_seed(0)
    model = Blueprint(task, FIELDS, "resnet20_cifar", {}, head).build()
    (phase,) = task.phases(model, FIELDS, task.losses[0])
    image, joints = torch.rand(2, 3, 32, 32), torch.tensor([[[9.0, 12, 2], [20, 8, 1], [0, 0, 0]]]).repeat(2, 1, 1)
    found = []
    for strange in (0.0, 7.0, 1e30, float("nan")):
        joints[:, 2, :2] = strange
        model.zero_grad()
        (value,) = phase.loss({"image": image, "joints": joints}, {}).values()
        value.backward()
        gradient = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
        found.append((value.item(), gradient))
    assert phase.module is model and found[0][0] > 0
    for value, gradient in found[1:]:
        assert value == found[0][0] and torch.equal(gradient, found[0][1])


# --- scores and the trivial answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lsp", "lsp-extended", "lsp-observer", "mpii", "coco-people", "pose-folders"])
def test_the_usual_protocol_of_a_set_finds_in_its_samples_all_that_it_needs(name, tmp_path):
    dataset_class(name).write_miniature(tmp_path)
    dataset, task = open_dataset(name, tmp_path, "train"), HumanPose()
    usual = {"mpii": "pckh", "coco-people": "coco", "pose-folders": "pck-box"}.get(name, "pck-torso")
    assert task.default_protocol(name, {}) == usual
    metrics = task.metrics(usual)
    for index in range(len(dataset)):
        sample = dataset.read(index)
        metrics.update(task.truth(sample, dataset.fields), sample)
    assert metrics.compute()["score"] == pytest.approx(1)


class Standing(Dataset):
    """Somebody who stands a pixel further to the right in every sample."""

    def __init__(self, samples: int = 7) -> None:
        super().__init__("")
        self.fields, self.samples, self.asked = FIELDS, samples, []

    def __len__(self) -> int:
        return self.samples

    def read(self, index: int) -> Sample:
        self.asked.append(index)
        joints = np.array([[10 + index, 5, 2], [20 + index, 15, 1], [0, 15, 0]], np.float32)
        return {"image": np.zeros((30, 40, 3), np.uint8), "joints": joints}

    @classmethod
    def check(cls, root):
        return []

    @classmethod
    def write_miniature(cls, root):
        raise NotImplementedError


def test_the_trivial_answer_is_the_mean_pose_of_samples_from_all_over_the_set(few_for_the_mean):
    standing = Standing()
    mean = HumanPose().baseline(standing)
    assert standing.asked == [0, 2, 4]
    # Two pixels further right than the first, in a picture twice as large.
    answer = mean({"image": np.zeros((60, 80, 3), np.uint8), "joints": np.zeros((3, 3), np.float32)})
    assert isinstance(answer, Pose) and answer.skeleton == FACE_ON
    np.testing.assert_allclose(answer.joints[:2], [[24.5, 10.5, 1], [44.5, 30.5, 1]], atol=1e-4)
    assert answer.joints[2, 2] == 0


def mean_pose() -> torch.Tensor:
    """Of samples 0, 2 and 4 of `Standing`, as shares of 40 x 30; what nobody labels is in the middle."""
    return torch.tensor([[12.5 / 40, 5.5 / 30], [22.5 / 40, 15.5 / 30], [0.5, 0.5]])


@pytest.mark.parametrize(
    "what", [{"backbone": "resnet20_cifar", "head": "regression"}, *({"network": name} for name in WHOLE_NETWORKS)]
)
def test_a_network_of_coordinates_starts_at_the_mean_pose_of_its_training_set(what, few_for_the_mean):
    torch.manual_seed(0)
    task = HumanPose(start="he_fan_in", stretch=True)
    model: Any = Blueprint(task, FIELDS, **what).build()
    learned = {name: value.clone() for name, value in model.named_parameters()}
    task.fit(model, Standing())
    torch.testing.assert_close(model.expected, mean_pose())
    # What was learned before, in a run that starts from another's weights, stays.
    assert all(torch.equal(value, learned[name]) for name, value in model.named_parameters())
    # The last layer's small weights are all that leads away from there.
    torch.nn.init.zeros_((model.head if "head" in what else model.coarse).predict.weight)
    with torch.no_grad():
        for stage in model.eval().coordinates(torch.rand(2, 3, 120, 80)):
            torch.testing.assert_close(stage, mean_pose().expand(2, 3, 2))


@pytest.mark.parametrize(
    "what", [{"backbone": "resnet20_cifar", "head": "deconvolution"}, *({"network": name} for name in WHOLE_NETWORKS)]
)
def test_maps_and_the_papers_own_start_expect_nothing(what, few_for_the_mean):
    task = HumanPose()
    model = Blueprint(task, FIELDS, **what).build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    standing = Standing()
    task.fit(model, standing)
    after = model.state_dict()
    assert standing.asked == [] and "expected" not in after
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_network_learns_maps_of_the_width_that_the_task_reads():
    assert Blueprint(HumanPose(sigma=1.5), FIELDS, "resnet20_cifar", {}, "deconvolution").build().sigma == 1.5


def test_of_a_world_without_end_the_mean_is_of_its_first_samples(few_for_the_mean):
    asked = []

    class Watched(Figures):
        def read(self, index: int) -> Sample:
            asked.append(index)
            return super().read(index)

    HumanPose().baseline(Watched(size=(32, 32)))
    assert asked == [0, 1, 2]
