"""`densevision predict`: batch inference on images, folders and videos, saved as visualizations and raw data."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from ..atomic_io import FolderLock, remove_abandoned_parts, write_text
from ..errors import UserError, printable, unknown_name
from ..limits import LIMITS, allow_megapixels
from ..tasks.distributed import ProcessGroup
from ..version import VERSION
from .inputs import (
    InferenceRequest,
    LeftOut,
    collect_inputs,
    describe_left_out,
    iter_requests,
    sampling_request,
    scene_request,
)
from .manifest import NAME, Manifest
from .pipeline import PipelineSteps, pipelined_map
from .records import Format, format_records

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..tasks.inference import Predictor
    from ..tasks.policies import ObjectBoxes, SceneChoice
    from ..tasks.preprocessing import ModelInput

Box = tuple[float, float, float, float]


def predict(
    checkpoint: str,
    /,
    *inputs: Path,
    out: Path = Path("predictions"),
    input_mode: str | None = None,
    tta_flip: bool = False,
    box: str | None = None,
    boxes: Path | None = None,
    camera: str | None = None,
    cube: float | None = None,
    target: str | None = None,
    pose: Path | None = None,
    path: str | None = None,
    views: int | None = None,
    planes: int | None = None,
    classical: str | None = None,
    format: Format | None = None,
    batch_size: int = 1,
    samples: int = 1,
    seed: int = 0,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
    force: bool = False,
    max_megapixels: float = LIMITS.max_megapixels,
) -> None:
    """Run a model on images, folders of images and videos.

    Tasks with two input images (flow) take them in pairs: two at a time in the order of the command line, and all
    pairs of consecutive frames of a folder or a video. Tasks whose input is a sequence take complete folders and
    videos, tasks that sample from noise take no input, only the seed, and view synthesis takes folders of photos with
    cameras. Unreadable inputs are skipped and listed at
    the end, and the exit code is then 1. Files of a folder that are not images (other suffixes, hidden files) are
    listed, too.

    Outputs have the name of the input. Where that is the name of another input's prediction, in this run or an earlier
    one, the suffix or the folder of the input is added: nothing is overwritten.

    Inputs whose results are already in the output folder, made with the same checkpoint and options, are not run
    again, so an interrupted run can be resumed. One run at a time writes to a folder. To use several processes:
    torchrun -m densevision predict ...

    Args:
        checkpoint: Checkpoint file, or the name of a packaged checkpoint or its task.
        inputs: Images, folders of images, videos (.mp4, .avi, .mov, .mkv, .webm), or patterns ("photos/*.jpg").
        out: Output folder for the results and for predictions.jsonl, which lists the files written for each input.
        input_mode: How images are fed to the model: fit (resized to the training size, the output resized back), native
            (at their own size, tiled if large), or a task's own modes; the task's first one if not stated.
        tta_flip: Test-time augmentation: average the predictions for the image and its mirror image.
        box: Region of each image to predict, as X,Y,WIDTH,HEIGHT in pixels; if not stated, the largest person found by
            a detector (pose of people, if the detector's weights are available), else the complete image.
        boxes: JSON file in COCO's format with the boxes of every image (pose): all of them are predicted, and
            keypoints.json in the output folder has the ids of the file; one person per image if not stated.
        camera: Camera of the depth images of hands, as FX,FY,CX,CY in pixels; that of the checkpoint if not stated.
        cube: Side in millimeters of the cube around a hand; that of the checkpoint if not stated.
        target: View synthesis: name of a photo that is left out, predicted from the others, and scored beside; every
            photo if neither --target, --pose nor --path is stated.
        pose: View synthesis: JSON file with a camera: pose (three rows of [R t] from the scene), and optionally camera
            (fx, fy, cx, cy), near and far; without it, cameras are those of the scene.
        path: View synthesis: path of the camera and number of frames, spiral:60 or along:60, also written as a video;
            without it, photos are predicted.
        views: View synthesis: number of photos to predict from; that of the model if not stated.
        planes: View synthesis: number of planes; that of the model if not stated.
        classical: View synthesis: a method without learning instead of the model: nearest-view, mean-of-views,
            one-plane or winner-takes-all; without it, the model predicts.
        format: Print all predictions as one JSON array or CSV table, with labels, joints or scores and the files
            written, and write the same to predictions.json or .csv in the output folder; a line each if not stated.
        batch_size: Images of one size that run through the model together; predictions differ by rounding only.
        samples: Number of samples of a task that samples from noise (video), of the seed and those that follow it.
        seed: Random seed of stochastic models (the dropout of translation, the noise of video); another seed gives
            another image.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
        force: Write to the output folder even if another process writes there; without it, one run at a time does.
        max_megapixels: Images with more megapixels are refused before they are decoded.
    """
    from ..tasks.inference import load
    from ..tasks.policies import SceneChoice

    allow_megapixels(max_megapixels)
    region = None if box is None else four_numbers("box", box, "X,Y,WIDTH,HEIGHT in pixels")
    intrinsics = None if camera is None else four_numbers("camera", camera, "FX,FY,CX,CY in pixels")
    group = ProcessGroup.from_environment()
    left_out: LeftOut = {}
    choice = SceneChoice(target, pose, path, views, planes, classical)
    predictor = load(checkpoint, device, amp)
    stated = {"camera": intrinsics, "cube": cube}
    predictor = predictor.with_options(**{name: value for name, value in stated.items() if value is not None})
    predictor.seed = seed
    of_scenes = predictor.task.inference.reads_scenes or choice != SceneChoice()
    requested: Sequence[Any] = ()
    sources = collect_inputs(inputs, out, left_out) if inputs and not of_scenes else []
    if of_scenes:
        predictor, requested = predictor.task.inference.requested_views(predictor, inputs, choice)
    task, fields, policy = predictor.task, predictor.fields, predictor.task.inference
    if input_mode is not None and input_mode not in policy.modes:
        raise unknown_name(f"input mode of the task {task.name}", input_mode, policy.modes)
    if batch_size < 1:
        raise UserError(f"--batch-size is {batch_size}; it must be at least 1.")
    if samples < 1:
        raise UserError(f"--samples is {samples}; it must be at least 1.")
    if box is not None and boxes is not None:
        raise UserError("--box is one box for all images and --boxes has those of each image; give one of them.")
    box_file = None if boxes is None else policy.read_boxes(boxes, fields)
    for video in () if boxes is None else (source.files[0] for source in sources if source.kind == "video"):
        raise UserError(f"--boxes has the boxes of images, but '{video}' is a video; give its frames as images.")
    config = InferenceConfig(predictor, out, input_mode, tta_flip, region, box_file, choice)
    needed = policy.inputs_per_prediction(predictor.preprocessor.inputs)
    noun = "view" if of_scenes else {None: "sequence", 0: "sample", 1: "image", 2: "pair"}.get(needed, "group")
    if of_scenes:
        if not inputs:
            raise UserError("There is no input; name folders of photos with cameras after the checkpoint.")
        requests = map(scene_request, requested)
    elif needed != 0:
        sources = sources or collect_inputs(inputs, out, left_out)
        if samples > 1:
            raise UserError(f"The task {task.name} predicts from inputs: leave out --samples.")
        requests = iter_requests(sources, needed, tuple(predictor.preprocessor.inputs), policy.last_frames)
    elif inputs:
        raise UserError(f"The task {task.name} samples from noise and takes no input; --seed chooses the sample.")
    else:
        requests = map(sampling_request, range(seed, seed + samples))
    require_writable(out)
    # The first process of a group has the lock for all of them.
    with nullcontext() if force or group.rank else closing(FolderLock(out)):
        manifest = Manifest(out, task.name, config.digest(), group.rank, group.num_processes)
        requests = group.share(manifest.with_own_outputs(requests))
        for line in license_notes(predictor.header) if group.rank == 0 else ():
            print(line, file=sys.stderr)
        summary = run_all(config, requests, manifest, f"{noun}s", batch_size, sys.stderr if format else None)
        summaries = group.all_gather(summary)
        if group.rank == 0 or not group.connected:
            policy.write_results(out, [stem for each in summaries for stem, record in each.records.items() if record])
            report(summaries, noun, out, left_out)
            if format is not None:
                text = format_records(in_order(summaries), format)
                write_text(out / f"{NAME}.{format}", text)
                print(text, end="")
    if any(each.skipped for each in summaries):
        sys.exit(1)


@dataclass
class RunSummary:
    """Counts of a run.

    Attributes:
        existing: requests whose results were already in the output folder.
        skipped: one error message per failed request.
        outdated: results of another checkpoint or of other options, which were replaced.
        records: one per request so far, by its output relative to the output folder: plain values, or None if there
            is no prediction.
    """

    existing: int = 0
    skipped: list[str] = field(default_factory=list)
    outdated: int = 0
    records: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def add(self, request: InferenceRequest, files: Iterable[Path], values: dict[str, Any]) -> None:
        """Add the record of a prediction that exists; in any thread."""
        record = {"input": request.name, **values, "files": [file.as_posix() for file in files]}
        self.records[request.stem.as_posix()] = record


@dataclass(frozen=True)
class PreparedRequest:
    """Inputs of the predictions of a request.

    Attributes:
        inputs: one, or with a file of boxes one per box.
        image: with a file of boxes: the complete image, (H, W, 3) uint8.
    """

    inputs: list[ModelInput]
    image: np.ndarray | None = None


@dataclass(frozen=True)
class InferenceConfig:
    """Model and options of a run, with the steps of the inference pipeline.

    Attributes:
        predictor: the model.
        out: output folder.
        mode, tta_flip, box: see `Predictor.predict`.
        boxes: boxes per image, instead of `box`.
        scene: views of scenes; the pose is in its file, which is not an image.
    """

    predictor: Predictor
    out: Path
    mode: str | None
    tta_flip: bool
    box: Box | None
    boxes: ObjectBoxes | None = None
    scene: SceneChoice | None = None

    def digest(self) -> dict[str, Any]:
        """Everything that a prediction depends on besides its images, JSON-serializable."""
        predictor = self.predictor
        return {
            "densevision": VERSION,
            "task": repr(predictor.task),
            "weights": predictor.weights_hash,
            "size": list(predictor.size),
            "input_mode": self.mode or predictor.task.inference.modes[0],
            "tta_flip": self.tta_flip,
            "box": self.box if self.boxes is None else self.boxes.digest,
            "seed": predictor.seed,
            **({} if self.scene is None or not predictor.task.inference.reads_scenes else {"scene": repr(self.scene)}),
            "precision": predictor.precision,
        }

    def prepare(self, request: InferenceRequest) -> PreparedRequest:
        """Read and preprocess the images of a request."""
        from ..tasks.image_io import load_image

        load = partial(self.predictor.load_inputs, mode=self.mode, flip=self.tta_flip)
        if self.boxes is None:
            return PreparedRequest([load(*request.images(), box=self.box)])
        boxes = self.boxes.boxes_of(request.files[0])
        image = load_image(*request.images())
        return PreparedRequest([load(image, box=box) for box in boxes], image)

    def run(self, batch: Sequence[PreparedRequest], batch_size: int) -> list[list[Tensor]]:
        """Raw outputs for all inputs of some requests."""
        outputs = iter(self.predictor.forward([each for one in batch for each in one.inputs], batch_size))
        return [list(islice(outputs, len(one.inputs))) for one in batch]

    def finish(
        self, request: InferenceRequest, prepared: PreparedRequest, outputs: list[Tensor]
    ) -> tuple[list[Path], dict[str, Any], str]:
        """Decode and save a prediction; returns the files written, its values, and a summary for the log."""
        predictions = list(map(self.predictor.decode, prepared.inputs, outputs))
        if self.boxes is None or prepared.image is None:
            (prediction,) = predictions
        else:
            prediction = self.boxes.merge(request.files[0], prepared.image, predictions)
        remark = prepared.inputs[0].remark if prepared.inputs else ""
        files = prediction.save(self.out, request.stem.as_posix())
        return files, prediction.record(), ", of ".join(filter(None, (prediction.summary(), remark)))

    @staticmethod
    def pixels(request: InferenceRequest) -> int:
        """Number of pixels in a request, by the headers of its files; 0 if they cannot be read."""
        from ..tasks.image_io import count_pixels

        try:
            return sum(map(count_pixels, request.images()))
        except UserError:
            return 0


def run_all(
    config: InferenceConfig,
    requests: Iterator[InferenceRequest],
    manifest: Manifest,
    noun: str,
    batch_size: int,
    log: TextIO | None = None,
) -> RunSummary:
    """Process the requests whose results do not exist yet, and print a line for each, with `noun` as their name, to
    `log` (None: the standard output).

    After Ctrl-C the finished ones are in the manifest.
    """
    summary, started = RunSummary(), time.perf_counter()
    tidied: set[Path] = set()

    def pending() -> Iterator[InferenceRequest]:
        for request in requests:
            summary.records[request.stem.as_posix()] = None
            folder = (config.out / request.stem).parent
            if folder not in tidied:
                tidied.add(folder)
                remove_abandoned_parts(folder)
            if (line := manifest.existing(request)) is not None:
                summary.existing += 1
                summary.add(request, map(config.out.joinpath, line["files"]), line["values"])
            else:
                yield request

    def finish(request: InferenceRequest, prepared: PreparedRequest, outputs: list[Tensor]) -> str:
        files, values, description = config.finish(request, prepared, outputs)
        manifest.add(request, files, values)
        summary.add(request, files, values)
        return f"{request.name}: {', '.join(file.name for file in files)} {description}"

    steps = PipelineSteps(config.prepare, partial(config.run, batch_size=batch_size), finish, config.pixels)
    results = pipelined_map(pending(), steps, batch_size=batch_size)
    try:
        with closing(results):
            for number, (request, result) in enumerate(results, 1):
                if isinstance(result, UserError):
                    message = " ".join(str(result).split())
                    summary.skipped.append(message if request.name in message else f"{request.name}: {message}")
                else:
                    rate = number / (time.perf_counter() - started)
                    print(f"{printable(result)} ({rate:.1f} {noun}/s)", file=log, flush=True)
    except KeyboardInterrupt:
        done = summary.existing + manifest.added
        print(f"{done} {noun} are done; run the same command again to resume.", file=sys.stderr)
        raise
    summary.outdated = manifest.outdated
    return summary


def in_order(summaries: list[RunSummary]) -> list[dict[str, Any]]:
    """The records of all processes in the order of the inputs, which processes take in turn."""
    rows = zip_longest(*(each.records.values() for each in summaries))
    return [record for row in rows for record in row if record is not None]


def require_writable(out: Path) -> None:
    """Create the output folder, so that one that cannot be written is one error and not one per image."""
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"The output folder '{out}' is not writable; give another folder with --out.")


def report(summaries: list[RunSummary], noun: str, out: Path, left_out: LeftOut) -> None:
    """Print what was skipped and left out, and how many predictions were made, over all processes."""
    total = sum(len(each.records) for each in summaries)
    existing, outdated = (sum(getattr(each, name) for each in summaries) for name in ("existing", "outdated"))
    skipped = [message for each in summaries for message in each.skipped]
    for message in skipped:
        print(f"skipped: {printable(message)}", file=sys.stderr)
    for line in describe_left_out(left_out):
        print(f"left out: {printable(line)}", file=sys.stderr)
    if outdated:
        print(f"{outdated} prediction(s) of another checkpoint or other options were replaced.", file=sys.stderr)
    earlier = f" ({existing} in an earlier run)" if existing else ""
    print(
        f"{total - len(skipped)} of {total} {noun}(s) predicted{earlier}; results in {printable(str(out))}.",
        file=sys.stderr,
    )


def four_numbers(option: str, text: str, meaning: str) -> Box:
    """The four numbers of an option; a UserError if there are others."""
    try:
        first, second, third, fourth = map(float, text.split(","))
    except ValueError:
        raise UserError(f"--{option} is '{text}'; give four comma-separated numbers: {meaning}.") from None
    return first, second, third, fourth


def license_notes(header: dict) -> list[str]:
    """Training data of a model, and the license terms of that data and of the backbone's weights; one line each.

    The training data is named because a model has only its own classes: one trained on MNIST calls a cup a nine.
    """
    lines, ancestor, backbone = [], header, header.get("backbone_weights") or {}
    if data := header.get("data"):
        name = header.get("model") or " + ".join(filter(None, (header.get("backbone"), header.get("head"))))
        lines.append(f"{name}, trained on {data['title']}.")
    while ancestor:
        data = ancestor.get("data") or {}
        if "research" in data.get("terms", "") or "commercial" in data.get("terms", ""):
            lines.append(f"These weights were trained on {data['title']}: {data['terms']}.")
        ancestor = ancestor.get("init_from")
    if backbone.get("license"):
        lines.append(f"The backbone was initialized from {backbone['weights']} ({backbone['license']}).")
    return list(dict.fromkeys(lines))
