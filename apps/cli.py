"""Command tree of `densevision`. A command's module is imported when the command is called, so that help is fast."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError, UnusedCliTokensError

from ..errors import DISK_ERRORS, UserError, os_error_message, printable, unknown_name
from ..version import VERSION


def check_numbers(hint: object, value: object) -> None:
    """Check that the numbers of a parameter, or of a dataclass of parameters, are finite and fit into 64 bits,
    which torch requires.

    Raises:
        ValueError, UserError: one is not, or has more.
    """
    if isinstance(value, (int, float)) and not -(2**63) <= value < 2**63:
        raise ValueError("It must be a number between -2^63 and 2^63.")
    for one in value if isinstance(value, tuple) else ():
        check_numbers(hint, one)
    for name, one in vars(value).items() if dataclasses.is_dataclass(value) else ():
        try:
            check_numbers(hint, one)
        except ValueError as error:
            raise UserError(f"Invalid value {one!r} for --{name.replace('_', '-')}. {error}") from None


app = App(
    name="densevision",
    help="PyTorch classification backbones with dense-prediction heads. Add --debug for tracebacks.",
    version=VERSION,
    version_flags=["--version"],
    default_parameter=Parameter(validator=check_numbers),
    # Commands return; only `main` decides about error messages and exit codes.
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
HERE = f"{__package__}"
app.command(f"{HERE}.train:app", name="train", help="Train a model on synthetic data or your own dataset.")
app.command(f"{HERE}.sweep:sweep", name="sweep", help="Train with several values of some options and compare.")
app.command(f"{HERE}.evaluate:evaluate", name="evaluate", help="Evaluate a checkpoint on a dataset.")
app.command(f"{HERE}.evaluate:compare", name="compare", help="Compare two checkpoints on the same samples.")
app.command(f"{HERE}.predict:predict", name="predict", help="Run a model on images, folders and videos.")
app.command(f"{HERE}.webcam:webcam", name="webcam", help="Run models live on a camera or video.")
app.command(f"{HERE}.visualize:app", name="visualize", help="Attribution and feature visualization.")
app.command(f"{HERE}.web:web", name="web", help="Serve a web demo.")
app.command(f"{HERE}.export:export", name="export", help="Export a model to ONNX, OpenVINO or torch.export.")
app.command(f"{HERE}.data:app", name="data", help="Validate a dataset folder, or write an example of its layout.")
app.command(f"{HERE}.weights:app", name="weights", help="List, verify, import, convert, push and pull weights.")
app.command(f"{HERE}.list:names", name="list", help="List tasks, backbones, heads, models, recipes or datasets.")
app.command(f"{HERE}.bench:bench", name="bench", help="Benchmark against reference implementations.")
app.register_install_completion_command(help="Install the completion of commands and options in your shell.")

FILE_ERRORS = {
    errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO,
    *DISK_ERRORS,
}  # fmt: skip
"""OS errors that a user can fix. A missing file is not among them: the code that reads a file has its own message."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user error is printed as one line and exits with its code, in most cases 2.

    An interruption exits with 128 + the number of the signal that the `KeyboardInterrupt` carries: 130 by default.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        # File names may contain characters that the terminal or pipe cannot show; they are written as "\\u5199".
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Pillow warns of images beyond a limit of its own; `LIMITS` decides here.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit", append=False)
    try:
        try:
            with sigterm_interrupts():
                app([word for word in arguments if word != "--debug"], exit_on_error=False, print_error=False)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the pipe (`| head`) has closed it; flushing at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)
    except (UserError, CycloptsError, OSError) as error:
        if debug or (isinstance(error, OSError) and error.errno not in FILE_ERRORS):
            raise
        print(f"densevision: {error_message(error)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, UserError) else 2)
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        print("densevision: Out of memory; use smaller inputs or batches, or close other programs.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        if debug:
            raise
        print("densevision: interrupted.", file=sys.stderr)
        sys.exit(128 + next((one for one in error.args if isinstance(one, signal.Signals)), signal.SIGINT))


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it tidies up; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; on the CPU, PyTorch raises a `RuntimeError` for it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def error_message(error: Exception) -> str:
    """The error message as one printable line, whatever names it quotes."""
    return printable(_error_message(error))


def _error_message(error: Exception) -> str:
    if isinstance(error, OSError):
        return os_error_message(error)
    if isinstance(error, UnknownCommandError) and error.app is not None and error.unused_tokens:
        # The message of cyclopts imports every command to describe it.
        names = [name for name in error.app if not name.startswith("-")]
        kind = "task" if "train" in error.app.name else "command"
        return str(unknown_name(kind, error.unused_tokens[0], names))
    message = " ".join(str(error).split())
    if not isinstance(error, CycloptsError) or "Did you mean" in message:
        return message
    command = " ".join(("densevision", *(error.command_chain or ())))
    if isinstance(error, UnusedCliTokensError):
        message = f"Unexpected arguments: {' '.join(error.unused_tokens or ())}."
    return f"{message} See {command} --help."
