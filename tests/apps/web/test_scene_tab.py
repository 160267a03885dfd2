"""Views along a path through a scene: rendered once, displayed frame by frame."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')

from gradio_client import Client

from densevision.apps.web import scene_tab
from densevision.apps.web.scene_tab import PathVideos, scene_folders
from densevision.datasets import dataset_class
from densevision.datasets.formats.video import read_video
from densevision.errors import UserError
from densevision.tasks.inference import load
from densevision.tasks.policies import SceneChoice


@pytest.fixture
def entry(entries):
    (entry,) = entries["view_synthesis"]
    return entry


@pytest.fixture
def videos(tmp_path, monkeypatch) -> PathVideos:
    """Paths of three frames through the room and a scene of the caller, at a small size."""
    monkeypatch.setattr(scene_tab, "FRAMES", 3)
    monkeypatch.setattr(scene_tab, "SIDE", 48)
    monkeypatch.setattr(scene_tab, "ROOM_SIZE", (31, 40))
    dataset_class("view-folders").write_example(tmp_path / "mine")
    return PathVideos(scene_folders((tmp_path / "mine",), tmp_path / "room"))


def test_a_path_is_rendered_once_and_its_frames_are_those_of_the_library(videos, entry, tmp_path, monkeypatch):
    assert list(videos.scenes) == ["mine", "generated room"]
    response = videos.render(entry, "mine", "spiral", tmp_path / "results")
    assert response.image is not None and response.image.shape == (36, 48, 3)
    assert response.text.startswith("3 views of 48x36, in ")
    (video,) = response.files
    assert len(list(read_video(video))) == 3
    monkeypatch.setattr(scene_tab, "render_path", lambda *_: pytest.fail("rendered again"))
    again = videos.render(entry, "mine", "spiral", tmp_path / "results")
    np.testing.assert_array_equal(again.image, response.image)
    predictor, requested = entry.task.inference.requested_views(
        load("view_synthesis", "cpu", "off"), [videos.scenes["mine"]], SceneChoice(path="spiral:3")
    )
    direct = predictor.predict(scene_tab._small(requested[2].sample())).to_image()
    moved = videos.frame(entry, "mine", "spiral", 3)
    np.testing.assert_array_equal(moved.image, direct)
    assert moved.text == "View 3 of 3."
    assert not np.array_equal(moved.image, response.image)


def test_photos_of_odd_sizes_become_a_video(videos, entry, tmp_path):
    response = videos.render(entry, "generated room", "along", tmp_path / "results")
    assert response.image is not None and response.image.shape == (32, 40, 3)


def test_what_cannot_be_displayed_is_a_sentence(videos, entry, tmp_path):
    with pytest.raises(UserError, match="not rendered yet; press Render"):
        videos.frame(entry, "mine", "along", 1)
    with pytest.raises(UserError, match="no scene named 'other'"):
        videos.render(entry, "other", "spiral", tmp_path / "results")
    with pytest.raises(UserError, match="no path named 'circle'"):
        videos.render(entry, "mine", "circle", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_folder_without_cameras_is_refused_at_the_start(run, tmp_path):
    (tmp_path / "photos").mkdir()
    result = run("web", "--scene", tmp_path / "photos", "--port", "1")
    assert result.code == 2 and "camera poses of the photos" in result.err
    with pytest.raises(UserError, match="Two scenes are named 'photos'"):
        dataset_class("view-folders").write_example(tmp_path / "photos")
        scene_folders((tmp_path / "photos", tmp_path / "photos"), tmp_path / "room")


def test_a_client_renders_a_path_and_moves_along_it(address, entries, monkeypatch):
    monkeypatch.setattr(scene_tab, "FRAMES", 3)
    monkeypatch.setattr(scene_tab, "SIDE", 48)
    page = Client(address, verbose=False)
    name = entries["view_synthesis"][0].name
    view, text, _, position = page.predict(name, "generated room", "spiral", api_name="/view_synthesis")
    assert text.startswith("3 views of 48x38") and position == 1
    moved, text = page.predict(name, "generated room", "spiral", 2, api_name="/view_synthesis_frame")
    assert text == "View 2 of 3." and moved != view
    config = httpx.get(f"{address}/config").json()
    assert any(one["props"].get("label") == "Position on the path" for one in config["components"])
