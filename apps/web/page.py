"""The page: a tab for each registered task, and one for visualization."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ...datasets.field_types import FieldType, SegmentationMask
from ...datasets.views.paths import PATHS
from ...errors import unknown_name
from ...tasks import task_class
from .checkpoints import CheckpointEntry
from .components import Camera, Upload, VideoFrame
from .examples import write_examples
from .handlers import Response, handle_frame, handle_images, safe_call, trim_memory
from .scene_tab import FRAMES, PathVideos, scene_folders
from .uploads import Limits, bytes_of_data_url
from .visualize_tab import METHODS, handle_visualize, targets_for

QUEUE_SIZE = 64
"""Maximum number of waiting requests; further ones are rejected with a message."""
CAMERAS = 8
"""Maximum number of simultaneous cameras per task."""
CAMERA_SECONDS = 300
"""Seconds after which a camera stops and has to be started again."""
CAMERA = {"video": {"width": 640, "height": 480}}
HEIGHT = 340


def build(
    entries: dict[str, list[CheckpointEntry]], limits: Limits, folder: Path, scenes: tuple[Path, ...] = ()
) -> gr.Blocks:
    """Build the page.

    Args:
        entries: the checkpoints of each task.
        limits: limits of uploads.
        folder: Gradio's folder for uploads; examples and results get subfolders.
        scenes: folders of photos with cameras.
    """
    results = folder / "results"
    inspected = {task: [each for each in of_task if not each.reads_scenes] for task, of_task in entries.items()}
    rows = {
        (task, entry.name): write_examples(entry, folder / "examples" / f"{task}-{number}")
        for task, of_task in inspected.items()
        for number, entry in enumerate(of_task)
    }
    with gr.Blocks(title="densevision", analytics_enabled=False) as page:
        gr.Markdown("# densevision\nPyTorch classification backbones with dense-prediction heads.")
        with gr.Tabs():
            for task, of_task in entries.items():
                with gr.Tab(task.capitalize()):
                    gr.Markdown(f"**{task_class(task).title}.** {task_class(task).paper}")
                    if of_task and of_task[0].reads_scenes:
                        videos = PathVideos(scene_folders(scenes, folder / "examples" / f"{task}-room"))
                        _scene_tab(task, {entry.name: entry for entry in of_task}, videos, results)
                    elif of_task:
                        examples = [row for entry in of_task[:1] for row in rows[task, entry.name]]
                        _task_tab(task, {entry.name: entry for entry in of_task}, examples, limits, results)
                    else:
                        gr.Markdown(
                            f"No checkpoint ships for this task. Train one (`densevision train {task}`) and start the "
                            "server with it: `densevision web --checkpoint FILE`."
                        )
            with gr.Tab("Visualize"):
                gr.Markdown(
                    "**Attribution.** A target is a value of the model's output (at a pixel of the image), or of one"
                    " of its layers."
                )
                by_name = {f"{task}: {entry.name}": entry for task, of_task in inspected.items() for entry in of_task}
                examples = [
                    [f"{task}: {entry.name}", row] for task, of_task in inspected.items() for entry in of_task
                    for row in rows[task, entry.name][:1]
                ]  # fmt: skip
                if by_name:
                    _visualize_tab(page, by_name, examples, limits, results)
                else:
                    gr.Markdown(
                        "There is no checkpoint; start the server with one (`densevision web --checkpoint FILE`)."
                    )
    page.queue(max_size=QUEUE_SIZE, api_open=False)
    return page


def _task_tab(
    task: str, entries: dict[str, CheckpointEntry], examples: list[list[Path]], limits: Limits, results: Path
) -> None:
    first = next(iter(entries.values()))
    choice = gr.Dropdown(list(entries), value=first.name, label="Checkpoint", interactive=True)
    terms = gr.Markdown(_terms(first))
    choice.change(lambda name: _terms(entries[name]), choice, terms, api_visibility="private", queue=False)

    def run(name: str, *files: Path | None) -> tuple[Any, ...]:
        return _parts(
            safe_call(lambda: handle_images(_entry(entries, name), files, limits, results), traceback.print_exc)
        )

    with gr.Tabs():
        with gr.Tab("Images"):
            with gr.Row():
                with gr.Column():
                    uploads = [Upload(label=_label(*one), sources=["upload", "clipboard"], height=HEIGHT)
                               for one in first.inputs.items()]  # fmt: skip
                    button = gr.Button("Run", variant="primary")
                with gr.Column():
                    outputs = _outputs("Prediction")
            _examples(examples, uploads)
            button.click(run, [choice, *uploads], outputs, api_name=task, concurrency_id=task, concurrency_limit=1)
        if any(entry.accepts_camera for entry in entries.values()):
            with gr.Tab("Camera"):
                _camera(task, choice, entries, limits)


def _scene_tab(task: str, entries: dict[str, CheckpointEntry], videos: PathVideos, results: Path) -> None:
    """A scene and a path, rendered once, and a slider along its frames."""
    first = next(iter(entries.values()))

    def render(name: str, scene: str, path: str) -> tuple[Any, ...]:
        response = safe_call(lambda: videos.render(_entry(entries, name), scene, path, results), traceback.print_exc)
        return (*_parts(response), 1)

    def show(name: str, scene: str, path: str, number: float) -> tuple[Any, ...]:
        response = safe_call(lambda: videos.frame(_entry(entries, name), scene, path, int(number)), traceback.print_exc)
        return response.image, response.text

    with gr.Row():
        with gr.Column():
            choice = gr.Dropdown(list(entries), value=first.name, label="Checkpoint", interactive=True)
            terms = gr.Markdown(_terms(first))
            choice.change(lambda name: _terms(entries[name]), choice, terms, api_visibility="private", queue=False)
            scene = gr.Dropdown(list(videos.scenes), value=next(iter(videos.scenes)), label="Scene", interactive=True)
            path = gr.Dropdown(list(PATHS), value=next(iter(PATHS)), label="Path of the camera", interactive=True)
            button = gr.Button("Render", variant="primary")
        with gr.Column():
            view = VideoFrame(label="View", interactive=False, height=HEIGHT, buttons=[])
            slider = gr.Slider(1, FRAMES, value=1, step=1, label="Position on the path", interactive=True)
            text = gr.Textbox(label="Summary", interactive=False)
            files = gr.File(label="Files", file_count="multiple", interactive=False)
    button.click(
        render, [choice, scene, path], [view, text, files, slider], api_name=task, concurrency_id=task,
        concurrency_limit=1,
    )  # fmt: skip
    slider.input(
        show, [choice, scene, path, slider], [view, text], api_name=f"{task}_frame", concurrency_limit=CAMERAS,
        show_progress="hidden", trigger_mode="always_last",
    )  # fmt: skip


def _camera(task: str, choice: gr.Dropdown, entries: dict[str, CheckpointEntry], limits: Limits) -> None:
    """Camera image and prediction, side by side."""

    def run(name: str, frame: str | None, previous: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        state = previous

        def handle() -> Response:
            nonlocal state
            response, state = handle_frame(_entry(entries, name), bytes_of_data_url(frame or ""), previous, limits)
            return response

        response = safe_call(handle, traceback.print_exc)
        return response.image, response.text, state

    with gr.Row():
        camera = Camera(
            label="Camera", sources=["webcam"], streaming=True, height=HEIGHT,
            webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
        )  # fmt: skip
        prediction = VideoFrame(label="Prediction", interactive=False, height=HEIGHT, buttons=[])
    text = gr.Textbox(label="Summary", interactive=False)
    state = gr.State(())
    camera.stream(
        run, [choice, camera, state], [prediction, text, state], stream_every=0.1, time_limit=CAMERA_SECONDS,
        concurrency_id=f"{task} camera", concurrency_limit=CAMERAS, show_progress="hidden", api_name=f"{task}_camera",
    )  # fmt: skip


def _visualize_tab(
    page: gr.Blocks, entries: dict[str, CheckpointEntry], examples: list[list[Any]], limits: Limits, results: Path
) -> None:
    first = next(iter(entries))
    max_inputs = max(len(entry.inputs) for entry in entries.values())

    def run(name: str, method: str, target: str, *files: Path | None) -> tuple[Any, ...]:
        response = safe_call(
            lambda: handle_visualize(_entry(entries, name), str(method), str(target or ""), files, limits, results),
            traceback.print_exc,
        )
        return _parts(response)

    def update(name: str) -> list[Any]:
        """Adapt the targets and the image inputs to the chosen model."""
        entry = _entry(entries, name)
        targets, inputs = targets_for(entry), list(entry.inputs.items())
        return [
            gr.Dropdown(choices=targets, value=targets[0]),
            *(gr.update(label=_label(*inputs[index])) if index < len(inputs) else gr.update(visible=False)
              for index in range(max_inputs)),
        ]  # fmt: skip

    with gr.Row():
        with gr.Column():
            model = gr.Dropdown(list(entries), value=first, label="Model", interactive=True)
            method = gr.Dropdown(list(METHODS), value="saliency", label="Method", interactive=True)
            target = gr.Dropdown([], label="Target (choose or type)", allow_custom_value=True, interactive=True)
            uploads = [Upload(label="Image", sources=["upload", "clipboard"], height=HEIGHT) for _ in range(max_inputs)]
            button = gr.Button("Run", variant="primary")
        with gr.Column():
            outputs = _outputs("Visualization")
    # For models with fewer inputs, the hidden image inputs get the last image.
    rows = [[name, *row, *row[-1:] * (max_inputs - len(row))] for name, row in examples]
    _examples(rows, [model, *uploads], [name for name, _ in examples])
    change = {"fn": update, "inputs": model, "outputs": [target, *uploads], "api_visibility": "private"}
    page.load(**change)
    model.change(**change)
    button.click(
        run, [model, method, target, *uploads], outputs, api_name="visualize", concurrency_id="visualize",
        concurrency_limit=1,
    )  # fmt: skip


def _entry(entries: dict[str, CheckpointEntry], name: str) -> CheckpointEntry:
    if name not in entries:
        raise unknown_name("checkpoint", str(name), entries)
    return entries[name]


def _outputs(label: str) -> list[Any]:
    """Output components, in the order of `_parts`."""
    return [
        gr.Image(label=label, format="png", interactive=False, height=HEIGHT, buttons=["fullscreen"]),
        gr.Textbox(label="Summary", interactive=False, lines=2),
        gr.File(label="Files", file_count="multiple", interactive=False),
    ]


def _parts(response: Response) -> tuple[Any, ...]:
    """Values of the output components."""
    trim_memory()
    return response.image, response.text, [str(file) for file in response.files] or None


def _examples(rows: list[list[Any]], inputs: Sequence[Any], names: list[str] | None = None) -> None:
    """Clickable examples, displayed as images, or as names if stated."""
    if rows:
        samples = [[str(cell) if isinstance(cell, Path) else cell for cell in row] for row in rows]
        label = "Generated examples"
        gr.Examples(samples, list(inputs), label=label, cache_examples=False, example_labels=names)


def _label(name: str, field_type: FieldType) -> str:
    if isinstance(field_type, SegmentationMask):
        return f"{name.capitalize()}: a PNG with one channel or a palette, whose values are classes"
    return name.capitalize()


def _terms(entry: CheckpointEntry) -> str:
    return " ".join(entry.terms) or "No license restrictions are stated for these weights."
