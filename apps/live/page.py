"""A page in the browser: the pictures as they come, and buttons for the keys.

Everybody who looks gets the newest picture when he is ready for it, and nothing waits for him. Pictures come as
multipart JPEG, which an <img> shows by itself. The page is for this machine alone unless another address is asked for;
pages of others can neither show its pictures nor press its buttons.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import cv2
import numpy as np

from ...errors import UserError
from .keys import KEYS
from .page_text import PAGE
from .viewer import State

HOST, PORT = "127.0.0.1", 8765
LOOPBACK = ("127.0.0.1", "localhost", "::1")
QUALITY = 85
"""Of the JPEGs."""
BUFFER = 1 << 17
"""Bytes that may be on their way to a viewer: a few pictures, so that a slow one does not see old ones."""
FAREWELL = 1.5
"""Seconds that pages get to fetch the last words: they ask twice a second."""
BOUNDARY = "picture"
HEAD = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
"""Of every picture in the stream."""


class Page:
    """The page and its server, which runs in threads of its own from the beginning.

    Attributes:
        url: where it is.
    """

    plain = False

    def __init__(self, host: str = HOST, port: int = PORT) -> None:
        """Start the server.

        Args:
            host: address to listen at.
            port: 0: any that is free.

        Raises:
            UserError: the address is not this machine's, or the port is taken.
        """
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"No page at {host}:{port}: {reason}; give another --port, or 0 for any.") from error
        # By a name that everybody may use who reaches an address for all.
        self.anybody = host not in LOOPBACK
        self.url = f"http://{'127.0.0.1' if host in ('', '0.0.0.0') else host}:{self._server.server_port}/"
        self._changed = threading.Condition()
        self._number, self._jpeg, self._state, self._ended = 0, b"", State(), ""
        self._keys: queue.Queue[str] = queue.Queue(maxsize=32)
        self._looking = 0
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="page", daemon=True).start()

    def show(self, picture: np.ndarray, state: State) -> None:
        """Give a picture to everybody who looks."""
        _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        with self._changed:
            self._number, self._jpeg, self._state = self._number + 1, jpeg.tobytes(), state
            self._changed.notify_all()

    def pressed(self) -> str:
        """What was pressed, in order."""
        return "".join(self._keys.get_nowait() for _ in range(self._keys.qsize()))

    def close(self, last_words: str = "") -> None:
        """Let everybody who looks read the words, then stop the server."""
        with self._changed:
            self._ended = last_words or "The command has ended."
            self._changed.notify_all()
        if self._looking:
            time.sleep(FAREWELL)
        self._server.shutdown()
        self._server.server_close()

    def wait_for_somebody(self, timeout: float) -> bool:
        """Whether somebody looks, after so many seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._looking > 0, timeout)

    # What the threads of the server call.

    def press(self, key: str) -> bool:
        """Take a key; whether it is one. Keys that nobody has time for are dropped."""
        if key in KEYS and not self._keys.full():
            self._keys.put(key)
        return key in KEYS

    def state(self) -> dict[str, object]:
        """What the page says beside the picture."""
        with self._changed:
            return {**asdict(self._state), "ended": self._ended}

    def look(self, by: int) -> None:
        """Somebody comes (1) or leaves (-1)."""
        with self._changed:
            self._looking += by
            self._changed.notify_all()

    def newest(self, after: int) -> tuple[int, bytes]:
        """The number and the JPEG of the first picture after that of a number; no bytes when there comes no other."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._ended)
            return (self._number, self._jpeg) if self._number > after else (after, b"")


class _Server(ThreadingHTTPServer):
    # A viewer that hangs holds up nothing.
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], page: Page) -> None:
        self.page = page
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request, client_address) -> None:
        """A viewer who left in the middle of a picture is no event."""


class _Handler(BaseHTTPRequestHandler):
    # Seconds until a viewer who takes nothing is let go.
    timeout = 10

    @property
    def page(self) -> Page:
        assert isinstance(self.server, _Server)
        return self.server.page

    def do_GET(self) -> None:
        if not self._from_here():
            return
        match urlsplit(self.path).path:
            case "/":
                self._answer(PAGE.encode(), "text/html; charset=utf-8")
            case "/state":
                self._answer(json.dumps(self.page.state()).encode(), "application/json")
            case "/stream":
                self._stream()
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        # The form of a foreign page may post, but its browser says where it comes from.
        origin = self.headers.get("Origin")
        if not self._from_here():
            return
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            self.send_error(403)
        elif self.page.press(self.path.removeprefix("/key/")):
            self._answer(b"", "text/plain")
        else:
            self.send_error(404)

    def _from_here(self) -> bool:
        """Refuse names that a foreign page has made to point here."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if self.page.anybody or name in LOOPBACK:
            return True
        self.send_error(403)
        return False

    def _answer(self, body: bytes, kind: str) -> None:
        self._begin(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")

    def _stream(self) -> None:
        page, number = self.page, 0
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        page.look(1)
        try:
            self.wfile.write(HEAD)
            while True:
                number, jpeg = page.newest(number)
                if not jpeg:
                    return
                # Chromium shows a picture when it meets the head of the next: sent later, all would be late by one.
                self.wfile.write(jpeg + b"\r\n" + HEAD)
        finally:
            page.look(-1)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""
