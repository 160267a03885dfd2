"""The wheel holds every file of the package, and nothing that is not a file of the package."""

import sys
from pathlib import Path
from zipfile import ZipFile

from tracked import tracked

LARGEST = 100 * 2**20
OUTSIDE = ("tests", "docs", "examples", "tools", ".ci", ".github")
ROOT_ONLY_MODULES = ("setup.py",)


def main(wheel: Path) -> None:
    expected = {path.as_posix() for path in tracked() if belongs(path)}
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    strange = [name for name in names if not name.startswith("densevision/")]
    held = {name.removeprefix("densevision/") for name in names} - set(strange)
    wrong = [f"in the tree, not in the wheel: {name}" for name in sorted(expected - held)]
    wrong += [f"in the wheel, not in the tree: {name}" for name in sorted(held - expected) + strange]
    if (size := wheel.stat().st_size) >= LARGEST:
        wrong.append(f"{wheel.name} is {size / 2**20:.1f} MiB, allowed are less than {LARGEST / 2**20:.0f}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{wheel.name}: {len(held)} files, {size / 2**20:.2f} MiB, as in the tree.")


def belongs(path: Path) -> bool:
    """Whether a tracked file is the package's: below the root all of them, in the root its modules and py.typed."""
    if len(path.parts) == 1:
        return (path.suffix == ".py" and path.name not in ROOT_ONLY_MODULES) or path.name == "py.typed"
    return path.parts[0] not in OUTSIDE


if __name__ == "__main__":
    main(Path(sys.argv[1]))
