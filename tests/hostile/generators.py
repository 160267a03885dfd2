"""The generators of malicious files, by name."""

from __future__ import annotations

from .annotations import generate_annotations
from .archives import generate_archives
from .arrays import generate_arrays
from .checkpoints import generate_checkpoints
from .harness import Generator
from .images import generate_images
from .matlab import generate_matlab
from .options import generate_options
from .published import generate_published
from .run_folders import generate_run_folders
from .videos import generate_videos

GENERATORS: dict[str, Generator] = {
    "annotations": generate_annotations,
    "archives": generate_archives,
    "arrays": generate_arrays,
    "checkpoints": generate_checkpoints,
    "images": generate_images,
    "matlab": generate_matlab,
    "options": generate_options,
    "published": generate_published,
    "run_folders": generate_run_folders,
    "videos": generate_videos,
}
"""The generators by name."""
