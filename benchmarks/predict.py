"""A folder of photographs answered for depth: `densevision predict` against the plain loop.

The loop is what one writes who has the network: read with Pillow, resize, forward, write, picture after picture. Both
sides use the same network in the same precision, resize by the same rule and write the same three files a picture; ours
also keeps its record, waits for the disk and renames. What differs is that reading, network and writing overlap.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..apps.predict import Asking, Tally, answer_all
from ..apps.record import Record
from ..apps.sources import pictures_among, questions_about
from ..datasets.drawing import draw_depth
from ..datasets.geometry import Size, fitting_size, plain_resize, warp_picture
from ..errors import UserError
from ..tasks.inference import Predictor, evaluating, load, run_padded
from .measure import Figure, Report, Setting, Stopwatch, alternate, device_name, fixed_threads

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png")
"""What scikit-image brings along, in colour."""
SIZES: tuple[tuple[int, Size], ...] = (
    (12, (480, 640)),
    (10, (768, 1024)),
    (9, (1200, 1600)),
    (7, (1536, 2048)),
    (4, (2448, 3264)),
    (3, (3000, 4000)),
)
"""How many pictures of which (height, width): a folder of pictures from the web and from telephones."""
DAMAGED = 5
ROUNDS = 5
QUALITY = 90
TURNED = 6
"""EXIF's orientation of every fifth JPEG, as telephones write it."""


@dataclass(frozen=True)
class Compared:
    """How far both sides' files are from each other.

    Attributes:
        answers: how many pictures both answered.
        metres: largest difference of the arrays.
        millimetres: largest difference of the 16-bit pictures, in their steps.
        levels: largest difference of the coloured pictures, in grey levels.
    """

    answers: int
    metres: float
    millimetres: int
    levels: int


def measure(setting: Setting, *, sizes: tuple[tuple[int, Size], ...] = SIZES, rounds: int = ROUNDS) -> Report:
    """The folder, answered by both.

    Args:
        setting: where the network runs, and on how many threads of PyTorch and OpenCV.
        sizes: how many pictures of which (height, width).
        rounds: pairs, where the setting says nothing.
    """
    predictor, rounds = load("depth", str(setting.device), "auto"), setting.rounds or rounds
    with fixed_threads(setting.threads), tempfile.TemporaryDirectory() as place:
        folder, ours_out, theirs_out = (Path(place) / name for name in ("photographs", "ours", "theirs"))
        files = write_folder(folder, sizes)

        def ours() -> Tally:
            shutil.rmtree(ours_out, ignore_errors=True)
            return predicted(predictor, folder, ours_out)

        def theirs() -> list[Path]:
            shutil.rmtree(theirs_out, ignore_errors=True)
            return plain_loop(predictor, files, theirs_out)

        skipped, refused = len(ours().skipped), len(theirs())
        compared = compare(ours_out, theirs_out)
        watch = Stopwatch(setting.device)
        pairs = alternate(watch.rounds_of(ours), watch.rounds_of(theirs), rounds, warm_up=1)
        bytes_read = sum(file.stat().st_size for file in files)
    count = sum(number for number, _ in sizes)
    height, width = max((size for _, size in sizes), key=lambda size: size[0] * size[1])
    shapes = f"{len(files)} files, {DAMAGED} damaged, {bytes_read / 2**20:.0f} MiB, JPEG and PNG up to {width}x{height}"
    figure = Figure.of_pairs(
        "a folder answered", shapes, "densevision predict", "one by one", pairs, count, least=1.5, aim=1.8
    )
    precision = "bf16" if predictor.bf16 else "fp32"
    remarks = (
        f"Both in {precision}; both answered {compared.answers} pictures and refused {skipped} and {refused}.",
        f"Their files differ by {compared.metres:.2g} m, {compared.millimetres} mm and {compared.levels} grey levels "
        "at most.",
    )
    facts = {
        "largest_difference_metres": compared.metres,
        "largest_difference_millimetres": compared.millimetres,
        "largest_difference_levels": compared.levels,
        "answers": compared.answers,
        "skipped": skipped,
        "precision": precision,
    }
    title = "a folder of photographs, read, answered and written"
    return Report("predict", title, device_name(setting.device), setting.threads, (figure,), facts, remarks)


def write_folder(folder: Path, sizes: tuple[tuple[int, Size], ...]) -> list[Path]:
    """Photographs enlarged to many sizes, two JPEGs to a PNG, some grey, some turned; and damaged files among them.

    Raises:
        UserError: scikit-image is not installed.
    """
    from PIL import Image

    try:
        from skimage import data_dir
    except ImportError:
        raise UserError("The photographs are those of scikit-image: pip install scikit-image.") from None
    folder.mkdir(parents=True)
    sources = [np.asarray(Image.open(Path(data_dir) / name).convert("RGB")) for name in PHOTOGRAPHS]
    turned = Image.Exif()
    turned[0x0112] = TURNED
    ordered = [size for number, size in sizes for _ in range(number)]
    wanted = [ordered[place] for place in np.random.default_rng(0).permutation(len(ordered))]
    files = []
    for number, (source, size) in enumerate(zip(itertools.cycle(sources), wanted, strict=False)):
        drawn = Image.fromarray(cv2.resize(source, size[::-1], interpolation=cv2.INTER_CUBIC))
        drawn = drawn.convert("L") if number % 11 == 10 else drawn
        path = folder / f"{number:03}{'.png' if number % 3 == 2 else '.jpg'}"
        extra: dict[str, Any] = {"quality": QUALITY} if path.suffix == ".jpg" else {}
        if number % 5 == 4:
            extra["exif"] = turned
        drawn.save(path, **extra)
        files.append(path)
    for number in range(DAMAGED):
        whole = files[number].read_bytes()
        path = folder / f"{number:03}-cut{files[number].suffix}"
        path.write_bytes(whole[: len(whole) * number // DAMAGED])
        files.append(path)
    return sorted(files)


def predicted(predictor: Predictor, folder: Path, out: Path) -> Tally:
    """The folder as the command answers for it, without its lines."""
    asking = Asking(predictor, out, None, False, None)
    questions = questions_about(pictures_among([folder], out), tuple(predictor.task.inputs(predictor.fields)))
    with contextlib.redirect_stdout(io.StringIO()):
        return answer_all(asking, questions, Record(out, predictor.task.name, asking.asked()), "pictures")


def plain_loop(predictor: Predictor, files: list[Path], out: Path) -> list[Path]:
    """One picture after the other; returns those that cannot be read."""
    from PIL import Image, ImageOps

    out.mkdir()
    refused = []
    answer = plain_network(predictor)
    for path in files:
        try:
            with Image.open(path) as opened:
                picture = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        except (OSError, SyntaxError):
            refused.append(path)
            continue
        metres = answer(picture)
        stem = out / path.stem
        np.save(f"{stem}_depth.npy", metres)
        cv2.imwrite(f"{stem}_depth_mm.png", np.round(metres.clip(0, 65.535) * 1000).astype(np.uint16))
        cv2.imwrite(f"{stem}_depth.png", draw_depth(metres, metres)[..., ::-1])
    return refused


def plain_network(predictor: Predictor) -> Callable[[np.ndarray], np.ndarray]:
    """(H, W, 3) uint8 to (H, W) metres, by the network alone."""
    model, device = predictor.model, predictor.device

    @torch.inference_mode()
    def answer(picture: np.ndarray) -> np.ndarray:
        size: Size = (picture.shape[0], picture.shape[1])
        fitting = fitting_size(size, predictor.size)
        small = warp_picture(picture, plain_resize(size, fitting).matrix(), fitting)
        image = torch.from_numpy(small)[None].movedim(-1, 1).to(device).float() / 255
        with evaluating(model), torch.autocast(device.type, torch.bfloat16, enabled=predictor.bf16):
            output = run_padded(model, [image]).float()
        whole = torch.nn.functional.interpolate(output, size, mode="bilinear", align_corners=False)
        return whole[0, 0].cpu().numpy()

    return answer


def compare(ours: Path, theirs: Path) -> Compared:
    """The files of both sides; every answer of one has its like among the other's."""
    stems = [sorted(file.name.removesuffix(".npy") for file in out.glob("*.npy")) for out in (ours, theirs)]
    assert stems[0] == stems[1], "Both sides answer the same pictures."
    metres, steps, levels = 0.0, 0, 0
    for stem in stems[0]:
        arrays = [np.load(out / f"{stem}.npy") for out in (ours, theirs)]
        metres = max(metres, float(np.abs(arrays[0] - arrays[1]).max()))
        steps = max(steps, _apart(*(out / f"{stem}_mm.png" for out in (ours, theirs))))
        levels = max(levels, _apart(*(out / f"{stem}.png" for out in (ours, theirs))))
    return Compared(len(stems[0]), metres, steps, levels)


def _apart(one: Path, other: Path) -> int:
    first, second = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (one, other))
    assert first is not None and second is not None
    return int(np.abs(first.astype(int) - second).max())
