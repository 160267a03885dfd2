"""The start of a training states how many problems of the data were passed over or repaired."""

from __future__ import annotations

from densevision.datasets.core.problems import Problem

from .toys import Relief, Reliefs, build_toy_trainer


def test_skipped_data_are_counted_in_a_note(tmp_path):
    data = Reliefs()
    assert not any("data validate" in note for note in build_toy_trainer(Relief(), tmp_path / "a", data).notes)
    data.skipped += [Problem("cat.tar", "an image", "another suffix"), Problem("a.json", "a box", "none")]
    (note,) = (note for note in build_toy_trainer(Relief(), tmp_path / "b", data).notes if "data validate" in note)
    assert note.startswith("Note: 2 problem(s) of the data were passed over or repaired")
