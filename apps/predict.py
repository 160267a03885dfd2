"""`densevision predict`: answers for pictures and folders, as pictures for eyes and data for programs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Literal


def predict(
    checkpoint: str,
    /,
    *inputs: Path,
    out: Path = Path("predictions"),
    view: str | None = None,
    flip: bool = False,
    device: str = "auto",
    amp: Literal["auto", "bf16", "off"] = "auto",
) -> None:
    """Answer for pictures and folders of pictures; one that cannot be read is skipped, and the exit code is then 1.

    Args:
        checkpoint: A task's name for the checkpoint that ships, or a checkpoint's file.
        inputs: Pictures, or folders of pictures.
        out: Folder for the answers; default: predictions.
        view: How the picture is shown: fit (at the training size, the answer resized), native (at the picture's own
            size, tiled when large), or what the task offers instead; default: the task's first.
        flip: Average each answer with that of the mirrored picture; default: no.
        device: cpu, cuda, mps or auto; default: auto.
        amp: Mixed precision; auto: bf16 where the device does it in hardware; default: auto.
    """
    from ..errors import UserError
    from ..tasks.inference import load

    pictures = pictures_among(inputs, out)
    predictor = load(checkpoint, device, amp)
    for line in terms_of(predictor.header):
        print(line, file=sys.stderr)
    skipped: list[str] = []
    started = time.perf_counter()
    for number, (path, stem) in enumerate(pictures, 1):
        try:
            prediction = predictor.predict(path, view=view, flip=flip)
        except UserError as mistake:
            skipped.append(" ".join(str(mistake).split()))
            continue
        files = prediction.save(out / stem.parent, stem.name)
        rate = number / (time.perf_counter() - started)
        print(f"{path}: {', '.join(file.name for file in files)} {prediction.brief()} ({rate:.1f} pictures/s)")
    for sentence in skipped:
        print(f"skipped: {sentence}", file=sys.stderr)
    print(f"{len(pictures) - len(skipped)} of {len(pictures)} picture(s) answered, in {out}.", file=sys.stderr)
    if skipped:
        sys.exit(1)


def pictures_among(inputs: tuple[Path, ...], out: Path) -> list[tuple[Path, Path]]:
    """Every picture named or held by a folder, with the stem its answer takes under the output folder.

    Two pictures of one name keep apart: the ending joins the stem where it is needed. Earlier answers, where the output
    folder lies inside an input folder, are no inputs.

    Raises:
        UserError: nothing was named, something is missing, or a folder holds no picture.
    """
    from ..errors import UserError
    from ..tasks.pictures import PICTURE_ENDINGS

    if not inputs:
        raise UserError("Nothing to answer for: name pictures or folders after the checkpoint.")
    found: list[tuple[Path, Path]] = []
    for path in inputs:
        if path.is_dir():
            here, answers = path.resolve(), out.resolve()
            if here == answers:
                raise UserError(f"--out is '{out}', the folder of the pictures; give another, so that both keep apart.")
            inside = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in PICTURE_ENDINGS
                and file.is_file()
                and answers not in (here / file.relative_to(path)).parents
            ]
            if not inside:
                raise UserError(f"The folder '{path}' holds no picture ({', '.join(PICTURE_ENDINGS)}).")
            found += [(picture, picture.relative_to(path).with_suffix("")) for picture in inside]
        elif path.exists():
            found.append((path, Path(path.stem)))
        else:
            raise UserError(f"There is no picture or folder '{path}'.")
    count = Counter(stem for _, stem in found)
    named = [
        (picture, stem if count[stem] == 1 else stem.with_name(picture.name.replace(".", "_")))
        for picture, stem in found
    ]
    taken: dict[Path, Path] = {}
    for picture, stem in named:
        if stem in taken:
            raise UserError(f"{taken[stem]} and {picture} would be written to the same files; predict them one by one.")
        taken[stem] = picture
    return named


def terms_of(header: dict) -> list[str]:
    """What the data of a checkpoint and of the runs it started from, and the trunk's weights, ask of its users."""
    lines, run, trunk = [], header, header.get("trunk") or {}
    while run:
        data = run.get("data") or {}
        if "research" in data.get("terms", "") or "commercial" in data.get("terms", ""):
            lines.append(f"These weights were trained on {data['title']}: {data['terms']}.")
        run = run.get("init")
    if trunk.get("licence"):
        lines.append(f"Their trunk started from {trunk['weights']} ({trunk['licence']}).")
    return list(dict.fromkeys(lines))
