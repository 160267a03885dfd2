"""Request handlers without a server: predictions of every task, and error messages."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.field_types import Image as ImageField
from densevision.datasets.field_types import SegmentationMask
from densevision.errors import UserError
from densevision.tasks import list_tasks
from densevision.tasks.inference import load

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')

from densevision.apps.web.checkpoints import checkpoint_entries
from densevision.apps.web.handlers import Response, describe, downscale, handle_frame, handle_images, safe_call
from densevision.apps.web.uploads import FRAME_BYTES, Limits, bytes_of_data_url, decode_image
from densevision.apps.web.visualize_tab import METHODS, handle_visualize, targets_for

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

ODD = {
    "one-pixel.png", "20000x10.png", "10x20000.jpg", "animated.gif", "animated.webp", "animated.png", "cmyk.jpg",
    "sixteen-bits.png", "palette-and-alpha.png", "turned.jpg", "floats.tiff", "..%2f..%2fetc%2fpasswd.png",
}  # fmt: skip
"""Uploads that are valid images."""


def frame_of(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


# Scenes are folders on the server, see test_scene_tab.py.
TASKS = [task for task in list_tasks() if task != "view_synthesis"]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_predicts_its_example_like_the_library(task, entries, examples, limits, tmp_path):
    entry, row = entries[task][0], examples[task][0]
    response = handle_images(entry, row, limits, tmp_path / "results")
    direct = load(task, "cpu", "off").predict(*row)
    expected = {file.name: file.read_bytes() for file in direct.save(tmp_path / "direct", "prediction")}
    assert {file.name: file.read_bytes() for file in response.files} == expected
    assert response.image is not None
    np.testing.assert_array_equal(response.image, direct.to_image())
    assert response.text == describe(direct)
    assert len({file.parent for file in response.files}) == 1, "every response has its own folder"


def test_the_unit_is_stated_once():
    predictor = load("depth", "cpu", "off")
    text = describe(predictor.predict(np.zeros((30, 40, 3), np.uint8)))
    assert text.endswith(" (unit: meters).") and text[0] != " "


def test_hostile_uploads_are_rejected_and_odd_images_are_accepted(script, limits):
    uploads = script.hostile_uploads()
    assert len(uploads) >= 30
    for name, body in uploads.items():
        if name in ODD:
            assert decode_image(body, ImageField(), limits).image.size[0] >= 1
            continue
        with pytest.raises(UserError) as error:
            decode_image(body, ImageField(), limits)
        assert str(error.value).endswith("."), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bomb-50000.png", "too large by its header; at most 4 megapixels"),
        ("bomb-4000.png", "4000x4000 pixels \\(16.0 megapixels\\)"),
        ("too-many-bytes.png", "The file has 3.0 MB; at most 2 MB are allowed"),
        ("script.eps", "a file of none of the formats JPEG, PNG"),
        ("half.jpg", "damaged"),
        ("text.png", "a file of none of the formats JPEG"),
    ],
)
def test_a_rejection_states_the_reason(script, limits, name, message):
    with pytest.raises(UserError, match=message):
        decode_image(script.hostile_uploads()[name], ImageField(), limits)


@pytest.mark.parametrize(
    ("name", "remark"),
    [("animated.gif", "only its first frame is used"), ("animated.png", "animated"), ("cmyk.jpg", "CMYK")],
)
def test_ignored_parts_of_a_file_are_remarked(script, limits, name, remark):
    (text,) = decode_image(script.hostile_uploads()[name], ImageField(), limits).remarks
    assert remark in text


def test_a_decompression_bomb_is_rejected_before_decoding(script, limits, monkeypatch):
    bomb = script.hostile_uploads()["bomb-4000.png"]
    monkeypatch.setattr("PIL.Image.Image.load", lambda *_: pytest.fail("pixels were decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(UserError, match=r"16\.0 megapixels"):
        decode_image(bomb, ImageField(), limits)


def test_a_color_image_is_not_a_label_map(script, limits, entries, tmp_path):
    (field_type,) = entries["translation"][0].inputs.values()
    assert isinstance(field_type, SegmentationMask)
    with pytest.raises(UserError, match=r"a PNG with one channel or a palette, whose values are classes from 0 to 10"):
        decode_image(script.hostile_uploads()["one-pixel.png"], field_type, limits)


def test_a_missing_second_image_is_an_error(entries, examples, limits, tmp_path):
    with pytest.raises(UserError, match=r"^Second: No image yet"):
        handle_images(entries["flow"][0], [examples["flow"][0][0], None], limits, tmp_path)


def test_a_failed_request_leaves_no_folder(entries, examples, limits, tmp_path):
    with pytest.raises(UserError, match="is not a target"):
        handle_visualize(entries["depth"][0], "saliency", "nonsense", examples["depth"][0], limits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_an_error_message_for_the_client_and_a_traceback_in_the_log():
    log = []
    response = safe_call(lambda: 1 / 0, lambda: log.append("traceback"))  # type: ignore[arg-type, return-value]
    assert log == ["traceback"] and "not caused by the image" in response.text and response.image is None

    def user_error() -> Response:
        raise UserError("Too large.\n")

    assert safe_call(user_error, lambda: log.append("again")).text == "Too large."
    assert log == ["traceback"]


def test_displayed_images_are_downscaled_and_small_ones_unchanged():
    assert downscale(np.zeros((10, 3000, 3), np.uint8), 1600).shape == (5, 1600, 3)
    small = np.zeros((10, 30, 3), np.uint8)
    assert downscale(small, 1600) is small


# The camera


def test_camera_images_are_predicted(entries, limits, script):
    response, previous = handle_frame(entries["depth"][0], frame_of(script.blobs(0, 0)), (), limits)
    assert response.image is not None and response.image.shape == (120, 160, 3)
    assert previous == () and response.text.endswith(" ms.")


def test_flow_of_consecutive_camera_images_restarts_when_their_size_changes(entries, limits, script):
    entry, previous = entries["flow"][0], ()
    response, previous = handle_frame(entry, frame_of(script.blobs(0, 0)), previous, limits)
    assert response.image is None and "Waiting for 1 more image" in response.text and len(previous) == 1
    response, previous = handle_frame(entry, frame_of(script.blobs(0, 1)), previous, limits)
    assert response.image is not None and len(previous) == 1
    response, previous = handle_frame(entry, frame_of(script.blobs(1, 0)), previous, limits)
    assert response.image is None and len(previous) == 1


def test_a_camera_does_not_provide_label_maps(entries, limits):
    assert not entries["translation"][0].accepts_camera
    with pytest.raises(UserError, match="which a camera does not provide"):
        handle_frame(entries["translation"][0], b"", (), limits)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://localhost/a.jpg",
        "data:image/jpeg;base64,###",
        "data:image/jpeg,abc",
        pytest.param("data:;base64," + "A" * 2 * FRAME_BYTES, id="long"),
    ],
)
def test_invalid_camera_images_are_rejected(url):
    with pytest.raises(UserError, match="data that is not an image"):
        bytes_of_data_url(url)


# Visualization


@pytest.mark.parametrize("method", METHODS)
def test_every_method_returns_an_image_and_its_array(method, entries, examples, limits, tmp_path):
    _, entry = entries["classification"]
    response = handle_visualize(entry, method, "class:0", examples["classification"][0], limits, tmp_path)
    assert response.image is not None and response.image.std() > 0
    assert sorted(file.suffix for file in response.files) == [".npy", ".png"]
    assert response.text.startswith(f"{method} of class:0.")


def test_simultaneous_requests_get_their_own_notes(entries, examples, limits, tmp_path, capsys):
    """The notes of a result belong to it; what other threads print meanwhile stays on stdout."""
    (_, entry), (image, *_) = entries["classification"], examples["classification"]
    targets = [f"class:{index}" for index in range(4)]

    def request(target: str) -> str:
        print(f"printed for {target}")
        return handle_visualize(entry, "integrated-gradients", target, image, limits, tmp_path / target[-1]).text

    with ThreadPoolExecutor(len(targets)) as pool:
        texts = list(pool.map(request, targets))
    alone = [request(target) for target in targets]
    assert texts == alone and len(set(texts)) == len(targets)
    for target, text in zip(targets, texts, strict=True):
        assert text.startswith(f"integrated-gradients of {target}. Attributions sum to ")
        assert text.count("Attributions sum to") == 1 and "printed" not in text
    assert capsys.readouterr().out.count("printed for") == 2 * len(targets)


def test_the_first_target_of_every_checkpoint_is_valid(entries, examples, limits, tmp_path):
    for task, rows in examples.items():
        entry = entries[task][0]
        response = handle_visualize(entry, "saliency", targets_for(entry)[0], rows[0], limits, tmp_path)
        assert response.image is not None, task


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "empty"),
        ("clas:0", "nearest"),
        ("class:11", "classes 0 to 9"),
        ("c1:99999999999", "channel"),
        ("a" * 201, "at most 200 are allowed"),
        ("../../etc/passwd", "is not a target"),
        ("{0.__class__}", "is not a target"),
    ],
)
def test_an_invalid_target_is_an_error(target, message, entries, examples, limits, tmp_path):
    _, entry = entries["classification"]
    with pytest.raises(UserError, match=message):
        handle_visualize(entry, "saliency", target, examples["classification"][0], limits, tmp_path)


def test_an_unknown_method_is_an_error_with_the_nearest_name(entries, limits, tmp_path):
    with pytest.raises(UserError, match="did you mean 'saliency'"):
        handle_visualize(entries["depth"][0], "salency", "depth@1,1", [None], limits, tmp_path)


# Checkpoints


def test_additional_checkpoints_get_unique_names(checkpoint):
    entries = checkpoint_entries((str(checkpoint), str(checkpoint)), "cpu", "off")
    packaged, *extra = (entry.name for entry in entries["depth"])
    assert packaged == "resnet50_unet_rooms" and extra == ["best", "best (2)"]
    assert list(entries) == list_tasks()


def test_a_missing_checkpoint_is_an_error_at_the_start():
    with pytest.raises(UserError, match=r"no checkpoint 'missing\.safetensors'"):
        checkpoint_entries(("missing.safetensors",), "cpu", "off")


def test_packaged_checkpoints_are_loaded_once_at_first_use(monkeypatch):
    loaded = []
    monkeypatch.setattr("densevision.apps.web.checkpoints.load", lambda *args: loaded.append(args) or object())
    (entry,) = checkpoint_entries((), "cpu", "off")["depth"]
    assert loaded == []
    assert entry.predictor() is entry.predictor() and len(loaded) == 1


def test_the_default_limits():
    assert Limits().file_bytes == 25 * 2**20 and Limits().pixels == 24_000_000
