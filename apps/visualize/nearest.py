"""The valid names nearest to one that is not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ...errors import UserError

OFFERED = 3


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """At most `OFFERED` names: those that have the word among theirs, shortest first, then those spelled alike."""
    plain = {one.casefold(): one for one in known}
    word = name.casefold().strip()
    holding = sorted((one for one in plain if word in re.split(r"[\s:.-]", one)), key=len)
    alike = difflib.get_close_matches(word, plain, n=OFFERED, cutoff=0.4)
    return [plain[one] for one in dict.fromkeys([*holding, *alike])][:OFFERED]


def no_such(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of many, with the nearest that are."""
    known = list(known)
    near = nearest(name, known) or known[:OFFERED]
    hint = f"nearest: {', '.join(near)}" if near else "there is none at all"
    return UserError(f"There is no {what} named '{name}'; {hint}.")
