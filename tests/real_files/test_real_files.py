"""The part of ``make real-files`` that needs no further package, and its judge."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from cphloc.data.io import read_nifti
from real_files.__main__ import package_files, report
from real_files.compare import compare_image


@pytest.mark.parametrize("package", ["pydicom", "nibabel"])
def test_no_file_of_other_projects_tests_is_read_wrongly(package):
    rows = [compare_image(package, path, name) for path, name in package_files(package)]
    assert sum(row.verdict == "equal" for row in rows) >= {"pydicom": 70, "nibabel": 6}[package]
    assert [row for row in rows if row.verdict == "wrong"] == []


def test_a_wrong_reader_is_found(tmp_path, monkeypatch):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2, 3, 1])), tmp_path / "a.nii")
    row = compare_image("test", tmp_path / "a.nii", "a.nii")
    assert (row.verdict, row.detail) == ("equal", "1 x 4x3x2 int16")
    monkeypatch.setattr(read_nifti, "_rescaled", lambda path, stored, header: stored.astype(np.int16) + 1)
    row = compare_image("test", tmp_path / "a.nii", "a.nii")
    assert (row.verdict, row.detail) == ("wrong", "24 of 24 values differ")
    assert "| test | 0 | 0 | 1 |" in report([row])
    monkeypatch.undo()
    monkeypatch.setattr(read_nifti, "_MM", {0: 2.0, 2: 2.0})
    row = compare_image("test", tmp_path / "a.nii", "a.nii")
    assert (row.verdict, row.detail[:15]) == ("wrong", "corners are off")
