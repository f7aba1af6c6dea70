"""What is fuzzed: every function that reads a file of a stranger, with valid files to start from."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cphloc import paths
from cphloc.config import yamlio
from cphloc.data.datasets.coco import Coco
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.data.datasets.nnunet import NnUnet
from cphloc.data.fetch import unpack
from cphloc.data.io.read import read_volume
from cphloc.data.io.read_dicom_seg import read_segments
from cphloc.data.io.rtstruct import read_contours, read_rtstruct
from cphloc.data.io.voc_xml import read_voc_boxes
from cphloc.errors import CphlocError
from cphloc.inference.batch_report import write_report
from cphloc.publishing.audit import audit
from cphloc.publishing.card import model_card
from cphloc.publishing.card_html import html_of
from cphloc.publishing.page import zoo_page
from cphloc.publishing.sample import read_expected
from cphloc.recipe import recipe
from cphloc.recipe.migrate import migrate
from cphloc.registry.card import card_from
from cphloc.structures.geometry import Geometry
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import parse_index
from cphloc.zoo.lock import find_locked
from cphloc.zoo.weights import read_weights

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
"""Inputs of each target, in a folder of its name: valid files, and those that once failed."""


@dataclass(frozen=True)
class Target:
    """One function that reads a file.

    Args:
        name: its name, and that of its folder of seeds.
        read: reads the bytes, in an empty folder.
    """

    name: str
    read: Callable[[bytes, Path], object]

    def __call__(self, content: bytes, folder: Path) -> bool:
        """Read; return whether it was accepted. Any exception but those of cphloc is a bug."""
        try:
            self.read(content, folder)
        except CphlocError as error:
            said = str(error)
        else:
            return True
        assert said.replace("\n", "").isprintable(), said
        return False

    @property
    def seeds(self) -> list[bytes]:
        """The kept inputs."""
        return [path.read_bytes() for path in sorted((SEEDS / self.name).glob("*"))]


def _image(suffix: str) -> Target:
    return Target(f"image{suffix}", lambda content, folder: read_volume(_put(folder / f"a{suffix}", content)))


def _put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _detached(name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> object:
        _put(folder / "a.raw", bytes(range(120)))
        return read_volume(_put(folder / name, content))

    return read


def _cases(dataset: Callable[[str], object], file: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> object:
        path = folder / file
        for place in (path.parent, folder / "imagesTr", folder / "labelsTr"):
            place.mkdir(exist_ok=True, parents=True)
        (folder / "imagesTr" / "a_0000.nii.gz").touch()
        _put(path, content)
        return dataset(str(folder)).cases("train")  # type: ignore[attr-defined]

    return read


def _entry_folder(content: bytes, folder: Path) -> None:
    version = folder / "zoo" / "a" / "1.0.0"
    version.mkdir(parents=True)
    _put(version / "entry.yaml", content)
    html_of(model_card(Entry.read(version / "entry.yaml")), "")
    audit(version)


def _page(content: bytes, folder: Path) -> None:
    entry = Entry.parse(content, "entry.yaml")
    version = folder / entry.name / entry.version
    version.mkdir(parents=True)
    _put(version / "entry.yaml", content)
    path = zoo_page(folder)
    versions = [p.read_text(encoding="utf-8") for p in (folder / f"{path.stem}-pages").glob("*.html")]
    for scripts, html in ((1, path.read_text(encoding="utf-8")), *((0, version) for version in versions)):
        assert html.count("<script") == scripts
        assert html.count("Content-Security-Policy") >= 1


def _report(content: bytes, folder: Path) -> None:
    text = content.decode("utf-8", "replace")
    row = {"case": text, "input": text, "status": "failed", "seconds": 1.0, "error": text, "files": [text]}
    row |= {"measurements": {text: {"volume_ml": 1.0}}, "probabilities": {text: 0.5}}
    for suffix in (".csv", ".json", ".html"):
        write_report(folder / f"r{suffix}", [row])
    assert "<script" not in (folder / "r.html").read_text(encoding="utf-8")


def _locked(content: bytes, folder: Path) -> None:
    find_locked("unet3d-hippocampus", _put(folder / "cphloc.lock", content))


def _expected(content: bytes, folder: Path) -> None:
    facts = sorted(paths.shipped("zoo").glob("unet3d-hippocampus/*"))[-1] / "sample" / "expected.json"
    _put(folder / "expected.json", facts.read_bytes())
    read_expected(folder / "expected.json", _put(folder / "expected_mask.npz", content))


def _card(content: bytes, folder: Path) -> None:
    card_from(yamlio.read(content, "card.yaml"), "neck", "a", "card.yaml")


def _voc(content: bytes, folder: Path) -> None:
    read_voc_boxes(_put(folder / "a.xml", content), {1: "a"})


def _images_of(root: str) -> object:
    return ImageFolder(root=root, classes=["a", "b"], channels=["ct"], dims=2)


def _archive(content: bytes, folder: Path) -> None:
    unpack(_put(folder / "a", content), {"in": "out"}, folder / "to")
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path == folder / "a" or path.is_relative_to(folder / "to" / "out") for path in written), written


def _regions(content: bytes, folder: Path) -> None:
    for region in read_rtstruct(_put(folder / "a.dcm", content), Geometry.regular((6, 8, 9))).values():
        region.draw()


TARGETS = (
    *map(_image, (".nii", ".nii.gz", ".nrrd", ".mha", ".npy", ".png", ".jpg", ".tif", ".bmp", ".dcm")),
    Target("image.nhdr", _detached("a.nhdr")),
    Target("image.mhd", _detached("a.mhd")),
    Target("segments", lambda c, f: read_segments(_put(f / "a.dcm", c), Geometry.regular((4, 5, 6)))),
    Target("contours", lambda c, f: read_contours(_put(f / "a.dcm", c))),
    Target("regions", _regions),
    Target("archive", _archive),
    Target("voc", _voc),
    Target("coco", _cases(lambda root: Coco(root=root), "annotations/instances_train.json")),
    Target("table", _cases(_images_of, "cases.csv")),
    Target("nnunet", _cases(lambda root: NnUnet(root=root), "dataset.json")),
    Target("recipe", lambda c, f: recipe.load(_put(f / "r.yaml", c))),
    Target("migrate", lambda c, f: migrate(_put(f / "r.yaml", c))),
    Target("card", _card),
    Target("entry", _entry_folder),
    Target("page", _page),
    Target("index", lambda c, f: parse_index(c, "zoo.json")),
    Target("lock", _locked),
    Target("expected", lambda c, f: read_expected(_put(f / "expected.json", c), None)),
    Target("expected_mask", _expected),
    Target("weights", lambda c, f: read_weights(c, "weights")),
    Target("report", _report),
    Target("markdown", lambda c, f: html_of(c.decode("utf-8", "replace"), "")),
)
"""All targets."""


def valid_files() -> dict[str, list[bytes]]:
    """Make valid files for every target, small enough to be mutated often."""
    import safetensors.numpy

    voxels = np.arange(120, dtype=np.uint8)
    nrrd = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 6 5 4\nspace: LPS\nencoding: {}\n"
    nrrd += "space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n{}\n"
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 2\nElementType = MET_UCHAR\n{}"
    shipped = sorted(paths.shipped("zoo").glob("unet3d-hippocampus/*"))[-1]
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez_compressed(npz, mask=voxels.reshape(4, 5, 6))
    np.save(npy, voxels.reshape(4, 5, 6))
    index = {"format": 1, "entries": json.loads((paths.shipped("zoo") / "zoo.json").read_text())["entries"][:2]}
    pictures = {f"image{suffix}": [_picture(kind)] for suffix, kind in _PICTURES.items()}
    return pictures | {
        "image.nii": [_nifti(voxels)],
        "image.nii.gz": [gzip.compress(_nifti(voxels), mtime=0)],
        "image.nrrd": [
            nrrd.format("raw", "").encode() + voxels.tobytes(),
            nrrd.format("gzip", "").encode() + gzip.compress(voxels.tobytes(), mtime=0),
        ],
        "image.nhdr": [nrrd.format("raw", "data file: a.raw\n").encode()],
        "image.mha": [
            meta.format("ElementDataFile = LOCAL\n").encode() + voxels.tobytes(),
            meta.format("CompressedData = True\nElementDataFile = LOCAL\n").encode() + zlib.compress(voxels.tobytes()),
        ],
        "image.mhd": [meta.format("ElementDataFile = a.raw\n").encode()],
        "image.npy": [npy.getvalue()],
        "image.dcm": [_dicom(), *_compressed()],
        "segments": [_dicom(Modality="SEG")],
        "contours": [_contours()],
        "regions": [_contours()],
        "archive": _archives(),
        "voc": [b"<annotation><object><name>a</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
                b"</bndbox></object></annotation>"],
        "coco": [json.dumps(_COCO).encode()],
        "table": [b'image,patient,split,label,boxes\na.png,p,train,a,"[[""a"",1,2,3,4]]"\nb.png,q,val,none,\n'],
        "nnunet": [json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1},
                               "file_ending": ".nii.gz", "numTraining": 1}).encode()],
        "recipe": [path.read_bytes() for path in sorted(paths.shipped("recipes").glob("unet3d*.yaml"))],
        "migrate": [(paths.shipped("recipes") / "unet3d-hippocampus.yaml").read_bytes()],
        "card": [path.read_bytes() for path in sorted((paths.shipped("registry") / "neck").glob("*.yaml"))],
        "entry": [(shipped / "entry.yaml").read_bytes()],
        "page": [(shipped / "entry.yaml").read_bytes()],
        "index": [json.dumps(index).encode()],
        "lock": [b"unet3d-hippocampus: {version: 1.0.0, entry_sha256: '0', weights_sha256: '0'}\n"],
        "expected": [(shipped / "sample" / "expected.json").read_bytes()],
        "expected_mask": [npz.getvalue()],
        "weights": [safetensors.numpy.save({"a": np.zeros((2, 3), np.float32)})],
        "report": [b"=1+1", b"<script>alert(1)</script>", b"\x1b[2J\n\xff"],
        "markdown": [b"## a\n\n| a |\n| - |\n| ![x](y.png) |\n\n- **b** `c` [d](https://e)\n"],
    }  # fmt: skip


_PICTURES = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP"}
_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 8}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
    "categories": [{"id": 3, "name": "a"}],
}


def _nifti(voxels: np.ndarray) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 6, 5, 4, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<9f", header, 76, *[1.0] * 8, 352.0)
    struct.pack_into("4s", header, 344, b"n+1")
    return bytes(header) + voxels.tobytes()


def _picture(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(5, 8, 3)).save(stream, kind)
    return stream.getvalue()


def _dicom(**tags: object) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Modality, data.SeriesInstanceUID = "CT", "1.2"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelSpacing, data.ImagePositionPatient = [1, 1], [0, 0, 0]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = bytes(40)
    return _saved(data, tags)


def _compressed() -> list[bytes]:
    """The same slice deflated, in RLE and in JPEG 2000."""
    from PIL import Image
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    plain = dcmread(io.BytesIO(_dicom(PixelRepresentation=0)))
    stream, picture = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5)).save(picture, "JPEG2000", no_jp2=True)
    plain.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    plain.save_as(stream, enforce_file_format=True)
    found = [stream.getvalue()]
    plain.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    plain.compress(RLELossless)
    found.append(_saved(plain, {}))
    plain.PixelData = encapsulate([picture.getvalue()])
    plain.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    return [*found, _saved(plain, {})]


def _archives() -> list[bytes]:
    """A zip and a tar file with a file and a link."""
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/a.txt", "a" * 50)
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        file, link = tarfile.TarInfo("in/a.txt"), tarfile.TarInfo("in/b.txt")
        file.size, link.type, link.linkname = 50, tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(file, io.BytesIO(b"a" * 50))
        archive.addfile(link)
    return [zipped.getvalue(), tarred.getvalue()]


def _contours() -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset

    data, roi, drawn, contour = Dataset(), Dataset(), Dataset(), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Modality, roi.ROINumber, roi.ROIName = "RTSTRUCT", 1, "GTV"
    contour.ContourGeometricType, contour.ContourData = "CLOSED_PLANAR", [0, 0, 0, 1, 0, 0, 1, 1, 0]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    data.StructureSetROISequence, data.ROIContourSequence = [roi], [drawn]
    return _saved(data, {})


def _saved(data: object, tags: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    for tag, value in tags.items():
        setattr(data, tag, value)
    data.save_as(stream, enforce_file_format=True)  # type: ignore[attr-defined]
    return stream.getvalue()
