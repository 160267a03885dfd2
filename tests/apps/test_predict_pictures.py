"""Whatever a folder of photographs holds: turned, of every mode, moving, thin; and what other libraries read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from densevision import load
from densevision.datasets.fields import Labels
from densevision.tasks import list_tasks

ON_CPU = ("--device", "cpu", "--amp", "off")

# EXIF 2.32, tag 0x0112: how the stored rows and columns lie in the upright picture.
TURNS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_picture_turned_in_any_of_the_eight_ways_has_the_upright_pictures_answer(run, tmp_path, checkpoint):
    upright = noise(40, 64)
    (tmp_path / "photos").mkdir()
    for turn, stored in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(np.ascontiguousarray(stored(upright))).save(tmp_path / "photos" / f"{turn}.png", exif=exif)
    assert run("predict", checkpoint, "photos", *ON_CPU).code == 0
    out = tmp_path / "predictions"
    first = np.load(out / "1_depth.npy")
    for turn in TURNS:
        np.testing.assert_array_equal(np.load(out / f"{turn}_depth.npy"), first)
        for end in ("depth", "depth_mm"):
            drawn = cv2.imread(str(out / f"{turn}_{end}.png"), cv2.IMREAD_UNCHANGED)
            assert drawn is not None and drawn.shape[:2] == (40, 64)


def test_pictures_of_every_mode_are_answered(run, tmp_path, checkpoint):
    (tmp_path / "photos").mkdir()
    colours = Image.fromarray(noise(30, 44))
    for mode, ending in (
        *(("L", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("1", "png")),
        *(("CMYK", "jpg"), ("CMYK", "tif"), ("RGB", "webp"), ("RGB", "bmp"), ("RGB", "ppm")),
    ):
        colours.convert(mode).save(tmp_path / "photos" / f"{mode}-{ending}.{ending}")
    Image.fromarray(noise(30, 44)[..., 0].astype(np.uint16) * 257).save(tmp_path / "photos" / "sixteen.png")
    said = run("predict", checkpoint, "photos", *ON_CPU)
    assert said.code == 0, said.err
    arrays = [np.load(file) for file in (tmp_path / "predictions").glob("*.npy")]
    assert len(arrays) == 12 and all(each.shape == (30, 44) and np.isfinite(each).all() for each in arrays)


@pytest.mark.parametrize("ending", ["gif", "webp", "apng", "png", "tif"])
def test_of_a_moving_picture_the_first_frame_is_answered_and_the_line_says_so(run, tmp_path, checkpoint, ending):
    frames = [Image.fromarray(noise(20, 28, seed)) for seed in range(3)]
    if ending == "gif":
        frames = [frame.convert("P") for frame in frames]
    extra: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    kind = {"apng": "PNG", "tif": "TIFF"}.get(ending, ending.upper())
    frames[0].save(tmp_path / f"moving.{ending}", kind, save_all=True, append_images=frames[1:], **extra)
    frames[0].save(tmp_path / f"still.{ending}", kind, **extra)
    said = run("predict", checkpoint, f"moving.{ending}", f"still.{ending}", *ON_CPU)
    assert said.code == 0, said.err
    moving, still = said.out.splitlines()
    assert ", of the first of 3 frames (" in moving and "frame" not in still
    arrays = [np.load(tmp_path / "predictions" / f"{stem}_depth.npy") for stem in ("moving", "still")]
    np.testing.assert_array_equal(*arrays)


def test_a_quoted_pattern_is_what_the_shell_would_have_made_of_it(run, tmp_path, checkpoint, picture):
    for name in ("photos/a2.png", "photos/a10.png", "photos/b.png", "photos/in/c.png"):
        picture(tmp_path / name)
    said = run("predict", checkpoint, "photos/a*.png", *ON_CPU)
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["photos/a2.png", "photos/a10.png"]
    assert "4 of 4 picture(s) answered, 2 of them before" in run("predict", checkpoint, "photos/**/*.png", *ON_CPU).err
    assert run("predict", checkpoint, "photos/*.jpg", *ON_CPU).mistake == "Nothing fits the pattern 'photos/*.jpg'."
    picture(tmp_path / "odd[1].png")
    assert "1 of 1 picture(s)" in run("predict", checkpoint, "odd[1].png", *ON_CPU).err


# --- every task, with the checkpoint that ships ------------------------------------------------------------------


def sources(predictor: Any, folder: Path, height: int, width: int) -> list[Path]:
    """Files as the task takes them: photographs (the second of a pair shifted), or a label map."""
    folder.mkdir(exist_ok=True)
    files = []
    for number, kind in enumerate(predictor.task.inputs(predictor.fields).values()):
        labels = isinstance(kind, Labels)
        picture = np.roll(noise(height, width), 2 * number, axis=1)
        pixels = (picture[..., 0] % len(kind.names)).astype(np.uint8) if labels else picture
        files.append(folder / f"{'ab'[number]}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def told(task: str, out: Path, answer: Any) -> None:
    """What other libraries read in the files of a task is the prediction."""
    if task == "depth":
        np.testing.assert_array_equal(np.load(out / "a_depth.npy"), answer.metres)
        for read in (opened(out / "a_depth_mm.png"), cv2.imread(str(out / "a_depth_mm.png"), cv2.IMREAD_UNCHANGED)):
            assert read is not None
            assert np.abs(read.astype(float) / 1000 - answer.metres).max() <= 0.0005 + 1e-6
        assert opened(out / "a_depth_mm.png").dtype == np.uint16
    elif task == "flow":
        found = cv2.readOpticalFlow(str(out / "a_flow.flo"))
        np.testing.assert_array_equal(found, answer.vectors)
    elif task == "colorization":
        np.testing.assert_array_equal(np.load(out / "a_ab.npy"), answer.ab)
        np.testing.assert_array_equal(opened(out / "a_colours.png"), answer.picture())
    elif task in ("restoration", "translation"):
        name = {"restoration": "a_restored.png", "translation": "a_translated.png"}[task]
        np.testing.assert_array_equal(opened(out / name), answer.pixels)
    elif task == "pose":
        stored = json.loads((out / "a_pose.json").read_text())
        coco: Any = COCO()
        image = {"id": 1, "width": answer.image.shape[1], "height": answer.image.shape[0]}
        coco.dataset = {
            "images": [image],
            "categories": [{"id": 1, **stored["category"]}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "area": 1, "iscrowd": 0, **stored}],
        }
        coco.createIndex()
        (found,) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
        np.testing.assert_allclose(np.reshape(found["keypoints"], (-1, 3))[:, :2], answer.joints[:, :2], atol=0.0051)
        np.testing.assert_allclose(found["keypoint_scores"], answer.joints[:, 2], atol=1e-4)
        assert coco.loadCats([1])[0]["keypoints"] == list(answer.skeleton.names)
    else:
        assert task == "classification", f"say here what the files of {task} hold"
        assert json.loads((out / "a_classes.json").read_text()) == pytest.approx(dict(answer.top()), abs=1e-6)


@pytest.mark.parametrize("task", list_tasks())
def test_the_files_of_every_task_read_back_as_the_prediction(run, tmp_path, task):
    predictor = load(task, "cpu", "off")
    files = sources(predictor, tmp_path / "photos", 33, 47)
    said = run("predict", task, *files, *ON_CPU)
    assert said.code == 0, said.err
    answer = predictor.predict(*files)
    told(task, tmp_path / "predictions", answer)
    if task != "classification":
        for file in (tmp_path / "predictions").glob("*.png"):
            assert opened(file).shape[:2] == (33, 47), file


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("task", list_tasks())
def test_every_task_answers_for_a_pixel_and_a_thread_of_them(tmp_path, task, size):
    predictor = load(task, "cpu", "off")
    answer = predictor.predict(*sources(predictor, tmp_path / "photos", *size))
    files = answer.save(tmp_path, "a")
    assert all(file.stat().st_size > 0 for file in files) and answer.brief()


@pytest.mark.parametrize("task", list_tasks())
def test_the_three_steps_are_the_prediction(tmp_path, task):
    predictor = load(task, "cpu", "off")
    files = sources(predictor, tmp_path / "photos", 24, 30)
    prepared = predictor.prepared(*files, flip=True)
    steps = predictor.told(prepared, predictor.output(prepared))
    np.testing.assert_array_equal(steps.picture(), predictor.predict(*files, flip=True).picture())
