from __future__ import annotations

import numpy as np
import pydicom
import pytest
from synthetic_dicom import UPRIGHT, oblique, write_series

from cphloc.data.read import read_volume
from cphloc.data.write_dicom_seg import write_dicom_seg
from cphloc.errors import DataError, InputError

CLASSES = {1: "liver", 4: "tumour"}


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
