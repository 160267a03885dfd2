"""Check of the vocabulary: words that `docs/glossary.md` replaces do not come back.

    python .ci/dialect.py [PATH ...]     tracked files below the paths, or all of them

Prints every line with a banned word and exits with 1 where there is one.
"""

import re
import sys

from tracked import tracked

BANNED = {
    r"(?<!süss)(?<!suess)trunks?": "backbone",
    r"pictures?|picturing": "image",
    r"photographs?": "image, or photo",
    r"answer(?:s|ed|er|ers|ing)?": "prediction, predict",
    r"asked|asking|asks?": "request, predict, run",
    r"told": "decoded, reported",
    r"shown": "preprocessed, displayed",
    r"settled?|settles|settling": "resolved, set",
    r"sought": "searched, box",
    r"sureness": "confidence",
    r"opponents?": "discriminator",
    r"judges?|judged|judging": "evaluator, discriminator, score",
    r"opinions?": "adversarial loss",
    r"mend(?:s|ed|ing)?": "fix",
    r"visitors?": "client, user",
    r"films?|filmed|filming": "video, record",
    r"lectures?": "the classic architectures",
    r"embedded worlds?|worlds?(?! size|'s Imagery)": "synthetic dataset (world size and DeepStereo are allowed)",
    r"(?<!ground )(?<!ground_)truths?": "ground truth",
    r"\w*colour\w*": "color",
    r"greys?|greyscale": "gray",
    r"centres?|centred|centring": "center",
    r"(?<![\"'`])licences?(?![\"'`])": "license (the key of weights files is allowed in quotes)",
    r"neighbours?|neighbouring": "neighbor",
    r"metres?|millimetres?|centimetres?": "meter",
    r"(?<!vgg19 )(?<!vgg )\w*normalis\w*|initialis\w*|optimis\w*|visualis\w*|behaviours?": "American spelling",
    r"houses?|housed": "(remove)",
    r"catalogues?": "registry, list",
    r"blueprints?": "model spec",
    r"probes?|probed|probing": "target, objective",
    r"miniatures?": "example",
    r"trivial answers?": "baseline",
}
"""Pattern of whole words (an underscore separates words too) to what takes its place."""

ALLOWED = (
    ".ci/dialect.py",
    "tasks/renamed.py",
    "tools/convert_runs.py",
    "tests/test_dialect.py",
    "tests/tasks/test_conversion.py",
)
"""Files with old words by purpose: this list, the table of old names, and their tests."""

CHECKED = (".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", ".html")


PATTERN = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(BANNED)})(?![a-z])", re.IGNORECASE)


def banned_words(line: str) -> list[str]:
    """The banned words of a line; words in snake_case count."""
    return [match[0] for match in PATTERN.finditer(line.replace("_", " "))]


def main(paths: list[str]) -> int:
    found = 0
    for path in tracked():
        name = path.as_posix()
        inside = not paths or any(name == given or name.startswith(given.rstrip("/") + "/") for given in paths)
        if path.suffix not in CHECKED or not inside or name in ALLOWED:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for word in banned_words(line):
                found += 1
                print(f"{name}:{number}: '{word}': {line.strip()[:140]}")
    return found


if __name__ == "__main__":
    count = main(sys.argv[1:])
    if count:
        sys.exit(f"{count} banned word(s); docs/glossary.md has the words to use.")
    print("No banned word.")
