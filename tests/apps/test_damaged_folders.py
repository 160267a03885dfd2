"""`densevision data validate` on damaged folders: every problem in one pass, with its file and what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.datasets.formats.arrays import write_npy
from densevision.datasets.formats.flow import write_flow
from densevision.datasets.formats.image import write_image
from densevision.datasets.formats.png import write_png16

Damage = Callable[[Path], None]


def image(path: Path, height: int = 24, width: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


# --- Valid folders -------------------------------------------------------------------------------------------


def depth(root: Path) -> None:
    for split in ("train", "test"):
        for name in "abcdef":
            image(root / split / "images" / f"{name}.png")
            write_png16(root / split / "depths" / f"{name}.png", np.full((24, 32), 2000, np.uint16))
    (root / "depth_unit.txt").write_text("0.001\n")


def flow(root: Path) -> None:
    for split in ("train", "test"):
        for number in range(8, 13):
            image(root / split / "walk" / f"{number}.png")
            if number < 12:
                write_flow(root / split / "walk" / f"{number}.flo", np.ones((24, 32, 2), np.float32))


def classes(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog", "fox"):
            for number in range(3):
                image(root / split / name / f"{number}.png")


def coco(root: Path, change: Callable[[dict[str, Any]], None] = lambda stored: None) -> None:
    category = {"id": 1, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    stored: dict[str, Any] = {"images": [], "annotations": [], "categories": [category]}
    for number in range(1, 7):
        image(root / "images" / f"{number}.png")
        stored["images"].append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 24})
        person = {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 2, 20, 18]}
        stored["annotations"].append({**person, "keypoints": [5, 5, 2, 15, 15, 2]})
    (root / "test.json").write_text(json.dumps(stored))
    change(stored)
    (root / "train.json").write_text(json.dumps(stored))


# --- Damage --------------------------------------------------------------------------------------------------


def coco_ids(root: Path) -> None:
    def change(stored: dict[str, Any]) -> None:
        stored["images"] += [{"id": 2, "file_name": "3.png"}, {"id": 1, "file_name": "1.png"}, {"id": 7}]
        stored["annotations"][3]["image_id"] = "4.png"
        stored["annotations"][4]["image_id"] = 4.5
        stored["annotations"][5]["id"] = 1

    coco(root, change)


def coco_boxes(root: Path) -> None:
    def change(stored: dict[str, Any]) -> None:
        for annotation, box in zip(
            stored["annotations"], ([2, 2, 0, 9], [9, 9, -5, -5], [99, 2, 9, 9], [22, 22, 2, 2], [1, 2]), strict=False
        ):
            annotation["bbox"] = box

    coco(root, change)


def coco_values(root: Path) -> None:
    def change(stored: dict[str, Any]) -> None:
        people = stored["annotations"]
        people[0]["keypoints"] = people[0]["keypoints"][:-1]
        people[1]["keypoints"][2] = 7
        del people[2]["keypoints"]
        people[3]["category_id"] = 5
        people[4]["keypoints"] = [90, 90, 2, 95, 95, 2]
        people[5]["keypoints"] = [0] * 6

    coco(root, change)
    image(root / "images" / "5.png")


def depth_files(root: Path) -> None:
    depth(root)
    cut(root / "train/images/a.png")
    cut(root / "train/depths/b.png")
    (root / "train/depths/c.png").unlink()
    (root / "train/images/d.png").unlink()
    (root / "train/images/e.png").write_bytes(b"")
    (root / "train/images/f.png").rename(root / "train/images/f.raw")


def depth_values(root: Path) -> None:
    depth(root)
    for name, value in {"a": np.inf, "b": -1, "c": np.nan}.items():
        (root / f"train/depths/{name}.png").unlink()
        write_npy(root / f"train/depths/{name}.npy", np.full((24, 32), value, np.float32))
    write_png16(root / "train/depths/d.png", np.full((12, 32), 2000, np.uint16))
    image(root / "train/depths/e.png")
    image(root / "train/images/f.jpg")


def depth_layout(root: Path) -> None:
    depth(root)
    (root / "depth_unit.txt").write_text("mm\n")
    (root / "test/depths").rename(root / "test/depth")
    (root / "train/images/up").symlink_to(root, target_is_directory=True)
    (root / "train/images/notes.txt").write_text("documents are no problem")


def flow_files(root: Path) -> None:
    flow(root)
    walk = root / "train/walk"
    cut(walk / "8.flo")
    cut(walk / "9.png")
    (walk / "10.flo").unlink()
    (walk / "12.png").unlink()


def flow_values(root: Path) -> None:
    flow(root)
    walk = root / "train/walk"
    write_flow(walk / "8.flo", np.ones((12, 32, 2), np.float32))
    (walk / "9.flo").unlink()
    np.savez(walk / "9.npz", motion=np.ones((24, 32, 2), np.float32))
    (walk / "10.flo").unlink()
    np.savez(walk / "10.npz", flow=np.ones((24, 32, 3), np.float32))
    (walk / "11.flo").write_bytes(b"not a flow file at all, but long enough")


def flow_layout(root: Path) -> None:
    flow(root)
    image(root / "train/still/1.png")
    image(root / "train/walk/9.jpg")
    write_flow(root / "train/walk/8.npz", np.ones((24, 32, 2), np.float32))
    (root / "train/walk/8.mat").write_bytes(b"MATLAB 5.0")


def class_files(root: Path) -> None:
    classes(root)
    cut(root / "train/cat/0.png")
    (root / "train/cat/1.png").write_bytes(b"")
    (root / "train/dog/0.png").write_bytes(b"<html>not found</html>")
    (root / "train/dog/1.png").rename(root / "train/dog/1.png.part")
    image(root / "train/beside.png")
    (root / "val/fox/0.png").unlink()
    (root / "val/fox/0.png").symlink_to(root / "gone.png")


def class_layout(root: Path) -> None:
    classes(root)
    (root / "train/hen").mkdir()
    image(root / "val/owl/1.png")
    (root / "val/cat/loop").symlink_to(root / "val", target_is_directory=True)


def class_level(root: Path) -> None:
    classes(root / "animals")
    image(root / "beside.png")


CASES: list[tuple[str, Damage, dict[str, str]]] = [
    (
        "pose-folders",
        coco_ids,
        {
            "train.json image 2": "an 'id' of its own for every image, found '2.png' and '3.png'",
            "train.json image 1": "every image once, found a repetition",
            "train.json image 9": "'id' and 'file_name', found no 'file_name'",
            "train.json annotation 4": "found image_id 4.png, which no image has",
            "train.json annotation 5": "found image_id 4.5, which no image has",
            "train.json annotation 1": "an 'id' of its own, found annotations 1 and 6",
        },
    ),
    (
        "pose-folders",
        coco_boxes,
        {
            f"train.json annotation {number}": "with an area, within the image, around labeled joints, found ["
            for number in range(1, 6)
        },
    ),
    (
        "pose-folders",
        coco_values,
        {
            "train.json annotation 1": "2 joints as x, y and flag 0 to 2, found 5 numbers",
            "train.json annotation 2": "found flag 7",
            "train.json annotation 3": "found no 'keypoints'",
            "train.json annotation 4": "found category_id 5, which no category has",
            "train.json annotation 5": "'bbox' x, y, width, height with an area",
            "images/5.png": "a labeled joint in the box, within the image of 32x24, found none",
            "train.json": "a labeled joint of every person, found 1 without",
        },
    ),
    (
        "depth-folders",
        depth_files,
        {
            "train/images/a.png": "a complete image, found a PNG truncated",
            "train/depths/b.png": "found a PNG truncated",
            "train/images/c.png": "a file of the same name in 'train/depths', found none",
            "train/depths/d.png": "a file of the same name in 'train/images', found none",
            "train/images/e.png": "an image, found an empty file",
            "train/images/f.raw": "a file .apng, .avif",
            "train/depths/f.png": "a file of the same name in 'train/images', found none",
        },
    ),
    (
        "depth-folders",
        depth_values,
        {
            "train/depths/a.npy": "depths above 0 m, 0 or nan where unknown, found inf",
            "train/depths/b.npy": "depths above 0 m, 0 or nan where unknown, found -1",
            "train/images/c.png (depth)": "at least one known depth, found none",
            "train/depths/d.png": "the size of its image, 32x24, found 32x12",
            "train/depths/e.png": "16-bit gray PNG, found 8 bits",
            "train/images/f.png": "one file of each name, found also 'train/images/f.jpg'",
        },
    ),
    (
        "depth-folders",
        depth_layout,
        {
            "depth_unit.txt": "the meters per step of the depth PNGs as one number",
            "data": "files of one name in 'test/images' and 'test/depths', found no pair: 6 in",
            "train/images/up": "no link to a folder that contains it",
        },
    ),
    (
        "flow-folders",
        flow_files,
        {
            "train/walk/8.flo": "expected",
            "train/walk/9.png": "a complete image, found a PNG truncated",
            "train/walk/10.flo": "a .flo file, found no file",
            "train/walk/the frame after 11.png": "an image, found no file",
        },
    ),
    (
        "flow-folders",
        flow_values,
        {
            "train/walk/8.flo": "the size of the first image, 32x24, found 32x12",
            "train/walk/9.npz": "flow",
            "train/walk/10.npz": "float flow of shape HxWx2, found 24x32x3",
            "train/walk/11.flo": "expected",
        },
    ),
    (
        "flow-folders",
        flow_layout,
        {
            "train/still": "the flow between its frames, found none",
            "train/walk/9.png": "one file of each name, found also '9.jpg'",
            "train/walk/8.npz": "one file of each name, found also '8.flo'",
            "train/walk/8.mat": "another suffix, which is passed over",
        },
    ),
    (
        "class-folders",
        class_files,
        {
            "train/cat/0.png": "a complete image, found a PNG truncated",
            "train/cat/1.png": "an image, found an empty file",
            "train/dog/0.png": "an image, found",
            "train/dog/1.png.part": "another suffix, which is passed over",
            "train/beside.png": "an image in the folder of its class",
            "val/fox/0.png": "an image, found no file",
        },
    ),
    (
        "class-folders",
        class_layout,
        {
            "train/hen": "at least one image, found none",
            "val/owl": "one of the 4 classes of the training split, found another class",
            "val/cat/loop": "no link to a folder that contains it",
        },
    ),
    (
        "class-folders",
        class_level,
        {
            "data": "one folder for each of at least two classes, or 'train' and 'val' with these, found only animals, "
            "with train, val in it",
            "beside.png": "an image in the folder of its class",
        },
    ),
]


@pytest.mark.parametrize(("dataset", "damage", "expected"), CASES, ids=[damage.__name__ for _, damage, _ in CASES])
def test_every_problem_is_listed_in_one_pass_with_file_and_expectation(run, tmp_path, dataset, damage, expected):
    root = tmp_path / "data"
    root.mkdir()
    damage(root)
    result = run("data", "validate", dataset, root)
    *lines, summary = result.out.splitlines()
    for file, words in expected.items():
        matches = [line for line in lines if words in line and line.split(": expected ")[0].endswith(file)]
        assert len(matches) == 1, (file, words, lines)
    assert len(lines) == len(expected), [line for line in lines if not any(word in line for word in expected.values())]
    assert result.code == 1 and summary == f"{dataset}: {len(expected)} problem(s)."
    assert all(": expected " in line and ", found " in line for line in lines)


@pytest.mark.parametrize(
    ("dataset", "write"),
    [("depth-folders", depth), ("flow-folders", flow), ("class-folders", classes), ("pose-folders", coco)],
)
def test_the_folders_are_valid_before_they_are_damaged(run, tmp_path, dataset, write):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    assert run("data", "validate", dataset, tmp_path / "data").out == f"{dataset}: no problems.\n"
