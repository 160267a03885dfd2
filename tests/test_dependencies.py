"""The check of the declared dependencies, `.ci/dependencies.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "dependencies.py"
DECLARED = {"": ["numpy>=2", "pillow"], "web": ["gradio"], "test": ["scikit-image"], "dev": ["ruff==0.17.6"]}
PROVIDED = {"PIL": ["pillow"], "skimage": ["scikit-image"]}
USED = {Path("apps/a.py"): "import numpy, PIL.Image", Path("tests/b.py"): 'importorskip("skimage.data")\nimport gradio'}


@pytest.fixture(scope="module")
def dependencies():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("dependencies", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


def test_declared_imports_have_no_fault(dependencies):
    assert dependencies.faults(USED, DECLARED, PROVIDED) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("apps/c.py", "def f():\n    import scipy"),
        ("apps/c.py", "from skimage.data import coffee"),
        ("tasks/c.py", "if find_spec('torchmetrics'): pass"),
        ("tasks/a.py", "import ruff"),
    ],
)
def test_an_import_that_is_not_declared_for_its_folder_is_named(dependencies, path, source):
    (fault,) = dependencies.faults({**USED, Path(path): source}, DECLARED, PROVIDED)
    assert path in fault and "pyproject.toml does not declare" in fault


def test_what_nothing_imports_is_named(dependencies):
    (fault,) = dependencies.faults(USED, {**DECLARED, "heic": ["pillow_heif>=0.22"]}, PROVIDED)
    assert fault == "pyproject.toml declares pillow-heif, which nothing imports"


def test_modules_beside_a_script_are_its_own_and_those_of_the_package_are_not(dependencies):
    beside = {Path("tools/painting.py"): "", Path("tools/d.py"): "import painting"}
    assert dependencies.faults({**USED, **beside}, DECLARED, PROVIDED) == []
    (fault,) = dependencies.faults({**USED, Path("backbones/timm.py"): "import timm"}, DECLARED, PROVIDED)
    assert "import timm" in fault


def test_two_opencvs_are_named(dependencies):
    provided = {**PROVIDED, "cv2": ["opencv-python", "opencv-python-headless"]}
    (fault,) = dependencies.faults(USED, DECLARED, provided)
    assert "OpenCV is installed 2 times" in fault
