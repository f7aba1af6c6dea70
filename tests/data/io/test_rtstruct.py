from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path
from pydicom import dcmread
from synthetic_dicom import group, image, write_rtstruct, write_series

from cphloc.data.io import contour_fill
from cphloc.data.io.contour_fill import rasterize
from cphloc.data.io.rtstruct import read_contours, read_rtstruct
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
    oblique = np.array([[0.0, 10.0, 62.0], [8.0, 20.0, 62.0], [4.0, 20.0, 75.0]])
    with pytest.raises(DataError, match="crosses 4\\.3 slices"):
        rasterize([oblique], GRIDS["upright"])


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


def inside_by_matplotlib(polygons, geometry: Geometry, k: int) -> np.ndarray:
    """Pixels of slice ``k`` whose centre is in an odd number of polygons, by matplotlib."""
    rows, columns = np.indices(geometry.shape[1:]) + 0.5
    points = np.stack([np.full(rows.shape, k + 0.5), rows, columns], axis=-1).reshape(-1, 3)
    world = geometry.edges_to_world(points)[:, :2]
    inside = np.sum([Path(p[:, :2]).contains_points(world) for p in polygons], axis=0) % 2
    return inside.reshape(rows.shape)


def square(z: float, low: float, high: float) -> np.ndarray:
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


GRID = Geometry.regular((20, 40, 40), (3.0, 1.0, 1.0))


@pytest.mark.parametrize("jitter", [0.0, 1e-6, 0.02, 0.1, 0.4])
@pytest.mark.parametrize("offset", [-1.4, 0.0, 0.3, 0.375, 1.5])
def test_every_plane_fills_one_slice_however_its_position_is_rounded(offset, jitter):
    """Two lesions and a hole in each of ten slices, drawn in three slightly different planes."""
    one = [square(3 * k + offset, 5.4, 12.6) for k in range(4, 14)]
    two = [square(3 * k + offset + jitter, 20.4, 30.6) for k in range(4, 14)]
    hole = [square(3 * k + offset - jitter / 2, 23.4, 26.6) for k in range(4, 14)]
    mask = rasterize([*one, *two, *hole], GRID)
    assert mask.any(axis=(1, 2)).sum() == 10
    filled = next(k for k in range(20) if mask[k].any())
    np.testing.assert_array_equal(mask[filled], inside_by_matplotlib([one[0], two[0], hole[0]], GRID, filled))
    assert mask.sum() == 10 * mask[filled].sum()


@pytest.mark.parametrize(("step", "slices"), [(0.5, 4), (1.0, 4), (3.0, 4), (6.0, 4)])
def test_contours_of_any_spacing_fill_the_slices_between_them(step, slices):
    """12 mm are 4 slices of 3 mm, whether they are drawn every 0.5 mm or every 6 mm."""
    first = 13.5 + step / 2
    contours = [square(z, 5.4, 12.6) for z in np.arange(first, 25.5, step)]
    assert np.flatnonzero(rasterize(contours, GRID).any(axis=(1, 2))).tolist() == [5, 6, 7, 8][:slices]


@pytest.mark.parametrize("offset", [0.6, 0.9, 1.2, 1.4])
def test_lesions_drawn_in_planes_of_their_own_are_all_filled(offset):
    """As when one lesion was drawn on a series whose slices lie between those of the image."""
    one = [square(3 * k, 5.4, 12.6) for k in range(4, 14)]
    two = [square(3 * k + offset, 20.4, 30.6) for k in range(4, 14)]
    mask = rasterize([*one, *two], GRID)
    assert mask[4:14, :, :15].sum() == mask[:, :, :15].sum() == 10 * 49
    assert mask[4:14, :, 15:].sum() == mask[:, :, 15:].sum() == 10 * 100


def test_two_lesions_far_apart_are_not_joined():
    mask = rasterize([square(6.0, 5.4, 12.6), square(48.0, 5.4, 12.6)], GRID)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [2, 16]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_contours_in_the_planes_of_any_axis_are_filled(axis):
    """A sphere of 10 mm radius drawn in axial, coronal or sagittal planes has the same volume."""
    geometry = Geometry.regular((30, 30, 30))
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    contours = []
    for k in range(5, 25):
        radius = np.sqrt(max(100 - (k - 14.5) ** 2, 0))
        ring = np.stack([np.full(200, k), 14.5 + radius * np.sin(angle), 14.5 + radius * np.cos(angle)], axis=1)
        contours.append(np.roll(ring, axis, axis=1))
    mask = rasterize(contours, geometry)
    expected = sum((x - 14.5) ** 2 for x in np.indices(geometry.shape)) < 100
    assert (mask != expected).sum() < 0.01 * expected.sum()


def test_contours_that_overlap_are_united_and_repeated_ones_count_once():
    z = 6.0
    overlapping = rasterize([square(z, 5.4, 12.6), square(z, 9.4, 20.6)], GRID)[2]
    assert overlapping.sum() == 7 * 7 + 11 * 11 - 3 * 3
    assert rasterize([square(z, 5.4, 12.6)] * 2, GRID).sum() == 49
    assert rasterize([square(z, 5.4, 12.6)] * 2, GRID, xor=True).sum() == 0
    island = [square(z, 5.4, 30.6), square(z, 10.4, 25.6), square(z, 15.4, 20.6)]
    assert rasterize(island, GRID).sum() == 25**2 - 15**2 + 5**2


def test_of_two_regions_of_one_name_the_drawn_one_counts(tmp_path):
    path = write_rtstruct(tmp_path / "a.dcm", {"GTV": None, "gtv": [square(6.0, 5.4, 12.6)], "Heart": []})
    dataset = dcmread(path)
    dataset.StructureSetROISequence[1].ROIName = "GTV"
    dataset.save_as(path)
    assert read_rtstruct(path, GRID)["GTV"].draw().sum() == 49
    dataset.ROIContourSequence[1].ReferencedROINumber = 1
    dataset.ROIContourSequence[1].ContourSequence = dataset.ROIContourSequence[0].ContourSequence
    dataset.save_as(path)
    assert read_rtstruct(path, GRID)["GTV"].problem == "is drawn twice under this name; rename one"


def test_contours_of_a_2d_image_are_refused():
    with pytest.raises(DataError, match="contours lie in a volume but the image is 2-D"):
        rasterize([square(6.0, 5.4, 12.6)], Geometry.regular((40, 40)))


def test_an_open_contour_whose_ends_meet_is_closed_and_xor_is_honoured(tmp_path):
    ring = np.concatenate([square(6.0, 5.4, 12.6), square(6.0, 5.4, 12.6)[:1]])
    path = write_rtstruct(tmp_path / "a.dcm", {"GTV": [ring]}, "OPEN_PLANAR")
    assert read_rtstruct(path, GRID)["GTV"].draw().sum() == 49
    pair = [square(6.0, 5.4, 12.6), square(6.0, 9.4, 20.6)]
    path = write_rtstruct(tmp_path / "b.dcm", {"GTV": pair}, "CLOSEDPLANAR_XOR")
    assert read_rtstruct(path, GRID)["GTV"].draw().sum() == 7 * 7 + 11 * 11 - 2 * 3 * 3


@pytest.mark.parametrize(
    ("frame", "series", "problem"),
    [
        ("1.2.3.5", "", None),
        ("1.2.3.5", "9.9", None),  # drawn on another series of the same frame of reference
        ("1.2.3.6", "1.2.3.4", "its FrameOfReferenceUID is 1.2.3.6"),
        ("", "1.2.3.4", None),
        ("", "9.9", "its SeriesInstanceUID is 9.9"),
        ("", "", None),
    ],
)
def test_contours_of_another_image_are_refused(tmp_path, frame, series, problem):
    write_series(tmp_path / "ct", np.zeros((20, 40, 40), np.int16), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    path = write_rtstruct(tmp_path / "RS", {"GTV": [square(6.0, 5.4, 12.6)]}, frame=frame, series=series)
    images = [str(tmp_path / "ct")]
    if problem is None:
        assert read_rtstruct(path, GRID, images)["GTV"].draw().sum() == 49
    else:
        with pytest.raises(DataError, match=f"RS: belongs to another image: {problem}, that of .*ct"):
            read_rtstruct(path, GRID, images)


def test_the_next_plane_with_a_contour_at_the_same_place_is_that_of_a_search_through_all():
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 12, 60)
    centre = np.cumsum(rng.uniform(0.5, 4, 12))[plane]
    low = rng.uniform(0, 20, (60, 2))
    high = low + rng.uniform(1, 8, (60, 2))
    found = contour_fill._gaps(centre, plane, low, high, most=9.0)
    for k in range(60):
        meets = ((low < high[k]) & (high > low[k])).all(axis=1) & (plane != plane[k])
        away = (centre - centre[k])[meets & (np.abs(centre - centre[k]) <= 9.0)]
        expected = [min(-away[away < 0], default=np.inf), min(away[away > 0], default=np.inf)]
        assert found[k].tolist() == expected
    assert np.isinf(found).any()
    assert np.isfinite(found).any()
