"""Figure of docs/apps.md: a screenshot of the web demo in headless Chromium.

python tools/figures/web.py [OUT]     the depth tab with a prediction beside the visualization tab, to docs/web.jpg
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "docs" / "web.jpg"
TABS = (("Depth", "Run"), ("Visualize", "Run"))
"""Titles of the tabs and of the buttons that start them."""


@contextmanager
def server() -> Iterator[str]:
    """Run `densevision web` in a process of its own; yields its address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    command = [sys.executable, "-m", "densevision", "web", "--port", port, "--device", "cpu", "--amp", "off"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(word for line in process.stdout for word in line.split() if word.startswith("http"))
        finally:
            process.terminate()
            process.wait(30)


def screenshot(out: str = str(OUT)) -> None:
    """Run the first example of both tabs and write the two screenshots side by side."""
    from playwright.sync_api import sync_playwright

    with server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shots = []
        for tab, button in TABS:
            page = browser.new_page(viewport={"width": 1180, "height": 1180})
            page.goto(address)
            page.get_by_role("tab", name=tab, exact=True).click()
            panel = page.get_by_role("tabpanel").filter(visible=True).first
            example = panel.locator("button.gallery-item") if tab == "Depth" else panel.get_by_text("depth: ")
            example.first.click()
            page.wait_for_timeout(2500)
            panel.get_by_role("button", name=button, exact=True).click()
            page.wait_for_timeout(1000)
            page.wait_for_function("!document.body.innerText.includes('processing')", timeout=120_000)
            panel.get_by_text("KB").first.wait_for(timeout=60_000)
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_timeout(1000)
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    figure = Image.new("RGB", (sum(shot.width for shot in shots), shots[0].height), "white")
    figure.paste(shots[0], (0, 0))
    figure.paste(shots[1], (shots[0].width, 0))
    figure.save(out, quality=82)
    print(f"{out}: {Path(out).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    screenshot(*sys.argv[1:])
