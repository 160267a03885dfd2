"""Module-level import circles of the package: imports inside functions and under TYPE_CHECKING count.

lint-imports checks layers between folders; this finds modules that need each other, which then are one module in two
files. Prints each circle with its imports and fails if there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any


def circles(imports: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972), each sorted.

    Args:
        imports: for every module the modules that it imports, which are keys, too.
    """
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for imported in imports[module]:
            if imported not in order:
                visit(imported)
            if imported in path:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == order[module]:
            start = path.index(module)
            if len(path) - start > 1:
                found.append(sorted(path[start:]))
            del path[start:]

    for module in sorted(imports):
        if module not in order:
            visit(module)
    return found


def describe(graph: Any, circle: list[str]) -> str:
    """Lines of the form "a -> b (line 3)", for every import between the modules of a circle."""
    lines = []
    for importer in circle:
        for imported in sorted(graph.find_modules_directly_imported_by(importer) & set(circle)):
            numbers = [
                detail["line_number"] for detail in graph.get_import_details(importer=importer, imported=imported)
            ]
            lines.append(f"  {importer} -> {imported} (line {', '.join(map(str, numbers))})")
    return "\n".join(lines)


def main(package: str) -> int:
    """Print the circles of an importable package; their number."""
    import grimp

    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=False)
    found = circles({module: sorted(graph.find_modules_directly_imported_by(module)) for module in graph.modules})
    for circle in found:
        print(f"Import circle of {len(circle)} modules:\n{describe(graph, circle)}")
    return len(found)


if __name__ == "__main__":
    count = main(sys.argv[1] if len(sys.argv) > 1 else "densevision")
    if count:
        sys.exit(f"{count} import circle(s): move what both sides need to a third module, or merge them.")
    print("No import circle.")
