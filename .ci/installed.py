"""The installed wheel: every module of it imports, and none of them can be imported by a bare name."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path


def main(checkout: Path) -> None:
    import densevision

    home = Path(densevision.__file__).parent
    if home.is_relative_to(checkout):
        sys.exit(f"densevision is imported from {home}, not from the wheel")
    wrong, modules = [], ["densevision"]
    for module in pkgutil.walk_packages(densevision.__path__, "densevision."):
        modules.append(module.name)
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for bare in sorted({name.split(".")[1] for name in modules if "." in name} - {"__main__"} | {"setup", "tests"}):
        spec = importlib.util.find_spec(bare)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
        if any(place and Path(place).is_relative_to(ours) for place in places for ours in (home, checkout)):
            wrong.append(f"`import {bare}` finds ours at {places[0]}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(modules)} modules import from {home}; none can be imported by a bare name.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
