"""`densevision webcam`: live inference on a camera or a video."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import UserError, printable
from ..limits import LIMITS, allow_megapixels
from .access import NoPassword, Password

if TYPE_CHECKING:
    from collections.abc import Callable

    from .access import Access
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
    password: Password = None,
    no_password: NoPassword = False,
    out: Path = Path("snapshots"),
    size: int = 640,
    frames: int | None = None,
    input_mode: str | None = None,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
    max_megapixels: float = LIMITS.max_megapixels,
) -> None:
    """Run models live on a camera or a video.

    A window displays the newest frame, the predictions, the frame rate and the latency from capture to screen; without
    a display, a web page does. Keys: n next task (after the last one, all tasks at once), p pause, s snapshot,
    r record, q quit. If a model is slower than the camera, frames are dropped, so the latency does not grow.

    With --video and --record, but without --serve and --live, nothing is displayed: all tasks run on every frame, and
    the recording has the frames of the video, each at its own time. Tasks with two input frames (flow) take consecutive
    ones.

    Args:
        tasks: Comma-separated checkpoint files, or names of packaged checkpoints or their tasks.
        camera: Index of the camera.
        video: Video to play instead of a camera (.mp4, .avi, .mov, .mkv, .webm); the camera if not stated.
        record: Video file (.mp4) to record the display to; if not stated, recording starts with the key r.
        serve: Use the web page even if a window is possible.
        live: Play a recorded video in real time, in a window or on the web page.
        host: Address of the web page's server; 127.0.0.1 is reachable from this machine only, 0.0.0.0 from the network.
        port: Port of the web page's server; 0 chooses a free port.
        password: Password for browsers, with any user name. Without it, --host must be this machine alone, unless
            --no-password is stated. The environment variable DENSEVISION_PASSWORD sets it without displaying it in the
            list of processes.
        no_password: Let everyone in who can reach --host.
        out: Output folder for snapshots, and for recordings started with the key r.
        size: Maximum length of a frame's longer side in pixels; larger frames are resized, 0 disables resizing.
        frames: Number of frames after which to stop; the end of the source if not stated.
        input_mode: How frames are fed to the model, see densevision predict; each task's first mode if not stated.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
        max_megapixels: Videos whose frames have more megapixels are refused before they are decoded.
    """
    from ..tasks.training.interruption import graceful_interrupt
    from .access import access
    from .live.capture import Capture
    from .live.live import Live
    from .live.live_predictor import live_predictors
    from .live.recorder import Recorder
    from .live.source import Camera, VideoFileSource
    from .predict import license_notes

    allow_megapixels(max_megapixels)
    for option, value, minimum in (
        ("camera", camera, 0),
        ("size", size, 0),
        ("frames", 1 if frames is None else frames, 1),
    ):
        if value < minimum:
            raise UserError(f"--{option} is {value}; it must be at least {minimum}.")
    allowed = access(host, password, no_password)
    offline = video is not None and record is not None and not serve and not live
    source = Camera(camera, size or 640) if video is None else VideoFileSource(video, realtime=not offline)
    recorder = Recorder(record, out)
    models = live_predictors(tasks, device, amp, input_mode)
    reserve_core(device)
    for line in dict.fromkeys(line for model in models for line in license_notes(model.predictor.header)):
        print(line, file=sys.stderr)
    viewer = create_viewer(offline, serve, allowed, port)
    num_frames = max(model.num_frames for model in models)
    message = "The command has ended."
    with graceful_interrupt() as stopped:
        wait_for_client(viewer, stopped, video is not None and record is None)
        capture = Capture(source, num_frames, size, every_frame=offline)
        loop = Live(capture, models, viewer, recorder, out, offline=offline)
        try:
            with recorder, capture:
                loop.run(stopped, frames)
        except UserError as error:
            message = str(error)
            raise
        finally:
            viewer.close(message)
            for path, count in recorder.files:
                print(f"Wrote {printable(str(path))} ({count} frames).")
            print(f"{loop.timing.summary(None if offline else capture.captured)}.", file=sys.stderr)
        if stopped():
            raise KeyboardInterrupt


def create_viewer(offline: bool, serve: bool, allowed: Access, port: int) -> Viewer:
    """No viewer offline; otherwise a window where possible, or a web page, whose address is printed."""
    from .live.viewer import HeadlessViewer

    if offline:
        return HeadlessViewer()
    if not serve:
        from .live.viewer import Window, window_available

        if window_available():
            return Window()
    from .live.mjpeg_server import MjpegServer

    server = MjpegServer(allowed, port)
    print(f"Open {server.url} in a browser; q there, or Ctrl-C here, quits.", file=sys.stderr, flush=True)
    return server


def wait_for_client(viewer: Viewer, stopped: Callable[[], bool], enabled: bool) -> None:
    """Wait, if enabled, until the web page is open in a browser: otherwise a video might be over by then."""
    from .live.mjpeg_server import MjpegServer

    if enabled and isinstance(viewer, MjpegServer):
        print("The video starts when the page is opened.", file=sys.stderr, flush=True)
        while not stopped() and not viewer.wait_for_client(0.2):
            pass


def reserve_core(device: str) -> None:
    """Leave one core to capture, drawing and the server: PyTorch's threads wait for the slowest one at every layer."""
    import torch

    from ..tasks.device import choose_device

    if choose_device(device).type == "cpu" and torch.get_num_threads() > 1:
        torch.set_num_threads(torch.get_num_threads() - 1)
