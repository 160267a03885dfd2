"""Validation of damaged datasets: all problems are reported in one pass."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.problems import DatasetError, Problem
from densevision.datasets.dataset import Dataset
from densevision.datasets.depth.depth_folders import DepthFolders
from densevision.datasets.depth.seven_scenes import SevenScenes
from densevision.datasets.field_types import Depth, Image
from densevision.datasets.formats.arrays import write_npy
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.png import write_png16
from densevision.errors import UserError


def cut(path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def assert_found(problems: list[Problem], expected: dict[str, str]) -> None:
    """Check for exactly these problems: part of the file name to part of the message."""
    messages = [str(problem) for problem in problems]
    for file, words in expected.items():
        assert any(file in problem.file and words in str(problem) for problem in problems), (file, messages)
    assert len(messages) == len(expected), messages


def test_eleven_kinds_of_damage_to_7_scenes_are_found_in_one_pass(tmp_path):
    for number in range(3):
        SevenScenes.write_example(tmp_path / f"part-{number}")
        for scene in ("chess", "fire"):
            (tmp_path / f"part-{number}" / scene).rename(tmp_path / f"{scene}-{number}")
        (tmp_path / f"part-{number}").rmdir()
    frames = {folder.name: folder / "seq-01" / "frame-000000" for folder in tmp_path.iterdir()}
    steps = np.full((48, 64), 1000, np.uint16)
    cut(frames["chess-0"].with_name("frame-000000.color.png"))
    cut(frames["chess-0"].with_name("frame-000001.depth.png"))
    cv2.imwrite(str(frames["chess-1"].with_name("frame-000000.depth.png")), np.full((48, 64), 9, np.uint8))
    write_png16(frames["chess-1"].with_name("frame-000001.depth.png"), steps[:24])
    frames["chess-2"].with_name("frame-000000.depth.png").unlink()
    frames["chess-2"].with_name("frame-000001.color.png").write_bytes(b"")
    write_png16(frames["fire-0"].with_name("frame-000000.depth.png"), steps * 0)
    (tmp_path / "fire-0" / "TestSplit.txt").unlink()
    (tmp_path / "fire-1" / "TrainSplit.txt").write_text("sequence1\nsequence7\nseq eight\n")
    (tmp_path / "fire-2" / "camera-intrinsics.txt").write_text("585 0 320\n0 585\n")
    problems = SevenScenes.validate(tmp_path)
    assert_found(
        problems,
        {
            "chess-0/seq-01/frame-000000.color.png": "found a PNG truncated",
            "chess-0/seq-01/frame-000001.depth.png": "found a PNG truncated",
            "chess-1/seq-01/frame-000000.depth.png": "16-bit gray PNG, found 8 bits",
            "chess-1/seq-01/frame-000001.depth.png": "64x48, found 64x24",
            "chess-2/seq-01/frame-000000.depth.png": "found no file",
            "chess-2/seq-01/frame-000001.color.png": "found an empty file",
            "fire-0/seq-01/frame-000000.color.png (depth)": "at least one known depth, found none",
            "fire-0/TestSplit.txt": "found no file",
            "fire-1/seq-07": "TrainSplit.txt lists, found none",
            "fire-1/TrainSplit.txt": "found 'seq eight'",
            "fire-2/camera-intrinsics.txt": "3x3 matrix",
        },
    )


def test_six_kinds_of_damage_to_folders_are_found_in_one_pass(tmp_path):
    root = tmp_path / "train"
    for name in "abcdefgh":
        write_image(root / "images" / f"{name}.jpg", np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8))
        write_npy(root / "depths" / f"{name}.npy", np.full((12, 16), 2, np.float32))
    write_image(tmp_path / "test" / "images" / "z.jpg", np.zeros((12, 16, 3), np.uint8))
    write_npy(tmp_path / "test" / "depths" / "z.npy", np.full((12, 16), 2, np.float32))
    cut(root / "images" / "a.jpg")
    cut(root / "depths" / "b.npy")
    write_npy(root / "depths" / "c.npy", np.full((12, 17), 2, np.float32))
    write_npy(root / "depths" / "d.npy", np.full((12, 16), np.inf, np.float32))
    write_npy(root / "depths" / "e.npy", np.full((12, 16), np.nan, np.float32))
    (root / "depths" / "f.npy").unlink()
    write_npy(root / "depths" / "g.npy", np.full((12, 16), 2, np.int64))
    (root / "images" / "h.jpg").unlink()
    assert_found(
        DepthFolders.validate(tmp_path),
        {
            "images/a.jpg": "found a JPEG truncated",
            "depths/b.npy": "an NPY array",
            "depths/c.npy": "16x12, found 17x12",
            "depths/d.npy": "found inf in 192 pixels",
            "images/e.jpg (depth)": "at least one known depth",
            "images/f.jpg": "a file of the same name in 'train/depths', found none",
            "depths/g.npy": "float meters of shape HxW, found 12x16 int64",
            "depths/h.npy": "a file of the same name in 'train/images', found none",
        },
    )


def test_message_is_the_first_problem_and_the_number_of_others(tmp_path):
    SevenScenes.write_example(tmp_path)
    (tmp_path / "chess" / "TrainSplit.txt").write_text("first\nsecond\nsequence1\n")
    with pytest.raises(
        DatasetError, match=r"found 'first'\. 1 more: 'densevision data validate' lists them"
    ) as error_info:
        SevenScenes(tmp_path)
    assert isinstance(error_info.value, UserError)
    assert len(error_info.value.problems) == 2
    again = pickle.loads(pickle.dumps(error_info.value))
    assert str(again) == str(error_info.value) and again.problems == error_info.value.problems


class Careless(Dataset):
    """A loader with a selectable fault, to test the conformance checks."""

    title, terms, fault = "Careless", "none", ""

    def __init__(self, root, split="train"):
        super().__init__(root, split)
        self.fields = {"image": Image(), "depth": Depth()}
        self.depth = np.full((20, 24), 2, np.float32)

    def __len__(self):
        return 0 if self.fault == "empty" else 2

    def sample_name(self, index):
        return f"{index}" if self.fault == "same names" else f"{self.split}-{index}.png"

    def read(self, index):
        path = self.root / f"{self.split}-{index}.png"
        if not path.is_file():
            raise DatasetError(path, "an image", "no file")
        image = cv2.imread(str(path))
        if image is None or (self.fault != "half files" and path.stat().st_size < 900):
            raise DatasetError(path, "a complete image", "part of one")
        depth = self.depth if self.fault == "shared memory" else self.depth.copy()
        if self.fault == "sizes":
            depth = depth[:10]
        if self.fault == "field":
            return {"image": image}
        return {"image": image, "depth": depth.astype(np.float64) if self.fault == "type" else depth}

    @classmethod
    def write_example(cls, root):
        rng = np.random.default_rng(0)
        for split in cls.splits:
            for index in range(2):
                cv2.imwrite(f"{root}/{split}-{index}.png", rng.integers(0, 256, (20, 24, 3), np.uint8))


def test_correct_loader_passes():
    check_dataset(Careless)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("empty", "is empty"),
        ("same names", "splits 'train' and 'test'"),
        ("sizes", "differ in size"),
        ("type", "float64"),
        ("field", "reports a problem"),
        ("shared memory", "second time changes the field 'depth'"),
    ],
)
def test_conformance_check_detects_faults(monkeypatch, fault, message):
    monkeypatch.setattr(Careless, "fault", fault)
    with pytest.raises(AssertionError, match=message):
        check_dataset(Careless)
