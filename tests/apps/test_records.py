"""`predict --format`: records on the standard output, and in one file for all inputs."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from densevision.apps.predict import RunSummary, in_order
from densevision.apps.records import format_records
from densevision.datasets.pose.skeletons import LSP
from densevision.tasks.pose.pose_prediction import PeoplePrediction, PosePrediction

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_json_of_a_folder_is_all_that_is_printed_and_is_written_too(run, tmp_path, image):
    for name in ("b.png", "a.png"):
        image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "cut.png").write_text("no image")
    for _ in range(2):  # the second time, from the records of the first
        result = run("predict", "classification", "photos", "--format", "json", *ON_CPU)
        assert result.code == 1 and "2 of 3 image(s) predicted" in result.err
        records = json.loads(result.out)
        assert records == json.loads((tmp_path / "predictions" / "predictions.json").read_text())
        assert [record["input"] for record in records] == ["photos/a.png", "photos/b.png"]
        written = json.loads((tmp_path / "predictions" / "a_classes.json").read_text())
        assert {each["label"]: each["probability"] for each in records[0]["top"]} == written
        assert records[0]["label"] == next(iter(written))
        assert all((tmp_path / file).is_file() for record in records for file in record["files"])


def test_csv_has_a_row_for_every_input_and_columns_for_its_values(run, tmp_path, checkpoint, image):
    result = run("predict", checkpoint, image(tmp_path / "a.png"), "--format", "csv", "--out", "out", *ON_CPU)
    (row,) = csv.DictReader(io.StringIO(result.out))
    assert row["input"].endswith("a.png") and row["files.1"] == "out/a_depth.npy"
    assert result.out == (tmp_path / "out" / "predictions.csv").read_text()


def test_a_folder_without_a_prediction_is_an_empty_array(run, tmp_path, checkpoint):
    (tmp_path / "cut.png").write_text("no image")
    result = run("predict", checkpoint, "cut.png", "--format", "json", *ON_CPU)
    assert (result.code, json.loads(result.out)) == (1, [])


def test_joints_are_columns_and_what_is_not_finite_is_empty():
    joints = np.column_stack([np.arange(14), np.arange(14) + 0.5, np.full(14, 0.25)]).astype(np.float32)
    joints[0, 0] = math.nan
    pose = PosePrediction(joints, LSP)
    records = [{"input": "a", **pose.record()}, {"input": "b", **PeoplePrediction((pose, pose), joints, 1).record()}]
    first, second = csv.DictReader(io.StringIO(format_records(records, "csv")))
    name = LSP.names[1]
    assert (first[f"joints.{name}.x"], first[f"joints.{name}.y"]) == ("1.0", "1.5")
    assert first[f"joints.{LSP.names[0]}.x"] == "" and first["score"] == "0.25"
    assert second[f"people.2.joints.{name}.confidence"] == "0.25" and second["score"] == ""
    assert json.loads(format_records(records, "json"))[0]["joints"][LSP.names[0]]["x"] is None


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_records_of_several_processes_are_in_the_order_of_the_inputs(processes):
    summaries = [RunSummary() for _ in range(processes)]
    for number in range(5):
        record = None if number == 2 else {"input": number}
        summaries[number % processes].records[str(number)] = record
    assert [record["input"] for record in in_order(summaries)] == [0, 1, 3, 4]
