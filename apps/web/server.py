"""Start and shutdown of the server: Gradio without its connections to other servers, in a temporary folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import UserError
from .checkpoints import CheckpointEntry
from .uploads import Limits

SESSIONS = 100
"""Number of client sessions with stored state; the least recently used one is dropped first."""
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
OFF: dict[str, Any] = {
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "mcp_server": False,
    "ssr_mode": False,
    "pwa": False,
    "inbrowser": False,
}
"""Features to switch off, as far as the installed version of Gradio has them."""


@contextmanager
def serve(
    entries: dict[str, list[CheckpointEntry]], limits: Limits, host: str = "127.0.0.1", port: int = 7860
) -> Iterator[str]:
    """Serve the page with the checkpoints of each task as a context manager; yields its address.

    Raises:
        UserError: the port is in use, or not an address of this machine.
    """
    with TemporaryDirectory(prefix="densevision-web-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        environment = {
            "GRADIO_TEMP_DIR": str(folder),
            "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_ALLOWED_PATHS": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        with _environment(environment):
            import gradio as gr
            from starlette.middleware import Middleware
            from starlette.middleware.trustedhost import TrustedHostMiddleware

            from .. import LOOPBACK
            from .middleware import RequestFilter
            from .page import build

            # Host names that another site resolves to this machine (DNS rebinding) are rejected.
            names = ["localhost", "127.0.0.1", "[::1]", host] if host in LOOPBACK else ["*"]
            page = build(entries, limits, folder)
            try:
                parameters = inspect.signature(page.launch).parameters
                _, address, _ = page.launch(
                    server_name=host,
                    server_port=port,
                    prevent_thread_lock=True,
                    quiet=True,
                    share=False,
                    max_file_size=limits.file_bytes,
                    state_session_capacity=SESSIONS,
                    theme=gr.themes.Base(font=FONTS, font_mono=MONOSPACE),
                    app_kwargs={
                        "middleware": [
                            Middleware(TrustedHostMiddleware, allowed_hosts=names),
                            Middleware(RequestFilter, folder=folder, file_bytes=limits.file_bytes),
                        ]
                    },
                    **{name: value for name, value in OFF.items() if name in parameters},
                )
            except OSError as error:
                raise UserError(f"Cannot serve at {host}:{port}; give another --port or --host.") from error
            try:
                yield address.rstrip("/")
            finally:
                page.close(verbose=False)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, which Gradio reads, and restore them afterwards."""
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
