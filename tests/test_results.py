"""The pages of results and the files that they stand on agree."""

from __future__ import annotations

import importlib
import itertools
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from densevision.apps.cli import app

DOCS = Path(__file__).resolve().parent.parent / "docs"
# A script finds its neighbours beside itself.
sys.path.insert(0, str(DOCS))
results: Any = importlib.import_module("results")
comparisons: Any = importlib.import_module("comparisons")
sys.path.remove(str(DOCS))

COMPARED = [run for one in comparisons.COMPARISONS for variant in one.variants for run in one.runs(variant)]
KEPT = [*results.kept().values(), *COMPARED]


@pytest.mark.parametrize("script", [results, comparisons], ids=lambda script: script.__name__)
def test_the_page_says_what_the_results_say(script):
    written = (DOCS / f"{script.__name__}.md").read_text(encoding="utf-8")
    assert written == script.page(), f"run: python docs/{script.__name__}.py write"


def test_no_result_lies_there_without_its_command():
    lying = {str(file.relative_to(DOCS / "results").with_suffix("")) for file in DOCS.glob("results/*/*.json")}
    assert lying == {one.name for one in KEPT} | {"trunk/speed"}


@pytest.mark.parametrize("one", KEPT, ids=lambda one: one.name)
def test_a_result_is_of_what_its_command_names(one):
    words, result = shlex.split(one.command), one.result()
    given: dict[str, Any] = dict(itertools.pairwise(words))
    assert given.get("--data", result["data"]) == result["data"]
    assert given.get("--backbone", result.get("backbone")) == result.get("backbone")
    assert given.get("--weights") == (result.get("weights") if words[1] == "train" else None)
    if words[1] == "train":
        assert words[2] == result["task"]
        assert int(given.get("--steps", result["steps"])) == result["steps"]


@pytest.mark.parametrize(
    "one", [one for one in KEPT if one.command.startswith("densevision")], ids=lambda one: one.name
)
def test_a_results_command_parses(one):
    app.parse_args(shlex.split(one.command)[1:], exit_on_error=False, print_error=False)


def test_the_seeds_of_a_comparison_are_trainings_of_their_own():
    # Of the scores: the files differ by their seconds alone, even where one training was kept twice.
    scores = [tuple(sorted(one.result()["metrics"].items())) for one in COMPARED]
    assert len(set(scores)) == len(scores)


def test_one_is_said_to_be_ahead_only_where_no_seeds_overlap(monkeypatch):
    seeds = {"a": [0.1, 0.2, 0.3], "b": [0.25, 0.3, 0.4], "c": [0.31, 0.4, 0.5]}
    score = comparisons.Score("abs_rel", "abs_rel")
    comparison = comparisons.Comparison("x", "", "", "", dict.fromkeys(seeds, ""), (score,))
    monkeypatch.setattr(comparisons.Comparison, "values", lambda self, variant, score: seeds[variant])
    assert list(comparisons.conclusions(comparison)) == ["abs_rel: a is ahead of c."]
