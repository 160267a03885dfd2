"""`densevision webcam`: answers for what a camera sees, or a video shows, while one looks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .live.viewer import Viewer


def webcam(
    tasks: str,
    /,
    *,
    camera: int = 0,
    video: Path | None = None,
    record: Path | None = None,
    serve: bool = False,
    live: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
    out: Path = Path("snapshots"),
    size: int = 640,
    frames: int | None = None,
    view: str | None = None,
    device: str = "auto",
    amp: Literal["auto", "bf16", "off"] = "auto",
) -> None:
    """Answer for what a camera sees, or a video shows, while one looks.

    A window shows the newest frame, the answer, frames a second and the latency from capture to screen; where there is
    no display, a page in the browser does. Keys: n next task (after the last one all of them), p pause, s snapshot,
    r record, q quit. A slow network misses frames and shows none late.

    A video that is recorded without --serve or --live is not shown: every frame is answered by every task, and the
    recording has as many frames as the video, at its rate. A task of two frames (flow) takes consecutive ones; beside
    the first frame its cell says that it waits.

    Args:
        tasks: Tasks' names for the checkpoints that ship, or checkpoints' files, with commas between them.
        camera: Number of the camera; default: 0.
        video: Video to play instead of a camera (.mp4, .avi, .mov, .mkv, .webm); default: the camera.
        record: Video to write (.mp4) of all that is shown; default: none until the key r.
        serve: Show on a page in the browser even where a window is possible; default: no.
        live: Play a video that is recorded in its own time, in a window or on a page; default: no.
        host: Address of the page; 127.0.0.1 is for this machine alone, 0.0.0.0 for everybody who reaches it;
            default: 127.0.0.1.
        port: Of the page, 0 for any that is free; default: 8765.
        out: Folder for snapshots, and for recordings that the key r begins; default: snapshots.
        size: Pixels of a frame's longer side; larger frames are reduced, 0 leaves them; default: 640.
        frames: Stop after so many; default: with the source.
        view: How frames are shown to the network, see densevision predict; default: each task's first.
        device: cpu, cuda, mps or auto; default: auto.
        amp: Mixed precision; auto: bf16 where the device does it in hardware; default: auto.
    """
    from ..errors import UserError
    from ..tasks.training.interruption import stop_politely
    from .live.answerer import answerers
    from .live.camera import Camera
    from .live.capture import Capture
    from .live.live import Live
    from .live.recorder import Recorder
    from .live.source import Clip
    from .predict import terms_of

    for option, value, least in (
        ("camera", camera, 0),
        ("size", size, 0),
        ("frames", 1 if frames is None else frames, 1),
    ):
        if value < least:
            raise UserError(f"--{option} is {value}; it must be at least {least}.")
    as_film = video is not None and record is not None and not serve and not live
    source = Camera(camera, size or 640) if video is None else Clip(video, paced=not as_film)
    recorder = Recorder(record, out, source.rate if as_film and isinstance(source, Clip) else None)
    networks = answerers(tasks, device, amp, view)
    leave_a_core(device)
    for line in dict.fromkeys(line for network in networks for line in terms_of(network.predictor.header)):
        print(line, file=sys.stderr)
    viewer = viewer_of(as_film, serve, host, port)
    together = max(network.together for network in networks)
    words = "The command has ended."
    with stop_politely() as stopped:
        wait_for_somebody(viewer, stopped, video is not None and record is None)
        capture = Capture(source, together, size, every=as_film)
        run = Live(capture, networks, viewer, recorder, out, film=as_film)
        try:
            with recorder, capture:
                run.run(stopped, frames)
        except UserError as mistake:
            words = str(mistake)
            raise
        finally:
            viewer.close(words)
            for path, count in recorder.files:
                print(f"Wrote {path} ({count} frames).")
            print(f"{run.timing.line(None if as_film else capture.captured)}.", file=sys.stderr)
        if stopped():
            raise KeyboardInterrupt


def viewer_of(as_film: bool, serve: bool, host: str, port: int) -> Viewer:
    """Nobody, a window where one is possible, or else a page, whose address is said."""
    from .live.viewer import Nobody

    if as_film:
        return Nobody()
    if not serve:
        from .live.window import Window, windows_work

        if windows_work():
            return Window()
    from .live.page import Page

    page = Page(host, port)
    print(f"Open {page.url} in a browser; q there, or Ctrl-C here, ends.", file=sys.stderr, flush=True)
    return page


def wait_for_somebody(viewer: Viewer, stopped: Callable[[], bool], wanted: bool) -> None:
    """Wait, where wanted, until somebody has opened the page: a video would else be over before."""
    from .live.page import Page

    if wanted and isinstance(viewer, Page):
        print("The video begins when somebody looks.", file=sys.stderr, flush=True)
        while not stopped() and not viewer.wait_for_somebody(0.2):
            pass


def leave_a_core(device: str) -> None:
    """One core for capture, drawing and the page: PyTorch's threads wait for each other's slowest at every layer."""
    import torch

    from ..tasks.device import choose_device

    if choose_device(device).type == "cpu" and torch.get_num_threads() > 1:
        torch.set_num_threads(torch.get_num_threads() - 1)
