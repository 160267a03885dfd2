"""`densevision predict`: batch inference on images, folders and videos, saved as visualizations and raw data."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from ..atomic_io import FolderLock, remove_abandoned_parts, write_text
from ..datasets.core.storage import Storage
from ..errors import UserError, printable, unknown_name
from ..limits import LIMITS, allow_megapixels
from ..tasks.distributed import ProcessGroup
from .inference_config import Box, InferenceConfig, PreparedRequest
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
    from torch import Tensor


def predict(
    checkpoint: str,
    /,
    *inputs: str,
    out: str = "predictions",
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
    fade: bool | None = None,
    format: Format | None = None,
    batch_size: int = 1,
    samples: int = 1,
    seed: int = 0,
    device: str = "auto",
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto",
    engine: Literal["local", "ray"] = "local",
    actors: int = 1,
    part: int = 1000,
    form: Literal["tar", "files"] = "tar",
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
    torchrun -m densevision predict ... Where machines come and go, --engine ray predicts the images of one folder or
    address (s3://bucket/photos) in parts: each is written as parts/00017.tar, and then recorded in parts/00017.jsonl.

    Args:
        checkpoint: Checkpoint file, or the name of a packaged checkpoint or its task.
        inputs: Images, folders of images, videos (.mp4, .avi, .mov, .mkv, .webm), or patterns ("photos/*.jpg"); with
            --engine ray, one folder or address of images.
        out: Output folder for the results and for predictions.jsonl, which lists the files written for each input; with
            --engine ray also an address.
        input_mode: How images are fed to the model: fit (resized to the training size, the output resized back), native
            (at their own size, tiled if large), or a task's own modes; the task's first one if not stated.
        tta_flip: Test-time augmentation: average the predictions for the image and its mirror image.
        box: Region of each image to predict, as X,Y,WIDTH,HEIGHT in pixels; if not stated, the largest person found by
            a detector (pose of people, if the detector's weights are available), else the complete image, at which
            pose looks twice (--input-mode fit: once).
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
        fade: Colorization: fade to gray where the model is unsure, which leaves fewer blotches; as the checkpoint
            states if not stated.
        format: Print all predictions as one JSON array or CSV table, with labels, joints or scores and the files
            written, and write the same to predictions.json or .csv in the output folder; a line each if not stated.
        batch_size: Images of one size that run through the model together; predictions differ by rounding only.
        samples: Number of samples of a task that samples from noise (video), of the seed and those that follow it.
        seed: Random seed of stochastic models (the dropout of translation, the noise of video); another seed gives
            another image.
        device: Device: cpu, cuda, mps or auto.
        amp: Mixed precision; auto uses bf16 where the hardware supports it, else fp16 on CUDA devices.
        engine: Engine: local (this process, or those of torchrun), or ray (a Ray cluster, or this machine; extra: ray).
        actors: With Ray, processes that predict at the same time; each has a GPU, if there are any.
        part: With Ray, images of a part.
        form: With Ray, form of the predictions: a tar for each part, or files as those of a local run.
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
    paths, folder, on_ray = tuple(map(Path, inputs)), Path(out), engine == "ray"
    choice = SceneChoice(target, pose, path, views, planes, classical)
    predictor = load(checkpoint, device, amp)
    stated = {"camera": intrinsics, "cube": cube, "fade": fade}
    predictor = predictor.with_options(**{name: value for name, value in stated.items() if value is not None})
    predictor.seed = seed
    of_scenes = predictor.task.inference.reads_scenes or choice != SceneChoice()
    requested: Sequence[Any] = ()
    if on_ray and (len(inputs) != 1 or boxes is not None or samples > 1 or of_scenes):
        raise UserError("--engine ray predicts one folder or address of images, without --boxes, --samples and views.")
    sources = collect_inputs(paths, folder, left_out) if inputs and not of_scenes and not on_ray else []
    if of_scenes:
        predictor, requested = predictor.task.inference.requested_views(predictor, paths, choice)
    task, fields, policy = predictor.task, predictor.fields, predictor.task.inference
    if input_mode is not None and input_mode not in policy.modes:
        raise unknown_name(f"input mode of the task {task.name}", input_mode, policy.modes)
    for option, value in (("batch-size", batch_size), ("samples", samples), ("actors", actors), ("part", part)):
        if value < 1:
            raise UserError(f"--{option} is {value}; it must be at least 1.")
    if box is not None and boxes is not None:
        raise UserError("--box is one box for all images and --boxes has those of each image; give one of them.")
    box_file = None if boxes is None else policy.read_boxes(boxes, fields)
    for video in () if boxes is None else (source.files[0] for source in sources if source.kind == "video"):
        raise UserError(f"--boxes has the boxes of images, but '{video}' is a video; give its frames as images.")
    config = InferenceConfig(predictor, folder, input_mode, tta_flip, region, box_file, choice)
    needed = policy.inputs_per_prediction(predictor.preprocessor.inputs)
    noun = "view" if of_scenes else {None: "sequence", 0: "sample", 1: "image", 2: "pair"}.get(needed, "group")
    if on_ray:
        from .predict_parts import PartOptions, predict_in_parts

        given = {name: value for name, value in stated.items() if value is not None}
        model = checkpoint if not os.path.exists(checkpoint) else os.path.abspath(checkpoint)
        options = PartOptions(
            *(model, device, amp, given, input_mode, tta_flip, region, seed, batch_size, max_megapixels),
            *(Storage(inputs[0]), Storage(out), form),
        )
        if predict_in_parts(options, config, needed, tuple(predictor.preprocessor.inputs), part, actors):
            sys.exit(1)
        return
    if of_scenes:
        if not inputs:
            raise UserError("There is no input; name folders of photos with cameras after the checkpoint.")
        requests = map(scene_request, requested)
    elif needed != 0:
        sources = sources or collect_inputs(paths, folder, left_out)
        if samples > 1:
            raise UserError(f"The task {task.name} predicts from inputs: leave out --samples.")
        requests = iter_requests(sources, needed, tuple(predictor.preprocessor.inputs), policy.last_frames)
    elif inputs:
        raise UserError(f"The task {task.name} samples from noise and takes no input; --seed chooses the sample.")
    else:
        requests = map(sampling_request, range(seed, seed + samples))
    require_writable(folder)
    # The first process of a group has the lock for all of them.
    with nullcontext() if force or group.rank else closing(FolderLock(folder)):
        manifest = Manifest(folder, task.name, config.digest(), group.rank, group.num_processes)
        requests = group.share(manifest.with_own_outputs(requests))
        for line in license_notes(predictor.header) if group.rank == 0 else ():
            print(line, file=sys.stderr)
        summary = run_all(config, requests, manifest, f"{noun}s", batch_size, sys.stderr if format else None)
        summaries = group.all_gather(summary)
        if group.rank == 0 or not group.connected:
            policy.write_results(
                folder, [stem for each in summaries for stem, record in each.records.items() if record]
            )
            report(summaries, noun, folder, left_out)
            if format is not None:
                text = format_records(in_order(summaries), format)
                write_text(folder / f"{NAME}.{format}", text)
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
