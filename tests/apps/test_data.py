"""`densevision data`: valid and damaged dataset folders, and examples."""

from __future__ import annotations

import shutil


def test_an_example_is_valid_and_damage_is_listed_with_exit_code_1(run, scenes, tmp_path):
    result = run("data", "validate", "seven-scenes", scenes)
    assert (result.code, result.out) == (0, "seven-scenes: no problems.\n")
    shutil.copytree(scenes, tmp_path / "damaged")
    first, second = sorted((tmp_path / "damaged").rglob("*.color.png"))[:2]
    first.write_bytes(first.read_bytes()[:100])
    second.unlink()
    result = run("data", "validate", "seven-scenes", tmp_path / "damaged")
    assert result.code == 1
    assert str(first.name) in result.out and str(second.name) in result.out
    assert result.out.splitlines()[-1] == "seven-scenes: 2 problem(s)."


def test_a_synthetic_dataset_is_validated_by_name(run):
    assert run("data", "validate", "synthetic-rooms").out == "synthetic-rooms: no problems.\n"


def test_a_depth_map_of_another_shape_than_its_image_is_a_problem(run, tmp_path, image):
    assert run("data", "make-example", "depth-folders", tmp_path / "mine").code == 0
    odd = next((tmp_path / "mine" / "images").iterdir())
    image(odd, 10, 12)
    result = run("data", "validate", "depth-folders", tmp_path / "mine")
    assert result.code == 1
    assert odd.stem in result.out and "10" in result.out and "12" in result.out
