"""A relative ``data.root`` begins at the recipe that states it."""

from __future__ import annotations

import pytest

from cphloc.recipe.recipe import load

TEXT = """task: segmentation
dims: 3
data: {{type: image_folder, root: {root}, patch: [8, 8, 8]}}
model:
  backbone: {{type: conv_encoder, widths: [4, 8]}}
  heads: {{mask: {{type: unet, classes: {{1: object}}}}}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "project" / "scans").mkdir(parents=True)
    (tmp_path / "elsewhere" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "project" / "r.yaml"
    path.write_text(TEXT.format(root="scans"))
    return path


def test_root_is_relative_to_the_recipe(recipe, tmp_path):
    assert load(recipe).data.root == str(tmp_path / "project" / "scans")


def test_root_of_an_extended_recipe_is_relative_to_that(recipe, tmp_path):
    (tmp_path / "elsewhere" / "child.yaml").write_text(f"extends: {recipe}\ntrain: {{steps: 3}}\n")
    assert load("child.yaml").data.root == str(tmp_path / "project" / "scans")


def test_root_of_the_command_line_and_of_a_mapping_is_relative_to_the_working_folder(recipe):
    assert load(recipe, {"data.root": "other"}).data.root == "other"
    assert load(load(recipe).to_plain() | {}).data.root == load(recipe).data.root


def test_root_that_is_absolute_or_not_there_stays(recipe, tmp_path):
    for root in (str(tmp_path), "nowhere"):
        recipe.write_text(TEXT.format(root=root))
        assert load(recipe).data.root == root
