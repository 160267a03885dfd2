"""User errors: one message that says what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from typing import ClassVar

MAX_SUGGESTIONS = 3
_SPACE = "free some space, or write to another disk"
DISK_ERRORS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or write to another file system",
    errno.EROFS: "write to another folder",
    errno.EIO: "check the disk, or write to another one",
}
"""Errors of a disk that refuses to be written, and what helps; every other file would fail with them too."""


class UserError(Exception):
    """An error that the caller can fix. The command line prints it as one line and exits with `exit_code`."""

    exit_code: ClassVar[int] = 2


MAX_CHARACTERS = 4000
"""Length of a message; of a longer one, the middle is left out."""


def printable(text: str) -> str:
    """Text of an input, for a terminal: characters that do not print (control, bidirectional, half of a pair) are
    escaped as in Python, and the middle of more than `MAX_CHARACTERS` is left out."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS // 2]}...{text[-MAX_CHARACTERS // 2 :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def os_error_message(error: OSError) -> str:
    """What the operating system refused, and for which file, as a sentence."""
    reason = error.strerror or str(error) or type(error).__name__
    where = f": {error.filename}" if error.filename else ""
    remedy = DISK_ERRORS.get(error.errno or 0)
    return f"{reason}{where}; {remedy}." if remedy else f"{reason}{where}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a registry, with the nearest match.

    Args:
        kind: kind of the name, for the message ("backbone", "task").
        name: the unknown name.
        known: all known names.
    """
    plain = {one.casefold(): one for one in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), plain, n=1, cutoff=0.4)
    hint = f"did you mean '{plain[close[0]]}'?" if close else f"known: {', '.join(plain.values()) or 'none'}."
    return UserError(f"There is no {kind} named '{name}'; {hint}")


def closest_names(name: str, known: Iterable[str]) -> list[str]:
    """At most `MAX_SUGGESTIONS` known names: those that contain it as a word, shortest first, then similar ones."""
    by_casefold = {each.casefold(): each for each in known}
    word = name.casefold().strip()
    containing = sorted((each for each in by_casefold if word in re.split(r"[\s:.-]", each)), key=len)
    similar = difflib.get_close_matches(word, by_casefold, n=MAX_SUGGESTIONS, cutoff=0.4)
    return [by_casefold[each] for each in dict.fromkeys([*containing, *similar])][:MAX_SUGGESTIONS]


def unknown_name_with_suggestions(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Error for a name that is not among `known`, with the closest names."""
    known = list(known)
    closest = closest_names(name, known) or known[:MAX_SUGGESTIONS]
    hint = f"nearest: {', '.join(closest)}" if closest else "there are none"
    return UserError(f"There is no {kind} named '{name}'; {hint}.")
