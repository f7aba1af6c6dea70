from __future__ import annotations

import json

import numpy as np
import pytest

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError
from cphloc.inference.localization import Box, Localization
from cphloc.publishing.sample import differences, facts_of, read_expected, source_of, write_expected

EXPECTED = {"case": "a", "inputs": {"ct": "ct.nii.gz"}, "spacing_mm": None, "has_mask": True}


def result(dims=3, **parts):
    return Localization(read_volume(np.zeros((8,) * dims), spacing_mm=(1.0,) * dims), {1: "mass"}, **parts)


def box(score=0.9, low=2.0, high=6.0, dims=3, name="mass"):
    return Box(name, score, (low,) * dims + (high,) * dims, ())


def mask(dims, voxels):
    flat = np.zeros(8**dims, np.uint8)
    flat[:voxels] = 1
    return flat.reshape((8,) * dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["masks", "boxes", "attention", "probabilities"])
def test_a_result_agrees_with_itself_through_the_files(tmp_path, dims, kind):
    random = np.random.default_rng(0)
    values = {
        "masks": mask(dims, 20),
        "boxes": [box(dims=dims), box(0.1, dims=dims)],
        "attention": random.random((8,) * dims).astype(np.float32),
        "probabilities": {"mass": 0.7},
    }
    found = result(dims, **{kind: values[kind]})
    write_expected(tmp_path, "case", {"image": "image.nii.gz"}, None, found)
    stored = tmp_path / "expected_mask.npz"
    facts, expected = read_expected(tmp_path / "expected.json", stored if stored.exists() else None)
    assert (expected is not None) == (kind == "masks")
    assert differences(facts, expected, found) == []
    assert differences(facts, expected, result(dims)) != []


@pytest.mark.parametrize(("changed", "agrees"), [(0, True), (1, True), (3, False)])
def test_one_per_cent_of_the_mask_may_differ(changed, agrees):
    expected = result(masks=mask(3, 200))
    found = result(masks=mask(3, 200 + changed))
    assert (differences(facts_of(expected), expected.masks, found) == []) is agrees


def test_a_mask_of_background_alone_must_be_matched():
    expected = result(masks=mask(3, 0))
    assert differences(facts_of(expected), expected.masks, result(masks=mask(3, 0))) == []
    assert differences(facts_of(expected), expected.masks, result(masks=mask(3, 1))) != []


@pytest.mark.parametrize(
    ("boxes", "agrees"),
    [
        ([box()], True),
        ([box(0.91)], True),
        ([box(high=6.1)], True),
        ([box(), box(0.05, 0.0, 1.0)], True),
        ([box(0.8)], False),
        ([box(high=7.0)], False),
        ([box(name="other")], False),
        ([], False),
        ([box(), box(0.5, 0.0, 1.0)], False),
    ],
)
def test_boxes_agree_within_rounding(boxes, agrees):
    assert (differences(facts_of(result(boxes=[box()])), None, result(boxes=boxes)) == []) is agrees


@pytest.mark.parametrize(("value", "agrees"), [(0.7, True), (0.715, True), (0.75, False), (float("nan"), False)])
def test_probabilities_agree_within_rounding(value, agrees):
    facts = facts_of(result(probabilities={"mass": 0.7}))
    assert (differences(facts, None, result(probabilities={"mass": value})) == []) is agrees


def test_attention_elsewhere_is_noticed():
    attention = np.zeros((8, 8, 8), np.float32)
    attention[2, 2, 2] = 1
    facts = facts_of(result(attention=attention))
    assert differences(facts, None, result(attention=attention * 0.99)) == []
    assert differences(facts, None, result(attention=np.roll(attention, 2))) != []


def test_a_mask_file_with_objects_is_not_unpickled(tmp_path):
    (tmp_path / "expected.json").write_text(json.dumps(EXPECTED))
    np.savez(tmp_path / "expected_mask.npz", mask=np.array([{"code": 1}], dtype=object))
    with pytest.raises(DataError, match="sample cannot be read"):
        read_expected(tmp_path / "expected.json", tmp_path / "expected_mask.npz")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing_mm", "x"),
        ("inputs", ["ct"]),
        ("has_mask", None),
        ("probabilities", {"mass": "high"}),
        ("boxes", [{"name": "mass"}]),
        ("attention", [["x"]]),
    ],
)
def test_a_value_of_the_wrong_type_is_one_line(tmp_path, key, value):
    (tmp_path / "expected.json").write_text(json.dumps({**EXPECTED, key: value}))
    with pytest.raises(DataError, match=rf"expected\.json: {key}.* wrong type") as caught:
        read_expected(tmp_path / "expected.json", None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [{"mask": np.array(["a"])}, {"mask": np.zeros(2)}, {"mask": np.zeros(2, "i4,f4")}, {"other": np.zeros(2, int)}],
    ids=["texts", "fractions", "records", "none"],
)
def test_a_mask_of_something_else_is_one_line(tmp_path, arrays):
    (tmp_path / "expected.json").write_text(json.dumps(EXPECTED))
    np.savez(tmp_path / "expected_mask.npz", **arrays)
    with pytest.raises(DataError, match="sample cannot be read"):
        read_expected(tmp_path / "expected.json", tmp_path / "expected_mask.npz")


def test_a_file_that_the_sample_lacks_is_one_line(tmp_path):
    with pytest.raises(DataError, match="lacks the file"):
        source_of({"inputs": {"ct": "../../x"}}, {"ct.nii.gz": tmp_path})


def test_boxes_of_other_dimensions_differ():
    facts = facts_of(result(boxes=[box(dims=2)]))
    assert len(differences(facts, None, result(boxes=[box(dims=3)]))) == 2
