"""Pictures on their way into an entry."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cphloc.publishing.freeze import _copy_pictures


def test_pictures_of_test_cases_travel_in_256_colours_and_look_the_same(tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    colours = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 90, np.uint8)], axis=-1)
    (tmp_path / "run").mkdir()
    for name in ("worst", "test-worst", "val-best"):
        Image.fromarray(colours).save(tmp_path / "run" / f"{name}.png")
    _copy_pictures(tmp_path / "run", tmp_path / "entry")
    assert [p.name for p in (tmp_path / "entry").iterdir()] == ["test-worst.png"]
    with Image.open(tmp_path / "entry" / "test-worst.png") as picture:
        assert picture.mode == "P"
        assert np.abs(np.asarray(picture.convert("RGB"), int) - colours).mean() < 8
