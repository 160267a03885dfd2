"""Start and shutdown of the server: Gradio without its connections to other servers, in a temporary folder."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import UserError
from ..access import Access
from .checkpoints import CheckpointEntry
from .sweeper import Sweeper
from .uploads import Limits

SESSIONS = 100
"""Number of client sessions with stored state; the least recently used one is dropped first."""
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
CONNECTIONS = 256
"""Number of simultaneous connections; a browser holds about six."""
OFF: dict[str, Any] = {
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
}
"""Features of Gradio to switch off."""


@contextmanager
def serve(
    entries: dict[str, list[CheckpointEntry]],
    limits: Limits,
    access: Access | None = None,
    port: int = 7860,
    lifetime: float = 15 * 60,
    scenes: tuple[Path, ...] = (),
) -> Iterator[str]:
    """Serve the page as a context manager; yields its address.

    Args:
        entries: the checkpoints of each task.
        limits: limits of uploads.
        access: address to listen on, and who may use the page; by default everyone on this machine.
        port: TCP port.
        lifetime: seconds after which uploads and results are deleted.
        scenes: folders of photos with cameras, for view synthesis.

    Raises:
        UserError: the port is in use, or not an address of this machine.
    """
    access = access or Access()
    with (
        _listen(access.host, port) as listener,
        TemporaryDirectory(prefix="densevision-web-", ignore_cleanup_errors=True) as temporary,
        _environment(temporary),
    ):
        import gradio as gr
        import uvicorn
        from fastapi import FastAPI

        from .connection import Connection
        from .middleware import RequestFilter
        from .page import build

        # It reports every damaged upload; the client gets a sentence.
        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
        folder = Path(temporary).resolve()
        page = build(entries, limits, folder, scenes)
        page.state_session_capacity = SESSIONS
        app = gr.mount_gradio_app(
            FastAPI(openapi_url=None),
            page,
            path="/",
            server_name=access.host,
            server_port=port,
            max_file_size=limits.file_bytes,
            show_error=False,
            theme=gr.themes.Base(font=FONTS, font_mono=MONOSPACE),
            **OFF,
        )

        def forget(path: str) -> None:
            for known in page.temp_file_sets:
                known.discard(path)

        with Sweeper(folder, lifetime, on_delete=forget) as sweeper:
            num_inputs = {number: len(function.inputs) for number, function in page.fns.items()}
            config = uvicorn.Config(
                RequestFilter(app, access, sweeper, limits.file_bytes, num_inputs),
                http=Connection,
                ws="none",
                limit_concurrency=CONNECTIONS,
                server_header=False,
                proxy_headers=False,
                log_level="critical",
                timeout_graceful_shutdown=1,
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
            thread.start()
            try:
                while not server.started and thread.is_alive():
                    time.sleep(0.01)
                if not server.started:
                    raise RuntimeError("The server has not started.")
                yield f"http://{_displayed(access.host)}:{port}"
            finally:
                page.close(verbose=False)
                server.should_exit = True
                thread.join(10)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections at an address of this machine."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise UserError(f"Cannot serve at {host}:{port}; give another --port or --host.") from error


def _displayed(host: str) -> str:
    """A host as in an address to open in a browser on this machine."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Set environment variables, which Gradio reads, and restore them afterwards."""
    values = {
        "GRADIO_TEMP_DIR": os.path.realpath(folder),
        "GRADIO_EXAMPLES_CACHE": os.path.join(os.path.realpath(folder), "examples"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_ALLOWED_PATHS": "",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
