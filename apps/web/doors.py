"""What of the server can be reached: the page's own doors, and no others of the many that gradio opens.

gradio fetches addresses for its visitors, plays recordings, shows a monitor and edits its own code, on routes that this
page has no use for. They are not found here. Questions that name a file nobody uploaded, or an address, are refused
before gradio reads them, and browsers are told to speak to nobody else.
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

QUESTION_BYTES = 2**23
"""Of a question, which holds a camera's picture at most."""
UPLOADS_AT_ONCE = 4
"""Files in one request, each of the largest size."""
FOLDER_BYTES = 2**31
"""Of all that is kept for visitors."""

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


class Doors:
    """ASGI middleware in front of gradio's application."""

    def __init__(self, app: ASGIApp, folder: Path, file_bytes: int) -> None:
        """
        Args:
            app: what is behind the doors.
            folder: where uploads lie, the only files that a question may name.
            file_bytes: of one upload, at most.
        """
        self.app, self.folder, self.file_bytes = app, Path(folder).resolve(), file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a sentence."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await _say(send, 404, "There is nothing here.")
        path, posted = scope["path"], scope["method"] == "POST"
        if scope["method"] not in ("GET", "HEAD", "POST") or not (POST if posted else GET).fullmatch(path):
            return await _say(send, 404, "There is nothing here.")
        if "/file=" in path and not self._kept(path.partition("/file=")[2]):
            return await _say(send, 403, "Nobody uploaded such a file.")
        if posted:
            length = dict(scope["headers"]).get(b"content-length", b"")
            most = UPLOADS_AT_ONCE * self.file_bytes + 2**16 if path == UPLOAD else QUESTION_BYTES
            if not length.isdigit():
                return await _say(send, 411, "A question says how long it is.")
            if int(length) > most:
                return await _say(send, 413, f"That is too much: at most {most / 2**20:.0f} MB are taken here.")
            if path == UPLOAD and size_of(self.folder) + int(length) > FOLDER_BYTES:
                return await _say(send, 503, "There is no room for more pictures now; try again in some minutes.")
            if path != UPLOAD:
                body = await _read(receive)
                if body is None:
                    return None
                if (wrong := self._wrong_with(body)) is not None:
                    return await _say(send, 400, wrong)
                receive = _again(body, receive)
        # A visitor who leaves while a picture is on its way is no defect, whose stack would fill the log.
        with suppress(ClientDisconnect):
            await self.app(scope, receive, _guarded(send))

    def _wrong_with(self, body: bytes) -> str | None:
        """Why a question is refused: it is no JSON, or names a file that nobody uploaded."""
        try:
            asked = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return "A question is written in JSON."
        ahead = [asked]
        while ahead:
            found = ahead.pop()
            if isinstance(found, dict):
                named = found.get("path")
                if named is not None and not (isinstance(named, str) and self._kept(named)):
                    return "Pictures are uploaded here, not linked."
                if named is not None and Path(named).name.startswith("."):
                    return "The picture's name starts with a dot; give it another."
                ahead += found.values()
            elif isinstance(found, list):
                ahead += found
        return None

    def _kept(self, named: str) -> bool:
        """Whether a path is that of a file in the folder."""
        if ADDRESS.match(named) or "\0" in named:
            return False
        try:
            path = Path(named).resolve()
            return self.folder in path.parents and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.lstat(os.path.join(place, file)).st_size
            except OSError:
                continue  # it was cleared away meanwhile
    return total


async def _read(receive: Receive) -> bytes | None:
    """A request's whole body; None where the visitor left."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then what comes."""
    ahead: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return ahead.pop() if ahead else await receive()

    return given


def _guarded(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [*message.get("headers", []), *HEADERS]
            message = {**message, "headers": kept}
        await send(message)

    return sent


HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


async def _say(send: Send, status: int, sentence: str) -> None:
    headers: list[Any] = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
