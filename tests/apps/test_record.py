"""What was answered is not answered again; what changed is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from densevision.apps.record import Record
from densevision.apps.sources import Question

ASKED: dict[str, Any] = {"weights": "abc", "flip": False}


@pytest.fixture
def question(tmp_path) -> Question:
    (tmp_path / "photo.jpg").write_text("a picture")
    return Question(lambda: [tmp_path / "photo.jpg"], "photo.jpg", Path("in/photo"), (tmp_path / "photo.jpg",))


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out" / "in").mkdir(parents=True)
    return tmp_path / "out"


def answered(out: Path, question: Question, asked: dict[str, Any] = ASKED, task: str = "depth", **of: int) -> Record:
    file = out / "in" / f"photo_{task}.npy"
    file.write_text(f"an answer to {asked}")
    record = Record(out, task, asked, **of)
    record.add(question, [file])
    return record


def test_an_answer_is_known_to_the_next_run_and_to_no_other_task(out, question):
    assert not Record(out, "depth", ASKED).holds(question)
    answered(out, question)
    assert Record(out, "depth", ASKED).holds(question)
    assert not Record(out, "flow", ASKED).holds(question)


def test_nothing_is_written_before_something_is_answered(out):
    Record(out, "depth", ASKED)
    Record(out / "not there", "depth", ASKED)
    assert list(out.glob("*.jsonl")) == [] and not (out / "not there").exists()


def test_another_checkpoint_or_option_makes_it_anew_and_counts_it(out, question):
    answered(out, question)
    other = Record(out, "depth", {**ASKED, "flip": True})
    assert not other.holds(question) and other.anew == 1
    answered(out, question, {**ASKED, "flip": True})
    # The first answer's file was written over: it is not there any more.
    assert not Record(out, "depth", ASKED).holds(question)
    assert Record(out, "depth", {**ASKED, "flip": True}).holds(question)


@pytest.mark.parametrize("what", ["picture", "time", "answer", "lost"])
def test_a_changed_picture_and_a_changed_or_lost_answer_are_answered_again(out, question, what):
    answered(out, question)
    picture, answer = question.files[0], out / "in" / "photo_depth.npy"
    if what == "picture":
        picture.write_text("another picture")
    elif what == "time":
        os.utime(picture, ns=(0, 10**18))
    elif what == "answer":
        answer.write_text("half an ans")
    else:
        answer.unlink()
    record = Record(out, "depth", ASKED)
    assert not record.holds(question) and record.anew == 0


def test_a_line_torn_by_a_crash_costs_its_answer_and_no_other(out, question, tmp_path):
    record = answered(out, question)
    whole = record.path.read_bytes()
    record.path.write_bytes(whole + whole.splitlines()[-1][:40])
    assert Record(out, "depth", ASKED).holds(question)
    second = Question(list, "b", Path("b"), ())
    Record(out, "depth", ASKED).add(second, [])
    assert Record(out, "depth", ASKED).holds(second)
    assert Record(out, "depth", ASKED).holds(question)


def test_processes_write_a_file_each_and_read_those_of_all(out, question):
    answered(out, question, rank=1, processes=2)
    assert [file.name for file in out.glob("*.jsonl")] == ["predictions-1.jsonl"]
    for rank, processes in ((0, 1), (0, 3)):
        assert Record(out, "depth", ASKED, rank, processes).holds(question)


def test_the_record_says_in_words_what_was_asked(out, question):
    path = answered(out, question).path
    header, line = (json.loads(text) for text in path.read_text().split("\n") if text)
    assert header["with"] == ASKED and header["asked"] == line["asked"]
    assert line["answer"] == "in/photo" and list(line["files"]) == ["in/photo_depth.npy"]
    assert list(line["inputs"]) == [str(question.files[0].resolve())]
