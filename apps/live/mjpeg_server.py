"""Viewer in a web page: an MJPEG stream with buttons for the keys.

Each client gets the newest image when it is ready for one, and a slow client delays nothing. The images are sent as
multipart JPEG, which an <img> element displays without JavaScript. The server is reachable from this machine only
unless another address is configured; pages of other sites can neither embed its images nor press its buttons. Clients
that are slow to send their request or to read the images are disconnected.
"""

from __future__ import annotations

import io
import queue
import socket
import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from ...atomic_io import json_text
from ...errors import UserError
from ..access import FAILED, HEADERS, WRONG_PASSWORD_SECONDS, Access
from .viewer import KEYS, State

PORT = 8765
JPEG_QUALITY = 85
SEND_BUFFER = 1 << 17
"""Socket send buffer in bytes: a few images, so that a slow client does not get old ones."""
REQUEST_SECONDS = 10.0
"""Seconds in which a request has to be complete, and an image has to be read."""
CLIENTS = 64
"""Number of simultaneous connections, each of which has a thread; a browser holds two."""
CLOSE_DELAY = 1.5
"""Seconds that pages get to fetch the final message; they poll twice a second."""
BOUNDARY = "image"
PART_HEADER = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
"""Header of each image in the stream."""


class MjpegServer:
    """Web server with the page and the image stream, running in its own threads.

    Attributes:
        url: address of the page.
    """

    needs_overlay = False

    def __init__(self, access: Access | None = None, port: int = PORT) -> None:
        """Start the server at the address of `access`, by default this machine; port 0 is any free one.

        Raises:
            UserError: not an address of this machine, or the port is in use.
        """
        self.access = access or Access()
        host = self.access.host
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"Cannot serve at {host}:{port}: {reason}; give another --port, or 0 for any.") from error
        self.url = f"http://{'127.0.0.1' if host in ('', '0.0.0.0') else host}:{self._server.server_port}/"
        self._changed = threading.Condition()
        self._number, self._jpeg, self._state, self._ended = 0, b"", State(), ""
        self._keys: queue.Queue[str] = queue.Queue(maxsize=32)
        self._clients = 0
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="page", daemon=True).start()

    def show(self, image: np.ndarray, state: State) -> None:
        """Send an image to all clients."""
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        with self._changed:
            self._number, self._jpeg, self._state = self._number + 1, jpeg.tobytes(), state
            self._changed.notify_all()

    def read_keys(self) -> str:
        """The keys pressed since the last call, in order."""
        return "".join(self._keys.get_nowait() for _ in range(self._keys.qsize()))

    def close(self, message: str = "") -> None:
        """Send the message to all clients, then stop the server."""
        with self._changed:
            self._ended = message or "The command has ended."
            self._changed.notify_all()
        if self._clients:
            time.sleep(CLOSE_DELAY)
        self._server.shutdown()
        self._server.server_close()

    def wait_for_client(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a client; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._clients > 0, timeout)

    # Called by the threads of the server:

    def press(self, key: str) -> bool:
        """Queue a key, or drop it if the queue is full; False if it is not a key of `KEYS`."""
        if key in KEYS and not self._keys.full():
            self._keys.put(key)
        return key in KEYS

    def state(self) -> dict[str, object]:
        """State for the page's JavaScript: the fields of `State`, and the final message as "ended"."""
        with self._changed:
            return {**asdict(self._state), "ended": self._ended}

    def add_clients(self, number: int) -> None:
        """Count a client that connects (1) or disconnects (-1)."""
        with self._changed:
            self._clients += number
            self._changed.notify_all()

    def next_image(self, after: int) -> tuple[int, bytes]:
        """Wait for an image newer than number `after`; returns its number and JPEG, or no bytes after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._ended)
            return (self._number, self._jpeg) if self._number > after else (after, b"")


class _Server(ThreadingHTTPServer):
    # A client that hangs must not keep the process alive.
    daemon_threads = True
    block_on_close = False
    request_queue_size = CLIENTS

    def __init__(self, address: tuple[str, int], viewer: MjpegServer) -> None:
        self.viewer = viewer
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = threading.BoundedSemaphore(CLIENTS)
        super().__init__(address, _Handler)

    def verify_request(self, request, client_address) -> bool:
        """Whether there is room for another client."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request, client_address) -> None:
        """Serve a client, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address) -> None:
        """Log nothing: clients may disconnect in the middle of an image."""


class _RequestReader(io.RawIOBase):
    """Reads from a socket until a deadline for all of the request; a timeout of the socket is for every byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._deadline = connection, time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    # Seconds after which a client that reads nothing is disconnected.
    timeout = REQUEST_SECONDS
    server_version, sys_version = "densevision", ""

    @property
    def viewer(self) -> MjpegServer:
        assert isinstance(self.server, _Server)
        return self.server.viewer

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_RequestReader(self.connection))

    def parse_request(self) -> bool:
        complete = super().parse_request()
        self.connection.settimeout(self.timeout)
        return complete

    def do_GET(self) -> None:
        if not self._is_allowed():
            return
        match self.path.partition("?")[0]:
            case "/":
                self._respond(PAGE.encode(), "text/html; charset=utf-8")
            case "/state":
                self._respond(json_text(self.viewer.state()).encode(), "application/json")
            case "/stream":
                self._stream()
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        if not self._is_allowed():
            return
        if self.viewer.press(self.path.removeprefix("/key/")):
            self._respond(b"", "text/plain")
        else:
            self.send_error(404)

    def _is_allowed(self) -> bool:
        """Whether the client may send the request; if not, it gets a response."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        refusal = self.viewer.access.refusal(headers)
        if refusal is None and self.headers.defects:
            refusal = 400, FAILED
        if refusal is not None:
            if "authorization" in headers:
                time.sleep(WRONG_PASSWORD_SECONDS)
            self._refuse(*refusal)
        return refusal is None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # The message would repeat the request. An unknown method or version of HTTP is an error of the client.
        self._refuse(code if code < 500 else 400, "Not found." if code == 404 else FAILED)

    def _refuse(self, status: int, text: str) -> None:
        # Without a version, which a damaged request may lack, no header would be sent.
        self.request_version = "HTTP/1.0"
        self._respond(text.encode(), "text/plain; charset=utf-8", status)

    def _respond(self, body: bytes, content_type: str, status: int = 200) -> None:
        self._send_headers(content_type, status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="densevision"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_headers(self, content_type: str, status: int = 200) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def _stream(self) -> None:
        viewer, number = self.viewer, 0
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._send_headers(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        viewer.add_clients(1)
        try:
            self.wfile.write(PART_HEADER)
            while True:
                number, jpeg = viewer.next_image(number)
                if not jpeg:
                    return
                # Chromium displays an image when it gets the header of the next one, which is therefore sent at once.
                self.wfile.write(jpeg + b"\r\n" + PART_HEADER)
        finally:
            viewer.add_clients(-1)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
BUTTONS = "\n".join(
    f'<button data-key="{key}" title="{action}: key {key}">{action} <kbd>{key}</kbd></button>'
    for key, action in KEYS.items()
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>densevision webcam</title>
<style>
  body { margin: 0; background: #181818; color: #e6e6e6; font: 15px system-ui, sans-serif; text-align: center; }
  img { display: block; margin: 1rem auto; max-width: 96vw; max-height: 82vh; min-width: min(960px, 96vw);
        object-fit: contain; background: #000; }
  button { margin: .2rem; padding: .5rem .9rem; border: 1px solid #555; border-radius: .4rem; background: #2a2a2a;
           color: inherit; font: inherit; cursor: pointer; }
  button:hover, button:focus-visible { background: #3a3a3a; border-color: #999; }
  button[aria-pressed=true] { background: #8a2020; border-color: #d05050; }
  button:disabled { opacity: .4; cursor: default; }
  kbd { opacity: .6; font: inherit; margin-left: .4rem; }
  p { min-height: 1.4em; }
</style>
</head>
<body>
<img id="image" src="/stream" alt="The newest frame and its predictions">
<div id="keys">
BUTTONS
</div>
<p id="message" role="status"></p>
<script>
  const button = key => document.querySelector(`button[data-key="${key}"]`)
  const setMessage = text => { document.getElementById("message").textContent = text }
  const press = key => fetch("/key/" + key, { method: "POST" }).then(update)
  document.querySelectorAll("button").forEach(one => one.onclick = () => press(one.dataset.key))
  document.onkeydown = event => {
    if (!event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey && button(event.key)) press(event.key)
  }
  let ended = false
  async function update() {
    if (ended) return
    try {
      const state = await (await fetch("/state")).json()
      button("p").setAttribute("aria-pressed", state.paused)
      button("r").setAttribute("aria-pressed", state.recording)
      ended = Boolean(state.ended)
      setMessage(state.ended || state.message)
    } catch {
      ended = true
      setMessage("The command has ended.")
    }
    if (ended) document.querySelectorAll("button").forEach(one => one.disabled = true)
  }
  setInterval(update, 500)
</script>
</body>
</html>
""".replace("BUTTONS", BUTTONS)
