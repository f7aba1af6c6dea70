"""``cphloc plan`` finds out from the files what it is not told."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from PIL import Image

from cphloc.cli import main


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_make_a_2d_model_with_a_channel_for_each_colour(tmp_path, colour):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3) if colour else (64, 64)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}m.png")
    (tmp_path / "cases.csv").write_text("image,mask,split\na.png,am.png,train\nb.png,bm.png,val\n")
    assert main(["plan", str(tmp_path), "--no-measure", "--out", str(tmp_path / "r.yaml")]) == 0
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert recipe["dims"] == 2
    assert recipe["data"].get("channels", ["image"]) == (["red", "green", "blue"] if colour else ["image"])
    assert main(["check", str(tmp_path / "r.yaml")]) == 0


def test_volumes_make_a_3d_model(tmp_path):
    for name in ("a", "am"):
        image = np.zeros((16, 16, 16), np.int16)
        image[4:9, 4:9, 4:9] = 1
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / f"{name}.nii.gz"))
    (tmp_path / "cases.csv").write_text("image,mask,split\na.nii.gz,am.nii.gz,train\n")
    assert main(["plan", str(tmp_path), "--no-measure", "--out", str(tmp_path / "r.yaml")]) == 0
    assert yaml.safe_load((tmp_path / "r.yaml").read_text())["dims"] == 3
