"""Images as models take them: units, modalities, channels, and warnings, without any network."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from pydicom import Dataset
from synthetic_dicom import write_series

from cphloc.errors import DataError, InputError
from cphloc.inference.inputs import Inputs
from cphloc.structures.fingerprint import Fingerprint
from cphloc.structures.units import channel_inputs

PETCT = Inputs(channel_inputs(["ct", "pet"], {"ct": "HU", "pet": "SUV x 100"}), 3)
PET = Inputs(channel_inputs(["pet"], {"pet": "SUV x 100"}), 3)
CT = Inputs(channel_inputs(["ct"]), 3)


def body() -> np.ndarray:
    """Air around tissue, in HU."""
    values = np.full((8, 16, 16), -1000, np.int16)
    values[1:7, 3:13, 3:13] = np.random.default_rng(0).integers(-60, 90, (6, 10, 10))
    return values


def uptake() -> np.ndarray:
    """A tumour of SUV 8 in tissue of SUV 1."""
    values = np.ones((8, 16, 16), np.float32)
    values[2:6, 4:9, 4:9] = 8
    return values


@pytest.fixture
def nifti(tmp_path):
    def write(values: np.ndarray, name: str = "image") -> str:
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.asarray(values).T, np.diag([-2.0, -2.0, 3.0, 1.0])), path)
        return str(path)

    return write


@pytest.fixture
def dicom(tmp_path):
    def write(values: np.ndarray, modality: str, name: str = "series", **tags) -> str:
        rescale = {"RescaleIntercept": 0, "RescaleSlope": 1} if modality == "CT" else {}
        write_series(
            tmp_path / name, values.astype(np.int16), (3.0, 2.0, 2.0), modality=modality, **{**rescale, **tags}
        )
        return str(tmp_path / name)

    return write


def suv_tags() -> dict:
    """Tags by which 2500 Bq/mL are SUV 1: 80 kg, 200 MBq, corrected to the time of the injection."""
    isotope = Dataset()
    isotope.RadionuclideTotalDose = 200e6
    once = {"CorrectedImage": [["ATTN", "DECY"]] * 8, "RadiopharmaceuticalInformationSequence": [[isotope]] * 8}
    return {"Units": "BQML", "DecayCorrection": "ADMIN", "PatientWeight": 80, **once}


def test_a_file_without_a_unit_is_taken_in_that_of_the_model(nifti):
    reading = PET.read(nifti(100 * uptake()))
    np.testing.assert_allclose(reading.volume.array[0], 100 * uptake())
    assert reading.channels == {"pet": {"modality": "PT", "unit": "SUV x 100", "stated": "entry"}}
    assert reading.warnings == ()


def test_strict_says_what_it_cannot_check(nifti, dicom):
    known = Fingerprint.of(["ct"], [[(-1000.0, 0.0, 90.0)]], [[24.0, 32.0, 32.0]], "mm")
    full = Inputs(channel_inputs(["ct"]), 3, known)
    assert full.read(dicom(body(), "CT"), strict=True).volume.notes == ()
    (note,) = CT.read(dicom(body(), "CT", "again"), strict=True).volume.notes
    assert note.startswith("strict could not check: intensities and extent (the model states none")
    (note,) = full.read(nifti(body()), strict=True).volume.notes
    assert note == "strict could not check: modality (stated by the model at most)"
    assert CT.read(nifti(body())).volume.notes == ()


def test_another_unit_is_converted_and_said(nifti):
    reading = PET.read(nifti(uptake()), units={"pet": "SUV"})
    np.testing.assert_allclose(reading.volume.array[0], 100 * uptake())
    assert reading.channels["pet"]["stated"] == "user"
    assert reading.warnings == ()


def test_dicom_is_converted_by_its_tags(dicom):
    reading = PET.read(dicom(2500 * uptake(), "PT", **suv_tags()))
    np.testing.assert_allclose(reading.volume.array[0], 100 * uptake(), rtol=1e-5)
    assert reading.channels["pet"]["stated"] == "file"
    assert reading.warnings == ()


def test_each_channel_of_one_file_or_of_two_has_its_unit(nifti):
    both = np.stack([body(), uptake()], axis=0)
    files = {"ct": nifti(body(), "ct"), "pet": nifti(uptake(), "pet")}
    expected = np.stack([body(), 100 * uptake()])
    for source in (files, nifti(both)):
        reading = PETCT.read(source, units={"pet": "SUV"})
        np.testing.assert_allclose(reading.volume.array, expected)
        assert {name: of["stated"] for name, of in reading.channels.items()} == {"ct": "entry", "pet": "user"}


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"pet": "Bq/mL"}, "Bq/mL cannot be converted without DICOM tags"),
        ({"pett": "SUV"}, "did you mean 'pet'"),
        ({"pet": "SUW"}, "did you mean 'SUV'"),
    ],
)
def test_units_that_make_no_sense_are_refused(nifti, units, message):
    with pytest.raises(InputError, match=message):
        PET.read(nifti(uptake()), units=units)


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (body(), None),
        ((body() + 1000) / 1100, "hardly HU"),
        ((body() + 1000.0) * 255 / 1100, "hardly HU"),
        (body() + 1024, "hardly HU"),
        (100 * uptake(), "hardly HU"),  # a PET in place of the CT
    ],
)
def test_a_ct_that_is_none_is_noticed_and_refused_if_strict(nifti, values, warning):
    path = nifti(np.asarray(values, np.float32))
    reading = CT.read(path)
    assert len(reading.warnings) == (warning is not None)
    if warning is None:
        assert CT.read(path, strict=True).warnings == ()
        return
    assert warning in reading.warnings[0]
    with pytest.raises(DataError, match=f"{path}: .*{warning}") as error:
        CT.read(path, strict=True)
    assert "\n" not in str(error.value)


def test_suv_without_its_factor_is_noticed_with_advice(nifti):
    (warning,) = PET.read(nifti(uptake())).warnings
    assert "--unit pet=SUV" in warning


@pytest.mark.parametrize("values", [body(), 1e7 * uptake()], ids=["a CT", "Bq/mL"])
def test_impossible_values_are_refused(nifti, values):
    with pytest.raises(DataError, match=r"channel 'pet': .* SUV are impossible"):
        PET.read(nifti(np.asarray(values, np.float32)))


def test_ct_and_pet_in_each_others_place_are_refused(nifti):
    with pytest.raises(DataError, match="channel 'pet'"):
        PETCT.read({"ct": nifti(100 * uptake(), "pet"), "pet": nifti(body(), "ct")})


def test_a_series_of_another_modality_gets_a_warning(dicom):
    path = dicom(body(), "MR")
    (warning,) = CT.read(path).warnings
    assert warning == "channel 'ct': the series is MR, and the model was trained on CT in HU"
    with pytest.raises(DataError, match="the series is MR"):
        CT.read(path, strict=True)
    assert CT.read(dicom(body(), "CT", "ct")).warnings == ()


def test_a_series_in_another_unit_is_refused(dicom):
    with pytest.raises(DataError, match="its values are in Bq/mL by its tags"):
        CT.read(dicom(2500 * uptake(), "PT", **suv_tags()))


def test_an_image_far_from_the_training_data_gets_a_warning(nifti):
    known = Fingerprint.of(["ct"], [[(-1000.0, 0.0, 90.0)]] * 3, [[24.0, 32.0, 32.0]] * 3, "mm")
    trained = Inputs(channel_inputs(["ct"]), 3, known)
    assert trained.read(nifti(body())).warnings == ()
    large = np.tile(body(), (3, 1, 1))
    (warning,) = trained.read(nifti(large)).warnings
    assert "its extent of 72 mm over the slices is far from" in warning
    bright = np.where(body() < -500, body(), body() + 800)
    (warning,) = trained.read(nifti(bright.astype(np.int16))).warnings
    assert "far from those of the training images" in warning


def test_missing_and_mistyped_channels_are_named(nifti):
    with pytest.raises(DataError, match="takes the channels ct, pet, got ct"):
        PETCT.read({"ct": nifti(body())})
    with pytest.raises(DataError, match="holds 2 channels; pass it alone"):
        PETCT.read({"ct": nifti(np.stack([body(), body()])), "pet": nifti(uptake(), "pet")})
