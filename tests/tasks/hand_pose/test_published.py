"""Published protocol and poses of NYU: `tools/reproduce/hands.py` on files in the authors' formats, made up."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from densevision.datasets import dataset_class
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.hand.cube import project
from densevision.datasets.hand.nyu_hand import NYUHand
from densevision.datasets.hand.skeletons import nyu_joints
from densevision.datasets.rendering.hands import palm_of, pose_hand, random_rotation

TOOL = Path(__file__).parents[3] / "tools" / "reproduce" / "hands.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("reproduce_hands", TOOL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def write_uvd(path: Path, joints: np.ndarray, camera: np.ndarray, named: bool, ending: str) -> None:
    lines = []
    for frame, pose in enumerate(joints):
        uvd = np.column_stack([project(pose, camera), pose[:, 2]])
        name = f"test/depth_1_{frame + 1:07}.png " if named else ""
        lines.append(name + " ".join(f"{value:.4f}" for value in uvd.ravel()) + ending)
    path.write_text("".join(lines), newline="")


@pytest.mark.parametrize(("name", "ending"), [("icvl", " \r\r\n"), ("nyu-hand", "\n")])
def test_figures_of_published_predictions(tmp_path, capsys, tool, name, ending):
    dataset: Any = dataset_class(name)
    rng, count = np.random.default_rng(0), len(dataset.skeleton.names)
    labels = rng.uniform((-80, -80, 500), (80, 80, 800), (200, count, 3))
    # Every joint of a frame is off by up to 60 mm.
    directions = rng.normal(size=labels.shape)
    distances = rng.uniform(0, 1, (200, count)) * rng.uniform(5, 60, (200, 1))
    predictions = labels + directions / np.linalg.norm(directions, axis=2, keepdims=True) * distances[..., None]
    write_uvd(tmp_path / "predictions.txt", predictions, dataset.camera, False, ending)
    write_uvd(tmp_path / "labels.txt", labels, dataset.camera, True, ending)
    tool.published(name, str(tmp_path / "predictions.txt"), str(tmp_path / "labels.txt"))
    printed = capsys.readouterr().out.strip().removeprefix(f"{name}: ")
    scores = {key: float(value) for key, value in (part.rsplit(" ", 1) for part in printed.split(", "))}
    # Facts-next C.4: the mean over frames of the mean over joints; frames whose worst joint is within D, at most D.
    assert scores["mm"] == pytest.approx(distances.mean(), rel=1e-3)
    for limit in (20, 30, 40, 50, 80):
        assert scores[f"within_{limit}"] == pytest.approx((distances.max(1) <= limit).mean(), abs=0.0051)
    assert scores[f"mm {dataset.skeleton.names[-1]}"] == pytest.approx(distances[:, -1].mean(), rel=1e-3)


def test_files_of_other_lengths_are_refused(tmp_path, tool):
    (tmp_path / "a.txt").write_text("1 2 3\n")
    with pytest.raises(SystemExit, match="line 1: expected 14 times u v d, found 3 numbers"):
        tool.read_uvd(tmp_path / "a.txt", NYUHand.skeleton, NYUHand.camera)


def hands(count: int) -> np.ndarray:
    before = np.array([0, 0, 700])
    return np.array([pose_hand(generator(0, 0, number, Purpose.EXAMPLE)) + before for number in range(count)])


def test_a_whole_hand_has_the_joints_of_nyu_where_they_are(tool):
    for hand in hands(10):
        nyu = nyu_joints(hand).astype(np.float64)
        rebuilt = tool.whole_hand(nyu)
        np.testing.assert_allclose(nyu_joints(rebuilt)[:11], nyu[:11], atol=1e-3)
        # Roots and palm come from the rigid palm; here they are those of the renderer itself.
        np.testing.assert_allclose(rebuilt[[5, 9, 13, 17]], hand[[5, 9, 13, 17]], atol=1e-3)
        assert np.linalg.norm(palm_of(rebuilt) - nyu[13]) < 1


def test_renderings_of_poses_are_samples_with_their_joints_in_the_cube(tmp_path, tool):
    labels = np.array([nyu_joints(hand) for hand in hands(3)], np.float64)
    write_uvd(tmp_path / "labels.txt", labels, NYUHand.camera, True, "\n")
    samples = tool.render_poses(str(tmp_path / "labels.txt"))
    assert [sample["cube"][3] for sample in samples] == [300] * 3
    for sample, label in zip(samples, labels, strict=True):
        np.testing.assert_allclose(sample["joints"][15], label[0], atol=0.5)  # the tip of the little finger
        pixels = project(sample["joints"], sample["camera"]).round().astype(int).clip(0, 127)
        assert (sample["depth"][pixels[:, 1], pixels[:, 0]] < 1).mean() > 0.7


def test_principal_components_of_poses_are_printed(tmp_path, capsys, tool):
    labels = np.array([nyu_joints(hand) for hand in hands(60)], np.float64)
    write_uvd(tmp_path / "labels.txt", labels, NYUHand.camera, True, "\n")
    tool.poses(str(tmp_path / "labels.txt"))
    printed, *rotations = capsys.readouterr().out.strip().splitlines()
    shares = [float(part.rsplit(" ", 1)[1]) for part in printed.split(": ")[1].split(", ")]
    assert shares == sorted(shares) and shares[-1] > 0.999
    # These hands are not rotated.
    assert rotations[0].startswith("roll: 5 to 95 % of the poses from") and rotations[-1].endswith(": 1.000")


def test_the_rotation_of_a_hand_is_that_of_its_palm(tool):
    for number, hand in enumerate(hands(5)):
        turn = random_rotation(generator(0, 1, number, Purpose.EXAMPLE), (150, 70, 180))
        rotation, scale = tool.rotation_of(1.2 * hand @ turn.T)
        np.testing.assert_allclose(rotation, turn, atol=1e-9)
        assert scale == pytest.approx(1.2)
        roll, pitch, yaw = np.radians(tool.angles_of(rotation))
        assert np.sin(pitch) == pytest.approx(turn[2, 1]) and abs(pitch) < np.radians(70)
        assert np.cos(pitch) * np.sin(yaw) == pytest.approx(-turn[2, 0])
        assert np.cos(pitch) * np.sin(roll) == pytest.approx(-turn[0, 1])


def test_closer_poses_are_hands_of_the_synthetic_kind(tmp_path, tool):
    labels = np.array([nyu_joints(hand) for hand in hands(2)], np.float64)
    write_uvd(tmp_path / "labels.txt", labels, NYUHand.camera, True, "\n")
    for samples in tool.closer_poses(str(tmp_path / "labels.txt")).values():
        for sample in samples:
            assert sample["cube"][3] == 250 and 250 < sample["cube"][2] < 570
            pixels = project(sample["joints"], sample["camera"]).round().astype(int).clip(0, 127)
            assert (sample["depth"][pixels[:, 1], pixels[:, 0]] < 1).mean() > 0.7
