"""The task from end to end: what training sees, what is asked, and how an answer comes back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from densevision import create_task, load, train
from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.augmentation import Augmentation
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.fields import Image, Keypoints, Kind, Skeleton
from densevision.datasets.figures import Figures
from densevision.datasets.geometry import Size
from densevision.datasets.randomness import Purpose, generator
from densevision.datasets.skeletons import COCO, LSP
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import check_task
from densevision.tasks.inference import Predictor
from densevision.tasks.pose import HumanPose, patched
from densevision.tasks.pose.networks import PoseNetwork
from densevision.tasks.pose.people import Pose
from densevision.tasks.task import Default, Query
from densevision.tasks.training.checkpoint import read_header, read_tensors
from densevision.tasks.training.options import Options
from densevision.tasks.training.stream import TrainingView

FACE_ON = Skeleton(("nose", "left hand", "right hand"), ((0, 1), (0, 2)), ((1, 2),))
FIELDS: dict[str, Kind] = {"image": Image(), "joints": Keypoints(FACE_ON)}
SIZE: Size = (64, 96)
WHOLE_NETWORKS = ("belagiannis", "belagiannis_cascade")
RECIPES = HumanPose.recipes


@pytest.fixture
def few_for_the_mean(monkeypatch) -> None:
    """The trivial answer of these tests needs no three hundred figures."""
    monkeypatch.setattr("densevision.tasks.pose.BASELINE_SAMPLES", 3)


# --- promises and options ---------------------------------------------------------------------------------------


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


# --- networks ---------------------------------------------------------------------------------------------------


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
    assert made.shape == (2, len(skeleton.names), 3)


@pytest.mark.parametrize("what", [{"head": "regression"}, {"head": "deconvolution"}, {"network": "belagiannis"}])
def test_a_loss_of_another_answer_is_refused_before_the_first_step(what, tmp_path):
    loss = "tukey" if what.get("head") == "deconvolution" else "heatmaps"
    trunk = {} if "network" in what else {"backbone": "resnet20_cifar"}
    options: dict[str, Any] = {**QUICK, **what, **trunk, "loss": loss}
    with pytest.raises(UserError, match=f"The loss '{loss}' is not for a network that .*: take --loss with one of pap"):
        train(HumanPose(), **options, out=tmp_path / "run")


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


# --- what training sees -----------------------------------------------------------------------------------------


def test_the_whole_person_stays_in_view_and_the_rest_is_drawn_as_the_run_says():
    usual = Augmentation(flip=0.25, rotate=30, zoom=1.3)
    for task, framing in ((HumanPose(), "fit"), (HumanPose(stretch=True), "stretch")):
        may = task.augmentation(usual, FIELDS, (80, 120))
        assert (may.framing, may.flip, may.rotate, may.zoom) == (framing, 0.25, 30, 1.3)
        # Without a zoom and a turn no joint leaves the picture, wherever in the window it lies.
        for index in range(8):
            world = Figures(size=(70, 40))
            seen = TrainingView(world, task, SIZE, Augmentation(flip=0.5), 0.0, 0).sample((0, index))
            assert (seen["joints"][:, 2] > 0).sum() == (world.read(index)["joints"][:, 2] > 0).sum()


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture of which no pixel is grey."""
    picture = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    picture[..., 0] = picture[..., 1] + 40
    return picture


def test_patches_are_grey_hide_a_part_and_move_no_joint():
    sample = {"image": noise(), "joints": np.array([[3, 4, 2], [8, 9, 1], [0, 0, 0]], np.float32)}
    before, shares = sample["image"].copy(), []
    for index in range(40):
        made = HumanPose(patches=1.0).prepare(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)
        assert made["joints"] is sample["joints"]
        hidden = (made["image"] != before).any(-1)
        assert np.ptp(made["image"][hidden].astype(int), axis=-1).max() == 0
        shares.append(hidden.mean())
    np.testing.assert_array_equal(sample["image"], before)
    # One or two, each of a tenth to a third of both sides.
    assert min(shares) > 0.008 and 0.05 < np.mean(shares) < 0.12 and max(shares) < 2 * 0.34**2


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3)])
def test_a_patch_on_a_tiny_picture_is_a_pixel_at_least_and_within_it(size):
    picture = noise(*size)
    assert all((patched(picture, np.random.default_rng(seed)) != picture).any() for seed in range(5))


@pytest.mark.parametrize(("patches", "least", "most"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_so_many_pictures_have_patches(patches, least, most):
    # 200 draws at 0.3 are 60, standard deviation 6.5.
    sample, task = {"image": noise(8, 8)}, HumanPose(patches=patches)
    drawn = (task.prepare(sample, generator(0, 0, index, Purpose.PREPARE), 0.0)["image"] for index in range(200))
    assert least <= sum(not np.array_equal(image, sample["image"]) for image in drawn) <= most


def test_colours_change_as_the_run_says_and_nothing_in_evaluation():
    sample = {"image": noise(), "joints": np.zeros((3, 3), np.float32)}
    task = HumanPose(patches=0)
    coloured = task.prepare(sample, generator(0, 0, 0, Purpose.PREPARE), 1.0)
    assert not np.array_equal(coloured["image"], sample["image"]) and coloured["joints"] is sample["joints"]
    still = HumanPose(patches=1).prepare(sample, None, 1.0)
    assert all(still[name] is value for name, value in sample.items())


# --- scores and the trivial answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lsp", "lsp-extended", "lsp-observer", "mpii", "coco-people", "pose-folders"])
def test_the_usual_protocol_of_a_set_finds_in_its_samples_all_that_it_needs(name, tmp_path):
    dataset_class(name).write_miniature(tmp_path)
    dataset, task = open_dataset(name, tmp_path, "train"), HumanPose()
    usual = {"mpii": "pckh", "coco-people": "coco", "pose-folders": "pck-box"}.get(name, "pck-torso")
    assert task.default_protocol(name) == usual
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


def test_of_a_world_without_end_the_mean_is_of_its_first_samples(few_for_the_mean):
    asked = []

    class Watched(Figures):
        def read(self, index: int) -> Sample:
            asked.append(index)
            return super().read(index)

    HumanPose().baseline(Watched(size=(32, 32)))
    assert asked == [0, 1, 2]


# --- answers ----------------------------------------------------------------------------------------------------


class Knowing(PoseNetwork):
    """Answers with what it is told, in pixels of the picture that it is shown."""

    answers = "coordinates"
    stride = 1

    def __init__(self, told: np.ndarray) -> None:
        super().__init__()
        self.told = torch.from_numpy(np.column_stack([told, np.linspace(0.2, 0.8, len(told))])).float()[None]

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-2:] == SIZE
        return self.told


class Looking(PoseNetwork):
    """Finds the blue dot, which is the nose, and the green and the red one, which are hands.

    Of somebody who faces the camera the left hand is on the right, whatever the colour: equivariant to a mirror.
    """

    answers = "coordinates"
    stride = 1

    def forward(self, image: Tensor) -> Tensor:
        weights = image / image.sum((-1, -2), keepdim=True)
        x, y = (weights.sum(axis) @ torch.arange(float(side)) for axis, side in ((-2, SIZE[1]), (-1, SIZE[0])))
        red, green, blue = torch.stack([x, y, torch.ones_like(x)], dim=-1).unbind(1)
        left, right = (red, green) if red[0, 0] > green[0, 0] else (green, red)
        return torch.stack([blue, left, right], dim=1)


def ask(network: PoseNetwork, picture: np.ndarray, task: HumanPose | None = None, **options: Any) -> Pose:
    answer = Predictor(task or HumanPose(), network, FIELDS, SIZE).predict(picture, **options)
    assert isinstance(answer, Pose)
    return answer


def places_in(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).uniform(-0.5, np.array([width, height]) - 0.5, (3, 2))


def shown_at(places: np.ndarray, source: Size, stretch: bool) -> np.ndarray:
    """Where places lie in the network's picture: the source's pixels are squares, in the middle of what they fill."""
    across, down = SIZE[1] / source[1], SIZE[0] / source[0]
    if not stretch:
        across = down = min(across, down)
    border = (SIZE[1] - across * source[1]) / 2, (SIZE[0] - down * source[0]) / 2
    return (places + 0.5) * (across, down) - 0.5 + border


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("source", [(64, 96), (121, 83), (37, 53), (5, 400), (400, 5), (1, 1), (300, 200)])
def test_joints_come_back_to_the_original_whatever_the_network_was_shown(source, stretch):
    places = places_in(*source)
    answer = ask(Knowing(shown_at(places, source, stretch)), np.zeros((*source, 3), np.uint8), HumanPose(stretch))
    np.testing.assert_allclose(answer.joints[:, :2], places, atol=1e-4)
    np.testing.assert_allclose(answer.joints[:, 2], [0.2, 0.5, 0.8])
    assert answer.joints.dtype == np.float32 and answer.box is None
    assert answer.image is not None and answer.image.shape == (*source, 3)


@pytest.mark.parametrize("stretch", [False, True])
def test_asked_about_a_box_joints_come_back_to_the_whole_picture(stretch):
    # A margin of 80 / 8 on every side: see `test_a_box_is_seen_with_an_eighth_of_its_longer_side_around_it`.
    places = places_in(100, 60)
    network, picture = Knowing(shown_at(places, (100, 60), stretch)), np.zeros((150, 200, 3), np.uint8)
    answer = ask(network, picture, HumanPose(stretch), box=(30, 20, 40, 80))
    np.testing.assert_allclose(answer.joints[:, :2], places + np.array([20, 10]), atol=1e-4)
    assert answer.box == (20, 10, 60, 100) and answer.picture().shape == (100, 60, 3)
    assert "in the box 20,10,60,100" in answer.brief()


def test_a_box_in_the_corner_is_not_called_the_whole_picture():
    answer = ask(Knowing(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8), box=(0, 0, 40, 80))
    assert answer.box == (0, 0, 50, 90) and "in the box 0,0,50,90" in answer.brief()
    assert "in the whole picture" in ask(Knowing(np.zeros((3, 2))), np.zeros((150, 200, 3), np.uint8)).brief()


DOTS = np.array([[70, 50], [88, 62], [61, 80]])
"""Nose, left and right hand in a picture of 120 x 160."""


def dotted(hands: str) -> np.ndarray:
    """The picture, its left and right hand of the first and the second of these colours."""
    picture = np.zeros((120, 160, 3), np.uint8)
    rows, columns = np.mgrid[:120, :160]
    for (x, y), colour in zip(DOTS, "b" + hands, strict=True):
        picture[..., "rgb".index(colour)] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return picture


@pytest.mark.parametrize("stretch", [False, True])
@pytest.mark.parametrize("box", [None, (48, 47, 64, 37), (48, 30, 80, 59)])
@pytest.mark.parametrize("hands", ["rg", "gr"])
def test_what_is_seen_at_a_place_is_answered_at_that_place_and_alike_in_a_mirror(hands, box, stretch):
    for flip in (False, True):
        answer = ask(Looking(), dotted(hands), HumanPose(stretch), box=box, flip=flip)
        np.testing.assert_allclose(answer.joints[:, :2], DOTS, atol=0.2)


def test_in_a_mirror_the_left_hand_is_the_right_one():
    output = torch.tensor([[[3.0, 5, 0.5], [10, 20, 0.9], [40, 21, 0.1]]])
    mirrored = HumanPose().mirrored(output, FIELDS, 96)
    torch.testing.assert_close(mirrored, torch.tensor([[[92.0, 5, 0.5], [55, 21, 0.1], [85, 20, 0.9]]]))


def test_flip_averaging_takes_out_what_does_not_turn_in_a_mirror():
    same = np.array([[10, 20], [30, 40], [50, 44]])
    answer = ask(Knowing(same), np.zeros((*SIZE, 3), np.uint8), flip=True)
    # 47.5 is the middle of 96 columns; the hands meet halfway between each other's mirror image and themselves.
    np.testing.assert_allclose(
        answer.joints, [[47.5, 20, 0.2], [(30 + 95 - 50) / 2, 42, 0.65], [(50 + 95 - 30) / 2, 42, 0.65]], atol=1e-4
    )


def test_an_answer_in_half_precision_is_decoded_in_full():
    output = torch.tensor([[[1.5, 2.25, 1.0]] * 3], dtype=torch.bfloat16)
    query = Query({"image": np.zeros((*SIZE, 3), np.uint8)}, FIELDS, SIZE, np.diag([0.5, 0.5, 1]))
    answer: Any = HumanPose().decode(output, query)
    np.testing.assert_array_equal(answer.joints, [[3, 4.5, 1]] * 3)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # Top, left, height and width, by hand.
        ((100, 50, 40, 80), (40, 90, 100, 60)),
        ((100, 50, 80, 40), (40, 90, 60, 100)),
        ((0, 0, 40, 80), (0, 0, 90, 50)),
        ((-30, -30, 80, 80), (0, 0, 60, 60)),
        ((280, 350, 80, 80), (340, 270, 60, 30)),
        ((-10, -10, 1000, 1000), (0, 0, 400, 300)),
        # Sixteen pixels at least.
        ((100, 100, 2, 2), (93, 93, 16, 16)),
    ],
)
def test_a_box_is_seen_with_an_eighth_of_its_longer_side_around_it(box, expected):
    assert HumanPose().window(box, (400, 300)) == expected


@pytest.mark.parametrize("box", [(300, 0, 10, 10), (0, -20, 10, 20), (5, 5, 0, 10), (5, 5, -3, 10)])
def test_a_box_beside_the_picture_or_without_extent_is_a_sentence(box):
    with pytest.raises(UserError, match="holds no pixel of the picture, which is 300 wide and 400 high"):
        ask(Knowing(np.zeros((3, 2))), np.zeros((400, 300, 3), np.uint8), box=box)


def test_a_box_shows_what_training_showed_of_somebody_in_that_box(tmp_path):
    dataset_class("coco-people").write_miniature(tmp_path)
    people = open_dataset("coco-people", tmp_path, "val")
    pictures = sorted((tmp_path / "val2017").iterdir())
    for index in range(4):
        # Two people a picture, x, y, width and height as its file states them.
        box = ((8, 8, 56, 72), (80, 8, 56, 72))[index % 2]
        predictor = Predictor(HumanPose(), Knowing(np.zeros((3, 2))), FIELDS, SIZE)
        answer: Any = predictor.predict(pictures[index // 2], box=box)
        np.testing.assert_array_equal(answer.image, people.read(index)["image"])


@pytest.mark.parametrize("head", HumanPose.heads)
def test_a_picture_of_any_size_and_form_is_answered(head):
    torch.manual_seed(0)
    model: Any = Blueprint(HumanPose(), FIELDS, "resnet20_cifar", {}, head).build()
    for size in ((1, 1), (5, 400), (400, 5), (33, 47), (64, 96, 1), (64, 96, 4)):
        for box in (None, (0, 0, 3, 3)):
            answer = ask(model, np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8), box=box, flip=True)
            assert np.isfinite(answer.joints).all() and answer.joints.shape == (3, 3)
            assert answer.picture().ndim == 3


# --- runs -------------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {
    "size": (32, 32), "batch": 4, "steps": 2, "ema": 0.0, "warmup": 0, "workers": 0, "device": "cpu", "amp": "off",
    "evaluate_every": 0, "eval_samples": 2, "log_every": 2, "save_every": 1,
}  # fmt: skip
AUTHORS: dict[str, Any] = {"recipe": "belagiannis", "size": (120, 80)}
SETTINGS: dict[str, tuple[HumanPose, dict[str, Any]]] = {
    "deconvolution": (HumanPose(), {"backbone": "resnet18", "levels": 3}),
    "regression": (HumanPose(patches=0.5), {"backbone": "resnet20_cifar", "head": "regression", "loss": "tukey"}),
    "belagiannis": (HumanPose(stretch=True, patches=0.0), AUTHORS),
    "cascade": (HumanPose(stretch=True), {**AUTHORS, "network": "belagiannis_cascade"}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_stops_resumes_is_judged_beside_the_mean_pose_and_answers(name, tmp_path, few_for_the_mean):
    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    task, options = SETTINGS[name]
    options = {**QUICK, **options}
    with pytest.raises(KeyboardInterrupt):
        train(task, **options, out=tmp_path / "run", on_step=stop)
    result = train("pose", out=tmp_path / "run", resume=True)
    checkpoint = tmp_path / "run" / "best.safetensors"
    header, tensors = read_header(checkpoint), read_tensors(checkpoint)
    assert result["steps"] == 2 and result["protocol"] == "pck-torso"
    assert result["watch"]["name"] == "score" and 0 <= result["watch"]["baseline"] <= 1
    assert HumanPose(**header["task_options"]) == task
    # Tukey's loss knows how many batches it has seen, in a run that was continued too.
    assert tensors["compared"] == 2 if name != "deconvolution" else "compared" not in tensors
    answer: Any = load(checkpoint, "cpu", "off").predict(np.zeros((37, 51, 3), np.uint8), flip=True)
    assert answer.joints.shape == (14, 3) and np.isfinite(answer.joints).all()
    assert [file.name for file in answer.save(tmp_path, "a")] == ["a_pose.json", "a_pose.png"]
    if name != "cascade":  # 38.5 million parameters twice over
        train(task, **options, out=tmp_path / "whole")
        whole = read_tensors(tmp_path / "whole" / "best.safetensors")
        assert all(torch.equal(value, whole[key]) for key, value in tensors.items())


def test_the_command_line_takes_the_tasks_own_options(tmp_path, few_for_the_mean):
    from densevision.apps.cli import main

    out: Path = tmp_path / "run"
    words = ["train", "pose", "--stretch", "--patches", "0.25", "--head", "regression", "--loss", "smooth-l1"]
    words += ["--backbone", "resnet20_cifar", "--size", "24", "16", "--batch", "2", "--steps", "1", "--ema", "0"]
    main([*words, "--eval-samples", "1", "--workers", "0", "--out", str(out), "--device", "cpu", "--amp", "off"])
    header = read_header(out / "best.safetensors")
    assert HumanPose(**header["task_options"]) == HumanPose(stretch=True, patches=0.25)
    assert (header["head"], header["loss"], header["size"]) == ("regression", "smooth-l1", [24, 16])
