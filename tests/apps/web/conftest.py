"""What the page's tests share: the page itself, served once, and the uploads of docs/web.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "docs" / "web.py"
MEGAPIXELS = 4


@pytest.fixture(scope="session")
def script() -> ModuleType:
    """docs/web.py, which makes the hostile uploads and the pictures of the clients."""
    spec = importlib.util.spec_from_file_location("docs_web", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def limits():
    from densevision.apps.web.uploads import Limits

    return Limits(file_bytes=2**21, pixels=MEGAPIXELS * 1_000_000)


@pytest.fixture(scope="session")
def offers():
    """The checkpoints that ship."""
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    from densevision.apps.web.networks import offers_of

    return offers_of((), "cpu", "off")


@pytest.fixture(scope="session")
def examples(offers, tmp_path_factory) -> dict[str, list[list[Path]]]:
    """The examples of the first checkpoint of every task."""
    from densevision.apps.web.examples import write_examples

    folder = tmp_path_factory.mktemp("examples")
    return {task: write_examples(held[0], folder / task) for task, held in offers.items() if held}


@pytest.fixture(scope="session")
def address(offers, limits, script) -> Iterator[str]:
    """Where the page is, served by this process."""
    from densevision.apps.web.server import serving

    with serving(offers, limits, port=script.free_port()) as found:
        yield found
