"""No tracked file is large: history keeps every version of it for ever."""

import sys

from tracked import tracked

MIB = 2**20
USUAL, CHECKPOINT, CHECKPOINTS = 5 * MIB, 20 * MIB, 80 * MIB


def main() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    shipped = [path for path in sizes if path.match("tasks/*/weights/*.safetensors")]
    wrong = []
    for path, size in sizes.items():
        limit = CHECKPOINT if path in shipped else USUAL
        if size >= limit:
            wrong.append(f"{path}: {size / MIB:.1f} MiB, allowed are less than {limit / MIB:.0f}")
    if (total := sum(sizes[path] for path in shipped)) > CHECKPOINTS:
        wrong.append(f"the checkpoints that ship: {total / MIB:.1f} MiB together, allowed are {CHECKPOINTS / MIB:.0f}")
    wrong += [f"{path}: no card {path.stem}.md beside it" for path in shipped if path.with_suffix(".md") not in sizes]
    if wrong:
        sys.exit("\n".join(wrong))
    largest = max(sizes, key=lambda path: sizes[path])
    print(f"{len(sizes)} tracked files, {sum(sizes.values()) / MIB:.1f} MiB; the largest is {largest}.")


if __name__ == "__main__":
    main()
