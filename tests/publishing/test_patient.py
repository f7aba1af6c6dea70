"""A published entry shows no patient: its sample holds pixels and geometry, and nothing else of its source."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from cphloc.data.case import Case
from cphloc.data.io.read import read_volume
from cphloc.errors import InputError
from cphloc.publishing.checks import leak_refusals
from cphloc.publishing.patient import burned_in_problems, write_pixels, write_rows
from cphloc.zoo.names import check_name

NAME = b"DOE^JANE"
ULTRASOUND, CAPTURE = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.7"


def dicom(path: Path, position: float = 0.0, **tags: str) -> Path:
    """Write a CT slice of a patient."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Modality, data.PatientName, data.PatientID = "CT", NAME.decode(), "DOE^JANE-4711"
    data.SeriesInstanceUID, data.StudyDescription = "1.2.3", NAME.decode()
    data.Rows = data.Columns = 16
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelSpacing, data.ImagePositionPatient = [0.7, 0.7], [1, 2, position]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelData = np.random.default_rng(int(position)).integers(-900, 900, (16, 16)).astype("i2").tobytes()
    for tag, value in tags.items():
        setattr(data, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path) -> Path:
    """Write a series of slices."""
    for index in range(4):
        dicom(folder / f"{index}.dcm", 2.5 * index)
    return folder


def nifti(path: Path) -> Path:
    """Write a NIfTI file with a name in every text of its header, and in an extension."""
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([2, 3, 4, 1]))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = NAME
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAME))
    nibabel.save(image, path)
    return path


def picture(path: Path) -> Path:
    """Write a picture with a name in its metadata."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 20, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x010E] = NAME.decode()
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", NAME.decode())
    image.save(path, exif=exif, **({"pnginfo": text} if path.suffix == ".png" else {}))
    return path


SOURCES = {
    "a series": lambda folder: series(folder / "s"),
    "a slice": lambda folder: dicom(folder / "s.dcm"),
    "NIfTI": lambda folder: nifti(folder / "s.nii"),
    "PNG": lambda folder: picture(folder / "s.png"),
    "JPEG": lambda folder: picture(folder / "s.jpg"),
    "TIFF": lambda folder: picture(folder / "s.tif"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_sample_holds_the_same_voxels_and_no_name(tmp_path, source: str):
    path = SOURCES[source](tmp_path)
    files = [path] if path.is_file() else sorted(path.iterdir())
    assert NAME in files[0].read_bytes()
    volume = read_volume(path)
    (tmp_path / "sample").mkdir()
    channels = ("red", "green", "blue") if len(volume.array) == 3 else ("ct",)
    written = write_pixels(tmp_path / "sample", volume, channels)
    assert list(written) == (["ct"] if len(channels) == 1 else ["image"])
    again = read_volume(tmp_path / "sample" / next(iter(written.values())))
    assert np.array_equal(again.array, volume.array)
    assert again.array.dtype == volume.array.dtype
    assert volume.geometry.unit == "px" or again.geometry.same_grid(volume.geometry)
    for file in (tmp_path / "sample").iterdir():
        content = file.read_bytes()
        for bytes_ in (content, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else b""):
            assert NAME not in bytes_
            assert b"JANE" not in bytes_


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "?", "f2"])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_channel_gets_a_file_named_by_no_stranger(tmp_path, dims: int, dtype: str):
    volume = read_volume(np.arange(2 * 4**dims).reshape(2, *[4] * dims).astype(dtype), (1.5,) * dims)
    written = write_pixels(tmp_path, volume, ("../../evil", "/etc/x"))
    assert written == {"../../evil": "evil.nii.gz", "/etc/x": "etc_x.nii.gz"}
    assert set(write_pixels(tmp_path, volume, ("CT", "..")).values()) == {"0.nii.gz", "1.nii.gz"}
    for number, name in enumerate(written.values()):
        assert np.array_equal(read_volume(tmp_path / name).array[0], volume.array[number])


def cases(*images: Path) -> list[Case]:
    """One case per image."""
    return [Case(f"case-{n}", f"patient-{n}", (image,)) for n, image in enumerate(images)]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, ""),
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"Modality": "US"}, "ultrasound without the tag"),
        ({"SOPClassUID": ULTRASOUND}, "ultrasound without the tag"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": CAPTURE}, "secondary capture without the tag"),
        ({"SOPClassUID": f"{CAPTURE}.4"}, "secondary capture without the tag"),
        ({"SOPClassUID": CAPTURE, "BurnedInAnnotation": "NO"}, ""),
    ],
)
def test_images_that_may_have_burned_in_text_are_found(tmp_path, tags: dict[str, str], reason: str):
    dicom(tmp_path / "s" / "1.dcm")
    dicom(tmp_path / "s" / "2.dcm", 2.0, **tags)  # one slice of a series is enough
    for image in (tmp_path / "s" / "2.dcm", tmp_path / "s"):
        found = burned_in_problems(cases(picture(tmp_path / "p.png"), image))
        assert bool(found) == bool(reason)
        assert all(reason in problem and "--sample-is-clean" in problem for problem in found)


def test_a_leak_between_series_of_several_files_is_found(tmp_path):
    one, other = series(tmp_path / "a"), series(tmp_path / "b")
    for file in other.iterdir():
        file.write_bytes((one / file.name).read_bytes())

    class Dataset:
        def cases(self, split: str) -> list[Case]:
            return [Case(split, split, ({"train": one}.get(split, other),))]

    problems = leak_refusals(Dataset(), ["test"], "test")
    assert any("images are also in" in problem for problem in problems)
    dcm = dcmread(other / "0.dcm")
    dcm.PixelData = bytes(512)
    dcm.save_as(other / "0.dcm")
    assert not any("images are also in train:" in problem for problem in leak_refusals(Dataset(), [], "val"))


def test_the_published_table_numbers_the_patients(tmp_path):
    (tmp_path / "a.csv").write_text("case,patient,dice\na,DOE^JANE,0.5\nb,ROE,0.6\nc,DOE^JANE,\n")
    write_rows(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().split() == [
        "case,patient,dice",
        "a,patient-1,0.5",
        "b,patient-2,0.6",
        "c,patient-1,",
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [("../evil", "1.0.0"), ("/tmp/x", "1.0.0"), ("a", "../../1.0.0"), ("a", "1.0"), ("a\n", "1.0.0"), ("A", "1.0.0")],
)
def test_no_name_of_an_entry_leads_out_of_the_zoo(name: str, version: str):
    with pytest.raises(InputError, match=r"is not a (name|version)"):
        check_name(name, version)
    check_name("unet3d-ct.v2_x", "1.2.0rc1")


@pytest.mark.parametrize("name", ["con", "aux.v2", "lpt1"])
def test_no_entry_is_called_like_a_device_of_windows(name: str):
    with pytest.raises(InputError, match="is the name of a device on Windows"):
        check_name(name, "1.0.0")


def test_a_header_of_a_nifti_is_as_short_as_it_can_be(tmp_path):
    """Vox offset 352: no extension, in which writers of other formats keep DICOM tags, follows the header."""
    write_pixels(tmp_path, read_volume(nifti(tmp_path / "s.nii")), ("ct",))
    content = gzip.decompress((tmp_path / "ct.nii.gz").read_bytes())
    assert struct.unpack("<f", content[108:112]) == (352.0,)
