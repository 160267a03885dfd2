"""The repository's root is the package: every folder with an `__init__.py` is a part of it, and nothing else."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
OUTSIDE = {"tests", "docs", "benchmarks_results", "build", "dist"}


def packages() -> list[str]:
    found = ["densevision"]
    for file in sorted(ROOT.rglob("__init__.py")):
        parts = file.parent.relative_to(ROOT).parts
        if parts and parts[0] not in OUTSIDE and not any(p.startswith(".") or p.endswith(".egg-info") for p in parts):
            found.append(".".join(("densevision", *parts)))
    return found


class WithoutSetup(build_py):
    """The root package would otherwise carry this file as a module of its own."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if entry[1] not in ("setup", "conftest")]


setup(packages=packages(), cmdclass={"build_py": WithoutSetup})
