from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from synthetic_dicom import UPRIGHT, image, oblique, write_series

from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom_seg import read_segments
from cphloc.data.io.write_dicom_seg import write_dicom_seg
from cphloc.errors import DataError, InputError
from cphloc.inference.localization import Localization

CLASSES = {1: "liver", 4: "tumour"}
FLIPPED = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(params=[UPRIGHT, oblique()], ids=["axial", "oblique"])
def series(request, tmp_path):
    write_series(tmp_path / "ct", np.zeros((5, 12, 16), np.int16), orientation=request.param)
    return tmp_path / "ct"


def test_segments_lie_where_the_mask_is(series, tmp_path):
    import highdicom

    geometry = read_volume(series).geometry
    mask = np.zeros(geometry.shape, np.uint8)
    mask[1, 2:5, 3:9] = 1
    mask[3, 6, 7] = 4
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CLASSES, "unet3d-ct", "1.0.0")
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [s.SegmentLabel for s in written.SegmentSequence] == ["liver", "tumour"]
    assert len(list(tmp_path.glob("*.dcm"))) == 1
    found = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume()
    for number, value in enumerate(CLASSES):
        segment = found.array[..., number]
        assert segment.sum() == (mask == value).sum()
        for index in (np.argwhere(segment).min(0), np.argwhere(segment).max(0)):
            back = geometry.world_to_edges(found.map_indices_to_reference(index[None])[0]) - 0.5
            np.testing.assert_allclose(back, np.rint(back), atol=1e-3)
            assert mask[tuple(np.rint(back).astype(int))] == value
    frames = {
        int(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for f in written.PerFrameFunctionalGroupsSequence
    }
    assert frames == {1, 2}


def test_a_mask_on_another_grid_or_with_unnamed_classes_is_refused(series, tmp_path):
    geometry = read_volume(series).geometry
    mask = np.ones(geometry.shape, np.uint8)
    with pytest.raises(DataError, match="its grid differs"):
        write_dicom_seg(tmp_path / "seg.dcm", mask[:4], geometry.crop((0, 0, 0), (4, 12, 16)), series, CLASSES)
    with pytest.raises(InputError, match=r"classes \[7\] without a name"):
        write_dicom_seg(tmp_path / "seg.dcm", mask * 7, geometry, series, CLASSES)
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize("orientation", [UPRIGHT, oblique(), FLIPPED], ids=["axial", "oblique", "flipped"])
def test_a_seg_read_by_highdicom_lies_over_the_series_in_millimetres(tmp_path, orientation):
    import highdicom

    rng = np.random.default_rng(0)
    write_series(tmp_path / "ct", rng.integers(-1000, 1000, (7, 20, 24)).astype(np.int16), orientation=orientation)
    ct = read_volume(tmp_path / "ct")
    index = np.indices(ct.geometry.shape).astype(float)
    mask = ((index - np.array([3.0, 8.0, 14.0])[:, None, None, None]) ** 2).sum(0) < 9
    found = Localization(ct, {1: "lesion"}, masks=mask.astype(np.uint8), case="p1")
    (path,) = (p for p in found.save(tmp_path / "out") if p.suffix == ".dcm")
    segment = highdicom.seg.segread(path).get_volume(combine_segments=True)
    inside = segment.map_indices_to_reference(np.argwhere(segment.array))
    expected = ct.geometry.edges_to_world(np.argwhere(mask) + 0.5)
    np.testing.assert_allclose(inside.mean(axis=0), expected.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(inside.min(axis=0), expected.min(axis=0), atol=0.01)
    np.testing.assert_allclose(inside.max(axis=0), expected.max(axis=0), atol=0.01)
    assert len(inside) == mask.sum()


def test_a_single_mammogram_gets_a_seg_too(tmp_path):
    image(np.zeros((12, 16), np.uint16), "MG", ImagerPixelSpacing=[0.1, 0.1]).save_as(tmp_path / "mg.dcm")
    breast = read_volume(tmp_path / "mg.dcm")
    mask = np.zeros((12, 16), np.uint8)
    mask[2:5, 3:9] = 1
    write_dicom_seg(tmp_path / "mg_seg.dcm", mask, breast.geometry, tmp_path / "mg.dcm", {1: "mass"})
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "mg_seg.dcm").pixel_array, mask)
    np.testing.assert_array_equal(read_segments(tmp_path / "mg_seg.dcm", breast.geometry)["mass"], mask)
    plain = Localization(breast, {1: "mass"}, masks=mask, case="mg")
    assert "mg_seg.dcm" in {p.name for p in plain.save(tmp_path / "out")}
    plain = Localization(replace(breast, source="array"), {1: "mass"}, masks=mask, case="mg")
    assert not [p for p in plain.save(tmp_path / "again") if p.suffix == ".dcm"]


def test_an_input_that_cannot_carry_a_seg_keeps_its_mask_and_picture(tmp_path):
    write_series(tmp_path / "ct", np.zeros((3, 12, 16), np.int16), StudyInstanceUID=None)
    ct = read_volume(tmp_path / "ct")
    found = Localization(ct, {1: "lesion"}, masks=np.ones(ct.geometry.shape, np.uint8), case="p1")
    names = {path.name for path in found.save(tmp_path / "out")}
    assert names == {"p1_mask.nii.gz", "p1_overlay.png", "p1_result.json"} == {p.name for p in tmp_path.glob("out/*")}
    (note,) = json.loads((tmp_path / "out" / "p1_result.json").read_text())["notes"]
    assert re.match(r"no DICOM SEG: .*ct: cannot be the source of a DICOM SEG .*StudyInstanceUID.*; write the", note)
