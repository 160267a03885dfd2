"""`densevision web`: a Gradio demo with a tab per task and one for visualization.

uploads.py         validation and decoding of uploaded images
checkpoints.py     the checkpoints to choose from, loaded once and run one at a time
handlers.py        request handlers: an image in; its prediction, a summary and files out
scene_tab.py       views along a path through a scene, rendered once and displayed by a slider
visualize_tab.py   request handler of the tab "Visualize"
examples.py        generated example images
components.py      Gradio image components for uploads, the camera and its predictions
page.py            the page and its tabs
middleware.py      ASGI middleware that allows only the requests the page sends
connection.py      HTTP connection that drops slow clients
sweeper.py         deletes uploads and results by age and size
server.py          start and shutdown of the server
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..access import NoPassword, Password

STOPPING = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Signals that end the server."""


def web(
    *,
    checkpoint: Annotated[tuple[str, ...], Parameter(negative_iterable=(), show_default=False)] = (),
    scene: Annotated[tuple[Path, ...], Parameter(negative_iterable=(), show_default=False)] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    password: Password = None,
    no_password: NoPassword = False,
    keep_minutes: float = 15,
    max_upload_mb: float = 25,
    max_megapixels: float = 24,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
) -> None:
    """Serve a web demo: a tab per task, with uploads, example images and the camera, and a tab for visualization.

    Args:
        checkpoint: Checkpoint file, run folder or weights with a classifier (resnet50/imagenet) to offer besides the
            packaged checkpoints; can be repeated.
        scene: Folder of photos with cameras to offer for view synthesis, besides a generated room; can be repeated.
        host: Address to listen on; 127.0.0.1 is reachable from this machine only, 0.0.0.0 from the network.
        port: TCP port to listen on.
        password: Password for browsers, with any user name. Without it, --host must be this machine alone, unless
            --no-password is stated. The environment variable DENSEVISION_PASSWORD sets it without displaying it in the
            list of processes.
        no_password: Let everyone in who can reach --host.
        keep_minutes: Minutes after which uploads and results are deleted.
        max_upload_mb: Maximum size of an uploaded file, in megabytes.
        max_megapixels: Maximum size of an image, in megapixels.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
    """
    from ...datasets.views.detect import read_scene
    from ...errors import UserError
    from ...limits import LIMITS
    from ...tasks.device import choose_device
    from ..access import access, is_loopback

    for option, value in (
        ("max-upload-mb", max_upload_mb),
        ("max-megapixels", max_megapixels),
        ("keep-minutes", keep_minutes),
    ):
        if not 0 < value < math.inf:
            raise UserError(f"--{option} is {value:g}; it must be above 0.")
    if not 1 <= port <= 65535:
        raise UserError(f"--port is {port}; it must be from 1 to 65535.")
    for folder in scene:
        read_scene(folder)  # an error at the start, not when a client chooses it
    allowed = access(host, password, no_password)
    require_gradio()
    choose_device(device)

    from .checkpoints import checkpoint_entries
    from .server import serve
    from .uploads import Limits

    LIMITS.max_megapixels = max_megapixels
    entries = checkpoint_entries(checkpoint, device, amp)
    limits = Limits(round(max_upload_mb * 2**20), round(max_megapixels * 1e6))
    # A service is stopped by SIGTERM, a closed terminal sends SIGHUP: like Ctrl-C, so that the uploads are removed.
    # What nohup ignores stays ignored.
    heeded = [name for name in STOPPING if signal.getsignal(name) is not signal.SIG_IGN]
    before = {name: signal.signal(name, signal.default_int_handler) for name in heeded}
    try:
        with serve(entries, limits, allowed, port, 60 * keep_minutes, scene) as address:
            print(f"Serving at {address} (Ctrl-C stops the server).", flush=True)
            if not is_loopback(host) and password is None:
                warning = f"--host {host}: everyone who can reach this machine can use the page without a password."
                print(warning, file=sys.stderr)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("The server has stopped.", file=sys.stderr)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def require_gradio() -> None:
    """Raise a UserError if Gradio is not installed."""
    import importlib.util

    from ...errors import UserError

    if importlib.util.find_spec("gradio") is None:
        raise UserError('densevision web needs gradio, which is not installed: pip install "gradio>=6".')
