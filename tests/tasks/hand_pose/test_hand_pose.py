"""Hand pose end to end: normalization, metrics, predictions, training. Facts-next, part C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densevision import create_task
from densevision.datasets import open_dataset
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.core.geometry import Geometry, rotation, translation
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.dataset import FirstSamples, Sample
from densevision.datasets.field_types import Skeleton, collate, transform_sample
from densevision.datasets.formats.arrays import write_npy
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.formats.png import write_depth_png, write_png16
from densevision.datasets.formats.video import read_video
from densevision.datasets.hand.cube import camera_matrix, cut_cube, move_cube, project, unproject
from densevision.datasets.hand.localization import find_palm
from densevision.datasets.hand.skeletons import ICVL, icvl_joints
from densevision.datasets.rendering.hands import SENSOR, Hand, draw_hand, palm_of
from densevision.errors import UserError
from densevision.tasks.hand_pose import HandPose
from densevision.tasks.hand_pose.deepprior import DeepPrior
from densevision.tasks.hand_pose.hand_prediction import MeanHand, sample_prediction
from densevision.tasks.hand_pose.metrics import HandMetrics
from densevision.tasks.hand_pose.networks import normalize_joints
from densevision.tasks.hand_pose.policies import load_depth
from densevision.tasks.inference import Predictor
from densevision.tasks.training.data import AugmentedDataset, InfiniteBatchSampler
from densevision.tasks.training.setup import train
from densevision.tasks.training.state import load_state

from ..processes import run_processes
from ..training.toys import largest_gap, require_same_runs, stop_after
from .train_in_process import train_without_dropout

DATASET = open_dataset("synthetic-hands", None, "test")
FIELDS = DATASET.fields


def hand(number: int = 0) -> Hand:
    return draw_hand(generator(0, 0, number, Purpose.EXAMPLE), SENSOR)


def predictor(network: Any = None, **options: Any) -> Predictor:
    task = create_task("hand_pose", **options)
    return Predictor(task, (network or DeepPrior(16, 30)).eval(), FIELDS, (128, 128))


def sample_of(joints: np.ndarray) -> Sample:
    return {"joints": joints.astype(np.float32), "depth": np.ones((8, 8), np.float32), "camera": np.eye(3)}


# --- normalization


def batch_of(sample: Sample) -> dict[str, torch.Tensor]:
    return collate([sample], {name: FIELDS[name] for name in ("joints", "camera", "cube")})


def test_joints_are_relative_to_the_cube_and_clipped():
    sample = DATASET.read(0)
    normalized = normalize_joints(**batch_of(sample))
    np.testing.assert_allclose(
        normalized[0].numpy(), ((sample["joints"] - sample["cube"][:3]) / 125).clip(-1, 1), atol=1e-5
    )


def test_a_rotated_image_has_rotated_joints():
    center = translation(63.5, 63.5)
    matrix = center @ rotation(30) @ np.linalg.inv(center)
    sample = DATASET.read(1)
    moved = transform_sample(sample, FIELDS, Geometry((matrix,), (128, 128)))
    plain, turned = (normalize_joints(**batch_of(each))[0].numpy() for each in (sample, moved))
    np.testing.assert_allclose(turned[:, :2], plain[:, :2] @ rotation(30)[:2, :2].T, atol=1e-4)
    np.testing.assert_allclose(turned[:, 2], plain[:, 2], atol=1e-6)
    # That is where the rotated image has them.
    expected = (matrix @ np.column_stack([project(sample["joints"], sample["camera"]), np.ones(16)]).T).T[:, :2]
    np.testing.assert_allclose(project(moved["joints"], moved["camera"]), expected, atol=1e-3)


def test_training_never_flips_a_hand():
    # T: a flipped hand is the other hand; the training options flip by default.
    limits = HandPose().augmentation.limits(Augmentation(hflip=0.5, max_zoom=2.0, max_rotation=9), FIELDS, (128, 128))
    assert (limits.hflip, limits.max_zoom, limits.max_rotation) == (0, 1, 9)
    with pytest.raises(UserError, match="A mirrored hand is the other hand"):
        predictor().predict_sample(DATASET.read(0), flip=True)


def test_a_moved_cube_shows_the_same_surface():
    sample = DATASET.read(2)
    moved = move_cube(sample, np.array([12.0, -7, 20]), 1.1)
    np.testing.assert_allclose(moved["cube"], sample["cube"] * (1, 1, 1, 1.1) + (12, -7, 20, 0), atol=1e-3)
    rows, columns = np.nonzero(moved["depth"] < 1)
    depth = (moved["depth"][rows, columns] - 0.5) * moved["cube"][3] + moved["cube"][2]
    points = unproject(np.column_stack([columns, rows]).astype(float), depth, moved["camera"])
    x, y = project(points, sample["camera"]).round().astype(int).T
    front = moved["depth"][rows, columns] > 0
    before = (sample["depth"][y, x] - 0.5) * sample["cube"][3] + sample["cube"][2]
    np.testing.assert_allclose(depth[front], before[front], atol=1e-2)
    # The center of the cube stays in the middle, at the magnification of its side and distance.
    np.testing.assert_allclose(
        project(moved["cube"][:3], moved["camera"]), project(sample["cube"][:3], sample["camera"]), atol=1e-3
    )
    side = moved["camera"][0, 0] * moved["cube"][3] / moved["cube"][2]
    assert side == pytest.approx(sample["camera"][0, 0] * 250 / sample["cube"][2], rel=1e-4)


def test_shift_and_scale_are_random_per_sample_and_off_at_inference():
    task = HandPose(shift=5, scale=0.02)
    sample = {name: DATASET.read(0)[name] for name in FIELDS}
    cubes = np.array([
        task.augmentation.augment(sample, generator(0, 0, number, Purpose.PREPARE), 0)["cube"] for number in range(200)
    ])  # fmt: skip
    np.testing.assert_allclose(cubes[:, :3].std(0), 5, rtol=0.2)
    assert cubes[:, 3].std() == pytest.approx(5, rel=0.2)  # 2 % of 250 mm
    assert task.augmentation.augment(sample, None, 0) is sample
    options: tuple[dict[str, Any], ...] = ({"shift": -1}, {"scale": float("nan")})
    for option in options:
        with pytest.raises(UserError, match="it must be 0 or a standard deviation"):
            HandPose(**option)


# --- metrics


def test_metrics_by_hand():
    two = Skeleton(("palm", "tip"), (), ())
    labels = np.zeros((2, 3))
    metrics = HandMetrics()
    for joints in ([[20.0, 0, 0], [0, 0, 0]], [[0, 30.5, 0], [0, 0, 40.5]]):
        metrics.update(sample_prediction(sample_of(labels), np.array(joints), two), sample_of(labels))
    scores = metrics.compute()
    # Means of frames 10 and 35.5; the worst joints are 20 (which counts as within 20) and 40.5.
    assert scores["mm"] == pytest.approx(22.75)
    within = {20: 0.5, 30: 0.5, 40: 0.5, 50: 1, 60: 1, 80: 1}
    assert {name: scores[f"within_{name}"] for name in within} == within
    assert scores["mm palm"] == pytest.approx(25.25) and scores["mm tip"] == pytest.approx(20.25)
    assert all(np.isnan(value) for value in HandMetrics().compute().values())


def test_the_baseline_is_the_mean_pose_in_the_cube():
    baseline = MeanHand(FirstSamples(DATASET, 40))
    metrics = HandMetrics()
    for index in range(40):
        metrics.update(baseline(DATASET.read(index)), DATASET.read(index))
    # 49.7 mm on 500 hands: facts-next, C.5.
    assert metrics.compute()["mm"] == pytest.approx(49.7, abs=5)


# --- predictions


def write_hand(path: Any, number: int = 0) -> Hand:
    drawn = hand(number)
    write_png16(path, drawn.depth.astype(np.uint16))
    return drawn


class TrueJoints(DeepPrior):
    """The joints of one hand, as a network would give them for its cube."""

    def __init__(self, joints: np.ndarray, cube: np.ndarray) -> None:
        super().__init__(16, 30)
        self.joints = torch.from_numpy((joints - cube[:3]) / (cube[3] / 2)).float().flatten()

    def forward(self, depth):
        return self.joints.expand(len(depth), -1)


def test_a_prediction_is_in_millimeters_of_the_camera():
    sample = DATASET.read(3)
    network = TrueJoints(sample["joints"], sample["cube"])
    prediction: Any = predictor(network).predict_sample(sample)
    np.testing.assert_allclose(prediction.joints, sample["joints"], atol=1e-3)
    np.testing.assert_allclose(prediction.pixels, project(sample["joints"], sample["camera"]), atol=1e-3)


def test_a_depth_image_gives_joints_in_its_pixels(tmp_path, monkeypatch):
    # The network below knows the first cube only.
    monkeypatch.setattr("densevision.tasks.hand_pose.policies.REFINEMENTS", 0)
    drawn = write_hand(tmp_path / "a.png")
    scale = SENSOR[1] / 320
    camera = camera_matrix(241.42 * scale, 241.42 * scale, 160 * scale, 120 * scale)
    cut = cut_cube(drawn.depth, camera, find_palm(drawn.depth, camera), 250)
    joints = icvl_joints(drawn.joints)
    prediction: Any = predictor(TrueJoints(joints, cut["cube"])).predict(tmp_path / "a.png")
    np.testing.assert_allclose(prediction.joints, joints, atol=1e-3)
    assert "found as the widest part of the nearest region" in prediction.summary()
    files = prediction.save(tmp_path, "a")
    assert [file.name for file in files] == ["a_hand.json", "a_hand.png", "a_hand_views.png"]
    stored = json.loads(files[0].read_text())
    assert stored["unit"] == "millimeters" and list(stored["joints"]) == list(ICVL.names)
    assert stored["joints"]["palm"] == pytest.approx(joints[0].tolist(), abs=0.006)
    assert stored["camera"] == pytest.approx([241.42, 241.42, 160, 120])
    image = read_image(files[1])
    assert image.shape == (240, 320, 3)
    # Joints are drawn in yellow where they are.
    u, v = np.round(stored["pixels"]["palm"]).astype(int)
    assert image[v, u].tolist() == [255, 255, 0] or (image[v - 1 : v + 2, u - 1 : u + 2] == [255, 255, 0]).all(-1).any()
    assert read_image(files[2]).shape == (192, 576, 3)


def test_the_palm_is_found_in_front_of_a_wall_and_beside_the_arm():
    errors = []
    for number in range(12):
        drawn = hand(number)
        depth = np.where(drawn.depth > 0, drawn.depth, 1200)
        palm = find_palm(depth, drawn.camera)
        found, given = (cut_cube(drawn.depth, drawn.camera, each, 250) for each in (palm, palm_of(drawn.joints)))
        errors.append(np.linalg.norm(found["cube"][:3] - given["cube"][:3]))
        np.testing.assert_allclose(palm, find_palm(drawn.depth, drawn.camera))
    # The mean of the nearest region, of which the arm is a part, is 20 mm off.
    assert np.mean(errors) < 8 and max(errors) < 30


def test_the_protocol_found_looks_for_the_hand_in_the_complete_image():
    task = HandPose()
    found = task.evaluation.under(DATASET, "found")
    assert task.evaluation.under(DATASET, "palm-given") is DATASET
    sample, given = found.read(3), DATASET.read(3)
    np.testing.assert_array_equal(sample["joints"], given["joints"])
    assert sample["cube"].tolist() != given["cube"].tolist() and found.sample_name(3) == DATASET.sample_name(3)
    frame: Any = DATASET.read_frame(3)  # type: ignore[attr-defined]
    palm = find_palm(frame.depth, frame.camera)
    np.testing.assert_array_equal(sample["depth"], cut_cube(frame.depth, frame.camera, palm, 250)["depth"])
    with pytest.raises(UserError, match="no complete depth images"):
        task.evaluation.under(open_dataset("synthetic-rooms"), "found")


def test_the_cube_is_centered_at_the_predicted_palm_and_predicted_for_again():
    class Shifted(DeepPrior):
        """Every joint 10 mm to the right of the center of the cube that it sees."""

        def forward(self, depth):
            seen.append(depth[0, 0].numpy())
            return torch.tensor([10 / 125, 0, 0]).repeat(len(depth), 16)

    seen: list[np.ndarray] = []
    model, sample = predictor(Shifted(16, 30)), HandPose().evaluation.under(DATASET, "found").read(3)
    prediction: Any = model.predict_sample(sample)
    cubes, moved = [sample["cube"]], np.array([10, 0, 0])
    for depth in seen[1:]:
        cut = cut_cube(1000 * sample["frame"], sample["frame_camera"], cubes[-1][:3] + moved, 250)
        np.testing.assert_array_equal(depth, cut["depth"])
        cubes.append(cut["cube"])
    assert len(cubes) == 3 and not np.array_equal(cubes[0], cubes[2])
    np.testing.assert_allclose(prediction.joints, np.tile(cubes[-1][:3] + moved, (16, 1)), atol=1e-3)
    # Where the palm is given, there is one prediction.
    assert len(seen) == 3 and model.predict_sample(DATASET.read(3)) and len(seen) == 4


def test_another_camera_and_another_cube_change_the_millimeters(tmp_path):
    drawn, model = write_hand(tmp_path / "a.png"), predictor()
    near: Any = model.predict(tmp_path / "a.png")
    other: Any = model.with_options(camera=(482.84, 482.84, 160, 120), cube=125.0).predict(tmp_path / "a.png")
    # At twice the focal length and half the cube, the same pixels are a hand of half the width.
    assert other.camera[0, 0] == 482.84 and near.camera[0, 0] == pytest.approx(241.42)
    assert np.ptp(other.joints[:, 0]) < 0.8 * np.ptp(near.joints[:, 0]) and drawn.depth.any()
    with pytest.raises(UserError, match="has no option --lens"):
        model.with_options(lens=1)
    for option in ({"camera": (0, 1, 2, 3)}, {"cube": -1.0}):
        with pytest.raises(UserError, match=f"--{next(iter(option))} is"):
            model.with_options(**option)


def test_units_of_depth(tmp_path):
    meters = np.full((6, 8), 0.5, np.float32)
    meters[0, 0] = np.nan
    write_depth_png(tmp_path / "a.png", meters, 1000)
    write_npy(tmp_path / "a.npy", meters)
    from densevision.tasks.image_io import ImageFile

    millimeters = np.nan_to_num(meters * 1000).astype(np.uint16)
    for source in (
        ImageFile(tmp_path / "a.png"),
        ImageFile(tmp_path / "a.npy"),
        meters,
        millimeters,
        meters[..., None],
    ):
        np.testing.assert_allclose(load_depth(source), meters)


def test_damaged_depth_is_refused_in_a_sentence(tmp_path):
    model = predictor()
    for name, stored, message in (
        ("zero", np.zeros((20, 20), np.uint16), "found no known depth"),
        ("meters", np.full((20, 20), 2, np.uint16), "found depths from 2 to 2 mm"),
        ("far", np.full((20, 20), 9000, np.uint16), "found depths from 9000 to 9000 mm"),
        ("centimeters", np.full((20, 20), 40, np.uint16), "40 mm away, and the camera inside its cube of 250 mm"),
    ):
        write_png16(tmp_path / f"{name}.png", stored)
        with pytest.raises(UserError, match=message):
            model.predict(tmp_path / f"{name}.png")
    write_image(tmp_path / "8-bit.png", np.full((20, 20), 90, np.uint8))
    with pytest.raises(UserError, match="expected a 16-bit gray PNG, found 8 bits"):
        model.predict(tmp_path / "8-bit.png")
    for pixels in (np.full((20, 20, 3), 90, np.uint8), np.full((20, 20), 90, np.uint8), np.zeros((0, 5), np.uint16)):
        with pytest.raises(UserError, match="is no depth image: expected HxW integers of at least 16 bits"):
            model.predict(pixels)
    with pytest.raises(UserError, match="takes 1 input"):
        model.predict(pixels, pixels)
    with pytest.raises(UserError, match="by a cube, not by a box"):
        model.predict(np.full((20, 20), 400, np.uint16), box=(1, 1, 5, 5))
    with pytest.raises(UserError, match="has the fields 'cube' and 'camera'"):
        model.predict_sample({"depth": np.ones((128, 128), np.float32)})


def test_a_depth_sequence_becomes_a_video(tmp_path):
    model = predictor()
    for number in (2, 10, 1):
        write_hand(tmp_path / f"frame{number}.png", number)
        model.predict(tmp_path / f"frame{number}.png").save(tmp_path, f"frame{number}")
    policy = model.task.inference
    video = policy.write_results(tmp_path, ["frame2", "frame10", "frame1"])
    assert video is not None and video.name == "hands.mp4"
    frames = [frame.pixels for frame in read_video(video)]
    assert len(frames) == 3
    # In the order of their names, 10 after 2.
    for frame, number in zip(frames, (1, 2, 10), strict=True):
        drawn = read_image(tmp_path / f"frame{number}_hand.png")
        assert np.abs(frame.astype(int) - drawn).mean() < 12
    assert policy.write_results(tmp_path, ["frame2"]) is None
    write_image(tmp_path / "frame1_hand.png", np.zeros((20, 20, 3), np.uint8))
    assert policy.write_results(tmp_path, ["frame2", "frame1"]) is None


# --- training


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"model": "deepprior"}, {"model": "deepprior-refined", "optimizer": "rmsprop"}, {"head": "heat-maps"}]
)
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(tmp_path, options):
    task = HandPose(shift=5, scale=0.02)
    backbone = {} if "model" in options else {"backbone": "resnet20_cifar"}
    options = {
        **options, **backbone, "steps": 4, "batch_size": 4, "eval_samples": 2, "eval_every": 2, "ema_decay": 0.9,
        "warmup_steps": 1, "workers": 0, "threads": 1, "device": "cpu", "amp": "off", "max_rotation": 30.0,
    }  # fmt: skip
    train(task, out=tmp_path / "uninterrupted", **options)
    with pytest.raises(KeyboardInterrupt):
        train(task, out=tmp_path / "interrupted", on_step=stop_after(3), **options)
    train(task, out=tmp_path / "interrupted", resume=True)
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


def test_two_processes_train_on_the_samples_of_one():
    # The moved cubes depend on the sample, not on the process that draws it.
    augmented = AugmentedDataset(open_dataset("synthetic-hands"), HandPose(shift=5), (128, 128), Augmentation(), 0, 0)
    halves = [InfiniteBatchSampler(None, 1, range(1), 0).keys(number) for number in (0, 1)]
    (whole,) = InfiniteBatchSampler(None, 2, range(1), 0)
    assert [key for half in halves for key in half] == whole
    for key in whole:
        np.testing.assert_array_equal(augmented.sample(key)["cube"], augmented.sample(key)["cube"])


@pytest.mark.slow
def test_two_processes_are_equivalent_to_one_with_twice_the_batch_size(tmp_path):
    run_processes(Path(__file__).parent / "train_in_process.py", tmp_path)
    train_without_dropout(tmp_path / "one", 4)
    train_without_dropout(tmp_path / "half", 2)
    one, two, half = (load_state(tmp_path / name / "last" / "state.pt")["model"] for name in ("one", "0", "half"))
    assert largest_gap(one, two) < 1e-5
    # The samples of the second process count.
    assert largest_gap(one, half) > 1e-3


@pytest.mark.slow
def test_training_lowers_the_error_below_the_mean_pose(tmp_path):
    result = train(
        "hand_pose", train_samples=64, eval_samples=20, out=tmp_path / "run", steps=50, batch_size=32, lr=1e-3,
        workers=0, threads=1, device="cpu", amp="off", eval_every=0, ema_decay=0.0, warmup_steps=5, max_rotation=5,
    )  # fmt: skip
    assert result["metrics"]["mm"] < 0.95 * result["baseline"]["mm"]
