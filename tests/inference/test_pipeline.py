"""Pipelines: crops in the patient's millimetres, conditions, and results on the grid of the image."""

from __future__ import annotations

import json

import numpy as np
import pytest
from brightness_model import SHAPE, SPACING
from staged import BOXES, LABELS, MASK, Finds, pipeline

from cphloc.errors import DataError, InputError
from cphloc.inference.ensemble import Ensemble

CROP = {"stage": "find", "margin_mm": 2.0}


def scan(dims: int) -> np.ndarray:
    """Background 0.1, a bright object, and a dim one in the far corner."""
    array = np.full(SHAPE[dims], 0.1, np.float32)
    array[(slice(4, 8),) * dims] = 1.0
    array[(slice(-2, None),) * dims] = 0.4
    return array


def two_stages(dims: int, above: float = 0.3, **crop):
    """Finds the bright object, then what is brighter than ``above`` in the crop around it."""
    return pipeline(dims, {"find": (Finds(BOXES), {}), "outline": (Finds(MASK, above=above), {"crop": CROP | crop})})


@pytest.mark.parametrize("dims", [2, 3])
def test_the_last_stage_sees_the_crop_with_its_margin_in_mm_and_answers_on_the_image(dims):
    result = two_stages(dims).predict(scan(dims), SPACING[dims])
    find, outline = result.stages
    margin = [int(np.ceil(2.0 / s)) for s in SPACING[dims]]
    assert outline.start == tuple(4 - m for m in margin)
    assert outline.shape == tuple(4 + 2 * m for m in margin)
    assert (find.ran, find.shape) == (True, SHAPE[dims])
    expected = np.zeros(SHAPE[dims], np.uint8)  # the dim object is outside of the crop
    expected[(slice(4, 8),) * dims] = 1
    assert np.array_equal(result.masks, expected)
    whole = pipeline(dims, {"outline": (Finds(MASK, above=0.3), {})}).predict(scan(dims), SPACING[dims])
    assert whole.masks[(-1,) * dims] == 1
    assert json.loads(json.dumps(result.summary()))["stages"][1]["start"] == list(outline.start)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_storage_order_of_the_voxels_changes_nothing(dims, tmp_path):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(scan(dims))
    image.SetSpacing(SPACING[dims][::-1])
    turn = np.deg2rad(20)
    oblique = np.eye(dims)
    oblique[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    image.SetDirection(oblique.ravel().tolist())
    flipped = sitk.Flip(image, [True] * dims)
    permuted = sitk.PermuteAxes(flipped, list(range(dims))[::-1])
    masks = []
    for number, stored in enumerate((image, flipped, permuted)):
        sitk.WriteImage(stored, str(tmp_path / f"{number}.mha"))
        result = two_stages(dims).predict(tmp_path / f"{number}.mha")
        mask = sitk.GetImageFromArray(result.masks)
        mask.CopyInformation(stored)
        masks.append(sitk.GetArrayFromImage(sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor)))
        sizes = zip(np.round(result.image.geometry.spacing_mm, 6), result.stages[1].shape, strict=True)
        assert sorted(sizes) == sorted((s, 4 + 2 * int(np.ceil(2.0 / s))) for s in SPACING[dims])
    assert masks[0].any()
    assert all(np.array_equal(masks[0], other) for other in masks[1:])


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_of_the_last_stage_are_in_voxels_of_the_image(dims):
    stages = {"find": (Finds(MASK), {}), "box": (Finds(BOXES), {"crop": CROP})}
    result = pipeline(dims, stages).predict(scan(dims), SPACING[dims])
    assert result.boxes[0].voxels == pytest.approx([4.0] * dims + [8.0] * dims)
    direct = pipeline(dims, {"box": (Finds(BOXES), {})}).predict(scan(dims), SPACING[dims])
    assert result.boxes[0].mm == pytest.approx(direct.boxes[0].mm)


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_and_probabilities_of_earlier_stages_are_kept(dims):
    stages = {"screen": (Finds(LABELS), {}), "find": (Finds(BOXES), {}), "outline": (Finds(MASK), {"crop": CROP})}
    result = pipeline(dims, stages).predict(scan(dims), SPACING[dims])
    assert result.probabilities == {"bright": 1.0}
    assert [box.name for box in result.boxes] == ["bright"]


@pytest.mark.parametrize(
    ("missing", "ran", "remark"), [("whole", True, "sees the whole image"), ("empty", False, "does not run")]
)
@pytest.mark.parametrize("dims", [2, 3])
def test_where_nothing_is_found_the_recipe_decides_and_the_result_states_it(dims, missing, ran, remark):
    image = np.where(scan(dims) > 0.5, np.float32(0.4), scan(dims))
    result = two_stages(dims, missing=missing).predict(image, SPACING[dims])
    assert result.stages[1].ran is ran
    assert result.stages[1].missed
    assert f"'find' found nothing, so it {remark}" == result.stages[1].why
    assert result.masks.any() == ran
    assert result.masks.shape == image.shape


@pytest.mark.parametrize("dims", [2, 3])
def test_a_stage_runs_only_where_the_probability_reaches_its_condition(dims):
    when = {"stage": "screen", "label": "bright", "at_least": 0.5}
    stages = {
        "screen": (Finds(LABELS), {}),
        "find": (Finds(BOXES), {"when": when}),
        "outline": (Finds(MASK), {"crop": CROP}),
    }
    built = pipeline(dims, stages)
    assert [stage.ran for stage in built.predict(scan(dims), SPACING[dims]).stages] == [True, True, True]
    result = built.predict(np.full(SHAPE[dims], 0.1, np.float32), SPACING[dims])
    assert [stage.ran for stage in result.stages] == [True, False, False]
    assert result.stages[1].why == "the probability of bright is 0.000, less than 0.5"
    assert result.stages[2].why == "'find' did not run"
    assert not result.masks.any()
    assert result.probabilities == {"bright": 0.0}


@pytest.mark.parametrize(("more", "found"), [({}, True), ({"score": 0.9}, False), ({"score": 0.7}, True)])
def test_only_boxes_that_reach_the_score_are_enclosed(more, found):
    result = two_stages(2, **more).predict(scan(2), SPACING[2])
    assert result.stages[1].missed is not found


def test_a_crop_has_its_smallest_extent_and_stays_inside_the_image():
    result = two_stages(2, margin_mm=0.0, at_least_mm=16.0).predict(scan(2), SPACING[2])
    assert (result.stages[1].start, result.stages[1].shape) == ((2, 0), (8, 14))  # 16 mm are 8 and 16 voxels


def test_a_margin_without_voxel_size_is_in_pixels_and_the_result_states_it():
    result = two_stages(2).predict(scan(2))
    assert result.stages[1].shape == (8, 8)
    assert "outline: the image has no voxel size, so the margin is 2 pixels" in result.warnings
    with pytest.raises(DataError, match="the margin is 2 pixels"):
        two_stages(2).predict(scan(2), strict=True)


def test_uncertainty_and_lists_of_images():
    built = two_stages(2)
    first, second = built.predict([scan(2), scan(2)], SPACING[2], uncertainty=True)
    assert first.uncertainty.shape == first.masks.shape == SHAPE[2]
    assert np.array_equal(first.masks, second.masks)


def test_a_pipeline_is_neither_averaged_nor_called_on_tensors():
    import torch

    built = two_stages(2)
    with pytest.raises(InputError, match="is a pipeline, which cannot be averaged"):
        Ensemble([built, built]).predict(scan(2), SPACING[2])
    with pytest.raises(InputError, match="no outputs of its own; use one of its stages: find, outline"):
        built(torch.zeros(1, 1, 8, 8))


def test_its_representation_lists_the_stages():
    text = repr(two_stages(2))
    assert "find@1.0.0" in text
    assert "on what of find with 2 mm around" in text
