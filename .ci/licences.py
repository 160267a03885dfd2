"""Nothing in the environment is under a license that this package's users could not live with.

The rule is AGPL: none. A distribution that states nothing is named, so that somebody looks at it.
"""

import re
import sys
from collections import Counter
from importlib.metadata import Distribution, distributions

REFUSED = re.compile(r"AGPL|Affero", re.IGNORECASE)
LONGEST_NAME = 200
"""Characters. Some put whole texts into the field, and the GPL's own text speaks of Affero: texts are not searched."""


def stated(distribution: Distribution) -> str:
    """What a distribution's metadata says of its license, in short."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classified = [
        line.split(" :: ")[-1] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")
    ]
    free = " ".join((metadata.get("License") or "").split())
    named = [free] if free and len(free) <= LONGEST_NAME else [f"{free[:60]} ..."] if free and not classified else []
    return "; ".join(dict.fromkeys([*named, *classified]))


def main() -> None:
    found = {distribution.metadata["Name"]: stated(distribution) for distribution in distributions()}
    if refused := {name: license for name, license in found.items() if REFUSED.search(license)}:
        sys.exit("\n".join(f"{name}: {license}" for name, license in refused.items()))
    for license, count in Counter(found.values()).most_common():
        names = sorted(name for name, other in found.items() if other == license)
        print(f"{count:4} {license or 'NOT STATED'}: {', '.join(names)}")


if __name__ == "__main__":
    main()
