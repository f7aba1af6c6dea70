"""JPEG of 12 bits per sample, which the permissive decoders of pydicom do not decode."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.pixels.decoders import JPEGExtended12BitDecoder

from cphloc.data.io import dicom_jpeg12
from cphloc.data.io.read import read_volume

FILE = get_testdata_file("JPGExtended.dcm")


def test_a_file_of_12_bits_is_decoded_as_by_itk_from_the_file_and_by_libjpeg():
    sitk = pytest.importorskip("SimpleITK")
    dicom_jpeg12.register()
    decoded = pixel_array(dcmread(FILE), decoding_plugin="cphloc")
    assert np.array_equal(decoded, sitk.GetArrayFromImage(sitk.ReadImage(FILE)).squeeze())
    # Read by pylibjpeg-libjpeg 2.5.0; decoders may round the cosine transform by one step of 4096.
    assert decoded.shape == (1024, 256)
    assert decoded.max() > 255


def test_it_is_registered_once():
    dicom_jpeg12.register()
    dicom_jpeg12.register()
    assert JPEGExtended12BitDecoder.available_plugins.count("cphloc") == 1


def test_the_reader_uses_it_where_no_other_decoder_can(monkeypatch):
    for plugin in JPEGExtended12BitDecoder.available_plugins:
        if plugin != "cphloc":
            monkeypatch.delitem(JPEGExtended12BitDecoder._available, plugin)
    assert read_volume(FILE).array.shape == (1, 1024, 256)


def test_each_frame_is_decoded_by_itself():
    dataset = dcmread(FILE)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    once = pixel_array(dataset, decoding_plugin="cphloc")
    from pydicom.encaps import encapsulate

    dataset.PixelData, dataset.NumberOfFrames = encapsulate([frame, frame]), 2
    twice = pixel_array(dataset, decoding_plugin="cphloc")
    assert np.array_equal(twice, np.stack([once, once]))
