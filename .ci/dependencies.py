"""What is imported is declared in pyproject.toml, what is declared is imported, and one distribution provides OpenCV.

An import that works only because another package needs the same one breaks when that package changes its mind. Run it
where everything is installed, with all extras. Prints each fault and fails if there is one.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

from tracked import tracked

DEVELOPMENT = ("test", "dev", "docs", "fuzz")
"""Extras that the package itself does not need."""
SCRIPTS = (".ci", "examples", "tests", "tools")
"""Folders that import from those extras too, and modules beside them."""
BENCHMARKS = ("benchmarks", "test")
"""Folder of the benchmarks, and the extra with what they compare with."""
PROGRAMS = {
    "build", "import-linter", "mkdocs-material", "mkdocstrings", "pyright", "pytest-xdist", "ruff",
    "ipykernel",  # runs the notebooks
    "onnx", "onnxscript",  # torch.onnx imports them
}  # fmt: skip
"""Declared distributions that are run or loaded by others, not imported."""
OPTIONAL = {"find_spec", "importorskip"}
"""Functions whose argument is the name of a module."""


def normalized(name: str) -> str:
    """A distribution's name as PyPI compares it, without version and extras."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", name, maxsplit=1)[0]).lower()


def imports(source: str) -> Iterator[str]:
    """Top-level names of the modules that some code imports, or looks for."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [str(node.args[0].value)] if function in OPTIONAL else []
        yield from (name.partition(".")[0] for name in names)


def faults(
    sources: Mapping[Path, str], declared: Mapping[str, Iterable[str]], provided: Mapping[str, list[str]]
) -> list[str]:
    """What is wrong, one line each.

    Args:
        sources: code by path, relative to the checkout.
        declared: distributions by extra; those of "" are always installed.
        provided: distributions by the name of a module.
    """
    extras = {extra: set(map(normalized, names)) for extra, names in declared.items()}
    undeclared, used = dict[str, list[str]](), set[str]()
    for path, source in sources.items():
        script = path.parts[0] in SCRIPTS
        own = {"densevision", *(each.stem for each in sources if script and each.parent == path.parent)}
        allowed = [each for each in extras if script or each not in DEVELOPMENT or (path.parts[0], each) == BENCHMARKS]
        available = set[str]().union(*(extras[extra] for extra in allowed))
        for module in {*imports(source)} - own - sys.stdlib_module_names:
            distributions = {normalized(name) for name in provided.get(module, [module])}
            used |= distributions
            if not distributions & available:
                undeclared.setdefault(module, []).append(str(path))
    found = [
        f"{len(paths)} file(s) import {module}, which pyproject.toml does not declare for them: {min(paths)}"
        for module, paths in sorted(undeclared.items())
    ]
    unused = sorted(set[str]().union(*extras.values()) - used - PROGRAMS)
    found += [f"pyproject.toml declares {name}, which nothing imports" for name in unused]
    if len(several := provided.get("cv2", [])) > 1:
        found.append(
            f"OpenCV is installed {len(several)} times ({', '.join(sorted(several))}), with the same files: uninstall "
            "all of them and install one. albumentations needs opencv-python-headless; nothing here needs another."
        )
    return found


def main() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    build = project["build-system"]["requires"]
    project = project["project"]
    declared = {"": [*project["dependencies"], *build], **project["optional-dependencies"]}
    sources = {path: path.read_text(encoding="utf-8") for path in tracked() if path.suffix == ".py"}
    if found := faults(sources, declared, packages_distributions()):
        sys.exit("\n".join(found))
    print(f"{len(sources)} files import what is declared, and nothing else is.")


if __name__ == "__main__":
    main()
