"""The command tree. It imports nothing heavy: a command's own module is imported when the command is called."""

from __future__ import annotations

import errno
import os
import sys

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError, UnusedCliTokensError

from ..errors import UserError, unknown_name
from ..version import VERSION

app = App(
    name="densevision",
    help="Classification trunks with heads that answer for every pixel. Add --debug to any command for the stack.",
    version=VERSION,
    version_flags=["--version"],
    # The help lines say their defaults themselves, in the words of a user.
    default_parameter=Parameter(show_default=False),
    # Commands return, and `main` alone decides what a mistake or an interruption prints and exits with.
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
HERE = f"{__package__}"
app.command(f"{HERE}.train:app", name="train", help="Train a task on its world or on your data.")
app.command(f"{HERE}.evaluate:evaluate", name="evaluate", help="Score a checkpoint on a data set under a protocol.")
app.command(f"{HERE}.predict:predict", name="predict", help="Answer for pictures, folders of pictures and videos.")
app.command(f"{HERE}.webcam:webcam", name="webcam", help="Answer live for a camera or a video.")
app.command(f"{HERE}.visualize:app", name="visualize", help="Look into a network: what its units see.")
app.command(f"{HERE}.web:web", name="web", help="Show a page in the browser: every task, and a look inside.")
app.command(f"{HERE}.export:export", name="export", help="Write a network as a file for other runtimes.")
app.command(f"{HERE}.data:app", name="data", help="Check a data folder, or write a tiny one in its layout.")
app.command(f"{HERE}.weights:app", name="weights", help="List, show, verify, shrink and adopt weights.")
app.command(f"{HERE}.list:names", name="list", help="List tasks, backbones, heads, networks, recipes or data.")
app.command(f"{HERE}.bench:bench", name="bench", help="Measure ratios against peers on this machine.")

REFUSED_BY_FILES = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ENOSPC, errno.EDQUOT,
}  # fmt: skip
"""What a user can mend about files. A missing one is not among them: whoever reads a file has a sentence for that."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user's mistake is one line and exit code 2; an interruption exits with 130."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        try:
            app([word for word in given if word != "--debug"], exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe (`| head`) had enough. Nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)
    except (UserError, CycloptsError, OSError) as mistake:
        if debug or (isinstance(mistake, OSError) and mistake.errno not in REFUSED_BY_FILES):
            raise
        print(f"densevision: {sentence(mistake)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("densevision: interrupted.", file=sys.stderr)
        sys.exit(130)


def sentence(mistake: Exception) -> str:
    """A mistake in one line, with the way out."""
    if isinstance(mistake, OSError):
        return f"{mistake.strerror}: {mistake.filename}." if mistake.filename else f"{mistake.strerror}."
    if isinstance(mistake, UnknownCommandError) and mistake.app is not None and mistake.unused_tokens:
        # The message of cyclopts imports every command to describe it.
        known = [name for name in mistake.app if not name.startswith("-")]
        what = "task" if "train" in mistake.app.name else "command"
        return str(unknown_name(what, mistake.unused_tokens[0], known))
    said = " ".join(str(mistake).split())
    if not isinstance(mistake, CycloptsError) or "Did you mean" in said:
        return said
    command = " ".join(("densevision", *(mistake.command_chain or ())))
    if isinstance(mistake, UnusedCliTokensError):
        said = f"Too much was given: {' '.join(mistake.unused_tokens or ())}."
    return f"{said} See {command} --help."
