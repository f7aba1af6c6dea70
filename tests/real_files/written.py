"""Files that SimpleITK, rt-utils, highdicom and dcmqi write, compared with what they were written from."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from synthetic_dicom import UPRIGHT, oblique, write_series

from .compare import Row, compare_image, compare_regions

SHAPE, SPACING = (12, 30, 40), (3.0, 0.7, 1.1)
TYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64")
RT_UTILS = Path(sys.prefix) / "rt-utils"
"""Folder of rt-utils, outside the environment's packages because it installs a package named ``tests``."""
RNG = np.random.default_rng(0)


def by_simpleitk(folder: Path) -> list[Row]:
    """NRRD, MetaImage, NIfTI and pictures in every type that they can hold."""
    import SimpleITK as sitk

    rows = []
    turned = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    for dtype in TYPES:
        for suffix in ("nrrd", "nhdr", "mha", "mhd", "nii.gz", "hdr"):
            for components, packed in ((1, False), (1, True), (3, True)):
                values = (200 * RNG.random((5, 6, 7, components)) - 20 * (dtype[0] != "u")).astype(dtype)
                image = sitk.GetImageFromArray(values if components > 1 else values[..., 0], isVector=components > 1)
                image.SetSpacing((1.1, 0.7, 3.0))
                image.SetOrigin((-10.5, 20.25, 30.125))
                image.SetDirection(turned.ravel().tolist())
                name = f"{dtype}_{components}_{'packed' if packed else 'plain'}.{suffix}"
                sitk.WriteImage(image, str(folder / name), useCompression=packed)
                rows.append(compare_image("SimpleITK", folder / name, name))
    for suffix, channels in ((s, c) for s in ("png", "bmp", "tif") for c in (1, 3)):
        picture = sitk.GetImageFromArray(
            RNG.integers(0, 256, (9, 8, channels)).astype(np.uint8).squeeze(), channels > 1
        )
        name = f"picture_{channels}.{suffix}"
        sitk.WriteImage(picture, str(folder / name))
        rows.append(compare_image("SimpleITK", folder / name, name))
    return rows


def _masks() -> dict[str, np.ndarray]:
    """A ball, and a ring with a hole, apart from each other."""
    z, y, x = np.indices(SHAPE)
    ball = (z - 6) ** 2 + ((y - 15) / 2) ** 2 + ((x - 10) / 2) ** 2 < 16
    distance = (y - 15) ** 2 + (x - 29) ** 2
    return {"ball": ball, "ring": (distance < 64) & (distance > 16) & (abs(z - 5) < 3)}


def _scan(folder: Path, orientation: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> Path:
    order = {"InstanceNumber": list(range(1, SHAPE[0] + 1)), "SliceLocation": [3.0 * k for k in range(SHAPE[0])]}
    write_series(folder, RNG.integers(0, 900, SHAPE).astype(np.int16), spacing, orientation=orientation, **order)
    return folder


def by_rt_utils(folder: Path) -> list[Row]:
    """RTSTRUCTs of an axial and an oblique series of square pixels; of others, rt-utils exchanges the two sizes."""
    sys.path.append(str(RT_UTILS))
    from rt_utils import RTStructBuilder

    rows = []
    for name, orientation in (("axial", UPRIGHT), ("oblique", oblique())):
        scan = _scan(folder / name, orientation, (3.0, 0.9, 0.9))
        structures = RTStructBuilder.create_new(dicom_series_path=str(scan))
        for region, mask in _masks().items():
            structures.add_roi(mask=np.moveaxis(mask, 0, -1), name=region, use_pin_hole=True)
        path = folder / f"{name}_rtstruct.dcm"
        with contextlib.redirect_stdout(io.StringIO()):
            structures.save(str(path))
        rows.append(compare_regions("rt-utils", scan, path, path.name, _masks(), loose=True))
    return rows


def by_highdicom(folder: Path) -> list[Row]:
    """SEGs of each type, and parametric maps."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    rows, device = [], {"manufacturer": "a", "manufacturer_model_name": "b", "software_versions": "1"}
    for name, orientation in (("axial", UPRIGHT), ("oblique", oblique())):
        scan = _scan(folder / name, orientation)
        images = [dcmread(path) for path in scan.iterdir()]
        normal = np.cross(*orientation)
        images.sort(key=lambda d, n=normal: float(np.dot(np.array(d.ImagePositionPatient, float), n)))
        unique = {"series_instance_uid": generate_uid(), "series_number": 2, "instance_number": 1}
        about = {**unique, **device, "device_serial_number": "1"}
        segments = [
            hd.seg.SegmentDescription(n, label, codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
            for n, label in enumerate(_masks(), start=1)
        ]
        for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
            pixels = np.stack(list(_masks().values()), axis=-1).astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
            seg = hd.seg.Segmentation(
                images, pixels, kind, segments, sop_instance_uid=generate_uid(), **about, omit_empty_frames=True
            )
            path = folder / f"{name}_{kind.lower()}.dcm"
            seg.save_as(path)
            rows.append(compare_regions("highdicom", scan, path, path.name, _masks(), loose=False))
        for dtype in (np.float32, np.float64, np.uint16):
            values = (1000 * RNG.random(SHAPE)).astype(dtype)
            whole = dtype == np.uint16
            limits = (0, 1000) if whole else (0.0, 1000.0)
            mapping = hd.pm.RealWorldValueMapping(
                "a", "b", codes.UCUM.NoUnits, value_range=limits, slope=0.5 if whole else 1.0, intercept=0.0
            )
            window = {"window_center": 500, "window_width": 1000, "real_world_value_mappings": [mapping]}
            pmap = hd.pm.ParametricMap(
                images,
                values,
                sop_instance_uid=generate_uid(),
                contains_recognizable_visual_features=False,
                **window,
                **about,
            )
            path = folder / f"{name}_map_{np.dtype(dtype)}.dcm"
            pmap.save_as(path)
            rows.append(_compare_map(path, values * mapping.RealWorldValueSlope))
    return rows


def _compare_map(path: Path, expected: np.ndarray) -> Row:
    from cphloc.data.io.read import read_volume

    found = read_volume(path).array[0]
    same = found.shape == expected.shape and np.allclose(found, expected, rtol=1e-5)
    return Row("highdicom", path.name, "highdicom", "equal" if same else "wrong", f"{found.shape} {found.dtype}")


def by_dcmqi(folder: Path) -> list[Row]:
    """SEGs written by itkimage2segimage."""
    import SimpleITK as sitk

    rows = []
    for name, orientation in (("axial", UPRIGHT), ("oblique", oblique())):
        scan = _scan(folder / name, orientation)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(scan)))
        grid = reader.Execute()
        labels = np.zeros(SHAPE, np.uint8)
        for number, mask in enumerate(_masks().values(), start=1):
            labels[mask] = number
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(grid)
        sitk.WriteImage(image, str(folder / f"{name}.nrrd"))
        (folder / "meta.json").write_text(json.dumps(_dcmqi_meta()))
        path = folder / f"{name}_dcmqi.dcm"
        tool = Path(sys.executable).with_name("itkimage2segimage")
        files = ["--inputImageList", folder / f"{name}.nrrd", "--inputDICOMDirectory", scan, "--outputDICOM", path]
        subprocess.run([tool, *files, "--inputMetadata", folder / "meta.json"], check=True, capture_output=True)
        rows.append(compare_regions("dcmqi", scan, path, path.name, _masks(), loose=False))
    return rows


def _dcmqi_meta() -> dict[str, object]:
    tissue = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    return {
        "ContentCreatorName": "a",
        "SeriesNumber": "2",
        "InstanceNumber": "1",
        "segmentAttributes": [
            [
                {
                    "labelID": number,
                    "SegmentLabel": label,
                    "SegmentDescription": label,
                    "SegmentAlgorithmType": "MANUAL",
                    "SegmentedPropertyCategoryCodeSequence": tissue,
                    "SegmentedPropertyTypeCodeSequence": tissue,
                }
                for number, label in enumerate(_masks(), start=1)
            ]
        ],
    }
