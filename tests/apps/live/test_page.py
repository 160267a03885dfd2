"""The page: what it serves, to whom, and what its browser shows."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from densevision.apps.live import page as module
from densevision.apps.live.keys import KEYS
from densevision.apps.live.page import HEAD, Page
from densevision.apps.live.page_text import PAGE
from densevision.apps.live.viewer import State
from densevision.errors import UserError

from .toys import numbered


@pytest.fixture
def page(monkeypatch) -> Iterator[Page]:
    monkeypatch.setattr(module, "FAREWELL", 0.0)
    served = Page(port=0)
    yield served
    served.close()


def asked(page: Page, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port or 0, timeout=5)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


class Looker:
    """One who looks: the pictures of the stream, one by one."""

    def __init__(self, page: Page) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port or 0, timeout=5)
        self._connection.request("GET", "/stream")
        self._stream = self._connection.getresponse()
        assert self._stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=picture"
        assert self._stream.read(len(HEAD)) == HEAD
        self._held = b""

    def picture(self) -> int:
        """The number of the next picture; it is whole, and the next one's head is there, before that is made."""
        while b"\r\n" + HEAD not in self._held:
            self._held += self._stream.read1(1 << 16)
        jpeg, self._held = self._held.split(b"\r\n" + HEAD, 1)
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        return round(decoded.mean())

    def leave(self) -> None:
        self._connection.close()


def test_everybody_who_looks_sees_every_new_picture_at_once(page):
    lookers = [Looker(page) for _ in range(3)]
    for number in (40, 90, 200):
        page.show(numbered(number), State())
        assert [looker.picture() for looker in lookers] == [number] * 3
    late = Looker(page)
    assert late.picture() == 200, "whoever comes late sees the newest at once"
    for looker in (*lookers, late):
        looker.leave()


def test_a_viewer_who_does_not_take_his_pictures_holds_up_nobody_and_sees_few_old_ones(page):
    slow, noise = Looker(page), np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    page.show(noise, State())
    started = time.perf_counter()
    for _ in range(60):
        page.show(noise, State())
    assert time.perf_counter() - started < 20, "60 pictures of 300 kB are only encoded"
    page.show(numbered(7), State())
    taken = 0
    while slow.picture() != 7:
        taken += 1
    assert taken < 40
    slow.leave()


def test_keys_are_pressed_on_the_page_in_order(page):
    assert [asked(page, f"/key/{key}", "POST")[0] for key in ("n", "s", "q", "x", "nn")] == [200, 200, 200, 404, 404]
    assert page.pressed() == "nsq" and page.pressed() == ""
    for _ in range(100):
        asked(page, "/key/p", "POST")
    assert len(page.pressed()) == 32, "keys that nobody has time for do not pile up"


def test_the_state_is_said_beside_the_picture(page):
    page.show(numbered(1), State(paused=True, message="wrote a.png"))
    status, body = asked(page, "/state")
    assert (status, json.loads(body)) == (
        200,
        {"paused": True, "recording": False, "message": "wrote a.png", "ended": ""},
    )


def test_the_page_has_a_button_for_every_key_and_fetches_nothing_from_elsewhere(page):
    status, body = asked(page, "/")
    assert status == 200 and body.decode() == PAGE
    assert all(f'data-key="{key}"' in PAGE and what in PAGE for key, what in KEYS.items())
    assert "http:" not in PAGE and "https:" not in PAGE and "//" not in PAGE
    assert "BUTTONS" not in PAGE


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "//etc/passwd", "/key/q", "/%2e%2e/x", "/stream/x"])
def test_nothing_else_is_served(page, path):
    assert asked(page, path)[0] == 404
    assert page.pressed() == ""


def test_pages_of_others_can_neither_look_nor_press(page):
    port = urlsplit(page.url).port
    assert asked(page, "/key/q", "POST", Origin="https://elsewhere.example")[0] == 403
    assert asked(page, "/key/q", "POST", Origin="null")[0] == 403
    # A name of theirs that they have made to point here (DNS rebinding).
    for path in ("/", "/stream", "/state"):
        assert asked(page, path, Host=f"elsewhere.example:{port}")[0] == 403
    assert page.pressed() == ""
    assert asked(page, "/key/q", "POST", Origin=page.url.rstrip("/"))[0] == 200
    assert asked(page, "/", Host=f"localhost:{port}")[0] == 200


def test_only_this_machine_is_served_unless_another_address_is_asked_for(page):
    assert page._server.server_address[0] == "127.0.0.1"


def test_a_taken_port_and_an_address_of_others_are_sentences(page):
    taken = urlsplit(page.url).port or 0
    with pytest.raises(UserError, match=rf"No page at 127\.0\.0\.1:{taken}: .*; give another --port, or 0 for any"):
        Page(port=taken)
    for host, port in (("192.0.2.1", 0), ("127.0.0.1", 70000), ("no.such.host.invalid", 0)):
        with pytest.raises(UserError, match="No page at"):
            Page(host, port)


def test_the_end_reaches_those_who_look_and_leaves_no_thread():
    page = Page(port=0)
    page.show(numbered(3), State())
    before = {thread.name for thread in threading.enumerate()}
    looker = Looker(page)
    looker.picture()
    words: list[object] = []
    closing = threading.Thread(target=page.close, args=("Camera 0 stopped.",))
    closing.start()
    time.sleep(0.2)
    words.append(json.loads(asked(page, "/state")[1])["ended"])
    closing.join(5)
    assert words == ["Camera 0 stopped."] and not closing.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", urlsplit(page.url).port or 0), timeout=1).close()
    assert "page" in before and "page" not in {thread.name for thread in threading.enumerate()}


def test_a_browser_shows_the_pictures_and_presses_the_keys(page, monkeypatch):
    """Chromium shows a picture only when the head of the next one has come; a page that lags by one would show 60."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page.show(numbered(60), State())
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # What the test asks, it asks in scripts that the page's own policy would refuse.
        tab = browser.new_page(bypass_csp=True)
        foreign: list[str] = []
        tab.on("request", lambda one: None if one.url.startswith((page.url, "data:")) else foreign.append(one.url))
        # The stream never ends, and so the page never counts as loaded.
        tab.goto(page.url, wait_until="commit")
        tab.wait_for_function("document.getElementById('picture').naturalWidth > 0")
        page.show(numbered(200), State(recording=True, message="wrote a.png"))
        grey = """() => {
            const canvas = document.createElement("canvas"), pen = canvas.getContext("2d")
            pen.drawImage(document.getElementById("picture"), 0, 0)
            return pen.getImageData(5, 5, 1, 1).data[0]
        }"""
        tab.wait_for_function(f"Math.abs(({grey})() - 200) < 5", timeout=10_000)
        tab.wait_for_function("document.getElementById('message').textContent === 'wrote a.png'")
        assert tab.get_attribute("[data-key=r]", "aria-pressed") == "true"
        tab.keyboard.press("n")
        tab.click("[data-key=q]")
        deadline, pressed = time.monotonic() + 5, ""
        while len(pressed) < 2 and time.monotonic() < deadline:
            pressed += page.pressed()
        assert pressed == "nq" and foreign == []
        monkeypatch.setattr(module, "FAREWELL", 1.5)
        page.close("Camera 0 stopped.")
        tab.wait_for_function("document.getElementById('message').textContent === 'Camera 0 stopped.'")
        assert tab.is_disabled("[data-key=n]")
        browser.close()
