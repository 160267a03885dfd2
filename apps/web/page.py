"""The page: a tab for every task that is registered, and one that looks into networks."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ...datasets.fields import Kind, Labels
from ...errors import unknown_name
from ...tasks import task_class
from .answering import Answer, answered, filmed, give_memory_back, in_sentences
from .components import Camera, Film, Upload
from .examples import write_examples
from .networks import Offer
from .probing import METHODS, probed, probes_for
from .uploads import Limits, bytes_of_data_url

KEPT_SECONDS = 15 * 60
"""How long uploads and answers can be fetched."""
WAITING = 64
"""Questions that may wait; who comes later is told so."""
CAMERAS = 8
"""Cameras of a task that are answered at once."""
CAMERA_SECONDS = 300
"""After which a camera has to be started again."""
CAMERA = {"video": {"width": 640, "height": 480}}
HEIGHT = 340


def build(offers: dict[str, list[Offer]], limits: Limits, folder: Path) -> gr.Blocks:
    """The page, to be launched.

    Args:
        offers: the checkpoints of every task.
        limits: how much is taken of visitors.
        folder: gradio's, for uploads; examples and answers get folders of their own in it.
    """
    answers = folder / "answers"
    rows = {
        (task, offer.name): write_examples(offer, folder / "examples" / f"{task}-{number}")
        for task, held in offers.items()
        for number, offer in enumerate(held)
    }
    with gr.Blocks(title="densevision", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        gr.Markdown("# densevision\nTrunks that learned to name pictures, with heads that answer for every pixel.")
        with gr.Tabs():
            for task, held in offers.items():
                with gr.Tab(task.capitalize()):
                    gr.Markdown(f"**{task_class(task).title}.** {task_class(task).paper}")
                    if held:
                        examples = [row for offer in held[:1] for row in rows[task, offer.name]]
                        _task_tab(task, {offer.name: offer for offer in held}, examples, limits, answers)
                    else:
                        gr.Markdown(
                            f"No checkpoint ships for this task. Train one (`densevision train {task}`) and start the "
                            "page with it: `densevision web --checkpoint FILE`."
                        )
            with gr.Tab("Visualize"):
                gr.Markdown("**What a network looks at.** A probe is a number in its answer or inside it.")
                named = {f"{task}: {offer.name}": offer for task, held in offers.items() for offer in held}
                examples = [
                    [f"{task}: {offer.name}", row] for task, held in offers.items() for offer in held
                    for row in rows[task, offer.name][:1]
                ]  # fmt: skip
                if named:
                    _probing_tab(page, named, examples, limits, answers)
                else:
                    gr.Markdown(
                        "There is no checkpoint: start the page with one (`densevision web --checkpoint FILE`)."
                    )
    page.queue(max_size=WAITING, api_open=False)
    return page


def _task_tab(task: str, named: dict[str, Offer], examples: list[list[Path]], limits: Limits, answers: Path) -> None:
    first = next(iter(named.values()))
    choice = gr.Dropdown(list(named), value=first.name, label="Checkpoint", interactive=True)
    terms = gr.Markdown(_terms(first))
    choice.change(lambda name: _terms(named[name]), choice, terms, api_visibility="private", queue=False)

    def answer(name: str, *sent: Path | None) -> tuple[Any, ...]:
        found = in_sentences(lambda: answered(_chosen(named, name), sent, limits, answers), traceback.print_exc)
        return _parts(found)

    with gr.Tabs():
        with gr.Tab("Pictures"):
            with gr.Row():
                with gr.Column():
                    uploads = [Upload(label=_label(*one), sources=["upload", "clipboard"], height=HEIGHT)
                               for one in first.kinds.items()]  # fmt: skip
                    button = gr.Button("Answer", variant="primary")
                with gr.Column():
                    shown = _outputs()
            _examples(examples, uploads)
            button.click(answer, [choice, *uploads], shown, api_name=task, concurrency_id=task, concurrency_limit=1)
        if any(offer.filmed for offer in named.values()):
            with gr.Tab("Camera"):
                _camera(task, choice, named, limits)


def _camera(task: str, choice: gr.Dropdown, named: dict[str, Offer], limits: Limits) -> None:
    """The camera's picture and the answer to it, side by side."""

    def answer(name: str, frame: str | None, held: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        kept = held

        def ask() -> Answer:
            nonlocal kept
            found, kept = filmed(_chosen(named, name), bytes_of_data_url(frame or ""), held, limits)
            return found

        found = in_sentences(ask, traceback.print_exc)
        return found.picture, found.sentence, kept

    with gr.Row():
        camera = Camera(
            label="Camera", sources=["webcam"], streaming=True, height=HEIGHT,
            webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
        )  # fmt: skip
        film = Film(label="Answer", interactive=False, height=HEIGHT, buttons=[])
    sentence = gr.Textbox(label="In words", interactive=False)
    held = gr.State(())
    camera.stream(
        answer, [choice, camera, held], [film, sentence, held], stream_every=0.1, time_limit=CAMERA_SECONDS,
        concurrency_id=f"{task} camera", concurrency_limit=CAMERAS, show_progress="hidden", api_name=f"{task}_camera",
    )  # fmt: skip


def _probing_tab(
    page: gr.Blocks, named: dict[str, Offer], examples: list[list[Any]], limits: Limits, answers: Path
) -> None:
    first = next(iter(named))
    most = max(len(offer.kinds) for offer in named.values())

    def answer(name: str, method: str, probe: str, *sent: Path | None) -> tuple[Any, ...]:
        found = in_sentences(
            lambda: probed(_chosen(named, name), str(method), str(probe or ""), sent, limits, answers),
            traceback.print_exc,
        )
        return _parts(found)

    def fitting(name: str) -> list[Any]:
        """What can be asked of a network, and the pictures that it takes."""
        offer = _chosen(named, name)
        probes, kinds = probes_for(offer), list(offer.kinds.items())
        return [
            gr.Dropdown(choices=probes, value=probes[0]),
            *(gr.update(label=_label(*kinds[place])) if place < len(kinds) else gr.update(visible=False)
              for place in range(most)),
        ]  # fmt: skip

    with gr.Row():
        with gr.Column():
            network = gr.Dropdown(list(named), value=first, label="Network", interactive=True)
            method = gr.Dropdown(list(METHODS), value="saliency", label="Method", interactive=True)
            probe = gr.Dropdown([], label="Probe, chosen or typed", allow_custom_value=True, interactive=True)
            uploads = [Upload(label="Picture", sources=["upload", "clipboard"], height=HEIGHT) for _ in range(most)]
            button = gr.Button("Look", variant="primary")
        with gr.Column():
            shown = _outputs()
    # Of a network that takes fewer, the last picture lies in the places that are not shown.
    rows = [[name, *row, *row[-1:] * (most - len(row))] for name, row in examples]
    _examples(rows, [network, *uploads], [name for name, _ in examples])
    changed = {"fn": fitting, "inputs": network, "outputs": [probe, *uploads], "api_visibility": "private"}
    page.load(**changed)
    network.change(**changed)
    button.click(
        answer, [network, method, probe, *uploads], shown, api_name="visualize", concurrency_id="visualize",
        concurrency_limit=1,
    )  # fmt: skip


def _chosen(named: dict[str, Offer], name: str) -> Offer:
    if name not in named:
        raise unknown_name("checkpoint", str(name), named)
    return named[name]


def _outputs() -> list[Any]:
    """Where an answer is shown, in the order of `_parts`."""
    return [
        gr.Image(label="Answer", format="png", interactive=False, height=HEIGHT, buttons=["fullscreen"]),
        gr.Textbox(label="In words", interactive=False, lines=2),
        gr.File(label="The data, to download", file_count="multiple", interactive=False),
    ]


def _parts(answer: Answer) -> tuple[Any, ...]:
    give_memory_back()
    return answer.picture, answer.sentence, [str(file) for file in answer.files] or None


def _examples(rows: list[list[Any]], inputs: Sequence[Any], names: list[str] | None = None) -> None:
    """Rows to click on, shown as the pictures that they hold, or by names."""
    if rows:
        words = [[str(cell) if isinstance(cell, Path) else cell for cell in row] for row in rows]
        said = "Examples, drawn by this package"
        gr.Examples(words, list(inputs), label=said, cache_examples=False, example_labels=names)


def _label(name: str, kind: Kind) -> str:
    if isinstance(kind, Labels):
        return f"{name.capitalize()}: a PNG of one channel or of a palette, whose values are classes"
    return name.capitalize()


def _terms(offer: Offer) -> str:
    return " ".join(offer.terms) or "The weights ask nothing of their users."
