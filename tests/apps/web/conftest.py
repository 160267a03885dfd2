"""Fixtures of the tests of the web demo: the served page, and the uploads of load_test.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().with_name("load_test.py")
MEGAPIXELS = 4


@pytest.fixture(scope="session")
def script() -> ModuleType:
    """The module load_test.py, which makes the malicious uploads and the images of the clients."""
    spec = importlib.util.spec_from_file_location("web_load_test", SCRIPT)
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
def entries():
    """The packaged checkpoints."""
    pytest.importorskip("gradio", reason='gradio is not installed: pip install "gradio>=6"')
    from densevision.apps.web.checkpoints import checkpoint_entries

    return checkpoint_entries((), "cpu", "off")


@pytest.fixture(scope="session")
def examples(entries, tmp_path_factory) -> dict[str, list[list[Path]]]:
    """The examples of the first checkpoint of each task."""
    from densevision.apps.web.examples import write_examples

    folder = tmp_path_factory.mktemp("examples")
    return {
        task: write_examples(of_task[0], folder / task)
        for task, of_task in entries.items()
        if of_task and not of_task[0].reads_scenes
    }


@pytest.fixture(scope="session")
def address(entries, limits, script) -> Iterator[str]:
    """Address of the page, served by this process."""
    from densevision.apps.web.server import serve

    with serve(entries, limits, port=script.free_port()) as url:
        yield url
