"""The command tree. It imports nothing heavy: a command's own module is imported when the command is called."""

from __future__ import annotations

import sys

from cyclopts import App

from ..errors import UserError
from ..version import VERSION

app = App(
    name="densevision",
    help="Classification trunks with heads that answer for every pixel. Add --debug to any command for the stack.",
    version=VERSION,
    version_flags=["--version"],
)
HERE = f"{__package__}"
app.command(f"{HERE}.train:app", name="train", help="Train a task on its world or on your data.")
app.command(f"{HERE}.evaluate:evaluate", name="evaluate", help="Score a checkpoint on a data set under a protocol.")
app.command(f"{HERE}.predict:predict", name="predict", help="Answer for pictures and folders of pictures.")
app.command(f"{HERE}.data:app", name="data", help="Check a data folder, or write a tiny one in its layout.")
app.command(f"{HERE}.weights:app", name="weights", help="List, show, verify and shrink weights.")
app.command(f"{HERE}.list:names", name="list", help="List tasks, backbones, heads, networks, recipes or data.")
app.command(f"{HERE}.bench:bench", name="bench", help="Measure ratios against peers on this machine.")


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user's mistake is one line and exit code 2; an interruption exits with 130."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        app(arguments)
    except UserError as mistake:
        if debug:
            raise
        print(f"densevision: {mistake}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("densevision: interrupted.", file=sys.stderr)
        sys.exit(130)
