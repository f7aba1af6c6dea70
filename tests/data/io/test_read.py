from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_dicom import write_series

from cphloc.data.io.itk import to_itk
from cphloc.data.io.read import read_mask, read_volume
from cphloc.errors import DataError
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def turned(degrees: float = 25.0) -> np.ndarray:
    """Oblique, and the row axis flipped; columns are the array axes z, y, x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s, 0], [-s * c, c * c, s], [s * s, -s * c, c]]).T[:, ::-1] * [1, -1, 1]


OBLIQUE = Geometry((7, 9, 11), (3.0, 0.7, 1.1), (-30.5, 12.25, 400.0), turned())
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@pytest.fixture(params=[np.uint8, np.int16, np.int32, np.float32], ids=lambda t: t.__name__)
def values(request) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, OBLIQUE.shape).astype(request.param)


@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "plain"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_keeps_values_type_and_the_place_of_voxels(tmp_path, suffix, compressed, values):
    image = to_itk(values, OBLIQUE)
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    volume = read_volume(path, dims=3)
    assert volume.array.dtype == values.dtype
    np.testing.assert_array_equal(volume.array[0], values)
    for index in [(0, 0, 0), (6, 8, 10), (2, 5, 1)]:
        expected = image.TransformIndexToPhysicalPoint(index[::-1])
        found = volume.geometry.edges_to_world(np.asarray(index) + 0.5)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_nifti_agrees_with_nibabel_once_ras_is_lps(tmp_path):
    affine = LPS_TO_RAS @ _itk_order(OBLIQUE)
    stored = np.random.default_rng(0).integers(-1000, 1000, OBLIQUE.shape[::-1]).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(volume.array[0], stored.T)
    np.testing.assert_allclose(_itk_order(volume.geometry), LPS_TO_RAS @ affine, atol=1e-4)


def _itk_order(geometry: Geometry) -> np.ndarray:
    """Matrix from index (column, row, slice) to LPS."""
    return geometry.affine[:, [2, 1, 0, 3]]


@pytest.mark.parametrize("byte_order", ["<", ">"], ids=["little endian", "big endian"])
def test_nifti_rescale_and_byte_order(tmp_path, byte_order: str):
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=byte_order)
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(stored, np.eye(4), header)
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "scan.nii")
    proxy = nibabel.load(tmp_path / "scan.nii").dataobj
    assert (proxy.get_unscaled() != np.asarray(proxy)).any()
    np.testing.assert_allclose(read_volume(tmp_path / "scan.nii").array[0], np.asarray(proxy).T)


def _turned(degrees: float, axis: int, spacing_mm: tuple[float, ...], corner: tuple[float, ...]) -> np.ndarray:
    """``(4, 4)`` affine turned about one world axis."""
    i, j = (a for a in range(3) if a != axis)
    affine = np.eye(4)
    affine[[i, j, i, j], [i, j, j, i]] = np.cos(np.radians(degrees)) * np.array([1, 1, 0, 0])
    affine[i, j], affine[j, i] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
    affine[:3, :3] *= spacing_mm
    affine[:3, 3] = corner
    return affine


FORMS = _turned(20, 0, (2.0, 2.0, 3.0), (10, 20, 30)), _turned(35, 2, (2.0, -2.0, 3.0), (1, 2, 3))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (2, 1), (4, 2)], ids="sform {0[0]} qform {0[1]}".format)
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(nibabel.Nifti1Image, np.int16), (nibabel.Nifti2Image, np.int64), (nibabel.Nifti2Image, np.float64)],
    ids=["NIfTI-1 int16", "NIfTI-2 int64", "NIfTI-2 float64"],
)
def test_the_sform_counts_before_the_qform_as_in_nibabel(tmp_path, kind, codes, dtype):
    stored = np.arange(60).reshape(3, 4, 5).astype(dtype)
    image = kind(stored, None, dtype=dtype)
    image.set_sform(FORMS[0], code=codes[0])
    image.set_qform(FORMS[1], code=codes[1])
    image.header.set_slope_inter(0.25, 7) if dtype is np.int16 else None
    nibabel.save(image, tmp_path / "scan.nii.gz")
    truth, volume = nibabel.load(tmp_path / "scan.nii.gz"), read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(_itk_order(volume.geometry), LPS_TO_RAS @ truth.affine, atol=1e-4)
    np.testing.assert_allclose(volume.array[0], np.asarray(truth.dataobj).T, rtol=1e-6)


def test_nifti_in_micrometres_and_without_any_form(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([250.0, 250.0, 500.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "microscope.nii")
    assert read_volume(tmp_path / "microscope.nii").geometry.spacing_mm == pytest.approx((0.5, 0.25, 0.25))
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    image.header["pixdim"][1:4] = 1.5, 2.0, 4.0
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "plain.nii")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "plain.nii"))
    reader.ReadImageInformation()
    grid = read_volume(tmp_path / "plain.nii").geometry
    assert grid.spacing_mm[::-1] == pytest.approx(reader.GetSpacing())
    np.testing.assert_allclose(grid.direction[:, ::-1].ravel(), reader.GetDirection())


def test_a_line_and_a_broken_quaternion_are_no_image(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(7, np.int16), np.eye(4)), tmp_path / "line.nii")
    with pytest.raises(DataError, match=r"line\.nii: cannot be read \(it is not an image but a 1-D array of 7 values"):
        read_volume(tmp_path / "line.nii")
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(np.eye(4), 1)
    content = bytearray(image.to_bytes())
    content[256:260] = np.float32(np.nan).tobytes()
    (tmp_path / "turned.nii").write_bytes(content)
    with pytest.raises(DataError, match=r"turned\.nii: cannot be read"):
        read_volume(tmp_path / "turned.nii")


def test_a_metaimage_with_a_flipped_transform_matrix(tmp_path):
    """LUNA16 writes such files; abs(world - origin) / spacing hides the mistake."""
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = -1 0 0 0 -1 0 0 0 1\nOffset = 100 80 -200\nElementSpacing = 0.5 0.75 2\n"
        "DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = scan.raw\n"
    )
    (tmp_path / "scan.mhd").write_text(header)
    (tmp_path / "scan.raw").write_bytes(np.arange(24, dtype="<i2").tobytes())
    geometry = read_volume(tmp_path / "scan.mhd").geometry
    np.testing.assert_allclose(geometry.world_to_edges([99.0, 79.25, -198.0]), [1.5, 1.5, 2.5])


@pytest.mark.parametrize(
    ("space", "sign"),
    [("left-posterior-superior", (1, 1, 1)), ("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1))],
)
def test_nrrd_spaces_become_lps(tmp_path, space: str, sign: tuple[int, ...]):
    header = (
        f"NRRD0004\n# made by hand\ntype: short\ndimension: 3\nspace: {space}\nsizes: 4 3 2\n"
        "space directions: (0.5,0,0) (0,0.75,0) (0,0,2)\nkinds: domain domain domain\nendian: big\nencoding: raw\n"
        "space origin: (10,20,30)\n\n"
    )
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + np.arange(24, dtype=">i2").tobytes())
    volume = read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(volume.array[0].ravel(), np.arange(24))
    image = sitk.ReadImage(str(tmp_path / "scan.nrrd"))
    found = volume.geometry.edges_to_world(np.array([1.5, 2.5, 3.5]))
    np.testing.assert_allclose(found, image.TransformIndexToPhysicalPoint((3, 2, 1)), atol=1e-6)
    np.testing.assert_allclose(found, np.array([11.5, 21.5, 32.0]) * sign, atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_components_become_channels(tmp_path, suffix: str):
    values = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / f"scan{suffix}"))
    np.testing.assert_array_equal(read_volume(tmp_path / f"scan{suffix}").array, np.moveaxis(values, -1, 0))


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "dims", "expected"),
    [
        ((5, 6), None, None, (1, 5, 6)),
        ((4, 5, 6), None, None, (1, 4, 5, 6)),
        ((4, 5, 6), (2, 1, 1), None, (1, 4, 5, 6)),
        ((2, 5, 6), None, 2, (2, 5, 6)),
        ((5, 6, 3), None, 2, (3, 5, 6)),
        ((2, 4, 5, 6), None, 3, (2, 4, 5, 6)),
    ],
    ids=["2-D", "3-D", "3-D with spacing", "2-D channels first", "2-D photograph", "3-D channels"],
)
def test_arrays(shape, spacing_mm, dims, expected):
    volume = read_volume(np.zeros(shape), spacing_mm, dims)
    assert volume.array.shape == expected
    assert volume.geometry.unit == ("px" if spacing_mm is None else "mm")


@pytest.mark.parametrize("array", [np.zeros((0, 4)), np.zeros((4, 5), "U3"), np.zeros((4, 5), complex), np.zeros(4)])
def test_arrays_that_are_no_image_are_refused(array):
    with pytest.raises(DataError, match="is not a 2-D image; pass numbers"):
        read_volume(array, dims=2)


def test_a_list_is_the_channels_of_one_image(tmp_path):
    one, two = np.zeros((4, 5, 6)), np.ones((4, 5, 6))
    np.testing.assert_array_equal(read_volume([one, two], (2, 1, 1)).array, np.stack([one, two]))
    other = Volume(np.zeros((1, 4, 5, 3)), Geometry.regular((4, 5, 3), (1 / 3, 1, 1), "px"), source="pet.nii.gz")
    message = (
        r"pet\.nii\.gz: is on another grid .*\(0\.3333, 1(\.0)?, 1(\.0)?\) px\) than the first channel ct\.nii\.gz"
    )
    with pytest.raises(DataError, match=message):
        read_volume([Volume(np.zeros((1, 4, 5, 6)), Geometry.regular((4, 5, 6)), source="ct.nii.gz"), other])


def test_spacing_is_for_images_that_state_none(tmp_path):
    sitk.WriteImage(to_itk(np.zeros((4, 5, 6), np.int16), Geometry.regular((4, 5, 6))), str(tmp_path / "scan.nii"))
    assert read_volume(tmp_path / "scan.nii", spacing_mm=(1, 1, 1)).geometry.spacing_mm == (1, 1, 1)
    with pytest.raises(DataError, match="has the voxel size"):
        read_volume(tmp_path / "scan.nii", spacing_mm=(2, 1, 1))


def _nifti(path, shape, value=0.0):
    nibabel.save(nibabel.Nifti1Image(np.full(shape, value, np.float32), np.eye(4)), path)


def test_unsuitable_input_is_named_with_what_to_do(tmp_path):
    _nifti(tmp_path / "slice.nii.gz", (3, 4, 1))
    _nifti(tmp_path / "nan.nii.gz", (3, 4, 5), np.nan)
    _nifti(tmp_path / "inf.nii", (3, 4, 5), -np.inf)
    _nifti(tmp_path / "fine.nii.gz", (3, 4, 5))
    (tmp_path / "text.nii.gz").write_text("patient not found\n")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "scan.docx").write_bytes(b"PK" * 100)
    (tmp_path / "truncated.nii.gz").write_bytes((tmp_path / "fine.nii.gz").read_bytes()[:-5])
    cases = [
        ("slice.nii.gz", 3, "has a single slice but a volume is needed"),
        ("fine.nii.gz", 2, "is a volume of .* but a 2-D image is needed"),
        ("nan.nii.gz", None, "60 voxels are NaN or infinite"),
        ("inf.nii", None, "60 voxels are NaN or infinite"),
        ("text.nii.gz", None, "is not NIfTI, its first bytes are b'patient"),
        ("empty.nii.gz", None, r"is empty \(0 bytes\)"),
        ("truncated.nii.gz", None, "truncated or damaged"),
        ("scan.docx", None, "is neither DICOM nor one of"),
        ("FINE.nii", None, r"does not exist; did you mean 'fine\.nii\.gz'"),
        ("fin.nii.gz", None, r"does not exist; check the path"),  # a similar name may be another patient's
    ]
    for name, dims, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            read_volume(tmp_path / name, dims=dims)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_volume_of_one_slice_serves_as_an_image(tmp_path):
    _nifti(tmp_path / "slice.nii.gz", (3, 4, 1))
    assert read_volume(tmp_path / "slice.nii.gz", dims=2).geometry.shape == (4, 3)
    assert read_volume(tmp_path / "slice.nii.gz").geometry.shape == (1, 4, 3)


def test_a_sheared_nifti_is_refused(tmp_path):
    affine = np.eye(4)
    affine[0, 2] = 0.4
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "sheared.nii")
    with pytest.raises(DataError, match=r"sheared\.nii: cannot be read"):
        read_volume(tmp_path / "sheared.nii")


class TestMask:
    labels = np.random.default_rng(1).integers(0, 3, OBLIQUE.shape).astype(np.uint8)

    def write(self, path, labels, geometry):
        sitk.WriteImage(to_itk(labels, geometry), str(path))
        return path

    def test_on_the_images_grid(self, tmp_path):
        path = self.write(tmp_path / "mask.nii.gz", self.labels.astype(np.float32), OBLIQUE)
        mask = read_mask(path, OBLIQUE)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, self.labels)

    def test_stored_with_other_axes_it_is_brought_over_exactly(self, tmp_path):
        order, flip = (2, 0, 1), (0, 2)
        moved = np.flip(self.labels.transpose(order), flip)
        path = self.write(tmp_path / "mask.nii.gz", moved, OBLIQUE.reoriented(order, flip))
        np.testing.assert_array_equal(read_mask(path, OBLIQUE), self.labels)

    def test_on_another_grid_it_is_an_error_unless_resampling_is_wanted(self, tmp_path):
        shifted = OBLIQUE.crop((0, 0, 1), OBLIQUE.shape)
        path = self.write(tmp_path / "mask.nii.gz", self.labels, shifted)
        with pytest.raises(DataError, match=r"mask is on another grid .* resample the mask onto the image"):
            read_mask(path, OBLIQUE)
        np.testing.assert_array_equal(read_mask(path, OBLIQUE, resampled=True)[:, :, 1:], self.labels[:, :, :-1])

    @pytest.mark.parametrize("value", [0.5, -1.0], ids=["fraction", "negative"])
    def test_of_anything_but_labels_is_an_error(self, tmp_path, value: float):
        path = self.write(tmp_path / "mask.nii.gz", np.full(OBLIQUE.shape, value, np.float32), OBLIQUE)
        with pytest.raises(DataError, match="is not a label mask"):
            read_mask(path, OBLIQUE)

    def test_with_labels_above_255_keeps_them(self, tmp_path):
        path = self.write(tmp_path / "mask.nii.gz", self.labels.astype(np.int16) * 400, OBLIQUE)
        assert read_mask(path, OBLIQUE).max() == 800


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_slice_in_nifti_and_in_dicom_is_the_same_picture(tmp_path, flip):
    """An axial slice, stored with its rows and columns in any direction: its canonical picture is the DICOM one."""
    picture = np.arange(30, dtype=np.int16).reshape(5, 6)
    write_series(tmp_path / "dicom", picture[None], (1.0, 2.0, 1.5), (-10.0, 4.0, 7.0))
    expected = read_volume(tmp_path / "dicom", dims=2).canonical()
    np.testing.assert_array_equal(expected.array[0], picture)
    image = sitk.ReadImage(str(next((tmp_path / "dicom").iterdir())))
    sitk.WriteImage(image[:: flip[0], :: flip[1], :], str(tmp_path / "slice.nii.gz"))
    read = read_volume(tmp_path / "slice.nii.gz", dims=2).canonical()
    np.testing.assert_array_equal(read.array, expected.array)
    assert read.geometry.same_grid(expected.geometry)
