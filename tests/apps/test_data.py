"""`densevision data`: sound folders, damaged ones, and miniatures."""

from __future__ import annotations

import shutil


def test_a_miniature_is_sound_and_damage_is_listed_with_exit_code_1(run, scenes, tmp_path):
    said = run("data", "check", "seven-scenes", scenes)
    assert (said.code, said.out) == (0, "seven-scenes: sound.\n")
    shutil.copytree(scenes, tmp_path / "damaged")
    first, second = sorted((tmp_path / "damaged").rglob("*.color.png"))[:2]
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    said = run("data", "check", "seven-scenes", tmp_path / "damaged")
    assert said.code == 1
    assert str(first.name) in said.out and str(second.name) in said.out
    assert said.out.splitlines()[-1] == "seven-scenes: 2 problem(s)."


def test_a_world_is_checked_by_its_name_alone(run):
    assert run("data", "check", "rooms").out == "rooms: sound.\n"


def test_a_depth_map_of_another_shape_than_its_picture_is_refused_by_name(run, tmp_path, picture):
    assert run("data", "write-miniature", "depth-folders", tmp_path / "mine").code == 0
    odd = next((tmp_path / "mine" / "images").iterdir())
    picture(odd, 10, 12)
    said = run("data", "check", "depth-folders", tmp_path / "mine")
    assert said.code == 1
    assert odd.stem in said.out and "10" in said.out and "12" in said.out
