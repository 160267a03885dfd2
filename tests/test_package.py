"""The package as a whole: what importing it costs, what it offers by name, and which folders are it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import densevision
from densevision.errors import UserError
from densevision.registry import lookup

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "albumentations", "timm", "segmentation_models_pytorch", "matplotlib", "cv2")
REGISTRYS = {
    "TASKS": "tasks",
    "DATASETS": "datasets",
    "BACKBONES": "backbones",
    "HEADS": "tasks.heads",
    "WEIGHTS": "backbones.weights",
    "BENCHMARKS": "benchmarks",
}


def run_python(code: str, folder: Path) -> str:
    """What a fresh interpreter, started in a folder, prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import densevision; assert densevision.__version__",
        "from densevision.apps.cli import main; main(['--help'])",
        "from densevision.apps.cli import main; main(['--version'])",
        "from densevision.apps.cli import app, main; [main([verb, '--help']) for verb in app if verb[0] != '-']",
    ],
)
def test_the_package_and_its_help_import_nothing_heavy(tmp_path, statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    modules = {name.split(".")[0] for name in json.loads(run_python(code, tmp_path).splitlines()[-1])}
    assert modules.isdisjoint(HEAVY), modules.intersection(HEAVY)


def test_no_folder_can_be_imported_by_a_bare_name(tmp_path):
    holding = [path for path in ROOT.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))]
    bare = sorted(path.stem for path in holding if path.name[0] not in "._")
    assert {"datasets", "tasks", "apps", "setup"} <= set(bare)
    code = (
        "import importlib.util, json, densevision\n"
        f"specs = [importlib.util.find_spec(name) for name in {bare}]\n"
        "places = {spec.name: [spec.origin, *(spec.submodule_search_locations or [])] for spec in specs if spec}\n"
        "print(json.dumps(places))"
    )
    places = json.loads(run_python(code, tmp_path))
    ours = {name: where for name, where in places.items() if any(str(ROOT) in str(place) for place in where)}
    assert not ours


def test_every_public_name_resolves_and_is_one_of_all():
    assert sorted(densevision.__all__) == densevision.__all__
    for name in densevision.__all__:
        assert getattr(densevision, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'dpeth'"):
        densevision.dpeth  # noqa: B018 - the lookup is what is tested


def test_what_type_checkers_see_is_what_is_imported_lazily():
    source = (ROOT / "__init__.py").read_text(encoding="utf-8")
    stated = {}
    for module, names in re.findall(r"^    from \.([\w.]+) import (.+)$", source, re.MULTILINE):
        stated.update(dict.fromkeys(names.split(", "), module))
    assert stated == densevision._WHERE
    assert {*stated, "__version__", "visualize"} == set(densevision.__all__)


def test_what_type_checkers_see_of_visualize_is_what_is_imported_lazily():
    source = (ROOT / "visualize" / "__init__.py").read_text(encoding="utf-8")
    stated = {}
    for module, names in re.findall(r"^    from \.([\w.]+) import (.+)$", source, re.MULTILINE):
        stated.update(dict.fromkeys(names.split(", "), module))
    methods = {name: module for name, (module, _) in densevision.visualize.METHODS.items()}
    assert stated == {**methods, **densevision.visualize._OTHERS}
    assert {*stated, "METHODS"} == set(densevision.visualize.__all__)
    assert all(getattr(densevision.visualize, name) is not None for name in stated)


def registry(constant: str, module: str) -> Mapping[str, Any]:
    return getattr(importlib.import_module(f"densevision.{module}"), constant)


@pytest.mark.parametrize(("constant", "module"), REGISTRYS.items())
def test_a_registry_is_sorted_and_a_mistyped_name_gets_the_nearest(constant, module):
    names = list(registry(constant, module))
    assert names == sorted(names)
    mistyped = names[0][:-1] + "~" + names[0][-1]
    with pytest.raises(UserError, match=f"no thing named '{re.escape(mistyped)}'; (did you mean|known:)"):
        lookup("thing", mistyped, registry(constant, module))


@pytest.mark.parametrize(("constant", "module"), REGISTRYS.items())
def test_every_line_of_a_registry_leads_to_something(constant, module):
    for name, line in registry(constant, module).items():
        if line.startswith("torchvision:"):
            enum, member = line.removeprefix("torchvision:").split(".")
            import torchvision

            assert member in getattr(torchvision.models, enum).__members__, name
        else:
            assert callable(lookup(constant, name, registry(constant, module))), name


def test_every_task_names_heads_networks_data_and_recipes_that_exist():
    for name in densevision.list_tasks():
        task = densevision.create_task(name)
        heads, backbones = registry("HEADS", "tasks.heads"), registry("BACKBONES", "backbones")
        assert task.name == name
        assert set(task.heads) <= {*heads, *task.own_heads}
        assert task.defaults.data in registry("DATASETS", "datasets")
        # A task of complete models only has no backbone.
        assert task.defaults.backbone in (*backbones, None) and task.defaults.head in (*task.heads, None)
        assert {task.defaults.recipe, task.defaults.photo_recipe or task.defaults.recipe} <= set(task.recipes)
        for network in task.models:
            assert callable(lookup("network", network, task.models))
        for head in task.own_heads:
            assert callable(lookup("head", head, task.own_heads))


def setup_module_of_the_root() -> Any:
    spec = importlib.util.spec_from_file_location("setup_of_densevision", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_packages_are_every_folder_with_an_init_and_no_other():
    found = setup_module_of_the_root().packages()
    assert len(found) == len(set(found))
    expected = {"densevision"}
    for file in ROOT.rglob("__init__.py"):
        parts = file.parent.relative_to(ROOT).parts
        if parts and parts[0] != "tests" and (ROOT / parts[0] / "__init__.py").is_file():
            expected.add(".".join(("densevision", *parts)))
    assert set(found) == expected


def test_every_folder_with_modules_is_a_package():
    for folder in {file.parent for file in ROOT.rglob("*.py")}:
        parts = folder.relative_to(ROOT).parts
        within = parts and parts[0] != "tests" and (ROOT / parts[0] / "__init__.py").is_file()
        assert not within or (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"


def test_a_virtual_environment_or_a_build_inside_the_checkout_is_not_packaged(tmp_path):
    for path in ("apps", "venv/lib/python3.11/site-packages/torch", "build/lib/densevision/apps", "tests"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "__init__.py").touch()
    assert setup_module_of_the_root().packages(tmp_path) == ["densevision", "densevision.apps"]


def test_no_file_names_a_place_of_one_machine():
    homes = re.compile("/" + "(root|home|Users|work|opt|mnt)" + r"/\w")
    for file in tracked():
        if file.suffix not in (".py", ".md", ".toml", ".txt", ".yaml", ".json", ""):
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            assert not homes.search(line), f"{file.relative_to(ROOT)}:{number}: {line.strip()}"


def tracked() -> list[Path]:
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True) if shutil.which("git") else None
    if listed is None or listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}, [["b", "c"]]),
        (
            {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["a"], "e": ["f"], "f": ["e"]},
            [["a", "b", "c", "d"], ["e", "f"]],
        ),
    ],
)
def test_import_circles_are_found_and_shared_imports_are_none(imports, expected):
    script = runpy.run_path(str(ROOT / ".ci" / "cycles.py"))
    assert script["circles"](imports) == expected


def test_imports_in_functions_and_for_type_checking_close_a_circle(tmp_path):
    pytest.importorskip("grimp")
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "__init__.py").touch()
    (planted / "alone.py").write_text("from .first import a\n")
    (planted / "first.py").write_text("def a():\n    from .second import b\n")
    checked = check_cycles("planted", tmp_path)
    assert checked.returncode == 0, checked.stdout
    condition = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    (planted / "second.py").write_text(f"{condition}    from .first import a\nb = 1\n")
    checked = check_cycles("planted", tmp_path)
    assert checked.returncode == 1
    assert "planted.second -> planted.first (line 3)" in checked.stdout and "alone" not in checked.stdout


def test_the_package_has_no_import_circle():
    pytest.importorskip("grimp")
    checked = check_cycles("densevision", Path(densevision.__path__[0]).parent)
    assert checked.returncode == 0, checked.stdout


def check_cycles(package: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The check of the import circles of a package in a folder."""
    command = [sys.executable, str(ROOT / ".ci" / "cycles.py"), package]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
