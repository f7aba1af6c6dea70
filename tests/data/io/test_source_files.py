"""Caches and fingerprints follow the content of every file that is read."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from synthetic_dicom import write_rtstruct, write_series

from cphloc.data.case import AnnotationSource, Case, read_case
from cphloc.data.fingerprint import content_hash
from cphloc.data.io.formats import split_series
from cphloc.data.io.source_files import content_digest, source_files
from cphloc.data.pipeline.cache import entry_key
from cphloc.errors import DataError


def set_back(path, content: bytes) -> None:
    """Replace a file by content of the same size, and keep its date."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_slice_replaced_by_an_older_one_of_the_same_size_decides_them_too(tmp_path):
    paths = write_series(tmp_path / "ct", np.zeros((4, 5, 6), np.int16), series="1.2.3")
    case = Case("a", "a", (tmp_path / "ct#1.2.3",))
    assert case.files == (tmp_path / "ct",)
    hashed, key = content_hash(case), entry_key(case, "")
    set_back(paths[2], paths[2].read_bytes()[:-1] + b"\x01")
    assert content_hash(case) != hashed
    assert entry_key(case, "") != key


def test_annotations_are_found_by_their_series_in_the_folder_of_the_image(tmp_path):
    write_series(tmp_path, np.zeros((4, 6, 6), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), series="1.2.1")
    square = [[(0.5, 0.5, k), (3.5, 0.5, k), (3.5, 3.5, k), (0.5, 3.5, k)] for k in (1.0, 2.0)]
    path = write_rtstruct(tmp_path / "contours.dcm", {"GTV": square}, frame="1.2.3.5")
    contours = dcmread(path)
    contours.SeriesInstanceUID = "1.2.9"
    contours.save_as(path)
    images, masks = (tmp_path.parent / f"{tmp_path.name}#{uid}" for uid in ("1.2.1", "1.2.9"))
    case = Case("a", "a", (images,), AnnotationSource(mask=masks, rois={"GTV": 1}))
    volume, annotation = read_case(case)
    assert volume.geometry.shape == (4, 6, 6)
    assert annotation.mask.sum() == 2 * 9
    assert content_hash(case)
    missing = AnnotationSource(mask=tmp_path.parent / f"{tmp_path.name}#1.2.8", rois={"GTV": 1})
    with pytest.raises(DataError, match=r"contains no series 1\.2\.8"):
        read_case(Case("a", "a", (images,), missing))


def test_names_and_dates_do_not_decide_the_digest(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    assert content_digest(tmp_path / "a.png") == content_digest(tmp_path / "b.png")


def test_a_series_of_a_folder_is_split_off(tmp_path):
    assert split_series("ct#1.2.3")[1] == "1.2.3"
    assert split_series("study #1a/x.nii")[1] is None
    (tmp_path / "a#1.2").mkdir()
    assert split_series(tmp_path / "a#1.2") == (tmp_path / "a#1.2", None)


@pytest.mark.parametrize("suffix", ["mhd", "nhdr", "hdr"])
def test_detached_voxels_decide_the_digest_and_the_cache_key(tmp_path, suffix):
    header = tmp_path / f"a.{suffix}"
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    sitk.WriteImage(image, str(header), imageIO={"hdr": "NiftiImageIO"}.get(suffix, ""))
    (voxels,) = set(source_files(header)) - {header}
    case = Case("a", "a", (header,), AnnotationSource(mask=header))
    digest, hashed, key = content_digest(header), content_hash(case), entry_key(case, "")
    content = bytearray(voxels.read_bytes())
    content[-1] ^= 1
    set_back(voxels, bytes(content))
    assert content_digest(header) != digest
    assert content_hash(case) != hashed
    assert entry_key(case, "") != key
