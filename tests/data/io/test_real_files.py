"""Real scans: the original DICOM of a patient beside its NIfTI, and whatever damage does to real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cphloc import paths
from cphloc.data.datasets.hippocampus import SAMPLE
from cphloc.data.io.read import read_mask, read_volume
from cphloc.data.io.rtstruct import rasterize, read_contours
from cphloc.data.io.voc_xml import read_voc_boxes
from cphloc.errors import CphlocError

FOLDERS = paths.data_folders()
"""Before the tests of this folder hide them."""
KINDS = {
    "dicom": "dicom_sts_002/CT/image/*.dcm",
    "rtstruct": "dicom_sts_002/CT/mask/*.dcm",
    "ct": "sts_petct/*_ct.nii.gz",
    "ultrasound": "busi/images/*.png",
    "photograph": "bccd/JPEGImages/*.jpg",
    "boxes": "bccd/Annotations/*.xml",
}


def real(pattern: str) -> list[Path]:
    """Real files, or a skip that says what is missing."""
    found = sorted(path for folder in FOLDERS for path in folder.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in {', '.join(map(str, FOLDERS))}: set CPHLOC_DATA to the folder of the real data")
    return found


def test_a_dicom_series_and_its_contours_are_where_and_as_large_as_in_the_nifti():
    """The NIfTI has pixels twice as large, so its surface may lie a quarter of its pixel further in or out."""
    series, structures = real("dicom_sts_002/CT")[0], real("dicom_sts_002/CT/mask/RS.dcm")[0]
    volume = read_volume(series)
    contours = read_contours(structures)["GTV_Mass_CT"]
    mask = rasterize(contours, volume.geometry)
    scan = read_volume(real("sts_petct/STS_002_ct.nii.gz")[0])
    tumour = read_mask(real("sts_petct/STS_002_gtv.nii.gz")[0], scan.geometry)

    def measured(inside, geometry):
        centre = geometry.edges_to_world(np.argwhere(inside).mean(axis=0) + 0.5)
        return np.count_nonzero(inside) * geometry.voxel_volume / 1000, centre

    (ours, centre), (theirs, expected) = measured(mask, volume.geometry), measured(tumour, scan.geometry)
    thick = volume.geometry.spacing_mm[0]
    closed = [np.vstack([c, c[:1]])[:, :2] for c in contours]
    steps = [np.diff(c, axis=0) for c in closed]
    area = sum(abs(float((c[:-1, 0] * c[1:, 1] - c[1:, 0] * c[:-1, 1]).sum())) / 2 for c in closed)
    perimeter = sum(float(np.linalg.norm(s, axis=1).sum()) for s in steps)
    assert ours == pytest.approx(area * thick / 1000, rel=0.005)
    assert abs(ours - theirs) <= perimeter * thick * scan.geometry.spacing_mm[1] / 4 / 1000
    np.testing.assert_allclose(centre, expected, atol=0.2)


def damaged(content: bytes, rng: np.random.Generator, times: int):
    """Truncations, flipped bytes at the start and anywhere, and stretches that were zeroed, lost or doubled."""
    for _ in range(times):
        yield content[: rng.integers(0, len(content))]
        for reach in (min(600, len(content)), len(content)):
            flipped = bytearray(content)
            for position in rng.integers(0, reach, 4):
                flipped[position] = rng.integers(256)
            yield bytes(flipped)
        a, b = sorted(rng.integers(0, len(content), 2))
        yield content[:a] + bytes(b - a) + content[b:]
        yield content[:a] + content[b:]


def read(path: Path, kind: str) -> object:
    if kind == "boxes":
        return read_voc_boxes(path, {1: "RBC", 2: "WBC", 3: "Platelets"})
    if kind == "rtstruct":
        return read_contours(path)
    return read_volume(path)


def fuzz(folder: Path, source: Path, kind: str, seed: int, times: int) -> int:
    """Number of damaged files that were read or refused as they should be."""
    path, tried = folder / source.name, 0
    for content in damaged(source.read_bytes(), np.random.default_rng(seed), times):
        path.write_bytes(content)
        try:
            read(path, kind)
        except CphlocError as error:
            said = str(error)
            assert said.startswith(str(path)), said
            assert "\n" not in said
            assert ";" in said, f"says nothing to do: {said}"
        tried += 1
    return tried


@pytest.mark.parametrize("kind", ["t1", *KINDS])
def test_a_damaged_real_file_is_read_or_named_in_one_line(tmp_path, kind, capfd):
    source = (sorted(SAMPLE.glob("images/*.nii.gz")) if kind == "t1" else real(KINDS[kind]))[0]
    times = 2 if kind in ("ct", "rtstruct") else 5
    assert fuzz(tmp_path, source, kind, seed=0, times=times) == 5 * times
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t1", *KINDS])
def test_many_damaged_real_files(tmp_path, kind):
    sources = sorted(SAMPLE.glob("images/*.nii.gz")) if kind == "t1" else real(KINDS[kind])
    for seed, source in enumerate(sources[:: max(1, len(sources) // 5)][:5], start=1):
        assert fuzz(tmp_path, source, kind, seed, times=10) == 50


def test_one_damaged_slice_names_itself_not_its_series(tmp_path):
    folder = Path(shutil.copytree(real("dicom_sts_002/CT/image")[0], tmp_path / "ct"))
    victim = sorted(folder.iterdir())[7]
    victim.write_bytes(victim.read_bytes()[:-5000])
    with pytest.raises(CphlocError, match=rf"^{victim}: cannot be read as DICOM .*; copy or export it again$"):
        read_volume(folder)
