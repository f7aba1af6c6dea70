"""Folders as hospitals export them: which series is read, and what was left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from synthetic_dicom import image, write_series

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError

SIX = np.arange(6 * 4 * 4, dtype=np.int16).reshape(6, 4, 4)


def without_suffix(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(""))


def test_a_disc_with_readme_viewer_previews_and_dicomdir_is_its_series(tmp_path):
    write_series(tmp_path / "DATA" / "ST0" / "SE0", SIX)
    without_suffix(tmp_path / "DATA" / "ST0" / "SE0")
    (tmp_path / "README").write_text("This disc holds images.")
    (tmp_path / "VIEWER.EXE").write_bytes(b"MZ")
    (tmp_path / "AUTORUN.INF").write_bytes(b"")
    (tmp_path / "DATA" / "ST0" / "SE0" / "0001.jpg").write_bytes(b"\xff\xd8")
    image(SIX[0], "RTSTRUCT", Rows=None, PixelData=None).save_as(tmp_path / "RS.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array[0], SIX)
    (note,) = volume.notes
    assert note.startswith(f"{tmp_path}: left out 4 files not DICOM (AUTORUN.INF, 0001.jpg, README, VIEWER.EXE)")
    assert note.endswith("1 x RTSTRUCT, not an image")


def test_old_files_without_preamble_and_suffix_are_found(tmp_path):
    for path in write_series(tmp_path, SIX):
        content = path.read_bytes()[132:]
        path.unlink()
        path.with_suffix("").write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path).array[0], SIX)


def test_a_scout_and_a_dose_report_are_left_out(tmp_path):
    write_series(tmp_path / "a", SIX, series="1.2.1")
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "scout"}
    image(SIX[0], series="1.2.2", **scout).save_as(tmp_path / "scout.dcm")
    image(SIX[0], series="1.2.3", SOPClassUID=SecondaryCaptureImageStorage).save_as(tmp_path / "dose.dcm")
    volume = read_volume(tmp_path)
    assert volume.geometry.shape == (6, 4, 4)
    assert "series 1.2.2 (CT, 'scout', 1 file)" in volume.notes[0]
    assert "series 1.2.3" in volume.notes[0]
    assert read_volume(f"{tmp_path}#1.2.3").geometry.shape == (4, 4)
    write_series(tmp_path / "b", SIX, series="1.2.4")
    with pytest.raises(DataError, match=r"contains 4 series; choose one as '.*#UID' or series=UID: 1\.2\.1"):
        read_volume(tmp_path)


def test_a_scout_within_the_series_is_left_out(tmp_path):
    kinds = [["ORIGINAL", "PRIMARY", "AXIAL"]] * 6
    write_series(tmp_path, SIX, ImageType=kinds)
    image(
        np.zeros((9, 9), np.int16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.2.3.4"
    ).save_as(tmp_path / "scout.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array[0], SIX)
    assert "1 scout of the same series (scout.dcm)" in volume.notes[0]


@pytest.mark.parametrize("suffix", ["", ".dcm"])
@pytest.mark.parametrize("content", [b"", b"not an image"], ids=["empty", "damaged"])
def test_a_damaged_slice_is_never_left_out(tmp_path, suffix, content):
    last = write_series(tmp_path, SIX)[-1]
    if not suffix:
        without_suffix(tmp_path)
        last = last.with_suffix("")
    last.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{last}: "):
        read_volume(tmp_path)


@pytest.mark.parametrize("modality", ["RTDOSE", "SEG"])
def test_a_file_of_another_kind_is_not_read_as_an_image(tmp_path, modality):
    image(SIX[0], modality, PixelSpacing=[1, 1]).save_as(tmp_path / "a.dcm")
    with pytest.raises(DataError, match=f"is a DICOM {modality}, not an image; pass the file or folder"):
        read_volume(tmp_path / "a.dcm")


def test_a_folder_name_with_a_hash_is_no_series(tmp_path):
    write_series(tmp_path / "study #12" / "ct", SIX, series="1.2.1")
    write_series(tmp_path / "study #12" / "pet", SIX + 1, series="1.2.2")
    assert read_volume(tmp_path / "study #12" / "ct").geometry.shape == (6, 4, 4)
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/study #12#1.2.2").array[0], SIX + 1)
