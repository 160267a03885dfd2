"""What a user can mend: one sentence that says what, where, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the caller can correct. The command line prints it as one line and exits with code 2."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a catalogue, with the nearest match.

    Args:
        what: what was named, for the sentence ("backbone", "task").
        name: what the caller wrote.
        known: every name that would have worked.
    """
    plain = {one.casefold(): one for one in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), plain, n=1, cutoff=0.4)
    hint = f"did you mean '{plain[close[0]]}'?" if close else f"known: {', '.join(plain.values()) or 'none'}."
    return UserError(f"There is no {what} named '{name}'; {hint}")
