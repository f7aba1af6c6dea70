"""Recipes of pipelines: every problem of their stages at once, at its place in the file."""

from __future__ import annotations

import pytest

from cphloc.errors import RecipeError
from cphloc.recipe.recipe import load
from cphloc.zoo.starting import load_recipe

GOOD = """\
task: pipeline
dims: 3
data: {type: sts_petct}
stages:
  find: {entry: retina3d-petct@0.2.0}
  outline: {entry: unet3d-sarcoma-ct@0.1.0, crop: {stage: find}}
"""


def report(tmp_path, text: str) -> list[str]:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    try:
        load_recipe(path)
    except RecipeError as error:
        return [str(problem).removeprefix(f"{path}:") for problem in error.problems]
    return []


def test_a_good_pipeline_holds_all_that_its_entries_state(tmp_path):
    assert report(tmp_path, GOOD) == []
    recipe = load_recipe(tmp_path / "recipe.yaml")
    find = recipe.stages["find"].frozen
    assert (find.entry, find.inputs["pet"].unit) == ("retina3d-petct@0.2.0", "SUV")
    assert recipe.stage_recipes["find"].model.heads["boxes"].type == "retina"
    assert (recipe.last.task, recipe.headline) == ("segmentation", "dice")
    plain = recipe.to_plain()
    assert not {"model", "train", "from"} & set(plain)
    assert load(plain).to_yaml() == recipe.to_yaml()  # without a zoo


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dims: 3", "dims: 2", "5:17: stages.find.entry: the entry is 3-D in a pipeline with dims: 2"),
        ("find: {entry: retina3d-petct@0.2.0}", "find: {entry: retina3d-petct@9}", "has no version '9'"),
        ("crop: {stage: find}", "crop: {stage: outline}", "6:59: stages.outline.crop.stage: 'outline' does not run"),
        ("crop: {stage: find}", "crop: {stage: fnd}", "no stage 'fnd'; did you mean 'find'?"),
        (
            "crop: {stage: find}",
            "crop: {stage: find, classes: [tumor]}",
            "no class 'tumor'; did you mean 'tumour'?",
        ),
        ("crop: {stage: find}", "when: {stage: find, label: tumour}", "'find' predicts boxes, not labels"),
        ("crop: {stage: find}", "crop: {stage: find, margin: 3}", "unknown key 'margin'; did you mean 'margin_mm'?"),
        (
            "{type: sts_petct}",
            "{type: sts_petct, channels: [ct]}",
            "'pet', which the data do not have",
        ),
        (
            "{type: sts_petct}",
            "{type: sts_petct, units: {pet: SUV}}",
            "takes 'pet' in SUV x 100, and the data",
        ),
        ("{type: sts_petct}", "{type: sts_petct, patch: [8, 8, 8]}", "3:25: data.patch: of a pipeline"),
        ("dims: 3", "dims: 3\ntrain: {steps: 3}", "3:1: train: of a pipeline"),
        ("  outline", "  Outline", "6:3: stages.Outline: the stage name 'Outline'"),
        ("task: pipeline", "task: segmentation", "stages: stages of another task; write 'task: pipeline'"),
        (
            "unet3d-sarcoma-ct@0.1.0",
            "unet2d-breast-ultrasound@1.0.0",
            "1 lesion, which are no classes of the data",
        ),
    ],
)
def test_a_broken_pipeline_is_refused_at_its_place(tmp_path, old, new, expected):
    assert old in GOOD
    found = report(tmp_path, GOOD.replace(old, new))
    assert any(expected in line for line in found), found


def test_stages_that_wait_for_each_other_and_a_pipeline_without_any_are_refused(tmp_path):
    circle = GOOD.replace("{entry: retina3d-petct@0.2.0}", "{entry: retina3d-petct@0.2.0, crop: {stage: outline}}")
    assert any("'outline' does not run before 'find'" in line for line in report(tmp_path, circle))
    none = GOOD.partition("stages:")[0]
    assert any("a pipeline without stages" in line for line in report(tmp_path, none))


def test_all_problems_are_reported_at_once(tmp_path):
    text = GOOD.replace("dims: 3", "dims: 2").replace("stage: find", "stage: nothing")
    assert len(report(tmp_path, text)) >= 4
