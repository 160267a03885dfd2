"""The repository's root is the package: every folder with an `__init__.py` is a part of it, and nothing else."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
OUTSIDE = {"tests"}


def packages(folder: Path = ROOT, name: str = "densevision") -> list[str]:
    """A folder without `__init__.py` ends the walk, so that build folders and virtual environments stay outside."""
    found = [name]
    for inner in sorted(folder.iterdir()):
        if inner.name not in OUTSIDE and (inner / "__init__.py").is_file():
            found += packages(inner, f"{name}.{inner.name}")
    return found


class WithoutSetup(build_py):
    """The root package would otherwise carry this file as a module of its own."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if entry[:2] != ("densevision", "setup")]


if __name__ == "__main__":
    setup(packages=packages(), cmdclass={"build_py": WithoutSetup})
