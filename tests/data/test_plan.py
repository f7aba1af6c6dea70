import json

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from cphloc.cli import main
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.plan import plan
from cphloc.data.survey import survey
from cphloc.errors import RecipeError
from cphloc.recipe import load
from cphloc.wiring import check


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


def nnunet_folder(root, dims):
    """Four cases of two channels in the layout of nnU-Net."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    shape = {2: (40, 36), 3: (20, 40, 36)}[dims]
    mask = np.zeros(shape, np.uint8)
    mask[..., 10:20, 10:20], mask[..., 24:30, 24:30] = 1, 2
    files = {f"labelsTr/case_{i}.nii.gz": mask for i in range(4)}
    files |= {f"imagesTr/case_{i}_{c:04d}.nii.gz": mask.astype(np.float32) for i in range(4) for c in range(2)}
    for name, array in files.items():
        sitk.WriteImage(sitk.GetImageFromArray(array), str(root / name))
    facts = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


@pytest.mark.parametrize("dims", [2, 3])
def test_a_planned_recipe_of_your_own_data_passes_every_check(tmp_path, dims):
    out = tmp_path / "mine.yaml"
    folder = nnunet_folder(tmp_path / "scans", dims)
    assert main(["plan", str(folder), "--dims", str(dims), "--out", str(out)]) == 0
    recipe = load(out)
    assert (recipe.channels, recipe.dims) == (("ct", "pet"), dims)
    assert check(recipe) == []
    out.write_text("".join(line for line in out.open() if not line.startswith("  channels:")))
    with pytest.raises(RecipeError, match=r"data.channels: how many channels .* write channels: \[...\]"):
        load(out)


def test_a_folder_called_like_a_data_set_is_that_data_set(tmp_path):
    out = tmp_path / "mine.yaml"
    assert main(["plan", str(SAMPLE), "--out", str(out)]) == 0
    assert load(out).data.type == "hippocampus"
