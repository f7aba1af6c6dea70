import numpy as np
import pytest
import yaml

from cphloc.cli import main
from cphloc.data.datasets.hippocampus import Hippocampus
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.plan import plan
from cphloc.data.survey import survey


def _phantom(size=(96, 96), **arguments):
    return PhantomCases(size, cases={"train": 24, "val": 0, "test": 0}, diameter_mm=(8, 16), **arguments)


def test_plans_the_published_patch_for_the_hippocampus():
    planned = plan(survey(Hippocampus("sample")), "hippocampus", {"root": "sample"})
    recipe = yaml.safe_load(planned.recipe)
    assert recipe["task"] == "segmentation"
    assert recipe["data"]["root"] == "sample"
    assert recipe["data"]["spacing_mm"] == [1, 1, 1]
    assert recipe["data"]["intensity"] == "zscore"
    assert recipe["model"]["heads"]["mask"]["classes"] == {1: "anterior", 2: "posterior"}
    assert planned.topology.pools == (3, 3, 3)
    assert "training cases of hippocampus." in planned.recipe


@pytest.mark.parametrize(
    ("annotated", "task"),
    [
        ({"mask": 1.0}, "segmentation"),
        ({"boxes": 0.9, "mask": 0.3}, "detection"),
        ({"boxes": 0.1}, "attention"),
    ],
)
def test_trains_with_the_rung_that_most_cases_have(annotated, task):
    planned = plan(survey(_phantom(annotated=annotated, objects=(3, 3), positive=1)), "phantom", {})
    recipe = yaml.safe_load(planned.recipe)
    assert recipe["task"] == task
    assert (recipe["data"].get("fit") == "whole") == (task == "attention")


def test_anchors_are_as_large_as_the_boxes():
    found = survey(_phantom((192, 192), objects=(6, 6), positive=1, annotated={"boxes": 1.0}, distractors=(0, 0)))
    recipe = yaml.safe_load(plan(found, "phantom", {}, voxels=2000).recipe)
    anchors = np.array(recipe["model"]["heads"]["boxes"]["anchors"])
    strides = recipe["model"]["backbone"]["strides"]
    assert anchors.shape == (len(strides) - 2, 3, 2)
    assert 6 <= anchors.min() <= anchors.max() <= 17
    assert (np.diff(np.log(anchors).sum(axis=2).ravel()) >= -0.05).all()


def test_sides_are_not_mirrored_and_ct_is_seen():
    recipe = yaml.safe_load(plan(survey(_phantom(sides=True)), "phantom", {"sides": True}).recipe)
    flip = next(block for block in recipe["data"]["augment"] if block["type"] == "Flip")
    assert flip["axes"] == [0]
    assert recipe["data"]["intensity"] == "ct"
    assert recipe["data"]["sides"] is True


def test_command_writes_a_recipe_once(tmp_path, capsys):
    out = tmp_path / "mine.yaml"
    assert main(["plan", "hippocampus", "--set", "root=sample", "--out", str(out)]) == 0
    assert yaml.safe_load(out.read_text())["data"]["root"] == "sample"
    assert main(["plan", "hippocampus", "--set", "root=sample", "--out", str(out)]) == 2
    assert f"{out}: exists" in capsys.readouterr().err
    assert main(["plan", str(tmp_path)]) == 2
    assert "is in no known layout" in capsys.readouterr().err
