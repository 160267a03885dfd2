"""`densevision web`: a page in the browser with a tab for every task and one that looks into networks.

uploads.py      what visitors send, and when it is refused
networks.py     the checkpoints they choose among, loaded once, asked one at a time
answering.py    a picture in, its answer, a sentence and files out
probing.py      the tab that looks into networks
examples.py     pictures to begin with, drawn here
components.py   gradio's parts, where they do more or less than is wanted here
page.py         the tabs
doors.py        what of the server can be reached
server.py       its beginning and end
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Literal

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def web(
    *,
    checkpoint: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    megabytes: float = 25,
    megapixels: float = 24,
    device: str = "auto",
    amp: Literal["auto", "bf16", "off"] = "auto",
) -> None:
    """Show a page in the browser: a tab for every task, with uploads, examples and the camera, and one that looks into
    networks.

    Args:
        checkpoint: File or run folder that visitors may choose beside those that ship, or weights with a classifier
            (resnet50/imagenet); may be given several times; default: none.
        host: Address to listen at; 0.0.0.0 lets everyone in who can reach this machine; default: 127.0.0.1, which is
            this machine alone.
        port: TCP port to listen at; default: 7860.
        megabytes: Largest file that is taken, in megabytes; default: 25.
        megapixels: Largest picture that is answered, in millions of pixels; default: 24.
        device: cpu, cuda, mps or auto; default: auto.
        amp: Mixed precision; auto: bf16 where the device does it in hardware; default: auto.
    """
    from ...errors import UserError
    from ...tasks.device import choose_device

    if megabytes <= 0 or megapixels <= 0:
        raise UserError(f"--megabytes {megabytes:g} --megapixels {megapixels:g}: both must be above 0.")
    if not 1 <= port <= 65535:
        raise UserError(f"--port is {port}; it must lie in 1 to 65535.")
    require_gradio()
    choose_device(device)

    from .networks import offers_of
    from .server import serving
    from .uploads import Limits

    offers = offers_of(checkpoint, device, amp)
    limits = Limits(round(megabytes * 2**20), round(megapixels * 1e6))
    # A service is ended by SIGTERM; it leaves as after Ctrl-C, its folder removed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serving(offers, limits, host, port) as address:
            print(f"The page is at {address} (Ctrl-C ends it).", flush=True)
            if host not in LOOPBACK:
                said = f"--host {host}: everyone who can reach this machine can use the page; it asks for no password."
                print(said, file=sys.stderr)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("The page is closed.", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


def require_gradio() -> None:
    """See that the page can be built.

    Raises:
        UserError: gradio is missing, with what to type.
    """
    import importlib.util

    from ...errors import UserError

    if importlib.util.find_spec("gradio") is None:
        raise UserError('The page needs gradio, which is not installed: pip install "gradio>=6".')
