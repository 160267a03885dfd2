"""`densevision web`: a Gradio demo with a tab per task and one for visualization.

uploads.py         validation and decoding of uploaded images
checkpoints.py     the checkpoints to choose from, loaded once and run one at a time
handlers.py        request handlers: an image in; its prediction, a summary and files out
visualize_tab.py   request handler of the tab "Visualize"
examples.py        generated example images
components.py      Gradio image components for uploads, the camera and its predictions
page.py            the page and its tabs
middleware.py      ASGI middleware that allows only the routes the page needs
server.py          start and shutdown of the server
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Annotated, Literal

from cyclopts import Parameter

from .. import LOOPBACK


def web(
    *,
    checkpoint: Annotated[tuple[str, ...], Parameter(negative_iterable=(), show_default=False)] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    max_upload_mb: float = 25,
    max_megapixels: float = 24,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
) -> None:
    """Serve a web demo: a tab per task, with uploads, example images and the camera, and a tab for visualization.

    Args:
        checkpoint: Checkpoint file, run folder or weights with a classifier (resnet50/imagenet) to offer besides the
            packaged checkpoints; can be repeated.
        host: Address to listen on; 127.0.0.1 is reachable from this machine only, 0.0.0.0 from the network.
        port: TCP port to listen on.
        max_upload_mb: Maximum size of an uploaded file, in megabytes.
        max_megapixels: Maximum size of an image, in megapixels.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
    """
    from ...errors import UserError
    from ...tasks.device import choose_device

    if max_upload_mb <= 0 or max_megapixels <= 0:
        raise UserError(f"--max-upload-mb {max_upload_mb:g} --max-megapixels {max_megapixels:g}: both must be above 0.")
    if not 1 <= port <= 65535:
        raise UserError(f"--port is {port}; it must be from 1 to 65535.")
    require_gradio()
    choose_device(device)

    from .checkpoints import checkpoint_entries
    from .server import serve
    from .uploads import Limits

    entries = checkpoint_entries(checkpoint, device, amp)
    limits = Limits(round(max_upload_mb * 2**20), round(max_megapixels * 1e6))
    # SIGTERM, which stops a service, is handled like Ctrl-C, so that the temporary folder is removed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serve(entries, limits, host, port) as address:
            print(f"Serving at {address} (Ctrl-C stops the server).", flush=True)
            if host not in LOOPBACK:
                warning = f"--host {host}: everyone who can reach this machine can use the page without a password."
                print(warning, file=sys.stderr)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("The server has stopped.", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


def require_gradio() -> None:
    """Raise a UserError if Gradio is not installed."""
    import importlib.util

    from ...errors import UserError

    if importlib.util.find_spec("gradio") is None:
        raise UserError('densevision web needs gradio, which is not installed: pip install "gradio>=6".')
