"""Decode JPEG with 12 bits per sample (Process 4) by ITK, as a plug-in of pydicom, none of whose decoders can.

pylibjpeg-libjpeg, which can as well, is under the GPL.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import DecodeRunner, JPEGExtended12BitDecoder
from pydicom.uid import UID, JPEGExtended12Bit, SecondaryCaptureImageStorage

_NAME = "cphloc"


def is_available(uid: str) -> bool:
    """Return whether the plug-in decodes a transfer syntax; called by pydicom."""
    return uid == JPEGExtended12Bit


def register() -> None:
    """Add the decoder to those of pydicom."""
    if _NAME not in JPEGExtended12BitDecoder.available_plugins:
        JPEGExtended12BitDecoder.add_plugin(_NAME, (__name__, "decode_frame"))


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame; called by pydicom.

    Args:
        source: the JPEG data of the frame.
        runner: states size and type of the pixels.

    Returns:
        the pixels, row by row, of 16 bits each.

    Raises:
        NotImplementedError: the image has several samples per pixel.
        RuntimeError: ITK cannot decode it.
    """
    import SimpleITK as sitk

    if runner.samples_per_pixel != 1 or runner.bits_allocated != 16:
        msg = "only grey images of 16 bits per pixel"
        raise NotImplementedError(msg)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        _frame_file(source, runner).save_as(path, enforce_file_format=True)
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    kind = np.int16 if runner.pixel_representation else np.uint16
    return np.ascontiguousarray(pixels, kind).tobytes()


def _frame_file(source: bytes, runner: DecodeRunner) -> Dataset:
    """Return a data set with this frame alone."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("2.25.1")
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = runner.rows, runner.columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, runner.bits_stored, runner.bits_stored - 1
    dataset.PixelRepresentation = runner.pixel_representation
    dataset.PixelData = encapsulate([source])
    return dataset
