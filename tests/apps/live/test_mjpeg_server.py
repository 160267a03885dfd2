"""Web page of the viewer: routes, stream, access control, and a browser test."""

from __future__ import annotations

import base64
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

from densevision.apps.access import Access
from densevision.apps.live import mjpeg_server as module
from densevision.apps.live.mjpeg_server import PAGE, PART_HEADER, MjpegServer
from densevision.apps.live.viewer import KEYS, State
from densevision.errors import UserError

from .toys import numbered


@pytest.fixture
def page(monkeypatch) -> Iterator[MjpegServer]:
    monkeypatch.setattr(module, "CLOSE_DELAY", 0.0)
    server = MjpegServer(port=0)
    yield server
    server.close()


def fetch(page: MjpegServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port or 0, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    result = response.status, response.read()
    connection.close()
    return result


class Client:
    """Client of the image stream."""

    def __init__(self, page: MjpegServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port or 0, timeout=5)
        self._connection.request("GET", "/stream")
        self._stream = self._connection.getresponse()
        assert self._stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=image"
        assert self._stream.read(len(PART_HEADER)) == PART_HEADER
        self._buffer = b""

    def image(self) -> int:
        """The number of the next image; it must be complete and followed by the header of the next part."""
        while b"\r\n" + PART_HEADER not in self._buffer:
            self._buffer += self._stream.read1(1 << 16)
        jpeg, self._buffer = self._buffer.split(b"\r\n" + PART_HEADER, 1)
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        return round(decoded.mean())

    def close(self) -> None:
        self._connection.close()


def test_all_clients_get_every_new_image_at_once(page):
    clients = [Client(page) for _ in range(3)]
    for number in (40, 90, 200):
        page.show(numbered(number), State())
        assert [client.image() for client in clients] == [number] * 3
    late = Client(page)
    assert late.image() == 200, "a late client gets the newest image at once"
    for client in (*clients, late):
        client.close()


def test_a_slow_client_delays_nothing_and_gets_few_old_images(page):
    slow, noise = Client(page), np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    page.show(noise, State())
    started = time.perf_counter()
    for _ in range(60):
        page.show(noise, State())
    assert time.perf_counter() - started < 20, "60 images of 300 kB are only encoded"
    page.show(numbered(7), State())
    old = 0
    while slow.image() != 7:
        old += 1
    assert old < 40
    slow.close()


def test_keys_are_read_in_order(page):
    assert [fetch(page, f"/key/{key}", "POST")[0] for key in ("n", "s", "q", "x", "nn")] == [200, 200, 200, 404, 404]
    assert page.read_keys() == "nsq" and page.read_keys() == ""
    for _ in range(100):
        fetch(page, "/key/p", "POST")
    assert len(page.read_keys()) == 32, "the queue of keys is bounded"


def test_the_state_is_served_as_json(page):
    page.show(numbered(1), State(paused=True, message="wrote a.png"))
    status, body = fetch(page, "/state")
    assert (status, json.loads(body)) == (
        200,
        {"paused": True, "recording": False, "message": "wrote a.png", "ended": ""},
    )


def test_the_page_has_a_button_for_every_key_and_no_links_to_other_servers(page):
    status, body = fetch(page, "/")
    assert status == 200 and body.decode() == PAGE
    assert all(f'data-key="{key}"' in PAGE and action in PAGE for key, action in KEYS.items())
    assert "http:" not in PAGE and "https:" not in PAGE and "//" not in PAGE
    assert "BUTTONS" not in PAGE


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "//etc/passwd", "/key/q", "/%2e%2e/x", "/stream/x"])
def test_other_paths_are_not_found(page, path):
    assert fetch(page, path)[0] == 404
    assert page.read_keys() == ""


def test_other_sites_have_no_access(page):
    port = urlsplit(page.url).port
    assert fetch(page, "/key/q", "POST", Origin="https://elsewhere.example")[0] == 403
    assert fetch(page, "/key/q", "POST", Origin="null")[0] == 403
    # A host name of another site that resolves to this machine (DNS rebinding).
    for path in ("/", "/stream", "/state"):
        assert fetch(page, path, Host=f"elsewhere.example:{port}")[0] == 403
    assert page.read_keys() == ""
    assert fetch(page, "/key/q", "POST", Origin=page.url.rstrip("/"))[0] == 200
    assert fetch(page, "/", Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), ("/state", "GET"), ("/nowhere", "GET"), ("/", "PUT")])
def test_every_response_has_the_security_headers(page, path, method):
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port or 0, timeout=5)
    connection.request(method, path)
    headers = connection.getresponse().headers
    connection.close()
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY" and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"].strip() == "densevision"


def test_a_password_is_required():
    page = MjpegServer(Access("127.0.0.1", "correct horse"), port=0)
    try:
        right = base64.b64encode(b"me:correct horse").decode()
        assert fetch(page, "/state")[0] == fetch(page, "/stream")[0] == fetch(page, "/key/q", "POST")[0] == 401
        assert fetch(page, "/state", Authorization=f"Basic {right}")[0] == 200
        assert page.read_keys() == ""
    finally:
        page.close()


def test_clients_that_are_slow_to_send_are_dropped(page, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", urlsplit(page.url).port or 0), 5) as raw:
        received = threading.Thread(target=raw.recv, args=(99,))
        received.start()
        for _ in range(50):  # every byte is in time, the request is not
            try:
                raw.sendall(b"G")
            except OSError:
                break
            received.join(0.05)
            if not received.is_alive():
                break
        else:
            pytest.fail("the client was not dropped")


def test_further_clients_wait_for_none(page):
    raws = [socket.create_connection(("127.0.0.1", urlsplit(page.url).port or 0), 5) for _ in range(module.CLIENTS + 1)]
    assert raws[-1].recv(99) == b"", "the last one is closed"
    for raw in raws:
        raw.close()


def test_the_default_address_is_loopback(page):
    assert page._server.server_address[0] == "127.0.0.1"


def test_a_used_port_and_a_foreign_address_are_user_errors(page):
    port = urlsplit(page.url).port or 0
    with pytest.raises(UserError, match=rf"Cannot serve at 127\.0\.0\.1:{port}: .*; give another --port, or 0 for any"):
        MjpegServer(port=port)
    for host, port in (("192.0.2.1", 0), ("127.0.0.1", 70000), ("no.such.host.invalid", 0)):
        with pytest.raises(UserError, match="Cannot serve at"):
            MjpegServer(Access(host), port)


def test_the_final_message_reaches_clients_and_no_thread_is_left():
    page = MjpegServer(port=0)
    page.show(numbered(3), State())
    before = {thread.name for thread in threading.enumerate()}
    client = Client(page)
    client.image()
    messages: list[object] = []
    closing = threading.Thread(target=page.close, args=("Camera 0 stopped.",))
    closing.start()
    time.sleep(0.2)
    messages.append(json.loads(fetch(page, "/state")[1])["ended"])
    closing.join(5)
    assert messages == ["Camera 0 stopped."] and not closing.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", urlsplit(page.url).port or 0), timeout=1).close()
    assert "page" in before and "page" not in {thread.name for thread in threading.enumerate()}


def test_a_browser_displays_the_images_and_sends_the_keys(page, monkeypatch):
    """Chromium displays an image when it gets the header of the next one; a page that lags by one would display 60."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page.show(numbered(60), State())
    with driver.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # The scripts of the test would be blocked by the page's content security policy.
        tab = browser.new_page(bypass_csp=True)
        foreign: list[str] = []
        tab.on("request", lambda one: None if one.url.startswith((page.url, "data:")) else foreign.append(one.url))
        # The stream never ends, so the page never counts as loaded.
        tab.goto(page.url, wait_until="commit")
        tab.wait_for_function("document.getElementById('image').naturalWidth > 0")
        page.show(numbered(200), State(recording=True, message="wrote a.png"))
        gray = """() => {
            const canvas = document.createElement("canvas"), context = canvas.getContext("2d")
            context.drawImage(document.getElementById("image"), 0, 0)
            return context.getImageData(5, 5, 1, 1).data[0]
        }"""
        tab.wait_for_function(f"Math.abs(({gray})() - 200) < 5", timeout=10_000)
        tab.wait_for_function("document.getElementById('message').textContent === 'wrote a.png'")
        assert tab.get_attribute("[data-key=r]", "aria-pressed") == "true"
        tab.keyboard.press("n")
        tab.click("[data-key=q]")
        deadline, pressed = time.monotonic() + 5, ""
        while len(pressed) < 2 and time.monotonic() < deadline:
            pressed += page.read_keys()
        assert pressed == "nq" and foreign == []
        monkeypatch.setattr(module, "CLOSE_DELAY", 1.5)
        page.close("Camera 0 stopped.")
        tab.wait_for_function("document.getElementById('message').textContent === 'Camera 0 stopped.'")
        assert tab.is_disabled("[data-key=n]")
        browser.close()
