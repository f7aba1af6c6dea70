from __future__ import annotations

import numpy as np
import pytest
from synthetic_dicom import group, image

from cphloc.data.io.rtstruct import rasterize, read_contours
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry


def oblique(degrees: float = 20.0) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s, 0], [-s * c, c * c, s], [s * s, -s * c, c]]).T[:, ::-1]


GRIDS = {
    "upright": Geometry((8, 40, 50), (3.0, 0.7, 1.1), (-20.0, 5.0, 60.0), np.eye(3)[::-1]),
    "oblique": Geometry((8, 40, 50), (3.0, 0.7, 1.1), (-20.0, 5.0, 60.0), oblique()),
    "upside down": Geometry((8, 40, 50), (3.0, 0.7, 1.1), (-20.0, 5.0, 60.0), np.eye(3)[::-1] * [-1, 1, -1]),
}
every_grid = pytest.mark.parametrize("geometry", GRIDS.values(), ids=GRIDS)


def circle(geometry: Geometry, k: int, radius_mm: float, points: int = 400) -> np.ndarray:
    """World points of a circle about the middle of slice ``k``."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    rows = 20.3 + radius_mm * np.sin(angle) / geometry.spacing_mm[1]
    columns = 24.8 + radius_mm * np.cos(angle) / geometry.spacing_mm[2]
    return geometry.edges_to_world(np.stack([np.full(points, k + 0.5), rows, columns], axis=1))


def disc(geometry: Geometry, radius_mm: float) -> np.ndarray:
    rows, columns = np.indices(geometry.shape[1:]) + 0.5
    across, down = (columns - 24.8) * geometry.spacing_mm[2], (rows - 20.3) * geometry.spacing_mm[1]
    return across**2 + down**2 < radius_mm**2


@every_grid
def test_voxels_whose_centre_is_inside_are_filled_and_holes_are_not(geometry: Geometry):
    contours = [circle(geometry, k, 12.0) for k in (2, 3, 4)] + [circle(geometry, 3, 5.0)]
    mask = rasterize(contours, geometry)
    assert mask.any(axis=(1, 2)).tolist() == [False, False, True, True, True, False, False, False]
    assert (mask[2] != disc(geometry, 12.0)).sum() <= 2
    assert (mask[3] != (disc(geometry, 12.0) & ~disc(geometry, 5.0))).sum() <= 3


def test_a_keyhole_gives_the_same_hole_as_two_contours():
    geometry = GRIDS["upright"]
    outer, inner = circle(geometry, 3, 12.0), circle(geometry, 3, 5.0)
    keyhole = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
    np.testing.assert_array_equal(rasterize([keyhole], geometry), rasterize([outer, inner], geometry))


def test_the_volume_is_that_of_the_polygons():
    geometry = Geometry.regular((5, 300, 300), (3.0, 0.1, 0.1))
    triangle = np.array([[2.0, 3.0, 6.0], [25.0, 4.0, 6.0], [9.0, 27.0, 6.0]])
    area = 0.5 * abs(np.cross(triangle[1, :2] - triangle[0, :2], triangle[2, :2] - triangle[0, :2]))
    assert rasterize([triangle], geometry).sum() * geometry.voxel_volume == pytest.approx(area * 3.0, rel=1e-3)


def test_slices_between_contours_take_the_nearest_plane():
    contours = [circle(GRIDS["upright"], k, 10.0) for k in (2, 3, 4)]
    fine = GRIDS["upright"].resampled((1.0, 0.7, 1.1))
    filled = rasterize(contours, fine).any(axis=(1, 2))
    assert np.flatnonzero(filled).tolist() == list(range(6, 15))


def test_contours_across_slices_are_refused():
    sagittal = np.array([[0.0, 10.0, 62.0], [0.0, 20.0, 62.0], [0.0, 20.0, 75.0]])
    with pytest.raises(DataError, match="crosses 4\\.3 slices"):
        rasterize([sagittal], GRIDS["upright"])


def test_no_contour_is_an_empty_mask():
    assert rasterize([], GRIDS["upright"]).sum() == 0


def rtstruct(path, names=("GTV", "Empty"), modality: str = "RTSTRUCT") -> None:
    dataset = image(np.zeros((1, 1), np.uint16), modality, Rows=None, Columns=None, PixelData=None)
    dataset.StructureSetROISequence = [group(ROINumber=n, ROIName=name) for n, name in enumerate(names, 1)]
    triangle = group(
        ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=3, ContourData=[0, 0, 1, 4, 0, 1, 0, 4, 1]
    )
    point = group(ContourGeometricType="POINT", NumberOfContourPoints=1, ContourData=[0, 0, 1])
    dataset.ROIContourSequence = [
        group(ReferencedROINumber=1, ContourSequence=[triangle, point]),
        group(ReferencedROINumber=2),
    ]
    dataset.save_as(path)


def test_closed_contours_are_read_by_name(tmp_path):
    rtstruct(tmp_path / "RS.dcm")
    contours = read_contours(tmp_path / "RS.dcm")
    assert list(contours) == ["GTV", "Empty"]
    np.testing.assert_array_equal(contours["GTV"][0], [[0, 0, 1], [4, 0, 1], [0, 4, 1]])
    assert len(contours["GTV"]) == 1
    assert contours["Empty"] == []


def test_what_is_no_rtstruct_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_contours(tmp_path / "RS.dcm")
    rtstruct(tmp_path / "CT.dcm", modality="CT")
    with pytest.raises(DataError, match=r"is not an RTSTRUCT \(modality CT\)"):
        read_contours(tmp_path / "CT.dcm")
    rtstruct(tmp_path / "twice.dcm", names=("GTV", "GTV"))
    with pytest.raises(DataError, match="two regions have the same name"):
        read_contours(tmp_path / "twice.dcm")
    (tmp_path / "text.dcm").write_text("not DICOM at all")
    with pytest.raises(DataError, match=r"text\.dcm"):
        read_contours(tmp_path / "text.dcm")
