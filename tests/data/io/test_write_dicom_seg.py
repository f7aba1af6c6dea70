from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.color import CIELabColor
from synthetic_dicom import UPRIGHT, image, oblique, write_series

from cphloc import __version__
from cphloc.data.io.overlay import class_color
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom_seg import read_segments
from cphloc.data.io.write_dicom_seg import write_dicom_seg
from cphloc.errors import DataError, InputError
from cphloc.inference.localization import Localization
from cphloc.structures.segment_codes import code_of, parse_code

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


def tool(name: str) -> str:
    """Path of a program of another project; skips the test where it is missing, except in CI, which installs it."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is missing: .ci/run installs dicom3tools, the extra dev installs dcmqi")
    if found is None:
        pytest.skip(f"{name} is missing: apt install dicom3tools, pip install dcmqi")
    return found


CODED = {1: "left kidney", 2: "tumour", 3: "something"}


@pytest.fixture
def coded(series, tmp_path):
    """A SEG of three classes, one of them without a code, and its mask."""
    geometry = read_volume(series).geometry
    mask = np.zeros(geometry.shape, np.uint8)
    mask[1, 2:5, 3:9], mask[2:4, 6, 7], mask[4, 9:11, 1:4] = 1, 2, 3
    codes = {name: code for name in CODED.values() if (code := code_of(name, {})) is not None}
    write_dicom_seg(tmp_path / "seg.dcm", mask, geometry, series, CODED, "unet3d-ct", "1.0.0", codes=codes)
    return tmp_path / "seg.dcm", mask


def test_segments_state_code_side_colour_and_model(coded):
    written = pydicom.dcmread(coded[0])
    kidney, tumour, something = written.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodingSchemeDesignator, kind.CodeValue, kind.CodeMeaning) == ("SCT", "64033007", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert tumour.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert something.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99CPHLOC"
    for number, segment in enumerate(written.SegmentSequence, start=1):
        color = CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        expected = tuple(int(class_color(number)[k : k + 2], 16) for k in (1, 3, 5))
        np.testing.assert_allclose(color, expected, atol=2)
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("unet3d-ct", "1.0.0")
        assert f"cphloc={__version__}" in str(algorithm.AlgorithmParameters).replace(" ", "")
    assert written.SeriesDescription == "Segmentation by unet3d-ct 1.0.0"


def test_the_validator_of_dicom3tools_finds_no_error(coded):
    done = subprocess.run([tool("dciodvfy"), "-new", coded[0]], capture_output=True, text=True)
    assert "Segmentation" in done.stdout + done.stderr
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


def test_dcmqi_reads_each_segment_where_the_mask_is(coded, series, tmp_path):
    """Positions in the patient, because dcmqi may store its images with other axes."""
    path, mask = coded
    out = tmp_path / "dcmqi"
    out.mkdir()
    reader = tool("segimage2itkimage")
    how = ["--inputDICOM", path, "--outputDirectory", out, "--outputType", "nrrd", "--prefix", "s"]
    subprocess.run([reader, *how], check=True, capture_output=True)
    meta = json.loads((out / "s-meta.json").read_text())
    about = [segment for group in meta["segmentAttributes"] for segment in group]
    assert {s["SegmentLabel"] for s in about} == set(CODED.values())
    geometry = read_volume(series).geometry
    for number in CODED:
        image = sitk.ReadImage(str(out / f"s-{number}.nrrd"))
        inside = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1].tolist()
        places = np.array([image.TransformIndexToPhysicalPoint(index) for index in inside])
        voxels = np.rint(geometry.world_to_edges(places) - 0.5).astype(int)
        np.testing.assert_allclose(geometry.edges_to_world(voxels + 0.5), places, atol=1e-3)
        found = np.zeros_like(mask, bool)
        found[tuple(voxels.T)] = True
        np.testing.assert_array_equal(found, mask == number)


def test_a_result_says_which_classes_have_no_code(series, tmp_path):
    volume = read_volume(series)
    codes = {"liver": parse_code("SCT:10200004:Liver")}
    mask = np.ones(volume.geometry.shape, np.uint8)
    result = Localization(volume, CLASSES, masks=mask, case="p1", model=("unet3d-ct", "1.2.0"), codes=codes)
    result.save(tmp_path / "out")
    (note,) = json.loads((tmp_path / "out" / "p1_result.json").read_text())["notes"]
    assert note.startswith("p1_seg.dcm: no SNOMED CT code is known for tumour; state it as `code` of the class")
    written = pydicom.dcmread(tmp_path / "out" / "p1_seg.dcm")
    assert written.SeriesDescription == "Segmentation by unet3d-ct 1.2.0"
