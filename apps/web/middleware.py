"""ASGI middleware in front of Gradio: an allow-list of routes, limits on requests, and security headers.

Gradio has routes that the page does not need: fetching URLs for clients, playing recordings, monitoring, editing its
own code. They get a 404 response here. Requests that refer to a URL or to a file that was not uploaded are rejected
before Gradio reads them, and a content security policy forbids browsers to contact other servers.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

GET = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.+"
    r"|/gradio_api/(info/?|theme\.css|startup-events|queue/data|upload_progress|heartbeat/\w+|app_id/?|file=.+)"
)
POST = re.compile(r"/gradio_api/(upload|queue/join|run/predict|cancel|reset/?|stream/\w+(/close)?)")
ADDRESS = re.compile(r"\s*[a-zA-Z][\w+.-]*:")
UPLOAD = "/gradio_api/upload"

REQUEST_BYTES = 2**23
"""Maximum size of a request other than an upload; it contains at most a camera image."""
UPLOADS_AT_ONCE = 4
"""Maximum number of files of maximum size in one upload."""
FOLDER_BYTES = 2**31
"""Maximum size of all stored files."""

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "frame-ancestors 'self'",
    )
)


class RequestFilter:
    """ASGI middleware that rejects all requests which the page does not need."""

    def __init__(self, app: ASGIApp, folder: Path, file_bytes: int) -> None:
        """Filter requests to `app`: they may refer to files in `folder` only, and uploads have at most `file_bytes`."""
        self.app, self.folder, self.file_bytes = app, Path(folder).resolve(), file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with an error message."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await _send_text(send, 404, "Not found.")
        path, is_post = scope["path"], scope["method"] == "POST"
        if scope["method"] not in ("GET", "HEAD", "POST") or not (POST if is_post else GET).fullmatch(path):
            return await _send_text(send, 404, "Not found.")
        if "/file=" in path and not self._is_upload(path.partition("/file=")[2]):
            return await _send_text(send, 403, "This is not an uploaded file.")
        if is_post:
            length = dict(scope["headers"]).get(b"content-length", b"")
            limit = UPLOADS_AT_ONCE * self.file_bytes + 2**16 if path == UPLOAD else REQUEST_BYTES
            if not length.isdigit():
                return await _send_text(send, 411, "The Content-Length header is required.")
            if int(length) > limit:
                return await _send_text(send, 413, f"The request is too large; the limit is {limit / 2**20:.0f} MB.")
            if path == UPLOAD and folder_size(self.folder) + int(length) > FOLDER_BYTES:
                return await _send_text(send, 503, "The server's storage is full; try again in some minutes.")
            if path != UPLOAD:
                body = await _read(receive)
                if body is None:
                    return None
                if (error := self._error_in(body)) is not None:
                    return await _send_text(send, 400, error)
                receive = _replay(body, receive)
        # A client that disconnects during a transfer is not an error whose traceback belongs in the log.
        with suppress(ClientDisconnect):
            await self.app(scope, receive, _add_headers(send))

    def _error_in(self, body: bytes) -> str | None:
        """Error message if a request is not JSON or refers to a file that was not uploaded; None if it is valid."""
        try:
            request = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return "The request is not valid JSON."
        stack = [request]
        while stack:
            node = stack.pop()
            if isinstance(node, dict):
                path = node.get("path")
                if path is not None and not (isinstance(path, str) and self._is_upload(path)):
                    return "Images must be uploaded, not linked."
                if path is not None and Path(path).name.startswith("."):
                    return "The name of the image file starts with a dot; rename the file."
                stack += node.values()
            elif isinstance(node, list):
                stack += node
        return None

    def _is_upload(self, text: str) -> bool:
        """Whether a text is the path of a file in the folder of uploads."""
        if ADDRESS.match(text) or "\0" in text:
            return False
        try:
            path = Path(text).resolve()
            return self.folder in path.parents and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False


def folder_size(folder: Path) -> int:
    """Size of all files in a folder, in bytes."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(parent, file)).st_size
            except OSError:
                continue  # deleted in the meantime
    return total


async def _read(receive: Receive) -> bytes | None:
    """The complete body of a request; None if the client disconnected."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body again, and then the next messages."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _add_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return with_headers


HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


async def _send_text(send: Send, status: int, text: str) -> None:
    headers: list[Any] = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
