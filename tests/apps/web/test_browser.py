"""The page in a browser, headless: every tab gives an answer, and so does the camera."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from densevision.tasks import list_tasks

pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt install chromium")

PATIENCE = 60_000
"""Milliseconds, on machines that do other things as well."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    """Chromium with a camera that films a square that moves."""
    clip = tmp_path_factory.mktemp("camera") / "square.y4m"
    write_clip(clip)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
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
    """An uncompressed video: a bright square that goes to the right over stripes."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(frames):
            luma = np.tile(np.arange(width) % 32 * 4, (height, 1)).astype(np.uint8)
            luma[40:80, 10 + 5 * number : 50 + 5 * number] = 230
            file.write(b"FRAME\n" + luma.tobytes() + bytes([128]) * (height * width // 2))


@pytest.fixture(scope="module")
def page(browser, address) -> Iterator:
    """The open page. Whatever it asks of another host, and whatever fails in it, is held against it at the end."""
    opened, elsewhere, failed = browser.new_page(viewport={"width": 1200, "height": 1000}), [], []
    opened.set_default_timeout(PATIENCE)

    def asked(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            elsewhere.append(request.url)

    opened.on("request", asked)
    opened.on("pageerror", lambda error: failed.append(str(error)))
    opened.goto(address)
    yield opened
    opened.close()
    assert elsewhere == []
    assert failed == []


def tab(page, name: str):
    """The tab of a name, opened."""
    page.get_by_role("tab", name=name, exact=True).first.click()
    return page.get_by_role("tabpanel").filter(visible=True).first


def has_drawn(panel, label: str) -> None:
    """Wait until a picture has come, and see that it has pixels."""
    picture = panel.locator(f"div.block:has(label:has-text('{label}')) img:visible").last
    picture.wait_for()
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") > 1


@pytest.mark.parametrize("task", list_tasks())
def test_every_task_answers_its_example(page, task):
    panel = tab(page, task.capitalize())
    panel.locator("button.gallery-item:visible, table tbody tr:visible").first.click()
    panel.locator("div.block:has(label) img:visible").first.wait_for()
    panel.get_by_role("button", name="Answer", exact=True).click()
    panel.get_by_text("KB").first.wait_for()  # the files, with their sizes
    words = panel.locator("textarea:visible").first.input_value()
    assert words.endswith(".") and "No picture yet" not in words
    has_drawn(panel, "Answer")


def test_looking_into_a_network_answers_its_example_and_a_bad_probe_with_a_sentence(page):
    panel = tab(page, "Visualize")
    panel.get_by_text("depth: resnet18_unet_rooms").last.click()
    probe = panel.get_by_label("Probe, chosen or typed")
    page.wait_for_function("input => input.value.startsWith('depth@')", arg=probe.element_handle())
    panel.get_by_role("button", name="Look", exact=True).click()
    panel.get_by_text("KB").first.wait_for()
    assert panel.locator("textarea:visible").first.input_value().startswith("saliency of depth@")
    has_drawn(panel, "Answer")
    probe.fill("nonsense")
    probe.press("Enter")
    panel.get_by_role("button", name="Look", exact=True).click()
    words = panel.locator("textarea:visible").first.element_handle()
    page.wait_for_function("area => area.value.includes('is no probe')", arg=words)


@pytest.mark.parametrize("task", ["depth", "flow"])
def test_the_camera_is_answered_while_it_films(page, task):
    panel = tab(page, task.capitalize())
    panel.get_by_role("tab", name="Camera", exact=True).click()
    panel.get_by_text("Click to Access Webcam").click()
    panel.get_by_role("button", name="capture photo").click()
    film = panel.locator("img[src^='data:image/jpeg']:visible").last
    film.wait_for()
    first = film.get_attribute("src")
    words = panel.locator("textarea:visible").last.element_handle()
    page.wait_for_function("area => area.value.endsWith(' ms.')", arg=words)
    page.wait_for_function("([image, before]) => image.src !== before", arg=[film.element_handle(), first])
    panel.get_by_role("button", name="capture photo").click()
