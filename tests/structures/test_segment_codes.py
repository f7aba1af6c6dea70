"""Codes of segments, against the dictionary of SNOMED CT codes in pydicom."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as known

from cphloc.errors import InputError
from cphloc.structures.segment_codes import CODES, code_of, parse_code
from cphloc.zoo.entries import list_entries


@pytest.mark.parametrize("name", CODES)
def test_value_and_meaning_of_each_code_are_those_of_snomed_ct(name):
    code = parse_code(CODES[name])
    listed = {(concept.value, concept.meaning) for concept in _concepts()}
    for scheme, value, meaning in (code.category, code.type, *code.modifiers):
        assert scheme == "SCT"
        assert (value, meaning) in listed


def _concepts():
    return [getattr(known.SCT, name) for name in known.SCT.dir()]


def test_a_side_is_a_modifier_wherever_it_stands():
    right = ("SCT", "24028007", "Right")
    for name in ("right kidney", "kidney_right", "Kidney (right)", "Right Kidneys"):
        code = code_of(name, {})
        assert code is not None
        assert (code.type[2], code.modifiers) == ("Kidney", (right,)), name
    assert code_of("left right kidney", {}) is None
    assert code_of("kidneys of a frog", {}) is None


def test_a_stated_code_counts_before_the_table():
    code = code_of("liver", {"liver": "SCT:49755003:Abnormal / 99X:1:My thing + SCT:7771000:Left"})
    assert code is not None
    assert (code.category[1], code.type, code.modifiers) == (
        "49755003",
        ("99X", "1", "My thing"),
        (("SCT", "7771000", "Left"),),
    )


@pytest.mark.parametrize("text", ["SCT:10200004", "liver", "SCT::Liver", "SCT:10200004:Liver + Left", ""])
def test_what_is_no_code_is_refused(text):
    with pytest.raises(InputError, match="is not SCHEME:VALUE:MEANING, such as"):
        parse_code(text)


def test_every_class_of_the_masks_of_published_entries_has_a_code():
    listed = list_entries(all_versions=True)
    masks = [one for one in listed if one.entry.task == "segmentation"]
    assert len(masks) >= 4
    for one in masks:
        for name in one.entry.classes.values():
            assert code_of(name, {}, one.entry.data.name) is not None, (one.entry, name)
