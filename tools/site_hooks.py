"""Hooks of mkdocs: the package for the API pages, and pages that are stored outside docs/.

The root of the repository is the package, whatever the name of its folder. mkdocstrings finds `densevision` through a
link of that name, which these hooks put on the search path for the time of a build.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")

# Files of the repository that are pages or images of the site: their path in the repository to that in the site.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    **{
        card.relative_to(ROOT).as_posix(): f"model-cards/{card.parent.parent.name}-{card.name}"
        for card in sorted(ROOT.glob("tasks/*/weights/*.md"))
    },
    **{
        image.relative_to(ROOT).as_posix(): f"training-deep-networks/{image.name}"
        for image in sorted(ROOT.glob("examples/training_deep_networks/*.png"))
    },
}
_links = Path(tempfile.mkdtemp(prefix="densevision-site-"))


def on_startup(**_: Any) -> None:
    """Make the package importable by its name for static analysis."""
    (_links / "densevision").symlink_to(ROOT, target_is_directory=True)
    sys.path.insert(0, str(_links))


def on_shutdown(**_: Any) -> None:
    """Remove the link."""
    sys.path[:] = [path for path in sys.path if path != str(_links)]
    shutil.rmtree(_links, ignore_errors=True)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the model cards, the guide for contributors, the changelog and the images of the examples."""
    for stored, page in PAGES.items():
        if page != "index.md":
            files.append(File.generated(config, page, abs_src_path=str(ROOT / stored)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links between files of the repository to the pages of the site.

    A link to a file that is not a page (a script, a folder) becomes its text: the site has no such file.
    """
    sources = {site: stored for stored, site in PAGES.items()}
    folder = (ROOT / sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def lead(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups()
        if "://" in target or target.startswith(("mailto:", "/")):
            return match.group(0)
        stored = Path(os.path.normpath(folder / target))
        if not stored.is_relative_to(ROOT):
            return text
        name = stored.relative_to(ROOT).as_posix()
        if name.startswith("docs/"):
            site = name.removeprefix("docs/")
        elif name in PAGES:
            site = PAGES[name]
        else:
            # A missing file stays a link, which fails a strict build.
            return text if stored.exists() else match.group(0)
        there = os.path.relpath(site, Path(page.file.src_uri).parent)
        return f"{mark}[{text}]({there}{anchor or ''})"

    return LINK.sub(lead, markdown)
