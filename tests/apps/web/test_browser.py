"""The page in a headless browser: every tab and the camera give a prediction."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from densevision.tasks import list_tasks

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt install chromium")

TIMEOUT = 60_000
"""Milliseconds, for busy machines."""
SIZE = re.compile(r"\d\s*KB")
"""Size of a file in the list of files."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    """Chromium with a fake camera: a moving square."""
    clip = tmp_path_factory.mktemp("camera") / "square.y4m"
    write_clip(clip)
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-video-capture={clip}",
            ],
        )
        yield chromium
        chromium.close()


def write_clip(path, frames: int = 10, height: int = 120, width: int = 160) -> None:
    """An uncompressed video: a bright square that moves to the right over stripes."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(frames):
            luma = np.tile(np.arange(width) % 32 * 4, (height, 1)).astype(np.uint8)
            luma[40:80, 10 + 5 * number : 50 + 5 * number] = 230
            file.write(b"FRAME\n" + luma.tobytes() + bytes([128]) * (height * width // 2))


@pytest.fixture(scope="module")
def page(browser, address) -> Iterator:
    """The open page. Requests to other hosts and JavaScript errors fail the tests in the end."""
    tab_, foreign, errors = browser.new_page(viewport={"width": 1900, "height": 1000}), [], []
    tab_.set_default_timeout(TIMEOUT)

    def on_request(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            foreign.append(request.url)

    tab_.on("request", on_request)
    tab_.on("pageerror", lambda error: errors.append(str(error)))
    tab_.goto(address)
    yield tab_
    tab_.close()
    assert foreign == []
    assert errors == []


def tab(page, name: str):
    """Open the tab with a name."""
    page.get_by_role("tab", name=name, exact=True).first.click()
    return page.get_by_role("tabpanel").filter(visible=True).first


def has_image(panel, label: str) -> None:
    """Wait until the component with a label has an image."""
    image = panel.locator(f"div.block:has(label:has-text('{label}')) img:visible").last
    image.wait_for()
    image.evaluate("image => image.decode()")
    assert image.evaluate("image => image.naturalWidth") > 1


# One of each form of input and output by default: an image, a pair, classes, a clip, a depth file.
QUICK = ("classification", "depth", "flow", "hand_pose", "video")


@pytest.mark.parametrize(
    "task",
    [
        task if task in QUICK else pytest.param(task, marks=pytest.mark.slow)
        for task in list_tasks()
        if task != "view_synthesis"
    ],
)
def test_every_task_predicts_its_example(page, task):
    panel = tab(page, task.capitalize())
    panel.locator("button.gallery-item:visible, table tbody tr:visible").first.click()
    panel.locator("div.block:has(label) img:visible").first.wait_for()
    panel.get_by_role("button", name="Run", exact=True).click()
    panel.get_by_text(SIZE).first.wait_for()  # the files, with their sizes
    text = panel.locator("textarea:visible").first.input_value()
    assert text.endswith(".") and "No image yet" not in text
    has_image(panel, "Prediction")


def test_visualize_handles_an_example_and_an_invalid_target(page):
    panel = tab(page, "Visualize")
    panel.get_by_text("depth: resnet50_unet_rooms").last.click()
    target = panel.get_by_label("Target (choose or type)")
    page.wait_for_function("input => input.value.startsWith('depth@')", arg=target.element_handle())
    panel.get_by_role("button", name="Run", exact=True).click()
    panel.get_by_text(SIZE).first.wait_for()
    assert panel.locator("textarea:visible").first.input_value().startswith("saliency of depth@")
    has_image(panel, "Visualization")
    target.fill("nonsense")
    target.press("Enter")
    panel.get_by_role("button", name="Run", exact=True).click()
    text = panel.locator("textarea:visible").first.element_handle()
    page.wait_for_function("area => area.value.includes('is not a target')", arg=text)


@pytest.mark.parametrize("task", ["depth", "flow"])
def test_camera_images_are_predicted_continuously(page, task):
    panel = tab(page, task.capitalize())
    panel.get_by_role("tab", name="Camera", exact=True).click()
    panel.get_by_text("Click to Access Webcam").click()
    panel.get_by_role("button", name="capture photo").click()
    prediction = panel.locator("img[src^='data:image/jpeg']:visible").last
    prediction.wait_for()
    first = prediction.get_attribute("src")
    text = panel.locator("textarea:visible").last.element_handle()
    page.wait_for_function("area => area.value.endsWith(' ms.')", arg=text)
    page.wait_for_function("([image, before]) => image.src !== before", arg=[prediction.element_handle(), first])
    panel.get_by_role("button", name="capture photo").click()
