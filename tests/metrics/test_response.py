from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from synthetic_dicom import write_series

import cphloc.data
from cphloc.cli import main
from cphloc.errors import InputError
from cphloc.inference import backend
from cphloc.metrics.response import doubling_time, follow_up, longest_diameter_mm, recist, sum_of_diameters_mm
from cphloc.metrics.segmentation import volume_ml
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import reoriented


def disc(radius: float, shape: tuple[int, int] = (61, 61)) -> np.ndarray:
    rows, columns = np.indices(shape) - 30
    return rows**2 + columns**2 <= radius**2


@pytest.mark.parametrize(
    ("sums_mm", "expected"),
    [
        ([10, 7, 8.5], "SD"),  # 21 % over the nadir but 1.5 mm
        ([100, 70], "PR"),
        ([100, 70.1], "SD"),
        ([100, 120], "PD"),
        ([100, 119.9], "SD"),
        ([100, 50, 60], "PD"),  # still 40 % below baseline: progression is from the nadir
        ([100, 50, 59.9], "PR"),
        ([20, 25], "PD"),
        ([20, 24.9], "SD"),  # 24.5 % but not 5 mm
        ([100, 0], "CR"),
        ([100, 0, 5], "PD"),
        ([30, 21], "PR"),
    ],
)
def test_recist_category_from_baseline_and_nadir(sums_mm, expected) -> None:
    assert recist(sums_mm) == expected


def test_new_lesion_is_progression_whatever_the_sum() -> None:
    assert recist([100, 0], new_lesion=True) == "PD"
    assert recist([100, 30], new_lesion=True) == "PD"


def test_doubling_times() -> None:
    assert doubling_time(10**3, 12**3, 365) == pytest.approx(462.55, abs=5e-3)
    assert doubling_time(1, 1.5, 90) == pytest.approx(153.86, abs=5e-3)
    assert doubling_time(1, 1, 90) == math.inf
    assert doubling_time(2, 1, 90) == pytest.approx(-90)


def test_volume_doubles_where_the_diameter_grows_by_26_percent() -> None:
    assert doubling_time(1, 1.26**3, 100) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("diameter", "volume", "category"), [(0.7, -0.657, "PR"), (1.2, 0.728, "PD")])
def test_recists_limits_in_volume(diameter, volume, category) -> None:
    """-30 % and +20 % of the diameter are -65.7 % and +72.8 % of the volume."""

    def ball(radius: float) -> np.ndarray:
        return (((np.indices((101,) * 3) - 50) / radius) ** 2).sum(axis=0) <= 1

    before, after = (volume_ml(ball(radius), (1.0,) * 3) for radius in (40, 40 * diameter))
    assert after / before - 1 == pytest.approx(volume, abs=5e-3)
    assert recist([80, 80 * diameter]) == category


@pytest.mark.parametrize("depth", [None, 1, 3], ids=["2-D", "one slice", "three slices"])
def test_diameter_of_a_disc(depth) -> None:
    mask, spacing_mm = disc(12), (0.5, 0.5)
    if depth:
        mask, spacing_mm = np.repeat(mask[None], depth, axis=0), (5.0, 0.5, 0.5)
    assert longest_diameter_mm(mask, spacing_mm) == pytest.approx((24 + 1) * 0.5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_lesion_in_the_corner_of_anothers_window_is_measured_by_itself(dims) -> None:
    mask = np.zeros((11, 11), bool)
    mask[5], mask[:, 5] = True, True  # a cross of 11 x 11 voxels
    mask[10, 10] = True
    mask, spacing_mm = (mask, (1.0, 1.0)) if dims == 2 else (mask[None], (3.0, 1.0, 1.0))
    assert sum_of_diameters_mm(mask, spacing_mm) == pytest.approx(11 + 1)


def test_diameter_is_in_plane() -> None:
    column = np.zeros((20, 5, 5), bool)
    column[:, 2, 2] = True
    assert longest_diameter_mm(column, (5.0, 1.0, 1.0)) == 1.0
    column[7, 2, 1:5] = True
    assert longest_diameter_mm(column, (5.0, 1.0, 1.0)) == 4.0


ORDERS = [((0, 1, 2), ()), ((1, 0, 2), (0,)), ((2, 0, 1), (1, 2)), ((2, 1, 0), (0, 1, 2)), ((0, 2, 1), (2,))]


@pytest.mark.parametrize(("order", "flip"), ORDERS)
def test_the_diameter_is_axial_however_the_voxels_are_stored(order, flip) -> None:
    """An L of 12 mm along x by 9 mm along y, 40 mm high: the longest axial distance is its diagonal of 15 mm."""
    mask = np.zeros((20, 10, 13), bool)
    mask[:, 0, :], mask[:, :, 0] = True, True
    grid = Geometry.regular(mask.shape, (2.0, 1.0, 1.0))
    stored, own = reoriented(mask, order, flip), grid.reoriented(order, flip)
    voxel = np.hypot(12 / 15, 9 / 15)
    assert longest_diameter_mm(stored, own) == pytest.approx(15 + voxel)
    assert sum_of_diameters_mm(stored, own) == pytest.approx(15 + voxel)
    visits = follow_up([mask, stored], [grid, own], [0, 30])
    assert visits[1].category == "SD"
    assert visits[0].diameters_mm == pytest.approx(visits[1].diameters_mm)
    assert visits[0].volume_ml == pytest.approx(visits[1].volume_ml)


@pytest.mark.parametrize("degrees", [0, 10, 30, 45, 90])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_an_oblique_scan_measures_the_same_ellipsoid(degrees, spacing) -> None:
    """An ellipsoid of 60 (x) by 30 (y) by 80 (z) mm in the patient, sampled by a stack turned about the x axis."""
    angle = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    shape = tuple(int(100 / s) for s in spacing)
    direction = (turn @ np.eye(3)[:, ::-1]).copy()
    centre = (np.array(shape) - 1) / 2
    grid = Geometry(shape, spacing, tuple(-(centre * spacing) @ direction.T), direction)
    world = grid.edges_to_world(np.moveaxis(np.indices(shape), 0, -1) + 0.5)
    mask = (((world / (30, 15, 40)) ** 2).sum(axis=-1) <= 1).reshape(shape)
    assert longest_diameter_mm(mask, grid) == pytest.approx(60, abs=2 if degrees in (0, 90) else 3)


@pytest.mark.parametrize("seed", range(5))
def test_diameter_equals_the_search_over_all_voxels(seed) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random((3, 24, 30)), 2) > 0.53
    spacing = np.array([0.7, 0.7])
    longest = max(
        np.linalg.norm((p[:, None] - p) * spacing, axis=-1).max() for p in (np.argwhere(plane) for plane in mask)
    )
    assert longest_diameter_mm(mask, (4.0, 0.7, 0.7)) == pytest.approx(longest + 0.7)


def test_diameter_turns_with_the_image_and_scales_with_the_spacing() -> None:
    mask = disc(9) & (np.indices((61, 61))[0] > 25)
    expected = longest_diameter_mm(mask, (1.0, 2.0))
    assert longest_diameter_mm(mask.T, (2.0, 1.0)) == pytest.approx(expected)
    assert longest_diameter_mm(mask[::-1], (1.0, 2.0)) == pytest.approx(expected)
    assert longest_diameter_mm(mask, (3.0, 6.0)) == pytest.approx(3 * expected)
    assert longest_diameter_mm(np.zeros((4, 4), bool), (1.0, 1.0)) == 0


def test_at_most_five_lesions_are_summed_the_largest() -> None:
    mask = np.zeros((7, 40), bool)
    for k in range(7):
        mask[k, : 5 + k] = k % 2 == 0
        mask[k, 20 : 22 + k] = k % 2 == 1
    lengths = sorted([5 + k for k in range(0, 7, 2)] + [2 + k for k in range(1, 7, 2)])[-5:]
    assert sum_of_diameters_mm(mask, (1.0, 1.0)) == sum(lengths)


def test_follow_up_of_scans_on_different_grids() -> None:
    first, second = np.repeat(disc(20)[None], 4, axis=0), np.repeat(disc(12)[None], 8, axis=0)
    spacings = [(5.0, 1.0, 1.0), (2.5, 1.0, 1.0), (5.0, 1.0, 1.0)]
    visits = follow_up([first, second, np.zeros_like(first)], spacings, days=[0, 60, 120])
    assert [visit.diameters_mm for visit in visits] == pytest.approx([41, 25, 0])
    assert [visit.category for visit in visits] == [None, "PR", "CR"]
    assert visits[0].volume_ml == pytest.approx(disc(20).sum() * 20 / 1000)
    assert visits[1].doubling_time_days < 0
    assert math.isnan(visits[2].doubling_time_days)


def test_progress_is_judged_against_the_smallest_sum_so_far() -> None:
    masks = [np.repeat(disc(radius)[None], 4, axis=0) for radius in (20, 10, 14)]
    visits = follow_up(masks, [(5.0, 1.0, 1.0)] * 3, days=[0, 60, 153.86])
    assert [visit.category for visit in visits] == [None, "PR", "PD"]


def test_a_follow_up_needs_rising_days() -> None:
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(InputError, match="increasing days"):
        follow_up([mask, mask], [(1.0, 1.0, 1.0)] * 2, days=[90, 90])


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="baseline"):
        recist([10])
    with pytest.raises(InputError, match="baseline"):
        recist([0, 10])
    with pytest.raises(InputError, match="positive volumes"):
        doubling_time(0, 1, 90)
    with pytest.raises(InputError, match="one spacing per axis"):
        longest_diameter_mm(np.zeros((3, 3)), (1.0, 1.0, 1.0))


def test_the_command_computes_all_scans_alike(capsys, monkeypatch) -> None:
    def switched(*_: object) -> None:
        pytest.fail("another runtime took over between the scans")

    # as on a slow machine, where one window takes long enough to look for a quicker runtime
    monkeypatch.setattr(backend, "FIND_SECONDS", 0.0)
    monkeypatch.setattr(backend, "KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(backend.Backend, "_quickest", switched)
    image = str(min(Path(cphloc.data.__file__).parent.glob("sample/hippocampus/images/*.nii.gz")))
    assert main(["response", "unet3d-hippocampus", image, image, "--days", "90", "--json"]) == 0
    course = json.loads(capsys.readouterr().out)["anterior"]
    assert course[0]["volume_ml"] == course[1]["volume_ml"] > 0


def test_the_command_follows_a_patient(capsys) -> None:
    images = sorted(Path(cphloc.data.__file__).parent.glob("sample/hippocampus/images/*.nii.gz"))
    same = str(images[0])
    assert main(["response", "unet3d-hippocampus", same, same, "--days", "90", "--json"]) == 0
    course = json.loads(capsys.readouterr().out)["anterior"]
    assert course[0]["volume_ml"] == course[1]["volume_ml"] > 0
    assert course[1]["category"] == "SD"
    assert course[1]["doubling_time_days"] is None, "an infinite time is null in JSON"
    assert main(["response", "unet3d-hippocampus", same, "--days", "90"]) == 2
    assert "0 later scans, 1 days" in capsys.readouterr().err


def test_the_command_orders_series_by_date_and_refuses_another_patient(tmp_path, capsys) -> None:
    head = np.random.default_rng(0).integers(0, 255, (24, 28, 24)).astype(np.int16)
    for name, day, patient in (("june", "20240601", "p1"), ("january", "20240101", "p1"), ("other", "20240901", "q9")):
        tags = {"StudyDate": day, "PatientID": patient, "SeriesInstanceUID": f"1.2.{day}"}
        write_series(tmp_path / name, head, (1.0, 1.0, 1.0), modality="MR", **tags)
    june, january, other = (str(tmp_path / name) for name in ("june", "january", "other"))
    assert main(["response", "unet3d-hippocampus", june, january, "--json"]) == 0
    (before, after) = json.loads(capsys.readouterr().out)["anterior"]
    assert (before["scan"], before["date"], before["days"]) == (january, "2024-01-01", 0)
    assert (after["scan"], after["date"], after["days"]) == (june, "2024-06-01", 152)
    assert main(["response", "unet3d-hippocampus", june, january, "--days", "90"]) == 2
    assert "january is dated 2024-01-01, not after" in capsys.readouterr().err
    assert main(["response", "unet3d-hippocampus", june, other]) == 2
    assert "of patient 'q9'" in capsys.readouterr().err


def test_the_command_takes_two_series_of_one_folder_and_keeps_the_results_of_both(tmp_path, capsys) -> None:
    head = np.random.default_rng(0).integers(0, 255, (24, 28, 24)).astype(np.int16)
    for name, day in (("june", "20240601"), ("january", "20240101")):
        tags = {"StudyDate": day, "SeriesInstanceUID": f"1.2.{day}"}
        write_series(tmp_path / "study" / name, head, (1.0, 1.0, 1.0), modality="MR", **tags)
    both = [f"{tmp_path / 'study'}#1.2.{day}" for day in ("20240601", "20240101")]
    out = tmp_path / "out"
    assert main(["response", "unet3d-hippocampus", *both, "--out", str(out), "--json"]) == 0
    (before, after) = json.loads(capsys.readouterr().out)["anterior"]
    assert [before["scan"], after["scan"], after["days"]] == [*both[::-1], 152]
    sources = {json.loads(path.read_text())["source"] for path in out.glob("*_result.json")}
    assert sources == set(both)
    assert main(["response", "unet3d-hippocampus", str(tmp_path / "study"), both[0]]) == 2
    assert "holds 2 scans; name each by its own file, folder or folder#" in capsys.readouterr().err


def test_without_a_lesion_in_the_first_scan_there_is_no_category() -> None:
    masks = [np.zeros((4, 8, 8), bool), np.ones((4, 8, 8), bool)]
    visits = follow_up(masks, [(1.0, 1.0, 1.0)] * 2, [0, 30])
    assert [visit.category for visit in visits] == [None, None]
    assert visits[1].volume_ml == pytest.approx(0.256)


def test_a_new_lesion_is_that_of_the_last_visit() -> None:
    masks, spacings_mm = [disc(20)[None], disc(10)[None], disc(10)[None]], [(3.0, 1.0, 1.0)] * 3
    visits = follow_up(masks, spacings_mm, [0, 30, 60], new_lesion=True)
    assert [visit.category for visit in visits[1:]] == ["PR", "PD"]
    assert [visit.category for visit in follow_up(masks, spacings_mm, [0, 30, 60])[1:]] == ["PR", "PR"]
