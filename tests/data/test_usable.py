"""With ``data.skip_bad``, whatever opens a data set leaves out the same cases, and lists those of all splits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.recipe.fields import Data


@pytest.fixture
def folder(tmp_path):
    """A good and a bad case in each split: an image that is no image, a mask of another size, a missing file."""
    for split in ("train", "val", "test"):
        for name in (f"{split}1", f"{split}2"):
            sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 4, 4), np.int16)), str(tmp_path / f"{name}.nii.gz"))
            sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 4, 4), np.uint8)), str(tmp_path / f"{name}m.nii.gz"))
    (tmp_path / "train2.nii.gz").write_bytes(b"no image")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 4, 4), np.uint8)), str(tmp_path / "val2m.nii.gz"))
    (tmp_path / "test2.nii.gz").unlink()
    rows = [f"{s}{n}.nii.gz,{s}{n}m.nii.gz,{s}" for s in ("train", "val", "test") for n in (1, 2)]
    (tmp_path / "cases.csv").write_text("\n".join(["image,mask,split", *rows]) + "\n")
    return tmp_path


def opened(folder, **options):
    return open_dataset(Data(type="image_folder", root=str(folder), **options), 3)


def test_cases_that_cannot_be_used_are_left_out_of_every_split_and_listed_at_the_first_use(folder, capfd):
    dataset = opened(folder, skip_bad=True)
    assert [case.id for case in dataset.cases("val")] == ["val1"]
    said = capfd.readouterr().err
    for split, reason in (("train", "train2.nii.gz"), ("val", "another grid"), ("test", "does not exist")):
        assert f"{split}: 1 of 2 cases cannot be used and are left out (data.skip_bad):\n  case '{split}2'" in said
        assert reason in said
    again = pickle.loads(pickle.dumps(dataset))
    assert [case.id for split in ("train", "test") for case in again.cases(split)] == ["train1", "test1"]
    assert capfd.readouterr().err == "", "listed once"


def test_without_it_every_case_is_there(folder):
    assert [case.id for case in opened(folder).cases("test")] == ["test1", "test2"]
