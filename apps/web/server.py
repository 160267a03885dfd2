"""The page's beginning and end: gradio with everything off that speaks to others, and a folder that goes with it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...errors import UserError
from .networks import Offer
from .uploads import Limits

SESSIONS = 100
"""Visitors whose last question is remembered; the one who was silent longest is forgotten first."""
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
"""What the page has no use for, as far as this gradio knows of it."""


@contextmanager
def serving(offers: dict[str, list[Offer]], limits: Limits, host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """The page, served while the block runs; gives its address.

    Args:
        offers: the checkpoints of every task.
        limits: how much is taken of visitors.
        host, port: where to listen.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    with TemporaryDirectory(prefix="densevision-web-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        quiet = {
            "GRADIO_TEMP_DIR": str(folder),
            "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_ALLOWED_PATHS": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        with _environment(quiet):
            import gradio as gr
            from starlette.middleware import Middleware
            from starlette.middleware.trustedhost import TrustedHostMiddleware

            from . import LOOPBACK
            from .doors import Doors
            from .page import build

            # A page of another site that resolves its own name to this machine is not let in.
            names = ["localhost", "127.0.0.1", "[::1]", host] if host in LOOPBACK else ["*"]
            page = build(offers, limits, folder)
            try:
                known = inspect.signature(page.launch).parameters
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
                            Middleware(Doors, folder=folder, file_bytes=limits.file_bytes),
                        ]
                    },
                    **{name: value for name, value in OFF.items() if name in known},
                )
            except OSError as error:
                raise UserError(f"Nothing can listen at {host}, port {port}: give another --port or --host.") from error
            try:
                yield address.rstrip("/")
            finally:
                page.close(verbose=False)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """What gradio reads there, while it runs."""
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
