"""NRRD files written by hand, in each of the spaces that name a patient's axes."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.io.read import read_volume
from cphloc.errors import DataError

TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "LPS": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "RAS": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "LAS": (1, -1, 1),
}


@pytest.mark.parametrize("space", TO_LPS)
def test_each_space_is_brought_to_left_posterior_superior(tmp_path, space):
    stored = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    header = (
        f"NRRD0005\ntype: int16\ndimension: 3\nspace: {space}\nsizes: 2 3 4\nendian: little\nencoding: raw\n"
        "space directions: (0,0.7,0) (0,0,1.1) (3,0,0)\nspace origin: (10,-20,30)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + stored.astype("<i2").tobytes())
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array[0], stored)
    for k, j, i in [(0, 0, 0), (0, 0, 1), (0, 2, 0), (3, 0, 0)]:
        place = np.array([10 + 3 * k, -20 + 0.7 * i, 30 + 1.1 * j]) * TO_LPS[space]
        np.testing.assert_allclose(volume.geometry.edges_to_world(np.array([k, j, i]) + 0.5), place, atol=1e-5)


def test_one_missing_byte_is_noticed(tmp_path):
    header = b"NRRD0005\ntype: uint8\ndimension: 2\nsizes: 3 4\nencoding: raw\n\n"
    (tmp_path / "whole.nrrd").write_bytes(header + bytes(12))
    assert read_volume(tmp_path / "whole.nrrd").geometry.shape == (4, 3)
    (tmp_path / "short.nrrd").write_bytes(header + bytes(11))
    with pytest.raises(DataError, match="1 bytes are missing"):
        read_volume(tmp_path / "short.nrrd")
