"""`densevision predict` on rotated, animated, thin images and every color mode; files read by other libraries."""

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
from densevision.datasets.field_types import SegmentationMask
from densevision.datasets.formats.png import write_png16
from densevision.datasets.formats.video import read_video
from densevision.datasets.hand.hand_fields import CubeDepth
from densevision.tasks import list_tasks

ON_CPU = ("--device", "cpu", "--amp", "off")

# EXIF 2.32, tag 0x0112: from the upright image to the stored rows and columns.
ORIENTATIONS = {
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


def test_all_eight_exif_orientations_have_the_prediction_of_the_upright_image(run, tmp_path, checkpoint):
    upright = noise(40, 64)
    (tmp_path / "photos").mkdir()
    for orientation, stored in ORIENTATIONS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored(upright))).save(
            tmp_path / "photos" / f"{orientation}.png", exif=exif
        )
    assert run("predict", checkpoint, "photos", *ON_CPU).code == 0
    out = tmp_path / "predictions"
    first = np.load(out / "1_depth.npy")
    for orientation in ORIENTATIONS:
        np.testing.assert_array_equal(np.load(out / f"{orientation}_depth.npy"), first)
        for name in ("depth", "depth_mm"):
            image = cv2.imread(str(out / f"{orientation}_{name}.png"), cv2.IMREAD_UNCHANGED)
            assert image is not None and image.shape[:2] == (40, 64)


def test_images_of_every_color_mode_are_predicted(run, tmp_path, checkpoint):
    (tmp_path / "photos").mkdir()
    colors = Image.fromarray(noise(30, 44))
    for mode, suffix in (
        *(("L", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("1", "png")),
        *(("CMYK", "jpg"), ("CMYK", "tif"), ("RGB", "webp"), ("RGB", "bmp"), ("RGB", "ppm")),
    ):
        colors.convert(mode).save(tmp_path / "photos" / f"{mode}-{suffix}.{suffix}")
    Image.fromarray(noise(30, 44)[..., 0].astype(np.uint16) * 257).save(tmp_path / "photos" / "sixteen.png")
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 0, result.err
    arrays = [np.load(file) for file in (tmp_path / "predictions").glob("*.npy")]
    assert len(arrays) == 12 and all(each.shape == (30, 44) and np.isfinite(each).all() for each in arrays)


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng", "png", "tif"])
def test_the_first_frame_of_an_animated_image_is_predicted_with_a_remark(run, tmp_path, checkpoint, suffix):
    frames = [Image.fromarray(noise(20, 28, seed)) for seed in range(3)]
    if suffix == "gif":
        frames = [frame.convert("P") for frame in frames]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    format_ = {"apng": "PNG", "tif": "TIFF"}.get(suffix, suffix.upper())
    frames[0].save(tmp_path / f"animated.{suffix}", format_, save_all=True, append_images=frames[1:], **options)
    frames[0].save(tmp_path / f"still.{suffix}", format_, **options)
    result = run("predict", checkpoint, f"animated.{suffix}", f"still.{suffix}", *ON_CPU)
    assert result.code == 0, result.err
    animated, still = result.out.splitlines()
    assert ", of the first of 3 frames (" in animated and "frame" not in still
    arrays = [np.load(tmp_path / "predictions" / f"{stem}_depth.npy") for stem in ("animated", "still")]
    np.testing.assert_array_equal(*arrays)


def test_a_quoted_pattern_is_expanded_as_by_the_shell(run, tmp_path, checkpoint, image):
    for name in ("photos/a2.png", "photos/a10.png", "photos/b.png", "photos/in/c.png"):
        image(tmp_path / name)
    result = run("predict", checkpoint, "photos/a*.png", *ON_CPU)
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["photos/a2.png", "photos/a10.png"]
    assert (
        "4 of 4 image(s) predicted (2 in an earlier run)" in run("predict", checkpoint, "photos/**/*.png", *ON_CPU).err
    )
    assert run("predict", checkpoint, "photos/*.jpg", *ON_CPU).error == "No file matches the pattern 'photos/*.jpg'."
    image(tmp_path / "odd[1].png")
    assert "1 of 1 image(s)" in run("predict", checkpoint, "odd[1].png", *ON_CPU).err


# --- every task, with its packaged checkpoint ------------------------------------------------------------------


def write_inputs(predictor: Any, folder: Path, height: int, width: int) -> list[Path]:
    """Write the inputs of a task: photos (the second of a pair shifted), a label map, or depth."""
    folder.mkdir(exist_ok=True)
    if predictor.task.inference.reads_scenes:
        return [write_scene(folder / "a", height, width)]
    files = []
    for number, field_type in enumerate(predictor.task.inputs(predictor.fields).values()):
        if isinstance(field_type, CubeDepth):
            files.append(folder / "a.png")
            write_png16(files[-1], 300 + noise(height, width)[..., 0].astype(np.uint16))
            continue
        labels = isinstance(field_type, SegmentationMask)
        image = np.roll(noise(height, width), 2 * number, axis=1)
        pixels = (image[..., 0] % len(field_type.names)).astype(np.uint8) if labels else image
        files.append(folder / f"{'abcd'[number]}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def write_scene(folder: Path, height: int, width: int) -> Path:
    """Write a scene of three photos side by side."""
    views = {}
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(noise(height, width), number, axis=1)).save(folder / f"{number}.png")
        pose = [[1.0, 0.0, 0.0, 0.1 - 0.1 * number], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
        camera = [40.0, 40.0, (width - 1) / 2, (height - 1) / 2]
        views[f"{number}.png"] = {"camera": camera, "pose": pose}
    (folder / "cameras.json").write_text(json.dumps({"near": 1.0, "far": 9.0, "views": views}))
    return folder


def read_image(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def check_files(task: str, out: Path, prediction: Any) -> None:
    """Check that other libraries read the prediction from the files of a task."""
    if task == "depth":
        np.testing.assert_array_equal(np.load(out / "a_depth.npy"), prediction.meters)
        for array in (
            read_image(out / "a_depth_mm.png"),
            cv2.imread(str(out / "a_depth_mm.png"), cv2.IMREAD_UNCHANGED),
        ):
            assert array is not None
            assert np.abs(array.astype(float) / 1000 - prediction.meters).max() <= 0.0005 + 1e-6
        assert read_image(out / "a_depth_mm.png").dtype == np.uint16
    elif task == "flow":
        vectors = cv2.readOpticalFlow(str(out / "a_flow.flo"))
        np.testing.assert_array_equal(vectors, prediction.vectors)
    elif task == "colorization":
        np.testing.assert_array_equal(np.load(out / "a_ab.npy"), prediction.ab)
        np.testing.assert_array_equal(read_image(out / "a_colorized.png"), prediction.to_image())
    elif task in ("restoration", "translation"):
        name = {"restoration": "a_restored.png", "translation": "a_translated.png"}[task]
        np.testing.assert_array_equal(read_image(out / name), prediction.pixels)
    elif task == "pose":
        (data,) = json.loads((out / "a_pose.json").read_text())
        coco: Any = COCO()
        image = {"id": 1, "width": prediction.image.shape[1], "height": prediction.image.shape[0]}
        coco.dataset = {
            "images": [image],
            "categories": [data["category"]],
            "annotations": [{"id": 1, "area": 1, "iscrowd": 0, **data, "image_id": 1}],
        }
        coco.createIndex()
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
        np.testing.assert_allclose(
            np.reshape(annotation["keypoints"], (-1, 3))[:, :2], prediction.joints[:, :2], atol=0.0051
        )
        np.testing.assert_allclose(annotation["keypoint_scores"], prediction.joints[:, 2], atol=1e-4)
        assert coco.loadCats([1])[0]["keypoints"] == list(prediction.skeleton.names)
    elif task == "memorability":
        stored = json.loads((out / "a_memorability.json").read_text())
        assert stored["score"] == pytest.approx(prediction.value, abs=1e-6)
    elif task == "hand_pose":
        stored = json.loads((out / "a_hand.json").read_text())
        assert list(stored["joints"]) == list(prediction.skeleton.names)
        np.testing.assert_allclose(list(stored["joints"].values()), prediction.joints, atol=0.0051)
    elif task == "video":
        for number, frame in enumerate(prediction.frames, 1):
            np.testing.assert_array_equal(read_image(out / f"a_clip_{number:02}.png"), frame)
        video = [frame.pixels for frame in read_video(out / "a_clip.mp4")]
        assert len(video) == len(prediction.given) + len(prediction.frames)
    elif task == "view_synthesis":
        # The command predicts every photo, Python the middle one.
        np.testing.assert_array_equal(read_image(out / "a" / "1_view.png"), prediction.pixels)
        np.testing.assert_array_equal(np.load(out / "a" / "1_view_depth.npy"), prediction.depth)
    else:
        assert task == "classification", f"check the files of {task} here"
        assert json.loads((out / "a_classes.json").read_text()) == pytest.approx(dict(prediction.top()), abs=1e-6)


@pytest.mark.parametrize("task", list_tasks())
def test_the_files_of_every_task_read_back_as_the_prediction(run, tmp_path, task):
    predictor = load(task, "cpu", "off")
    files = write_inputs(predictor, tmp_path / "photos", 33, 47)
    result = run("predict", task, *files, *ON_CPU)
    assert result.code == 0, result.err
    prediction = predictor.predict(*files)
    check_files(task, tmp_path / "predictions", prediction)
    if task not in ("classification", "memorability", "video"):
        for file in {*(tmp_path / "predictions").glob("*.png")} - {tmp_path / "predictions/a_hand_views.png"}:
            assert read_image(file).shape[:2] == (33, 47), file


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
@pytest.mark.parametrize("task", list_tasks())
def test_every_task_predicts_images_of_one_pixel_or_one_row(tmp_path, task, size):
    predictor = load(task, "cpu", "off")
    prediction = predictor.predict(*write_inputs(predictor, tmp_path / "photos", *size))
    files = prediction.save(tmp_path, "a")
    assert all(file.stat().st_size > 0 for file in files) and prediction.summary()


@pytest.mark.parametrize("task", list_tasks())
def test_load_forward_and_decode_equal_predict(tmp_path, task):
    predictor = load(task, "cpu", "off")
    files = write_inputs(predictor, tmp_path / "photos", 24, 30)
    flip = task not in ("hand_pose", "view_synthesis")  # a mirrored hand and mirrored cameras are refused
    model_input = predictor.load_inputs(*files, flip=flip)
    prediction = predictor.decode(model_input, *predictor.forward([model_input]))
    np.testing.assert_array_equal(prediction.to_image(), predictor.predict(*files, flip=flip).to_image())
