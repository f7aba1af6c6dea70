"""The pixel size of DICOM images that state it in other tags than PixelSpacing."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_dicom import group, image

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError


def region(row_cm: float, column_cm: float, kind: int = 1, units: int = 3):
    return group(
        RegionSpatialFormat=kind,
        PhysicalUnitsXDirection=units,
        PhysicalUnitsYDirection=units,
        PhysicalDeltaX=column_cm,
        PhysicalDeltaY=row_cm,
    )


def grid(folder, **tags):
    image(np.zeros((4, 5), np.uint16), "US", **tags).save_as(folder / "a.dcm")
    return read_volume(folder / "a.dcm").geometry


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01)]}, (0.2, 0.1)),
        ({"SequenceOfUltrasoundRegions": [region(-0.02, 0.01), region(0.5, 0.5, kind=3)]}, (0.2, 0.1)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01)], "PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.3, 0.15], "EstimatedRadiographicMagnificationFactor": 1.5}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.3, 0.15], "PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"NominalScannedPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
    ],
    ids=["region", "and a spectrum", "and PixelSpacing", "magnified", "calibrated", "film"],
)
def test_the_pixel_size_is_found(tmp_path, tags, expected):
    found = grid(tmp_path, **tags)
    assert found.unit == "mm"
    assert found.spacing_mm == pytest.approx(expected)


def test_regions_without_a_length_state_no_size(tmp_path):
    assert grid(tmp_path, SequenceOfUltrasoundRegions=[region(0.1, 0.1, units=4)]).unit == "px"
    assert grid(tmp_path, SequenceOfUltrasoundRegions=[region(0.1, 0.1, kind=2)]).unit == "px"


@pytest.mark.parametrize(("ratio", "height"), [([2, 1], 2.0), ([4, 2], 2.0), ([3, 6], 0.5)])
def test_an_aspect_ratio_without_a_size_is_kept(tmp_path, ratio, height):
    found = grid(tmp_path, PixelAspectRatio=ratio)
    assert (found.spacing_mm, found.unit) == ((height, 1.0), "px")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {"SequenceOfUltrasoundRegions": [region(0.1, 0.1), region(0.2, 0.2)]},
            "regions of different pixel sizes",
        ),
        ({"SequenceOfUltrasoundRegions": [region(0.1, 0.1)], "PixelSpacing": [0.2, 0.1]}, "differs from"),
        ({"PixelSpacing": [0, 0]}, "a spacing must be positive"),
        ({"PixelSpacing": [1, 1, 1]}, "a spacing must be positive"),
        ({"PixelAspectRatio": "2"}, "PixelAspectRatio is 2"),
    ],
    ids=["two scales", "two statements", "zero", "three", "half an aspect ratio"],
)
def test_contradictory_sizes_are_refused(tmp_path, tags, message):
    with pytest.raises(DataError, match=rf"a\.dcm: .*{message}"):
        grid(tmp_path, **tags)
