"""Results pages: they agree with the committed records, and the records with their commands."""

from __future__ import annotations

import importlib
import itertools
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from densevision.apps.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SCRIPTS = ROOT / "tools" / "reproduce"
# The scripts import a module beside them.
sys.path.insert(0, str(SCRIPTS))
results: Any = importlib.import_module("results")
comparisons: Any = importlib.import_module("comparisons")
sys.path.remove(str(SCRIPTS))

COMPARED = [run for one in comparisons.COMPARISONS for variant in one.variants for run in one.runs(variant)]
RECORDS = [*results.records().values(), *COMPARED]


@pytest.mark.parametrize("script", [results, comparisons], ids=lambda script: script.__name__)
def test_the_page_is_generated_from_the_records(script):
    written = (DOCS / f"{script.__name__}.md").read_text(encoding="utf-8")
    assert written == script.page(), f"run: python tools/reproduce/{script.__name__}.py write"


def test_every_record_belongs_to_a_command():
    runs = SCRIPTS / "runs"
    stored = {file.relative_to(runs).with_suffix("").as_posix() for file in runs.glob("*/*.json")}
    assert stored == {record.name for record in RECORDS} | {"backbone/speed"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_agrees_with_its_command(record):
    words, result = shlex.split(record.command), record.result()
    options: dict[str, Any] = dict(itertools.pairwise(words))
    assert options.get("--data", result["data"]) == result["data"]
    assert options.get("--backbone", result.get("backbone")) == result.get("backbone")
    assert options.get("--weights") == (result.get("weights") if words[1] == "train" else None)
    assert options.get("--protocol", result["protocol"]) == result["protocol"]
    if words[1] == "train":
        assert words[2] == result["task"]
        assert int(options.get("--steps", result["steps"])) == result["steps"]


@pytest.mark.parametrize(
    "record", [record for record in RECORDS if record.command.startswith("densevision")], ids=lambda record: record.name
)
def test_the_command_of_a_record_parses(record):
    app.parse_args(shlex.split(record.command)[1:], exit_on_error=False, print_error=False)


def test_the_seeds_of_a_comparison_are_separate_trainings():
    # Scores are compared: files of one training that was stored twice would differ in their seconds.
    scores = [tuple(sorted(record.result()["metrics"].items())) for record in COMPARED]
    assert len(set(scores)) == len(scores)


def test_variants_are_distinguished_only_where_their_seeds_do_not_overlap(monkeypatch):
    seeds = {"a": [0.1, 0.2, 0.3], "b": [0.25, 0.3, 0.4], "c": [0.31, 0.4, 0.5]}
    score = comparisons.Score("abs_rel", "abs_rel")
    comparison = comparisons.Comparison("x", "", "", "", dict.fromkeys(seeds, ""), (score,))
    monkeypatch.setattr(comparisons.Comparison, "values", lambda self, variant, score: seeds[variant])
    expected = "- abs_rel: best mean a, **0.200** (0.100–0.300); no overlap with c."
    assert list(comparisons.conclusions(comparison)) == [expected]


@pytest.mark.parametrize(("value", "missing"), [(0.72, 0.0), (0.68, 0.02)])
def test_a_gain_is_measured_from_the_baseline(value, missing):
    target = results.Target("0.05 above the baseline", 0.05, at_least=True, gain=True)
    assert max(0.0, target.missing(value, 0.65)) == pytest.approx(missing)
