"""ASGI middleware in front of Gradio: who may send what, limits on requests, and security headers.

Gradio has routes that the page does not need: fetching URLs for clients, playing recordings, monitoring, editing its
own code. They get a 404 response here. Requests that are not what the page sends are refused before Gradio reads them,
what Gradio fails on gets a response as well, and a content security policy forbids browsers to contact other servers.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect

from ..access import FAILED, HEADERS, WRONG_PASSWORD_SECONDS, Access
from .sweeper import Sweeper

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SESSION = r"[A-Za-z0-9_-]{1,64}"
GET = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static)/.+"
    rf"|/gradio_api/(info/?|theme\.css|startup-events|queue/data|upload_progress|heartbeat/{_SESSION}|app_id/?|file=.+)"
)
POST = re.compile(rf"/gradio_api/(upload|queue/join|run/predict|cancel|reset/?|stream/{_SESSION}(/close)?)")
CALLS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
"""Routes that call a function of the page."""
QUEUE = "/gradio_api/queue/data"
UPLOAD = "/gradio_api/upload"
FILE = "/gradio_api/file="
ADDRESS = re.compile(r"\s*[a-zA-Z][\w+.-]*:")

HEADER_BYTES = 2**15
"""Maximum size of all headers of a request."""
REQUEST_BYTES = 2**23
"""Maximum size of a request other than an upload; it contains at most a camera image."""
REQUEST_VALUES = 10_000
"""Maximum number of values in the JSON of a request: a value takes up to a hundred times its two bytes in memory."""
REQUEST_DEPTH = 32
"""Maximum nesting of the JSON of a request."""
UPLOADS_AT_ONCE = 4
"""Maximum number of files of maximum size in one upload."""
UPLOAD_PARTS = 16
"""Maximum number of parts of an upload, each of which opens a file."""
SESSIONS_KNOWN = 10_000
"""Number of sessions whose results can be fetched."""

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
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Policy of uploaded files: an HTML file among them is no page of this server."""


class RefusedError(Exception):
    """A request whose response is `status` and a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class RequestFilter:
    """ASGI middleware that refuses all requests which the page does not send."""

    def __init__(
        self, app: ASGIApp, access: Access, sweeper: Sweeper, file_bytes: int, num_inputs: Mapping[int, int]
    ) -> None:
        """
        Args:
            app: the application.
            access: who may send requests.
            sweeper: the sweeper of the folder of uploads; requests can refer to no other files.
            file_bytes: maximum size of an uploaded file in bytes.
            num_inputs: the page's functions by index, and how many inputs each takes.
        """
        self.app, self.access, self.sweeper, self.file_bytes = app, access, sweeper, file_bytes
        self.folder, self.num_inputs = sweeper.folder.resolve(), num_inputs
        self._sessions: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with a sentence; an error in the application is a sentence, too."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        response = _Response(send, FILE_POLICY if scope["path"].startswith(FILE) else POLICY)
        try:
            await self._handle(scope, receive, response)
        except (ClientDisconnect, asyncio.CancelledError):  # the server cancels requests when it is stopped
            return None
        except RefusedError as refused:
            await response.finish(refused.status, refused.text)
        except Exception as error:
            request = f"{scope['method']} {scope['path'][:80]!r}"
            print(f"{request}: {type(error).__name__}: {str(error)[:200]!r}", file=sys.stderr)
            await response.finish(400, FAILED)
        return None

    async def _handle(self, scope: Scope, receive: Receive, send: _Response) -> None:
        path, method = scope["path"], scope["method"]
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            raise RefusedError(431, "The headers are too large.")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if (refusal := self.access.refusal(headers)) is not None:
            if "authorization" in headers:
                await asyncio.sleep(WRONG_PASSWORD_SECONDS)
            raise RefusedError(*refusal)
        if method not in ("GET", "HEAD", "POST") or not (POST if method == "POST" else GET).fullmatch(path):
            raise RefusedError(404, "Not found.")
        if path.startswith(FILE) and not self._is_upload(path.removeprefix(FILE)):
            raise RefusedError(403, "This is not an uploaded file.")
        if path == QUEUE:
            self._check_session(scope["query_string"])
        if method != "POST":
            return await self.app(scope, receive, send)
        length = self._length(headers, path)
        if path != UPLOAD:
            body = await _read(receive)
            self._check(path, body)
            return await self.app(scope, _replay(body, receive), send)
        with self.sweeper.room(length) as free:
            if not free:
                raise RefusedError(503, "The server's storage is full; try again in some minutes.")
            await self.app(scope, _count_parts(receive, send), send)

    def _length(self, headers: Mapping[str, str], path: str) -> int:
        """The stated length of a request's body."""
        text = headers.get("content-length", "")
        # With both headers, the length would not count.
        if not (text.isascii() and text.isdigit()) or "transfer-encoding" in headers:
            raise RefusedError(411, "The Content-Length header is required, without Transfer-Encoding.")
        limit = UPLOADS_AT_ONCE * self.file_bytes + 2**16 if path == UPLOAD else REQUEST_BYTES
        if len(text) > 18 or int(text) > limit:
            raise RefusedError(413, f"The request is too large; the limit is {limit / 2**20:.0f} MB.")
        return int(text)

    def _check_session(self, query: bytes) -> None:
        """Refuse to wait for results of a session that has called nothing."""
        (session,) = parse_qs(query.decode("latin-1")).get("session_hash", [""])[:1]
        if session not in self._sessions:
            raise RefusedError(404, "There is no such session.")

    def _check(self, path: str, body: bytes) -> None:
        """Refuse a request that is not JSON, calls no function of the page, or refers to a file not uploaded."""
        if body.count(b",") + body.count(b"[") + body.count(b"{") > REQUEST_VALUES:
            raise RefusedError(400, f"The request has more than {REQUEST_VALUES} values.")
        try:
            request = json.loads(body or b"{}", parse_constant=_no_number)
            self._check_values(request)
        except (ValueError, RecursionError):
            raise RefusedError(400, "The request is not valid JSON.") from None
        if not isinstance(request, dict):
            raise RefusedError(400, "The request is not a JSON object.")
        if path in CALLS:
            function, data, session = (request.get(name) for name in ("fn_index", "data", "session_hash"))
            if not isinstance(function, int) or function not in self.num_inputs:
                raise RefusedError(400, "The page has no such function.")
            if not isinstance(data, list) or len(data) != self.num_inputs[function]:
                raise RefusedError(400, f"The function takes {self.num_inputs[function]} inputs, as a list.")
            if not isinstance(session, str) or not re.fullmatch(_SESSION, session):
                raise RefusedError(400, "The session has to be named by letters and digits.")
            self._sessions.pop(session, None)
            self._sessions[session] = None
            if len(self._sessions) > SESSIONS_KNOWN:
                del self._sessions[next(iter(self._sessions))]

    def _check_values(self, request: Any) -> None:
        """Check all values in a request. A ValueError if one cannot be encoded, or the nesting is too deep."""
        stack = [(request, 0)]
        while stack:
            node, depth = stack.pop()
            if depth > REQUEST_DEPTH:
                raise ValueError("too deep")
            if isinstance(node, dict):
                path = node.get("path")
                if path is not None and not (isinstance(path, str) and self._is_upload(path)):
                    raise RefusedError(400, "Images must be uploaded, not linked.")
                if path is not None and Path(path).name.startswith("."):
                    raise RefusedError(400, "The name of the image file starts with a dot; rename the file.")
                stack += ((value, depth + 1) for pair in node.items() for value in pair)
            elif isinstance(node, list):
                stack += ((value, depth + 1) for value in node)
            elif isinstance(node, str):
                node.encode()
            elif isinstance(node, float) and not math.isfinite(node):
                raise ValueError("too large")

    def _is_upload(self, text: str) -> bool:
        """Whether a text is the path of a file in the folder of uploads."""
        if ADDRESS.match(text) or "\0" in text:
            return False
        try:
            path = Path(text).resolve()
            return self.folder in path.parents and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False


class _Response:
    """A `send` that adds security headers, and replaces the response with which the framework reports an error."""

    def __init__(self, send: Send, policy: str) -> None:
        self._send, self._started, self._failed = send, False, False
        headers = {"Content-Security-Policy": policy, **HEADERS}
        self._headers: list[Any] = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.refusal = RefusedError(400, FAILED)
        """Response to a failed request."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # 422 would repeat the request.
            if message["status"] in (422, 500):
                self._failed = True
                return await self.finish(self.refusal.status, self.refusal.text)
            self._started = True
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        if not self._failed:
            await self._send(message)
        return None

    async def finish(self, status: int, text: str) -> None:
        """Respond with a sentence, unless the response has begun."""
        if self._started:
            return
        self._started = True
        headers = [*self._headers, (b"content-type", b"text/plain; charset=utf-8")]
        if status == 401:
            headers.append((b"www-authenticate", b'Basic realm="densevision"'))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": text.encode()})


async def _read(receive: Receive) -> bytes:
    """The complete body of a request."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body again, and then the next messages."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _count_parts(receive: Receive, response: _Response) -> Receive:
    """A `receive` that fails when an upload has too many parts."""
    count, end = 0, b""
    name = b"content-disposition"

    async def counted() -> Message:
        nonlocal count, end
        message = await receive()
        text = end + message.get("body", b"")
        count += text.lower().count(name)
        end = text[-len(name) + 1 :]
        if count > UPLOAD_PARTS:
            response.refusal = RefusedError(413, f"An upload has at most {UPLOAD_PARTS} files.")
            raise response.refusal
        return message

    return counted


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON.")
