"""SUV of synthetic PET series, against values worked out by hand; what DICOM tags state about a scan."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from pydicom import Dataset
from synthetic_dicom import write_series

from cphloc.data.io.dicom_units import scan_of
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom import read_slices
from cphloc.errors import DataError
from cphloc.structures.units import ScaledUnit

SUV = (ScaledUnit("SUV"),)
F18 = 6586.2


def isotope(**tags) -> Dataset:
    """Radiopharmaceutical of 350 MBq fluorine-18, injected at 10:00."""
    stated = Dataset()
    base = {"RadionuclideTotalDose": 350e6, "RadionuclideHalfLife": F18, "RadiopharmaceuticalStartTime": "100000"}
    for name, value in {**base, **tags}.items():
        if value is not None:
            setattr(stated, name, value)
    return stated


def pet(folder, injected: Dataset | None = None, **tags):
    """A PET series of a patient of 70 kg, scanned at 11:00, whose values 1000 and 5000 are Bq/mL."""
    stored = np.full((4, 6, 5), 1000, np.uint16)
    stored[1:3, 2:4, 1:3] = 5000
    base = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY"],
        "PatientWeight": 70,
        "SeriesDate": "20200101",
        "SeriesTime": "110000",
        "AcquisitionDate": "20200101",
        "AcquisitionTime": "110000",
        "RadiopharmaceuticalInformationSequence": [isotope() if injected is None else injected],
    }
    tags = {**base, **tags}
    for name in ("CorrectedImage", "RadiopharmaceuticalInformationSequence"):  # lists that are one value of each slice
        tags[name] = [tags[name]] * len(stored)
    write_series(folder, stored, modality="PT", **tags)
    return folder


def suv(folder) -> float:
    """SUV of 1000 Bq/mL; the other value must be five times as large."""
    volume = read_volume(folder, units=SUV)
    low, high = float(volume.array.min()), float(volume.array.max())
    assert high == pytest.approx(5 * low)
    assert volume.scan.unit == "SUV"
    return low


DECAYED = 350e6 * 0.5 ** (3600 / F18)  # one hour after the injection


@pytest.mark.parametrize(
    ("tags", "injected", "expected"),
    [
        ({}, {}, 1000 * 70e3 / DECAYED),
        ({"DecayCorrection": "ADMIN"}, {}, 1000 * 70e3 / 350e6),
        ({"DecayCorrection": "ADMIN"}, {"RadiopharmaceuticalStartTime": None}, 1000 * 70e3 / 350e6),
        ({"Units": "GML"}, {}, 1000),
        ({"Units": "GML", "SUVType": "BW"}, {}, 1000),
        ({"CorrectedImage": None}, {}, 1000 * 70e3 / DECAYED),
        # injected shortly before midnight, scanned an hour later
        ({"SeriesTime": "003000", "AcquisitionTime": "003000"}, {"RadiopharmaceuticalStartTime": "233000"}, None),
        (
            {"SeriesTime": "003000", "AcquisitionTime": "003000"},
            {"RadiopharmaceuticalStartTime": "233000", "RadiopharmaceuticalStartDateTime": "20191231233000.00+0100"},
            None,
        ),
        # the series was stored later than it was acquired: its first image counts
        ({"SeriesTime": "180000"}, {}, None),
        ({"AcquisitionTime": ["110500.25", "110000", "110200", "110300"], "SeriesTime": "180000"}, {}, None),
        # anonymised: all dates removed, times kept
        ({"SeriesDate": None, "AcquisitionDate": None, "StudyDate": None}, {}, None),
        # several bed positions: the start of the series counts
        ({"AcquisitionTime": ["110500.25", "110000", "110200", "110300"]}, {}, None),
    ],
)
def test_pet_becomes_suv_by_weight_dose_and_decay(tmp_path, tags, injected, expected):
    expected = 1000 * 70e3 / DECAYED if expected is None else expected
    assert suv(pet(tmp_path / "pet", isotope(**injected), **tags)) == pytest.approx(expected, rel=1e-6)


def test_ge_states_the_time_to_which_it_corrects(tmp_path):
    folder = pet(tmp_path / "pet", SeriesTime="180000", AcquisitionTime="113000")
    _private(folder, 0x0009, "GEMS_PETD_01", 0x0D, "DT", "20200101110000.00")
    assert suv(folder) == pytest.approx(1000 * 70e3 / DECAYED)


@pytest.mark.parametrize(("element", "value", "expected"), [(0x00, "0.002", 2.0), (0x09, "3.0", 3000 * 70e3 / DECAYED)])
def test_philips_states_factors_for_its_counts(tmp_path, element, value, expected):
    folder = pet(tmp_path / "pet", Units="CNTS")
    _private(folder, 0x7053, "Philips PET Private Group", element, "DS", value)
    assert suv(folder) == pytest.approx(expected)


def _private(folder, group, creator, element, representation, value):
    from pydicom import dcmread

    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.private_block(group, creator, create=True).add_new(element, representation, value)
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("tags", "injected", "reason"),
    [
        ({"PatientWeight": None}, {}, "PatientWeight is missing"),
        ({"PatientWeight": 0}, {}, "PatientWeight is 0"),
        ({"PatientWeight": 70000}, {}, "PatientWeight is 70000, which cannot be kg"),
        ({"PatientWeight": [70, 70, 80, 70]}, {}, r"PatientWeight is \d+\.0, but \d+\.0 in "),
        ({"DecayCorrection": ["START", "ADMIN", "START", "START"]}, {}, "DecayCorrection is ADMIN, but START in "),
        ({"Units": "CNTS"}, {}, "Units is 'CNTS'"),
        ({"Units": "PROPCPS"}, {}, "Units is 'PROPCPS'"),
        ({"Units": None}, {}, "Units is 'missing'"),
        ({"Units": "GML", "SUVType": "LBM"}, {}, "Units is 'GML'"),
        ({"DecayCorrection": "NONE"}, {}, "DecayCorrection is 'NONE'"),
        ({"DecayCorrection": None}, {}, "DecayCorrection is 'missing'"),
        ({"CorrectedImage": ["DECY"]}, {}, "no correction for attenuation"),
        ({"CorrectedImage": ["ATTN"]}, {}, "no correction for decay"),
        ({"RadiopharmaceuticalInformationSequence": None}, {}, "has 0 items"),
        ({}, {"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
        ({}, {"RadionuclideTotalDose": 350}, "cannot be Bq"),
        ({}, {"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
        ({}, {"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime is missing"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20200102100000"}, "minutes after the injection"),
        ({"SeriesTime": None, "AcquisitionTime": None}, {}, "SeriesTime and AcquisitionTime are missing"),
    ],
)
def test_pet_that_cannot_be_converted_is_refused_with_the_tag(tmp_path, tags, injected, reason):
    folder = pet(tmp_path / "pet", isotope(**injected), **tags)
    with pytest.raises(DataError, match=reason) as error:
        read_volume(folder, units=SUV)
    assert "\n" not in str(error.value)
    assert read_volume(folder).array.max() == 5000, "without a wish for SUV, the series is read as it is"


def test_one_slice_and_its_display_window_become_suv(tmp_path):
    folder = pet(tmp_path / "pet", WindowCenter=2500, WindowWidth=4000)
    for source in (folder, sorted(folder.iterdir())[0]):
        found = read_volume(source, units=SUV)
        assert float(found.array.min()) == pytest.approx(1000 * 70e3 / DECAYED)
        assert found.window == pytest.approx((2500 * 70e3 / DECAYED, 4000 * 70e3 / DECAYED))


def test_suv_is_multiplied_by_the_factor_of_the_channel(tmp_path):
    folder = pet(tmp_path / "pet")
    plain, hundredfold = (read_volume(folder, units=(ScaledUnit("SUV", f),)).array for f in (1.0, 100.0))
    np.testing.assert_allclose(hundredfold, 100 * plain, rtol=1e-6)


@pytest.mark.parametrize(("modality", "wanted"), [("PT", "HU"), ("CT", "SUV")])
def test_ct_and_pet_are_not_taken_for_each_other(tmp_path, modality, wanted):
    if modality == "PT":
        folder = pet(tmp_path / "scan")
    else:
        folder = tmp_path / "scan"
        write_series(folder, np.zeros((3, 4, 5), np.int16), RescaleIntercept=-1024, RescaleSlope=1)
    with pytest.raises(DataError, match=f"but {wanted} is needed"):
        read_volume(folder, units=(ScaledUnit(wanted),))


@pytest.mark.parametrize(
    ("modality", "tags", "unit"),
    [
        ("CT", {"RescaleIntercept": -1024, "RescaleSlope": 1}, "HU"),
        ("CT", {"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "HU"}, "HU"),
        ("CT", {"RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "ED"}, "ED"),
        ("CT", {"RescaleIntercept": None, "RescaleSlope": None}, None),
        ("MR", {}, None),
        ("PT", {"Units": "BQML"}, "Bq/mL"),
        ("PT", {"Units": "GML", "SUVType": "LBM"}, "SUVLBM"),
    ],
)
def test_what_the_tags_state_about_the_scan(tmp_path, modality, tags, unit):
    dates = {"AcquisitionDate": "20240601", "StudyDate": "20240531"}
    write_series(tmp_path / "scan", np.zeros((3, 4, 5), np.int16), modality=modality, **{**dates, **tags})
    scan = scan_of(read_slices(tmp_path / "scan"))
    assert (scan.unit, scan.frame, scan.patient, scan.date) == (unit, "1.2.3.5", "p1", date(2024, 6, 1))
